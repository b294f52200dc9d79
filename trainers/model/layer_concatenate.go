package model

import (
	"fmt"
	"slices"

	"dkpipe/trainers/model/graph"
)

// Concatenate joins its inputs along one dimension, as keras.layers.Concatenate.
type Concatenate struct {
	Axis int `yaml:"axis"` // default -1, the last; dimensions are counted from 1, as 0 is the batch
}

var _ Op = (*Concatenate)(nil)

// Kind is concatenate.
func (*Concatenate) Kind() string { return "concatenate" }

func (c *Concatenate) check() error { return nil }

// dimension gives the index of the joined dimension in the shape of a row.
func (c *Concatenate) dimension(rank int) (int, error) {
	d := c.Axis - 1
	if c.Axis < 0 {
		d = rank + c.Axis
	}
	if d < 0 || d >= rank {
		return 0, fmt.Errorf("axis is %d; rows of %d dimensions have axes 1 to %d, or -1 to -%d", c.Axis, rank, rank, rank)
	}
	return d, nil
}

func (c *Concatenate) shape(in [][]int) ([]int, error) {
	if len(in) == 0 {
		return nil, fmt.Errorf("takes at least one input")
	}
	d, err := c.dimension(len(in[0]))
	if err != nil {
		return nil, err
	}
	out := slices.Clone(in[0])
	for _, s := range in[1:] {
		if len(s) != len(out) || !slices.Equal(s[:d], out[:d]) || !slices.Equal(s[d+1:], out[d+1:]) {
			return nil, fmt.Errorf("joins shapes that differ in axis %d only, gets %v and %v", d+1, in[0], s)
		}
		out[d] += s[d]
	}
	if size(out) < 0 {
		return nil, fmt.Errorf("a result of shape %v is too large", out)
	}
	return out, nil
}

func (c *Concatenate) variables([][]int) []variable { return nil }

func (c *Concatenate) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	if len(in) == 1 {
		return in[0], nil
	}
	d, err := c.dimension(len(l.in[0]))
	if err != nil {
		return graph.Node{}, err
	}
	return l.b.Concat(size(l.in[0][:d]), in...)
}
