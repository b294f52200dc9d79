package model

import (
	"dkpipe/trainers/model/graph"
)

// Flatten makes one dimension of all, in row-major order (height, width, channels). Rows are stored that way already,
// so it costs nothing.
type Flatten struct{}

var _ Op = (*Flatten)(nil)

// Kind is flatten.
func (*Flatten) Kind() string { return "flatten" }

func (*Flatten) check() error { return nil }

func (*Flatten) shape(in [][]int) ([]int, error) {
	x, err := one(in)
	return []int{size(x)}, err
}

func (*Flatten) passes() {}

func (*Flatten) variables([][]int) []variable { return nil }

func (*Flatten) build(_ *layerGraph, in []graph.Node) (graph.Node, error) { return in[0], nil }
