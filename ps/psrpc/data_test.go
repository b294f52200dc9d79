package psrpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
	"dkpipe/ps/pstest"
)

// dataServer starts a data server until the end of the test, or until stop.
func dataServer(t *testing.T, rule ps.Rule, address string, o DataOptions) (net.Addr, func()) {
	t.Helper()
	s, err := NewDataServer(rule, o)
	if err != nil {
		t.Fatal(err)
	}
	return serveData(t, s, address)
}

// serveData is dataServer for one that was made.
func serveData(t *testing.T, s *DataServer, address string) (net.Addr, func()) {
	t.Helper()
	l, err := ListenAnywhere(address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	stop := sync.OnceFunc(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return l.Addr(), stop
}

// group spreads a server over n data servers and serves it; through, if there is one, makes the addresses workers use.
func group(t *testing.T, srv *ps.Server, n int, o ServerOptions, lost func(error), through func(net.Addr) string) net.Addr {
	t.Helper()
	var keepers []ps.Keeper
	for range n {
		a, _ := dataServer(t, srv.Rule(), "127.0.0.1:0", DataOptions{Ticket: o.Ticket, Identity: o.Identity})
		keepers = append(keepers, keeper(t, KeeperOptions{Address: a.String(), Ticket: o.Ticket, Lost: lost}))
		to := a.String()
		if through != nil {
			to = through(a)
		}
		o.Data = append(o.Data, to)
	}
	if _, err := srv.Spread(keepers); err != nil {
		t.Fatal(err)
	}
	return serve(t, srv, "127.0.0.1:0", o)
}

func keeper(t *testing.T, o KeeperOptions) *Keeper {
	t.Helper()
	k, err := DialKeeper(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// Several servers on sockets keep the same contract as one.
func TestDataServersKeepTheContract(t *testing.T) {
	pstest.TestServer(t, func(t *testing.T, srv *ps.Server) func(ps.Worker) (pstest.Conn, uint64) {
		ticket := NewTicket()
		addr := group(t, srv, 3, ServerOptions{Ticket: ticket}, srv.Abort, nil)
		return func(w ps.Worker) (pstest.Conn, uint64) {
			c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: w})
			return c, c.Incarnation()
		}
	})
}

// Connections to the coordinator and to the data servers are cut at random: every commit counts once, on every server.
func TestCutConnectionsToDataServersCountEveryCommitOnce(t *testing.T) {
	const workers, shards, epochs, floats = 3, 5, 3, 20000
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			srv := newCore(t, make([]float32, floats), ps.Options{Mode: mode, Workers: workers, Shards: shards, Epochs: epochs, Block: 1000})
			ticket := NewTicket()
			cuts := newBudget(uint64(mode), 90)
			var proxies []*proxy
			addr := group(t, srv, 3, ServerOptions{Ticket: ticket, Heartbeat: time.Second, Grace: time.Minute}, srv.Abort, func(a net.Addr) string {
				proxies = append(proxies, newProxy(t, a, cuts))
				return proxies[len(proxies)-1].address()
			})
			p := newProxy(t, addr, cuts)
			together(t, workers, ClientOptions{Address: p.address(), Ticket: ticket}, shards)
			centre := make([]float32, floats)
			if _, err := srv.Centre(centre); err != nil {
				t.Fatal(err)
			}
			if stats := srv.Progress().Stats; stats.Samples != shards*epochs*3 {
				t.Errorf("%d samples, want %d", stats.Samples, shards*epochs*3)
			}
			if want := slices.Repeat([]float32{shards * epochs * 3}, floats); mode == ps.Async && !slices.Equal(centre, want) {
				t.Errorf("centre %v…, want %v…", centre[:3], want[:3])
			}
			total := p.cuts
			for _, q := range proxies {
				total += q.cuts
			}
			if total < 20 {
				t.Errorf("%d cuts do not prove much", total)
			}
		})
	}
}

