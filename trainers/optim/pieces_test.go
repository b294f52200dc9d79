package optim

import (
	"math"
	"slices"
	"testing"

	"dkpipe/trainers/kernel"
)

// A step in pieces, in any order and of any size, is the step of the whole vector, with every optimizer and kernel set.
func TestPiecesMakeTheSameStep(t *testing.T) {
	const n = 2*blockSize + 77
	cuts := []int{0, 1, 16, 16, 61, 500, 500 + blockSize, n - 3, n}
	for _, c := range every() {
		for _, set := range kernel.Names() {
			k, err := kernel.Select(set)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := New(c.name, WithKernel(k, yamlFields(c.doc)), n)
			if err != nil {
				t.Fatal(err)
			}
			o, _ := New(c.name, WithKernel(k, yamlFields(c.doc)), n)
			parts := Pieces(o)
			if norm := o.(*optimizer).ClipNorm+o.(*optimizer).GlobalClipNorm > 0; norm != (parts == nil) {
				t.Fatalf("%s %s: pieces %v, clips by a norm %v", c.name, c.doc, parts != nil, norm)
			}
			if parts == nil {
				continue
			}
			a, b, g := make([]float32, n), make([]float32, n), make([]float32, n)
			for step := range 5 {
				for i := range g {
					g[i] = float32(math.Sin(float64(i*(step+1)))) * 2
				}
				whole.Apply(a, g)
				parts.Begin()
				for i := len(cuts) - 1; i > 0; i-- {
					parts.Update(cuts[i-1], b[cuts[i-1]:cuts[i]], g[cuts[i-1]:cuts[i]])
				}
			}
			if !slices.Equal(a, b) {
				t.Errorf("%s %s with %s: pieces come out differently", c.name, c.doc, set)
			}
			for i, s := range whole.Slots() {
				if !slices.Equal(s, o.Slots()[i]) {
					t.Errorf("%s %s with %s: slot %d", c.name, c.doc, set, i)
				}
			}
		}
	}
}

// A lazy optimizer is not changed by a gradient of zero, whatever came before: neither its state nor a parameter.
func TestLazyOptimizersMayBeLeftAlone(t *testing.T) {
	var lazies []string
	for _, c := range every() {
		o, err := New(c.name, yamlFields(c.doc), 6)
		if err != nil {
			t.Fatal(err)
		}
		p := Pieces(o)
		if p == nil || !p.Lazy() {
			continue
		}
		lazies = append(lazies, c.name+" "+c.doc)
		params := []float32{1, -1, 1e-30, -1e30, 0, float32(math.Copysign(0, -1))}
		p.Begin()
		p.Update(0, params, []float32{1, 2, 1e-30, -4, 0, 0})
		want, slots := slices.Clone(params), slices.Clone(o.Slots())
		for i, s := range slots {
			slots[i] = slices.Clone(s)
		}
		p.Update(0, params, make([]float32, 6))
		for i, v := range want {
			if math.Float32bits(v) != math.Float32bits(params[i]) {
				t.Errorf("%s %s moves %g to %g", c.name, c.doc, v, params[i])
			}
		}
		for i, s := range o.Slots() {
			if !slices.Equal(s, slots[i]) {
				t.Errorf("%s %s changes slot %d", c.name, c.doc, i)
			}
		}
	}
	if len(lazies) != 2 { // sgd without momentum, at a constant rate and at a schedule's
		t.Errorf("lazy are %q", lazies)
	}
	for _, c := range []struct {
		name, doc string
		want      bool
	}{{"adagrad", "{}", true}, {"adagrad", "{weight_decay: 0.1}", false}, {"sgd", "{clipvalue: 1}", true}} {
		o, err := New(c.name, yamlFields(c.doc), 6)
		if err != nil {
			t.Fatal(err)
		}
		if got := Pieces(o).Lazy(); got != c.want {
			t.Errorf("%s %s: lazy %v", c.name, c.doc, got)
		}
	}
}
