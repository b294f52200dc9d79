package optim

// Adagrad is keras.optimizers.Adagrad (Duchi et al. 2011, eq. 1, with a diagonal matrix). Per element:
//
//	a += g²
//	p -= learning_rate * g / sqrt(a + epsilon)
type Adagrad struct {
	Common  `yaml:",inline"` // learning_rate 0.001
	Initial float64          `yaml:"initial_accumulator_value"` // of a; >= 0; default 0.1
	Epsilon float64          `yaml:"epsilon"`                   // > 0; default 1e-7
}

func newAdagrad() *Adagrad {
	return &Adagrad{Common: Common{LearningRate: Constant(0.001)}, Initial: 0.1, Epsilon: 1e-7}
}

func (o *Adagrad) check() error {
	return checkBounds(atLeastZero("initial_accumulator_value", o.Initial), positive("epsilon", o.Epsilon))
}

func (o *Adagrad) rule(n int) rule {
	a := &adagrad{eps: float32(o.Epsilon), sum: make([]float32, n)}
	for i := range a.sum {
		a.sum[i] = float32(o.Initial)
	}
	return a
}

type adagrad struct {
	rate, eps float32
	sum       []float32
}

func (a *adagrad) begin(rate, _ float64) { a.rate = float32(rate) }

func (a *adagrad) update(at int, g, p []float32) {
	rate, eps := a.rate, a.eps
	sum := a.sum[at : at+len(g)]
	p = p[:len(g)]
	for i, g := range g {
		s := sum[i] + g*g
		sum[i] = s
		p[i] -= rate * g / sqrt(s+eps)
	}
}

func (a *adagrad) lazy() bool { return true }

func (a *adagrad) slots() [][]float32 { return [][]float32{a.sum} }
