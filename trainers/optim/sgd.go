package optim

import "dkpipe/trainers/kernel"

// SGD is gradient descent with optional momentum, as keras.optimizers.SGD. With v the velocity, per element:
//
//	momentum 0:         p -= learning_rate * g
//	momentum:           v = momentum*v - learning_rate*g;  p += v
//	momentum, nesterov: v = momentum*v - learning_rate*g;  p += momentum*v - learning_rate*g
type SGD struct {
	Common   `yaml:",inline"` // learning_rate 0.01
	Momentum float64          `yaml:"momentum"` // 0 <= momentum < 1; default 0
	Nesterov bool             `yaml:"nesterov"` // needs momentum > 0; default false
}

func newSGD() *SGD { return &SGD{Common: Common{LearningRate: Constant(0.01)}} }

func (s *SGD) check() error {
	if s.Nesterov && s.Momentum == 0 {
		return &Error{Message: "nesterov needs a momentum above 0", Hint: "set momentum, for example 0.9, or leave nesterov out"}
	}
	return checkBounds(share("momentum", s.Momentum))
}

func (s *SGD) rule(n int) rule {
	if s.Momentum == 0 {
		return &descent{kernel: s.kernel}
	}
	return &momentum{kernel: s.kernel, factor: float32(s.Momentum), nesterov: s.Nesterov, v: make([]float32, n)}
}

// descent is SGD without momentum.
type descent struct {
	kernel kernel.Set
	rate   float32
}

func (d *descent) begin(rate, _ float64) { d.rate = float32(rate) }

func (d *descent) update(_ int, g, p []float32) {
	d.kernel.Axpy(-d.rate, g, p)
}

func (d *descent) slots() [][]float32 { return nil }

func (d *descent) lazy() bool { return true }

// momentum is SGD with momentum.
type momentum struct {
	kernel       kernel.Set
	factor, rate float32
	nesterov     bool
	v            []float32
}

func (m *momentum) begin(rate, _ float64) { m.rate = float32(rate) }

func (m *momentum) update(at int, g, p []float32) {
	m.kernel.Momentum(m.rate, m.factor, m.nesterov, g, m.v[at:at+len(g)], p)
}

func (m *momentum) slots() [][]float32 { return [][]float32{m.v} }
