package trainers_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/trainertest"
)

// scores gives a validation whose val_accuracy follows a list, one measurement after the other; the last value stays.
func scores(list ...float64) *trainers.Validation {
	i := 0
	return &trainers.Validation{Evaluate: func(_ context.Context, centre []float32) (trainers.Metrics, error) {
		v := list[min(i, len(list)-1)]
		i++
		return trainers.Metrics{{Name: "loss", Value: 1 - v}, {Name: "accuracy", Value: v}}, nil
	}}
}

func TestEarlyStoppingEndsARunThatGetsNoBetter(t *testing.T) {
	for _, workers := range []int{1, 2} {
		cfg, _ := runConfig(trainers.LocalSGD{}, workers)
		cfg.Epochs = 10_000
		v := scores(0.5, 0.6, 0.7, 0.7005, 0.69, 0.65)
		v.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_accuracy", Patience: 3, MinDelta: 0.001}
		cfg.Validation = v
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil || r.Interrupted || r.Ended.Reason != trainers.EndEarlyStopping || len(r.Lost) > 0 {
			t.Fatalf("%d workers: %v, interrupted %v, %+v, lost %v", workers, err, r.Interrupted, r.Ended, r.Lost)
		}
		if !strings.Contains(r.Ended.Text, "0.7 in 3 measurements up to epoch 6") || r.Ended.Epoch != 6 {
			t.Errorf("got %+v", r.Ended)
		}
		if r.Snapshot.Epoch >= cfg.Epochs || r.Snapshot.Epoch < 6 {
			t.Errorf("the run ended after %d epochs", r.Snapshot.Epoch)
		}
		if got, _ := r.History[2].Validation.Get("accuracy"); got != 0.7 {
			t.Errorf("epoch 3 has %v", r.History[2].Validation)
		}
	}
}

// TestTheBestCentreIsTheResult: the parameters of the best measured epoch come out bit for bit, and those of a run in
// rounds do not depend on how long measuring takes.
func TestTheBestCentreIsTheResult(t *testing.T) {
	var results [][]float32
	for range 2 {
		cfg, _ := runConfig(trainers.LocalSGD{}, 2)
		cfg.Epochs = 300
		var seen [][]float32
		v := scores(0.5, 0.9, 0.8, 0.7)
		inner := v.Evaluate
		v.Evaluate = func(ctx context.Context, centre []float32) (trainers.Metrics, error) {
			seen = append(seen, slices.Clone(centre))
			return inner(ctx, centre)
		}
		v.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_loss", Patience: 2, RestoreBest: true}
		cfg.Validation = v
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil || r.Ended.Reason != trainers.EndEarlyStopping || r.Ended.Epoch != 2 {
			t.Fatalf("%v, %+v", err, r.Ended)
		}
		if !slices.Equal(r.Params, seen[1]) || len(seen) != 4 {
			t.Fatalf("%d measured, result %v, epoch 2 had %v", len(seen), r.Params, seen[1])
		}
		results = append(results, r.Params)
	}
	if !slices.Equal(results[0], results[1]) {
		t.Errorf("two runs gave %v and %v", results[0], results[1])
	}
}

func TestTheBestCentreIsTheResultOfACompleteRun(t *testing.T) {
	cfg, _ := runConfig(trainers.LocalSGD{}, 2)
	cfg.Window = 1 // many commits follow the first epoch
	v := scores(0.9, 0.5)
	v.EarlyStopping = &trainers.EarlyStopping{Patience: 9, RestoreBest: true}
	cfg.Validation = v
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil || r.Ended.Reason != trainers.EndComplete || r.Ended.Epoch != 1 || slices.Equal(r.Params, r.Snapshot.Centre) {
		t.Fatalf("%v, %+v", err, r.Ended)
	}
}

