package graph

import (
	"fmt"
	"math"

	"dkpipe/trainers/kernel"

	"gorgonia.org/gorgonia"
)

// function is an elementwise activation with its derivative, which may be told from x or from y = value(x).
type function struct {
	name  string
	value func(x float32) float32
	slope func(x, y float32) float32
	fromY bool // slope does not look at x: it can be used where only y was kept

	// forward and backward do a whole slice at once, where there is a kernel for it; else nil.
	forward  func(k kernel.Set, x, y []float32)
	backward func(k kernel.Set, y, dy, dx []float32)
}

// The constants of selu (Klambauer et al. 2017, Self-Normalizing Neural Networks, appendix A).
const (
	seluAlpha = 1.6732632423543772
	seluScale = 1.0507009873554805
)

// functions lists the activations by name, as Keras 3 names and defines them.
func functions() []function {
	relu := rectifier("relu", 0, 0, math.Inf(1))
	relu.forward, relu.backward = kernel.Set.ReLU, kernel.Set.ReLUGrad
	return []function{
		relu,
		rectifier("relu6", 0, 0, 6),
		rectifier("leaky_relu", 0.2, 0, math.Inf(1)),
		exponentialUnit("elu", 1, 1),
		exponentialUnit("selu", seluAlpha, seluScale),
		{name: "gelu", value: gelu, slope: geluSlope},
		{name: "gelu_tanh", value: geluTanh, slope: geluTanhSlope},
		// softplus y = log(1 + e^x), whose slope is the sigmoid of x = 1 - e^-y.
		{name: "softplus", value: softplus, slope: func(_, y float32) float32 { return float32(-math.Expm1(float64(-y))) }, fromY: true},
		{name: "softsign", value: func(x float32) float32 { return x / (1 + abs(x)) },
			slope: func(_, y float32) float32 { return (1 - abs(y)) * (1 - abs(y)) }, fromY: true},
		{name: "tanh", value: tanh, slope: func(_, y float32) float32 { return 1 - y*y }, fromY: true,
			forward: kernel.Set.Tanh, backward: kernel.Set.TanhGrad},
		{name: "sigmoid", value: sigmoid, slope: func(_, y float32) float32 { return y * (1 - y) }, fromY: true,
			forward: kernel.Set.Sigmoid, backward: kernel.Set.SigmoidGrad},
		ramp("hard_sigmoid", 1./6),
		ramp("hard_sigmoid_keras2", 0.2),
		{name: "silu", value: func(x float32) float32 { return x * sigmoid(x) },
			slope: func(x, _ float32) float32 { s := sigmoid(x); return s * (1 + x*(1-s)) }},
		{name: "hard_silu", value: func(x float32) float32 { return x * min(max(x/6+0.5, 0), 1) }, slope: hardSiluSlope},
		{name: "exponential", value: func(x float32) float32 { return float32(math.Exp(float64(x))) },
			slope: func(_, y float32) float32 { return y }, fromY: true},
		{name: "mish", value: func(x float32) float32 { return x * tanh(softplus(x)) }, slope: mishSlope},
	}
}

// aliases are second names of activations, as Keras has them.
func aliases() map[string]string {
	return map[string]string{"swish": "silu", "hard_swish": "hard_silu"}
}

// Canonical gives the one name of an activation that has several.
func Canonical(activation string) string {
	if name, ok := aliases()[activation]; ok {
		return name
	}
	return activation
}

// Activations lists the names that Activation takes, without aliases.
func Activations() []string {
	names := []string{"linear"}
	for _, f := range functions() {
		names = append(names, f.name)
	}
	return append(names, "softmax")
}

// findFunction gives an elementwise activation by its name or alias.
func findFunction(name string) (function, bool) {
	for _, f := range functions() {
		if f.name == Canonical(name) {
			return f, true
		}
	}
	return function{}, false
}

