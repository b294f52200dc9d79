package pstest

import (
	"slices"
	"testing"

	"dkpipe/ps"
)

// policyChecks are the promises about who may go on when, and about late deltas.
func policyChecks() []check {
	return []check{
		{"a quorum closes a round, and who is late is part of the next", testQuorum},
		{"a late delta of a round may be left out", testQuorumDrop},
		{"a late delta alone weighs no more than it would have in its round", testQuorumShare},
		{"a commit waits for workers that are too far behind", testBound},
		{"a worker that is waited for may leave", testBoundLeave},
		{"a stale delta is scaled, and the caller's stays as it is", testScale},
		{"a delta that is too stale is dropped, and its data is spent", testDrop},
		{"the others wait while one worker warms up", testWarmUp},
		{"warming up goes on with the next worker when the first dies", testWarmUpLeave},
		{"rounds that share let a quick worker take units of a slow one", testSharing},
		{"windows are assigned by speed", testAssignedWindows},
		{"workers are told a rate with their next answer, and wait for an epoch to begin", testSteering},
		{"a rule sees what the worker started from", testBase},
		{"a rule sees how many workers there are", testPeers},
	}
}

func testQuorum(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 3, Quorum: 2})
	p, q, late := r.peer(0), r.peer(1), r.peer(2)
	out := make(chan result, 2)
	p.pushing(out, 0, []float32{4})
	r.waiting(1)
	if a := q.must(q.push(0, []float32{8})); a.Version != 1 || q.dst[0] != 6 {
		t.Errorf("%+v, reply %v", a, q.dst)
	}
	if res := <-out; res.err != nil || res.ack.Version != 1 {
		t.Errorf("%+v, %v", res.ack, res.err)
	}
	late.pushing(out, 0, []float32{2})
	r.waiting(1)
	p.pushing(out, 1, []float32{4})
	for range 2 {
		if res := <-out; res.err != nil || res.ack.Version != 2 || res.ack.Dropped || res.ack.Staleness != map[ps.Worker]uint64{0: 0, 2: 1}[res.w] {
			t.Errorf("worker %d: %+v, %v", res.w, res.ack, res.err)
		}
	}
	r.centre(9)
}

func testQuorumDrop(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 2, Quorum: 1, Staleness: ps.Staleness{Drop: 1}})
	p, late := r.peer(0), r.peer(1)
	p.must(p.push(0, []float32{4}))
	if a := late.must(late.push(0, []float32{2})); a.Version != 1 || !a.Dropped || a.Rejected != "" || late.dst[0] != 4 {
		t.Errorf("%+v, reply %v", a, late.dst)
	}
	r.centre(4)
	if s := r.srv.Progress().Stats; s.Dropped != 1 || s.DroppedSamples != 1 || s.Samples != 1 {
		t.Errorf("%+v", s)
	}
}

func testQuorumShare(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 3, Quorum: 2, Shards: 3, Epochs: 1})
	p, q, late := r.peer(0), r.peer(1), r.peer(2)
	unit := func(p *peer) ps.Position {
		u, _ := p.next()
		return ps.Position{Unit: u.ID, Done: true}
	}
	last, out := unit(late), make(chan result, 3)
	p.pushing(out, 0, []float32{4}, unit(p))
	r.waiting(1)
	q.must(q.push(0, []float32{8}, unit(q)))
	if res := <-out; res.err != nil {
		t.Fatal(res.err)
	}
	p.asking(out) // they wait for work, and no round waits for them
	q.asking(out)
	r.waiting(2)
	if a := late.must(late.push(0, []float32{2}, last)); a.Version != 2 || a.Staleness != 1 {
		t.Errorf("%+v", a)
	}
	for range 2 {
		if res := <-out; res.err != nil || res.t != ps.Done {
			t.Errorf("turn %d, %v", res.t, res.err)
		}
	}
	r.centre(7)
}

