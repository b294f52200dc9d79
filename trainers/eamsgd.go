package trainers

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// EAMSGD is AEASGD with Nesterov's momentum in the worker (Zhang, Choromanska, LeCun, NIPS 2015, arXiv 1412.6651,
// algorithm 2):
//
//	v = mu v + s(x + mu v)
//	x = x + v
//
// where s(y) is the step of the job's optimizer at y; of plain SGD, -eta g(y). The elastic exchange is AEASGD's, with x. The
// replica holds the look-ahead point y = x + mu v, where gradients are taken. Use plain sgd as the optimizer: one with
// momentum of its own would have two.
type EAMSGD struct {
	Policy   `yaml:",inline"`
	Elastic  `yaml:",inline"`
	Momentum float64 `yaml:"momentum" spec:"min=0,max=0.9999"` // mu; New gives 0.9, the paper has 0.99
}

var (
	_ Algorithm = EAMSGD{}
	_ Checker   = EAMSGD{}
)

// Name gives "eamsgd".
func (EAMSGD) Name() string { return "eamsgd" }

// Mode gives ps.Async.
func (EAMSGD) Mode() ps.Mode { return ps.Async }

// Window gives 32 steps.
func (EAMSGD) Window(int) int { return 32 }

// Rule moves the centre by the elastic difference and replies with it.
func (a EAMSGD) Rule(workers int) ps.Rule { return a.Elastic.rule(workers) }

// Local keeps the velocity of a worker.
func (a EAMSGD) Local(_ int, opt optim.Optimizer) Local {
	return &heavy{opt: opt, mu: float32(a.Momentum)}
}

// Check warns as AEASGD.
func (a EAMSGD) Check(workers, _ int) ([]string, error) {
	if !(a.Momentum >= 0) || a.Momentum >= 1 {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer eamsgd: momentum is %g", a.Momentum),
			Hint: "set it to 0 or more and below 1, such as 0.9"}
	}
	return a.Elastic.check(a.Name(), workers)
}

var (
	_ Resetter  = (*heavy)(nil)
	_ Piecewise = (*heavy)(nil)
)

// heavy is the worker's half with momentum.
type heavy struct {
	opt  optim.Optimizer
	mu   float32
	v, y []float32 // the velocity, and where the last gradient was taken: all of it, or a piece
}

func (h *heavy) Step(x, grads []float32) {
	h.room(len(x))
	y := h.from(x)
	h.opt.Apply(x, grads)
	h.swing(h.v, x, y)
}

func (h *heavy) room(n int) {
	if h.v == nil {
		h.v = make([]float32, n)
	}
}

// from gives a copy of x.
func (h *heavy) from(x []float32) []float32 {
	if len(h.y) < len(x) {
		h.y = make([]float32, len(x))
	}
	y := h.y[:len(x)]
	copy(y, x)
	return y
}

// swing takes the step with momentum when x is y + s(y).
func (h *heavy) swing(v, x, y []float32) {
	v, y = v[:len(x)], y[:len(x)]
	for i, to := range x {
		old := h.mu * v[i]
		now := old + (to - y[i])
		v[i] = now
		x[i] = y[i] - old + now + h.mu*now
	}
}

// Pieces implements Piecewise.
func (h *heavy) Pieces(delta []float32) Mover {
	h.room(len(delta))
	if p := optim.Pieces(h.opt); p != nil {
		return heavyPieces{h, p}
	}
	return nil
}

// heavyPieces is heavy piece by piece.
type heavyPieces struct {
	*heavy
	opt optim.Piecewise
}

// Begin implements Mover.
func (h heavyPieces) Begin() { h.opt.Begin() }

// Update implements Mover.
func (h heavyPieces) Update(at int, x, grads []float32) {
	y := h.from(x)
	h.opt.Update(at, x, grads)
	h.swing(h.v[at:], x, y)
}

// Lazy implements Mover: the velocity goes on.
func (heavyPieces) Lazy() bool { return false }

// Delta commits x, which lies behind the look-ahead point, and goes back to it: delta may be x.
func (h *heavy) Delta(delta, x, _ []float32, _ int) {
	v, x := h.v[:len(delta)], x[:len(delta)]
	for i := range delta {
		at := x[i] - h.mu*v[i]
		x[i], delta[i] = at, at
	}
}

// Reset implements Resetter: the velocity starts again.
func (h *heavy) Reset() { clear(h.v) }

// Adopt takes the elastic difference off x and looks ahead again.
func (h *heavy) Adopt(x, base []float32) {
	base, v := base[:len(x)], h.v[:len(x)]
	for i, e := range base {
		x[i] = x[i] - e + h.mu*v[i]
	}
}
