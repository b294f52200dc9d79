package psrpc

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
	"dkpipe/ps/pstest"
)

// A guarded run waits while a lost data server is replaced: the worker's call is not answered before, and then it is told that
// its life is over.
func TestAGuardedRunWaitsForALostDataServer(t *testing.T) {
	const n = 1000
	srv := newCore(t, make([]float32, n), ps.Options{Block: 100})
	ticket := NewTicket()
	lost := make(chan int, 10)
	srv.Guard(func(server int, _ error) { lost <- server })
	run := []byte("a run")
	var addrs []string
	var stops []func()
	var keepers []*Keeper
	for range 2 {
		a, stop := dataServer(t, nil, "127.0.0.1:0", DataOptions{Ticket: ticket, Rule: func(job []byte) (ps.Rule, error) {
			if string(job) != "add" {
				return nil, &ps.Error{Kind: "corrupt", Message: "job " + string(job)}
			}
			return pstest.Add{}, nil
		}})
		addrs, stops = append(addrs, a.String()), append(stops, stop)
		i := len(keepers)
		keepers = append(keepers, keeper(t, KeeperOptions{Address: a.String(), Ticket: ticket, Run: run, Job: []byte("add"), Retry: 100 * time.Millisecond,
			Lost: func(err error) { srv.Lose(i, err) }}))
	}
	if _, err := srv.Spread([]ps.Keeper{keepers[0], keepers[1]}); err != nil {
		t.Fatal(err)
	}
	saved := srv.Snapshot()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Data: addrs})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	dst, delta := make([]float32, n), slices.Repeat([]float32{1}, n)
	push := func(seq uint64) error {
		_, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation(), Seq: seq, Base: seq - 1, Steps: 1, Samples: 1, Delta: delta}, dst)
		return err
	}
	if err := push(1); err != nil {
		t.Fatal(err)
	}
	stops[1]()
	if i := <-lost; i != 1 { // nobody says a word to it but its keeper, every second
		t.Fatalf("data server %d is lost", i)
	}
	if srv.Suspended() == nil {
		t.Fatal("the run goes on")
	}
	if _, err := srv.Join(7); !errors.Is(err, ps.ErrSuspended) {
		t.Fatalf("joining a run that waits: %v", err)
	}
	pushed := make(chan error, 1)
	go func() { pushed <- push(2) }()
	_, _ = dataServer(t, pstest.Add{}, addrs[1], DataOptions{Ticket: ticket})
	again := keeper(t, KeeperOptions{Address: addrs[1], Ticket: ticket, Run: run})
	if err := again.Reach(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-pushed:
		t.Fatalf("a commit was answered while the run waited: %v", err)
	default:
	}
	if err := srv.Replace(1, again, saved); err != nil {
		t.Fatal(err)
	}
	if err := <-pushed; !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit of the life before: %v", err)
	}
	if err := c.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := push(1); err != nil || dst[0] != 1 || dst[n-1] != 1 {
		t.Fatal(err, dst[0], dst[n-1])
	}
}

// A data server belongs to the run that has loaded it, until that run ends or is silent for long.
func TestADataServerBelongsToOneRun(t *testing.T) {
	ticket := NewTicket()
	s, err := NewDataServer(pstest.Add{}, DataOptions{Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := serveData(t, s, "127.0.0.1:0")
	load := func(k *Keeper, epoch uint64) error {
		return k.Load(ps.State{Epoch: epoch, Block: 2, Centre: []float32{1, 2, 3}})
	}
	first := keeper(t, KeeperOptions{Address: at.String(), Ticket: ticket, Run: []byte("first")})
	second := keeper(t, KeeperOptions{Address: at.String(), Ticket: ticket, Run: []byte("second")})
	if err := first.Reach(); err != nil {
		t.Fatal(err)
	}
	if err := load(first, 5); err != nil || s.Loaded() != 3 {
		t.Fatal(err, s.Loaded())
	}
	kind := func(err error) string {
		var k interface{ ErrorKind() string }
		errors.As(err, &k)
		return k.ErrorKind()
	}
	for _, err := range []error{load(second, 1), second.Reach()} {
		if err == nil || kind(err) != "busy" {
			t.Errorf("another run has it, too: %v", err)
		}
	}
	// The first run dies without a word.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for range taken + 1 {
		s.look()
	}
	if err := load(second, 1); err != nil { // its table begins anew
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Wait(t.Context(), time.Hour) }()
	if err := second.Dismiss(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the end of the run: %v", err)
	}
}

// A data server whose coordinator has died does not wait for ever, and one that was never spoken to does.
func TestADataServerGivesItsCoordinatorUp(t *testing.T) {
	s, err := NewDataServer(pstest.Add{}, DataOptions{Ticket: NewTicket()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody has come: %v", err)
	}
	for range 100 {
		if quiet := s.look(); quiet != 0 {
			t.Fatalf("it is patient for %v with nobody", quiet)
		}
	}
	s.run = []byte("a run")
	if err := s.Wait(t.Context(), 0); err == nil {
		t.Error("a coordinator that says nothing is waited for")
	}
}

// A coordinator whose state takes long on a slow link is not taken for a dead one, until its connection breaks.
func TestADataServerIsPatientWithASlowLink(t *testing.T) {
	ticket := NewTicket()
	s, err := NewDataServer(pstest.Add{}, DataOptions{Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := serveData(t, s, "127.0.0.1:0")
	k := keeper(t, KeeperOptions{Address: at.String(), Ticket: ticket})
	up, err := open(t.Context(), k.client.conn, methodKeep)
	if err != nil {
		t.Fatal(err)
	}
	defer up.close()
	load := &pspb.Order{Epoch: 1, Run: []byte("a run"), Id: make([]byte, 16), Load: &pspb.State{Elements: 10, Block: 2}}
	if err := up.stream.SendMsg(&outgoing{control: load}); err != nil { // and the vector is on its way
		t.Fatal(err)
	}
	talking := func(want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for talks := !want; talks != want; {
			if ctx.Err() != nil {
				t.Fatalf("it listens: %v", talks)
			}
			s.mu.Lock()
			talks = s.talks > 0 && s.run != nil
			s.mu.Unlock()
			runtime.Gosched()
		}
	}
	talking(true)
	for range 100 {
		if quiet := s.look(); quiet != 0 {
			t.Fatalf("it has heard nothing for %v", quiet)
		}
	}
	up.close()
	talking(false)
	s.look()
	if quiet := s.look(); quiet == 0 {
		t.Error("it hears of a coordinator that is gone")
	}
}

// A keeper that was given up gives its reason to whoever waits and to all who come later, also when the server hangs.
func TestAKeeperThatWasGivenUp(t *testing.T) {
	l, err := Listen("127.0.0.1:0") // and nobody serves it
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k := keeper(t, KeeperOptions{Address: l.Addr().String(), Ticket: NewTicket()})
	reason := errors.New("its process has ended")
	said := make(chan error, 1)
	go func() { said <- k.Reach() }()
	k.Fail(reason)
	if err := <-said; !errors.Is(err, reason) {
		t.Errorf("who waited got %v", err)
	}
	if err := k.Apply(1, ps.Decree{}); !errors.Is(err, reason) {
		t.Errorf("who came later got %v", err)
	}
}
