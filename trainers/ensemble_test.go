package trainers_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
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

// told gives the same outputs whatever it is shown.
type told struct {
	*trainertest.Model
	outputs [][]float32
}

func (m told) Predict(_ *pipeline.Batch, out [][]float32) error {
	for k := range out {
		copy(out[k], m.outputs[k])
	}
	return nil
}

func TestHowModelsPredictTogether(t *testing.T) {
	// Two rows of three classes, and one output of one element.
	members := []model.Replica{
		told{outputs: [][]float32{{0.5, 0.25, 0.25, 0.125, 0.125, 0.75}, {0.75, 0.25}}},
		told{outputs: [][]float32{{0.25, 0.5, 0.25, 0.25, 0.5, 0.25}, {0.5, 0.75}}},
		told{outputs: [][]float32{{0.75, 0.25, 0, 0, 0, 1}, {0.25, 1}}},
	}
	third := float32(1) / 3
	for _, c := range []struct {
		how  trainers.Combine
		want [][]float32
	}{
		{trainers.Mean, [][]float32{{1.5 * third, 1 * third, 0.5 * third, 0.375 * third, 0.625 * third, 2 * third}, {1.5 * third, 2 * third}}},
		{"", [][]float32{{1.5 * third, 1 * third, 0.5 * third, 0.375 * third, 0.625 * third, 2 * third}, {1.5 * third, 2 * third}}},
		{trainers.Vote, [][]float32{{2 * third, third, 0, 0, third, 2 * third}, {third, 2 * third}}},
		{trainers.List, [][]float32{{0.5, 0.25, 0.25, 0.125, 0.125, 0.75}, {0.75, 0.25}, {0.25, 0.5, 0.25, 0.25, 0.5, 0.25}, {0.5, 0.75}, {0.75, 0.25, 0, 0, 0, 1}, {0.25, 1}}},
	} {
		both, err := trainers.NewCombined(c.how, members)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time over the remains of the first
			out := make([][]float32, len(c.want))
			for k := range out {
				out[k] = slices.Repeat([]float32{9}, len(c.want[k]))
			}
			if err := both.Predict(&pipeline.Batch{Rows: 2}, out); err != nil {
				t.Fatal(err)
			}
			for k := range out {
				if !slices.Equal(out[k], c.want[k]) {
					t.Errorf("%q, output %d: %v, want %v", c.how, k, out[k], c.want[k])
				}
			}
		}
	}
	if _, err := trainers.NewCombined("median", members); err == nil {
		t.Error("median is taken")
	}
	if _, err := trainers.NewCombined(trainers.Mean, nil); err == nil {
		t.Error("an ensemble of nobody is taken")
	}
	both, _ := trainers.NewCombined(trainers.List, members)
	wantKind(t, both.Predict(&pipeline.Batch{Rows: 2}, make([][]float32, 4)), pipeline.Internal)
	_, err := both.Step(nil)
	wantKind(t, err, pipeline.Unsupported)
}

// digitsEnsemble trains networks on handwritten digits for one epoch each.
func digitsEnsemble(t *testing.T, e trainers.Ensemble) (trainers.EnsembleResult, *trainertest.Feed) {
	t.Helper()
	train, test := digits(t)
	r, err := trainers.TrainEnsemble(t.Context(), e, trainers.Config{Workers: 2, Epochs: 4, Feed: train, Optimizer: adam,
		Replica: func(w ps.Worker) (model.Replica, error) { return member(t, w), nil }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, test
}

func member(t *testing.T, w ps.Worker) *model.Network {
	n := network(t, 32, uint64(w))
	n.Init(uint64(w) + 1)
	return n
}

func accuracyOf(t *testing.T, test pipeline.Feed, replica model.Replica, params []float32) float64 {
	t.Helper()
	e, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: test, Replicas: []model.Replica{replica}, Params: params,
		Loss: "categorical_crossentropy", Metrics: []string{"accuracy"}})
	if err != nil {
		t.Fatal(err)
	}
	accuracy, _ := e.Metrics.Get("accuracy")
	return accuracy
}

