package model

import (
	"fmt"
	"slices"

	"dkpipe/trainers/model/graph"
)

// Merge combines inputs of equal shape element by element, as the merging layers of Keras: add, subtract, multiply,
// average, maximum, minimum. The gradient of an extreme goes to the first of equal inputs.
type Merge struct {
	How string `yaml:"-"` // the layer's kind
}

var _ Op = (*Merge)(nil)

// mergers lists the kinds.
func mergers() []string {
	return []string{"add", "average", "maximum", "minimum", "multiply", "subtract"}
}

// Kind is add, subtract, multiply, average, maximum or minimum.
func (m *Merge) Kind() string { return m.How }

func (m *Merge) check() error {
	if !slices.Contains(mergers(), m.How) {
		return fmt.Errorf("there is no way %q to merge", m.How)
	}
	return nil
}

func (m *Merge) shape(in [][]int) ([]int, error) {
	switch {
	case m.How == "subtract" && len(in) != 2:
		return nil, fmt.Errorf("takes two inputs, has %d", len(in))
	case len(in) < 2:
		return nil, fmt.Errorf("takes at least two inputs, has %d", len(in))
	}
	for _, s := range in[1:] {
		if !slices.Equal(s, in[0]) {
			return nil, fmt.Errorf("takes inputs of equal shapes, gets %v and %v", in[0], s)
		}
	}
	return in[0], nil
}

func (*Merge) variables([][]int) []variable { return nil }

func (m *Merge) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.Merge(m.How, in...)
}
