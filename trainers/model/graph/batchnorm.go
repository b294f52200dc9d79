package graph

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// BatchNormConfig says how BatchNorm works. Its state is 2·channels floats: the moving mean, then the moving variance.
type BatchNormConfig struct {
	Channels int     // the last dimension: every one is brought to mean 0 and variance 1 for itself
	State    int     // place of the state
	Momentum float64 // of the moving averages
	Epsilon  float64
	Training bool // use and average the batch's statistics, not the moving ones; without it gamma and beta are not trained
}

// BatchNorm brings every channel to mean 0 and variance 1, then scales and shifts it (Ioffe and Szegedy 2015,
// algorithm 1). gamma and beta are parameters of shape [channels], or the zero Node. In training the statistics are
// those of the batch, the variance being the mean square deviation, and the moving ones become
// momentum·moving + (1 - momentum)·batch, as in Keras 3.
func (b *Builder) BatchNorm(x, gamma, beta Node, c BatchNormConfig) (Node, error) {
	n := c.Channels
	if n < 1 || x.width%n != 0 || !gamma.Zero() && gamma.width != n || !beta.Zero() && beta.width != n {
		return Node{}, fmt.Errorf("batch normalization: %d channels in rows of %d", n, x.width)
	}
	moments := b.State(c.State, 2*n)
	if c.Training {
		var err error
		if moments, err = b.apply(&momentsOp{meta: meta{kind: "moments"}, lead: x.width / n, width: n}, tensor.Shape{2 * n}, x.n); err != nil {
			return Node{}, err
		}
		moving, err := b.apply(&movingOp{meta: meta{kind: "moving moments"}, width: n, momentum: float32(c.Momentum), blend: float32(1 - c.Momentum)},
			tensor.Shape{2 * n}, moments.n)
		if err != nil {
			return Node{}, err
		}
		b.update(moving, c.State, 2*n)
	}
	o := &batchNormOp{meta: meta{kind: "batch normalization"}, lead: x.width / n, width: n, eps: float32(c.Epsilon), fixed: !c.Training,
		gamma: !gamma.Zero(), beta: !beta.Zero(), scale: make([]float32, n), shift: make([]float32, n)}
	in := gorgonia.Nodes{x.n, moments.n}
	if o.gamma {
		in = append(in, gamma.n)
	}
	if o.beta {
		in = append(in, beta.n)
	}
	return b.matrix(o, x.width, in...)
}

// momentsOp gives mean and variance of every column, over the vectors of all rows.
type momentsOp struct {
	meta
	lead, width int
}

func (o *momentsOp) run(f *frame, in [][]float32, out []float32) {
	n, rows := o.width, f.rows*o.lead
	mean, variance := out[:n], out[n:2*n]
	clear(out)
	o.b.cfg.Kernel.AddColumnSums(rows, n, in[0], mean)
	scale := 1 / float32(rows)
	for j := range mean {
		mean[j] *= scale
	}
	o.b.cfg.Kernel.AddColumnSquares(rows, n, in[0], mean, variance)
	for j := range variance {
		variance[j] *= scale
	}
}

// movingOp averages moments over the steps, where they are kept.
type movingOp struct {
	meta
	width           int
	momentum, blend float32
}

func (o *movingOp) run(f *frame, in [][]float32, out []float32) {
	if f.seen != nil {
		o.gather(float64(*f.seen), float64(f.rows), in[0], out)
		return
	}
	for j, v := range in[0][:len(out)] {
		out[j] = o.momentum*out[j] + o.blend*v
	}
}

// gather makes the moments of the rows so far and of a batch those of both: the mean, and the variance about the mean of
// all (Chan et al. 1983, eq. 2.1).
func (o *movingOp) gather(before, rows float64, batch, out []float32) {
	share := rows / (before + rows)
	for j := range o.width {
		if before == 0 {
			out[j], out[o.width+j] = batch[j], batch[o.width+j]
			continue
		}
		d := float64(batch[j]) - float64(out[j])
		old, own := float64(out[o.width+j]), float64(batch[o.width+j])
		out[j] += float32(d * share)
		out[o.width+j] = float32(old + (own-old)*share + d*d*share*(1-share))
	}
}

// batchNormOp is y = (x - mean) / √(variance + eps) · gamma + beta, as one product and one sum for each number. Inputs:
// x, moments, then gamma and beta as far as there.
type batchNormOp struct {
	meta
	lead, width  int
	eps          float32
	gamma, beta  bool
	fixed        bool // the moments do not depend on x
	scale, shift []float32
}

func (o *batchNormOp) run(f *frame, in [][]float32, out []float32) {
	mean, variance := in[1][:o.width], in[1][o.width:2*o.width]
	for j, v := range variance {
		s := inverse(v, o.eps)
		if o.gamma {
			s *= in[2][j]
		}
		o.scale[j], o.shift[j] = s, -mean[j]*s
		if o.beta {
			o.shift[j] += in[len(in)-1][j]
		}
	}
	o.b.cfg.Kernel.ScaleColumns(f.rows*o.lead, o.width, in[0], o.scale, o.shift, out)
}

