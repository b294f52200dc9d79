package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// denseOp is y = x·W (+ b) (then ReLU): a product with its epilogue in one pass over y.
// Inputs: x, W and, with bias, b.
type denseOp struct {
	meta
	lead       int // vectors of in floats in a row
	in, out    int
	bias, relu bool
}

// Dense adds y = relu?(x·W + b). w is a parameter of shape [in, units]; bias a parameter of shape [units], or the zero
// Node. A row of x holds one vector of in floats or several after another, each of which is multiplied.
func (b *Builder) Dense(x, w, bias Node, relu bool) (Node, error) {
	shape := w.n.Shape()
	if len(shape) != 2 || x.width%shape[0] != 0 || !bias.Zero() && bias.width != w.width {
		return Node{}, fmt.Errorf("dense: a kernel of shape %v on an input of width %d", shape, x.width)
	}
	o := &denseOp{meta: meta{kind: "dense"}, lead: x.width / shape[0], in: shape[0], out: w.width, bias: !bias.Zero(), relu: relu}
	if o.bias {
		return b.matrix(o, o.lead*o.out, x.n, w.n, bias.n)
	}
	return b.matrix(o, o.lead*o.out, x.n, w.n)
}

func (o *denseOp) run(f *frame, in [][]float32, out []float32) {
	var bias []float32
	if o.bias {
		bias = in[2]
	}
	o.b.cfg.Kernel.Linear(f.rows*o.lead, o.out, o.in, in[0], in[1], bias, o.relu, out)
}

func (o *denseOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *denseOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dz := Node{grad, o.lead * o.out}
	var err error
	if o.relu {
		if dz, err = o.b.matrix(&reluGradOp{meta: meta{kind: "relu gradient"}, width: dz.width}, dz.width, y, grad); err != nil {
			return nil, err
		}
	}
	dx, dw, db := Node{}, Node{}, Node{}
	if o.b.needsGrad(in[0]) {
		if dx, err = o.b.matrix(&denseInputGradOp{meta: meta{kind: "dense input gradient"}, lead: o.lead, in: o.in, out: o.out}, o.lead*o.in, dz.n, in[1]); err != nil {
			return nil, err
		}
	}
	if dw, err = o.b.apply(&denseKernelGradOp{meta: meta{kind: "dense kernel gradient"}, lead: o.lead, in: o.in, out: o.out}, tensor.Shape{o.in, o.out}, in[0], dz.n); err != nil {
		return nil, err
	}
	if !o.bias {
		return nodes(dx, dw), nil
	}
	if db, err = o.b.apply(&columnSumOp{meta: meta{kind: "column sum"}, lead: o.lead, width: o.out}, tensor.Shape{o.out}, dz.n); err != nil {
		return nil, err
	}
	return nodes(dx, dw, db), nil
}

// denseInputGradOp is dX = dZ·Wᵀ.
type denseInputGradOp struct {
	meta
	lead, in, out int
}

func (o *denseInputGradOp) run(f *frame, in [][]float32, out []float32) {
	o.b.cfg.Kernel.Gemm(false, true, f.rows*o.lead, o.in, o.out, 1, in[0], o.out, in[1], o.out, 0, out, o.in)
}

// denseKernelGradOp is dW = xᵀ·dZ.
type denseKernelGradOp struct {
	meta
	lead, in, out int
}

func (o *denseKernelGradOp) run(f *frame, in [][]float32, out []float32) {
	o.b.cfg.Kernel.Gemm(true, false, o.in, o.out, f.rows*o.lead, 1, in[0], o.in, in[1], o.out, 0, out, o.out)
}

func (o *denseKernelGradOp) unit() int { return o.out }

func (o *denseKernelGradOp) piece(f *frame, in [][]float32, at int, out []float32) {
	o.b.cfg.Kernel.Gemm(true, false, len(out)/o.out, o.out, f.rows*o.lead, 1, in[0][at/o.out:], o.in, in[1], o.out, 0, out, o.out)
}

// columnSumOp is db = Σ over rows of dZ, and over the lead vectors of each.
type columnSumOp struct {
	meta
	lead, width int
}

func (o *columnSumOp) run(f *frame, in [][]float32, out []float32) {
	clear(out)
	o.b.cfg.Kernel.AddColumnSums(f.rows*o.lead, o.width, in[0], out)
}

// reluGradOp is dZ = dY where y > 0, else 0. Inputs: y, dY.
type reluGradOp struct {
	meta
	width int
}

func (o *reluGradOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	o.b.cfg.Kernel.ReLUGrad(in[0][:n], in[1][:n], out[:n])
}
