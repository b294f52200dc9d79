package kerasjson

import (
	"math/rand/v2"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// The models that people bring learn a batch by heart, from the files as Keras wrote them.
func TestModelsOfFilesTrain(t *testing.T) {
	cross := []model.Loss{{Name: "categorical_crossentropy"}}
	two := []model.Loss{{Name: "binary_crossentropy"}, {Name: "sparse_categorical_crossentropy"}}
	for _, c := range []struct {
		file   string
		losses []model.Loss
		ids    []int // of every input: so many ids, or 0 for numbers
		rate   float32
		steps  int
	}{
		{"keras-2.0-mnist-mlp.json", cross, nil, 0.1, 60},
		{"keras-2.0-mnist-cnn.json", cross, nil, 0.02, 60},
		{"keras-2.0-higgs-mlp.json", cross, nil, 0.1, 60},
		{"keras-2.2-higgs-deep.json", cross, nil, 0.1, 60},
		{"keras-2.2-recurrent.json", []model.Loss{{Name: "binary_crossentropy"}}, nil, 1, 800},
		{"keras-2.15-recurrent.json", []model.Loss{{Name: "mse"}}, nil, 0.2, 400},
		{"keras-2.15-convolutions.json", []model.Loss{{Name: "mse"}}, nil, 0.2, 400},
		{"keras-3.15-everything.json", []model.Loss{{Name: "mse"}}, nil, 0.2, 400},
		{"keras-2.15-wide-and-deep.json", two, []int{1000, 500, 0}, 0.1, 60},
		{"keras-3.0-wide-and-deep.json", two, []int{1000, 500, 0}, 0.1, 60},
	} {
		t.Run(c.file, func(t *testing.T) {
			const rows = 16
			n, err := model.Compile(read(t, c.file), model.Config{Batch: rows, Losses: c.losses, Seed: 2})
			if err != nil {
				t.Fatal(err)
			}
			n.Init(1)
			b := batch(n, rows, c.ids)
			var first, last float64
			for i := range c.steps {
				loss, err := n.Step(b)
				if err != nil {
					t.Fatal(err)
				}
				if i < 5 {
					first += float64(loss) / 5
				}
				if i >= c.steps-5 {
					last += float64(loss) / 5
				}
				for j, g := range n.Grads() {
					n.Params()[j] -= c.rate * g
				}
			}
			if !(last < 0.85*first) {
				t.Errorf("the loss went from %.3f to %.3f", first, last)
			}
		})
	}
}

// batch has random inputs and random targets of one class.
func batch(n *model.Network, rows int, ids []int) *pipeline.Batch {
	r := rand.New(rand.NewPCG(5, 6))
	b := &pipeline.Batch{Rows: rows}
	for k, width := range n.InputWidths() {
		x := make([]float32, rows*width)
		for i := range x {
			x[i] = r.Float32()
			if ids != nil && ids[k] > 0 {
				x[i] = float32(r.IntN(ids[k]))
			}
		}
		b.X = append(b.X, x)
	}
	for k, width := range n.TargetWidths() {
		y := make([]float32, rows*width)
		for i := range rows {
			if width > 1 {
				y[i*width+r.IntN(width)] = 1
				continue
			}
			y[i] = float32(r.IntN(max(2, n.OutputWidths()[k])))
		}
		b.Y = append(b.Y, y)
	}
	return b
}
