package trainers_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
)

// hearing is an observer of commits and epochs.
type hearing struct {
	progress func(trainers.Progress)
	epoch    func(e trainers.Epoch, centre []float32)
}

func (h hearing) Progress(p trainers.Progress) {
	if h.progress != nil {
		h.progress(p)
	}
}

func (h hearing) EpochDone(e trainers.Epoch, centre []float32) {
	if h.epoch != nil {
		h.epoch(e, centre)
	}
}

func (hearing) WorkerLost(ps.Worker, error) {}

// TestMaxStepsIsExact: a run ends with the round that reaches the limit, bit for bit at the same centre; one without rounds at
// most one window a worker later. A checkpoint that takes its time changes nothing.
func TestMaxStepsIsExact(t *testing.T) {
	const limit, window = 100, 5
	limited := func(a trainers.Algorithm, workers int) trainers.Result {
		cfg, _ := runConfig(a, workers)
		cfg.Epochs, cfg.Window, cfg.Limits = 100_000, window, trainers.Limits{Steps: limit}
		reached := make(chan struct{})
		once := sync.OnceFunc(func() { close(reached) })
		cfg.Observer = hearing{progress: func(p trainers.Progress) {
			if p.Steps >= limit {
				once()
			}
		}}
		cfg.Checkpoint = &trainers.Checkpointing{EverySteps: 30, Save: func(context.Context, *ps.Snapshot, *trainers.Past) { <-reached }}
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil || r.Interrupted || r.Ended.Reason != trainers.EndSteps {
			t.Fatalf("%v, %+v", err, r.Ended)
		}
		return r
	}
	var first []float32
	for range 5 {
		r := limited(trainers.LocalSGD{}, 2)
		if r.Snapshot.Stats.Steps != limit {
			t.Fatalf("%d steps were done in rounds, want %d", r.Snapshot.Stats.Steps, limit)
		}
		if first == nil {
			first = r.Params
		}
		if !slices.Equal(first, r.Params) {
			t.Fatal("the same limit gave another centre")
		}
		if s := limited(trainers.AGN{}, 3).Snapshot.Stats.Steps; s < limit || s >= limit+3*window {
			t.Fatalf("%d steps were done by three workers with a window of %d", s, window)
		}
	}
}

// TestARunThatReachesItsLimitWithItsLastRowIsComplete.
func TestARunThatReachesItsLimitWithItsLastRowIsComplete(t *testing.T) {
	cfg, _ := runConfig(trainers.LocalSGD{}, 2)
	whole, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Limits.Steps = whole.Snapshot.Stats.Steps
	cfg.Validation = scores(0.5)
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil || r.Ended.Reason != trainers.EndComplete || r.History[cfg.Epochs-1].Validation == nil {
		t.Errorf("%v, %+v, validation %v", err, r.Ended, r.History[cfg.Epochs-1].Validation)
	}
}

// TestEarlyStoppingEndsAtTheCentreThatWasMeasured, also without restore_best: where the workers were by the time that it was
// measured is up to chance.
func TestEarlyStoppingEndsAtTheCentreThatWasMeasured(t *testing.T) {
	cfg, _ := runConfig(trainers.LocalSGD{}, 2)
	cfg.Epochs = 10_000
	centres := map[int][]float32{}
	var mu sync.Mutex
	further := make(chan struct{})
	once := sync.OnceFunc(func() { close(further) })
	cfg.Observer = hearing{epoch: func(e trainers.Epoch, centre []float32) {
		mu.Lock()
		defer mu.Unlock()
		if centres[e.Epoch] = slices.Clone(centre); e.Epoch == 20 {
			once()
		}
	}}
	cfg.Validation = scores(0.5, 0.4, 0.3)
	measure := cfg.Validation.Evaluate
	cfg.Validation.Evaluate = func(ctx context.Context, centre []float32) (trainers.Metrics, error) {
		<-further
		return measure(ctx, centre)
	}
	cfg.Validation.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_accuracy", Patience: 2}
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil || r.Ended.Reason != trainers.EndEarlyStopping || r.Ended.Epoch != 3 {
		t.Fatalf("%v, %+v", err, r.Ended)
	}
	if !slices.Equal(r.Params, centres[3]) || slices.Equal(r.Params, r.Snapshot.Centre) {
		t.Error("the result is not the centre of epoch 3")
	}
}