// inverse is 1/√(variance + eps).
func inverse(variance, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(variance)+float64(eps)))
}

func (o *batchNormOp) DiffWRT(n int) []bool {
	wrt := o.wrt(n)
	wrt[1] = false // the gradient by x goes through the moments already
	return wrt
}

func (o *batchNormOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	n := o.width
	if o.fixed {
		return o.fixedGrad(in, grad)
	}
	sums, err := o.b.apply(&batchNormSumsOp{meta: meta{kind: "batch normalization sums"}, lead: o.lead, width: n, eps: o.eps},
		tensor.Shape{2 * n}, in[0], in[1], grad)
	if err != nil {
		return nil, err
	}
	var dx Node
	if o.b.needsGrad(in[0]) {
		args := gorgonia.Nodes{in[0], in[1], sums.n, grad}
		if o.gamma {
			args = append(args, in[2])
		}
		g := &batchNormGradOp{meta: meta{kind: "batch normalization gradient"}, lead: o.lead, width: n, eps: o.eps,
			a: make([]float32, n), b: make([]float32, n), c: make([]float32, n)}
		if dx, err = o.b.matrix(g, o.lead*n, args...); err != nil {
			return nil, err
		}
	}
	all := []Node{dx, {}}
	for _, part := range []struct {
		there bool
		at    int
	}{{o.gamma, n}, {o.beta, 0}} {
		if !part.there {
			continue
		}
		d, err := o.b.apply(&partOp{meta: meta{kind: "part"}, at: part.at}, tensor.Shape{n}, sums.n)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return nodes(all...), nil
}

// fixedGrad is SymDiff where the moments are constants, and gamma and beta frozen with them.
func (o *batchNormOp) fixedGrad(in gorgonia.Nodes, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	args := gorgonia.Nodes{in[1], grad}
	if o.gamma {
		args = append(args, in[2])
	}
	dx, err := o.b.matrix(&batchNormScaleOp{meta: meta{kind: "frozen batch normalization gradient"}, lead: o.lead, width: o.width, eps: o.eps,
		scale: make([]float32, o.width), zero: make([]float32, o.width)}, o.lead*o.width, args...)
	all := make(gorgonia.Nodes, len(in))
	all[0] = dx.n
	return all, err
}

// batchNormScaleOp is dX = dY·gamma/√(variance + eps). Inputs: moments, dY and, if there, gamma.
type batchNormScaleOp struct {
	meta
	lead, width int
	eps         float32
	scale, zero []float32
}

func (o *batchNormScaleOp) run(f *frame, in [][]float32, out []float32) {
	for j, v := range in[0][o.width : 2*o.width] {
		o.scale[j] = inverse(v, o.eps)
		if len(in) == 3 {
			o.scale[j] *= in[2][j]
		}
	}
	o.b.cfg.Kernel.ScaleColumns(f.rows*o.lead, o.width, in[1], o.scale, o.zero, out)
}

// batchNormSumsOp gives Σ dY of every column, and Σ dY·n with n the normalized x: the gradients of beta and gamma, and
// what the gradient of x needs. Inputs: x, moments, dY.
type batchNormSumsOp struct {
	meta
	lead, width int
	eps         float32
}

func (o *batchNormSumsOp) run(f *frame, in [][]float32, out []float32) {
	n, rows, k := o.width, f.rows*o.lead, o.b.cfg.Kernel
	mean, variance := in[1][:n], in[1][n:2*n]
	sum, dot := out[:n], out[n:2*n]
	clear(out)
	k.AddColumnSums(rows, n, in[2], sum)
	k.AddColumnDots(rows, n, in[2], in[0], dot)
	for j := range dot {
		dot[j] = (dot[j] - mean[j]*sum[j]) * inverse(variance[j], o.eps)
	}
}

// batchNormGradOp is dX = gamma/√(variance + eps) · (dY - mean of dY - n·mean of dY·n) (Ioffe and Szegedy 2015, section
// 3), which is dY·a + x·b + c with factors for each column. Inputs: x, moments, sums, dY and, if there, gamma.
type batchNormGradOp struct {
	meta
	lead, width int
	eps         float32
	a, b, c     []float32
}

func (o *batchNormGradOp) run(f *frame, in [][]float32, out []float32) {
	n, rows := o.width, f.rows*o.lead
	mean, variance, sum, dot := in[1][:n], in[1][n:2*n], in[2][:n], in[2][n:2*n]
	scale := 1 / float32(rows)
	for j := range o.a {
		inv := inverse(variance[j], o.eps)
		a := inv
		if len(in) == 5 {
			a *= in[4][j]
		}
		slope := inv * dot[j] * scale
		o.a[j], o.b[j], o.c[j] = a, -a*slope, a*(mean[j]*slope-sum[j]*scale)
	}
	o.meta.b.cfg.Kernel.BlendColumns(rows, n, in[3], o.a, in[0], o.b, o.c, out)
}

// partOp copies the part of a vector that its result has room for, from place at.
type partOp struct {
	meta
	at int
}

func (o *partOp) run(_ *frame, in [][]float32, out []float32) { copy(out, in[0][o.at:]) }