// TestTheBestCentreIsTheOneThatWasMeasured, of any trainer, whatever else is measured afterwards and however many centres
// wait: the bits that the validation of that epoch saw. Of an asynchronous run several epochs may end with one commit, as
// when one worker brings the last rows of epoch 1 after the other has done epoch 2: then they have the same centre.
func TestTheBestCentreIsTheOneThatWasMeasured(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		name := []string{"agn", "downpour", "aeasgd", "local_sgd", "single"}[i%5]
		workers := 2
		if name == "single" {
			workers = 1
		}
		cfg, _ := runConfig(algorithm(t, name, ""), workers)
		cfg.Epochs, cfg.Window = 12, 1+rng.IntN(3)
		var list []float64
		for range cfg.Epochs {
			list = append(list, math.Round(rng.Float64()*8)/8)
		}
		v := scores(list...)
		inner := v.Evaluate
		var seen [][]float32
		v.Evaluate = func(ctx context.Context, centre []float32) (trainers.Metrics, error) {
			seen = append(seen, slices.Clone(centre))
			for range rng.IntN(50) { // so that others wait
				runtime.Gosched()
			}
			return inner(ctx, centre)
		}
		least := 0.99 // sometimes a target ends the run, too
		v.Target = &trainers.Target{Metric: "val_accuracy", AtLeast: &least}
		v.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_accuracy", Patience: 2 + rng.IntN(20), RestoreBest: true}
		cfg.Validation = v
		r := train(t, cfg)
		best := 1 // the first of the greatest, up to the last that counted
		for e := range min(len(seen), len(list)) {
			if list[e] > list[best-1] {
				best = e + 1
			}
		}
		if r.Ended.Epoch != best || !slices.Equal(r.Params, seen[best-1]) {
			t.Errorf("%s: %+v, measured were %v; the result is epoch %d's: %v", name, r.Ended, list[:len(seen)], best, slices.Equal(r.Params, seen[best-1]))
		}
	}
}

func TestATargetEndsARun(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Epochs = 10_000
	v := scores(0.5, 0.6, math.NaN(), 0.96, 0.1)
	least := 0.95
	v.Target = &trainers.Target{Metric: "val_accuracy", AtLeast: &least}
	cfg.Validation = v
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil || r.Interrupted || r.Ended.Reason != trainers.EndTarget || r.Ended.Epoch != 4 {
		t.Fatalf("%v, %+v", err, r.Ended)
	}
}

func TestValidationGoesEveryFewEpochsAndAtTheEnd(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Epochs = 7
	cfg.Validation = scores(0.5)
	cfg.Validation.Every = 3
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var measured []int
	for _, e := range r.History {
		if e.Validation != nil {
			measured = append(measured, e.Epoch)
		}
	}
	if !slices.Equal(measured, []int{3, 6, 7}) {
		t.Errorf("measured were %v", measured)
	}
}

func TestAValidationThatFailsEndsTheRunWithItsError(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Epochs = 10_000
	cfg.Validation = &trainers.Validation{Evaluate: func(context.Context, []float32) (trainers.Metrics, error) {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: "shard 3"}
	}}
	r, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.Corrupt)
	if r.Ended.Reason != trainers.EndFailed || !strings.Contains(err.Error(), "validation of epoch") {
		t.Errorf("%v, %+v", err, r.Ended)
	}
}

func TestLimitsEndARun(t *testing.T) {
	for name, limits := range map[string]trainers.Limits{
		trainers.EndSteps:   {Steps: 1000},
		trainers.EndSeconds: {Time: time.Millisecond},
	} {
		cfg, _ := runConfig(trainers.LocalSGD{}, 2)
		cfg.Epochs, cfg.Limits, cfg.Window = 1_000_000, limits, 5
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil || r.Interrupted || r.Ended.Reason != name {
			t.Fatalf("%s: %v, %+v", name, err, r.Ended)
		}
		var steps int64
		for _, w := range r.Workers {
			steps += w.Steps
		}
		if name == trainers.EndSteps && steps < 1000 {
			t.Errorf("%d steps were done", steps)
		}
	}
}

