package graph

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
)

// function is an elementwise activation whose derivative can be told from its value, so that only y is kept.
type function struct {
	name  string
	value func(x float32) float32
	slope func(y float32) float32
}

func functions() []function {
	return []function{
		{"relu", func(x float32) float32 { return max(x, 0) }, func(y float32) float32 {
			if y > 0 {
				return 1
			}
			return 0
		}},
		{"sigmoid", sigmoid, func(y float32) float32 { return y * (1 - y) }},
		{"tanh", func(x float32) float32 { return float32(math.Tanh(float64(x))) }, func(y float32) float32 { return 1 - y*y }},
		// elu with alpha 1: e^x - 1 below 0, whose slope is e^x = y + 1.
		{"elu", func(x float32) float32 {
			if x < 0 {
				return float32(math.Expm1(float64(x)))
			}
			return x
		}, func(y float32) float32 { return min(y, 0) + 1 }},
		// softplus y = log(1 + e^x), whose slope is the sigmoid of x = 1 - e^-y.
		{"softplus", func(x float32) float32 {
			return max(x, 0) + float32(math.Log1p(math.Exp(-math.Abs(float64(x)))))
		}, func(y float32) float32 { return float32(-math.Expm1(float64(-y))) }},
	}
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// Activations lists the names that Activation takes.
func Activations() []string {
	names := []string{"linear"}
	for _, f := range functions() {
		names = append(names, f.name)
	}
	return append(names, "softmax")
}

// Activation applies a named function: elementwise, or softmax over each row.
func (b *Builder) Activation(x Node, name string) (Node, error) {
	switch name {
	case "linear":
		return x, nil
	case "softmax":
		return b.matrix(&softmaxOp{meta: meta{kind: "softmax"}, width: x.width}, x.width, x.n)
	}
	for _, f := range functions() {
		if f.name == name {
			return b.matrix(&activationOp{meta: meta{kind: name}, f: f, width: x.width}, x.width, x.n)
		}
	}
	return Node{}, fmt.Errorf("there is no activation %q", name)
}

// activationOp is y = f(x).
type activationOp struct {
	meta
	f     function
	width int
}

func (o *activationOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	x, y := in[0][:n], out[:n]
	for i, v := range x {
		y[i] = o.f.value(v)
	}
}

func (o *activationOp) DiffWRT(int) []bool { return []bool{true} }

func (o *activationOp) SymDiff(_ gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&activationGradOp{meta: meta{kind: o.kind + " gradient"}, f: o.f, width: o.width}, o.width, y, grad)
	return nodes(dx), err
}

// activationGradOp is dX = dY · f'(x), with f' told from y. Inputs: y, dY.
type activationGradOp struct {
	meta
	f     function
	width int
}

func (o *activationGradOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	y, dy, dx := in[0][:n], in[1][:n], out[:n]
	for i, v := range y {
		dx[i] = dy[i] * o.f.slope(v)
	}
}

// softmaxOp is y_j = e^(x_j - max x) / Σ over each row.
type softmaxOp struct {
	meta
	width int
}

func (o *softmaxOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows {
		x, y := in[0][i*o.width:][:o.width], out[i*o.width:][:o.width]
		top := x[0]
		for _, v := range x[1:] {
			top = max(top, v) // NaN wins, so a NaN spoils its row and is seen
		}
		var sum float64
		for j, v := range x {
			e := math.Exp(float64(v - top))
			sum += e
			y[j] = float32(e)
		}
		scale := float32(1 / sum)
		for j := range y {
			y[j] *= scale
		}
	}
}

func (o *softmaxOp) DiffWRT(int) []bool { return []bool{true} }

func (o *softmaxOp) SymDiff(_ gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&softmaxGradOp{meta: meta{kind: "softmax gradient"}, width: o.width}, o.width, y, grad)
	return nodes(dx), err
}

// softmaxGradOp is dX_j = y_j (dY_j - Σ_k dY_k y_k) over each row. Inputs: y, dY.
type softmaxGradOp struct {
	meta
	width int
}

func (o *softmaxGradOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows {
		y, dy, dx := in[0][i*o.width:][:o.width], in[1][i*o.width:][:o.width], out[i*o.width:][:o.width]
		var dot float64
		for j, v := range y {
			dot += float64(v) * float64(dy[j])
		}
		for j, v := range y {
			dx[j] = v * (dy[j] - float32(dot))
		}
	}
}
