package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// GRU runs a gated recurrent unit (Cho et al. 2014) over the steps of each row. x holds the products of the inputs with
// the kernel, without bias: for each step 3·units floats, of the update gate, the reset gate and the candidate, in
// Keras' order. u is the recurrent kernel, a parameter of shape [units, 3·units]; bias a parameter of shape
// [2, 3·units], of the two products, or without ResetAfter [3·units], or the zero Node. The result has units floats a
// step.
func (b *Builder) GRU(x, u, bias Node, c Recurrence) (Node, error) {
	shape := u.n.Shape()
	if len(shape) != 2 || shape[1] != 3*shape[0] || x.width != c.Steps*shape[1] || !bias.Zero() && bias.width != shape[1] {
		return Node{}, fmt.Errorf("gru: a recurrent kernel of shape %v on rows of %d", shape, x.width)
	}
	n := shape[0]
	o := &gruOp{meta: meta{kind: "gru"}, steps: c.Steps, units: n, after: c.ResetAfter,
		tape: make([]float32, b.cfg.Rows*c.Steps*4*n), rec: make([]float32, b.cfg.Rows*3*n)}
	var err error
	if o.act, o.gate, err = c.functions(); err != nil {
		return Node{}, err
	}
	in := gorgonia.Nodes{x.n, u.n}
	if !bias.Zero() {
		in = append(in, bias.n)
	}
	return b.matrix(o, c.Steps*n, in...)
}

// gruOp is h_t = z·h_(t-1) + (1-z)·g, where z, r = gate(x_t + h_(t-1)·U) and g = act(x_t + r·(h_(t-1)·U)) if after,
// else g = act(x_t + (r·h_(t-1))·U). Inputs: x, U and, if there is one, the bias. Its tape keeps of every step z, r, g
// and what r is multiplied with (after) or the result of that (not after).
type gruOp struct {
	meta
	steps, units int
	after        bool
	act, gate    function
	tape         []float32 // rows × steps × 4·units
	rec          []float32 // products with U of one step: rows × 3·units
}

// biases gives the bias of the product with the kernel and of that with the recurrent one; nil for none.
func (o *gruOp) biases(in [][]float32) (input, recurrent []float32) {
	if len(in) < 3 {
		return nil, nil
	}
	n := 3 * o.units
	if o.after {
		return in[2][:n], in[2][n : 2*n]
	}
	return in[2][:n], nil
}

func (o *gruOp) run(f *frame, in [][]float32, out []float32) {
	n, k := o.units, o.b.cfg.Kernel
	input, recurrent := o.biases(in)
	products := 3 * n
	if !o.after {
		products = 2 * n
	}
	for t := range o.steps {
		rec := o.rec[:f.rows*3*n]
		clear(rec)
		if t > 0 {
			k.Gemm(false, false, f.rows, products, n, 1, out[(t-1)*n:], o.steps*n, in[1], 3*n, 0, rec, 3*n)
		}
		for r := range f.rows {
			at := r*o.steps + t
			row, tape, x := rec[r*3*n:][:3*n], o.tape[at*4*n:][:4*n], in[0][at*3*n:][:3*n]
			for j, v := range recurrent {
				row[j] += v
			}
			k.Add(x[:2*n], row[:2*n], tape[:2*n])
			if input != nil {
				k.Add(tape[:2*n], input[:2*n], tape[:2*n])
			}
			o.gate.apply(k, tape[:2*n], tape[:2*n])
			switch {
			case o.after:
				copy(tape[3*n:], row[2*n:])
			case t > 0:
				k.Mul(tape[n:2*n], out[(at-1)*n:][:n], tape[3*n:])
			default:
				clear(tape[3*n:])
			}
		}
		if !o.after && t > 0 {
			k.Gemm(false, false, f.rows, n, n, 1, o.tape[t*4*n+3*n:], o.steps*4*n, in[1][2*n:], 3*n, 0, rec[2*n:], 3*n)
		}
		for r := range f.rows {
			at := r*o.steps + t
			tape, sum, g := o.tape[at*4*n:][:4*n], rec[r*3*n+2*n:][:n], o.tape[at*4*n+2*n:][:n]
			if o.after {
				k.Mul(tape[n:2*n], tape[3*n:], sum)
			}
			k.Add(sum, in[0][at*3*n+2*n:][:n], g)
			if input != nil {
				k.Add(g, input[2*n:], g)
			}
			o.act.apply(k, g, g)
			h := out[at*n:][:n]
			var before []float32
			if t > 0 {
				before = out[(at-1)*n:][:n]
			}
			blend(tape[:n], before, g, h)
		}
	}
}

// blend is h = z·before + (1-z)·g; before is nil at the first step.
func blend(z, before, g, h []float32) {
	if before == nil {
		for j, v := range z {
			h[j] = (1 - v) * g[j]
		}
		return
	}
	for j, v := range z {
		h[j] = v*before[j] + (1-v)*g[j]
	}
}

func (o *gruOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *gruOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	n, b := o.units, o.b
	back := &gruGradOp{meta: meta{kind: "gru gradient"}, of: o, dh: make([]float32, b.cfg.Rows*n), dq: make([]float32, b.cfg.Rows*n)}
	d, err := b.matrix(back, o.steps*4*n, y, in[1], grad)
	if err != nil {
		return nil, err
	}
	dx, err := b.matrix(&gruInputGradOp{meta: meta{kind: "gru input gradient"}, steps: o.steps, units: n}, o.steps*3*n, d.n)
	if err != nil {
		return nil, err
	}
	du, err := b.apply(&gruKernelGradOp{meta: meta{kind: "gru recurrent kernel gradient"}, of: o}, tensor.Shape{n, 3 * n}, y, d.n)
	if err != nil || len(in) == 2 {
		return nodes(dx, du), err
	}
	db, err := b.apply(&gruBiasGradOp{meta: meta{kind: "gru bias gradient"}, of: o}, in[2].Shape().Clone(), d.n)
	return nodes(dx, du, db), err
}

