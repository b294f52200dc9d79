package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// Every activation in the middle, fused into dense and as a layer of its own.
func TestGradientsOfEveryActivation(t *testing.T) {
	for _, name := range Activations() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 4 {
				rows := 1 + r.IntN(6)
				checkGradient(t, r, gradientCase{
					layers: []Op{dense(2+r.IntN(6), name), dense(3, "linear"), &Activation{Activation: name}, dense(2, "linear")},
					input:  []int{1 + r.IntN(7)}, loss: "mse", batch: rows + r.IntN(3), rows: rows,
				})
			}
		})
	}
}

// Every loss on every kind of output that it is made for, with and without weights, of flat rows and of several
// vectors a row.
func TestGradientsOfEveryLoss(t *testing.T) {
	cases := map[string][]string{
		"mean_squared_error":              Activations(),
		"categorical_crossentropy":        {"softmax", "sigmoid", "softplus"},
		"sparse_categorical_crossentropy": {"softmax", "sigmoid", "softplus"},
		"binary_crossentropy":             {"sigmoid", "softmax", "linear", "tanh"}, // the last two are clipped here and there
		"mean_absolute_error":             {"linear", "tanh"},
		"mean_absolute_percentage_error":  {"linear"},
		"mean_squared_logarithmic_error":  {"softplus", "linear"},
		"huber":                           {"linear"},
		"log_cosh":                        {"linear"},
		"hinge":                           {"tanh", "linear"},
		"squared_hinge":                   {"tanh"},
		"categorical_hinge":               {"softmax", "linear"},
		"kl_divergence":                   {"softmax", "sigmoid"},
		"poisson":                         {"softplus", "exponential"},
		"cosine_similarity":               {"linear", "tanh"},
	}
	for _, loss := range Losses() {
		if len(cases[loss]) == 0 {
			t.Errorf("no case for loss %s", loss)
		}
		for _, out := range cases[loss] {
			for _, weighted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/weighted=%v", loss, out, weighted), func(t *testing.T) {
					r := rand.New(rand.NewPCG(3, 4))
					for i := range 6 {
						rows, units := 1+r.IntN(6), 2+r.IntN(4)
						c := gradientCase{
							layers: []Op{dense(4, "tanh"), dense(units, out)},
							input:  []int{1 + r.IntN(5)}, loss: loss, batch: rows + r.IntN(3), rows: rows, weight: weighted,
						}
						if i%2 == 1 {
							c.input = []int{1 + r.IntN(3), 2}
						} else if weighted {
							c.class = map[int]float64{0: 2, 1: 0.25}
						}
						if loss == "mean_absolute_percentage_error" {
							c.loose = 100 // targets near 0 make it huge
						}
						checkGradient(t, r, c)
					}
				})
			}
		}
	}
}

func TestGradientsOfLossOptions(t *testing.T) {
	for name, c := range map[string]struct {
		loss Loss
		out  string
	}{
		"logits":                 {Loss{Name: "categorical_crossentropy", FromLogits: true}, "linear"},
		"logits of tanh":         {Loss{Name: "categorical_crossentropy", FromLogits: true}, "tanh"},
		"sparse logits":          {Loss{Name: "sparse_categorical_crossentropy", FromLogits: true}, "linear"},
		"binary logits":          {Loss{Name: "binary_crossentropy", FromLogits: true}, "linear"},
		"smooth":                 {Loss{Name: "categorical_crossentropy", LabelSmoothing: 0.1}, "softmax"},
		"smooth, not a softmax":  {Loss{Name: "categorical_crossentropy", LabelSmoothing: 0.3}, "sigmoid"},
		"smooth logits":          {Loss{Name: "categorical_crossentropy", LabelSmoothing: 0.1, FromLogits: true}, "linear"},
		"smooth binary":          {Loss{Name: "binary_crossentropy", LabelSmoothing: 0.2}, "sigmoid"},
		"narrow huber, weighted": {Loss{Name: "huber", Delta: 0.3, Weight: 0.7}, "linear"},
		"alias":                  {Loss{Name: "mae", Weight: 3}, "linear"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(13, 4))
			for range 5 {
				rows := 1 + r.IntN(5)
				c := gradientCase{layers: []Op{dense(4, "tanh"), dense(3, c.out)}, input: []int{3}, losses: []Loss{c.loss}, batch: 5, rows: rows, weight: true}
				checkGradient(t, r, c)
				checkRowLoss(t, r, c)
			}
		})
	}
}

