package trainers

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// Single is sequential training: one worker, and a server that only keeps what the worker has. The centre is the
// worker's parameters bit for bit, because they are copied and not added up from differences. The window has no
// influence on the numbers; it says how often progress is reported and how much a restart repeats.
type Single struct {
	Policy `yaml:",inline"`
}

var (
	_ Algorithm = Single{}
	_ Checker   = Single{}
)

// Name gives "single".
func (Single) Name() string { return "single" }

// Mode gives ps.Async.
func (Single) Mode() ps.Mode { return ps.Async }

// Window gives 32 steps.
func (Single) Window(int) int { return 32 }

// Rule sets the centre to the commit.
func (Single) Rule(int) ps.Rule { return replace{} }

// Local commits x.
func (Single) Local(_ int, opt optim.Optimizer) Local { return whole{opt} }

// Check refuses more than one worker.
func (Single) Check(workers, _ int) ([]string, error) {
	if workers > 1 {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("trainer single trains with one worker, not %d", workers),
			Hint:    "set train.workers to 1, or take a trainer for several workers, such as agn"}
	}
	return nil, nil
}

// replace is the server's half of methods that commit whole parameter vectors: c = u.
type replace struct{}

var _ ps.CentreRule = replace{}

func (replace) Slots() int { return 0 }

func (replace) RepliesCentre() bool { return true }

func (replace) Apply(centre, _, delta, reply []float32, _ ps.Commit) {
	copy(centre, delta)
	copy(reply, delta)
}

// whole is the worker's half of methods that commit whole parameter vectors: u = x.
type whole struct{ opt optim.Optimizer }

var _ Piecewise = whole{}

func (w whole) Step(x, grads []float32) { w.opt.Apply(x, grads) }

// Pieces implements Piecewise.
func (w whole) Pieces([]float32) Mover { return optim.Pieces(w.opt) }

func (w whole) Delta(delta, x, _ []float32, _ int) { copy(delta, x) }

func (w whole) Adopt(x, base []float32) { copy(x, base) }
