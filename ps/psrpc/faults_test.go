package psrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
	"dkpipe/ps/pstest"
)

// Connections are cut after random numbers of bytes, in the middle of deltas, replies and heartbeats: every commit counts
// once all the same, and every unit is handed out once.
func TestCutConnectionsCountEveryCommitOnce(t *testing.T) {
	const workers, shards, epochs, floats = 3, 5, 4, 20000 // a vector is 80 kB
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		srv := newCore(t, make([]float32, floats), ps.Options{Mode: mode, Workers: workers, Shards: shards, Epochs: epochs})
		ticket := NewTicket()
		addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: time.Second, Grace: time.Minute})
		p := newProxy(t, addr, newBudget(uint64(mode), 60))
		together(t, workers, ClientOptions{Address: p.address(), Ticket: ticket}, shards)
		centre := make([]float32, floats)
		if _, err := srv.Centre(centre); err != nil {
			t.Fatal(err)
		}
		stats := srv.Progress().Stats
		if stats.Samples != shards*epochs*3 {
			t.Errorf("mode %d: %d samples, want %d", mode, stats.Samples, shards*epochs*3)
		}
		if mode == ps.Async {
			want := slices.Repeat([]float32{shards * epochs * 3}, floats)
			if !slices.Equal(centre, want) {
				t.Errorf("centre %v…, want %v…", centre[:3], want[:3])
			}
		}
		if p.cuts < 20 || stats.Duplicates == 0 {
			t.Errorf("mode %d: %d cuts and %d repeats do not prove much", mode, p.cuts, stats.Duplicates)
		}
	}
}

// A killed process is noticed by its connection, within the grace and long before a lease.
func TestKilledWorkerGivesItsWorkBackAtOnce(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: time.Hour, Grace: 10 * time.Millisecond})
	p := newProxy(t, addr, unlimited)
	victim := client(t, ClientOptions{Address: p.address(), Ticket: ticket, Worker: 0})
	victim.opts.Retry = 50 * time.Millisecond // not before its session is there: without one, it has a lease of hours
	u, turn, err := victim.Next(t.Context(), 0, victim.Incarnation())
	if err != nil || turn != ps.Work {
		t.Fatal(turn, err)
	}
	heir := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 1})
	if err := p.l.Close(); err != nil { // it cannot come back
		t.Fatal(err)
	}
	p.cut()
	v, turn, err := heir.Next(t.Context(), 1, heir.Incarnation())
	if err != nil || turn != ps.Work || v.ID != u.ID {
		t.Fatalf("%+v, turn %d, %v", v, turn, err)
	}
	// And the dead one learns that nobody answers.
	_, err = victim.Exchange(t.Context(), ps.Commit{Worker: 0, Incarnation: victim.Incarnation()}, make([]float32, 1))
	kind(t, err, "unreachable")
}

// A worker whose process is stopped keeps its connection, but its heartbeats stay away: the lease ends its life, and when
// it wakes up it is fenced off and can join again.
func TestPausedWorkerLosesItsLeaseAndMayRejoin(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: 100 * time.Millisecond, Grace: time.Hour})
	p := newProxy(t, addr, unlimited)
	paused := client(t, ClientOptions{Address: p.address(), Ticket: ticket, Worker: 0})
	heir, err := srv.Join(1) // in this process: it has no lease
	if err != nil {
		t.Fatal(err)
	}
	u := stallAtWork(t, srv, p, paused)
	v, turn, err := srv.Next(t.Context(), 1, heir)
	if err != nil || turn != ps.Work || v.ID != u.ID {
		t.Fatalf("%+v, turn %d, %v", v, turn, err)
	}
	p.resume()
	old := paused.Incarnation()
	c := ps.Commit{Worker: 0, Incarnation: old, Seq: 1, Steps: 1, Delta: []float32{1}, Positions: []ps.Position{{Unit: u.ID, Done: true}}}
	dst := make([]float32, 1)
	if _, err := paused.Exchange(t.Context(), c, dst); !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit of the old life: %v", err)
	}
	inLife(t, paused, func() error {
		if paused.Incarnation() == old || paused.Worker() != 0 {
			t.Errorf("worker %d, incarnation %d", paused.Worker(), paused.Incarnation())
		}
		c = ps.Commit{Worker: 0, Incarnation: paused.Incarnation(), Seq: 1, Steps: 1, Delta: []float32{1}}
		_, err := paused.Exchange(t.Context(), c, dst)
		return err
	})
	if dst[0] != 1 {
		t.Errorf("after joining again: %v", dst)
	}
}

