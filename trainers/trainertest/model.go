package trainertest

import (
	"fmt"
	"math/rand/v2"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// Model is a linear model, y = W x + b, with the loss (1/rows) Σ ½|y - t|² and its exact gradient. Its flat vector is
// W, outputs × inputs, and then b. The loss is convex, so every method has one place to go.
type Model struct {
	inputs, outputs      int
	params, grads, state []float32
	residual             []float32
}

var _ model.Replica = (*Model)(nil)

// NewLinear makes a model with small random parameters; equal seeds give equal ones.
func NewLinear(inputs, outputs int, seed uint64) *Model {
	rnd := rand.New(rand.NewPCG(seed, 2))
	n := (inputs + 1) * outputs
	m := &Model{inputs: inputs, outputs: outputs, params: make([]float32, n), grads: make([]float32, n), residual: make([]float32, outputs)}
	for i := range m.params {
		m.params[i] = float32(rnd.NormFloat64() / 10)
	}
	return m
}

// Params implements model.Replica.
func (m *Model) Params() []float32 { return m.params }

// Grads implements model.Replica.
func (m *Model) Grads() []float32 { return m.grads }

// State implements model.Replica.
func (m *Model) State() []float32 { return m.state }

// Step implements model.Replica.
func (m *Model) Step(b *pipeline.Batch) (float32, error) {
	if len(b.X[0]) != b.Rows*m.inputs || len(b.Y[0]) != b.Rows*m.outputs {
		return 0, fmt.Errorf("batch of %d rows has %d inputs and %d outputs", b.Rows, len(b.X[0]), len(b.Y[0]))
	}
	clear(m.grads)
	scale := 1 / float32(b.Rows)
	var loss float32
	for i := range b.Rows {
		x := b.X[0][i*m.inputs : (i+1)*m.inputs]
		m.row(x, m.residual)
		for k, t := range b.Y[0][i*m.outputs : (i+1)*m.outputs] {
			r := m.residual[k] - t
			loss += r * r / 2 * scale
			g := m.grads[k*m.inputs : (k+1)*m.inputs]
			for j, v := range x {
				g[j] += r * v * scale
			}
			m.grads[m.outputs*m.inputs+k] += r * scale
		}
	}
	return loss, nil
}

// Predict implements model.Replica.
func (m *Model) Predict(b *pipeline.Batch, out [][]float32) error {
	for i := range b.Rows {
		m.row(b.X[0][i*m.inputs:(i+1)*m.inputs], out[0][i*m.outputs:(i+1)*m.outputs])
	}
	return nil
}

// row computes one row's outputs.
func (m *Model) row(x, y []float32) {
	for k := range y {
		sum := m.params[m.outputs*m.inputs+k]
		for j, w := range m.params[k*m.inputs : (k+1)*m.inputs] {
			sum += w * x[j]
		}
		y[k] = sum
	}
}

// Descent is plain gradient descent: params -= Rate × grads.
type Descent struct{ Rate float32 }

var _ optim.Piecewise = Descent{}

// Apply implements optim.Optimizer.
func (d Descent) Apply(params, grads []float32) { d.Update(0, params, grads) }

// Begin implements optim.Piecewise.
func (Descent) Begin() {}

// Update implements optim.Piecewise.
func (d Descent) Update(_ int, params, grads []float32) {
	for i, g := range grads {
		params[i] -= d.Rate * g
	}
}

// Lazy implements optim.Piecewise.
func (Descent) Lazy() bool { return true }

// Slots implements optim.Optimizer: there is no state.
func (Descent) Slots() [][]float32 { return nil }
