package trainers_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// TestDefectsOfTheAncestor goes through what is wrong with the trainers of distributed Keras (cerndb/dist-keras at its last
// commit, 2018) and shows for each that it does not happen here. Its defects of the network, of the job server and of the
// data path are tested where those are.
func TestDefectsOfTheAncestor(t *testing.T) {
	for _, c := range []struct {
		defect string
		shown  func(*testing.T)
	}{
		{"single, averaging and ensemble end after one batch, because an exception is swallowed", everyBatchIsSeen},
		{"averaging adds to the mean of the epoch before: equal models grow 1, 1.25, 1.33", averagingForgetsTheEpochBefore},
		{"ensemble ignores how many models it is to have, and combines nothing", ensembleHasItsMembers},
		{"eamsgd looks ahead against its velocity, and takes the learning rate twice", lookAheadGoesForward},
		{"dynsgd reads the version without the lock: staleness and order disagree", stalenessIsThatOfTheApply},
		{"the elastic difference is taken from a centre that others have moved since", elasticPairIsAtomic},
		{"aeasgd pulls with a constant alpha of 0.5: ten times the centre's way at 20 workers", alphaIsSharedByTheWorkers},
		{"the first window is a step short, and with windows of one the first commit is empty", windowsAreWhole},
		{"the last, shorter window is never committed", lastWindowCounts},
		{"the last, shorter batch of an epoch is dropped", everyRowCounts},
		{"the end of the data is a timeout: every worker idles for 10 seconds", theEndIsNoTimeout},
		{"rows come in the same order in every epoch", everyEpochIsAskedForByNumber},
		{"errors of workers are printed and forgotten; the model comes back untrained", errorsOfWorkersAreTheRuns},
		{"a restarted worker applies its commits again", restartedWorkersCountOnce},
		{"the averaged history leaves the last worker out", everyWorkerIsInTheHistory},
		{"the distance-scaled rule sends the centre it started from along, twice the bytes", distanceRuleSendsOneVector},
		{"a commit with NaN spoils the model for everybody", nanStaysOutside},
		{"every round of training starts with cold optimizers", innerStateStaysWithTheWorker},
	} {
		t.Run(c.defect, c.shown)
	}
}