// Two workers that were started under one number do not fence each other off for ever: the later one stays, the other one may
// come back when that one has gone.
func TestANumberBelongsToTheLaterWorker(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket})
	o := ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 3}
	first, second := client(t, o), client(t, o)
	if _, err := first.Exchange(t.Context(), ones(first, 1, 0), make([]float32, 1)); !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit under a number that somebody else has: %v", err)
	}
	for range 2 {
		kind(t, first.Rejoin(t.Context()), "busy")
	}
	if _, err := second.Exchange(t.Context(), ones(second, 1, 0), make([]float32, 1)); err != nil {
		t.Fatal(err)
	}
	if err := srv.Leave(3, second.Incarnation(), "its lease ran out"); err != nil { // its connection may stay
		t.Fatal(err)
	}
	if err := first.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exchange(t.Context(), ones(first, 1, 1), make([]float32, 1)); err != nil {
		t.Error(err)
	}
}

// inLife runs f in a new life of c, and in one more when that was over too soon: a lease is short in a test, and the machine
// may be busy with something else.
func inLife(t *testing.T, c *Client, f func() error) {
	t.Helper()
	for {
		if err := c.Rejoin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f(); err == nil {
			return
		} else if !errors.Is(err, ps.ErrFenced) {
			t.Fatal(err)
		}
	}
}

// stallAtWork gives worker 0 a unit and lets nothing more through to it while its life is not over yet.
func stallAtWork(t *testing.T, srv *ps.Server, p *proxy, c *Client) (u ps.Unit) {
	t.Helper()
	inLife(t, c, func() (err error) {
		var turn ps.Turn
		if u, turn, err = c.Next(t.Context(), 0, c.Incarnation()); err != nil {
			return err
		}
		if turn != ps.Work {
			t.Fatal(turn)
		}
		p.stall()
		if !slices.Contains(srv.Progress().Joined, 0) {
			p.resume()
			return ps.ErrFenced
		}
		return nil
	})
	return u
}

// A client of a life that is over and comes back with its session does not get in the way of the new life: the death of that
// one is noticed at once.
func TestSessionOfAnEarlierLifeIsNobodys(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: time.Hour, Grace: 10 * time.Millisecond})
	p := newProxy(t, addr, unlimited)
	c := client(t, ClientOptions{Address: p.address(), Ticket: ticket, Worker: 0})
	old := c.Incarnation()
	if err := c.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.opts.Retry = 50 * time.Millisecond // not before its session is there: without one, it has a lease of hours
	heir := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 1})
	session, err := open(t.Context(), heir.conn, methodSession)
	if err != nil {
		t.Fatal(err)
	}
	defer session.close()
	if err := session.stream.SendMsg(&pspb.Beat{Worker: 0, Incarnation: old}); err != nil {
		t.Fatal(err)
	}
	if err := session.stream.RecvMsg(&pspb.BeatReply{}); !errors.Is(fromStatus(err), ps.ErrFenced) {
		t.Fatalf("a heartbeat of the life before: %v", err)
	}
	u, turn, err := c.Next(t.Context(), 0, c.Incarnation())
	if err != nil || turn != ps.Work {
		t.Fatal(turn, err)
	}
	if err := p.l.Close(); err != nil { // it cannot come back
		t.Fatal(err)
	}
	p.cut()
	if v, turn, err := heir.Next(t.Context(), 1, heir.Incarnation()); err != nil || turn != ps.Work || v.ID != u.ID {
		t.Fatalf("%+v, turn %d, %v", v, turn, err)
	}
}

