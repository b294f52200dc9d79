// Package modeltest makes models of what kerastest draws, so that tests can put both beside each other.
package modeltest

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/goccy/go-yaml"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
)

// Definition makes the definition of a graph.
func Definition(g kerastest.Graph) (*model.Definition, error) {
	d := &model.Definition{Name: g.Name, Outputs: g.Outputs}
	for _, in := range g.Inputs {
		d.Inputs = append(d.Inputs, model.Input{Name: in.Name, Shape: in.Shape})
	}
	for _, l := range g.Layers {
		op, err := model.NewOp(l.Kind)
		if err != nil {
			return nil, err
		}
		if l.Fields != nil {
			doc, err := json.Marshal(l.Fields) // JSON is YAML
			if err != nil {
				return nil, err
			}
			if err := yaml.UnmarshalWithOptions(doc, op, yaml.Strict()); err != nil {
				return nil, fmt.Errorf("layer %s %s: %w", l.Name, doc, err)
			}
		}
		d.Layers = append(d.Layers, model.Layer{Name: l.Name, From: l.From, Op: op, Frozen: l.Frozen})
	}
	return d, d.Check()
}

// Weights gives every variable of the network as Keras names it.
func Weights(d *model.Definition, n *model.Network) ([]kerastest.Tensor, error) {
	vars, err := d.Variables()
	if err != nil {
		return nil, err
	}
	var all []kerastest.Tensor
	for _, v := range vars {
		from := n.Params()
		if v.State {
			from = n.State()
		}
		all = append(all, kerastest.Tensor{Name: v.Name, Shape: v.Shape, Data: from[v.Off : v.Off+v.Len]})
	}
	return all, nil
}

// Scramble gives every parameter and all state random values, those of state above zero since they may be variances.
func Scramble(n *model.Network, r *rand.Rand) {
	for i := range n.Params() {
		n.Params()[i] = float32(0.5 * r.NormFloat64())
	}
	for i := range n.State() {
		n.State()[i] = float32(0.5 + r.Float64())
	}
}

// Tensor shapes rows of width floats as Keras takes them.
func Tensor(rows int, shape []int, data []float32) kerastest.Tensor {
	return kerastest.Tensor{Shape: append([]int{rows}, shape...), Data: data}
}

// Batch draws the inputs of a graph. Targets are left to the caller.
func Batch(g kerastest.Graph, rows int, r *rand.Rand) (*pipeline.Batch, []kerastest.Tensor) {
	b := &pipeline.Batch{Rows: rows}
	var x []kerastest.Tensor
	for _, in := range g.Inputs {
		width := 1
		for _, d := range in.Shape {
			width *= d
		}
		data := make([]float32, rows*width)
		for i := range data {
			data[i] = float32(r.NormFloat64())
			if in.Classes > 0 {
				data[i] = float32(r.IntN(in.Classes))
			}
		}
		b.X = append(b.X, data)
		x = append(x, Tensor(rows, in.Shape, data))
	}
	return b, x
}

// Near reports the first element that differs by more than 1e-5 of the largest magnitude of the tensor.
func Near(t testing.TB, what string, got []float32, want []float64) {
	t.Helper()
	NearBeside(t, what, got, want, 0)
}

// NearBeside is Near for a tensor that was computed from numbers of this magnitude: it allows 1e-6 of that too, because
// what is small, or zero, by cancelling cannot be more precise.
func NearBeside(t testing.TB, what string, got []float32, want []float64, magnitude float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d elements, Keras has %d", what, len(got), len(want))
		return
	}
	scale := max(1e-6, Largest(want))
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= 1e-5*scale+1e-6*magnitude) {
			t.Errorf("%s[%d]: %g, Keras has %g (%.1e of the largest)", what, i, got[i], w, d/scale)
			return
		}
	}
}

// Largest is the largest magnitude.
func Largest(v []float64) float64 {
	var most float64
	for _, x := range v {
		most = max(most, math.Abs(x))
	}
	return most
}