func train(t *testing.T, cfg trainers.Config) trainers.Result {
	t.Helper()
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eachTrainer goes through all that make one run, with three workers where there may be some. Ensemble makes several.
func eachTrainer(t *testing.T, show func(t *testing.T, name string, cfg trainers.Config, feed *trainertest.Feed)) {
	for _, name := range trainers.Names() {
		if name == "ensemble" {
			continue
		}
		workers := 3
		if name == "single" {
			workers = 1
		}
		cfg, feed := runConfig(algorithm(t, name, ""), workers)
		t.Run(name, func(t *testing.T) { show(t, name, cfg, feed) })
	}
}

func everyBatchIsSeen(t *testing.T) {
	eachTrainer(t, func(t *testing.T, name string, cfg trainers.Config, feed *trainertest.Feed) {
		r := train(t, cfg)
		var steps int64
		for _, w := range r.Workers {
			steps += w.Steps
		}
		if steps != 3*20 || r.Samples != 3*feed.Rows() {
			t.Errorf("%s: %d steps, %d samples", name, steps, r.Samples)
		}
		if start := trainertest.NewLinear(inputs, outputs, 0).Params(); slices.Equal(r.Params, start) {
			t.Error("the model comes back as it went in")
		}
	})
	e, cfg, feed := ensembleConfig()
	r, err := trainers.TrainEnsemble(t.Context(), e, cfg, nil)
	if err != nil || r.Samples != 5*3*feed.Rows() {
		t.Errorf("ensemble: %d samples, %v", r.Samples, err)
	}
}

func averagingForgetsTheEpochBefore(t *testing.T) {
	cfg, _ := runConfig(trainers.Averaging{}, 4)
	cfg.Epochs = 5
	cfg.Optimizer = func(int) (optim.Optimizer, error) { return trainertest.Descent{Rate: 0}, nil }
	if r, want := train(t, cfg), trainertest.NewLinear(inputs, outputs, 0).Params(); !slices.Equal(r.Params, want) {
		t.Errorf("models that do not move average to %v, not %v", r.Params, want)
	}
}

func ensembleHasItsMembers(t *testing.T) {
	e, cfg, _ := ensembleConfig()
	r, err := trainers.TrainEnsemble(t.Context(), e, cfg, nil)
	if err != nil || len(r.Members) != 5 {
		t.Fatalf("%d members, %v", len(r.Members), err)
	}
	var members []model.Replica
	var mean float32
	for _, m := range r.Members {
		n := trainertest.NewLinear(inputs, outputs, 9)
		copy(n.Params(), m.Params)
		members = append(members, n)
		mean += n.Params()[inputs] / 5 // what it predicts for zeros
	}
	both, err := trainers.NewCombined(e.Combine, members)
	if err != nil {
		t.Fatal(err)
	}
	out := [][]float32{make([]float32, 1)}
	if err := both.Predict(&pipeline.Batch{Rows: 1, X: [][]float32{make([]float32, inputs)}}, out); err != nil || math.Abs(float64(out[0][0]-mean)) > 1e-6 {
		t.Errorf("together they predict %v, their mean is %v (%v)", out, mean, err)
	}
}

// lookAheadGoesForward is the toy case of x²/2 with a rate of 0.3 and a momentum of 0.9 from 1: after 60 steps the
// ancestor's recurrence is at about 100, the paper's at about 1e-6.
func lookAheadGoesForward(t *testing.T) {
	local := trainers.EAMSGD{Momentum: 0.9}.Local(1, trainertest.Descent{Rate: 0.3})
	x := []float32{1}
	for range 60 {
		local.Step(x, []float32{x[0]}) // the gradient of x²/2 at the look-ahead point
	}
	if math.Abs(float64(x[0])) > 1e-4 {
		t.Errorf("after 60 steps x is %v", x[0])
	}
}

// hammer lets workers exchange with one server as fast as they can.
func hammer(t *testing.T, rule ps.Rule, params []float32, workers, commits int, delta func(w ps.Worker, k int) []float32,
	got func(w ps.Worker, base uint64, a ps.Ack, reply []float32)) *ps.Server {
	t.Helper()
	core, err := ps.NewCore(params, rule, ps.Options{Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	srv := ps.NewServer(core, nil)
	var all sync.WaitGroup
	for w := range ps.Worker(workers) {
		life, err := srv.Join(w)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			var base uint64
			dst := make([]float32, len(params))
			for k := range commits {
				a, err := srv.Exchange(context.Background(), ps.Commit{Worker: w, Incarnation: life, Seq: uint64(k + 1), Base: base, Steps: 1, Samples: 1,
					Delta: delta(w, k)}, dst)
				if err != nil {
					t.Error(err)
					return
				}
				got(w, base, a, dst)
				base = a.Version
			}
		})
	}
	all.Wait()
	return srv
}

func stalenessIsThatOfTheApply(t *testing.T) {
	const workers, commits = 8, 200
	scales := make([]float64, workers*commits+1) // by version
	var mu sync.Mutex
	srv := hammer(t, trainers.DynSGD{}.Rule(workers), []float32{0}, workers, commits, func(ps.Worker, int) []float32 { return []float32{1} },
		func(_ ps.Worker, base uint64, a ps.Ack, _ []float32) {
			mu.Lock()
			defer mu.Unlock()
			if a.Staleness != a.Version-1-base || scales[a.Version] != 0 {
				t.Errorf("version %d from %d with staleness %d", a.Version, base, a.Staleness)
			}
			scales[a.Version] = 1 / float64(a.Staleness+1)
		})
	var sum float32
	for _, s := range scales {
		sum += float32(s)
	}
	centre := make([]float32, 1)
	if _, err := srv.Centre(centre); err != nil || math.Abs(float64(centre[0]-sum)) > 1e-3*float64(sum) {
		t.Errorf("the centre is %v, the acknowledged scales sum up to %v", centre[0], sum)
	}
}

func elasticPairIsAtomic(t *testing.T) {
	const workers = 8
	x := make([]float32, workers)
	for w := range x {
		x[w] = float32(8 * w)
	}
	var before float32
	for _, v := range x {
		before += v
	}
	srv := hammer(t, trainers.AEASGD{Elastic: trainers.Elastic{Alpha: 0.125}}.Rule(workers), []float32{0}, workers, 200,
		func(w ps.Worker, _ int) []float32 { return []float32{x[w]} },
		func(w ps.Worker, _ uint64, _ ps.Ack, e []float32) { x[w] -= e[0] })
	centre := make([]float32, 1)
	if _, err := srv.Centre(centre); err != nil {
		t.Fatal(err)
	}
	after := centre[0]
	for _, v := range x {
		after += v
	}
	if math.Abs(float64(after-before)) > 1e-3 { // what the centre wins is what the workers lose
		t.Errorf("centre and workers sum up to %v, they started with %v", after, before)
	}
}

func alphaIsSharedByTheWorkers(t *testing.T) {
	for _, n := range []int{2, 20} {
		centre, reply := []float32{0}, []float32{0}
		trainers.AEASGD{}.Rule(n).Apply(centre, nil, []float32{1}, reply, ps.Commit{Peers: n})
		if want := 0.9 / float32(n); centre[0] != want || reply[0] != want {
			t.Errorf("%d workers: alpha is %v, want %v", n, centre[0], want)
		}
	}
	if lint := trainers.Lint(trainers.Config{Algorithm: trainers.AEASGD{Elastic: trainers.Elastic{Rho: 5}}, Workers: 20}); len(lint) != 1 {
		t.Errorf("the ancestor's default at 20 workers: the lint says %q", lint)
	}
}

func windowsAreWhole(t *testing.T) {
	for _, window := range []int{1, 5} {
		feed := problem()
		srv := newScripted(trainers.Downpour{}, feed)
		cfg := worker(trainers.Downpour{}, srv, feed)
		cfg.Window = window
		if _, err := trainers.Work(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		for i, c := range srv.commits {
			if c.Steps != window || !slices.ContainsFunc(c.Delta, func(d float32) bool { return d != 0 }) {
				t.Errorf("window %d: commit %d has %d steps and sends %v", window, i+1, c.Steps, c.Delta)
			}
		}
	}
}

func lastWindowCounts(t *testing.T) {
	eachTrainer(t, func(t *testing.T, name string, cfg trainers.Config, feed *trainertest.Feed) {
		cfg.Window = 13
		if r := train(t, cfg); r.Samples != 3*feed.Rows() {
			t.Errorf("%s: %d samples of %d", name, r.Samples, 3*feed.Rows())
		}
	})
}

func everyRowCounts(t *testing.T) {
	feed, _ := trainertest.Linear(103, inputs, outputs, 3)
	feed.NumShards, feed.BatchSize = 3, 10
	eachTrainer(t, func(t *testing.T, _ string, cfg trainers.Config, _ *trainertest.Feed) {
		cfg.Feed = feed
		if r := train(t, cfg); r.Samples != 3*103 {
			t.Errorf("%d samples, there are 103 rows and 3 epochs", r.Samples)
		}
	})
}

func theEndIsNoTimeout(t *testing.T) {
	eachTrainer(t, func(t *testing.T, _ string, cfg trainers.Config, _ *trainertest.Feed) {
		if r := train(t, cfg); r.Seconds > 9 { // it would be 10 for the first worker alone
			t.Errorf("60 steps of microseconds took %v s", r.Seconds)
		}
	})
}

func everyEpochIsAskedForByNumber(t *testing.T) {
	eachTrainer(t, func(t *testing.T, _ string, cfg trainers.Config, feed *trainertest.Feed) {
		var mu sync.Mutex
		seen := map[pipeline.Cursor]int{}
		feed.Fault = func(_ context.Context, shard int, at pipeline.Cursor) error {
			mu.Lock()
			defer mu.Unlock()
			if at.Row == 0 {
				seen[pipeline.Cursor{Epoch: at.Epoch, Row: int64(shard)}]++
			}
			return nil
		}
		train(t, cfg)
		for epoch := range 3 {
			for shard := range int64(4) {
				if n := seen[pipeline.Cursor{Epoch: epoch, Row: shard}]; n != 1 {
					t.Errorf("shard %d was opened %d times for epoch %d", shard, n, epoch)
				}
			}
		}
	})
}

func errorsOfWorkersAreTheRuns(t *testing.T) {
	eachTrainer(t, func(t *testing.T, _ string, cfg trainers.Config, feed *trainertest.Feed) {
		broken := errors.New("no route to host")
		feed.Fault = func(context.Context, int, pipeline.Cursor) error { return broken }
		if r, err := trainers.Train(t.Context(), cfg); !errors.Is(err, broken) || r.Samples != 0 {
			t.Errorf("%d samples, %v", r.Samples, err)
		}
	})
}

func restartedWorkersCountOnce(t *testing.T) {
	eachTrainer(t, func(t *testing.T, _ string, cfg trainers.Config, feed *trainertest.Feed) {
		broken := errors.New("killed")
		cfg.Window = 3
		var deaths atomic.Int64
		feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
			if at.Row == 12 && deaths.Add(1) < 6 {
				return broken
			}
			return nil
		}
		whole := cfg
		cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
			for {
				if err := once(ctx, whole, srv, w); !errors.Is(err, broken) {
					return err
				}
			}
		}
		if r := train(t, cfg); r.Samples != 3*feed.Rows() || r.Snapshot.Stats.Samples != r.Samples || deaths.Load() < 5 {
			t.Errorf("%d samples after %d deaths, want %d", r.Samples, deaths.Load(), 3*feed.Rows())
		}
	})
}

