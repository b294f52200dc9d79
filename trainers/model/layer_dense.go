package model

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Dense is activation(x·kernel + bias) on flat rows, as keras.layers.Dense.
type Dense struct {
	Units             int         `yaml:"units"`      // >= 1
	Activation        string      `yaml:"activation"` // default linear
	UseBias           bool        `yaml:"use_bias"`   // default true
	KernelInitializer Initializer `yaml:"kernel_initializer"`
	BiasInitializer   Initializer `yaml:"bias_initializer"`
}

var _ Op = (*Dense)(nil)

// Kind is dense.
func (*Dense) Kind() string { return "dense" }

func (d *Dense) check() error {
	if d.Units < 1 || d.Units > maxFloats {
		return fmt.Errorf("units is %d, must be at least 1", d.Units)
	}
	if err := checkActivation(d.Activation); err != nil {
		return err
	}
	if err := d.KernelInitializer.check(); err != nil {
		return err
	}
	return d.BiasInitializer.check()
}

func (d *Dense) shape(in [][]int) ([]int, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("takes one input, has %d", len(in))
	}
	if len(in[0]) != 1 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("takes flat rows, gets shape %v", in[0]),
			Hint: "put a flatten layer before it"}
	}
	if size([]int{in[0][0], d.Units}) < 0 {
		return nil, fmt.Errorf("a kernel of %d × %d is too large", in[0][0], d.Units)
	}
	return []int{d.Units}, nil
}

func (d *Dense) variables(in [][]int) []variable {
	v := []variable{{"kernel", []int{in[0][0], d.Units}, d.KernelInitializer}}
	if d.UseBias {
		v = append(v, variable{"bias", []int{d.Units}, d.BiasInitializer})
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
	return l.b.Activation(z, d.Activation)
}
