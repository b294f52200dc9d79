package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// LSTM runs a long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates: Gers et al. 2000) over the
// steps of each row. x holds the products of the inputs with the kernel, bias included: for each step 4·units floats,
// of the input gate, the forget gate, the candidate and the output gate, in Keras' order. u is the recurrent kernel, a
// parameter of shape [units, 4·units]. The result has units floats a step.
func (b *Builder) LSTM(x, u Node, c Recurrence) (Node, error) {
	shape := u.n.Shape()
	if len(shape) != 2 || shape[1] != 4*shape[0] || x.width != c.Steps*shape[1] {
		return Node{}, fmt.Errorf("lstm: a recurrent kernel of shape %v on rows of %d", shape, x.width)
	}
	o := &lstmOp{meta: meta{kind: "lstm"}, steps: c.Steps, units: shape[0], tape: make([]float32, b.cfg.Rows*c.Steps*6*shape[0])}
	var err error
	if o.act, o.gate, err = c.functions(); err != nil {
		return Node{}, err
	}
	return b.matrix(o, c.Steps*o.units, x.n, u.n)
}

// lstmOp is h_t = o·act(c_t), c_t = f·c_(t-1) + i·g, where i, f, o = gate(z) and g = act(z), z = x_t + h_(t-1)·U.
// Inputs: x, U. Its tape keeps i, f, g, o, c and act(c) of every step for the gradient, which runs after it.
type lstmOp struct {
	meta
	steps, units int
	act, gate    function
	tape         []float32 // rows × steps × 6·units
}

func (o *lstmOp) run(f *frame, in [][]float32, out []float32) {
	n := o.units
	for t := range o.steps {
		for r := range f.rows {
			copy(o.tape[(r*o.steps+t)*6*n:][:4*n], in[0][(r*o.steps+t)*4*n:])
		}
		if t > 0 {
			o.b.cfg.Kernel.Gemm(false, false, f.rows, 4*n, n, 1, out[(t-1)*n:], o.steps*n, in[1], 4*n, 1, o.tape[t*6*n:], o.steps*6*n)
		}
		for r := range f.rows {
			at := r*o.steps + t
			var before []float32 // cells of the step before
			if t > 0 {
				before = o.tape[(at-1)*6*n+4*n:][:n]
			}
			o.step(o.tape[at*6*n:][:6*n], before, out[at*n:][:n])
		}
	}
}

// step turns the sums of one step of a row into gates, cells and outputs.
func (o *lstmOp) step(tape, before, h []float32) {
	n, k := o.units, o.b.cfg.Kernel
	i, f, g, out, c, a := tape[:n], tape[n:2*n], tape[2*n:3*n], tape[3*n:4*n], tape[4*n:5*n], tape[5*n:6*n]
	o.gate.apply(k, tape[:2*n], tape[:2*n])
	o.act.apply(k, g, g)
	o.gate.apply(k, out, out)
	k.Mul(i, g, c)
	for j, v := range before {
		c[j] += f[j] * v
	}
	o.act.apply(k, c, a)
	k.Mul(out, a, h)
}

func (o *lstmOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *lstmOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	n := o.units
	back := &lstmGradOp{meta: meta{kind: "lstm gradient"}, of: o, dh: make([]float32, o.b.cfg.Rows*n), dc: make([]float32, o.b.cfg.Rows*n)}
	dz, err := o.b.matrix(back, o.steps*4*n, y, in[1], grad)
	if err != nil {
		return nil, err
	}
	du, err := o.b.apply(&recurrentKernelGradOp{meta: meta{kind: "lstm recurrent kernel gradient"}, steps: o.steps, units: n, width: 4 * n}, tensor.Shape{n, 4 * n}, y, dz.n)
	return nodes(dz, du), err
}

// lstmGradOp is dZ, back through time. Inputs: h (for the order only), U, dH.
type lstmGradOp struct {
	meta
	of     *lstmOp
	dh, dc []float32 // of the step that is worked on, from the one after it: rows × units
}

func (o *lstmGradOp) run(f *frame, in [][]float32, out []float32) {
	n, steps := o.of.units, o.of.steps
	clear(o.dc[:f.rows*n])
	clear(o.dh[:f.rows*n])
	for t := steps - 1; t >= 0; t-- {
		for r := range f.rows {
			at := r*steps + t
			var before []float32
			if t > 0 {
				before = o.of.tape[(at-1)*6*n+4*n:][:n]
			}
			o.step(o.of.tape[at*6*n:][:6*n], before, in[2][at*n:][:n], o.dh[r*n:][:n], o.dc[r*n:][:n], out[at*4*n:][:4*n])
		}
		if t > 0 {
			o.b.cfg.Kernel.Gemm(false, true, f.rows, n, 4*n, 1, out[t*4*n:], steps*4*n, in[1], 4*n, 0, o.dh, n)
		}
	}
}

// step is the gradient of lstmOp.step. dh comes from the step after and is used up; dc goes from there to the step
// before.
func (o *lstmGradOp) step(tape, before, dy, dh, dc, dz []float32) {
	n, k := o.of.units, o.b.cfg.Kernel
	i, f, g, out, a := tape[:n], tape[n:2*n], tape[2*n:3*n], tape[3*n:4*n], tape[5*n:6*n]
	di, df, dg, do := dz[:n], dz[n:2*n], dz[2*n:3*n], dz[3*n:4*n]
	k.Add(dy, dh, dh)
	k.Mul(dh, a, do)
	k.Mul(dh, out, dh)
	o.of.act.pull(k, a, dh, dh)
	k.Add(dh, dc, dc) // now that of the cell
	k.Mul(dc, g, di)
	k.Mul(dc, i, dg)
	if before != nil {
		k.Mul(dc, before, df)
	} else {
		clear(df)
	}
	k.Mul(dc, f, dc)
	o.of.gate.pull(k, tape[:2*n], dz[:2*n], dz[:2*n])
	o.of.act.pull(k, g, dg, dg)
	o.of.gate.pull(k, out, do, do)
}
