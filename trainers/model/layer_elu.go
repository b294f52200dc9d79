package model

import (
	"fmt"

	"dkpipe/trainers/model/graph"
)

// ELU is x above 0 and alpha·(e^x - 1) below, as keras.layers.ELU.
type ELU struct {
	Alpha float64 `yaml:"alpha"` // default 1
}

var _ Op = (*ELU)(nil)

// Kind is elu.
func (*ELU) Kind() string { return "elu" }

func (e *ELU) check() error {
	if !(e.Alpha >= 0) {
		return fmt.Errorf("alpha is %g, must be at least 0", e.Alpha)
	}
	return nil
}

func (e *ELU) shape(in [][]int) ([]int, error) { return one(in) }

func (*ELU) variables([][]int) []variable { return nil }

func (e *ELU) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.ELU(in[0], e.Alpha)
}