// A killed data server: the coordinator is told, starts another, goes back to the checkpoint, and the workers go on.
func TestKilledDataServerIsReplaced(t *testing.T) {
	const n = 1000
	srv := newCore(t, make([]float32, n), ps.Options{Block: 100})
	ticket := NewTicket()
	lost := make(chan error, 1)
	var addrs []string
	var stops []func()
	var keepers []ps.Keeper
	for range 2 {
		a, stop := dataServer(t, srv.Rule(), "127.0.0.1:0", DataOptions{Ticket: ticket})
		addrs, stops = append(addrs, a.String()), append(stops, stop)
		keepers = append(keepers, keeper(t, KeeperOptions{Address: a.String(), Ticket: ticket, Lost: func(err error) { lost <- err }}))
	}
	if _, err := srv.Spread(keepers); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Data: addrs})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	dst, delta := make([]float32, n), slices.Repeat([]float32{1}, n)
	push := func(seq, base uint64) error {
		_, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation(), Seq: seq, Base: base, Steps: 1, Samples: 1, Delta: delta}, dst)
		return err
	}
	if err := push(1, 0); err != nil {
		t.Fatal(err)
	}
	saved := srv.Snapshot()
	if err := push(2, 1); err != nil || dst[n-1] != 2 {
		t.Fatal(err, dst[n-1])
	}
	stops[1]() // what it had is gone, and another one starts in its place
	pushed := make(chan error, 1)
	_, _ = dataServer(t, srv.Rule(), addrs[1], DataOptions{Ticket: ticket})
	go func() { pushed <- push(3, 2) }()
	// The commit waits at the new server, which has no parameters; the keeper's next word to it finds that out.
	if err := <-lost; err == nil {
		t.Fatal("lost without an error")
	}
	again, err := DialKeeper(KeeperOptions{Address: addrs[1], Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := srv.Replace(1, again, saved); err != nil {
		t.Fatal(err)
	}
	if err := <-pushed; !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit of the life before: %v", err)
	}
	if err := c.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	ack, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation()}, dst)
	if err != nil || ack.Version != 1 || dst[0] != 1 || dst[n-1] != 1 {
		t.Fatalf("%+v, %v, %v", ack, dst[0], err)
	}
	if err := push(1, 1); err != nil || dst[0] != 2 || dst[n-1] != 2 {
		t.Fatal(err, dst[0], dst[n-1])
	}
	if s := srv.Progress().Stats.Samples; s != 2 {
		t.Errorf("%d samples", s)
	}
}

// A data server that is paused costs time and nothing else.
func TestPausedDataServerCostsTimeOnly(t *testing.T) {
	const n = 300
	srv := newCore(t, make([]float32, n), ps.Options{Block: 10})
	ticket := NewTicket()
	var proxies []*proxy
	addr := group(t, srv, 2, ServerOptions{Ticket: ticket}, srv.Abort, func(a net.Addr) string {
		proxies = append(proxies, newProxy(t, a, unlimited))
		return proxies[len(proxies)-1].address()
	})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	dst := make([]float32, n)
	commit := ps.Commit{Incarnation: c.Incarnation(), Seq: 1, Steps: 1, Delta: slices.Repeat([]float32{1}, n)}
	proxies[1].stall()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Exchange(short, commit, dst); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an exchange with a paused server: %v", err)
	}
	proxies[1].resume()
	ack, err := c.Exchange(t.Context(), commit, dst)
	if err != nil || ack.Version != 1 || slices.ContainsFunc(dst, func(v float32) bool { return v != 1 }) {
		t.Fatalf("%+v, %v, %v…", ack, err, dst[:3])
	}
}