func TestAnEnsembleIsBetterThanItsMembers(t *testing.T) {
	for _, data := range []string{"all", "split"} {
		e := algorithm(t, "ensemble", "{members: 4, data: "+data+"}").(trainers.Ensemble)
		r, test := digitsEnsemble(t, e)
		var mean, total float64
		var members []model.Replica
		for m, result := range r.Members {
			n := member(t, ps.Worker(m))
			a := accuracyOf(t, test, n, result.Params)
			mean += a / 4
			members = append(members, n) // Evaluate has put the parameters in
			total += float64(result.Samples)
			if m > 0 && slices.Equal(result.Params, r.Members[0].Params) {
				t.Errorf("member %d is member 0 again", m)
			}
		}
		together := map[trainers.Combine]float64{}
		for _, how := range []trainers.Combine{trainers.Mean, trainers.Vote} {
			both, err := trainers.NewCombined(how, members)
			if err != nil {
				t.Fatal(err)
			}
			together[how] = accuracyOf(t, test, both, nil)
		}
		t.Logf("data %s: members %.4f, together %v", data, mean, together)
		if together[trainers.Mean] < mean || data == "split" && together[trainers.Mean] < mean+0.03 || float64(r.Samples) != total {
			t.Errorf("data %s: members have %.4f on average, together %v; %d samples", data, mean, together, r.Samples)
		}
		want := float64(4 * 4 * 1437)
		if data == "split" {
			want /= 4
		}
		if total != want {
			t.Errorf("data %s: members saw %.0f samples, want %.0f", data, total, want)
		}
	}
}

