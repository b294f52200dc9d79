package pstest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"dkpipe/ps"
)

// Conn is a worker's way to a server: what package trainers calls.
type Conn interface {
	Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error)
	Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error)
}

// Start puts a server up for a test and gives the way for a worker to join it, which may fail the test. What it starts
// ends by t.Cleanup.
type Start func(t *testing.T, srv *ps.Server) (join func(w ps.Worker) (Conn, uint64))

// TestServer checks everything that a worker relies on, whatever lies between it and the server.
func TestServer(t *testing.T, start Start) {
	for _, c := range append([]check{
		{"a pull gives the centre and changes nothing", testPull},
		{"a commit is applied, and its reply is the new centre", testCommit},
		{"a repeat is answered with the same bytes and not applied again", testRepeat},
		{"a delta with NaN is rejected whole, and the worker goes on", testNaN},
		{"wrong lengths, gaps and positions of others are refused", testRefused},
		{"an earlier life is fenced off", testFenced},
		{"a commit without a delta moves positions only", testPositionsOnly},
		{"a round waits for all and applies their mean", testRound},
		{"a round does not wait for who left", testRoundLeave},
		{"a cancelled commit is taken out of the round and can be repeated", testRoundCancel},
		{"work of a worker that left goes on where its last commit ended", testHandBack},
		{"a cancelled Next can be asked again", testNextCancel},
		{"stop tells everyone, also those who wait", testStop},
		{"abort ends waiting calls with its error", testAbort},
		{"concurrent workers count every sample once", testConcurrent},
		{"empty vectors are vectors", testEmpty},
	}, policyChecks()...) {
		t.Run(c.name, func(t *testing.T) { c.run(t, start) })
	}
}

// check is one promise of a server.
type check struct {
	name string
	run  func(*testing.T, Start)
}

// rig is one server under test.
type rig struct {
	*testing.T
	ctx  context.Context
	srv  *ps.Server
	join func(ps.Worker) (Conn, uint64)
}

