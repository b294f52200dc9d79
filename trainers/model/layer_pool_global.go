package model

import "dkpipe/trainers/model/graph"

// GlobalPooling is what the layers have in common that reduce an image to one value a channel.
type GlobalPooling struct {
	KeepDims bool `yaml:"keepdims"` // a result of [1, 1, channels] instead of [channels]; default false
}

func (*GlobalPooling) check() error { return nil }

func (p *GlobalPooling) shape(in [][]int) ([]int, error) {
	g, err := window(in, Pair{1, 1}, Pair{1, 1}, Pair{1, 1}, "valid")
	if p.KeepDims {
		return []int{1, 1, g.C}, err
	}
	return []int{g.C}, err
}

func (*GlobalPooling) variables([][]int) []variable { return nil }

// GlobalAveragePooling2D takes the mean over all pixels, as keras.layers.GlobalAveragePooling2D.
type GlobalAveragePooling2D struct {
	GlobalPooling `yaml:",inline"`
}

var _ Op = (*GlobalAveragePooling2D)(nil)

// Kind is global_average_pooling2d.
func (*GlobalAveragePooling2D) Kind() string { return "global_average_pooling2d" }

func (p *GlobalAveragePooling2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.GlobalAveragePool(in[0], lastOf(l.in[0]))
}

// GlobalMaxPooling2D takes the largest value of all pixels, as keras.layers.GlobalMaxPooling2D.
type GlobalMaxPooling2D struct {
	GlobalPooling `yaml:",inline"`
}

var _ Op = (*GlobalMaxPooling2D)(nil)

// Kind is global_max_pooling2d.
func (*GlobalMaxPooling2D) Kind() string { return "global_max_pooling2d" }

func (p *GlobalMaxPooling2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.GlobalMaxPool(in[0], lastOf(l.in[0]))
}
