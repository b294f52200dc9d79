package trainers_test

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

const (
	inputs, outputs = 3, 1
	rate            = 0.1
)

// problem is 120 rows in 4 shards of 5 batches: 20 steps an epoch.
func problem() *trainertest.Feed {
	feed, _ := trainertest.Linear(120, inputs, outputs, 3)
	feed.NumShards, feed.BatchSize = 4, 6
	return feed
}

// scripted is a server that one worker uses alone: it hands out the units of one epoch and records commits.
type scripted struct {
	shards  int
	next    int
	version uint64
	centre  []float32
	rule    ps.Rule
	commits []ps.Commit                                            // with copies of deltas and positions
	before  func(ctx context.Context, c ps.Commit) (ps.Ack, error) // may reject or fail a commit
}

func newScripted(a trainers.Algorithm, feed *trainertest.Feed) *scripted {
	return &scripted{shards: feed.NumShards, centre: make([]float32, (inputs+1)*outputs), rule: a.Rule(1)}
}

func (s *scripted) Next(ctx context.Context, _ ps.Worker, _ uint64) (ps.Unit, ps.Turn, error) {
	if err := ctx.Err(); err != nil || s.next == s.shards {
		return ps.Unit{}, ps.Done, err
	}
	s.next++
	return ps.Unit{ID: s.next - 1, Shard: s.next - 1}, ps.Work, nil
}

func (s *scripted) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	var ack ps.Ack
	if c.Seq > 0 {
		kept := c
		kept.Delta, kept.Positions = slices.Clone(c.Delta), slices.Clone(c.Positions)
		s.commits = append(s.commits, kept)
		if s.before != nil {
			var err error
			if ack, err = s.before(ctx, c); err != nil {
				return ack, err
			}
		}
		if ack.Rejected == "" && c.Delta != nil {
			s.version++
			s.rule.Apply(s.centre, nil, c.Delta, dst, c)
		}
	}
	copy(dst, s.centre)
	ack.Version = s.version
	return ack, nil
}

func worker(a trainers.Algorithm, s trainers.Server, feed pipeline.Feed) trainers.WorkerConfig {
	return trainers.WorkerConfig{Algorithm: a, Server: s, Worker: 2, Incarnation: 9, Workers: 3, Feed: feed,
		Replica: trainertest.NewLinear(inputs, outputs, 1), Optimizer: trainertest.Descent{Rate: rate}}
}