func TestWhatCannotBeWatchedIsRefusedByName(t *testing.T) {
	least := 0.9
	for message, v := range map[string]*trainers.Validation{
		`early_stopping.monitor is "val_acuracy"`: {EarlyStopping: &trainers.EarlyStopping{Monitor: "val_acuracy", Patience: 1}},
		"early_stopping has patience 0":           {EarlyStopping: &trainers.EarlyStopping{}},
		`target.metric is "accuracy"`:             {Target: &trainers.Target{Metric: "accuracy", AtLeast: &least}},
		"target has no value":                     {Target: &trainers.Target{Metric: "val_accuracy"}},
		"validate.every is -1":                    {Every: -1},
	} {
		err := v.Check([]string{"accuracy"})
		wantKind(t, err, pipeline.BadSpec)
		if !strings.Contains(err.Error(), message) {
			t.Errorf("got %v, want %s", err, message)
		}
	}
	good := trainers.Validation{EarlyStopping: &trainers.EarlyStopping{Monitor: "val_accuracy_2", Patience: 1}, Target: &trainers.Target{Metric: "loss", AtMost: &least}}
	if err := good.Check([]string{"accuracy"}); err != nil {
		t.Error(err)
	}
}

func TestLessIsBetter(t *testing.T) {
	for name, want := range map[string]bool{"val_loss": true, "loss": true, "loss_2": true, "val_mse": true, "rmse_2": true, "mean_absolute_error": true,
		"val_accuracy": false, "auc": false, "r2_score": false, "val_top_3_categorical_accuracy": false, "cosine_similarity": false, "f1_macro": false} {
		if trainers.LessIsBetter(name) != want {
			t.Errorf("%s: got %v", name, !want)
		}
	}
}

// kept is where checkpoints go in tests.
type kept struct {
	mu   sync.Mutex
	s    *ps.Snapshot
	past *trainers.Past
	n    int
}

func (k *kept) save(_ context.Context, s *ps.Snapshot, p *trainers.Past) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.s, k.past = s, p
	k.n++
}

// TestARunGoesOnFromACheckpoint: a coordinator is lost at some moment; from the last checkpoint on, with another number of
// workers, every row is worked once an epoch with respect to what the checkpoint acknowledges, and the history has no gap.
func TestARunGoesOnFromACheckpoint(t *testing.T) {
	for _, workers := range []int{1, 3} {
		k := &kept{}
		cfg, feed := runConfig(trainers.AGN{}, 2)
		cfg.Epochs, cfg.Window = 1000, 1
		cfg.Checkpoint = &trainers.Checkpointing{EverySteps: 7, Save: k.save}
		cfg.Validation = scores(0.5, 0.6, 0.4)
		cfg.Validation.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_accuracy", Patience: 1000, RestoreBest: true}
		ctx, cancel := context.WithCancel(t.Context())
		cfg.Observer = stopper{at: 20, stop: cancel}
		if r, err := trainers.Train(ctx, cfg); err != nil || !r.Interrupted || r.Ended.Reason != trainers.EndInterrupted {
			t.Fatalf("%v, %+v", err, r.Ended)
		}
		if k.n == 0 {
			t.Fatal("no checkpoint was kept")
		}
		acknowledged := k.s.Stats.Samples
		again := cfg
		again.Workers, again.Observer, again.Checkpoint, again.From, again.Past = workers, nil, nil, k.s, k.past
		again.Validation = scores(0.3)
		again.Validation.EarlyStopping = cfg.Validation.EarlyStopping
		r, err := trainers.Train(t.Context(), again)
		if err != nil || r.Interrupted {
			t.Fatal(err)
		}
		total := feed.Rows() * int64(cfg.Epochs)
		var fresh int64
		for _, w := range r.Workers {
			fresh += w.Samples
		}
		if r.Samples != total || acknowledged+fresh != total {
			t.Errorf("%d samples of %d: %d before, %d after", r.Samples, total, acknowledged, fresh)
		}
		for i, e := range r.History {
			if e.Epoch != i+1 || e.Partial || e.Samples != feed.Rows() {
				t.Fatalf("line %d of the history is %+v", i, e)
			}
		}
		if len(r.History) != cfg.Epochs {
			t.Errorf("%d epochs in the history", len(r.History))
		}
		if k.past.BestEpoch == 2 && (r.Ended.Epoch != 2 || !slices.Equal(r.Params, k.past.BestCentre)) {
			t.Errorf("the best centre of before was lost: %+v", r.Ended)
		}
	}
}

// stopper stops a run after an epoch.
type stopper struct {
	at   int
	stop func()
}

func (s stopper) Progress(trainers.Progress) {}
func (s stopper) EpochDone(e trainers.Epoch, _ []float32) {
	if e.Epoch == s.at {
		s.stop()
	}
}
func (s stopper) WorkerLost(ps.Worker, error) {}

