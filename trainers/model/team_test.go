package model_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// A team predicts bit for bit what one network does, for any number of rows, and names the right row of a bad one.
func TestATeamPredictsAsOne(t *testing.T) {
	items := []model.LayerItem{{Name: "embedding", Decode: func(into any) error {
		e, ok := into.(*model.Embedding)
		if !ok {
			return fmt.Errorf("not an embedding")
		}
		e.InputDim, e.OutputDim = 10, 4
		return nil
	}}, {Name: "flatten"}, {Name: "dense", Decode: func(into any) error {
		d, ok := into.(*model.Dense)
		if !ok {
			return fmt.Errorf("not a dense")
		}
		d.Units, d.Activation = 3, "softmax"
		return nil
	}}}
	d, err := model.FromLayers(items, []model.Input{{Shape: []int{2}}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := model.Compile(d, model.Config{Batch: 50})
	if err != nil {
		t.Fatal(err)
	}
	n.Init(1)
	one := n.Sibling()
	r := rand.New(rand.NewPCG(1, 1))
	for _, members := range []int{1, 2, 3, 8} {
		team := n.Team(members)
		for _, rows := range []int{0, 1, 31, 64, 65, 100, 1000} {
			b := &pipeline.Batch{Rows: rows, X: [][]float32{make([]float32, 2*rows)}}
			for i := range b.X[0] {
				b.X[0][i] = float32(r.IntN(10))
			}
			got, want := [][]float32{make([]float32, 3*rows)}, [][]float32{make([]float32, 3*rows)}
			if err := one.Predict(b, want); err != nil {
				t.Fatal(err)
			}
			if err := team.Predict(b, got); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got[0], want[0]) {
				t.Errorf("%d members predict other numbers for %d rows", members, rows)
			}
			if rows > 2 {
				b.X[0][2*(rows-2)] = 10
				if err := team.Predict(b, got); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("row %d of the batch", rows-2)) {
					t.Errorf("%d members, %d rows: %v", members, rows, err)
				}
			}
		}
	}
}

// Parameters that change are those of all members.
func TestATeamHasOneSetOfParameters(t *testing.T) {
	n := tuned(t, true)
	team := n.Team(4)
	b := &pipeline.Batch{Rows: 200, X: [][]float32{make([]float32, 800)}}
	out := [][]float32{make([]float32, 400)}
	for _, bias := range []float32{1, 2} {
		clear(n.Params())
		n.Params()[10], n.Params()[11] = bias, -bias
		if err := team.Predict(b, out); err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows {
			if out[0][2*i] != bias || out[0][2*i+1] != -bias {
				t.Fatalf("row %d is %v with a bias of %g", i, out[0][2*i:2*i+2], bias)
			}
		}
	}
}
