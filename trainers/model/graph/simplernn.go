package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SimpleRNN runs a plain recurrent layer (Elman 1990) over the steps of each row. x holds the products of the inputs with
// the kernel, bias included: units floats a step. u is the recurrent kernel, a parameter of shape [units, units]. The
// result has units floats a step.
func (b *Builder) SimpleRNN(x, u Node, c Recurrence) (Node, error) {
	shape := u.n.Shape()
	if len(shape) != 2 || shape[1] != shape[0] || x.width != c.Steps*shape[1] {
		return Node{}, fmt.Errorf("simple_rnn: a recurrent kernel of shape %v on rows of %d", shape, x.width)
	}
	act, err := recurrentFunction(c.Activation)
	if err != nil {
		return Node{}, err
	}
	return b.matrix(&simpleOp{meta: meta{kind: "simple_rnn"}, steps: c.Steps, units: shape[0], act: act}, x.width, x.n, u.n)
}

// simpleOp is h_t = act(x_t + h_(t-1)·U). Inputs: x, U.
type simpleOp struct {
	meta
	steps, units int
	act          function
}

func (o *simpleOp) run(f *frame, in [][]float32, out []float32) {
	n, k := o.units, o.b.cfg.Kernel
	copy(out, in[0][:f.rows*o.steps*n])
	for t := range o.steps {
		if t > 0 {
			k.Gemm(false, false, f.rows, n, n, 1, out[(t-1)*n:], o.steps*n, in[1], n, 1, out[t*n:], o.steps*n)
		}
		for r := range f.rows {
			h := out[(r*o.steps+t)*n:][:n]
			o.act.apply(k, h, h)
		}
	}
}

func (o *simpleOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *simpleOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	n := o.units
	dz, err := o.b.matrix(&simpleGradOp{meta: meta{kind: "simple_rnn gradient"}, of: o}, o.steps*n, y, in[1], grad)
	if err != nil {
		return nil, err
	}
	du, err := o.b.apply(&recurrentKernelGradOp{meta: meta{kind: "simple_rnn recurrent kernel gradient"}, steps: o.steps, units: n, width: n}, tensor.Shape{n, n}, y, dz.n)
	return nodes(dz, du), err
}

// simpleGradOp is dZ, back through time: dZ_t = act'·(dH_t + dZ_(t+1)·Uᵀ). Inputs: h, U, dH.
type simpleGradOp struct {
	meta
	of *simpleOp
}

func (o *simpleGradOp) run(f *frame, in [][]float32, out []float32) {
	n, steps, k := o.of.units, o.of.steps, o.b.cfg.Kernel
	copy(out, in[2][:f.rows*steps*n])
	for t := steps - 1; t >= 0; t-- {
		if t < steps-1 {
			k.Gemm(false, true, f.rows, n, n, 1, out[(t+1)*n:], steps*n, in[1], n, 1, out[t*n:], steps*n)
		}
		for r := range f.rows {
			at := (r*steps + t) * n
			dz := out[at:][:n]
			o.of.act.pull(k, in[0][at:][:n], dz, dz)
		}
	}
}
