package model

import (
	"fmt"
	"slices"

	"dkpipe/trainers/model/graph"
)

// Dense is activation(x·kernel + bias) over the last dimension, as keras.layers.Dense.
type Dense struct {
	Units             int         `yaml:"units"`      // >= 1
	Activation        string      `yaml:"activation"` // default linear
	UseBias           bool        `yaml:"use_bias"`   // default true
	KernelInitializer Initializer `yaml:"kernel_initializer"`
	BiasInitializer   Initializer `yaml:"bias_initializer"`
	KernelRegularizer Regularizer `yaml:"kernel_regularizer"`
	BiasRegularizer   Regularizer `yaml:"bias_regularizer"`
}

var (
	_ Op        = (*Dense)(nil)
	_ activated = (*Dense)(nil)
)

// Kind is dense.
func (*Dense) Kind() string { return "dense" }

func (d *Dense) check() error {
	if d.Units < 1 || d.Units > maxFloats {
		return fmt.Errorf("units is %d, must be at least 1", d.Units)
	}
	if err := checkActivation(d.Activation); err != nil {
		return err
	}
	return first(d.KernelInitializer.check(), d.BiasInitializer.check(), d.KernelRegularizer.check(), d.BiasRegularizer.check())
}

func (d *Dense) activation() string { return d.Activation }

func (d *Dense) shape(in [][]int) ([]int, error) {
	x, err := one(in)
	if err != nil {
		return nil, err
	}
	if len(x) == 0 {
		return nil, fmt.Errorf("takes vectors, gets single numbers")
	}
	if size([]int{lastOf(x), d.Units}) < 0 {
		return nil, fmt.Errorf("a kernel of %d × %d is too large", lastOf(x), d.Units)
	}
	out := append(slices.Clone(x[:len(x)-1]), d.Units)
	if size(out) < 0 {
		return nil, fmt.Errorf("a result of shape %v is too large", out)
	}
	return out, nil
}

func (d *Dense) variables(in [][]int) []variable {
	v := []variable{{name: "kernel", shape: []int{lastOf(in[0]), d.Units}, init: d.KernelInitializer, reg: d.KernelRegularizer}}
	if d.UseBias {
		v = append(v, variable{name: "bias", shape: []int{d.Units}, init: d.BiasInitializer, reg: d.BiasRegularizer})
	}
	return v
}

func (d *Dense) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	var bias graph.Node
	if d.UseBias {
		bias = l.params[1]
	}
	if d.Activation == "relu" {
		return l.b.Dense(in[0], l.params[0], bias, true)
	}
	z, err := l.b.Dense(in[0], l.params[0], bias, false)
	if err != nil {
		return z, err
	}
	return l.activate(z, d.Activation, []int{d.Units})
}
