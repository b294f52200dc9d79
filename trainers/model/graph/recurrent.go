package graph

import (
	"fmt"

	"dkpipe/trainers/kernel"
)

// This file holds what recurrent layers share. A row of a sequence is steps vectors after another, so the state of a
// batch at one time is a matrix with a stride, which the products take as it is: nothing is copied per time step.

// Recurrence says how a recurrent layer is made.
type Recurrence struct {
	Steps      int
	Activation string // of what is remembered: one of RecurrentActivations
	Gate       string // activation of the gates, also one of them
	ResetAfter bool   // of a GRU: the reset gate works on the product with the recurrent kernel, not before it
}

// functions finds the two activations.
func (c Recurrence) functions() (state, gate function, err error) {
	find := func(name string) (function, error) {
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
	if state, err = find(c.Activation); err == nil {
		gate, err = find(c.Gate)
	}
	return state, gate, err
}

// Last takes the last of the steps of a row.
func (b *Builder) Last(x Node, steps int) (Node, error) {
	n := x.width / steps
	return b.cut(x, 1, (steps-1)*n, n)
}