// gruGradOp goes back through time. For each step it gives 4·units floats: the gradients of the sums of z and of r, of
// the candidate's product with U, and of the candidate's sum. Inputs: h, U, dH.
type gruGradOp struct {
	meta
	of     *gruOp
	dh, dq []float32 // rows × units: from the step after; of r·h_(t-1)
}

func (o *gruGradOp) run(f *frame, in [][]float32, out []float32) {
	g := o.of
	n, steps, k := g.units, g.steps, o.b.cfg.Kernel
	clear(o.dh[:f.rows*n])
	for t := steps - 1; t >= 0; t-- {
		for r := range f.rows {
			at := r*steps + t
			tape, d, dh := g.tape[at*4*n:][:4*n], out[at*4*n:][:4*n], o.dh[r*n:][:n]
			z, reset, cand := tape[:n], tape[n:2*n], tape[2*n:3*n]
			dz, dr, dw, da := d[:n], d[n:2*n], d[2*n:3*n], d[3*n:]
			k.Add(in[2][at*n:][:n], dh, dh)
			for j, v := range dh {
				var before float32
				if t > 0 {
					before = in[0][(at-1)*n+j]
				}
				dz[j] = v * (before - cand[j])
				da[j] = v * (1 - z[j])
			}
			g.gate.pull(k, z, dz, dz)
			g.act.pull(k, cand, da, da)
			if g.after {
				k.Mul(da, tape[3*n:], dr)
				g.gate.pull(k, reset, dr, dr)
				k.Mul(da, reset, dw)
			} else {
				copy(dw, da)
			}
			k.Mul(dh, z, dh) // on to h_(t-1), to which the products add
		}
		if g.after {
			if t > 0 {
				k.Gemm(false, true, f.rows, n, 3*n, 1, out[t*4*n:], steps*4*n, in[1], 3*n, 1, o.dh, n)
			}
			continue
		}
		k.Gemm(false, true, f.rows, n, n, 1, out[t*4*n+2*n:], steps*4*n, in[1][2*n:], 3*n, 0, o.dq, n)
		for r := range f.rows {
			at := r*steps + t
			tape, d := g.tape[at*4*n:][:4*n], out[at*4*n:][:4*n]
			dq, reset, dr := o.dq[r*n:][:n], tape[n:2*n], d[n:2*n]
			if t > 0 {
				k.Mul(dq, in[0][(at-1)*n:][:n], dr)
				g.gate.pull(k, reset, dr, dr)
			} else {
				clear(dr)
			}
			k.Mul(dq, reset, dq)
			k.Add(o.dh[r*n:][:n], dq, o.dh[r*n:][:n])
		}
		if t > 0 {
			k.Gemm(false, true, f.rows, n, 2*n, 1, out[t*4*n:], steps*4*n, in[1], 3*n, 1, o.dh, n)
		}
	}
}

// gruInputGradOp picks what belongs to the sums of z, r and the candidate. Input: what gruGradOp gives.
type gruInputGradOp struct {
	meta
	steps, units int
}

func (o *gruInputGradOp) run(f *frame, in [][]float32, out []float32) {
	n := o.units
	for i := range f.rows * o.steps {
		copy(out[i*3*n:][:2*n], in[0][i*4*n:])
		copy(out[i*3*n+2*n:][:n], in[0][i*4*n+3*n:])
	}
}

// gruKernelGradOp is dU. Inputs: h, what gruGradOp gives.
type gruKernelGradOp struct {
	meta
	of *gruOp
}

func (o *gruKernelGradOp) run(f *frame, in [][]float32, out []float32) {
	g := o.of
	n, steps, k := g.units, g.steps, o.b.cfg.Kernel
	clear(out)
	for t := range steps {
		d := in[1][t*4*n:]
		switch {
		case t > 0 && g.after:
			k.Gemm(true, false, n, 3*n, f.rows, 1, in[0][(t-1)*n:], steps*n, d, steps*4*n, 1, out, 3*n)
		case t > 0:
			k.Gemm(true, false, n, 2*n, f.rows, 1, in[0][(t-1)*n:], steps*n, d, steps*4*n, 1, out, 3*n)
			k.Gemm(true, false, n, n, f.rows, 1, g.tape[t*4*n+3*n:], steps*4*n, d[2*n:], steps*4*n, 1, out[2*n:], 3*n)
		}
	}
}

// gruBiasGradOp sums over rows and steps. Input: what gruGradOp gives.
type gruBiasGradOp struct {
	meta
	of *gruOp
}

func (o *gruBiasGradOp) run(f *frame, in [][]float32, out []float32) {
	n := o.of.units
	clear(out)
	for i := range f.rows * o.of.steps {
		d := in[0][i*4*n:][:4*n]
		for j := range n {
			out[j] += d[j]
			out[n+j] += d[n+j]
			out[2*n+j] += d[3*n+j]
		}
		if o.of.after {
			for j, v := range d[:3*n] {
				out[3*n+j] += v
			}
		}
	}
}
