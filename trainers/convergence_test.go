package trainers_test

import (
	"math/rand/v2"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// perceptron makes a network 8 - 16 - 4 with tanh, for a mean squared error.
func perceptron(t testing.TB, batch int, seed uint64) *model.Network {
	t.Helper()
	dense := func(units int, activation string) model.LayerItem {
		return model.LayerItem{Name: "dense", Decode: func(into any) error {
			d := into.(*model.Dense)
			d.Units, d.Activation = units, activation
			return nil
		}}
	}
	d, err := model.FromLayers([]model.LayerItem{dense(16, "tanh"), dense(4, "linear")}, []model.Input{{Shape: []int{8}}})
	if err != nil {
		t.Fatal(err)
	}
	kernels, err := kernel.Select("auto")
	if err != nil {
		t.Fatal(err)
	}
	n, err := model.Compile(d, model.Config{Kernel: kernels, Batch: batch, Loss: "mean_squared_error", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	n.Init(seed)
	return n
}

// TestEveryAlgorithmLearnsFromATeacher: rows are labelled by a network, so that the least loss is known, 0, and reachable by
// a network of the same shape. Four workers, in virtual time.
func TestEveryAlgorithmLearnsFromATeacher(t *testing.T) {
	const rows = 2048
	teacher := perceptron(t, rows, 77)
	feed := &trainertest.Feed{Inputs: 8, Outputs: 4, X: make([]float32, rows*8), Y: make([]float32, rows*4), NumShards: 8, BatchSize: 16, Seed: 1}
	rnd := rand.New(rand.NewPCG(3, 3))
	for i := range feed.X {
		feed.X[i] = float32(rnd.NormFloat64())
	}
	if err := teacher.Predict(&pipeline.Batch{Rows: rows, X: [][]float32{feed.X}}, [][]float32{feed.Y}); err != nil {
		t.Fatal(err)
	}
	loss := func(params []float32) float64 {
		e, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{perceptron(t, 16, 1)}, Params: params, Loss: "mean_squared_error"})
		if err != nil {
			t.Fatal(err)
		}
		v, _ := e.Metrics.Get("loss")
		return v
	}
	run := func(a trainers.Algorithm, workers int, opt string, rate float64) float64 {
		r := simulate(t, trainers.SimConfig{Latency: 0.5, Config: trainers.Config{Algorithm: a, Workers: workers, Epochs: 30, Feed: feed,
			Replica: func(ps.Worker) (model.Replica, error) { return perceptron(t, 16, 5), nil },
			Optimizer: func(n int) (optim.Optimizer, error) {
				return optim.New(opt, func(into any) error {
					switch o := into.(type) {
					case *optim.SGD:
						o.LearningRate = optim.Constant(rate)
					case *optim.Adam:
						o.LearningRate = optim.Constant(rate)
					}
					return nil
				}, n)
			}}})
		return loss(r.Params)
	}
	start := loss(perceptron(t, 16, 5).Params())
	alone := run(trainers.Single{}, 1, "adam", 0.01)
	t.Logf("start %.4f, single with adam %.5f", start, alone)
	if !(alone < 0.02*start) {
		t.Errorf("single: from %.4f to %.4f", start, alone)
	}
	tried := map[string]bool{"single": true}
	for _, c := range []struct {
		name, fields, optimizer string
		rate                    float64
		most                    float64 // of the loss at the start
	}{
		{"averaging", "", "adam", 0.01, 0.02}, {"downpour", "window: 1", "adam", 0.003, 0.02}, {"downpour", "{window: 3, adagrad: {gamma: 0.02}}", "sgd", 0.1, 0.05},
		{"agn", "", "adam", 0.02, 0.03}, {"distance_adag", "", "adam", 0.02, 0.05}, {"dynsgd", "", "adam", 0.01, 0.02},
		{"aeasgd", "window: 8", "adam", 0.01, 0.02}, {"eamsgd", "window: 8", "sgd", 0.02, 0.05}, {"sync_sgd", "", "adam", 0.02, 0.02},
		{"local_sgd", "", "adam", 0.01, 0.02}, {"diloco", "", "adamw", 0.01, 0.02}, {"async_local", "", "adam", 0.01, 0.02},
	} {
		tried[c.name] = true
		got := run(algorithm(t, c.name, c.fields), 4, c.optimizer, c.rate)
		t.Logf("%s %s, %s %g: %.5f", c.name, c.fields, c.optimizer, c.rate, got)
		if !(got < c.most*start) {
			t.Errorf("%s %s: from %.4f to %.4f, want less than %g of it", c.name, c.fields, start, got, c.most)
		}
	}
	covers(t, tried)
}
