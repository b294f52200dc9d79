package model

import (
	"fmt"

	"dkpipe/trainers/model/graph"
)

// LayerNormalization brings every vector of the last dimension to mean 0 and variance 1, then scales and shifts it, as
// keras.layers.LayerNormalization with axis -1.
type LayerNormalization struct {
	Epsilon          float64     `yaml:"epsilon"` // default 0.001
	Center           bool        `yaml:"center"`  // there is a beta; default true
	Scale            bool        `yaml:"scale"`   // there is a gamma; default true
	BetaInitializer  Initializer `yaml:"beta_initializer"`
	GammaInitializer Initializer `yaml:"gamma_initializer"`
	BetaRegularizer  Regularizer `yaml:"beta_regularizer"`
	GammaRegularizer Regularizer `yaml:"gamma_regularizer"`
}

var _ Op = (*LayerNormalization)(nil)

func newLayerNormalization() *LayerNormalization {
	return &LayerNormalization{Epsilon: 1e-3, Center: true, Scale: true, BetaInitializer: Zeros, GammaInitializer: Ones}
}

// Kind is layer_normalization.
func (*LayerNormalization) Kind() string { return "layer_normalization" }

func (n *LayerNormalization) check() error {
	if !(n.Epsilon > 0) {
		return fmt.Errorf("epsilon is %g, must be above 0", n.Epsilon)
	}
	return first(n.BetaInitializer.check(), n.GammaInitializer.check(), n.BetaRegularizer.check(), n.GammaRegularizer.check())
}

func (n *LayerNormalization) shape(in [][]int) ([]int, error) { return one(in) }

func (n *LayerNormalization) variables(in [][]int) []variable {
	last := []int{lastOf(in[0])}
	var v []variable
	if n.Scale {
		v = append(v, variable{name: "gamma", shape: last, init: n.GammaInitializer, reg: n.GammaRegularizer})
	}
	if n.Center {
		v = append(v, variable{name: "beta", shape: last, init: n.BetaInitializer, reg: n.BetaRegularizer})
	}
	return v
}

func (n *LayerNormalization) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	gamma, beta := scaleAndShift(l.params, n.Scale, n.Center)
	return l.b.LayerNorm(in[0], gamma, beta, lastOf(l.in[0]), n.Epsilon)
}