// RecurrentActivations lists the activations that a recurrent layer can have: those whose slope can be told from their
// value, which is all that is kept of a time step.
func RecurrentActivations() []string {
	names := []string{"linear"}
	for _, f := range functions() {
		if f.fromY {
			names = append(names, f.name)
		}
	}
	return names
}

// rectifier is x above the threshold, but at most top, and slope·(x - threshold) below it.
func rectifier(name string, slope, threshold, top float64) function {
	a, th, limit := float32(slope), float32(threshold), float32(top)
	f := function{name: name, value: func(x float32) float32 {
		if x < th {
			return a * (x - th)
		}
		return min(x, limit) // NaN stays NaN
	}}
	if th == 0 && a >= 0 { // then y is above 0 where x is
		f.fromY = true
		f.slope = func(_, y float32) float32 {
			switch {
			case y <= 0: // at 0 the slope of the left side, as everywhere
				return a
			case y >= limit:
				return 0
			}
			return 1
		}
		return f
	}
	f.slope = func(x, _ float32) float32 {
		switch {
		case x < th:
			return a
		case x >= limit:
			return 0
		}
		return 1
	}
	return f
}

// exponentialUnit is scale·x above 0 and scale·alpha·(e^x - 1) below, whose slope there is y + scale·alpha.
func exponentialUnit(name string, alpha, scale float64) function {
	a, s := float32(alpha*scale), float32(scale)
	return function{name: name, fromY: true,
		value: func(x float32) float32 {
			if x > 0 {
				return s * x
			}
			return a * float32(math.Expm1(float64(x)))
		},
		slope: func(_, y float32) float32 {
			if y > 0 {
				return s
			}
			return y + a
		}}
}

// ramp is slope·x + 1/2, cut off at 0 and 1.
func ramp(name string, slope float64) function {
	a := float32(slope)
	return function{name: name, fromY: true,
		value: func(x float32) float32 { return min(max(a*x+0.5, 0), 1) },
		slope: func(_, y float32) float32 {
			if y > 0 && y < 1 {
				return a
			}
			return 0
		}}
}

func abs(x float32) float32     { return float32(math.Abs(float64(x))) }
func tanh(x float32) float32    { return float32(math.Tanh(float64(x))) }
func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

func softplus(x float32) float32 {
	return max(x, 0) + float32(math.Log1p(math.Exp(-math.Abs(float64(x)))))
}

// normalShare and normalDensity are the distribution and the density of the standard normal.
func normalShare(x float64) float64   { return 0.5 * math.Erfc(-x/math.Sqrt2) }
func normalDensity(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }

// gelu is x·Φ(x) (Hendrycks and Gimpel 2016).
func gelu(x float32) float32 { return float32(float64(x) * normalShare(float64(x))) }

func geluSlope(x, _ float32) float32 {
	return float32(normalShare(float64(x)) + float64(x)*normalDensity(float64(x)))
}

// geluTanh is the approximation x/2·(1 + tanh(√(2/π)(x + 0.044715 x³))) (Hendrycks and Gimpel 2016).
func geluTanh(x float32) float32 {
	v := float64(x)
	return float32(v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))))
}

func geluTanhSlope(x, _ float32) float32 {
	v := float64(x)
	t := math.Tanh(math.Sqrt(2/math.Pi) * (v + 0.044715*v*v*v))
	return float32(0.5*(1+t) + v/2*(1-t*t)*math.Sqrt(2/math.Pi)*(1+3*0.044715*v*v))
}

func hardSiluSlope(x, _ float32) float32 {
	switch {
	case x <= -3:
		return 0
	case x >= 3:
		return 1
	}
	return x/3 + 0.5
}

// mishSlope: y = x·t with t = tanh(softplus(x)), so y' = t + x·(1 - t²)·sigmoid(x).
func mishSlope(x, _ float32) float32 {
	t := tanh(softplus(x))
	return t + x*(1-t*t)*sigmoid(x)
}