func TestMembersAreTrainedAsSingleTrains(t *testing.T) {
	train, _ := digits(t)
	e := algorithm(t, "ensemble", "members: 3").(trainers.Ensemble)
	r, _ := digitsEnsemble(t, e)
	for m := range r.Members {
		alone, err := trainers.Train(t.Context(), trainers.Config{Algorithm: trainers.Single{}, Workers: 1, Epochs: 4, Feed: train, Optimizer: adam,
			Replica: func(ps.Worker) (model.Replica, error) { return member(t, ps.Worker(m)), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone.Params, r.Members[m].Params) {
			t.Errorf("member %d differs from a model that was trained alone", m)
		}
	}
}

// roll notes what an observer hears.
type roll struct {
	mu       sync.Mutex
	busy     bool
	progress map[ps.Worker]int64 // steps of each member
	last     trainers.Progress
	epochs   []int
	lost     []ps.Worker
}

func (r *roll) enter() func() {
	r.mu.Lock()
	if r.busy {
		panic("two calls at a time")
	}
	r.busy = true
	r.mu.Unlock()
	return func() { r.mu.Lock(); r.busy = false; r.mu.Unlock() }
}

func (r *roll) Progress(p trainers.Progress) {
	defer r.enter()()
	r.progress[p.Worker] = p.Done.Steps
	r.last = p
}
func (r *roll) EpochDone(e trainers.Epoch, _ []float32) {
	defer r.enter()()
	r.epochs = append(r.epochs, e.Epoch)
}
func (r *roll) WorkerLost(w ps.Worker, _ error) { defer r.enter()(); r.lost = append(r.lost, w) }

func ensembleConfig() (trainers.Ensemble, trainers.Config, *trainertest.Feed) {
	cfg, feed := runConfig(nil, 3)
	cfg.Replica = func(w ps.Worker) (model.Replica, error) {
		return trainertest.NewLinear(inputs, outputs, uint64(w)), nil
	}
	return trainers.Ensemble{Members: 5}, cfg, feed
}

func TestAnObserverHearsAllMembersOneAtATime(t *testing.T) {
	e, cfg, feed := ensembleConfig()
	seen := &roll{progress: map[ps.Worker]int64{}}
	cfg.Observer = seen
	if _, err := trainers.TrainEnsemble(t.Context(), e, cfg, nil); err != nil {
		t.Fatal(err)
	}
	if len(seen.progress) != 5 || !slices.Equal(seen.epochs, []int{1, 2, 3}) {
		t.Errorf("heard of %v and the epochs %v", seen.progress, seen.epochs)
	}
	if all := 5 * 3 * feed.Rows(); seen.last.Samples != all || seen.last.Of != all {
		t.Errorf("heard of %+v in the end, want %d samples", seen.last, all)
	}
}

func TestAMemberThatFailsEndsTheEnsemble(t *testing.T) {
	e, cfg, _ := ensembleConfig()
	broken := errors.New("the disk is on fire")
	_, err := trainers.TrainEnsemble(t.Context(), e, cfg, func(m int, c *trainers.Config) error {
		c.Epochs = 1 << 20
		if m == 1 {
			feed := problem()
			feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
				if at.Epoch == 3 {
					return broken
				}
				return nil
			}
			c.Feed = feed
		}
		return nil
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "member 1") {
		t.Errorf("got %v", err)
	}
}

func TestAnEnsembleThatIsStoppedSaysSo(t *testing.T) {
	e, cfg, _ := ensembleConfig()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.Observer = &canceller{cancel: cancel, after: 2}
	cfg.Epochs = 1 << 20
	r, err := trainers.TrainEnsemble(ctx, e, cfg, nil)
	if err != nil || !r.Interrupted || len(r.Members) != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestImpossibleEnsemblesAreRefused(t *testing.T) {
	for name, change := range map[string]func(*trainers.Ensemble, *trainers.Config){
		"nobody":            func(e *trainers.Ensemble, _ *trainers.Config) { e.Members = 0 },
		"median":            func(e *trainers.Ensemble, _ *trainers.Config) { e.Combine = "median" },
		"half of the data":  func(e *trainers.Ensemble, _ *trainers.Config) { e.Data = "half" },
		"quorum":            func(e *trainers.Ensemble, _ *trainers.Config) { e.Quorum = 2 },
		"no epochs":         func(_ *trainers.Ensemble, c *trainers.Config) { c.Epochs = 0 },
		"no optimizer":      func(_ *trainers.Ensemble, c *trainers.Config) { c.Optimizer = nil },
		"a shard too few":   func(e *trainers.Ensemble, _ *trainers.Config) { e.Data = "split" },
		"all the same":      func(_ *trainers.Ensemble, c *trainers.Config) { c.Replica = same },
		"a bad optimizer":   func(_ *trainers.Ensemble, c *trainers.Config) { c.Optimizer = noOptimizer },
		"window with steps": func(_ *trainers.Ensemble, c *trainers.Config) { c.Window = -1 },
	} {
		e, cfg, _ := ensembleConfig()
		change(&e, &cfg)
		if _, err := trainers.TrainEnsemble(t.Context(), e, cfg, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	cfg, _ := runConfig(trainers.Ensemble{Members: 2}, 2)
	_, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.BadSpec)
}

func same(ps.Worker) (model.Replica, error) { return trainertest.NewLinear(inputs, outputs, 1), nil }

func noOptimizer(int) (optim.Optimizer, error) { return nil, errors.New("no such optimizer") }

// TestMembersShareAValidation: it is called by one goroutine at a time, whichever members measure; and checkpoints are refused.
func TestMembersShareAValidation(t *testing.T) {
	cfg, _ := runConfig(trainers.Single{}, 4)
	cfg.Epochs = 20
	var busy, most, calls atomic.Int32
	cfg.Validation = &trainers.Validation{Evaluate: func(context.Context, []float32) (trainers.Metrics, error) {
		n := busy.Add(1)
		defer busy.Add(-1)
		for range 100 { // the others have their chance
			runtime.Gosched()
		}
		most.Store(max(most.Load(), n))
		calls.Add(1)
		return trainers.Metrics{{Name: "loss", Value: 1}}, nil
	}}
	if _, err := trainers.TrainEnsemble(t.Context(), trainers.Ensemble{Members: 4}, cfg, nil); err != nil {
		t.Fatal(err)
	}
	if most.Load() != 1 || calls.Load() != 4*20 {
		t.Errorf("%d goroutines measured at once, %d times", most.Load(), calls.Load())
	}
	cfg.Checkpoint = &trainers.Checkpointing{}
	_, err := trainers.TrainEnsemble(t.Context(), trainers.Ensemble{Members: 4}, cfg, nil)
	wantKind(t, err, pipeline.BadSpec)
}