// checkRowLoss compares what evaluation uses with the reference.
func checkRowLoss(t *testing.T, r *rand.Rand, c gradientCase) {
	t.Helper()
	d := define(t, c.input, c.layers...)
	n := compile(t, d, Config{Batch: c.batch, Losses: c.losses})
	n.Init(r.Uint64())
	b := randomBatch(r, n, c.rows, false)
	shape := n.shapes[d.Outputs[0]]
	f, err := c.losses[0].Func(shape)
	if err != nil {
		t.Fatal(err)
	}
	ref := newReference(t, n, 0, false)
	out := ref.forward(wideAll(b.X), c.rows)[0]
	width := n.TargetWidths()[0]
	for i := range c.rows {
		p, y := out[i*size(shape):][:size(shape)], b.Y[0][i*width:][:width]
		want := refLoss(c.losses[0], p, wide(y), []float64{1}, 1, lastOf(shape))
		narrow := make([]float32, len(p))
		for j, v := range p {
			narrow[j] = float32(v)
		}
		if got := f(narrow, y); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
			t.Fatalf("row %d: %g, want %g", i, got, want)
		}
	}
}

func TestRowLossesEqualTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 4))
	for _, name := range Losses() {
		for _, input := range [][]int{{3}, {2, 3}} {
			checkRowLoss(t, r, gradientCase{layers: []Op{dense(4, "sigmoid")}, input: input, losses: []Loss{{Name: name}}, batch: 4, rows: 4})
		}
	}
}

func TestGradientsOfRegularizers(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 4))
	for range 5 {
		a, b := dense(4, "tanh"), dense(2, "softmax")
		a.KernelRegularizer = Regularizer{L1: 0.02, L2: 0.3}
		a.BiasRegularizer = Regularizer{L1: 0.1}
		b.KernelRegularizer = Regularizer{L2: 0.05}
		checkGradient(t, r, gradientCase{layers: []Op{a, b}, input: []int{3}, loss: "categorical_crossentropy", batch: 4, rows: 3, weight: true})
	}
}

func TestGradientsOfADeepNetworkWithDropout(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	fixed := int64(-12)
	noBias := dense(5, "relu")
	noBias.UseBias = false
	for range 10 {
		rows := 1 + r.IntN(9)
		checkGradient(t, r, gradientCase{
			layers: []Op{&Flatten{}, &Dropout{Rate: 0.25}, dense(7, "relu"), &Dropout{Rate: 0.5, Seed: &fixed}, noBias, &Dropout{Rate: 0},
				dense(6, "elu"), dense(3, "softmax")},
			input: []int{2, 3, 1}, loss: "categorical_crossentropy", batch: 9, rows: rows, weight: true,
		})
	}
}

func TestGradientsOfASingleSigmoidWithClassWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 6 {
		checkGradient(t, r, gradientCase{
			layers: []Op{dense(1, "sigmoid")}, input: []int{1}, loss: "binary_crossentropy", batch: 1, rows: 1,
			class: map[int]float64{0: 3, 1: 0.5},
		})
	}
}

// Every activation on a grid that reaches where it saturates or is cut off, its slope included.
func TestActivationsOverTheirWholeRange(t *testing.T) {
	for _, name := range Activations() {
		if name == "softmax" {
			continue
		}
		for _, k := range kernel.Names() {
			n := compile(t, define(t, []int{1}, dense(1, "linear"), &Activation{Activation: name}), Config{Kernel: kernels(t, k), Batch: 1, Loss: "mse"})
			n.Params()[0], n.Params()[1] = 1, 0
			for x := -12.037; x < 12; x += 0.25 {
				b := &pipeline.Batch{Rows: 1, X: [][]float32{{float32(x)}}, Y: [][]float32{{0}}}
				if _, err := n.Step(b); err != nil {
					t.Fatal(err)
				}
				v := float64(float32(x))
				y := refFunction(name, v)
				if got := float64(n.Output(0)[0]); math.Abs(got-y) > 2e-6*(1+math.Abs(y)) {
					t.Fatalf("%s, %s(%g) = %g, want %g", k, name, x, got, y)
				}
				const h = 1e-6
				up, down := refFunction(name, v+h), refFunction(name, v-h)
				want := (up*up - down*down) / (2 * h)
				if got := float64(n.Grads()[1]); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
					t.Fatalf("%s, slope of %s² at %g = %g, want %g", k, name, x, got, want)
				}
			}
		}
	}
}