// A connection that breaks and comes back within the grace costs nothing: the life goes on.
func TestBrokenSessionComesBackWithinTheGrace(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: time.Second, Grace: time.Minute})
	p := newProxy(t, addr, unlimited)
	c := client(t, ClientOptions{Address: p.address(), Ticket: ticket})
	dst := make([]float32, 1)
	for seq := range uint64(5) {
		p.cut()
		if _, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation(), Seq: seq + 1, Base: seq, Steps: 1, Delta: []float32{1}}, dst); err != nil {
			t.Fatal(err)
		}
	}
	if dst[0] != 5 {
		t.Errorf("centre %v, want 5", dst)
	}
}

// The session has a connection of its own: a heartbeat that waits behind a large commit on a slow link comes when the lease is over.
func TestHeartbeatsDoNotWaitBehindCommits(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	ticket := NewTicket()
	s, err := NewServer(srv, ServerOptions{Ticket: ticket, Heartbeat: time.Hour, Grace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	addr := serving(t, s, "127.0.0.1:0")
	p := newProxy(t, addr, unlimited)
	c := client(t, ClientOptions{Address: p.address(), Ticket: ticket})
	p.mu.Lock()
	order := p.order
	p.mu.Unlock()
	if len(order) != 2 {
		t.Fatalf("%d connections", len(order))
	}
	p.drop(order[0], true)
	if _, err := c.Exchange(t.Context(), ones(c, 1, 0), make([]float32, 1)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != 1 || s.open != 1 {
		t.Errorf("%d sessions, %d of them open", s.opened, s.open)
	}
}

// withdrawals counts commits that were taken back.
type withdrawals struct{ n atomic.Int64 }

func (*withdrawals) Committed(ps.Commit, ps.Ack)                {}
func (*withdrawals) Membership(ps.Worker, uint64, bool, string) {}
func (*withdrawals) EpochDone(int, uint64, []float32)           {}
func (w *withdrawals) Took(c ps.Call) {
	if c.Kind == ps.CallWithdraw {
		w.n.Add(1)
	}
}

// A commit that is not answered for long is sent again, as one whose message was lost would have to be; it counts once.
func TestACommitWithoutAnAnswerIsSentAgain(t *testing.T) {
	core, err := ps.NewCore([]float32{0}, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	var taken withdrawals
	srv := ps.NewServer(core, &taken)
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket})
	a := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 0, Resend: 20 * time.Millisecond})
	b := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 1})
	first := make(chan error, 1)
	dst := make([]float32, 1)
	go func() {
		_, err := a.Exchange(t.Context(), ones(a, 1, 0), dst)
		first <- err
	}()
	for taken.n.Load() < 3 {
		runtime.Gosched()
	}
	if ack, err := b.Exchange(t.Context(), ones(b, 1, 0), make([]float32, 1)); err != nil || ack.Version != 1 {
		t.Errorf("%+v, %v", ack, err)
	}
	if err := <-first; err != nil || dst[0] != 1 {
		t.Errorf("%v, %v", dst, err)
	}
	if s := srv.Progress().Stats; s.Commits != 2 || s.Samples != 2 {
		t.Errorf("%+v", s)
	}
}