func testBound(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Workers: 2, Bound: 2})
	p, q := r.peer(0), r.peer(1)
	p.must(p.push(0, []float32{1}))
	p.must(p.push(1, []float32{1}))
	out := make(chan result, 1)
	p.pushing(out, 2, []float32{1})
	r.waiting(1)
	r.centre(2)
	if a := q.must(q.push(2, []float32{10})); a.Staleness != 0 || q.dst[0] != 12 {
		t.Errorf("%+v, reply %v", a, q.dst)
	}
	if res := <-out; res.err != nil || res.ack.Version != 4 || res.ack.Staleness != 1 || p.dst[0] != 13 {
		t.Errorf("%+v, reply %v, %v", res.ack, p.dst, res.err)
	}
}

func testBoundLeave(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Workers: 2, Bound: 1})
	p, q := r.peer(0), r.peer(1)
	p.must(p.push(0, []float32{1}))
	out := make(chan result, 1)
	p.pushing(out, 1, []float32{1})
	r.waiting(1)
	if err := r.srv.Leave(1, q.life, "killed"); err != nil {
		t.Fatal(err)
	}
	if res := <-out; res.err != nil || res.ack.Version != 2 {
		t.Errorf("%+v, %v", res.ack, res.err)
	}
	q = r.peer(1) // level with the slowest: it holds nobody up that was not ahead of it
	for range 2 {
		p.pushing(out, r.srv.Progress().Version, []float32{1})
		if r.srv.Progress().Waiting > 0 {
			t.Error("worker 0 waits for one that has just come back")
		}
		q.must(q.push(2, []float32{1}))
		if res := <-out; res.err != nil {
			t.Error(res.err)
		}
	}
}

func testScale(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0, 0, 0}, Add{}, ps.Options{Workers: 2, Block: 2, Staleness: ps.Staleness{Power: 1}})
	p, q := r.peer(0), r.peer(1)
	p.must(p.push(0, []float32{1, 1, 1}))
	p.must(p.push(1, []float32{1, 1, 1}))
	delta := []float32{3, 6, 9}
	if a := q.must(q.push(0, delta)); a.Staleness != 2 || a.Dropped || !slices.Equal(delta, []float32{3, 6, 9}) {
		t.Errorf("%+v, delta %v", a, delta)
	}
	third := float32(1) / 3
	r.centre(2+3*third, 2+6*third, 2+9*third)
}

func testDrop(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Elastic{Alpha: 0.5}, ps.Options{Workers: 2, Shards: 2, Epochs: 1, Staleness: ps.Staleness{Drop: 2}})
	p, q := r.peer(0), r.peer(1)
	u, _ := q.next()
	p.must(p.push(0, []float32{4}))
	p.must(p.push(1, []float32{4}))
	at := ps.Position{Unit: u.ID, Done: true}
	c := ps.Commit{Worker: 1, Incarnation: q.life, Seq: 1, Steps: 1, Samples: 1, Delta: []float32{100}, Positions: []ps.Position{at}}
	for i := range 2 {
		a := q.must(q.conn.Exchange(r.ctx, c, q.dst))
		if !a.Dropped || a.Staleness != 2 || a.Version != 2 || a.Duplicate != (i > 0) || q.dst[0] != 3 {
			t.Errorf("%+v, reply %v", a, q.dst)
		}
	}
	r.centre(3)
	if v, turn := q.next(); turn != ps.Work || v.ID == u.ID {
		t.Errorf("unit %d came back, turn %d", v.ID, turn)
	}
}

func testWarmUp(t *testing.T, start Start) {
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: mode, Workers: 2, Shards: 4, Epochs: 1, WarmUp: 2})
		p, q := r.peer(0), r.peer(1)
		out := make(chan result, 1)
		q.asking(out)
		r.waiting(1)
		var at []ps.Position
		for range 2 {
			u, turn := p.next()
			if turn != ps.Work {
				t.Fatalf("turn %d", turn)
			}
			at = append(at, ps.Position{Unit: u.ID, Done: true})
		}
		for i, a := range at {
			if n := r.srv.Progress().Waiting; n != 1 {
				t.Errorf("mode %d: %d calls wait", mode, n)
			}
			p.must(p.push(uint64(i), []float32{1}, a))
		}
		res := <-out
		if res.err != nil || res.t != ps.Work || !res.u.Pull {
			t.Errorf("mode %d: %+v, turn %d, %v", mode, res.u, res.t, res.err)
		}
	}
}