// A stream that the client has given up may begin at the data server when the one in its place is there already. The client then
// opens another one, instead of commits that the data server has no delta of.
func TestAStreamThatBeganLateTakesNobodysPlace(t *testing.T) {
	srv := newCore(t, make([]float32, 3), ps.Options{})
	ticket := NewTicket()
	lost := make(chan error, 1)
	addr := group(t, srv, 1, ServerOptions{Ticket: ticket}, func(err error) {
		srv.Abort(err)
		lost <- err
	}, nil)
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	dst := make([]float32, 3)
	push := func(seq uint64) {
		t.Helper()
		if _, err := c.Exchange(t.Context(), ones(c, seq, seq-1), dst); err != nil || dst[2] != float32(seq) {
			t.Fatalf("commit %d: %v, %v", seq, dst, err)
		}
	}
	push(1)
	late, err := open(t.Context(), c.blocks[0].conn, methodWork)
	if err != nil {
		t.Fatal(err)
	}
	defer late.close()
	table, _ := srv.Table()
	task := ps.Task{Worker: c.Worker(), Incarnation: c.Incarnation(), Seq: 2, Epoch: table.Epoch}
	if _, err := late.ask(task, true, ones(c, 2, 1).Delta, new(packer)); err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(3) {
		push(seq + 2)
	}
	select {
	case err := <-lost:
		t.Error(err)
	default:
	}
}

// A life that was over before the exchange began does not wait at a data server for a decree that it may never get.
func TestADataServerIsNotAskedInALifeThatIsOver(t *testing.T) {
	srv := newCore(t, make([]float32, 3), ps.Options{Workers: 2})
	ticket := NewTicket()
	a, _ := dataServer(t, srv.Rule(), "127.0.0.1:0", DataOptions{Ticket: ticket})
	p := newProxy(t, a, unlimited)
	if _, err := srv.Spread([]ps.Keeper{keeper(t, KeeperOptions{Address: p.address(), Ticket: ticket})}); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Data: []string{a.String()}, Heartbeat: 100 * time.Millisecond})
	p.stall()
	other, err := srv.Join(1)
	if err != nil {
		t.Fatal(err)
	}
	if ack, err := srv.Decide(t.Context(), ps.Commit{Worker: 1, Incarnation: other}, ""); err != nil || ack.Decree != 1 {
		t.Fatalf("%+v, %v", ack, err) // the data server does not hear of it
	}
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 0, Resend: time.Hour})
	_ = srv.Leave(0, c.Incarnation(), "test") // an error: its lease has run out, which is as good
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	<-ended
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Exchange(ctx, ones(c, 1, 0), make([]float32, 3)); !errors.Is(err, ps.ErrFenced) {
		t.Errorf("a commit of a life that is over: %v", err)
	}
}

// The codecs work over several servers: each has its own residual.
func TestCodecsOverDataServers(t *testing.T) {
	const n = 5000
	srv := newCore(t, make([]float32, n), ps.Options{Block: 1000})
	ticket := NewTicket()
	addr := group(t, srv, 2, ServerOptions{Ticket: ticket, Codec: Int8}, srv.Abort, nil)
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	dst, sum := make([]float32, n), make([]float64, n)
	for seq := range uint64(5) {
		delta := normal(n, seq)
		for i, v := range delta {
			sum[i] += float64(v)
		}
		if _, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation(), Seq: seq + 1, Base: seq, Steps: 1, Delta: delta}, dst); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range dst {
		if math.Abs(float64(v)-sum[i]) > 0.5+math.Abs(sum[i])/128 {
			t.Fatalf("element %d: %g of %g", i, v, sum[i])
		}
	}
}

// A worker's ticket does not command a data server: only who knows the name of the run does.
func TestWorkersDoNotCommandDataServers(t *testing.T) {
	ticket := NewTicket()
	a, _ := dataServer(t, pstest.Add{}, "127.0.0.1:0", DataOptions{Ticket: ticket})
	srv := newCore(t, []float32{1, 2}, ps.Options{})
	if _, err := srv.Spread([]ps.Keeper{keeper(t, KeeperOptions{Address: a.String(), Ticket: ticket, Run: []byte("a secret of the coordinator")})}); err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{"", "guessed"} {
		stranger := keeper(t, KeeperOptions{Address: a.String(), Ticket: ticket, Run: []byte(run)})
		kind(t, stranger.Load(ps.State{Epoch: 9, Block: 1, Centre: make([]float32, 2)}), "busy")
		kind(t, stranger.Save(&ps.State{Epoch: 1, Centre: make([]float32, 2)})(), "busy")
		kind(t, stranger.say(&order{end: true}), "busy")
	}
	if s := srv.Snapshot(); !slices.Equal(s.Centre, []float32{1, 2}) {
		t.Fatalf("%+v", s)
	}
}