// A message may be long on its way: a copy of a call that comes after the one in its place, over a connection that was given up
// since, takes the answer that this one waits for. The client asks once more, and everything counts once.
func TestACopyThatComesLateDoesNotEndACall(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{Mode: ps.Rounds, Workers: 3, Shards: 1, Epochs: 1})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket})
	a := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 0})
	b := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 1})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 2})
	waiting := 0
	during := func(call, copy func() error) <-chan error {
		t.Helper()
		called, copied := make(chan error, 1), make(chan error, 1)
		go func() { called <- call() }()
		waiting++
		awaiting(t, srv, waiting)
		go func() { copied <- copy() }()
		select {
		case err := <-copied:
			if !errors.Is(err, ps.ErrSuperseded) {
				t.Fatalf("the copy: %v", err)
			}
		case err := <-called:
			t.Fatalf("the call: %v", err)
		}
		return called
	}
	u, _, err := a.Next(t.Context(), 0, a.Incarnation())
	if err != nil {
		t.Fatal(err)
	}
	next := during(func() error {
		_, turn, err := b.Next(t.Context(), 1, b.Incarnation())
		if err == nil && turn != ps.Done {
			err = fmt.Errorf("turn %d", turn)
		}
		return err
	}, func() error {
		return fromStatus(b.conn.Invoke(t.Context(), methodNext, &pspb.NextRequest{Worker: 1, Incarnation: b.Incarnation(), Ask: 1}, &pspb.NextReply{}))
	})
	commit := ones(a, 1, 0)
	commit.Positions = []ps.Position{{Unit: u.ID, Done: true}}
	dst := make([]float32, 1)
	pushed := during(func() error {
		_, err := a.Exchange(t.Context(), commit, dst)
		return err
	}, func() error {
		up, err := open(t.Context(), a.conn, methodExchange)
		if err != nil {
			return err
		}
		defer up.close()
		pull, err := up.exchange(toPush(commit), commit.Delta, make([]float32, 1), new(packer))
		if err == nil {
			_, err = fromPull(pull)
		}
		return err
	})
	if _, err := c.Exchange(t.Context(), ones(c, 1, 0), make([]float32, 1)); err != nil { // the round has waited for it
		t.Fatal(err)
	}
	for _, call := range []<-chan error{pushed, next} {
		if err := <-call; err != nil {
			t.Error(err)
		}
	}
	if s := srv.Progress().Stats; s.Commits != 2 || s.Samples != 2 || dst[0] != 1 {
		t.Errorf("%+v, %v", s, dst)
	}
}

// A worker that closes its client gives its work back without any wait.
func TestCloseLeaves(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: time.Hour, Grace: time.Hour})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: -1})
	if in := srv.Progress().Joined; !slices.Equal(in, []ps.Worker{0}) {
		t.Fatalf("joined: %v", in)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if in := srv.Progress().Joined; len(in) != 0 {
		t.Errorf("still joined: %v", in)
	}
	if _, _, err := c.Next(t.Context(), 0, c.Incarnation()); err == nil {
		t.Error("a closed client answers")
	}
}

// Join hands out the lowest free numbers and the job, and a repeat of a Join whose answer got lost joins once.
func TestJoin(t *testing.T) {
	srv := newCore(t, []float32{0, 0}, ps.Options{Workers: 3})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Job: []byte("job")})
	o := ClientOptions{Address: addr.String(), Ticket: ticket, Worker: -1}
	a, b := client(t, o), client(t, o)
	if a.Worker() != 0 || b.Worker() != 1 || string(a.Job()) != "job" || a.Len() != 2 || a.Workers() != 3 {
		t.Errorf("workers %d and %d, job %q, %d parameters, %d workers", a.Worker(), b.Worker(), a.Job(), a.Len(), a.Workers())
	}
	req := &pspb.JoinRequest{Protocol: protocolVersion, Worker: -1, Nonce: []byte("0123456789abcdef")}
	var first, second pspb.JoinReply
	for _, rep := range []*pspb.JoinReply{&first, &second} {
		if err := a.conn.Invoke(t.Context(), methodJoin, req, rep); err != nil {
			t.Fatal(err)
		}
	}
	if first.Worker != 2 || second.Worker != 2 || first.Incarnation != second.Incarnation {
		t.Errorf("a repeated join gave %v, then %v", &first, &second)
	}
	for _, bad := range []*pspb.JoinRequest{
		{Protocol: protocolVersion + 1, Worker: -1, Nonce: req.Nonce},
		{Protocol: protocolVersion, Worker: -2, Nonce: req.Nonce},
		{Protocol: protocolVersion, Worker: maxWorker + 1, Nonce: req.Nonce},
		{Protocol: protocolVersion, Worker: 1},
	} {
		if err := a.conn.Invoke(t.Context(), methodJoin, bad, &pspb.JoinReply{}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// Without the ticket nothing is answered, whatever the call, and the client does not try again.
func TestWrongTicketIsDenied(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: NewTicket()})
	for _, wrong := range []Ticket{NewTicket(), {}} {
		_, err := Join(t.Context(), ClientOptions{Address: addr.String(), Ticket: wrong, Worker: -1})
		kind(t, err, "denied")
	}
	if in := srv.Progress().Joined; len(in) != 0 {
		t.Errorf("joined: %v", in)
	}
}