func testWarmUpLeave(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Workers: 3, Shards: 2, Epochs: 1, WarmUp: 100})
	p, q, third := r.peer(0), r.peer(1), r.peer(2)
	u, _ := p.next()
	out := make(chan result, 1)
	third.asking(out)
	r.waiting(1)
	q.asking(out)
	r.waiting(2)
	if err := r.srv.Leave(0, p.life, "killed"); err != nil {
		t.Fatal(err)
	}
	if res := <-out; res.w != 1 || res.t != ps.Work {
		t.Errorf("worker %d got %+v, turn %d", res.w, res.u, res.t)
	}
	if v, turn := q.next(); turn != ps.Work {
		t.Errorf("unit %+v of the dead worker, turn %d", v, turn)
	}
	q.must(q.push(0, []float32{1}, ps.Position{Unit: u.ID, Done: true}, ps.Position{Unit: 1 - u.ID, Done: true}))
	if res := <-out; res.w != 2 || res.t != ps.Done {
		t.Errorf("worker %d got turn %d", res.w, res.t)
	}
}

func testSharing(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Mode: ps.Rounds, Workers: 2, Shards: 4, Epochs: 1, Sharing: true})
	p, q := r.peer(0), r.peer(1)
	slow, _ := q.next()
	var at []ps.Position
	for range 3 {
		u, turn := p.next()
		if turn != ps.Work || u.ID == slow.ID {
			t.Fatalf("unit %+v, turn %d", u, turn)
		}
		at = append(at, ps.Position{Unit: u.ID, Done: true})
	}
	out := make(chan result, 1)
	p.pushing(out, 0, []float32{2}, at...)
	r.waiting(1)
	if a := q.must(q.push(0, []float32{4}, ps.Position{Unit: slow.ID, Done: true})); !a.Stop {
		t.Errorf("%+v", a)
	}
	<-out
	r.centre(3)
}

func testAssignedWindows(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Add{}, ps.Options{Workers: 2, Window: 10})
	p, q := r.peer(0), r.peer(1)
	push := func(p *peer, steps int, seconds float64) ps.Ack {
		p.seq++
		return p.must(p.conn.Exchange(r.ctx, ps.Commit{Worker: p.w, Incarnation: p.life, Seq: p.seq, Steps: steps, Samples: 1,
			Delta: []float32{1}, Report: ps.Report{ComputeS: seconds / 2, FeedS: seconds / 2}}, p.dst))
	}
	for _, c := range []struct {
		who     *peer
		steps   int
		seconds float64
		want    int
	}{{p, 10, 0, 10}, {p, 10, 1, 10}, {q, 10, 4, 2}, {q, 2, 0.8, 2}, {p, 10, 1, 10}, {q, 1, 1e9, 1}, {q, 1, -1, 1}} {
		if a := push(c.who, c.steps, c.seconds); a.Window != c.want {
			t.Errorf("worker %d, %d steps in %g s: a window of %d, want %d", c.who.w, c.steps, c.seconds, a.Window, c.want)
		}
	}
}

