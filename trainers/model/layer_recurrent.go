package model

import (
	"fmt"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Recurrent is what SimpleRNN, LSTM and GRU have in common. Their input has the shape [steps, features]; the result has
// the shape [units], of the last step, or [steps, units].
type Recurrent struct {
	Units                int         `yaml:"units"`            // >= 1
	Activation           string      `yaml:"activation"`       // default tanh
	UseBias              bool        `yaml:"use_bias"`         // default true
	ReturnSequences      bool        `yaml:"return_sequences"` // every step's result, not only the last; default false
	GoBackwards          bool        `yaml:"go_backwards"`     // from the last step to the first; results come in that order, too
	KernelInitializer    Initializer `yaml:"kernel_initializer"`
	RecurrentInitializer Initializer `yaml:"recurrent_initializer"` // default orthogonal
	BiasInitializer      Initializer `yaml:"bias_initializer"`
	KernelRegularizer    Regularizer `yaml:"kernel_regularizer"`
	RecurrentRegularizer Regularizer `yaml:"recurrent_regularizer"`
	BiasRegularizer      Regularizer `yaml:"bias_regularizer"`
}

func newRecurrent() Recurrent {
	return Recurrent{Activation: "tanh", UseBias: true,
		KernelInitializer: GlorotUniform, RecurrentInitializer: Orthogonal, BiasInitializer: Zeros}
}

func (c *Recurrent) check() error {
	if c.Units < 1 || c.Units > maxFloats/4 {
		return fmt.Errorf("units is %d, must be at least 1", c.Units)
	}
	return first(checkRecurrent(c.Activation), c.KernelInitializer.check(), c.RecurrentInitializer.check(), c.BiasInitializer.check(),
		c.KernelRegularizer.check(), c.RecurrentRegularizer.check(), c.BiasRegularizer.check())
}

// checkRecurrent refuses an activation that a recurrent layer cannot have.
func checkRecurrent(activation string) error {
	if known := graph.RecurrentActivations(); !slices.Contains(known, graph.Canonical(activation)) {
		return unknown(pipeline.Unsupported, "activation of a recurrent layer", activation, known)
	}
	return nil
}

func (c *Recurrent) resultShape(in [][]int, gates int) ([]int, error) {
	x, err := one(in)
	if err != nil {
		return nil, err
	}
	if len(x) != 2 {
		return nil, fmt.Errorf("takes rows of shape [steps, features], gets %v", x)
	}
	if size([]int{x[1] + c.Units, gates * c.Units}) < 0 || size([]int{x[0], 6 * c.Units}) < 0 {
		return nil, fmt.Errorf("kernels of %d and %d × %d are too large", x[1], c.Units, gates*c.Units)
	}
	if c.ReturnSequences {
		return []int{x[0], c.Units}, nil
	}
	return []int{c.Units}, nil
}

// kernels are the first two variables of a recurrent layer, for so many gates.
func (c *Recurrent) kernels(in [][]int, gates int) []variable {
	return []variable{
		{name: "kernel", shape: []int{in[0][1], gates * c.Units}, init: c.KernelInitializer, reg: c.KernelRegularizer},
		{name: "recurrent_kernel", shape: []int{c.Units, gates * c.Units}, init: c.RecurrentInitializer, reg: c.RecurrentRegularizer},
	}
}

// products multiplies every step with the kernel and adds the bias, if there is one, in the order in which the layer goes
// through the steps.
func (c *Recurrent) products(l *layerGraph, x, bias graph.Node) (graph.Node, error) {
	if c.GoBackwards {
		var err error
		if x, err = l.b.Reverse(x, l.in[0][0]); err != nil {
			return x, err
		}
	}
	return l.b.Dense(x, l.params[0], bias, false)
}

func (c *Recurrent) common() *Recurrent { return c }

// bias is the third variable of a layer that has one.
func (c *Recurrent) bias(l *layerGraph) graph.Node {
	if c.UseBias {
		return l.params[2]
	}
	return graph.Node{}
}

// result keeps every step, or the last.
func (c *Recurrent) result(l *layerGraph, h graph.Node) (graph.Node, error) {
	if c.ReturnSequences {
		return h, nil
	}
	return l.b.Last(h, l.in[0][0])
}

// Gated is what LSTM and GRU have beside.
type Gated struct {
	Recurrent           `yaml:",inline"`
	RecurrentActivation string `yaml:"recurrent_activation"` // of the gates; default sigmoid
}

func newGated() Gated { return Gated{Recurrent: newRecurrent(), RecurrentActivation: "sigmoid"} }

func (c *Gated) check() error {
	return first(c.Recurrent.check(), checkRecurrent(c.RecurrentActivation))
}

func (c *Gated) recurrence(l *layerGraph) graph.Recurrence {
	return graph.Recurrence{Steps: l.in[0][0], Activation: c.Activation, Gate: c.RecurrentActivation}
}