func newRig(t *testing.T, start Start, params []float32, rule ps.Rule, o ps.Options) *rig {
	t.Helper()
	core, err := ps.NewCore(params, rule, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	srv := ps.NewServer(core, nil)
	return &rig{T: t, ctx: ctx, srv: srv, join: start(t, srv)}
}

// peer is a joined worker.
type peer struct {
	*rig
	conn Conn
	w    ps.Worker
	life uint64
	seq  uint64
	dst  []float32
}

func (r *rig) peer(w ps.Worker) *peer {
	r.Helper()
	conn, life := r.join(w)
	return &peer{rig: r, conn: conn, w: w, life: life, dst: make([]float32, r.srv.Len())}
}

// push commits one step.
func (p *peer) push(base uint64, delta []float32, at ...ps.Position) (ps.Ack, error) {
	p.seq++
	return p.conn.Exchange(p.ctx, ps.Commit{Worker: p.w, Incarnation: p.life, Seq: p.seq, Base: base, Steps: 1, Samples: 1, Delta: delta, Positions: at}, p.dst)
}

func (p *peer) must(a ps.Ack, err error) ps.Ack {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
	return a
}

func (p *peer) next() (ps.Unit, ps.Turn) {
	p.Helper()
	u, turn, err := p.conn.Next(p.ctx, p.w, p.life)
	if err != nil {
		p.Fatal(err)
	}
	return u, turn
}

func (r *rig) centre(want ...float32) {
	r.Helper()
	got := make([]float32, r.srv.Len())
	if _, err := r.srv.Centre(got); err != nil {
		r.Fatal(err)
	}
	if !slices.Equal(got, want) {
		r.Errorf("centre %v, want %v", got, want)
	}
}

// waiting returns when n calls wait in the server.
func (r *rig) waiting(n int) {
	r.Helper()
	for r.srv.Progress().Waiting != n {
		if r.ctx.Err() != nil {
			r.Fatalf("%d calls wait, want %d", r.srv.Progress().Waiting, n)
		}
		runtime.Gosched()
	}
}

func testPull(t *testing.T, start Start) {
	r := newRig(t, start, []float32{1, 2, 3}, Add{}, ps.Options{Block: 2})
	p := r.peer(0)
	a := p.must(p.conn.Exchange(r.ctx, ps.Commit{Worker: 0, Incarnation: p.life}, p.dst))
	if a != (ps.Ack{}) || !slices.Equal(p.dst, []float32{1, 2, 3}) {
		t.Errorf("ack %+v, centre %v", a, p.dst)
	}
	r.centre(1, 2, 3)
}

func testCommit(t *testing.T, start Start) {
	r := newRig(t, start, []float32{1, 2, 3}, Add{}, ps.Options{Block: 2, Workers: 2})
	p, q := r.peer(0), r.peer(1)
	if a := p.must(p.push(0, []float32{1, 1, 1})); a != (ps.Ack{Version: 1}) {
		t.Errorf("ack %+v", a)
	}
	if a := q.must(q.push(0, []float32{0, 0, 5})); a != (ps.Ack{Version: 2, Staleness: 1}) {
		t.Errorf("ack %+v", a)
	}
	if want := []float32{2, 3, 9}; !slices.Equal(q.dst, want) {
		t.Errorf("reply %v, want %v", q.dst, want)
	}
	r.centre(2, 3, 9)
}

func testRepeat(t *testing.T, start Start) {
	for _, rule := range []ps.Rule{Add{}, Elastic{Alpha: 0.5}} {
		r := newRig(t, start, []float32{0, 0, 4}, rule, ps.Options{Block: 2})
		p := r.peer(0)
		c := ps.Commit{Worker: 0, Incarnation: p.life, Seq: 1, Steps: 1, Delta: []float32{2, 4, 8}}
		first := p.must(p.conn.Exchange(r.ctx, c, p.dst))
		reply := slices.Clone(p.dst)
		centre := make([]float32, 3)
		if _, err := r.srv.Centre(centre); err != nil {
			t.Fatal(err)
		}
		clear(p.dst)
		second := p.must(p.conn.Exchange(r.ctx, c, p.dst))
		if first.Duplicate || !second.Duplicate || first.Version != second.Version || !slices.Equal(reply, p.dst) {
			t.Errorf("%T: acks %+v and %+v, replies %v and %v", rule, first, second, reply, p.dst)
		}
		r.centre(centre...)
	}
}

func testNaN(t *testing.T, start Start) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	r := newRig(t, start, []float32{1, 2, 3}, Add{}, ps.Options{Block: 2})
	p := r.peer(0)
	for _, bad := range []float32{nan, inf} {
		a := p.must(p.push(0, []float32{1, 1, bad}))
		if a.Rejected == "" || a.Version != 0 || !slices.Equal(p.dst, []float32{1, 2, 3}) {
			t.Errorf("ack %+v, reply %v", a, p.dst)
		}
	}
	if a := p.must(p.push(0, []float32{1, 1, 1})); a.Rejected != "" {
		t.Errorf("ack %+v", a)
	}
	r.centre(2, 3, 4)
	if s := r.srv.Progress().Stats; s.Rejected != 2 || s.RejectedSamples != 2 || s.Samples != 1 {
		t.Errorf("%+v", s)
	}
}

func testRefused(t *testing.T, start Start) {
	r := newRig(t, start, []float32{1, 2, 3}, Add{}, ps.Options{Workers: 2, Shards: 2, Epochs: 1})
	p, q := r.peer(0), r.peer(1)
	if _, err := p.push(0, []float32{1, 2}); !errors.Is(err, ps.ErrLength) {
		t.Errorf("short delta: %v", err)
	}
	if _, err := p.conn.Exchange(r.ctx, ps.Commit{Worker: 0, Incarnation: p.life}, p.dst[:1]); !errors.Is(err, ps.ErrLength) {
		t.Errorf("short reply buffer: %v", err)
	}
	p.seq = 1
	if _, err := p.push(0, []float32{1, 2, 3}); !errors.Is(err, ps.ErrProtocol) {
		t.Errorf("commit 2 before commit 1: %v", err)
	}
	p.seq = 0
	if _, err := p.push(7, []float32{1, 2, 3}); !errors.Is(err, ps.ErrProtocol) {
		t.Errorf("base from the future: %v", err)
	}
	u, _ := q.next()
	p.seq = 0
	if _, err := p.push(0, []float32{1, 2, 3}, ps.Position{Unit: u.ID, Done: true}); !errors.Is(err, ps.ErrProtocol) {
		t.Errorf("position in a unit of another: %v", err)
	}
	r.centre(1, 2, 3)
	p.seq = 0
	if a := p.must(p.push(0, []float32{1, 1, 1})); a.Version != 1 {
		t.Errorf("after refusals: %+v", a)
	}
}

