package graph

import (
	"fmt"

	"dkpipe/trainers/kernel"

	"gorgonia.org/gorgonia"
)

// This file holds what recurrent layers share. A row of a sequence is steps vectors after another, so the state of a
// batch at one time is a matrix with a stride, which the products take as it is: nothing is copied per time step.

// Recurrence says how a recurrent layer is made.
type Recurrence struct {
	Steps      int
	Activation string // of what is remembered: one of RecurrentActivations
	Gate       string // activation of the gates, where there are any: also one of them
	ResetAfter bool   // of a GRU: the reset gate works on the product with the recurrent kernel, not before it
}

// functions finds the activations of a layer with gates.
func (c Recurrence) functions() (state, gate function, err error) {
	if state, err = recurrentFunction(c.Activation); err == nil {
		gate, err = recurrentFunction(c.Gate)
	}
	return state, gate, err
}

// recurrentFunction gives one of RecurrentActivations.
func recurrentFunction(name string) (function, error) {
	if name == "linear" {
		return function{name: name, fromY: true, forward: func(_ kernel.Set, x, y []float32) { copy(y, x) },
			backward: func(_ kernel.Set, _, dy, dx []float32) { copy(dx, dy) }}, nil
	}
	f, ok := findFunction(name)
	if !ok || !f.fromY {
		return f, fmt.Errorf("there is no recurrent activation %q", name)
	}
	return f, nil
}

// Last takes the last of the steps of a row.
func (b *Builder) Last(x Node, steps int) (Node, error) {
	n := x.width / steps
	return b.cut(x, 1, (steps-1)*n, n)
}

// Reverse puts the steps of a row in the opposite order.
func (b *Builder) Reverse(x Node, steps int) (Node, error) {
	return b.matrix(&reverseOp{meta: meta{kind: "reverse"}, steps: steps, n: x.width / steps}, x.width, x.n)
}

// reverseOp copies vectors of n floats.
type reverseOp struct {
	meta
	steps, n int
}

func (o *reverseOp) run(f *frame, in [][]float32, out []float32) {
	for r := range f.rows {
		for t := range o.steps {
			copy(out[(r*o.steps+t)*o.n:][:o.n], in[0][(r*o.steps+o.steps-1-t)*o.n:])
		}
	}
}

func (o *reverseOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *reverseOp) SymDiff(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.Reverse(Node{grad, o.steps * o.n}, o.steps)
	return nodes(dx), err
}

// recurrentKernelGradOp is dU = Σ over times t > 0 of h_(t-1)ᵀ · dZ_t, where Z has width floats a step. Inputs: h, dZ.
type recurrentKernelGradOp struct {
	meta
	steps, units, width int
}

func (o *recurrentKernelGradOp) run(f *frame, in [][]float32, out []float32) {
	n, w := o.units, o.width
	clear(out)
	for t := 1; t < o.steps; t++ {
		o.b.cfg.Kernel.Gemm(true, false, n, w, f.rows, 1, in[0][(t-1)*n:], o.steps*n, in[1][t*w:], o.steps*w, 1, out, w)
	}
}
