package ps_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

func newCore(t testing.TB, params []float32, rule ps.Rule, o ps.Options) *ps.Core {
	t.Helper()
	c, err := ps.NewCore(params, rule, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func join(t testing.TB, c *ps.Core, w ps.Worker) uint64 {
	t.Helper()
	life, err := c.Join(w)
	if err != nil {
		t.Fatal(err)
	}
	return life
}

func next(t testing.TB, c *ps.Core, w ps.Worker, life uint64) (ps.Unit, ps.Turn) {
	t.Helper()
	u, turn, err := c.Next(w, life, 0)
	if err != nil {
		t.Fatal(err)
	}
	return u, turn
}

// Any order of joins, leaves, kills, repeats and crashes; rapid makes a failing one small.
func TestAnyFaultsKeepEveryPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := pstest.Sim{
			Seed:      rapid.Uint64().Draw(t, "seed"),
			Mode:      ps.Mode(rapid.IntRange(0, 1).Draw(t, "mode")),
			Workers:   rapid.IntRange(1, 5).Draw(t, "workers"),
			Extra:     rapid.IntRange(0, 2).Draw(t, "extra"),
			Shards:    rapid.IntRange(1, 6).Draw(t, "shards"),
			Epochs:    rapid.IntRange(1, 4).Draw(t, "epochs"),
			Rows:      rapid.IntRange(0, 6).Draw(t, "rows"),
			Window:    rapid.IntRange(0, 4).Draw(t, "window"),
			Params:    rapid.IntRange(1, 8).Draw(t, "params"),
			Faults:    rapid.IntRange(0, 60).Draw(t, "faults"),
			StopAfter: rapid.SampledFrom([]int{0, 0, 0, 1, 5}).Draw(t, "stop after"),
		}
		if _, err := pstest.Simulate(o); err != nil {
			t.Fatal(err)
		}
	})
}

// The size of a block does not show in the result, in place or not.
func TestBlocksDoNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "parameters")
		x := rapid.SliceOfN(rapid.Float32Range(-10, 10), n, n).Draw(t, "delta")
		var want []float32
		for _, block := range []int{n, 1, 7} {
			c, err := ps.NewCore(make([]float32, n), pstest.Elastic{Alpha: 0.3}, ps.Options{Block: block})
			if err != nil {
				t.Fatal(err)
			}
			life, err := c.Join(0)
			if err != nil {
				t.Fatal(err)
			}
			replies := make([]float32, 0, 2*n)
			for seq := uint64(1); seq <= 2; seq++ {
				delta := slices.Clone(x)
				dst := delta
				if seq == 1 {
					dst = make([]float32, n)
				}
				if _, _, err := c.Commit(ps.Commit{Incarnation: life, Seq: seq, Base: seq - 1, Steps: 1, Delta: delta}, dst); err != nil {
					t.Fatal(err)
				}
				replies = append(replies, dst...)
			}
			replies = append(replies, c.Snapshot().Centre...)
			if want == nil {
				want = replies
			} else if !slices.Equal(want, replies) {
				t.Fatalf("block %d: %v, want %v", block, replies, want)
			}
		}
	})
}