func everyWorkerIsInTheHistory(t *testing.T) {
	eachTrainer(t, func(t *testing.T, _ string, cfg trainers.Config, _ *trainertest.Feed) {
		r := train(t, cfg)
		var samples int64
		for i, w := range r.Workers {
			samples += w.Samples
			if w.ID != ps.Worker(i) || w.Samples == 0 && cfg.Algorithm.Mode() == ps.Rounds { // without rounds a quick one may do it all
				t.Errorf("worker %d: %+v", i, w)
			}
		}
		if len(r.Workers) != cfg.Workers || samples != r.Samples {
			t.Errorf("%d workers with %d samples of %d", len(r.Workers), samples, r.Samples)
		}
	})
}

func distanceRuleSendsOneVector(t *testing.T) {
	feed := problem()
	a := trainers.DistanceADAG{}
	rule := a.Rule(1)
	based, ok := rule.(ps.BaseRule)
	if !ok || !based.UsesBase() || rule.Slots() != 0 {
		t.Errorf("the rule has %d slots, and the server does not keep the base", rule.Slots())
	}
	local := a.Local(1, trainertest.Descent{Rate: rate})
	delta, x, base := make([]float32, 2), []float32{3, 5}, []float32{1, 1}
	local.Delta(delta, x, base, 2)
	if !slices.Equal(delta, []float32{1, 2}) { // as long as the parameters, and nothing of the base in it
		t.Errorf("it commits %v", delta)
	}
	cfg, _ := runConfig(a, 3)
	cfg.Feed = feed
	if r := train(t, cfg); r.Samples != 3*feed.Rows() {
		t.Errorf("%d samples", r.Samples)
	}
}

