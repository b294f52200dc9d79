package trainers_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// full skips a test that takes long, unless all of them are wanted or it is to fill the recorded results.
func full(t testing.TB) {
	t.Helper()
	if os.Getenv("DKPIPE_FULL") == "" && os.Getenv("DKPIPE_RESULTS") == "" || raceEnabled {
		t.Skip("takes long: make test-full, or make bench-trainers (DKPIPE_FULL=1)")
	}
}

// fashion is Fashion-MNIST, for training and for testing.
func fashion(t testing.TB) (train, test *trainertest.Feed) {
	t.Helper()
	train, err := trainertest.Fashion("train")
	if errors.Is(err, os.ErrNotExist) && !strings.Contains(os.Getenv("DKPIPE_REQUIRE"), "fashion") {
		t.Skip("needs Fashion-MNIST (Debian, Ubuntu: apt-get install dataset-fashion-mnist)")
	}
	if err == nil {
		test, err = trainertest.Fashion("t10k")
	}
	if err != nil {
		t.Fatal(err)
	}
	return train, test
}

// mlp makes a perceptron of 784 inputs, hidden layers of rectifiers and 10 classes. 500 and 300 is the network M1.
func mlp(t testing.TB, seed uint64, hidden ...int) *model.Network {
	t.Helper()
	n, err := trainertest.FashionMLP(seed, hidden...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sgd makes optimizers.
func sgd(rate, momentum float64) func(int) (optim.Optimizer, error) {
	return func(n int) (optim.Optimizer, error) {
		return optim.New("sgd", func(into any) error {
			s := into.(*optim.SGD)
			s.LearningRate, s.Momentum = optim.Constant(rate), momentum
			return nil
		}, n)
	}
}

// measure gives accuracy, in per cent, and loss on a feed.
func measure(t testing.TB, test *trainertest.Feed, params []float32, replicas ...model.Replica) (accuracy, loss float64) {
	t.Helper()
	e, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: test, Replicas: replicas, Params: params,
		Loss: "categorical_crossentropy", Metrics: []string{"accuracy"}})
	if err != nil {
		t.Fatal(err)
	}
	accuracy, _ = e.Metrics.Get("accuracy")
	loss, _ = e.Metrics.Get("loss")
	return math.Round(1e4*accuracy) / 100, loss
}

// trained is one training and what came out of it: one line of a file of results.
type trained struct {
	Trainer  string  `json:"trainer"`
	Fields   string  `json:"fields,omitempty"` // of the trainer, as in a job file
	Workers  int     `json:"workers"`
	Window   int     `json:"window"`          // 0: an epoch
	Batch    int     `json:"batch,omitempty"` // rows of a worker's; 0: 128
	Rate     float64 `json:"rate"`
	Seed     uint64  `json:"seed"`
	Slow     float64 `json:"slow,omitempty"` // how many times as long worker 0 takes for a step
	Accuracy float64 `json:"accuracy"`       // per cent of the test rows; 0 when the run diverged
	Loss     number  `json:"loss"`
	Samples  int64   `json:"samples"`
	Stale    float64 `json:"staleness"` // mean over the commits
	Seconds  float64 `json:"seconds"`   // of the training: by the clock, or virtual
}

// number is a float64 that JSON may not be able to write.
type number float64

// MarshalJSON writes null for NaN and infinities.
func (n number) MarshalJSON() ([]byte, error) {
	if n-n != 0 {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// key says which training a line is of.
func (r trained) key() string {
	return fmt.Sprintf("%s {%s}, %d workers, window %d, batch %d, rate %g, seed %d, slow %g", r.Trainer, r.Fields, r.Workers, r.Window, r.Batch, r.Rate, r.Seed, r.Slow)
}

// results is a file of lines that are kept as they come, so that trainings that were interrupted go on where they were.
type results struct {
	file *os.File // nil: nothing is kept
	by   map[string]trained
}

// openResults reads a file below DKPIPE_RESULTS and appends to it; without that folder, results start from nothing.
func openResults(t testing.TB, name string) *results {
	t.Helper()
	dir := os.Getenv("DKPIPE_RESULTS")
	if dir == "" {
		return &results{by: map[string]trained{}}
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return &results{file: f, by: readResults(t, path)}
}

// readResults reads a file of results.
func readResults(t testing.TB, path string) map[string]trained {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	by := map[string]trained{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var r trained
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v in %s", path, err, s.Text())
		}
		by[r.key()] = r
	}
	return by
}

// once gives the result of a training: the one that is there, or that of run, which is kept.
func (s *results) once(t testing.TB, want trained, run func(r *trained)) trained {
	t.Helper()
	if r, ok := s.by[want.key()]; ok {
		return r
	}
	run(&want)
	t.Logf("%s: %.2f %% in %.1f s", want.key(), want.Accuracy, want.Seconds)
	s.by[want.key()] = want
	if s.file == nil {
		return want
	}
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	return want
}

// trainFashion trains M1 for five epochs and measures the centre, or the members of an ensemble together.
func trainFashion(t testing.TB, train, test *trainertest.Feed, r *trained) {
	t.Helper()
	a, feed := algorithm(t, r.Trainer, r.Fields), *train
	feed.Seed = r.Seed
	if r.Batch > 0 {
		feed.BatchSize = r.Batch
	}
	momentum := 0.9
	if r.Trainer == "eamsgd" { // has its own
		momentum = 0
	}
	cfg := trainers.Config{Algorithm: a, Workers: r.Workers, Window: r.Window, Epochs: 5, Feed: &feed, Optimizer: sgd(r.Rate, momentum),
		Replica: func(w ps.Worker) (model.Replica, error) { return mlp(t, 100*r.Seed+uint64(w), 500, 300), nil }}
	if e, ok := a.(trainers.Ensemble); ok {
		result, err := trainers.TrainEnsemble(t.Context(), e, cfg, func(m int, c *trainers.Config) error {
			own := feed
			own.Seed = 100*r.Seed + uint64(m)
			c.Feed = e.Part(&own, m)
			return nil
		})
		if diverged(t, err) {
			return
		}
		var members []model.Replica
		for m, one := range result.Members {
			n := mlp(t, uint64(m), 500, 300)
			copy(n.Params(), one.Params)
			members = append(members, n)
		}
		combined, err := trainers.NewCombined(e.Combine, members)
		if err != nil {
			t.Fatal(err)
		}
		loss := 0.0
		r.Accuracy, loss = measure(t, test, nil, combined)
		r.Loss, r.Samples, r.Seconds = number(loss), result.Samples, result.Seconds
		return
	}
	result, err := trainers.Train(t.Context(), cfg)
	r.Seconds, r.Samples = result.Seconds, result.Samples
	if diverged(t, err) {
		return
	}
	commits := 0.0
	for _, w := range result.Workers {
		commits += float64(w.Commits)
		r.Stale += float64(w.Commits) * w.StalenessMean
	}
	r.Stale = math.Round(1e3*r.Stale/max(1, commits)) / 1e3
	loss := 0.0
	r.Accuracy, loss = measure(t, test, result.Params, mlp(t, 1, 500, 300), mlp(t, 2, 500, 300))
	r.Loss = number(loss)
}
