package model

import "dkpipe/trainers/model/graph"

// SimpleRNN is a recurrent layer without gates, as keras.layers.SimpleRNN: each step's result is the activation of the
// kernel's product with the input plus the recurrent kernel's with the result before.
type SimpleRNN struct {
	Recurrent `yaml:",inline"`
}

var _ Op = (*SimpleRNN)(nil)

func newSimpleRNN() *SimpleRNN { return &SimpleRNN{newRecurrent()} }

// Kind is simple_rnn.
func (*SimpleRNN) Kind() string { return "simple_rnn" }

func (c *SimpleRNN) shape(in [][]int) ([]int, error) { return c.resultShape(in, 1) }

func (c *SimpleRNN) variables(in [][]int) []variable {
	v := c.kernels(in, 1)
	if c.UseBias {
		v = append(v, variable{name: "bias", shape: []int{c.Units}, init: c.BiasInitializer, reg: c.BiasRegularizer})
	}
	return v
}

func (c *SimpleRNN) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	x, err := c.products(l, in[0], c.bias(l))
	if err != nil {
		return x, err
	}
	h, err := l.b.SimpleRNN(x, l.params[1], graph.Recurrence{Steps: l.in[0][0], Activation: c.Activation})
	if err != nil {
		return h, err
	}
	return c.result(l, h)
}