func testFenced(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Shards: 1, Epochs: 1})
	old := r.peer(0)
	if _, turn := old.next(); turn != ps.Work {
		t.Fatalf("turn %d", turn)
	}
	now := r.peer(0)
	if now.life == old.life {
		t.Fatal("two lives with one incarnation")
	}
	_, err := old.push(0, []float32{1})
	var kind interface{ ErrorKind() string }
	if !errors.Is(err, ps.ErrFenced) || !errors.As(err, &kind) || kind.ErrorKind() != "timeout" {
		t.Errorf("commit of an old life: %v", err)
	}
	if _, _, err := old.conn.Next(r.ctx, 0, old.life); !errors.Is(err, ps.ErrFenced) {
		t.Errorf("next of an old life: %v", err)
	}
	if u, turn := now.next(); turn != ps.Work || u.ID != 0 || u.Cursor != nil {
		t.Errorf("the unit of the old life did not come back: %+v, turn %d", u, turn)
	}
	r.centre(0)
}

func testPositionsOnly(t *testing.T, start Start) {
	r := newRig(t, start, []float32{3}, Elastic{Alpha: 0.5}, ps.Options{Shards: 1, Epochs: 1})
	p := r.peer(0)
	u, _ := p.next()
	if _, turn := p.next(); turn != ps.Flush {
		t.Errorf("turn %d with an open unit", turn)
	}
	a := p.must(p.push(0, nil, ps.Position{Unit: u.ID, Done: true}))
	if a.Version != 0 || !a.Stop || p.dst[0] != 3 {
		t.Errorf("ack %+v, reply %v", a, p.dst)
	}
	if _, turn := p.next(); turn != ps.Done {
		t.Errorf("turn %d at the end", turn)
	}
	select {
	case <-r.srv.Finished():
	case <-r.ctx.Done():
		t.Error("not finished")
	}
}

type result struct {
	w   ps.Worker
	ack ps.Ack
	u   ps.Unit
	t   ps.Turn
	err error
}

// async makes a call and gives its result on the channel.
func (p *peer) async(out chan<- result, call func() result) {
	go func() { out <- call() }()
}

func (p *peer) pushing(out chan<- result, base uint64, delta []float32, at ...ps.Position) {
	p.async(out, func() result {
		a, err := p.push(base, delta, at...)
		return result{w: p.w, ack: a, err: err}
	})
}

func (p *peer) asking(out chan<- result) {
	p.async(out, func() result {
		u, turn, err := p.conn.Next(p.ctx, p.w, p.life)
		return result{w: p.w, u: u, t: turn, err: err}
	})
}

func testRound(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0, 0, 0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 3, Block: 2})
	peers := []*peer{r.peer(0), r.peer(1), r.peer(2)}
	// In float32 (a+b)+c differs from any other order here.
	deltas := [][]float32{{1e8, 3, 0}, {-1e8, 3, 0}, {1, 3, 9}}
	want := []float32{1 * (1 / float32(3)), 9 * (1 / float32(3)), 9 * (1 / float32(3))}
	for turn, order := range [][]int{{2, 1, 0}, {1, 2, 0}} {
		out := make(chan result, 3)
		for i, w := range order {
			peers[w].pushing(out, uint64(turn), deltas[w])
			if i < 2 {
				r.waiting(i + 1)
			}
		}
		for range order {
			res := <-out
			if res.err != nil || res.ack.Version != uint64(turn+1) || res.ack.Staleness != 0 {
				t.Errorf("worker %d: %+v, %v", res.w, res.ack, res.err)
			}
		}
		for i := range want {
			if turn == 1 {
				want[i] *= 2
			}
		}
		for _, p := range peers {
			if !slices.Equal(p.dst, want) {
				t.Errorf("round %d: reply %v, want %v", turn, p.dst, want)
			}
		}
		r.centre(want...)
	}
}