// Options that make no sense are refused with a kind.
func TestBadOptions(t *testing.T) {
	for _, o := range []ps.Options{{Mode: 7}, {Workers: -1}, {Shards: -1}, {Shards: 1}, {Epochs: -1}, {Block: -1}} {
		if _, err := ps.NewCore(nil, pstest.Add{}, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := ps.NewCore(nil, nil, ps.Options{}); err == nil {
		t.Error("no rule is taken")
	}
}

// Asynchronous: own units first and in shard order, then others' from behind, and the next epoch before the last one is
// complete.
func TestAsyncOrderOfWork(t *testing.T) {
	c := newCore(t, nil, pstest.Add{}, ps.Options{Workers: 2, Shards: 5, Epochs: 2})
	a, b := join(t, c, 0), join(t, c, 1)
	var got []int
	for _, who := range []ps.Worker{0, 1, 0, 0, 0, 0, 0, 1} {
		life := a
		if who == 1 {
			life = b
		}
		u, turn := next(t, c, who, life)
		if turn != ps.Work {
			t.Fatalf("turn %d after %v", turn, got)
		}
		got = append(got, u.ID)
	}
	// Worker 0: 0; worker 1: 1; worker 0: 2, 4, steals 3, goes on to epoch 1: 5, 7; worker 1: 6.
	if want := []int{0, 1, 2, 4, 3, 5, 7, 6}; !slices.Equal(got, want) {
		t.Errorf("units %v, want %v", got, want)
	}
}

// Rounds: nobody takes the unit of a member, also not of one that has yet to come, and no epoch opens before the last one
// is complete; but the units of one that is given up are taken.
func TestRoundsOrderOfWork(t *testing.T) {
	c := newCore(t, nil, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 2, Shards: 2, Epochs: 2})
	a := join(t, c, 0)
	if u, turn := next(t, c, 0, a); turn != ps.Work || u.ID != 0 {
		t.Fatalf("%+v, turn %d", u, turn)
	}
	if _, turn := next(t, c, 0, a); turn != ps.Flush {
		t.Fatalf("turn %d", turn)
	}
	if _, deferred, err := c.Commit(ps.Commit{Incarnation: a, Seq: 1, Steps: 1, Delta: []float32{}, Positions: []ps.Position{{Unit: 0, Done: true}}}, nil); err != nil || !deferred {
		t.Fatalf("the round closed without worker 1: %v", err)
	}
	if err := c.Leave(1, 0, "did not come"); err != nil {
		t.Fatal(err)
	}
	if got := c.Answers(); len(got) != 1 || got[0].Ack.Version != 1 {
		t.Fatalf("answers %+v", got)
	}
	if u, turn := next(t, c, 0, a); turn != ps.Work || u.ID != 1 {
		t.Errorf("%+v, turn %d", u, turn)
	}
	if c.Epochs() != 0 {
		t.Errorf("%d epochs complete", c.Epochs())
	}
}

// A late pull does not make the core believe that a worker which waits for work has the present centre: it is told to pull.
func TestLatePullDoesNotHideThatTheCentreMoved(t *testing.T) {
	c := newCore(t, []float32{0}, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 2, Shards: 1, Epochs: 2})
	a, b := join(t, c, 0), join(t, c, 1)
	dst := make([]float32, 1)
	pull := ps.Commit{Worker: 1, Incarnation: b}
	if _, _, err := c.Commit(pull, dst); err != nil {
		t.Fatal(err)
	}
	next(t, c, 0, a)
	if _, turn := next(t, c, 1, b); turn != ps.Wait {
		t.Fatalf("turn %d", turn)
	}
	if _, _, err := c.Commit(ps.Commit{Incarnation: a, Seq: 1, Steps: 1, Delta: []float32{1}, Positions: []ps.Position{{Unit: 0, Cursor: []byte{1}}}}, dst); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Commit(pull, dst); err != nil { // long on its way
		t.Fatal(err)
	}
	c.Answers()
	if err := c.Leave(0, a, "killed"); err != nil {
		t.Fatal(err)
	}
	got := c.Answers()
	if len(got) != 1 || !got[0].Next || got[0].Turn != ps.Work || !got[0].Unit.Pull {
		t.Errorf("answers %+v", got)
	}
}

