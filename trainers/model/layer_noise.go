package model

import (
	"fmt"

	"dkpipe/trainers/model/graph"
)

// GaussianNoise adds normal noise while training, as keras.layers.GaussianNoise. It does nothing in inference.
type GaussianNoise struct {
	Stddev float64 `yaml:"stddev"` // >= 0
	Seed   *int64  `yaml:"seed"`   // nil: drawn from the run's seed and the layer's position
}

var _ Op = (*GaussianNoise)(nil)

// Kind is gaussian_noise.
func (*GaussianNoise) Kind() string { return "gaussian_noise" }

func (g *GaussianNoise) check() error {
	if !(g.Stddev >= 0) {
		return fmt.Errorf("stddev is %g, must be at least 0", g.Stddev)
	}
	return nil
}

func (g *GaussianNoise) shape(in [][]int) ([]int, error) { return one(in) }

func (*GaussianNoise) variables([][]int) []variable { return nil }

func (g *GaussianNoise) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	if !l.training {
		return in[0], nil
	}
	return l.b.Noise(in[0], g.Stddev, l.seedOr(g.Seed))
}
