package model

import (
	"fmt"

	"dkpipe/trainers/model/graph"
)

// Dropout sets a share of the values to 0 while training and scales the others up, as keras.layers.Dropout. It does
// nothing in inference.
type Dropout struct {
	Rate float64 `yaml:"rate"` // 0 <= rate < 1
	Seed *int64  `yaml:"seed"` // nil: drawn from the run's seed and the layer's position
}

var _ Op = (*Dropout)(nil)

// Kind is dropout.
func (*Dropout) Kind() string { return "dropout" }

func (d *Dropout) check() error {
	if !(d.Rate >= 0 && d.Rate < 1) {
		return fmt.Errorf("rate is %g, must be at least 0 and below 1", d.Rate)
	}
	return nil
}

func (d *Dropout) shape(in [][]int) ([]int, error) { return one(in) }

func (*Dropout) variables([][]int) []variable { return nil }

func (d *Dropout) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	if !l.training {
		return in[0], nil
	}
	return l.b.Dropout(in[0], d.Rate, l.seedOr(d.Seed))
}
