package model

import "dkpipe/trainers/model/graph"

// GRU is a gated recurrent unit, as keras.layers.GRU. Gates are in Keras' order: update, reset, candidate.
type GRU struct {
	Gated      `yaml:",inline"`
	ResetAfter bool `yaml:"reset_after"` // the reset gate works after the product with the recurrent kernel; default true
}

var _ Op = (*GRU)(nil)

func newGRU() *GRU { return &GRU{Gated: newGated(), ResetAfter: true} }

// Kind is gru.
func (*GRU) Kind() string { return "gru" }

func (c *GRU) shape(in [][]int) ([]int, error) { return c.resultShape(in, 3) }

func (c *GRU) variables(in [][]int) []variable {
	v := c.kernels(in, 3)
	if c.UseBias {
		shape := []int{3 * c.Units}
		if c.ResetAfter { // of the product with the kernel, and of that with the recurrent kernel
			shape = []int{2, 3 * c.Units}
		}
		v = append(v, variable{name: "bias", shape: shape, init: c.BiasInitializer, reg: c.BiasRegularizer})
	}
	return v
}

func (c *GRU) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	x, err := c.products(l, in[0], graph.Node{})
	if err != nil {
		return x, err
	}
	r := c.recurrence(l)
	r.ResetAfter = c.ResetAfter
	h, err := l.b.GRU(x, l.params[1], c.bias(l), r)
	if err != nil {
		return h, err
	}
	return c.result(l, h)
}
