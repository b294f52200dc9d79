package model_test

import (
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// tuned is a network with a frozen body of a dense layer and a batch normalization.
func tuned(t *testing.T, frozen bool) *model.Network {
	t.Helper()
	op := func(kind string, units int) model.Op {
		o, err := model.NewOp(kind)
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := o.(*model.Dense); ok {
			d.Units = units
		}
		return o
	}
	d := &model.Definition{Name: "tuned", Inputs: []model.Input{{Name: "x", Shape: []int{4}}}, Outputs: []string{"out"}, Layers: []model.Layer{
		{Name: "body", From: []string{"x"}, Op: op("dense", 5), Frozen: frozen},
		{Name: "norm", From: []string{"body"}, Op: op("batch_normalization", 0), Frozen: frozen},
		{Name: "out", From: []string{"norm"}, Op: op("dense", 2)},
	}}
	n, err := model.Compile(d, model.Config{Batch: 3, Loss: "mean_squared_error"})
	if err != nil {
		t.Fatal(err)
	}
	n.Init(3)
	return n
}

// What is frozen is no parameter: it needs no gradient, no place in an optimizer and none in an exchange.
func TestFrozenWeightsAreState(t *testing.T) {
	n, free := tuned(t, true), tuned(t, false)
	if len(n.Params()) != 12 || len(n.Grads()) != 12 || len(n.State()) != 45 || !n.Settled() || free.Settled() {
		t.Fatalf("%d parameters, %d gradients, %d of state, settled %v and %v", len(n.Params()), len(n.Grads()), len(n.State()), n.Settled(), free.Settled())
	}
	// Freezing does not change what is drawn.
	all := slices.Concat(n.State()[:25], n.State()[25:35], n.Params())
	if !slices.Equal(all[:35], free.Params()[:35]) || !slices.Equal(n.Params(), free.Params()[35:]) {
		t.Errorf("a frozen layer starts with other weights than a trained one")
	}
	before := slices.Clone(n.State())
	b := &pipeline.Batch{Rows: 3, X: [][]float32{{1, 2, 3, 4, -1, 0, 2, 5, 3, 3, 1, 2}}, Y: [][]float32{{1, 2, 0, 1, 3, 3}}}
	for range 3 {
		if _, err := n.Step(b); err != nil {
			t.Fatal(err)
		}
		for i, g := range n.Grads() {
			n.Params()[i] -= 0.1 * g
		}
	}
	if err := n.Gather(b, 0); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.State(), before) {
		t.Errorf("what is frozen moved")
	}
	// In training a frozen network is what it is in inference.
	out := [][]float32{make([]float32, 6)}
	if err := n.Predict(b, out); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Step(b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.Output(0)[:6], out[0]) {
		t.Errorf("training gives %v, inference %v", n.Output(0)[:6], out[0])
	}
}
