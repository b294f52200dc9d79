package kerasfile

import (
	"cmp"
	"slices"

	"dkpipe/trainers/model"
)

// inKerasOrder gives a model with its layers in the order in which Keras has them once it has read the file, whatever the
// order in the file: the farthest from the outputs first, and of equal distance those first that are met first on the way
// back from the outputs. Weights are found by counting layers in that order. A chain of layers stays as it is.
func inKerasOrder(d *model.Definition) *model.Definition {
	index := map[string]int{}
	for i, l := range d.Layers {
		index[l.Name] = i
	}
	far := make([]int, len(d.Layers))
	for i, l := range slices.Backward(d.Layers) { // who reads a layer comes after it
		for _, from := range l.From {
			if k, ok := index[from]; ok {
				far[k] = max(far[k], far[i]+1)
			}
		}
	}
	met := make([]int, len(d.Layers)) // from 1; 0: not yet
	n := 0
	var visit func(name string)
	visit = func(name string) {
		i, ok := index[name]
		if !ok || met[i] > 0 {
			return
		}
		n++
		met[i] = n
		for _, from := range d.Layers[i].From {
			visit(from)
		}
	}
	for _, out := range d.Outputs {
		visit(out)
	}
	out := *d
	out.Layers = slices.Clone(d.Layers)
	slices.SortStableFunc(out.Layers, func(a, b model.Layer) int {
		i, k := index[a.Name], index[b.Name]
		return cmp.Or(far[k]-far[i], met[i]-met[k])
	})
	return &out
}
