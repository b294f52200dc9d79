package trainers_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// digits are handwritten digits, 8 × 8 pixels, with one-hot labels: every fifth row is for testing.
func digits(t testing.TB) (train, test *trainertest.Feed) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "examples", "quickstart", "digits.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	train = &trainertest.Feed{Inputs: 64, Outputs: 10, NumShards: 4, BatchSize: 32, Seed: 1}
	test = &trainertest.Feed{Inputs: 64, Outputs: 10, NumShards: 4, BatchSize: 32}
	for i, r := range records[1:] {
		part := train
		if i%5 == 0 {
			part = test
		}
		for _, field := range r[1:65] {
			v, err := strconv.ParseFloat(field, 32)
			if err != nil {
				t.Fatal(err)
			}
			part.X = append(part.X, float32(v/16))
		}
		label, err := strconv.Atoi(r[65])
		if err != nil {
			t.Fatal(err)
		}
		row := make([]float32, 10)
		row[label] = 1
		part.Y = append(part.Y, row...)
	}
	return train, test
}

// network makes a perceptron 64 - units - 10.
func network(t testing.TB, units int, seed uint64) *model.Network {
	t.Helper()
	return deep(t, 64, []int{units}, 32, seed)
}

// deep makes a perceptron with hidden layers of these units, and 10 outputs.
func deep(t testing.TB, inputs int, hidden []int, batch int, seed uint64) *model.Network {
	t.Helper()
	dense := func(units int, activation string) model.LayerItem {
		return model.LayerItem{Name: "dense", Decode: func(into any) error {
			d := into.(*model.Dense)
			d.Units, d.Activation = units, activation
			return nil
		}}
	}
	var layers []model.LayerItem
	for _, units := range hidden {
		layers = append(layers, dense(units, "relu"))
	}
	d, err := model.FromLayers(append(layers, dense(10, "softmax")), []model.Input{{Shape: []int{inputs}}})
	if err != nil {
		t.Fatal(err)
	}
	kernels, err := kernel.Select("auto")
	if err != nil {
		t.Fatal(err)
	}
	n, err := model.Compile(d, model.Config{Kernel: kernels, Batch: batch, Loss: "categorical_crossentropy", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	n.Init(1)
	return n
}

func adam(n int) (optim.Optimizer, error) {
	return optim.New("adam", func(into any) error {
		into.(*optim.Adam).LearningRate = optim.Constant(0.005)
		return nil
	}, n)
}

func TestEveryAlgorithmLearnsDigits(t *testing.T) {
	train, test := digits(t)
	tried := map[string]bool{}
	for _, c := range []struct {
		name, fields    string
		workers, window int
	}{
		{"single", "", 1, 0}, {"averaging", "", 2, 0}, {"downpour", "", 2, 1}, {"downpour", "adagrad: {gamma: 0.02}", 2, 3}, {"agn", "", 2, 2}, {"agn", "", 4, 3},
		{"agn", "overlap: true", 2, 2}, {"distance_adag", "gamma: 0.01", 2, 2}, {"dynsgd", "", 2, 5}, {"aeasgd", "", 2, 8}, {"eamsgd", "momentum: 0.5", 2, 8},
		{"sync_sgd", "", 2, 0}, {"local_sgd", "", 2, 8}, {"diloco", "", 2, 8}, {"async_local", "", 2, 8}, {"async_local", "overlap: true", 3, 4},
	} {
		tried[c.name] = true
		a := algorithm(t, c.name, c.fields)
		r, err := trainers.Train(t.Context(), trainers.Config{
			Algorithm: a, Workers: c.workers, Window: c.window, Epochs: 12, Feed: train, Optimizer: adam,
			Replica: func(w ps.Worker) (model.Replica, error) { return network(t, 32, uint64(w)), nil },
		})
		if err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		e, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: test, Replicas: []model.Replica{network(t, 32, 1), network(t, 32, 2)},
			Params: r.Params, State: r.State, Loss: "categorical_crossentropy", Metrics: []string{"accuracy"}})
		if err != nil {
			t.Fatal(err)
		}
		if accuracy, _ := e.Metrics.Get("accuracy"); !(accuracy >= 0.9) || e.Rows != test.Rows() {
			t.Errorf("%s %s with %d workers: %+v", c.name, c.fields, c.workers, e)
		} else {
			t.Logf("%s %s with %d workers, window %d: accuracy %.4f in %.2f s", c.name, c.fields, c.workers, c.window, accuracy, r.Seconds)
		}
	}
	covers(t, tried)
}
