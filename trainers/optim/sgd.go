package optim

import "gonum.org/v1/gonum/blas/gonum"

// SGD is gradient descent with optional momentum, as keras.optimizers.SGD. With v the velocity, per element:
//
//	momentum 0:         p -= learning_rate * g
//	momentum:           v = momentum*v - learning_rate*g;  p += v
//	momentum, nesterov: v = momentum*v - learning_rate*g;  p += momentum*v - learning_rate*g
type SGD struct {
	LearningRate float64 `yaml:"learning_rate"` // > 0; default 0.01
	Momentum     float64 `yaml:"momentum"`      // 0 <= momentum < 1; default 0
	Nesterov     bool    `yaml:"nesterov"`      // needs momentum > 0; default false
}

type sgd struct {
	SGD
	velocity []float32 // nil without momentum
}

var _ Optimizer = (*sgd)(nil)

func newSGD(decode func(any) error, n int) (Optimizer, error) {
	o := SGD{LearningRate: 0.01}
	if err := decode(&o); err != nil {
		return nil, err
	}
	if err := checkBounds("sgd", positive("learning_rate", o.LearningRate), share("momentum", o.Momentum)); err != nil {
		return nil, err
	}
	if o.Nesterov && o.Momentum == 0 {
		return nil, &Error{Message: "optimizer sgd: nesterov needs a momentum above 0", Hint: "set momentum, for example 0.9, or leave nesterov out"}
	}
	s := &sgd{SGD: o}
	if o.Momentum != 0 {
		s.velocity = make([]float32, n)
	}
	return s, nil
}

func (s *sgd) Apply(params, grads []float32) {
	lr, m := float32(s.LearningRate), float32(s.Momentum)
	if s.velocity == nil {
		gonum.Implementation{}.Saxpy(len(params), -lr, grads, 1, params, 1)
		return
	}
	v := s.velocity[:len(params)]
	grads = grads[:len(params)]
	if s.Nesterov {
		for i, g := range grads {
			w := m*v[i] - lr*g
			v[i] = w
			params[i] += m*w - lr*g
		}
		return
	}
	for i, g := range grads {
		w := m*v[i] - lr*g
		v[i] = w
		params[i] += w
	}
}

func (s *sgd) Slots() [][]float32 {
	if s.velocity == nil {
		return nil
	}
	return [][]float32{s.velocity}
}