// TestCentresThatWaitAreMeasuredAfterAResume: a checkpoint has them, and what was decided until then.
func TestCentresThatWaitAreMeasuredAfterAResume(t *testing.T) {
	k := &kept{}
	cfg, _ := runConfig(trainers.LocalSGD{}, 2)
	cfg.Epochs = 6
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.Checkpoint = &trainers.Checkpointing{EverySteps: 1 << 40, Save: k.save} // only when the run is interrupted
	first := true
	cfg.Validation = &trainers.Validation{Evaluate: func(ctx context.Context, _ []float32) (trainers.Metrics, error) {
		if !first {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		first = false
		return trainers.Metrics{{Name: "loss", Value: 1}}, nil
	}}
	cfg.Validation.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_loss", Patience: 100}
	centres := map[int][]float32{}
	cfg.Observer = hearing{epoch: func(e trainers.Epoch, centre []float32) {
		if centres[e.Epoch] = slices.Clone(centre); e.Epoch == 3 {
			cancel()
		}
	}}
	if r, err := trainers.Train(ctx, cfg); err != nil || !r.Interrupted {
		t.Fatalf("%v, %+v", err, r.Ended)
	}
	cfg.From, cfg.Past, cfg.Observer, cfg.Checkpoint = k.s, k.past, nil, nil
	var measured [][]float32
	cfg.Validation.Evaluate = func(_ context.Context, centre []float32) (trainers.Metrics, error) {
		measured = append(measured, slices.Clone(centre))
		return trainers.Metrics{{Name: "loss", Value: 2}}, nil
	}
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range r.History {
		if e.Validation == nil {
			t.Errorf("epoch %d was not measured", i+1)
		}
	}
	if len(measured) < 2 || !slices.Equal(measured[len(measured)-5], centres[2]) || !slices.Equal(measured[len(measured)-4], centres[3]) {
		t.Errorf("%d centres were measured after the resume, not those of epochs 2 and 3 first", len(measured))
	}
}

// TestWhatWorkersHearOfAFailedRun: a worker that calls the server after another one ended the run gets that one's error, with its
// kind and its hint.
func TestWhatWorkersHearOfAFailedRun(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	heard := make(chan error, 1)
	cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		if w == 0 {
			return &pipeline.Error{Kind: pipeline.Changed, Message: "shard 3 is not what it was", Hint: "prepare it again"}
		}
		<-ctx.Done()
		_, err := srv.Join(w)
		heard <- err
		return err
	}
	_, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.Changed)
	got := <-heard
	wantKind(t, got, pipeline.Changed)
	var h interface{ ErrorHint() string }
	if !errors.As(got, &h) || h.ErrorHint() != "prepare it again" || got.Error() != "the run was aborted: shard 3 is not what it was" {
		t.Errorf("the worker heard %q", got)
	}
}

// TestACheckpointIsOfOneMoment: what it tells of an epoch does not change as the epoch goes on.
func TestACheckpointIsOfOneMoment(t *testing.T) {
	cfg, feed := runConfig(trainers.AGN{}, 1)
	cfg.Window = 1
	kept := make(chan struct{})
	once := sync.OnceFunc(func() { close(kept) })
	batches := 0
	feed.Fault = func(ctx context.Context, _ int, _ pipeline.Cursor) error {
		if batches++; batches == 4 { // the epoch is under way, and something was committed
			select {
			case <-kept:
			case <-ctx.Done():
			}
		}
		return nil
	}
	encode := func(p *trainers.Past) string {
		text, err := json.Marshal(p)
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	var past []*trainers.Past
	var then []string
	cfg.Checkpoint = &trainers.Checkpointing{EverySteps: 1, Save: func(_ context.Context, _ *ps.Snapshot, p *trainers.Past) {
		past, then = append(past, p), append(then, encode(p))
		once()
	}}
	if _, err := trainers.Train(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for i, p := range past {
		if now := encode(p); now != then[i] {
			t.Errorf("checkpoint %d was\n%s\nand became\n%s", i, then[i], now)
		}
	}
	if first := past[0].Epochs; len(first) != 1 || !first[0].Partial || first[0].Workers[0].Commits == 0 {
		t.Errorf("the first is of %+v", first)
	}
}
