package model

import (
	"fmt"
	"math"

	"dkpipe/trainers/model/graph"
)

// Rectifier is x above the threshold, but at most max_value, and negative_slope·(x - threshold) below it: keras.layers.ReLU,
// and under the name leaky_relu keras.layers.LeakyReLU, which has a slope only.
type Rectifier struct {
	Leaky         bool     `yaml:"-"`              // the layer's kind is leaky_relu, not relu
	MaxValue      *float64 `yaml:"max_value"`      // nil: none
	NegativeSlope float64  `yaml:"negative_slope"` // default 0; of leaky_relu 0.3
	Threshold     float64  `yaml:"threshold"`      // default 0
}

var _ Op = (*Rectifier)(nil)

// Kind is relu or leaky_relu.
func (r *Rectifier) Kind() string {
	if r.Leaky {
		return "leaky_relu"
	}
	return "relu"
}

func (r *Rectifier) check() error {
	switch {
	case r.Leaky && (r.MaxValue != nil || r.Threshold != 0):
		return fmt.Errorf("it has no max_value and no threshold: use relu")
	case !(r.NegativeSlope >= 0) || !(r.Threshold >= 0) || r.MaxValue != nil && !(*r.MaxValue >= 0):
		return fmt.Errorf("max_value, negative_slope and threshold must be at least 0")
	}
	return nil
}

func (r *Rectifier) shape(in [][]int) ([]int, error) { return one(in) }

func (*Rectifier) variables([][]int) []variable { return nil }

func (r *Rectifier) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	top := math.Inf(1)
	if r.MaxValue != nil {
		top = *r.MaxValue
	}
	return l.b.Rectifier(in[0], r.NegativeSlope, r.Threshold, top)
}