// A worker that commits has given up the Next that it waited in.
func TestCommitTakesBackWaitingNext(t *testing.T) {
	c := newCore(t, []float32{0}, pstest.Add{}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	a, b := join(t, c, 0), join(t, c, 1)
	next(t, c, 0, a)
	if _, turn := next(t, c, 1, b); turn != ps.Wait {
		t.Fatalf("turn %d", turn)
	}
	if _, _, err := c.Commit(ps.Commit{Worker: 1, Incarnation: b, Seq: 1, Steps: 1, Delta: []float32{1}}, make([]float32, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(0, a, "killed"); err != nil {
		t.Fatal(err)
	}
	if got := c.Answers(); len(got) != 0 {
		t.Errorf("answers %+v", got)
	}
	if _, turn := next(t, c, 1, b); turn != ps.Work {
		t.Errorf("turn %d: the unit is lost", turn)
	}
}

// Told to flush, a worker that commits nothing is told so; it would ask for ever.
func TestFlushMustBeFollowed(t *testing.T) {
	c := newCore(t, nil, pstest.Add{}, ps.Options{Shards: 1, Epochs: 1})
	a := join(t, c, 0)
	next(t, c, 0, a)
	if _, turn := next(t, c, 0, a); turn != ps.Flush {
		t.Fatalf("turn %d", turn)
	}
	if _, _, err := c.Next(0, a, 0); !errors.Is(err, ps.ErrProtocol) {
		t.Errorf("%v", err)
	}
}

// In a round only members that made steps count; one that rejects or only moves positions gets the centre.
func TestMeanOfARound(t *testing.T) {
	c := newCore(t, []float32{10}, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 4})
	nan := float32(math.NaN())
	dsts := make([][]float32, 4)
	for w, delta := range [][]float32{{2}, {100}, {nan}, {4}} {
		life := join(t, c, ps.Worker(w))
		steps := 1
		if w == 1 {
			steps = 0
		}
		dsts[w] = make([]float32, 1)
		if _, _, err := c.Commit(ps.Commit{Worker: ps.Worker(w), Incarnation: life, Seq: 1, Steps: steps, Delta: delta}, dsts[w]); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range c.Answers() {
		if dsts[i][0] != 13 || (a.Ack.Rejected != "") != (i == 2) || a.Ack.Version != 1 {
			t.Errorf("worker %d: %+v, reply %v", i, a.Ack, dsts[i])
		}
	}
}

// A snapshot shares nothing with the core, and a restored core goes on with the same parameters, state and positions, but
// without its members.
func TestSnapshotAndRestore(t *testing.T) {
	o := ps.Options{Shards: 2, Epochs: 2, Block: 2}
	rule := pstest.Elastic{Alpha: 0.5}
	c := newCore(t, []float32{0, 0, 0}, rule, o)
	a := join(t, c, 0)
	u, _ := next(t, c, 0, a)
	v, _ := next(t, c, 0, a)
	dst := make([]float32, 3)
	commit := ps.Commit{Incarnation: a, Seq: 1, Steps: 1, Samples: 3, Delta: []float32{2, 4, 8},
		Positions: []ps.Position{{Unit: u.ID, Cursor: []byte{9}}, {Unit: v.ID, Done: true}}}
	if _, _, err := c.Commit(commit, dst); err != nil {
		t.Fatal(err)
	}
	s := c.Snapshot()
	next2 := commit
	next2.Seq, next2.Positions = 2, []ps.Position{{Unit: u.ID, Cursor: []byte{77}}}
	if _, _, err := c.Commit(next2, dst); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Centre, []float32{1, 2, 4}) || !slices.Equal(s.Slots, []float32{1, 1, 1}) || s.Version != 1 ||
		len(s.Units) != 2 || s.Units[0].Cursor[0] != 9 || !s.Units[1].Done {
		t.Fatalf("%+v", s)
	}

	if err := newCore(t, make([]float32, 3), rule, o).Restore(s); err == nil {
		t.Error("restored into the same generation")
	}
	o.Generation = 1
	for _, bad := range []ps.Options{{Shards: 3, Epochs: 2, Block: 2, Generation: 1}, {Shards: 2, Epochs: 3, Block: 2, Generation: 1}, {Shards: 2, Epochs: 2, Block: 3, Generation: 1}} {
		if err := newCore(t, make([]float32, 3), rule, bad).Restore(s); err == nil {
			t.Errorf("restored into %+v", bad)
		}
	}
	if err := newCore(t, make([]float32, 4), rule, o).Restore(s); err == nil {
		t.Error("restored into another length")
	}
	if err := newCore(t, make([]float32, 3), pstest.Add{}, o).Restore(s); err == nil {
		t.Error("restored into another rule")
	}
	r := newCore(t, make([]float32, 3), rule, o)
	if err := r.Restore(s); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Commit(next2, dst); !errors.Is(err, ps.ErrFenced) {
		t.Errorf("a life from before the crash: %v", err)
	}
	b := join(t, r, 0)
	if b == a {
		t.Error("an incarnation came twice")
	}
	w, turn := next(t, r, 0, b)
	if turn != ps.Work || w.ID != u.ID || !slices.Equal(w.Cursor, []byte{9}) || r.Version() != 1 || r.Stats().Samples != 3 {
		t.Errorf("%+v, turn %d, version %d, %+v", w, turn, r.Version(), r.Stats())
	}
	s.Centre[0] = 99
	if _, err := r.Centre(dst); err != nil || dst[0] != 1 {
		t.Errorf("the restored core shares its centre: %v", dst)
	}
}

type log struct {
	commits []uint64
	members []string
	epochs  []float32
}

func (l *log) Committed(c ps.Commit, _ ps.Ack) {
	if c.Delta != nil {
		panic("the observer got the delta")
	}
	l.commits = append(l.commits, c.Seq)
}

func (l *log) Membership(_ ps.Worker, _ uint64, joined bool, why string) {
	if joined {
		why = "+"
	}
	l.members = append(l.members, why)
}

func (l *log) EpochDone(_ int, _ uint64, centre []float32) { l.epochs = append(l.epochs, centre[0]) }

// The observer is told of every commit once, in order, and of an epoch's end while the centre is still that of the end.
// Leases expire by the given time only, and only of those that have one.
func TestObserverAndLeases(t *testing.T) {
	l := new(log)
	s := ps.NewServer(newCore(t, []float32{0}, pstest.Add{}, ps.Options{Workers: 2, Shards: 1, Epochs: 2}), l)
	a, err := s.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Join(1); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	dst := make([]float32, 1)
	for seq := uint64(1); seq <= 2; seq++ {
		u, _, err := s.Next(ctx, 0, a)
		if err != nil {
			t.Fatal(err)
		}
		c := ps.Commit{Incarnation: a, Seq: seq, Base: seq - 1, Steps: 1, Delta: []float32{1}, Positions: []ps.Position{{Unit: u.ID, Done: true}}}
		for range 2 {
			if _, err := s.Exchange(ctx, c, dst); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-s.Finished()
	now := time.Unix(1000, 0)
	if err := s.Touch(0, a, now); err != nil {
		t.Fatal(err)
	}
	if out := s.Expire(now); len(out) != 0 {
		t.Errorf("expired too early: %v", out)
	}
	if out := s.Expire(now.Add(1)); !slices.Equal(out, []ps.Worker{0}) {
		t.Errorf("expired %v", out)
	}
	if err := s.Touch(0, a, now); !errors.Is(err, ps.ErrFenced) {
		t.Errorf("touched a life that is over: %v", err)
	}
	if in := s.Progress().Joined; !slices.Equal(in, []ps.Worker{1}) {
		t.Errorf("joined %v", in)
	}
	if !slices.Equal(l.commits, []uint64{1, 2}) || !slices.Equal(l.epochs, []float32{1, 2}) || !slices.Equal(l.members, []string{"+", "+", "its lease ran out"}) {
		t.Errorf("%+v", l)
	}
}

// A commit in Async mode allocates nothing.
func TestExchangeDoesNotAllocate(t *testing.T) {
	s := ps.NewServer(newCore(t, make([]float32, 100), pstest.Add{}, ps.Options{Shards: 1, Epochs: 1}), nil)
	life, err := s.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	u, _, err := s.Next(ctx, 0, life)
	if err != nil {
		t.Fatal(err)
	}
	c := ps.Commit{Incarnation: life, Steps: 1, Delta: make([]float32, 100), Positions: []ps.Position{{Unit: u.ID, Cursor: []byte("12345678")}}}
	dst := make([]float32, 100)
	if n := testing.AllocsPerRun(100, func() {
		c.Seq++
		c.Base = c.Seq - 1
		if _, err := s.Exchange(ctx, c, dst); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a commit", n)
	}
}

// A worker that joins while a round is open is not waited for: it gets its first unit when the round is over, and begins with
// the centre that came of it.
func TestLateJoinerComesToTheNextRound(t *testing.T) {
	c := newCore(t, []float32{0}, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 2, Shards: 4, Epochs: 1})
	dst := make([]float32, 1)
	commit := func(w ps.Worker, life, seq, base uint64, x float32, unit int) bool {
		t.Helper()
		_, deferred, err := c.Commit(ps.Commit{Worker: w, Incarnation: life, Seq: seq, Base: base, Steps: 1, Samples: 1, Delta: []float32{x},
			Positions: []ps.Position{{Unit: unit, Done: true}}}, dst)
		if err != nil {
			t.Fatal(err)
		}
		return deferred
	}
	a, b := join(t, c, 0), join(t, c, 1)
	ua, _ := next(t, c, 0, a)
	ub, _ := next(t, c, 1, b)
	if err := c.Leave(1, b, "killed"); err != nil {
		t.Fatal(err)
	}
	again := join(t, c, 1)
	if _, _, err := c.Commit(ps.Commit{Worker: 1, Incarnation: again}, dst); err != nil {
		t.Fatal(err)
	}
	if _, turn := next(t, c, 1, again); turn != ps.Wait {
		t.Fatalf("turn %d while the round is open", turn)
	}
	commit(0, a, 1, 0, 4, ua.ID)
	answers := slices.Clone(c.Answers())
	if len(answers) != 2 || answers[0].Worker != 0 || answers[0].Ack.Version != 1 {
		t.Fatalf("the round waits for who came late: %+v", answers)
	}
	u := answers[1]
	if u.Worker != 1 || u.Turn != ps.Work || !u.Unit.Pull || u.Unit.ID != ub.ID {
		t.Fatalf("%+v", u)
	}
	// It belongs to this one.
	if _, _, err := c.Commit(ps.Commit{Worker: 1, Incarnation: again}, dst); err != nil || dst[0] != 4 {
		t.Fatal(dst, err)
	}
	ua, _ = next(t, c, 0, a)
	if commit(0, a, 2, 1, 2, ua.ID); len(c.Answers()) != 0 {
		t.Fatal("the next round closes without it")
	}
	commit(1, again, 1, 1, 4, ub.ID)
	if len(c.Answers()) != 2 || c.Version() != 2 {
		t.Fatalf("version %d", c.Version())
	}
	if _, err := c.Centre(dst); err != nil || dst[0] != 7 {
		t.Fatal(dst, err)
	}
}

// What would make the centre infinite is refused, and leaves it as it was.
func TestTheCentreStaysFinite(t *testing.T) {
	const huge = 3e38
	c := newCore(t, []float32{huge, 0}, pstest.Add{}, ps.Options{})
	life, dst := join(t, c, 0), make([]float32, 2)
	push := func(seq uint64, x float32) ps.Ack {
		t.Helper()
		ack, _, err := c.Commit(ps.Commit{Incarnation: life, Seq: seq, Steps: 1, Samples: 1, Delta: []float32{x, 1}}, dst)
		if err != nil {
			t.Fatal(err)
		}
		return ack
	}
	if ack := push(1, huge); ack.Rejected == "" || ack.Version != 0 || dst[0] != huge || dst[1] != 0 {
		t.Fatalf("%+v, %v", ack, dst)
	}
	for seq := uint64(2); seq < 1000; seq++ {
		if ack := push(seq, math.Nextafter32(ps.MaxDelta, 0)); ack.Rejected != "" || dst[0] != huge {
			t.Fatalf("%+v, %v", ack, dst)
		}
	}
	if push(1000, -ps.MaxDelta).Rejected == "" {
		t.Error("a delta of MaxDelta is taken")
	}
	nan := float32(math.NaN())
	if _, err := ps.NewCore([]float32{0, nan}, pstest.Add{}, ps.Options{}); err == nil {
		t.Error("a centre with NaN is taken")
	}
}
