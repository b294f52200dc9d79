package model_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// TestRepeatIsItsCopiesSideBySide: a model with state and two branches, whose layers are named as badly as can be.
func TestRepeatIsItsCopiesSideBySide(t *testing.T) {
	dense := func(units int) model.Op {
		op, err := model.NewOp("dense")
		if err != nil {
			t.Fatal(err)
		}
		op.(*model.Dense).Units = units
		return op
	}
	norm, err := model.NewOp("batch_normalization")
	if err != nil {
		t.Fatal(err)
	}
	d := &model.Definition{Name: "two", Inputs: []model.Input{{Name: "x", Shape: []int{5}}}, Outputs: []string{"member0_a", "b"},
		Layers: []model.Layer{{Name: "a", From: []string{"x"}, Op: dense(4)}, {Name: "n", From: []string{"a"}, Op: norm},
			{Name: "member0_a", From: []string{"n"}, Op: dense(3)}, {Name: "b", From: []string{"n"}, Op: dense(2)}}}
	rng := rand.New(rand.NewPCG(1, 2))
	batch := &pipeline.Batch{Rows: 7, X: [][]float32{make([]float32, 7*5)}}
	for i := range batch.X[0] {
		batch.X[0][i] = rng.Float32()
	}
	var params, state []float32
	var each [][][]float32
	for m := range 3 {
		n := compile(t, d)
		n.Init(uint64(m))
		for i := range n.State() {
			n.State()[i] = 0.5 + rng.Float32()
		}
		params, state = append(params, n.Params()...), append(state, n.State()...)
		each = append(each, predictAll(t, n, batch))
	}
	all := compile(t, d.Repeat(3, false))
	copy(all.Params(), params)
	copy(all.State(), state)
	if len(all.Params()) != len(params) || len(all.State()) != len(state) {
		t.Fatalf("%d parameters and %d of state, want %d and %d", len(all.Params()), len(all.State()), len(params), len(state))
	}
	if got := predictAll(t, all, batch); !slices.EqualFunc(got, slices.Concat(each...), slices.Equal) {
		t.Error("the copies predict something else than the models that they are of")
	}
	mean := compile(t, d.Repeat(3, true))
	copy(mean.Params(), params)
	copy(mean.State(), state)
	for k, out := range predictAll(t, mean, batch) {
		for i, v := range out {
			want := (each[0][k][i] + each[1][k][i] + each[2][k][i]) / 3
			if v-want > 1e-6 || want-v > 1e-6 {
				t.Fatalf("output %d, number %d: %g, the mean is %g", k, i, v, want)
			}
		}
	}
	if got := d.Repeat(3, true).Outputs; !slices.Equal(got, d.Outputs) {
		t.Errorf("the outputs are called %v", got)
	}
	if d.Repeat(1, true) != d {
		t.Error("one copy is another model")
	}
}

func compile(t *testing.T, d *model.Definition) *model.Network {
	t.Helper()
	n, err := model.Compile(d, model.Config{Batch: 4})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func predictAll(t *testing.T, n *model.Network, b *pipeline.Batch) [][]float32 {
	t.Helper()
	var out [][]float32
	for _, w := range n.OutputWidths() {
		out = append(out, make([]float32, b.Rows*w))
	}
	if err := n.Predict(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}
