package trainers

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// AEASGD is asynchronous elastic averaging SGD (Zhang, Choromanska, LeCun, NIPS 2015, arXiv 1412.6651, algorithm 1). A
// worker keeps its own parameters, and every window an elastic force pulls them and the centre towards each other:
//
//	e = alpha (x - c)
//	server: c = c + e
//	worker: x = x - e
//
// Both halves are taken in one step of the server, from the same c.
type AEASGD struct {
	Policy  `yaml:",inline"`
	Elastic `yaml:",inline"`
}

// Elastic is how strong the force is. The zero value takes alpha = 0.9/n, n being the workers of the run at that moment,
// as the authors do: together they move the centre by 0.9 of the way to their mean.
type Elastic struct {
	Alpha float64 `yaml:"alpha" spec:"min=0,max=1"` // 0: see above
	// Rho gives alpha = learning_rate · rho, as in the paper and in distributed Keras, whose defaults are 5 and 0.1.
	Rho          float64 `yaml:"rho" spec:"min=0"`
	LearningRate float64 `yaml:"learning_rate" spec:"min=0"` // for rho alone: the optimizer has its own; 0 means 0.1
}

var (
	_ Algorithm = AEASGD{}
	_ Checker   = AEASGD{}
)

// Name gives "aeasgd".
func (AEASGD) Name() string { return "aeasgd" }

// Mode gives ps.Async.
func (AEASGD) Mode() ps.Mode { return ps.Async }

// Window gives 32 steps.
func (AEASGD) Window(int) int { return 32 }

// Rule moves the centre by the elastic difference and replies with it.
func (a AEASGD) Rule(workers int) ps.Rule { return a.Elastic.rule(workers) }

// Local commits x and takes the elastic difference off it.
func (AEASGD) Local(_ int, opt optim.Optimizer) Local { return pulled{opt} }

// Check warns when the forces of all workers together are more than the centre's way to their mean.
func (a AEASGD) Check(workers, _ int) ([]string, error) { return a.Elastic.check(a.Name(), workers) }

// alpha is the force that is set, or 0.
func (e Elastic) alpha() float64 {
	if e.Rho == 0 {
		return e.Alpha
	}
	if e.LearningRate == 0 {
		return e.Rho * 0.1
	}
	return e.Rho * e.LearningRate
}

func (e Elastic) rule(workers int) ps.Rule {
	return elastic{alpha: float32(e.alpha()), workers: workers}
}

// check knows two limits. Above alpha = 1 the pair oscillates whatever the rest (the paper's condition for round-robin
// exchanges, 0 <= alpha <= (4-2 eta)/(4-eta), section 4). Above alpha = 1/n the centre follows whoever came last and does
// not average any more.
func (e Elastic) check(name string, workers int) ([]string, error) {
	alpha := e.alpha()
	bad := func(hint, format string, args ...any) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer %s: ", name) + fmt.Sprintf(format, args...), Hint: hint}
	}
	safe := 0.9 / float64(max(1, workers))
	switch {
	case e.Alpha > 0 && e.Rho > 0:
		return nil, bad("keep one", "alpha and rho are both set")
	case e.LearningRate > 0 && e.Rho == 0:
		return nil, bad("set rho, or leave it out; the rate of local steps is train.optimizer's", "learning_rate is for rho, which is not set")
	case !(e.Alpha >= 0) || !(e.Rho >= 0) || !(e.LearningRate >= 0) || alpha > 1 || !single(alpha) || e.Rho > 0 && alpha == 0:
		return nil, bad(fmt.Sprintf("leave it out for 0.9/n, here %.3g", safe), "alpha (or learning_rate times rho) is %g, it must be between 0 and 1", alpha)
	case workers > 1 && alpha*float64(workers) > 1+1e-9:
		return []string{fmt.Sprintf("%s with %d workers: alpha %.3g times %d is more than 1, so the centre follows whoever came last, and short windows diverge; leave alpha and rho out, or set alpha to %.3g or less",
			name, workers, alpha, workers, safe)}, nil
	}
	return nil, nil
}

// elastic is the server's half: e = alpha (x - c), c = c + e, and the reply is e.
type elastic struct {
	alpha   float32 // 0: 0.9 over the number of workers
	workers int     // when the server does not say how many there are
}

var _ ps.Rule = elastic{}

func (elastic) Slots() int { return 0 }

func (r elastic) Apply(centre, _, delta, reply []float32, c ps.Commit) {
	alpha := r.alpha
	if alpha == 0 {
		alpha = 0.9 / float32(peers(c, r.workers))
	}
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, x := range delta {
		e := alpha * (x - centre[i])
		centre[i] += e
		reply[i] = e
	}
}

// peers is the number of workers at the time of a commit.
func peers(c ps.Commit, workers int) int {
	if c.Peers > 0 {
		return c.Peers
	}
	return max(1, workers)
}

// pulled is the worker's half: it commits x, and the reply pulls it back. base has no meaning.
type pulled struct{ opt optim.Optimizer }

var _ Piecewise = pulled{}

func (p pulled) Step(x, grads []float32) { p.opt.Apply(x, grads) }

// Pieces implements Piecewise.
func (p pulled) Pieces([]float32) Mover { return optim.Pieces(p.opt) }

func (p pulled) Delta(delta, x, _ []float32, _ int) { copy(delta, x) }

func (p pulled) Adopt(x, base []float32) {
	base = base[:len(x)]
	for i, e := range base {
		x[i] -= e
	}
}
