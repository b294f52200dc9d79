package model

import (
	"fmt"
	"slices"

	"dkpipe/trainers/model/graph"
)

// Reshape gives a row another shape, in row-major order, as keras.layers.Reshape. It costs nothing.
type Reshape struct {
	TargetShape []int `yaml:"target_shape"` // of one row; one dimension may be -1: what is left
}

var (
	_ Op      = (*Reshape)(nil)
	_ passing = (*Reshape)(nil)
)

// Kind is reshape.
func (*Reshape) Kind() string { return "reshape" }

func (r *Reshape) check() error {
	free := 0
	for _, d := range r.TargetShape {
		if d == -1 {
			free++
		} else if d < 1 {
			return fmt.Errorf("target_shape is %v: dimensions are at least 1, or -1 for what is left", r.TargetShape)
		}
	}
	if free > 1 {
		return fmt.Errorf("target_shape is %v: only one dimension can be -1", r.TargetShape)
	}
	return nil
}

func (r *Reshape) shape(in [][]int) ([]int, error) {
	x, err := one(in)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(r.TargetShape)
	free := slices.Index(out, -1)
	if free >= 0 {
		out[free] = 1
		if n := size(out); n > 0 {
			out[free] = size(x) / n
		}
	}
	if size(out) != size(x) {
		return nil, fmt.Errorf("target_shape %v does not hold the %d numbers of shape %v", r.TargetShape, size(x), x)
	}
	return out, nil
}

func (*Reshape) variables([][]int) []variable { return nil }

func (*Reshape) build(_ *layerGraph, in []graph.Node) (graph.Node, error) { return in[0], nil }

func (*Reshape) passes() {}
