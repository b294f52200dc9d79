package trainers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/optim"
)

// losses gives a validation whose val_loss follows a list, one measurement after the other; the last value stays.
func losses(p *trainers.Plateau, list ...float64) *trainers.Validation {
	i := 0
	return &trainers.Validation{Plateau: p, Evaluate: func(context.Context, []float32) (trainers.Metrics, error) {
		v := list[min(i, len(list)-1)]
		i++
		return trainers.Metrics{{Name: "loss", Value: v}}, nil
	}}
}

// descent is SGD that follows a schedule.
func descent(s optim.Rate) func(int) (optim.Optimizer, error) {
	return func(n int) (optim.Optimizer, error) {
		return optim.New("sgd", func(into any) error {
			into.(*optim.SGD).LearningRate = s
			return nil
		}, n)
	}
}

// ratesOf are the learning rates of a run's epochs.
func ratesOf(r trainers.Result) (rates []float64) {
	for _, e := range r.History {
		rates = append(rates, e.LearningRate)
	}
	return rates
}

const plateauScript = `
def main(args, arrays):
    out = []
    for c in args["cases"]:
        m = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        m.compile(keras.optimizers.SGD(c["rate"]), "mse")
        cb = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=c["factor"], patience=c["patience"], mode=c["mode"],
                                               min_delta=c["min_delta"], cooldown=c["cooldown"], min_lr=c["min_lr"])
        cb.set_model(m)
        cb.on_train_begin()
        rates = []
        for e, v in enumerate(c["values"]):
            logs = {"val_loss": float("nan") if v is None else v}
            cb.on_epoch_end(e, logs)
            rates.append(float(logs["learning_rate"]))
        out.append(rates)
    return {"rates": out}, {}
`

// TestReduceOnPlateauIsThatOfKeras: the same values give the same learning rate in every epoch.
func TestReduceOnPlateauIsThatOfKeras(t *testing.T) {
	o := kerastest.Start(t)
	rng := rand.New(rand.NewPCG(5, 6))
	// Values lie on a grid that min_delta is beside of: Keras compares in float32. A NaN does not come first: for Keras it
	// would be the best value for ever, for us it never is one.
	type job struct {
		Rate     float64    `json:"rate"`
		Factor   float64    `json:"factor"`
		Patience int        `json:"patience"`
		Mode     string     `json:"mode"`
		MinDelta float64    `json:"min_delta"`
		Cooldown int        `json:"cooldown"`
		MinRate  float64    `json:"min_lr"`
		Values   []*float64 `json:"values"` // null: NaN
	}
	var jobs []job
	for i := range 40 {
		j := job{Rate: 0.1, Factor: []float64{0.1, 0.5, 0.7}[rng.IntN(3)], Patience: 1 + rng.IntN(4), Mode: []string{"auto", "min", "max"}[rng.IntN(3)],
			MinDelta: []float64{0, 1e-4, 0.07}[rng.IntN(3)], Cooldown: rng.IntN(4), MinRate: []float64{0, 0.003}[i%2]}
		for range 30 {
			v := math.Round(rng.Float64()*20) / 20
			j.Values = append(j.Values, &v)
			if len(j.Values) > 1 && rng.IntN(12) == 0 {
				j.Values[len(j.Values)-1] = nil
			}
		}
		jobs = append(jobs, j)
	}
	result, _, err := o.Python(plateauScript, map[string]any{"cases": jobs})
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Rates [][]float64 }
	if err := json.Unmarshal(result, &want); err != nil {
		t.Fatal(err)
	}
	reduced := 0
	for i, j := range jobs {
		var values []float64
		for _, v := range j.Values {
			if v == nil {
				values = append(values, math.NaN())
			} else {
				values = append(values, *v)
			}
		}
		cfg, _ := runConfig(trainers.Single{}, 1)
		cfg.Epochs, cfg.Optimizer = len(values), descent(optim.Constant(j.Rate))
		cfg.Validation = losses(&trainers.Plateau{Factor: j.Factor, Patience: j.Patience, Mode: j.Mode, MinDelta: j.MinDelta, Cooldown: j.Cooldown,
			MinRate: j.MinRate, Initial: j.Rate}, values...)
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := ratesOf(r)
		for e, w := range want.Rates[i] {
			if math.Abs(got[e]-w) > 1e-5*w {
				t.Errorf("%+v: epoch %d has the rate %g, in Keras %g", j, e+1, got[e], w)
				break
			}
		}
		if got[len(got)-1] < j.Rate {
			reduced++
		}
	}
	if reduced < 20 {
		t.Errorf("only %d of %d runs reduced their rate: the test shows little", reduced, len(jobs))
	}
}

