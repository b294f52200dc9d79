package model

import (
	"slices"

	"dkpipe/trainers/model/graph"
)

// GlobalPooling is what the layers have in common that reduce an image or a sequence to one value a channel.
type GlobalPooling struct {
	KeepDims bool `yaml:"keepdims"` // a result of [1, 1, channels], or [1, channels], instead of [channels]; default false
}

func (*GlobalPooling) check() error { return nil }

// result is the shape of one row for an input that is as it has to be.
func (p *GlobalPooling) result(in [][]int, err error) ([]int, error) {
	if err != nil {
		return nil, err
	}
	channels := []int{lastOf(in[0])}
	if p.KeepDims {
		return append(slices.Repeat([]int{1}, len(in[0])-1), channels...), nil
	}
	return channels, nil
}

func (*GlobalPooling) variables([][]int) []variable { return nil }

func (*GlobalPooling) mean(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.GlobalAveragePool(in[0], lastOf(l.in[0]))
}

func (*GlobalPooling) most(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.GlobalMaxPool(in[0], lastOf(l.in[0]))
}

// GlobalAveragePooling2D takes the mean over all pixels, as keras.layers.GlobalAveragePooling2D.
type GlobalAveragePooling2D struct {
	GlobalPooling `yaml:",inline"`
}

var _ Op = (*GlobalAveragePooling2D)(nil)

// Kind is global_average_pooling2d.
func (*GlobalAveragePooling2D) Kind() string { return "global_average_pooling2d" }

func (p *GlobalAveragePooling2D) shape(in [][]int) ([]int, error) {
	_, err := window(in, Pair{1, 1}, Pair{1, 1}, Pair{1, 1}, "valid")
	return p.result(in, err)
}

func (p *GlobalAveragePooling2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return p.mean(l, in)
}

// GlobalAveragePooling1D takes the mean over all steps, as keras.layers.GlobalAveragePooling1D.
type GlobalAveragePooling1D struct {
	GlobalPooling `yaml:",inline"`
}

var _ Op = (*GlobalAveragePooling1D)(nil)

// Kind is global_average_pooling1d.
func (*GlobalAveragePooling1D) Kind() string { return "global_average_pooling1d" }

func (p *GlobalAveragePooling1D) shape(in [][]int) ([]int, error) {
	_, err := line(in, 1, 1, 1, "valid")
	return p.result(in, err)
}

func (p *GlobalAveragePooling1D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return p.mean(l, in)
}

// GlobalMaxPooling2D takes the largest value of all pixels, as keras.layers.GlobalMaxPooling2D.
type GlobalMaxPooling2D struct {
	GlobalPooling `yaml:",inline"`
}

var _ Op = (*GlobalMaxPooling2D)(nil)

// Kind is global_max_pooling2d.
func (*GlobalMaxPooling2D) Kind() string { return "global_max_pooling2d" }

func (p *GlobalMaxPooling2D) shape(in [][]int) ([]int, error) {
	_, err := window(in, Pair{1, 1}, Pair{1, 1}, Pair{1, 1}, "valid")
	return p.result(in, err)
}

func (p *GlobalMaxPooling2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return p.most(l, in)
}

// GlobalMaxPooling1D takes the largest value of all steps, as keras.layers.GlobalMaxPooling1D.
type GlobalMaxPooling1D struct {
	GlobalPooling `yaml:",inline"`
}

var _ Op = (*GlobalMaxPooling1D)(nil)

// Kind is global_max_pooling1d.
func (*GlobalMaxPooling1D) Kind() string { return "global_max_pooling1d" }

func (p *GlobalMaxPooling1D) shape(in [][]int) ([]int, error) {
	_, err := line(in, 1, 1, 1, "valid")
	return p.result(in, err)
}

func (p *GlobalMaxPooling1D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return p.most(l, in)
}
