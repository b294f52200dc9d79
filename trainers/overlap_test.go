package trainers_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/trainertest"
)

func TestWorkersThatGoOnDuringAnExchangePassTheSuite(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		trainertest.Case
	}{
		{name: "downpour", fields: "overlap: true", Case: trainertest.Case{Window: 2, Rate: 0.02, Epochs: 80}},
		{name: "agn", fields: "overlap: true", Case: trainertest.Case{Window: 8, Rate: 0.1, Epochs: 200}},
		{name: "dynsgd", fields: "overlap: true", Case: trainertest.Case{Window: 3, Epochs: 60}},
		{name: "async_local", fields: "overlap: true", Case: trainertest.Case{Window: 3, Epochs: 100, Rate: 0.05}},
		{name: "agn", fields: "{overlap: true, staleness_bound: 2}", Case: trainertest.Case{Window: 8, Rate: 0.1, Epochs: 200}},
	} {
		t.Run(c.name+" "+c.fields, func(t *testing.T) {
			c.Algorithm = algorithm(t, c.name, c.fields)
			trainertest.Run(t, c.Case)
		})
	}
}

// TestOverlapSendsWhatThePlainLoopWouldHaveLearned follows one worker by hand, step by step: three windows, the second and
// third started before the reply to the one before was there.
func TestOverlapSendsWhatThePlainLoopWouldHaveLearned(t *testing.T) {
	feed := problem() // 20 steps
	a := trainers.AGN{Policy: trainers.Policy{Overlap: true}}
	srv := newScripted(a, feed)
	others := []float32{0.5, -0.25, 0.125, 1} // what another worker adds with every commit
	srv.before = func(context.Context, ps.Commit) (ps.Ack, error) {
		for i, d := range others {
			srv.centre[i] += d
		}
		srv.version++
		return ps.Ack{}, nil
	}
	cfg := worker(a, srv, feed)
	cfg.Window = 2
	if _, err := trainers.Work(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	m := trainertest.NewLinear(inputs, outputs, 1)
	clear(m.Params())
	x := m.Params()
	centre, base := make([]float32, len(x)), make([]float32, len(x))
	r, err := feed.Open(t.Context(), shardsOf(t, feed)[0], pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	window := func() {
		for range 2 {
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Step(b); err != nil {
				t.Fatal(err)
			}
			trainertest.Descent{Rate: rate}.Apply(x, m.Grads())
		}
	}
	var reply []float32 // to the commit on its way
	for k := range 2 {
		window()
		if reply != nil { // what others did comes under the window
			for i := range x {
				x[i] = reply[i] + (x[i] - base[i])
			}
			copy(base, reply)
		}
		sent := srv.commits[k]
		for i := range x {
			u := (x[i] - base[i]) * 0.5
			if u != sent.Delta[i] {
				t.Fatalf("commit %d sends %v, by hand its element %d is %v", k+1, sent.Delta, i, u)
			}
			centre[i] += others[i]
			centre[i] += u
			x[i] = base[i] + u
		}
		copy(base, x)
		reply = slices.Clone(centre)
		if sent.Base != 0 { // the second window began before the first reply
			t.Errorf("commit %d started from version %d", k+1, sent.Base)
		}
	}
	var steps int
	for i, c := range srv.commits {
		steps += c.Steps
		if c.Seq != uint64(i+1) {
			t.Errorf("commit %d has the number %d", i+1, c.Seq)
		}
	}
	if steps != 20 {
		t.Errorf("%d steps were committed", steps)
	}
}

func shardsOf(t *testing.T, f pipeline.Feed) []pipeline.Shard {
	t.Helper()
	s, err := f.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOverlapIsRefusedByNameWhereItWouldBeAnotherMethod(t *testing.T) {
	for _, name := range trainers.Names() {
		a, err := trainers.New(name, fields("overlap: true"))
		if err != nil {
			t.Fatal(err)
		}
		cfg, _ := runConfig(a, 1)
		_, err = trainers.Train(t.Context(), cfg)
		switch name {
		case "downpour", "agn", "dynsgd", "async_local":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: overlap is not refused", name)
			continue
		}
		wantKind(t, err, pipeline.BadSpec)
		if name != "ensemble" && (!strings.Contains(err.Error(), "trainer "+name) || !strings.Contains(err.Error(), "overlap would change it")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// late is a server whose exchanges take as long as the test says, and which counts steps during them.
type late struct {
	trainers.Server
	hold func(ps.Commit)
}

func (l *late) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	if c.Seq > 0 {
		l.hold(c)
	}
	return l.Server.Exchange(ctx, c, dst)
}

func TestComputingGoesOnDuringAnExchange(t *testing.T) {
	feed := problem()
	a := trainers.AGN{Policy: trainers.Policy{Overlap: true}}
	var steps atomic.Int64
	during := make(chan struct{})
	feed.Fault = func(context.Context, int, pipeline.Cursor) error {
		if steps.Add(1) == 5 { // of the second window
			close(during)
		}
		return nil
	}
	srv := &late{newScripted(a, feed), func(c ps.Commit) {
		if c.Seq == 1 {
			<-during // the exchange ends only when the next window is under way
		}
	}}
	cfg := worker(a, srv, feed)
	cfg.Window = 3
	stats, err := trainers.Work(t.Context(), cfg)
	if err != nil || stats.Samples != 120 {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestAnInterruptedOverlapLosesNothing(t *testing.T) {
	for stop := 1; stop <= 20; stop++ {
		feed := problem()
		ctx, cancel := context.WithCancel(t.Context())
		a := trainers.AGN{Policy: trainers.Policy{Overlap: true}}
		inner := newScripted(a, feed)
		var steps atomic.Int64
		feed.Fault = func(context.Context, int, pipeline.Cursor) error {
			if steps.Add(1) == int64(stop) {
				cancel()
			}
			return nil
		}
		var once sync.Once
		inner.before = func(inner context.Context, c ps.Commit) (ps.Ack, error) {
			if ctx.Err() != nil && inner.Err() != nil { // an exchange that the stop cuts off
				once.Do(func() {})
				return ps.Ack{}, inner.Err()
			}
			var err error
			if c.Seq == 2 && stop >= 9 && stop <= 11 { // the batches asked for while commit 2 is on its way
				once.Do(func() {
					<-inner.Done()
					err = inner.Err()
				})
			}
			return ps.Ack{}, err
		}
		cfg := worker(a, inner, feed)
		cfg.Window = 3
		stats, err := trainers.Work(ctx, cfg)
		cancel()
		if err != nil {
			t.Fatalf("stopped at step %d: %v", stop, err)
		}
		var sent int64
		seen := map[uint64]bool{}
		for _, c := range inner.commits {
			if !seen[c.Seq] {
				sent += c.Samples
			}
			seen[c.Seq] = true
		}
		if stats.Samples != sent || stats.Samples == 0 && stop > 1 {
			t.Errorf("stopped at step %d: %d samples are acknowledged, %d were sent", stop, stats.Samples, sent)
		}
	}
}

func TestOverlapDoesNotAllocatePerStep(t *testing.T) {
	run := func(rows int) float64 {
		feed, _ := trainertest.Linear(rows, inputs, outputs, 3)
		feed.BatchSize = 4
		a := trainers.AGN{Policy: trainers.Policy{Overlap: true}}
		return testing.AllocsPerRun(5, func() {
			core, err := ps.NewCore(make([]float32, inputs+1), a.Rule(1), ps.Options{Shards: 1, Epochs: 1})
			if err != nil {
				t.Fatal(err)
			}
			srv := ps.NewServer(core, nil)
			incarnation, err := srv.Join(0)
			if err != nil {
				t.Fatal(err)
			}
			cfg := worker(a, srv, feed)
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

// TestAKilledWorkerOfAnOverlappedRunCountsOnce: what was on its way when its worker died is either acknowledged or done by
// another, never both.
func TestAKilledWorkerOfAnOverlappedRunCountsOnce(t *testing.T) {
	for seed := range 20 {
		cfg, feed := runConfig(trainers.AGN{Policy: trainers.Policy{Overlap: true}}, 3)
		cfg.Window = 2
		broken := errors.New("killed")
		var calls atomic.Int64
		feed.Fault = func(context.Context, int, pipeline.Cursor) error {
			if calls.Add(1) == int64(10+seed) {
				return broken
			}
			return nil
		}
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r.Samples != 3*feed.Rows() || len(r.Lost) != 1 || r.Snapshot.Stats.Samples != r.Samples {
			t.Errorf("%d samples, the server counts %d; lost %v", r.Samples, r.Snapshot.Stats.Samples, r.Lost)
		}
	}
}