func testSteering(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, paced{}, ps.Options{Workers: 2, Shards: 1, Epochs: 3})
	p, q := r.peer(0), r.peer(1)
	if a := p.must(p.conn.Exchange(r.ctx, ps.Commit{Worker: p.w, Incarnation: p.life}, p.dst)); a.Rate != 0 {
		t.Errorf("nothing was said, and a pull has the rate %g", a.Rate)
	}
	r.srv.Steer(ps.Steering{Rate: 0.5, Epochs: 1})
	if a := p.must(p.conn.Exchange(r.ctx, ps.Commit{Worker: p.w, Incarnation: p.life}, p.dst)); a.Rate != 0.5 {
		t.Errorf("a pull has the rate %g", a.Rate)
	}
	u, turn := p.next()
	if turn != ps.Work || u.Rate != 0.5 {
		t.Fatalf("unit %+v, turn %d", u, turn)
	}
	if a := p.must(p.push(0, []float32{1})); a.Rate != 0.5 {
		t.Errorf("a commit has the rate %g", a.Rate)
	}
	if _, turn := p.next(); turn != ps.Flush { // epoch 1 may not begin, and epoch 0 is not complete
		t.Fatalf("turn %d, want a flush", turn)
	}
	p.must(p.push(1, []float32{1}, ps.Position{Unit: u.ID, Done: true}))
	r.centre(1) // the rule saw the rate with both
	out := make(chan result, 2)
	p.asking(out)
	q.asking(out)
	r.waiting(2)
	r.srv.Steer(ps.Steering{Rate: 0.25, Epochs: 2})
	res := <-out
	if res.err != nil || res.t != ps.Work || res.u.Epoch != 1 || res.u.Rate != 0.25 {
		t.Fatalf("%+v", res)
	}
	r.waiting(1) // there is one unit, and the next epoch may not begin
	r.srv.Stop()
	if res := <-out; res.err != nil || res.t != ps.Done {
		t.Errorf("%+v", res)
	}
}

// paced adds what is committed, times the rate.
type paced struct{}

func (paced) Slots() int { return 0 }

func (paced) Apply(centre, _, delta, reply []float32, c ps.Commit) {
	for i, d := range delta {
		centre[i] += float32(c.Rate) * d
		reply[i] = centre[i]
	}
}

func testBase(t *testing.T, start Start) {
	r := newRig(t, start, []float32{5, 6, 7}, Look{}, ps.Options{Workers: 2, Block: 2})
	p, q := r.peer(0), r.peer(1)
	saw := func(want ...float32) {
		t.Helper()
		s := r.srv.Snapshot().Slots // blocks of 2 and 1, 3 slots each
		if got := []float32{s[0], s[1], s[6]}; !slices.Equal(got, want) {
			t.Errorf("the rule saw base %v, want %v", got, want)
		}
	}
	p.must(p.push(0, []float32{1, 1, 1}))
	saw(5, 6, 7)
	q.must(q.push(0, []float32{1, 1, 1})) // it got nothing since it joined
	saw(5, 6, 7)
	p.must(p.push(1, []float32{1, 1, 1}))
	saw(6, 7, 8)
	if a, err := q.push(2, []float32{1, 1}); err == nil {
		t.Errorf("a short delta: %+v", a)
	}
	q.seq--
	q.must(q.conn.Exchange(r.ctx, ps.Commit{Worker: 1, Incarnation: q.life}, q.dst)) // a pull
	p.must(p.push(3, []float32{1, 1, 1}))
	q.must(q.push(3, []float32{1, 1, 1}))
	saw(8, 9, 10)
}

func testPeers(t *testing.T, start Start) {
	r := newRig(t, start, []float32{0}, Look{}, ps.Options{Workers: 3, Shards: 3, Epochs: 1})
	p := r.peer(0)
	saw := func(want float32) {
		t.Helper()
		p.must(p.push(0, []float32{1}))
		if got := r.srv.Snapshot().Slots[1]; got != want {
			t.Errorf("the rule saw %v workers, want %v", got, want)
		}
	}
	saw(3) // those expected count
	q := r.peer(1)
	saw(3)
	if err := r.srv.Leave(2, 0, "it never came"); err != nil {
		t.Fatal(err)
	}
	saw(2)
	r.peer(7)
	saw(3)
	r.srv.Stop()
	if _, turn := q.next(); turn != ps.Done {
		t.Fatalf("turn %d", turn)
	}
	if err := r.srv.Leave(1, q.life, "done"); err != nil {
		t.Fatal(err)
	}
	saw(3) // who saw the end still counts
}
