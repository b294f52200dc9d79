package model

import (
	"fmt"
	"slices"
	"strings"
)

// Repeat gives n copies of a model side by side as one model: the copies read the same inputs, each with weights of its
// own. With average, the outputs are the means of the copies' outputs and keep their names; without, there are those of all
// copies, the first copy's first. Parameters, and likewise State, are those of the copies one after the other. n is 1 or
// more; operations are shared with d.
func (d *Definition) Repeat(n int, average bool) *Definition {
	if n == 1 {
		return d
	}
	prefix := "member"
	for slices.ContainsFunc(d.Layers, func(l Layer) bool { return strings.HasPrefix(l.Name, prefix) }) {
		prefix += "_"
	}
	all := &Definition{Name: d.Name, Inputs: d.Inputs}
	for m := range n {
		of := func(name string) string {
			if slices.ContainsFunc(d.Inputs, func(in Input) bool { return in.Name == name }) {
				return name
			}
			return fmt.Sprintf("%s%d_%s", prefix, m, name)
		}
		for _, l := range d.Layers {
			c := Layer{Name: of(l.Name), Op: l.Op, Frozen: l.Frozen}
			for _, from := range l.From {
				c.From = append(c.From, of(from))
			}
			all.Layers = append(all.Layers, c)
		}
		for _, out := range d.Outputs {
			all.Outputs = append(all.Outputs, of(out))
		}
	}
	if !average {
		return all
	}
	of := all.Outputs
	all.Outputs = slices.Clone(d.Outputs)
	for i, out := range d.Outputs {
		l := Layer{Name: out, Op: &Merge{How: "average"}}
		for m := range n {
			l.From = append(l.From, of[m*len(d.Outputs)+i])
		}
		all.Layers = append(all.Layers, l)
	}
	return all
}
