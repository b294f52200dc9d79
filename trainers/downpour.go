package trainers

import (
	"fmt"

	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// Downpour is DOWNPOUR SGD (Dean et al., NIPS 2012, section 4.1) with one period for fetch and push and a plain sum
// on the server:
//
//	worker: u = x - b        the sum of the window's local steps
//	server: c = c + u
//
// Deltas of n workers add up, so with three or more workers and windows of more than one step it leaves the stable
// region of the delay law unless the learning rate is lowered; Check says so.
type Downpour struct{}

var (
	_ Algorithm = Downpour{}
	_ Checker   = Downpour{}
)

// Name gives "downpour".
func (Downpour) Name() string { return "downpour" }

// Mode gives ps.Async.
func (Downpour) Mode() ps.Mode { return ps.Async }

// Window gives 5 steps.
func (Downpour) Window(int) int { return 5 }

// Rule adds the commit to the centre.
func (Downpour) Rule(int) ps.Rule { return sum{} }

// Local commits the difference of a window.
func (Downpour) Local(_ int, opt optim.Optimizer) Local { return difference{opt} }

// Check warns when a window that finishes its stiff directions would overshoot: the gain of a commit is then 1, and
// the delay law asks for less than CriticalGain.
func (Downpour) Check(workers, window int) ([]string, error) {
	limit := CriticalGain(workers)
	if window <= 1 || workers < 3 { // with two workers the limit is exactly 1
		return nil, nil
	}
	return []string{fmt.Sprintf("downpour with %d workers and a window of %d adds up the deltas of all workers: a commit may have a gain of 1, "+
		"stable is less than %.2f; set window to 1 and lower the learning rate to at most %.2g of what one worker bears, or take agn",
		workers, window, limit, limit/2)}, nil
}

// sum is the server's half of methods whose commits are added to the centre: c = c + u.
type sum struct{}

var _ ps.CentreRule = sum{}

func (sum) Slots() int { return 0 }

func (sum) RepliesCentre() bool { return true }

func (sum) Apply(centre, _, delta, reply []float32, _ ps.Commit) {
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		c := centre[i] + d
		centre[i] = c
		reply[i] = c
	}
}

// difference is the worker's half that commits a window's difference: u = x - b.
type difference struct{ opt optim.Optimizer }

func (d difference) Step(x, grads []float32) { d.opt.Apply(x, grads) }

func (d difference) Delta(delta, x, base []float32, _ int) {
	x, base = x[:len(delta)], base[:len(delta)]
	for i := range delta {
		delta[i] = x[i] - base[i]
	}
}

func (d difference) Adopt(x, base []float32) { copy(x, base) }