func testRoundLeave(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 2})
	p, q := r.peer(0), r.peer(1)
	out := make(chan result, 1)
	p.pushing(out, 0, []float32{4})
	r.waiting(1)
	if err := r.srv.Leave(1, q.life, "test"); err != nil {
		t.Fatal(err)
	}
	if res := <-out; res.err != nil || res.ack.Version != 1 {
		t.Errorf("%+v, %v", res.ack, res.err)
	}
	r.centre(4)
}

func testRoundCancel(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 2})
	p, q := r.peer(0), r.peer(1)
	ctx, cancel := context.WithCancel(r.ctx)
	out := make(chan result, 2)
	c := ps.Commit{Worker: 0, Incarnation: p.life, Seq: 1, Steps: 1, Delta: []float32{4}}
	p.async(out, func() result {
		a, err := p.conn.Exchange(ctx, c, p.dst)
		return result{ack: a, err: err}
	})
	r.waiting(1)
	cancel()
	if res := <-out; !errors.Is(res.err, context.Canceled) {
		t.Fatalf("%+v, %v", res.ack, res.err)
	}
	r.waiting(0)
	q.pushing(out, 0, []float32{8})
	r.waiting(1)
	if a := p.must(p.conn.Exchange(r.ctx, c, p.dst)); a.Duplicate || a.Version != 1 || p.dst[0] != 6 {
		t.Errorf("%+v, reply %v", a, p.dst)
	}
	if res := <-out; res.err != nil {
		t.Error(res.err)
	}
	r.centre(6)
}

func testHandBack(t *testing.T, start Start) {
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: mode, Workers: 2, Shards: 1, Epochs: 1})
		p, q := r.peer(0), r.peer(1)
		u, turn := p.next()
		if turn != ps.Work || u.Cursor != nil {
			t.Fatalf("%+v, turn %d", u, turn)
		}
		out := make(chan result, 1)
		q.asking(out) // must wait: worker 0 may die
		r.waiting(1)
		p.must(p.push(0, []float32{1}, ps.Position{Unit: u.ID, Cursor: []byte{7, 7}}))
		if err := r.srv.Leave(0, p.life, "killed"); err != nil {
			t.Fatal(err)
		}
		res := <-out
		if res.err != nil || res.t != ps.Work || res.u.ID != u.ID || !slices.Equal(res.u.Cursor, []byte{7, 7}) {
			t.Fatalf("mode %d: %+v, turn %d, %v", mode, res.u, res.t, res.err)
		}
		if !res.u.Pull {
			t.Errorf("mode %d: the worker is not told to pull first", mode)
		}
		if a := q.must(q.push(1, []float32{1}, ps.Position{Unit: u.ID, Done: true})); !a.Stop {
			t.Errorf("mode %d: %+v", mode, a)
		}
		r.centre(2)
	}
}

func testNextCancel(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	p, q := r.peer(0), r.peer(1)
	u, _ := p.next()
	ctx, cancel := context.WithCancel(r.ctx)
	out := make(chan result, 1)
	q.async(out, func() result {
		u, turn, err := q.conn.Next(ctx, 1, q.life)
		return result{u: u, t: turn, err: err}
	})
	r.waiting(1)
	cancel()
	if res := <-out; !errors.Is(res.err, context.Canceled) {
		t.Fatal(res.err)
	}
	if err := r.srv.Leave(0, p.life, "killed"); err != nil {
		t.Fatal(err)
	}
	if v, turn := q.next(); turn != ps.Work || v.ID != u.ID {
		t.Errorf("%+v, turn %d", v, turn)
	}
}

