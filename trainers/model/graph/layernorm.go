package graph

import (
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// LayerNorm brings every vector of the last dimension to mean 0 and variance 1, then scales and shifts it (Ba et al.
// 2016, section 3). gamma and beta are parameters of shape [last], or the zero Node.
func (b *Builder) LayerNorm(x, gamma, beta Node, last int, eps float64) (Node, error) {
	o := &layerNormOp{meta: meta{kind: "layer normalization"}, lead: x.width / last, width: last, eps: eps, scale: !gamma.Zero(), shift: !beta.Zero()}
	in := gorgonia.Nodes{x.n}
	if o.scale {
		in = append(in, gamma.n)
	}
	if o.shift {
		in = append(in, beta.n)
	}
	return b.matrix(o, x.width, in...)
}

// layerNormOp is y = (x - mean) / √(variance + eps) · gamma + beta. Inputs: x, then gamma and beta as far as there.
type layerNormOp struct {
	meta
	lead, width  int
	eps          float64
	scale, shift bool
}

// spread gives a vector's mean and 1/√(variance + eps).
func spread(x []float32, eps float64) (mean, inv float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	var square float64
	for _, v := range x {
		d := float64(v) - mean
		square += d * d
	}
	return mean, 1 / math.Sqrt(square/float64(len(x))+eps)
}

func (o *layerNormOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows * o.lead {
		x, y := in[0][i*o.width:][:o.width], out[i*o.width:][:o.width]
		mean, inv := spread(x, o.eps)
		for j, v := range x {
			y[j] = float32((float64(v) - mean) * inv)
		}
		if o.scale {
			for j, g := range in[1][:o.width] {
				y[j] *= g
			}
		}
		if o.shift {
			for j, b := range in[len(in)-1][:o.width] {
				y[j] += b
			}
		}
	}
}

func (o *layerNormOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *layerNormOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	var dx, dgamma, dbeta Node
	var err error
	if o.b.needsGrad(in[0]) {
		args := gorgonia.Nodes{in[0], grad}
		if o.scale {
			args = append(args, in[1])
		}
		g := &layerNormGradOp{meta: meta{kind: "layer normalization gradient"}, lead: o.lead, width: o.width, eps: o.eps}
		if dx, err = o.b.matrix(g, o.lead*o.width, args...); err != nil {
			return nil, err
		}
	}
	all := []Node{dx}
	if o.scale {
		g := &layerNormScaleGradOp{meta: meta{kind: "layer normalization scale gradient"}, lead: o.lead, width: o.width, eps: o.eps}
		if dgamma, err = o.b.apply(g, tensor.Shape{o.width}, in[0], grad); err != nil {
			return nil, err
		}
		all = append(all, dgamma)
	}
	if o.shift {
		if dbeta, err = o.b.apply(&columnSumOp{meta: meta{kind: "column sum"}, lead: o.lead, width: o.width}, tensor.Shape{o.width}, grad); err != nil {
			return nil, err
		}
		all = append(all, dbeta)
	}
	return nodes(all...), nil
}

// layerNormGradOp is dX = (g - mean g - n·mean(g·n)) / √(variance + eps) with g = dY·gamma and n the normalized x.
// Inputs: x, dY and, with scale, gamma.
type layerNormGradOp struct {
	meta
	lead, width int
	eps         float64
}

func (o *layerNormGradOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows * o.lead {
		x, dy, dx := in[0][i*o.width:][:o.width], in[1][i*o.width:][:o.width], out[i*o.width:][:o.width]
		copy(dx, dy)
		if len(in) == 3 {
			for j, g := range in[2][:o.width] {
				dx[j] *= g
			}
		}
		mean, inv := spread(x, o.eps)
		var sum, dot float64
		for j, g := range dx {
			sum += float64(g)
			dot += float64(g) * (float64(x[j]) - mean) * inv
		}
		sum /= float64(o.width)
		dot /= float64(o.width)
		for j, g := range dx {
			dx[j] = float32((float64(g) - sum - (float64(x[j])-mean)*inv*dot) * inv)
		}
	}
}

// layerNormScaleGradOp is dGamma = Σ dY·n over the vectors. Inputs: x, dY.
type layerNormScaleGradOp struct {
	meta
	lead, width int
	eps         float64
}

func (o *layerNormScaleGradOp) run(f *frame, in [][]float32, out []float32) {
	clear(out)
	for i := range f.rows * o.lead {
		x, dy := in[0][i*o.width:][:o.width], in[1][i*o.width:][:o.width]
		mean, inv := spread(x, o.eps)
		for j, d := range dy {
			out[j] += d * float32((float64(x[j])-mean)*inv)
		}
	}
}
