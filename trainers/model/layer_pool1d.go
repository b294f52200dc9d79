package model

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model/graph"
)

// Pooling1D is what the layers have in common that reduce windows of a sequence to one step.
type Pooling1D struct {
	PoolSize int    `yaml:"pool_size"` // steps; default 2
	Strides  int    `yaml:"strides"`   // default: the pool size
	Padding  string `yaml:"padding"`   // valid (default) or same
}

func newPooling1D() Pooling1D { return Pooling1D{PoolSize: 2, Padding: "valid"} }

func (p *Pooling1D) check() error {
	return first(checkSteps("pool_size", p.PoolSize), checkSteps("strides", p.Stride()), checkPadding(p.Padding, "same", "valid"))
}

// Stride is how far windows are apart.
func (p *Pooling1D) Stride() int {
	if p.Strides == 0 {
		return p.PoolSize
	}
	return p.Strides
}

func (p *Pooling1D) window(in [][]int) (kernel.Window, error) {
	return line(in, p.PoolSize, p.Stride(), 1, p.Padding)
}

func (p *Pooling1D) shape(in [][]int) ([]int, error) {
	g, err := p.window(in)
	return []int{g.OW, g.C}, err
}

func (p *Pooling1D) variables([][]int) []variable { return nil }

// MaxPooling1D takes the largest value of every window, each channel for itself, as keras.layers.MaxPooling1D.
type MaxPooling1D struct {
	Pooling1D `yaml:",inline"`
}

var _ Op = (*MaxPooling1D)(nil)

// Kind is max_pooling1d.
func (*MaxPooling1D) Kind() string { return "max_pooling1d" }

func (p *MaxPooling1D) check() error {
	if p.PoolSize > kernel.MaxPoolCells {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("a pool_size of %d: at most %d steps", p.PoolSize, kernel.MaxPoolCells),
			Hint: "use global_max_pooling1d for whole sequences"}
	}
	return p.Pooling1D.check()
}

func (p *MaxPooling1D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := p.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	return l.b.MaxPool(in[0], g, l.alone)
}

// AveragePooling1D takes the mean of every window, each channel for itself, as keras.layers.AveragePooling1D: padding
// does not count.
type AveragePooling1D struct {
	Pooling1D `yaml:",inline"`
}

var _ Op = (*AveragePooling1D)(nil)

// Kind is average_pooling1d.
func (*AveragePooling1D) Kind() string { return "average_pooling1d" }

func (p *AveragePooling1D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := p.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	return l.b.AveragePool(in[0], g)
}