// Decrees that a coordinator does not send are refused; none makes a data server panic or forget what it has staged.
func FuzzDecree(f *testing.F) {
	for _, d := range []ps.Decree{
		{Number: 1, Version: 1, Parts: []ps.Part{{Incarnation: 1, Seq: 1, Scale: 1}}},
		{Number: 1, Version: 1, Mean: true, Share: 2, Parts: []ps.Part{{Incarnation: 1, Seq: 1, Scale: 1}, {Worker: 1, Incarnation: 2, Seq: 1, Scale: 0.5}}},
		{Number: 1, Read: true, Parts: []ps.Part{{Worker: 9, Incarnation: 1}}},
	} {
		b, err := proto.Marshal(toDecree(d))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p pspb.Decree
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		s, err := ps.NewStore(pstest.Elastic{Alpha: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Load(ps.State{Epoch: 1, Block: 2, Centre: make([]float32, 3), Slots: make([]float32, 3)}); err != nil {
			t.Fatal(err)
		}
		for w, life := range []uint64{1, 2} {
			if _, err := s.Stage(t.Context(), ps.Task{Worker: ps.Worker(w), Incarnation: life, Seq: 1, Epoch: 1}, []float32{1, 2, 3}); err != nil {
				t.Fatal(err)
			}
		}
		d := fromDecree(&p)
		if s.Apply(1, d) != nil || d.Number == 0 {
			return
		}
		for _, q := range d.Parts {
			if err := s.Fetch(t.Context(), ps.Task{Worker: q.Worker, Incarnation: q.Incarnation, Seq: q.Seq, Decree: d.Number, Epoch: 1}, make([]float32, 3)); err != nil {
				t.Errorf("%+v was applied and has no reply: %v", d, err)
			}
		}
	})
}

// deaf is a way to a data server that takes in whatever its first streams are told and answers nothing, as if the answers were lost.
func deaf(t *testing.T, s *DataServer, ticket Ticket, streams int64) net.Addr {
	t.Helper()
	g := newGRPC(ticket, Identity{})
	var opened atomic.Int64
	g.RegisterService(&grpc.ServiceDesc{ServiceName: dataService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		dataStream("Work", func(s *DataServer, ss grpc.ServerStream) error {
			if opened.Add(1) > streams {
				return s.work(ss)
			}
			<-ss.Context().Done()
			return ss.Context().Err()
		}),
	}}, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serveGRPC(g, l, false) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := opened.Load(); n <= streams {
			t.Errorf("%d streams, want more than %d", n, streams)
		}
	})
	return l.Addr()
}

// What a data server does not answer for long is asked again, and it counts once.
func TestATaskWithoutAnAnswerIsAskedAgain(t *testing.T) {
	srv := newCore(t, make([]float32, 3), ps.Options{})
	ticket := NewTicket()
	s, err := NewDataServer(srv.Rule(), DataOptions{Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := serveData(t, s, "127.0.0.1:0")
	if _, err := srv.Spread([]ps.Keeper{keeper(t, KeeperOptions{Address: at.String(), Ticket: ticket, Lost: srv.Abort})}); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Data: []string{deaf(t, s, ticket, 2).String()}})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Resend: 100 * time.Millisecond})
	dst := make([]float32, 3)
	for seq := range uint64(3) {
		if _, err := c.Exchange(t.Context(), ones(c, seq+1, seq), dst); err != nil || dst[2] != float32(seq+1) {
			t.Fatalf("commit %d: %v, %v", seq+1, dst, err)
		}
	}
	if p := srv.Progress().Stats; p.Commits != 3 {
		t.Errorf("%+v", p)
	}
}
