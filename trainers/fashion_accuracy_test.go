package trainers_test

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"dkpipe/pipeline"
)

// contender is a trainer with a window, as it is compared with single.
type contender struct {
	name, fields string
	window       int
	batch        int // rows of a worker's batch
	rates        [3]float64
	floor        float64 // points of accuracy that it must reach, from single's on
}

// Batches of 128 rows, or that many of all workers together, as those of DDP share them, where workers commit after a step or
// two and the commits of both together count as one.
const whole, shared = 128, 64

// contenders are all trainers, each with a window that suits two workers. Rates are the same for all, but for
// those that divide what a window learned by its steps and take greater ones. Half a point is aimed at for averaging as
// well, and not reached: BENCHMARKS.md. dynsgd has exchanges that overlap: without, its weights spread too far.
func contenders() []contender {
	rates, greater := [3]float64{0.02, 0.05, 0.1}, [3]float64{0.05, 0.1, 0.2}
	return []contender{
		{"single", "", 0, whole, rates, 0},
		{"sync_sgd", "", 1, shared, rates, -0.5},
		{"local_sgd", "", 16, whole, rates, -0.5},
		{"diloco", "", 30, whole, rates, -0.5},
		{"averaging", "", 0, whole, rates, -1},
		{"aeasgd", "", 32, whole, rates, -0.5},
		{"eamsgd", "", 32, whole, rates, -0.5},
		{"async_local", "", 16, whole, rates, -0.5},
		{"dynsgd", "overlap: true", 2, shared, rates, -0.5},
		{"downpour", "", 1, whole, rates, -0.5},
		{"agn", "", 10, whole, greater, -1.5},
		{"distance_adag", "", 10, whole, greater, -1.5},
		{"ensemble", "", 0, whole, rates, 0},
	}
}

// atBestWindow are those that are better with another window than the one that they are promised for: with two workers, as
// short a one as the delay law allows.
func atBestWindow() []contender {
	rates := contenders()[0].rates
	return []contender{{"agn", "", 2, shared, rates, -0.5}, {"distance_adag", "", 2, shared, rates, -0.5}}
}

// workers is how many workers a contender has.
func (c contender) workers() int {
	if c.name == "single" {
		return 1
	}
	return 2
}

// diverged says whether a training ended because its numbers are beyond saving. Any other error ends the test.
func diverged(t testing.TB, err error) bool {
	t.Helper()
	var e *pipeline.Error
	if err != nil && !(errors.As(err, &e) && e.Kind == pipeline.Diverged) {
		t.Fatal(err)
	}
	return err != nil
}

// allSeeds is how many seeds every rate is tried with.
const allSeeds = 5

// training is one training of a contender.
func (c contender) training(rate float64, seed uint64) trained {
	return trained{Trainer: c.name, Fields: c.fields, Workers: c.workers(), Window: c.window, Batch: c.batch, Rate: rate, Seed: seed}
}

// mean is the mean accuracy and the lowest one of the first so many seeds.
func (c contender) mean(all map[string]trained, rate float64, seeds uint64) (mean, lowest float64) {
	lowest = 100
	for seed := range seeds {
		a := all[c.training(rate, seed+1).key()].Accuracy
		mean += a / float64(seeds)
		lowest = min(lowest, a)
	}
	return mean, lowest
}

// best is the rate whose mean is the best.
func (c contender) best(all map[string]trained, seeds uint64) float64 {
	return slices.MaxFunc(c.rates[:], func(a, b float64) int {
		x, _ := c.mean(all, a, seeds)
		y, _ := c.mean(all, b, seeds)
		return cmp.Compare(x, y)
	})
}

// TestEveryTrainerLearnsFashion: M1 on Fashion-MNIST, two workers, five epochs for everybody, each at the best of its three
// rates by the means of five seeds, against one worker. An ensemble has two members, each of which sees what single sees.
func TestEveryTrainerLearnsFashion(t *testing.T) {
	full(t)
	train, test := fashion(t)
	all := slices.Concat(contenders(), atBestWindow())
	kept := openResults(t, "accuracy.jsonl")
	for seed := range uint64(allSeeds) {
		for _, c := range all {
			for _, rate := range c.rates {
				kept.once(t, c.training(rate, seed+1), func(r *trained) { trainFashion(t, train, test, r) })
			}
		}
	}
	single, _ := all[0].mean(kept.by, all[0].best(kept.by, allSeeds), allSeeds)
	for _, c := range all {
		rate := c.best(kept.by, allSeeds)
		mean, lowest := c.mean(kept.by, rate, allSeeds)
		t.Logf("%s, window %d: %.2f %%, lowest %.2f %%, at rate %g, %+.2f points", c.name, c.window, mean, lowest, rate, mean-single)
		if mean < single+c.floor {
			t.Errorf("%s: %.2f %%, and %.2f %% is promised", c.name, mean, single+c.floor)
		}
	}
}
