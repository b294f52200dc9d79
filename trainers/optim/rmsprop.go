package optim

// RMSprop is keras.optimizers.RMSprop (Tieleman and Hinton 2012; centered: Graves 2013, eq. 38 to 45). Per element:
//
//	v = rho*v + (1 - rho)*g²
//	centered:  a = rho*a + (1 - rho)*g;  d = v - a² + epsilon     else:  d = v + epsilon
//	momentum:  m = momentum*m + learning_rate*g/sqrt(d);  p -= m  else:  p -= learning_rate*g/sqrt(d)
type RMSprop struct {
	Common   `yaml:",inline"` // learning_rate 0.001
	Rho      float64          `yaml:"rho"`      // 0 <= rho < 1; default 0.9
	Momentum float64          `yaml:"momentum"` // 0 <= momentum < 1; default 0
	Epsilon  float64          `yaml:"epsilon"`  // > 0; default 1e-7
	Centered bool             `yaml:"centered"` // default false
}

func newRMSprop() *RMSprop {
	return &RMSprop{Common: Common{LearningRate: Constant(0.001)}, Rho: 0.9, Epsilon: 1e-7}
}

func (o *RMSprop) check() error {
	return checkBounds(share("rho", o.Rho), share("momentum", o.Momentum), positive("epsilon", o.Epsilon))
}

func (o *RMSprop) rule(n int) rule {
	r := &rmsprop{RMSprop: o, v: make([]float32, n)}
	if o.Centered {
		r.mean = make([]float32, n)
	}
	if o.Momentum > 0 {
		r.m = make([]float32, n)
	}
	return r
}

type rmsprop struct {
	*RMSprop
	rate    float32
	v       []float32
	mean, m []float32 // nil when not centered, without momentum
}

func (r *rmsprop) begin(rate, _ float64) { r.rate = float32(rate) }

func (r *rmsprop) update(at int, g, p []float32) {
	rate, rho, rest, eps := r.rate, float32(r.Rho), float32(1-r.Rho), float32(r.Epsilon)
	v := r.v[at : at+len(g)]
	p = p[:len(g)]
	if r.mean == nil && r.m == nil {
		for i, g := range g {
			vi := rho*v[i] + rest*g*g
			v[i] = vi
			p[i] -= rate * g / sqrt(vi+eps)
		}
		return
	}
	for i, g := range g {
		d := rho*v[i] + rest*g*g
		v[i] = d
		if r.mean != nil {
			a := rho*r.mean[at+i] + rest*g
			r.mean[at+i] = a
			d = max(d-a*a, 0) // it is a variance: what is below 0 is rounding
		}
		move := rate * g / sqrt(d+eps)
		if r.m != nil {
			move += float32(r.Momentum) * r.m[at+i]
			r.m[at+i] = move
		}
		p[i] -= move
	}
}

func (r *rmsprop) slots() [][]float32 {
	slots := [][]float32{r.v}
	if r.mean != nil {
		slots = append(slots, r.mean)
	}
	if r.m != nil {
		slots = append(slots, r.m)
	}
	return slots
}
