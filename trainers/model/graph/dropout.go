package graph

import (
	"math/rand/v2"

	"gorgonia.org/gorgonia"
)

// Dropout sets a share rate of the values to 0 and scales the others by 1/(1-rate), so that the expectation stays
// (inverted dropout, Srivastava et al. 2014, section 10). 0 <= rate < 1. The mask depends on seed and on the step
// number of the run only, so a run can be repeated. Leave it out of an inference graph.
func (b *Builder) Dropout(x Node, rate float64, seed uint64) (Node, error) {
	if rate == 0 {
		return x, nil
	}
	mask, err := b.matrix(&maskOp{
		meta: meta{kind: "dropout mask"}, width: x.width, seed: seed,
		drop: uint32(rate * (1 << 32)), keep: float32(1 / (1 - rate)),
	}, x.width, x.n)
	if err != nil {
		return Node{}, err
	}
	return b.matrix(&maskedOp{meta: meta{kind: "dropout"}, width: x.width}, x.width, x.n, mask.n)
}

// maskOp draws the mask of a step: 0 or keep. Its input gives the place in the graph only.
type maskOp struct {
	meta
	width int
	seed  uint64
	drop  uint32 // a draw below it drops
	keep  float32
	pcg   rand.PCG
}

func (o *maskOp) run(f *frame, _ [][]float32, out []float32) {
	o.pcg.Seed(o.seed, f.step)
	m := out[:f.rows*o.width]
	for i := 0; i < len(m); i += 2 {
		r := o.pcg.Uint64()
		m[i] = o.pick(uint32(r))
		if i+1 < len(m) {
			m[i+1] = o.pick(uint32(r >> 32))
		}
	}
}

func (o *maskOp) pick(r uint32) float32 {
	if r < o.drop {
		return 0
	}
	return o.keep
}

// maskedOp is y = x · mask. Inputs: x, mask.
type maskedOp struct {
	meta
	width int
}

func (o *maskedOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	x, m, y := in[0][:n], in[1][:n], out[:n]
	for i, v := range x {
		y[i] = v * m[i]
	}
}

func (o *maskedOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *maskedOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&maskedOp{meta: meta{kind: "dropout gradient"}, width: o.width}, o.width, grad, in[1])
	return nodes(dx, Node{}), err
}
