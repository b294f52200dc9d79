package optim

import (
	"math"

	"dkpipe/trainers/kernel"
)

// Adam is keras.optimizers.Adam (Kingma and Ba 2015, algorithm 1, in the reordered form of its section 2). At step t,
// with m and v the moments, per element:
//
//	m += (g - m) * (1 - beta_1)
//	v += (g² - v) * (1 - beta_2)
//	p -= learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)
//
// With amsgrad the largest v so far stands in the place of v (Reddi et al. 2018, algorithm 2).
// adamw is the same with a weight decay of 0.004 (Loshchilov and Hutter 2019).
type Adam struct {
	Common  `yaml:",inline"` // learning_rate 0.001
	Beta1   float64          `yaml:"beta_1"`  // 0 <= beta_1 < 1; default 0.9
	Beta2   float64          `yaml:"beta_2"`  // 0 <= beta_2 < 1; default 0.999
	Epsilon float64          `yaml:"epsilon"` // > 0; default 1e-7
	AMSGrad bool             `yaml:"amsgrad"` // default false
}

func newAdam() *Adam {
	return &Adam{Common: Common{LearningRate: Constant(0.001)}, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-7}
}

func newAdamW() *Adam {
	a := newAdam()
	a.WeightDecay = 0.004
	return a
}

func (a *Adam) check() error {
	return checkBounds(share("beta_1", a.Beta1), share("beta_2", a.Beta2), positive("epsilon", a.Epsilon))
}

func (a *Adam) rule(n int) rule {
	r := &adam{kernel: a.kernel, beta1: a.Beta1, beta2: a.Beta2, eps: float32(a.Epsilon), m: make([]float32, n), v: make([]float32, n)}
	if a.AMSGrad {
		r.most = make([]float32, n)
	}
	return r
}

type adam struct {
	kernel       kernel.Set
	beta1, beta2 float64
	eps          float32
	rate         float32 // of this step, with both corrections
	m, v         []float32
	most         []float32 // the largest v so far; nil without amsgrad
}

func (a *adam) begin(rate, step float64) {
	a.rate = float32(rate * math.Sqrt(1-math.Pow(a.beta2, step)) / (1 - math.Pow(a.beta1, step)))
}

func (a *adam) update(at int, g, p []float32) {
	rate, c1, c2, eps := a.rate, float32(1-a.beta1), float32(1-a.beta2), a.eps
	m, v := a.m[at:at+len(g)], a.v[at:at+len(g)]
	if a.most == nil {
		a.kernel.Adam(rate, c1, c2, eps, g, m, v, p)
		return
	}
	p = p[:len(g)]
	most := a.most[at : at+len(g)]
	for i, g := range g {
		mi := m[i] + (g-m[i])*c1
		vi := v[i] + (g*g-v[i])*c2
		top := max(most[i], vi)
		m[i], v[i], most[i] = mi, vi, top
		p[i] -= rate * mi / (sqrt(top) + eps)
	}
}

func (a *adam) slots() [][]float32 {
	if a.most == nil {
		return [][]float32{a.m, a.v}
	}
	return [][]float32{a.m, a.v, a.most}
}

// sqrt is one instruction: the compiler knows this form.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