func testStop(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Workers: 2, Shards: 1, Epochs: 9})
	p, q := r.peer(0), r.peer(1)
	for {
		if _, turn := p.next(); turn != ps.Work { // takes every epoch's unit, so that worker 1 waits
			break
		}
	}
	out := make(chan result, 1)
	q.asking(out)
	r.waiting(1)
	r.srv.Stop()
	if res := <-out; res.err != nil || res.t != ps.Done {
		t.Errorf("turn %d, %v", res.t, res.err)
	}
	if a := p.must(p.push(0, []float32{1}, ps.Position{Unit: 0, Cursor: []byte{1}})); !a.Stop {
		t.Errorf("%+v", a)
	}
	if _, turn := p.next(); turn != ps.Done {
		t.Errorf("turn %d", turn)
	}
	for _, w := range []*peer{p, q} {
		if err := r.srv.Leave(w.w, w.life, "done"); err != nil {
			t.Error(err)
		}
	}
	<-r.srv.Finished()
	r.centre(1)
}

func testAbort(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 2})
	p := r.peer(0)
	out := make(chan result, 1)
	p.pushing(out, 0, []float32{1})
	r.waiting(1)
	r.srv.Abort(&ps.Error{Kind: "no_space", Message: "disk full", Hint: "make room"})
	check := func(err error) {
		t.Helper()
		var kind interface {
			ErrorKind() string
			ErrorHint() string
		}
		if err == nil || !errors.As(err, &kind) || kind.ErrorKind() != "no_space" || kind.ErrorHint() != "make room" || err.Error() != "disk full" {
			t.Errorf("%v", err)
		}
	}
	check((<-out).err)
	_, _, err := p.conn.Next(r.ctx, 0, p.life)
	check(err)
	<-r.srv.Finished()
	r.centre(0)
}

func testConcurrent(t *testing.T, start Start) {
	const workers, shards, epochs, rows = 4, 7, 3, 11
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		r := newRig(t, start, make([]float32, shards*rows), Add{}, ps.Options{Mode: mode, Workers: workers, Shards: shards, Epochs: epochs, Block: 10})
		var all sync.WaitGroup
		errs := make(chan error, workers)
		for w := range ps.Worker(workers) {
			p := r.peer(w)
			all.Go(func() { errs <- p.work(rows) })
		}
		all.Wait()
		for range workers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		s := r.srv.Progress().Stats
		if s.Samples != shards*rows*epochs {
			t.Errorf("mode %d: %d samples, want %d", mode, s.Samples, shards*rows*epochs)
		}
		if mode == ps.Async { // the mean of a round is smaller than the sum
			want := slices.Repeat([]float32{epochs}, shards*rows)
			r.centre(want...)
		}
	}
}

// work is a worker's loop: every sample adds 1 to its own element.
func (p *peer) work(rows int) error {
	if _, err := p.conn.Exchange(p.ctx, ps.Commit{Worker: p.w, Incarnation: p.life}, p.dst); err != nil {
		return err
	}
	var delta []float32
	var version uint64
	var samples int
	var done []ps.Position
	commit := func(at ...ps.Position) error {
		p.seq++
		a, err := p.conn.Exchange(p.ctx, ps.Commit{Worker: p.w, Incarnation: p.life, Seq: p.seq, Base: version, Steps: samples, Samples: int64(samples),
			Delta: delta, Positions: append(done, at...)}, p.dst)
		delta, samples, done, version = nil, 0, nil, a.Version
		return err
	}
	for {
		u, turn, err := p.conn.Next(p.ctx, p.w, p.life)
		switch {
		case err != nil:
			return err
		case turn == ps.Done:
			return nil
		case turn == ps.Flush:
			if err := commit(); err != nil {
				return err
			}
			continue
		case len(u.Cursor) > 1:
			return fmt.Errorf("cursor %x", u.Cursor)
		}
		row := 0
		if len(u.Cursor) == 1 {
			row = int(u.Cursor[0])
		}
		for ; row < rows; row++ {
			if delta == nil {
				delta = make([]float32, p.srv.Len())
			}
			delta[u.Shard*rows+row]++
			samples++
			if samples == 4 {
				if err := commit(ps.Position{Unit: u.ID, Cursor: []byte{byte(row + 1)}}); err != nil {
					return err
				}
			}
		}
		done = append(done, ps.Position{Unit: u.ID, Done: true})
	}
}

func testEmpty(t *testing.T, start Start) {
	r := newRig(t, start, nil, Add{}, ps.Options{})
	p := r.peer(0)
	if a := p.must(p.push(0, []float32{})); a.Version != 1 {
		t.Errorf("%+v", a)
	}
}
