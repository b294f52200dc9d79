package optim

// Adadelta is keras.optimizers.Adadelta (Zeiler 2012, algorithm 1). Per element:
//
//	a = rho*a + (1 - rho)*g²
//	d = -sqrt(b + epsilon) / sqrt(a + epsilon) * g
//	b = rho*b + (1 - rho)*d²
//	p += learning_rate * d
//
// The paper has no learning rate; that is 1.
type Adadelta struct {
	Common  `yaml:",inline"` // learning_rate 0.001
	Rho     float64          `yaml:"rho"`     // 0 <= rho < 1; default 0.95
	Epsilon float64          `yaml:"epsilon"` // > 0; default 1e-7
}

func newAdadelta() *Adadelta {
	return &Adadelta{Common: Common{LearningRate: Constant(0.001)}, Rho: 0.95, Epsilon: 1e-7}
}

func (o *Adadelta) check() error {
	return checkBounds(share("rho", o.Rho), positive("epsilon", o.Epsilon))
}

func (o *Adadelta) rule(n int) rule {
	return &adadelta{rho: float32(o.Rho), rest: float32(1 - o.Rho), eps: float32(o.Epsilon), squares: make([]float32, n), moves: make([]float32, n)}
}

type adadelta struct {
	rho, rest, eps, rate float32
	squares, moves       []float32 // a and b
}

func (a *adadelta) begin(rate, _ float64) { a.rate = float32(rate) }

func (a *adadelta) update(at int, g, p []float32) {
	rho, rest, eps, rate := a.rho, a.rest, a.eps, a.rate
	squares, moves := a.squares[at:at+len(g)], a.moves[at:at+len(g)]
	p = p[:len(g)]
	for i, g := range g {
		s := rho*squares[i] + rest*g*g
		d := -sqrt((moves[i]+eps)/(s+eps)) * g
		squares[i] = s
		moves[i] = rho*moves[i] + rest*d*d
		p[i] += rate * d
	}
}

func (a *adadelta) slots() [][]float32 { return [][]float32{a.squares, a.moves} }