// Every single call is checked, not only Join.
func TestEveryCallNeedsTheTicket(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	thief := &Client{opts: ClientOptions{Address: addr.String(), Retry: time.Minute}}
	conn, err := connect(thief.opts.target(addr.String()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	thief.conn, thief.pulse, thief.life = conn, conn, c.current()
	_, err = thief.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation()}, make([]float32, 1))
	kind(t, err, "denied")
	_, _, err = thief.Next(t.Context(), 0, c.Incarnation())
	kind(t, err, "denied")
	err = conn.Invoke(t.Context(), methodLeave, &pspb.LeaveRequest{Incarnation: c.Incarnation()}, &pspb.LeaveReply{})
	kind(t, fromStatus(err), "denied")
	_, err = thief.beat(t.Context(), c.current(), nil, func() {})
	kind(t, fromStatus(err), "denied")
	if in := srv.Progress().Joined; len(in) != 1 {
		t.Errorf("joined: %v", in)
	}
}

// Nobody outside this machine can be served or asked, because there is no TLS.
func TestOnlyLocalAddresses(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", ":0", "10.1.2.3:7070", "[::]:0", "example.org:80"} {
		if l, err := Listen(a); err == nil {
			_ = l.Close()
			t.Errorf("listens on %s", a)
		} else {
			kind(t, err, "denied")
			if !strings.Contains(err.Error(), "without TLS") {
				t.Errorf("%v", err)
			}
		}
		_, err := Join(t.Context(), ClientOptions{Address: a, Ticket: NewTicket()})
		kind(t, err, "denied")
	}
	_, err := Listen("127.0.0.1")
	kind(t, err, "usage")
	_, err = Listen("unix:")
	kind(t, err, "usage")

	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(newCore(t, nil, ps.Options{}), ServerOptions{Ticket: NewTicket()})
	if err != nil {
		t.Fatal(err)
	}
	kind(t, s.Serve(l), "denied")
	s.Close(t.Context())
}

// A server that is not there is reported after the deadline, not before and not never.
func TestUnreachable(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Join(t.Context(), ClientOptions{Address: address, Ticket: NewTicket(), Retry: 100 * time.Millisecond})
	kind(t, err, "unreachable")
	if !strings.Contains(err.Error(), address) {
		t.Errorf("the address is missing: %v", err)
	}
}

// A graceful end: the server stops, workers see it, leave, and Close returns without cutting anybody off.
func TestCloseWaitsForWorkers(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{})
	ticket := NewTicket()
	s, err := NewServer(srv, ServerOptions{Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c := client(t, ClientOptions{Address: l.Addr().String(), Ticket: ticket})
	srv.Stop()
	closed := make(chan struct{})
	go func() {
		s.Close(context.Background())
		close(closed)
	}()
	dst := make([]float32, 1)
	a, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation(), Seq: 1, Steps: 1, Delta: []float32{1}}, dst)
	if err != nil || !a.Stop || dst[0] != 1 {
		t.Errorf("the last window: %+v, %v, %v", a, dst, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	<-closed
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func kind(t *testing.T, err error, want string) {
	t.Helper()
	var k interface{ ErrorKind() string }
	if !errors.As(err, &k) || k.ErrorKind() != want {
		t.Errorf("got %v, want an error of kind %s", err, want)
	}
}