func nanStaysOutside(t *testing.T) {
	srv := hammer(t, trainers.Downpour{}.Rule(2), []float32{1}, 2, 10, func(w ps.Worker, k int) []float32 {
		if w == 0 && k%2 == 0 {
			return []float32{float32(math.NaN())}
		}
		return []float32{1}
	}, func(w ps.Worker, _ uint64, a ps.Ack, reply []float32) {
		if reply[0] != reply[0] {
			t.Errorf("worker %d got %v", w, reply)
		}
	})
	centre := make([]float32, 1)
	if _, err := srv.Centre(centre); err != nil || centre[0] != 16 {
		t.Errorf("the centre is %v", centre)
	}
}

// innerStateStaysWithTheWorker: the ancestor stores no optimizer state between calls of train(); here one optimizer lives as long as
// its worker, over all exchanges.
func innerStateStaysWithTheWorker(t *testing.T) {
	cfg, _ := runConfig(trainers.LocalSGD{}, 3)
	var mu sync.Mutex
	var made []optim.Optimizer
	cfg.Optimizer = func(n int) (optim.Optimizer, error) {
		o, err := adam(n)
		mu.Lock()
		defer mu.Unlock()
		if n > 1 {
			made = append(made, o)
		}
		return o, err
	}
	r := train(t, cfg)
	var steps float32
	for _, o := range made {
		steps += o.Slots()[0][0]
	}
	if len(made) != 3 || steps != float32(r.Samples)/6 {
		t.Errorf("%d optimizers took %v steps, the run has %d", len(made), steps, r.Samples/6)
	}
}
