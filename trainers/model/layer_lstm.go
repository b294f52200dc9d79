package model

import "dkpipe/trainers/model/graph"

// LSTM is a long short-term memory, as keras.layers.LSTM. Gates are in Keras' order: input, forget, candidate, output.
type LSTM struct {
	Gated          `yaml:",inline"`
	UnitForgetBias bool `yaml:"unit_forget_bias"` // the forget gate's bias starts at 1; default true
}

var _ Op = (*LSTM)(nil)

func newLSTM() *LSTM { return &LSTM{Gated: newGated(), UnitForgetBias: true} }

// Kind is lstm.
func (*LSTM) Kind() string { return "lstm" }

func (c *LSTM) shape(in [][]int) ([]int, error) { return c.resultShape(in, 4) }

func (c *LSTM) variables(in [][]int) []variable {
	v := c.kernels(in, 4)
	if c.UseBias {
		bias := variable{name: "bias", shape: []int{4 * c.Units}, init: c.BiasInitializer, reg: c.BiasRegularizer}
		if c.UnitForgetBias {
			bias.ones = [2]int{c.Units, 2 * c.Units}
		}
		v = append(v, bias)
	}
	return v
}

func (c *LSTM) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	x, err := c.products(l, in[0], c.bias(l))
	if err != nil {
		return x, err
	}
	h, err := l.b.LSTM(x, l.params[1], c.recurrence(l))
	if err != nil {
		return h, err
	}
	return c.result(l, h)
}