// TestAReducedRateHoldsFromTheNextEpochsFirstStep: where runs repeat themselves, one whose rate was reduced is bit for bit
// the one with a schedule that does so at that step, whatever the number of servers, and whatever the time that measuring
// takes.
func TestAReducedRateHoldsFromTheNextEpochsFirstStep(t *testing.T) {
	for name, workers := range map[string]int{"single": 1, "agn": 1, "local_sgd": 2, "averaging": 2, "diloco": 2, "sync_sgd": 2} {
		cfg, _ := runConfig(algorithm(t, name, ""), workers)
		cfg.Epochs, cfg.Window = 5, 0
		steps := float64(20 / workers * 2) // of a worker in two epochs; of the server likewise
		cfg.Optimizer = descent(optim.Scheduled(optim.PiecewiseConstantDecay{Boundaries: []float64{steps - 1, 2*steps - 1}, Values: []float64{rate, rate / 2, rate / 4}}))
		want := train(t, cfg)
		cfg.Optimizer = descent(optim.Constant(rate))
		fixed := train(t, cfg)
		for _, servers := range []int{0, 1, 3} {
			// Epoch 1 is the best; 2 is not better, so the rate is halved, and again after 4.
			cfg.Validation = losses(&trainers.Plateau{Factor: 0.5, Patience: 1, Cooldown: 2, Initial: rate}, 1)
			cfg.Launch = nil
			if servers > 0 {
				cfg.Launch = manyServers(t, cfg, servers)
			}
			r := train(t, cfg)
			if got := ratesOf(r); !slices.Equal(got, []float64{rate, rate, rate / 2, rate / 2, rate / 4}) {
				t.Errorf("%s: epochs have the rates %v", name, got)
			}
			if !slices.Equal(r.Params, want.Params) || slices.Equal(r.Params, fixed.Params) {
				t.Errorf("%s on %d servers ends at %v, with a schedule at %v, with a fixed rate at %v", name, servers, r.Params, want.Params, fixed.Params)
			}
		}
	}
}

// TestARunWithAPlateauIsReplayedBitForBit, also an asynchronous one, which hears of the new rate at any moment.
func TestARunWithAPlateauIsReplayedBitForBit(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		workers      int
	}{{"single", "", 1}, {"agn", "window: 2", 3}, {"agn", "{window: 2, overlap: true}", 2}, {"aeasgd", "window: 3", 2}, {"local_sgd", "window: 2", 2}, {"sync_sgd", "", 2}} {
		cfg, _ := runConfig(algorithm(t, c.name, c.fields), c.workers)
		cfg.Epochs, cfg.Optimizer = 60, descent(optim.Constant(rate))
		cfg.Validation = losses(&trainers.Plateau{Factor: 0.8, Patience: 2, Initial: rate}, 1)
		var log bytes.Buffer
		cfg.OrderLog = &log
		r := train(t, cfg)
		if rates := ratesOf(r); rates[len(rates)-1] >= rate {
			t.Fatalf("%s: the rate was not reduced: %v", c.name, rates)
		}
		replayed(t, cfg, r, log.Bytes())
		var other bytes.Buffer
		other.Write(log.Bytes())
		cfg.Optimizer = descent(optim.Constant(rate / 2))
		if _, err := trainers.Replay(t.Context(), cfg, &other); kindOf(err) != pipeline.Changed {
			t.Errorf("%s: a replay at another rate: %v", c.name, err)
		}
	}
}

func kindOf(err error) pipeline.Kind {
	if k, ok := err.(interface{ ErrorKind() string }); ok {
		return pipeline.Kind(k.ErrorKind())
	}
	return ""
}