func TestWindowsRunAcrossUnitsAndTheLastOneIsCommittedWithItsSteps(t *testing.T) {
	feed := problem()
	srv := newScripted(trainers.AGN{}, feed)
	cfg := worker(trainers.AGN{}, srv, feed)
	cfg.Window = 8
	stats, err := trainers.Work(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantSteps, wantSamples := []int{8, 8, 4}, []int64{48, 48, 24}
	wantPositions := [][]int{{0, 1}, {1, 2, 3}, {3}} // units of 5 steps each
	for i, c := range srv.commits {
		var units []int
		for j, p := range c.Positions {
			units = append(units, p.Unit)
			if last := j == len(c.Positions)-1; p.Done == (last && i < 2) {
				t.Errorf("commit %d: unit %d says done is %v", i+1, p.Unit, p.Done)
			}
		}
		if i >= 3 || c.Steps != wantSteps[i] || c.Samples != wantSamples[i] || !slices.Equal(units, wantPositions[i]) ||
			c.Seq != uint64(i+1) || c.Base != uint64(i) || c.Worker != 2 || c.Incarnation != 9 {
			t.Errorf("commit %d: %+v", i+1, c)
		}
	}
	if stats.Commits != 3 || stats.Steps != 20 || stats.Samples != 120 || stats.ID != 2 {
		t.Errorf("stats %+v", stats)
	}
}

func TestSingleEqualsThePlainLoopForAnyWindow(t *testing.T) {
	feed := problem()
	m := trainertest.NewLinear(inputs, outputs, 1)
	clear(m.Params())
	shards, _ := feed.Shards(t.Context())
	for _, s := range shards {
		r, err := feed.Open(t.Context(), s, pipeline.Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		for b, err := r.Next(); err != io.EOF; b, err = r.Next() {
			if _, err := m.Step(b); err != nil {
				t.Fatal(err)
			}
			trainertest.Descent{Rate: rate}.Apply(m.Params(), m.Grads())
		}
	}
	for _, window := range []int{1, 3, 5, 1000} {
		srv := newScripted(trainers.Single{}, feed)
		cfg := worker(trainers.Single{}, srv, feed)
		cfg.Window = window
		if _, err := trainers.Work(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(srv.centre, m.Params()) {
			t.Errorf("window %d: %v, the plain loop gives %v", window, srv.centre, m.Params())
		}
	}
}

func TestALossThatIsNotFiniteNamesPlaceAndRemedy(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		feed := problem()
		first, _ := trainertest.Linear(120, inputs, outputs, 3)
		feed.Y = slices.Clone(first.Y)
		for i := 60; i < 90; i++ { // shard 2
			feed.Y[i] = bad
		}
		cfg := worker(trainers.Downpour{}, newScripted(trainers.Downpour{}, feed), feed)
		cfg.Window = 4
		_, err := trainers.Work(t.Context(), cfg)
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != pipeline.Diverged {
			t.Fatalf("got %v", err)
		}
		for _, part := range []string{"worker 2", "epoch 1", "step 11"} {
			if !strings.Contains(e.Message, part) {
				t.Errorf("message %q does not name %q", e.Message, part)
			}
		}
		if !strings.Contains(e.Hint, "learning_rate") || !strings.Contains(e.Hint, "window of 4") {
			t.Errorf("hint %q names neither the learning rate nor the window that is too long", e.Hint)
		}
	}
}

func TestARejectedCommitIsCountedAndTheWorkerGoesOnFromTheCentre(t *testing.T) {
	feed := problem()
	srv := newScripted(trainers.AGN{}, feed)
	srv.before = func(_ context.Context, c ps.Commit) (ps.Ack, error) {
		if c.Seq == 2 {
			return ps.Ack{Rejected: "delta has NaN"}, nil
		}
		return ps.Ack{}, nil
	}
	cfg := worker(trainers.AGN{}, srv, feed)
	cfg.Window = 5
	stats, err := trainers.Work(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Rejected != 1 || stats.Commits != 3 || stats.Samples != 90 {
		t.Errorf("stats %+v", stats)
	}
	if c := srv.commits[2]; c.Base != 1 || c.Seq != 3 {
		t.Errorf("after the rejection the worker commits %+v", c)
	}
	// What follows must start from the centre: the same deltas come out of a worker that never saw shard 1.
	if !slices.Equal(srv.commits[2].Delta, deltaFrom(t, feed, srv.commits[0].Delta, 2)) {
		t.Error("the window after the rejection did not start from the centre")
	}
}

// deltaFrom gives the AGN delta of a whole shard that is trained on from a centre.
func deltaFrom(t *testing.T, feed *trainertest.Feed, centre []float32, shard int) []float32 {
	t.Helper()
	m := trainertest.NewLinear(inputs, outputs, 1)
	copy(m.Params(), centre)
	shards, _ := feed.Shards(t.Context())
	r, err := feed.Open(t.Context(), shards[shard], pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for b, err := r.Next(); err != io.EOF; b, err = r.Next() {
		if _, err := m.Step(b); err != nil {
			t.Fatal(err)
		}
		trainertest.Descent{Rate: rate}.Apply(m.Params(), m.Grads())
		steps++
	}
	delta := make([]float32, len(centre))
	trainers.AGN{}.Local(1, trainertest.Descent{}).Delta(delta, m.Params(), centre, steps)
	return delta
}

func TestRejectionsNowAndThenAreNotDivergence(t *testing.T) {
	feed := problem()
	srv := newScripted(trainers.AGN{}, feed)
	srv.before = func(_ context.Context, c ps.Commit) (ps.Ack, error) {
		if c.Seq%2 == 0 {
			return ps.Ack{Rejected: "delta has NaN"}, nil
		}
		return ps.Ack{}, nil
	}
	cfg := worker(trainers.AGN{}, srv, feed)
	cfg.Window, cfg.MaxRejects = 1, 2
	stats, err := trainers.Work(t.Context(), cfg)
	if err != nil || stats.Rejected != 10 || stats.Commits != 10 {
		t.Errorf("stats %+v, %v", stats, err)
	}
}

func TestAUnitMayAskForAPullFirst(t *testing.T) {
	feed := problem()
	srv := &doneUnit{oneUnit{*newScripted(trainers.AGN{}, feed), ps.Unit{Pull: true}}, 0, nil}
	moved := []float32{4, 3, 2, 1}
	srv.moves = func() { copy(srv.centre, moved) } // while the worker waits for its unit
	cfg := worker(trainers.AGN{}, srv, feed)
	if _, err := trainers.Work(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if want := deltaFrom(t, feed, moved, 0); !slices.Equal(srv.commits[0].Delta, want) {
		t.Errorf("the delta is %v, from the new centre it is %v", srv.commits[0].Delta, want)
	}
}

func TestRejectionsInARowAreDivergence(t *testing.T) {
	feed := problem()
	srv := newScripted(trainers.AGN{}, feed)
	srv.before = func(context.Context, ps.Commit) (ps.Ack, error) { return ps.Ack{Rejected: "delta has NaN"}, nil }
	cfg := worker(trainers.AGN{}, srv, feed)
	cfg.Window, cfg.MaxRejects = 1, 4
	stats, err := trainers.Work(t.Context(), cfg)
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != pipeline.Diverged || !strings.Contains(e.Message, "4 commits in a row (delta has NaN)") {
		t.Errorf("got %v", err)
	}
	if stats.Rejected != 4 || stats.Samples != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestCancellingCommitsThePartialWindow(t *testing.T) {
	feed := problem()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	feed.Fault = func(_ context.Context, shard int, at pipeline.Cursor) error {
		if shard == 1 && at.Row == 12 {
			cancel()
		}
		return nil
	}
	srv := newScripted(trainers.AGN{}, feed)
	cfg := worker(trainers.AGN{}, srv, feed)
	cfg.Window = 100
	stats, err := trainers.Work(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(srv.commits) != 1 || srv.commits[0].Steps != 7 || stats.Samples != 42 {
		t.Fatalf("commits %+v, stats %+v", srv.commits, stats)
	}
	p := srv.commits[0].Positions
	at, err := pipeline.ParseCursor(p[1].Cursor)
	if err != nil || len(p) != 2 || !p[0].Done || p[1].Done || at.Row != 12 {
		t.Errorf("positions %+v", p)
	}
}

func TestACommitWithoutAnswerIsRepeatedAsItWas(t *testing.T) {
	feed := problem()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := newScripted(trainers.AGN{}, feed)
	srv.before = func(inner context.Context, c ps.Commit) (ps.Ack, error) {
		if c.Seq == 2 && ctx.Err() == nil {
			cancel()
			<-inner.Done() // a round that does not close
			return ps.Ack{}, inner.Err()
		}
		return ps.Ack{}, nil
	}
	cfg := worker(trainers.AGN{}, srv, feed)
	cfg.Window = 4
	stats, err := trainers.Work(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(srv.commits) != 3 {
		t.Fatalf("%d commits were sent", len(srv.commits))
	}
	first, again := srv.commits[1], srv.commits[2]
	if first.Seq != again.Seq || first.Steps != again.Steps || !slices.Equal(first.Delta, again.Delta) || len(first.Positions) != len(again.Positions) {
		t.Errorf("the commit was %+v, its repeat %+v", first, again)
	}
	if stats.Samples != 48 {
		t.Errorf("stats %+v", stats)
	}
}

func TestWorkRefusesUnitsOfAnotherDataset(t *testing.T) {
	for name, c := range map[string]struct {
		unit ps.Unit
		kind pipeline.Kind
	}{
		"shard":  {ps.Unit{Shard: 4}, pipeline.Changed},
		"row":    {ps.Unit{Cursor: pipeline.Cursor{Row: 1000}.Append(nil)}, pipeline.Changed},
		"cursor": {ps.Unit{Cursor: []byte{0xff}}, pipeline.Corrupt},
	} {
		feed := problem()
		srv := &oneUnit{*newScripted(trainers.AGN{}, feed), c.unit}
		_, err := trainers.Work(t.Context(), worker(trainers.AGN{}, srv, feed))
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != c.kind {
			t.Errorf("%s: got %v, want kind %s", name, err, c.kind)
		}
	}
}

// oneUnit hands out one unit for ever.
type oneUnit struct {
	scripted
	unit ps.Unit
}

func (s *oneUnit) Next(context.Context, ps.Worker, uint64) (ps.Unit, ps.Turn, error) {
	return s.unit, ps.Work, nil
}

func TestAUnitThatWasDoneAlreadyIsReportedWithoutADelta(t *testing.T) {
	feed := problem()
	end := ps.Unit{ID: 3, Shard: 3, Cursor: pipeline.Cursor{Row: 30}.Append(nil)}
	srv := &doneUnit{oneUnit{*newScripted(trainers.AGN{}, feed), end}, 0, nil}
	stats, err := trainers.Work(t.Context(), worker(trainers.AGN{}, srv, feed))
	if err != nil {
		t.Fatal(err)
	}
	if len(srv.commits) != 1 || srv.commits[0].Delta != nil || srv.commits[0].Steps != 0 || !srv.commits[0].Positions[0].Done || stats.Commits != 0 {
		t.Errorf("commits %+v, stats %+v", srv.commits, stats)
	}
}

// doneUnit hands out its unit, asks for a flush, and is done.
type doneUnit struct {
	oneUnit
	calls int
	moves func() // before the first unit; may be nil
}

func (s *doneUnit) Next(context.Context, ps.Worker, uint64) (ps.Unit, ps.Turn, error) {
	if s.calls++; s.calls == 1 && s.moves != nil {
		s.moves()
	}
	return s.unit, []ps.Turn{ps.Work, ps.Flush, ps.Done}[s.calls-1], nil
}

// timed is an algorithm whose windows end by its own decision.
type timed struct{ trainers.Downpour }

type timedLocal struct{ trainers.Local }

func (timedLocal) Due(steps int, seconds float64) bool { return steps == 3 && seconds >= 0 }

func (a timed) Local(n int, opt optim.Optimizer) trainers.Local {
	return timedLocal{a.Downpour.Local(n, opt)}
}

func TestALocalMayDecideWhenAWindowEnds(t *testing.T) {
	feed := problem()
	srv := newScripted(timed{}, feed)
	cfg := worker(timed{}, srv, feed)
	cfg.Window = 1
	if _, err := trainers.Work(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if len(srv.commits) != 7 || srv.commits[0].Steps != 3 {
		t.Errorf("%d commits, the first of %d steps", len(srv.commits), srv.commits[0].Steps)
	}
}

func TestStepsDoNotAllocate(t *testing.T) {
	run := func(rows int) float64 {
		feed, _ := trainertest.Linear(rows, inputs, outputs, 3)
		feed.BatchSize = 4
		return testing.AllocsPerRun(5, func() {
			core, err := ps.NewCore(make([]float32, inputs+1), trainers.AGN{}.Rule(1), ps.Options{Shards: 1, Epochs: 1})
			if err != nil {
				t.Fatal(err)
			}
			srv := ps.NewServer(core, nil)
			incarnation, err := srv.Join(0)
			if err != nil {
				t.Fatal(err)
			}
			cfg := worker(trainers.AGN{}, srv, feed)
			cfg.Worker, cfg.Incarnation, cfg.Window = 0, incarnation, 3
			if _, err := trainers.Work(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := run(400), run(8000)                    // 100 and 2000 steps
	if perStep := (many - few) / 1900; perStep > 0.01 { // the runtime has a few of its own
		t.Errorf("%v allocations for 100 steps, %v for 2000: %v a step", few, many, perStep)
	}
}

func TestWorkersOfOneRunShareNothingButTheServer(t *testing.T) {
	feed := problem()
	core, err := ps.NewCore(make([]float32, inputs+1), trainers.AGN{}.Rule(3), ps.Options{Workers: 3, Shards: 4, Epochs: 20})
	if err != nil {
		t.Fatal(err)
	}
	srv := ps.NewServer(core, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var samples int64
	for w := range ps.Worker(3) {
		wg.Go(func() {
			incarnation, err := srv.Join(w)
			if err != nil {
				t.Error(err)
				return
			}
			cfg := worker(trainers.AGN{}, srv, feed)
			cfg.Worker, cfg.Incarnation = w, incarnation
			stats, err := trainers.Work(t.Context(), cfg)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			samples += stats.Samples
		})
	}
	wg.Wait()
	if samples != 120*20 || srv.Progress().Stats.Samples != samples {
		t.Errorf("%d samples by the workers, %+v by the server", samples, srv.Progress().Stats)
	}
}
