package model

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model/graph"
)

// Pooling is what the layers have in common that reduce windows of an image to one pixel.
type Pooling struct {
	PoolSize Pair   `yaml:"pool_size"` // rows, columns; default 2
	Strides  Pair   `yaml:"strides"`   // default: the pool size
	Padding  string `yaml:"padding"`   // valid (default) or same
}

func newPooling() Pooling { return Pooling{PoolSize: Pair{2, 2}, Padding: "valid"} }

func (p *Pooling) check() error {
	if p.Strides != (Pair{}) {
		if err := p.Strides.check("strides"); err != nil {
			return err
		}
	}
	return first(p.PoolSize.check("pool_size"), checkPadding(p.Padding, "same", "valid"))
}

func (p *Pooling) window(in [][]int) (kernel.Window, error) {
	strides := p.Strides
	if strides == (Pair{}) {
		strides = p.PoolSize
	}
	return window(in, p.PoolSize, strides, Pair{1, 1}, p.Padding)
}

func (p *Pooling) shape(in [][]int) ([]int, error) {
	g, err := p.window(in)
	return []int{g.OH, g.OW, g.C}, err
}

func (p *Pooling) variables([][]int) []variable { return nil }

// MaxPooling2D takes the largest value of every window, each channel for itself, as keras.layers.MaxPooling2D.
type MaxPooling2D struct {
	Pooling `yaml:",inline"`
}

var _ Op = (*MaxPooling2D)(nil)

// Kind is max_pooling2d.
func (*MaxPooling2D) Kind() string { return "max_pooling2d" }

func (p *MaxPooling2D) check() error {
	if err := p.Pooling.check(); err != nil {
		return err
	}
	if p.PoolSize[0] > kernel.MaxPoolCells || p.PoolSize[0]*p.PoolSize[1] > kernel.MaxPoolCells {
		return &pipeline.Error{Kind: pipeline.Unsupported,
			Message: fmt.Sprintf("a pool_size of %d × %d: at most %d cells", p.PoolSize[0], p.PoolSize[1], kernel.MaxPoolCells),
			Hint:    "use global_max_pooling2d for whole images"}
	}
	return nil
}

func (p *MaxPooling2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := p.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	return l.b.MaxPool(in[0], g, l.alone)
}

// AveragePooling2D takes the mean of every window, each channel for itself, as keras.layers.AveragePooling2D: padding
// does not count.
type AveragePooling2D struct {
	Pooling `yaml:",inline"`
}

var _ Op = (*AveragePooling2D)(nil)

// Kind is average_pooling2d.
func (*AveragePooling2D) Kind() string { return "average_pooling2d" }

func (p *AveragePooling2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := p.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	return l.b.AveragePool(in[0], g)
}