// TestAReducedRateSurvivesAResume: a run that was interrupted, in mid-epoch too, and went on ends as the one that was not.
func TestAReducedRateSurvivesAResume(t *testing.T) {
	plateau := func() *trainers.Plateau {
		return &trainers.Plateau{Factor: 0.5, Patience: 2, Cooldown: 1, MinRate: rate / 8, Initial: rate}
	}
	config := func() trainers.Config {
		cfg, _ := runConfig(trainers.Single{}, 1)
		cfg.Epochs, cfg.Window, cfg.Optimizer = 12, 3, descent(optim.Constant(rate))
		cfg.Validation = losses(plateau(), 1)
		return cfg
	}
	whole := train(t, config())
	for _, after := range []int{1, 30, 40, 52, 70} { // commits
		cfg := config()
		k := &kept{}
		c := &canceller{after: int64(after)}
		ctx, cancel := context.WithCancel(t.Context())
		c.ctx, c.cancel, cfg.Observer = ctx, cancel, c
		cfg.Checkpoint = &trainers.Checkpointing{Save: k.save}
		if r, err := trainers.Train(ctx, cfg); err != nil || !r.Interrupted || k.past == nil || k.past.Plateau == nil {
			t.Fatalf("after %d: %v, %+v, %+v", after, err, r.Ended, k.past)
		}
		again := config()
		again.From, again.Past = k.s, k.past
		r := train(t, again)
		if !slices.Equal(ratesOf(r), ratesOf(whole)) {
			t.Errorf("after %d commits: rates %v, undisturbed %v", after, ratesOf(r), ratesOf(whole))
		}
		if !slices.Equal(r.Params, whole.Params) {
			t.Errorf("after %d commits: ends at %v, undisturbed at %v", after, r.Params, whole.Params)
		}
		cancel()
	}
}

// hears is an observer of learning rates.
type hears struct {
	roll
	texts []string
}

func (h *hears) Paced(epoch int, rate float64, text string) {
	h.texts = append(h.texts, fmt.Sprintf("%d %g %s", epoch, rate, text))
}

func TestTheLossOfTrainingIsWatchedWithoutValidation(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Epochs, cfg.Window, cfg.Optimizer = 20, 2, descent(optim.Constant(1e-9)) // nothing is learned
	cfg.Validation = &trainers.Validation{Plateau: &trainers.Plateau{Monitor: "loss", Factor: 0.1, Patience: 3, MinDelta: 1e-4, Initial: 1e-9},
		Evaluate: func(context.Context, []float32) (trainers.Metrics, error) { return trainers.Metrics{}, nil }}
	h := &hears{roll: roll{progress: map[ps.Worker]int64{}}}
	cfg.Observer = h
	r := train(t, cfg)
	if rates := ratesOf(r); len(h.texts) == 0 || !strings.Contains(h.texts[0], "loss got no better in 3 measurements up to epoch") || rates[19] >= 1e-9 {
		t.Errorf("heard %v, the last rate is %g", h.texts, r.History[19].LearningRate)
	}
}

func TestImpossiblePlateausAreRefused(t *testing.T) {
	for message, p := range map[string]trainers.Plateau{
		"reduce_on_plateau.factor is 1":             {Factor: 1, Patience: 1, Initial: 1},
		"reduce_on_plateau has patience 0":          {Factor: 0.5, Initial: 1},
		`reduce_on_plateau.monitor is "val_los"`:    {Monitor: "val_los", Factor: 0.5, Patience: 1, Initial: 1},
		"starts from the learning rate 0":           {Factor: 0.5, Patience: 1},
		"cooldown -1":                               {Factor: 0.5, Patience: 1, Cooldown: -1, Initial: 1},
		`reduce_on_plateau.monitor is "confusion_m`: {Monitor: "confusion_matrix", Factor: 0.5, Patience: 1, Initial: 1},
	} {
		err := (&trainers.Validation{Plateau: &p}).Check([]string{"accuracy"})
		wantKind(t, err, pipeline.BadSpec)
		if !strings.Contains(err.Error(), message) {
			t.Errorf("got %v, want %s", err, message)
		}
	}
	cfg, _ := runConfig(trainers.Single{}, 1) // trainertest.Descent has no Scale
	cfg.Epochs = 5
	cfg.Validation = losses(&trainers.Plateau{Factor: 0.5, Patience: 1, Initial: rate}, 1)
	_, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.Unsupported)
}
