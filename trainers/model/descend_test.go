package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// checkDescend compares the gradients of Descend with those of the step that n has just taken on b from start. Every parameter
// is poisoned as soon as its gradient was handed out, so that any use after that shows.
func checkDescend(t testing.TB, n *Network, b *pipeline.Batch, loss float32, state []float32) {
	t.Helper()
	for _, lazy := range []bool{false, true} {
		checkDescendLazy(t, n, b, loss, state, lazy)
	}
}

func checkDescendLazy(t testing.TB, n *Network, b *pipeline.Batch, loss float32, state []float32, lazy bool) {
	t.Helper()
	d := compile(t, n.def, n.cfg)
	copy(d.params, n.params)
	copy(d.state, state)
	d.steps = n.steps - 1
	got, seen := make([]float32, len(n.params)), make([]int, len(n.params))
	again, err := d.Descend(b, lazy, func(at int, grads []float32) {
		for i, g := range grads {
			got[at+i] = g
			seen[at+i]++
			d.params[at+i] = float32(math.NaN())
		}
	})
	if err != nil || again != loss || !slices.Equal(d.state, n.state) {
		t.Fatalf("loss %g, state %v, error %v; Step gives %g and %v", again, d.state, err, loss, n.state)
	}
	for i, g := range n.Grads() {
		if got[i] != g || seen[i] != 1 && !(lazy && g == 0 && seen[i] == 0) {
			t.Fatalf("gradient[%d] (%s) = %g, handed out %d times; Step gives %g", i, nameAt(n, i), got[i], seen[i], g)
		}
	}
}

// Gradients that come in several pieces, whose sizes divide by nothing, are those of a whole step, with every kernel set, and
// for products with few rows and many.
func TestGradientsInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, set := range kernel.Names() {
		for _, rows := range []int{1, 7, 32} {
			t.Run(fmt.Sprint(set, " ", rows), func(t *testing.T) {
				d := define(t, []int{3}, &Embedding{InputDim: 5003, OutputDim: 67, EmbeddingsInitializer: RandomUniform}, &Flatten{}, dense(1009, "relu"), dense(401, "tanh"), dense(3, "softmax"))
				n := compile(t, d, Config{Kernel: kernels(t, set), Batch: 32, Loss: "categorical_crossentropy"})
				n.Init(3)
				b := randomBatch(r, n, rows, false, 5003)
				state := slices.Clone(n.state)
				loss, err := n.Step(b)
				if err != nil {
					t.Fatal(err)
				}
				checkDescend(t, n, b, loss, state)
			})
		}
	}
}

func TestDescendDoesNotAllocateAndKeepsNoGradient(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	n := compile(t, classifier(t), Config{Batch: 16, Loss: "categorical_crossentropy"})
	n.Init(3)
	b, handed := randomBatch(r, n, 16, true), 0
	update := func(at int, grads []float32) { handed += len(grads) }
	if allocs := testing.AllocsPerRun(10, func() {
		if _, err := n.Descend(b, true, update); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if n.grads != nil || handed != 11*len(n.params) {
		t.Errorf("%d gradients handed out in 11 steps with %d parameters; a vector of %d", handed, len(n.params), len(n.grads))
	}
}

// A loss that is not finite changes nothing: the caller may take the run back.
func TestDescendStopsAtALossThatIsNotFinite(t *testing.T) {
	for _, reg := range []Regularizer{{}, {L2: 0.1}} {
		layer := dense(1, "linear")
		layer.KernelRegularizer = reg
		n := compile(t, define(t, []int{2}, layer), Config{Batch: 1, Loss: "mse"})
		n.Init(3)
		b := &pipeline.Batch{Rows: 1, X: [][]float32{{1, float32(math.Inf(1))}}, Y: [][]float32{{1}}}
		loss, err := n.Descend(b, false, func(int, []float32) { t.Error("an update") })
		if err != nil || finite(loss) {
			t.Errorf("loss %g, %v", loss, err)
		}
		if _, err := n.Descend(&pipeline.Batch{Rows: 1, X: [][]float32{{1}}, Y: b.Y}, false, nil); err == nil {
			t.Error("a batch that does not fit")
		}
	}
}
