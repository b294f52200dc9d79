package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
)

// Concat joins rows along one dimension. outer is the product of the dimensions before it, which the inputs share;
// what one input brings to the joined dimension, times the dimensions after it, is its width / outer.
func (b *Builder) Concat(outer int, xs ...Node) (Node, error) {
	o := &concatOp{meta: meta{kind: "concatenate"}, outer: outer}
	in := make([]*gorgonia.Node, len(xs))
	for i, x := range xs {
		if outer < 1 || x.width%outer != 0 {
			return Node{}, fmt.Errorf("concatenate: rows of %d in %d parts", x.width, outer)
		}
		in[i] = x.n
		o.inner = append(o.inner, x.width/outer)
		o.sum += x.width / outer
	}
	return b.matrix(o, outer*o.sum, in...)
}

// concatOp copies blocks of inner floats side by side. Inputs: any number.
type concatOp struct {
	meta
	outer int
	inner []int
	sum   int // of inner
}

func (o *concatOp) run(f *frame, in [][]float32, out []float32) {
	at := 0
	for k, n := range o.inner {
		for i := range f.rows * o.outer {
			copy(out[i*o.sum+at:][:n], in[k][i*n:])
		}
		at += n
	}
}

func (o *concatOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *concatOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	parts := make([]Node, len(in))
	at := 0
	for k, n := range o.inner {
		if o.b.needsGrad(in[k]) {
			var err error
			if parts[k], err = o.b.cut(Node{grad, o.outer * o.sum}, o.outer, at, n); err != nil {
				return nil, err
			}
		}
		at += n
	}
	return nodes(parts...), nil
}

// cut takes n floats at place at out of each of the outer blocks of a row.
func (b *Builder) cut(x Node, outer, at, n int) (Node, error) {
	return b.matrix(&cutOp{meta: meta{kind: "cut"}, outer: outer, from: x.width / outer, at: at, n: n}, outer*n, x.n)
}

// cutOp copies a part of every block of from floats.
type cutOp struct {
	meta
	outer, from, at, n int
}

func (o *cutOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows * o.outer {
		copy(out[i*o.n:][:o.n], in[0][i*o.from+o.at:])
	}
}

func (o *cutOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *cutOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	p := &padOp{meta: meta{kind: "cut gradient"}, outer: o.outer, to: o.from, at: o.at, n: o.n}
	dx, err := o.b.matrix(p, o.outer*o.from, grad)
	return nodes(dx), err
}

// padOp is the gradient of cutOp: zeros round what was cut out.
type padOp struct {
	meta
	outer, to, at, n int
}

func (o *padOp) run(f *frame, in [][]float32, out []float32) {
	clear(out[:f.rows*o.outer*o.to])
	for i := range f.rows * o.outer {
		copy(out[i*o.to+o.at:][:o.n], in[0][i*o.n:])
	}
}

// Merge combines rows of equal width element by element: add, subtract, multiply, average, maximum, minimum.
func (b *Builder) Merge(how string, xs ...Node) (Node, error) {
	in := make([]*gorgonia.Node, len(xs))
	for i, x := range xs {
		if x.width != xs[0].width {
			return Node{}, fmt.Errorf("%s: rows of %d and of %d", how, xs[0].width, x.width)
		}
		in[i] = x.n
	}
	width := xs[0].width
	m := meta{kind: how}
	switch how {
	case "add", "subtract", "average":
		s := &sumOp{meta: m, width: width, factor: make([]float32, len(xs))}
		for i := range s.factor {
			s.factor[i] = 1
			if how == "average" {
				s.factor[i] = 1 / float32(len(xs))
			}
			if how == "subtract" && i > 0 {
				s.factor[i] = -1
			}
		}
		return b.matrix(s, width, in...)
	case "multiply":
		return b.matrix(&productOp{meta: m, width: width}, width, in...)
	case "maximum":
		return b.matrix(&extremeOp{meta: m, width: width, sign: 1}, width, in...)
	case "minimum":
		return b.matrix(&extremeOp{meta: m, width: width, sign: -1}, width, in...)
	}
	return Node{}, fmt.Errorf("there is no way %q to merge", how)
}

// sumOp is Σ factor_k · x_k.
type sumOp struct {
	meta
	width  int
	factor []float32
}

func (o *sumOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	y := out[:n]
	for k, x := range in {
		x, a := x[:n], o.factor[k]
		if k == 0 {
			for i, v := range x {
				y[i] = a * v
			}
			continue
		}
		o.b.cfg.Kernel.Axpy(a, x, y)
	}
}

func (o *sumOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *sumOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	all := make([]Node, len(in))
	scaled := map[float32]Node{1: {grad, o.width}}
	for k, a := range o.factor {
		if !o.b.needsGrad(in[k]) {
			continue
		}
		d, ok := scaled[a]
		if !ok {
			var err error
			if d, err = o.b.matrix(&sumOp{meta: meta{kind: o.kind + " gradient"}, width: o.width, factor: []float32{a}}, o.width, grad); err != nil {
				return nil, err
			}
			scaled[a] = d
		}
		all[k] = d
	}
	return nodes(all...), nil
}

// productOp is Π x_k.
type productOp struct {
	meta
	width int
}

func (o *productOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	y := out[:n]
	copy(y, in[0])
	for _, x := range in[1:] {
		x = x[:n]
		for i, v := range x {
			y[i] *= v
		}
	}
}

func (o *productOp) DiffWRT(n int) []bool { return o.wrt(n) }

// SymDiff: d/dx_k is the product of the others, times dY.
func (o *productOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	all := make([]Node, len(in))
	for k := range in {
		if !o.b.needsGrad(in[k]) {
			continue
		}
		factors := gorgonia.Nodes{grad}
		for j, x := range in {
			if j != k {
				factors = append(factors, x)
			}
		}
		var err error
		if all[k], err = o.b.matrix(&productOp{meta: meta{kind: "multiply gradient"}, width: o.width}, o.width, factors...); err != nil {
			return nil, err
		}
	}
	return nodes(all...), nil
}

// extremeOp is the largest of the inputs, or with sign -1 the smallest.
type extremeOp struct {
	meta
	width int
	sign  float32
}

func (o *extremeOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	y := out[:n]
	copy(y, in[0])
	for _, x := range in[1:] {
		x = x[:n]
		for i, v := range x {
			if o.sign > 0 {
				y[i] = max(y[i], v)
			} else {
				y[i] = min(y[i], v)
			}
		}
	}
}

func (o *extremeOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *extremeOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	all := make([]Node, len(in))
	for k := range in {
		if !o.b.needsGrad(in[k]) {
			continue
		}
		var err error
		args := append(append(gorgonia.Nodes{}, in[:k+1]...), y, grad)
		if all[k], err = o.b.matrix(&extremeGradOp{meta: meta{kind: o.kind + " gradient"}, width: o.width}, o.width, args...); err != nil {
			return nil, err
		}
	}
	return nodes(all...), nil
}

// extremeGradOp gives dY to the first input that equals y. Inputs: x_0 to x_k, of which the last is meant, y, dY.
type extremeGradOp struct {
	meta
	width int
}

func (o *extremeGradOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	k := len(in) - 3
	x, y, dy := in[k][:n], in[k+1][:n], in[k+2][:n]
	for i, v := range x {
		out[i] = 0
		if v != y[i] {
			continue
		}
		out[i] = dy[i]
		for _, earlier := range in[:k] {
			if earlier[i] == y[i] {
				out[i] = 0
				break
			}
		}
	}
}
