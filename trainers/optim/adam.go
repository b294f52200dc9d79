package optim

import "math"

// Adam is keras.optimizers.Adam (Kingma and Ba 2015, algorithm 1, in the reordered form of its section 2). At step t,
// with m and v the moments, per element:
//
//	m += (g - m) * (1 - beta_1)
//	v += (g² - v) * (1 - beta_2)
//	p -= learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)
type Adam struct {
	LearningRate float64 `yaml:"learning_rate"` // > 0; default 0.001
	Beta1        float64 `yaml:"beta_1"`        // 0 <= beta_1 < 1; default 0.9
	Beta2        float64 `yaml:"beta_2"`        // 0 <= beta_2 < 1; default 0.999
	Epsilon      float64 `yaml:"epsilon"`       // > 0; default 1e-7
}

type adam struct {
	Adam
	m, v []float32
	// t holds the number of steps taken, as a vector of one so that it is saved with the other slots. It stops
	// counting at 2^24, where float32 runs out; both corrections are 1 long before that for any usual beta.
	t []float32
}

var _ Optimizer = (*adam)(nil)

func newAdam(decode func(any) error, n int) (Optimizer, error) {
	o := Adam{LearningRate: 0.001, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-7}
	if err := decode(&o); err != nil {
		return nil, err
	}
	err := checkBounds("adam", positive("learning_rate", o.LearningRate), share("beta_1", o.Beta1),
		share("beta_2", o.Beta2), positive("epsilon", o.Epsilon))
	if err != nil {
		return nil, err
	}
	return &adam{Adam: o, m: make([]float32, n), v: make([]float32, n), t: make([]float32, 1)}, nil
}

func (a *adam) Apply(params, grads []float32) {
	a.t[0]++
	t := float64(a.t[0])
	rate := float32(a.LearningRate * math.Sqrt(1-math.Pow(a.Beta2, t)) / (1 - math.Pow(a.Beta1, t)))
	c1, c2, eps := float32(1-a.Beta1), float32(1-a.Beta2), float32(a.Epsilon)
	m, v := a.m[:len(params)], a.v[:len(params)]
	grads = grads[:len(params)]
	for i, g := range grads {
		mi := m[i] + (g-m[i])*c1
		vi := v[i] + (g*g-v[i])*c2
		m[i], v[i] = mi, vi
		params[i] -= rate * mi / (float32(math.Sqrt(float64(vi))) + eps)
	}
}

func (a *adam) Slots() [][]float32 { return [][]float32{a.m, a.v, a.t} }