func TestTheStateOfTheBestCentreIsItsOwn(t *testing.T) {
	cfg, _ := runConfig(trainers.Single{}, 1)
	cfg.Replica = func(ps.Worker) (model.Replica, error) {
		return &still{trainertest.NewLinear(inputs, outputs, 1), make([]float32, 2)}, nil
	}
	cfg.Validation = scores(0.9, 0.1)
	cfg.Validation.EarlyStopping = &trainers.EarlyStopping{Patience: 100, RestoreBest: true}
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil || r.Ended.Epoch != 1 || r.State[1] != r.Params[0] || slices.Equal(r.Params, r.Snapshot.Centre) {
		t.Fatalf("%v, %+v, state %v", err, r.Ended, r.State)
	}
}

// TestTheStateOfAResumedRunIsThatOfItsCentre: a checkpoint does not hold what a worker's model has besides parameters, so a
// worker that goes on from one begins with none, also when it is the only one.
func TestTheStateOfAResumedRunIsThatOfItsCentre(t *testing.T) {
	config := func() trainers.Config {
		cfg, _ := runConfig(trainers.Single{}, 1)
		cfg.Window = 2
		cfg.Replica = func(ps.Worker) (model.Replica, error) {
			return &still{trainertest.NewLinear(inputs, outputs, 1), make([]float32, 2)}, nil
		}
		return cfg
	}
	cfg, k := config(), &kept{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.Observer, cfg.Checkpoint = &canceller{ctx: ctx, cancel: cancel, after: 8}, &trainers.Checkpointing{Save: k.save}
	if r, err := trainers.Train(ctx, cfg); err != nil || !r.Interrupted || k.s == nil {
		t.Fatalf("%v, %+v", err, r.Ended)
	}
	again := config()
	again.From, again.Past = k.s, k.past
	if r := train(t, again); r.State[1] != r.Params[0] {
		t.Errorf("state %v of the parameters %v", r.State, r.Params)
	}
}

func TestHistoryTellsWhatEachWorkerDid(t *testing.T) {
	cfg, feed := runConfig(trainers.AGN{}, 2)
	cfg.Window = 2
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.History {
		var samples, commits, steps int64
		var all trainers.Staleness
		for _, w := range e.Workers {
			samples, commits, steps = samples+w.Samples, commits+w.Commits, steps+w.Steps
			all.Merge(w.Staleness)
		}
		if commits != e.Commits || steps != e.Steps || !slices.Equal(all, e.Staleness) {
			t.Errorf("workers %d commits %d steps %v, epoch %+v", commits, steps, all, e)
		}
		if e.Samples != feed.Rows() || e.ExchangedMiB != float64(e.Commits)*8*4/(1<<20) && e.ExchangedMiB != float64(e.Commits)*8*3/(1<<20) {
			t.Errorf("epoch %d: %d samples, %g MiB", e.Epoch, e.Samples, e.ExchangedMiB)
		}
	}
}

// TestHistoryTellsWhereTimeWent: what a worker waited and computed, by epoch, adds up to what it says at the end, with exchanges
// beside computing as well. What overlap makes of the share of waiting is measured in TestOverlapHidesTheExchange.
func TestHistoryTellsWhereTimeWent(t *testing.T) {
	for _, fields := range []string{"window: 2", "{window: 2, overlap: true}"} {
		cfg, _ := runConfig(algorithm(t, "agn", fields), 3)
		r := train(t, cfg)
		waited, computed := map[ps.Worker]float64{}, map[ps.Worker]float64{}
		for _, e := range r.History {
			for _, w := range e.Workers {
				waited[w.ID] += w.WaitS
				computed[w.ID] += w.ComputeS
			}
		}
		for _, w := range r.Workers {
			if math.Abs(waited[w.ID]-w.WaitS) > 1e-9 || math.Abs(computed[w.ID]-w.ComputeS) > 1e-9 || w.Commits > 0 && (w.WaitS <= 0 || w.ComputeS <= 0) {
				t.Errorf("%s: worker %d waited %v s and computed %v s by the history, %v and %v in all", fields, w.ID, waited[w.ID], computed[w.ID], w.WaitS, w.ComputeS)
			}
		}
	}
}