// Activation applies a named function: elementwise, or softmax over the last dimension, which has last floats.
func (b *Builder) Activation(x Node, name string, last int) (Node, error) {
	switch name {
	case "linear":
		return x, nil
	case "softmax":
		return b.softmax(x, last)
	}
	if f, ok := findFunction(name); ok {
		return b.elementwise(x, f)
	}
	return Node{}, fmt.Errorf("there is no activation %q", name)
}

// Rectifier is the general ReLU: x above the threshold, but at most top; slope·(x - threshold) below it.
func (b *Builder) Rectifier(x Node, slope, threshold, top float64) (Node, error) {
	if slope == 0 && threshold == 0 && math.IsInf(top, 1) {
		return b.Activation(x, "relu", 1)
	}
	return b.elementwise(x, rectifier("rectifier", slope, threshold, top))
}

// ELU is x above 0 and alpha·(e^x - 1) below.
func (b *Builder) ELU(x Node, alpha float64) (Node, error) {
	return b.elementwise(x, exponentialUnit("elu", alpha, 1))
}

func (b *Builder) elementwise(x Node, f function) (Node, error) {
	return b.matrix(&activationOp{meta: meta{kind: f.name}, f: f, width: x.width}, x.width, x.n)
}

// activationOp is y = f(x).
type activationOp struct {
	meta
	f     function
	width int
}

func (o *activationOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	o.f.apply(o.b.cfg.Kernel, in[0][:n], out[:n])
}

// apply computes y = f(x); y may be x.
func (f *function) apply(k kernel.Set, x, y []float32) {
	if f.forward != nil {
		f.forward(k, x, y)
		return
	}
	for i, v := range x {
		y[i] = f.value(v)
	}
}

// pull computes dx = dy · f' of a function whose slope can be told from y; dx may be dy.
func (f *function) pull(k kernel.Set, y, dy, dx []float32) {
	if f.backward != nil {
		f.backward(k, y, dy, dx)
		return
	}
	for i, v := range y {
		dx[i] = dy[i] * f.slope(0, v)
	}
}

func (o *activationOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *activationOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&activationGradOp{meta: meta{kind: o.kind + " gradient"}, f: o.f, width: o.width}, o.width, in[0], y, grad)
	return nodes(dx), err
}

// activationGradOp is dX = dY · f'. Inputs: x, y, dY.
type activationGradOp struct {
	meta
	f     function
	width int
}

func (o *activationGradOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	x, y, dy, dx := in[0][:n], in[1][:n], in[2][:n], out[:n]
	if o.f.fromY {
		o.f.pull(o.b.cfg.Kernel, y, dy, dx)
		return
	}
	for i, v := range y {
		dx[i] = dy[i] * o.f.slope(x[i], v)
	}
}

func (b *Builder) softmax(x Node, last int) (Node, error) {
	if last < 1 || x.width%last != 0 {
		return Node{}, fmt.Errorf("softmax: a last dimension of %d in rows of %d", last, x.width)
	}
	return b.matrix(&softmaxOp{meta: meta{kind: "softmax"}, lead: x.width / last, width: last}, x.width, x.n)
}

// softmaxOp is y_j = e^(x_j - max x) / Σ over each of the lead vectors of a row.
type softmaxOp struct {
	meta
	lead, width int
}

func (o *softmaxOp) run(f *frame, in [][]float32, out []float32) {
	o.b.cfg.Kernel.Softmax(f.rows*o.lead, o.width, in[0], out)
}

// softmaxRow is the softmax of one vector.
func softmaxRow(x, y []float32) {
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

func (o *softmaxOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *softmaxOp) SymDiff(_ gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	width := o.lead * o.width
	dx, err := o.b.matrix(&softmaxGradOp{meta: meta{kind: "softmax gradient"}, lead: o.lead, width: o.width}, width, y, grad)
	return nodes(dx), err
}

// softmaxGradOp is dX_j = y_j (dY_j - Σ_k dY_k y_k) over each vector. Inputs: y, dY.
type softmaxGradOp struct {
	meta
	lead, width int
}

func (o *softmaxGradOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows * o.lead {
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
