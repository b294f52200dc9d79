package model

import (
	"fmt"
	"math/rand/v2"
	"testing"
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

// Every loss on every kind of output that it is defined for, with and without weights.
func TestGradientsOfEveryLoss(t *testing.T) {
	cases := map[string][]string{
		"mse":                      Activations(),
		"mean_squared_error":       {"linear"},
		"categorical_crossentropy": {"softmax", "sigmoid", "softplus"},
		"binary_crossentropy":      {"sigmoid", "softmax", "linear", "tanh"}, // the last two are clipped here and there
	}
	for _, loss := range Losses() {
		if len(cases[loss]) == 0 {
			t.Errorf("no case for loss %s", loss)
		}
		for _, out := range cases[loss] {
			for _, weighted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/weighted=%v", loss, out, weighted), func(t *testing.T) {
					r := rand.New(rand.NewPCG(3, 4))
					for range 4 {
						rows, units := 1+r.IntN(6), 2+r.IntN(4)
						c := gradientCase{
							layers: []Op{dense(4, "tanh"), dense(units, out)},
							input:  []int{1 + r.IntN(5)}, loss: loss, batch: rows + r.IntN(3), rows: rows, weight: weighted,
						}
						if weighted {
							c.class = map[int]float64{0: 2, 1: 0.25}
						}
						checkGradient(t, r, c)
					}
				})
			}
		}
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
