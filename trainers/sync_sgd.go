package trainers

import (
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// SyncSGD is synchronous data-parallel SGD: every round the workers' gradients at the same point are averaged, and the
// server takes one step of the job's optimizer with the mean (Chen et al. 2016, arXiv 1604.00981). With equal
// batches it is the sequential method with a batch n times as large.
//
//	worker: u = (1/steps) Σ g(c)        of its batches; one batch, unless the window is longer
//	server: c = c + s((1/n) Σ u_i)      s: the step of train.optimizer
//
// With Policy.Quorum the slowest workers of a round are the paper's backup workers: what they bring too late is dropped,
// unless staleness_drop says from which staleness on.
type SyncSGD struct {
	Policy `yaml:",inline"`
}

var (
	_ Algorithm  = SyncSGD{}
	_ OnServer   = SyncSGD{}
	_ Configured = SyncSGD{}
)

// Name gives "sync_sgd".
func (SyncSGD) Name() string { return "sync_sgd" }

// Mode gives ps.Rounds.
func (SyncSGD) Mode() ps.Mode { return ps.Rounds }

// Window gives 1 step.
func (SyncSGD) Window(int) int { return 1 }

// Settings gives the policy, with the paper's rule for late gradients.
func (s SyncSGD) Settings() Policy {
	p := s.Policy
	if p.Quorum > 0 && p.Drop == 0 {
		p.Drop = 1
	}
	return p
}

// Rule is gradient descent with a rate of 0.01: what is left when nobody says which optimizer the job has.
func (SyncSGD) Rule(int) ps.Rule { return descend{0.01} }

// ServerRule takes a step of the job's optimizer.
func (SyncSGD) ServerRule(_ int, optimizer func(params int) (optim.Optimizer, error)) (ps.Rule, error) {
	return newOptimizerRule(optimizer)
}

// Local commits gradients.
func (SyncSGD) Local(int, optim.Optimizer) Local { return &gradients{} }

// descend is the server's half with plain gradient descent.
type descend struct{ rate float32 }

var _ ps.CentreRule = descend{}

func (descend) Slots() int { return 0 }

func (descend) RepliesCentre() bool { return true }

func (r descend) Apply(centre, _, delta, reply []float32, _ ps.Commit) {
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, g := range delta {
		c := centre[i] - r.rate*g
		centre[i] = c
		reply[i] = c
	}
}

// gradients is the worker's half: x stays where it is, and the mean gradient of the window is committed.
type gradients struct {
	sum   []float32
	steps int // in sum
}

var (
	_ Adder     = (*gradients)(nil)
	_ Piecewise = (*gradients)(nil)
)

func (g *gradients) Step(x, grads []float32) {
	if g.sum == nil {
		g.sum = make([]float32, len(x))
	}
	g.Begin()
	g.Update(0, x, grads)
}

// Pieces implements Piecewise: the sum is in the delta.
func (g *gradients) Pieces(delta []float32) Mover {
	g.sum = delta
	return g
}

// Begin implements Mover.
func (g *gradients) Begin() { g.steps++ }

// Update implements Mover.
func (g *gradients) Update(at int, _, grads []float32) {
	sum := g.sum[at : at+len(grads)]
	if g.steps == 1 {
		copy(sum, grads)
		return
	}
	for i, v := range grads {
		sum[i] += v
	}
}

// Lazy implements Mover: the first gradients of a window take the place of those before.
func (g *gradients) Lazy() bool { return false }

func (g *gradients) Delta(delta, _, _ []float32, steps int) {
	g.steps = 0
	if steps == 1 {
		copy(delta, g.sum)
		return
	}
	scale := 1 / float32(steps)
	for i, v := range g.sum {
		delta[i] = v * scale
	}
}

func (g *gradients) Adopt(x, base []float32) { copy(x, base) }

func (g *gradients) Adds() {}
