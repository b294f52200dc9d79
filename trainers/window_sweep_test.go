package trainers_test

import (
	"math"
	"slices"
	"testing"

	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

const windowSeeds = 5

// windows are those of distributed Keras' sweep with 20 workers and batches of 4.
func windows() []int { return []int{5, 10, 15, 20, 30, 40, 50} }

// sweepDigits does as many steps as distributed Keras did on MNIST, 30,000 of 4 rows, on the handwritten digits of the
// quickstart: 64-256-10, adam at its default rate, 20 workers in virtual time.
func sweepDigits(t testing.TB, train, test *trainertest.Feed, r *trained) {
	t.Helper()
	feed := *train
	feed.Seed, feed.NumShards, feed.BatchSize = r.Seed, 40, 4
	replica := func() *model.Network {
		n := network(t, 256, 1)
		n.Init(r.Seed)
		return n
	}
	result, err := trainers.Simulate(t.Context(), trainers.SimConfig{Latency: 1, Service: 0.05, Config: trainers.Config{
		Algorithm: algorithm(t, r.Trainer, r.Fields), Workers: r.Workers, Window: r.Window, Epochs: 84, Feed: &feed,
		Optimizer: func(n int) (optim.Optimizer, error) { return optim.New("adam", nil, n) },
		Replica:   func(ps.Worker) (model.Replica, error) { return replica(), nil }}})
	r.Seconds, r.Samples = math.Round(result.Seconds), result.Stats.Samples
	if diverged(t, err) {
		return
	}
	loss := 0.0
	r.Accuracy, loss = measure(t, test, result.Params, replica())
	r.Loss = number(loss)
}

// TestWindowsOfTwentyWorkers has the shape of distributed Keras' sweep of windows: AGN gets worse slowly with the window,
// DOWNPOUR is good at 5 and lost from 20 on, and elastic averaging, which was lost below 30 for a force that did not depend
// on the number of workers, works at every window.
func TestWindowsOfTwentyWorkers(t *testing.T) {
	full(t)
	train, test := digits(t)
	kept := openResults(t, "windows.jsonl")
	mean := map[string][]float64{}
	for _, name := range []string{"agn", "downpour", "aeasgd", "dynsgd"} {
		for _, window := range windows() {
			sum := 0.0
			for seed := range uint64(windowSeeds) {
				sum += kept.once(t, trained{Trainer: name, Workers: 20, Window: window, Rate: 0.001, Seed: seed + 1},
					func(r *trained) { sweepDigits(t, train, test, r) }).Accuracy
			}
			mean[name] = append(mean[name], sum/windowSeeds)
		}
		t.Logf("%s, windows %v: %.1f %%", name, windows(), mean[name])
	}
	at := func(name string, window int) float64 { return mean[name][slices.Index(windows(), window)] }
	if lost := at("agn", 10) - at("agn", 50); lost > 3 {
		t.Errorf("agn loses %.1f points from window 10 to 50", lost)
	}
	if at("downpour", 5) < 90 || at("downpour", 20) > 50 || at("downpour", 50) > 50 {
		t.Errorf("downpour, windows %v: %.1f %%", windows(), mean["downpour"])
	}
	if low := slices.Min(mean["aeasgd"]); low < 90 {
		t.Errorf("aeasgd has %.1f %% at some window", low)
	}
}
