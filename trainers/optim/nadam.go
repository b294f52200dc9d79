package optim

import "math"

// Nadam is keras.optimizers.Nadam: Adam with Nesterov momentum (Dozat 2016, section 3.2, with the momentum schedule of
// Sutskever et al. 2013). At step t, with u_t = beta_1 * (1 - 0.96^t / 2) and U_t the product of u_1 to u_t:
//
//	m += (g - m) * (1 - beta_1)
//	v += (g² - v) * (1 - beta_2)
//	p -= learning_rate * (u_{t+1} * m / (1 - U_{t+1}) + (1 - u_t) * g / (1 - U_t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
type Nadam struct {
	Common  `yaml:",inline"` // learning_rate 0.001
	Beta1   float64          `yaml:"beta_1"`  // 0 <= beta_1 < 1; default 0.9
	Beta2   float64          `yaml:"beta_2"`  // 0 <= beta_2 < 1; default 0.999
	Epsilon float64          `yaml:"epsilon"` // > 0; default 1e-7
}

func newNadam() *Nadam {
	return &Nadam{Common: Common{LearningRate: Constant(0.001)}, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-7}
}

func (o *Nadam) check() error {
	return checkBounds(share("beta_1", o.Beta1), share("beta_2", o.Beta2), positive("epsilon", o.Epsilon))
}

func (o *Nadam) rule(n int) rule {
	return &nadam{beta1: o.Beta1, beta2: o.Beta2, eps: float32(o.Epsilon), m: make([]float32, n), v: make([]float32, n), product: []float32{1}}
}

type nadam struct {
	beta1, beta2  float64
	eps           float32
	ofM, ofG, ofV float32 // factors of this step
	m, v          []float32
	product       []float32 // U of the steps so far
}

func (a *nadam) begin(rate, step float64) {
	u := func(t float64) float64 { return a.beta1 * (1 - 0.5*math.Pow(0.96, t)) }
	product := float64(a.product[0]) * u(step)
	a.product[0] = float32(product)
	next := u(step + 1)
	a.ofM = float32(rate * next / (1 - product*next))
	a.ofG = float32(rate * (1 - u(step)) / (1 - product))
	a.ofV = float32(1 / (1 - math.Pow(a.beta2, step)))
}

func (a *nadam) update(at int, g, p []float32) {
	ofM, ofG, ofV, c1, c2, eps := a.ofM, a.ofG, a.ofV, float32(1-a.beta1), float32(1-a.beta2), a.eps
	m, v := a.m[at:at+len(g)], a.v[at:at+len(g)]
	p = p[:len(g)]
	for i, g := range g {
		mi := m[i] + (g-m[i])*c1
		vi := v[i] + (g*g-v[i])*c2
		m[i], v[i] = mi, vi
		p[i] -= (ofM*mi + ofG*g) / (sqrt(vi*ofV) + eps)
	}
}

func (a *nadam) slots() [][]float32 { return [][]float32{a.m, a.v, a.product} }
