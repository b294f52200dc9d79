package trainers

import (
	"fmt"
	"math"

	"dkpipe/pipeline"
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
// region of the delay law unless the learning rate is lowered; Check says so. With Adagrad, as the paper recommends,
// the server has a rate of its own for each parameter, and the law does not apply:
//
//	server: k = k + u²,  c = c + gamma u / (sqrt(k) + epsilon)
//
// The paper's warm start is Policy.WarmUp.
type Downpour struct {
	Policy  `yaml:",inline"`
	Adagrad *ServerAdagrad `yaml:"adagrad"` // nil: a plain sum
}

// ServerAdagrad is Adagrad on the server (Dean et al. 2012, section 4.1; Duchi et al. 2011) over what workers commit. It
// does not depend on the scale of the commits.
type ServerAdagrad struct {
	Gamma   float64 `yaml:"gamma" spec:"min=0"`   // the change of the first commit in each parameter; 0 means 0.01
	Epsilon float64 `yaml:"epsilon" spec:"min=0"` // 0 means 1e-8
}

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

// Rule adds the commit to the centre, or a step of Adagrad.
func (d Downpour) Rule(int) ps.Rule {
	if d.Adagrad == nil {
		return sum{}
	}
	r := adagradRule{gamma: 0.01, epsilon: 1e-8}
	if g := d.Adagrad.Gamma; g > 0 {
		r.gamma = float32(g)
	}
	if e := d.Adagrad.Epsilon; e > 0 {
		r.epsilon = float32(e)
	}
	return r
}

// Local commits the difference of a window.
func (Downpour) Local(_ int, opt optim.Optimizer) Local { return difference{opt} }

// Check warns when a window that finishes its stiff directions would overshoot: the gain of a commit is then 1.
func (d Downpour) Check(workers, window int) ([]string, error) {
	if a := d.Adagrad; a != nil {
		if !single(a.Gamma) || !single(a.Epsilon) {
			return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer downpour: adagrad has gamma %g and epsilon %g, and float32 has to hold both",
				a.Gamma, a.Epsilon), Hint: "set both above 0, or leave them out"}
		}
		return nil, nil
	}
	limit := d.limit(workers)
	if window == 1 || limit >= 1-1e-9 { // one step has no direction that it finishes; with two workers the limit is exactly 1
		return nil, nil
	}
	advice := fmt.Sprintf("it adds up the deltas of all workers; multiply the optimizer's learning_rate by %.2g or less", SafeRate(workers, window))
	if window > 1 {
		advice = fmt.Sprintf("with a window of %d %s, or set window to 1 and multiply it by %.2g or less", window, advice, SafeRate(workers, 1))
	}
	return unstable(d.Name(), workers, 1, limit, advice+", or take agn"), nil
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

// adagradRule is the server's half with a rate of its own for each parameter. Its slot is the sum of squares.
type adagradRule struct{ gamma, epsilon float32 }

var _ ps.CentreRule = adagradRule{}

func (adagradRule) Slots() int { return 1 }

func (adagradRule) RepliesCentre() bool { return true }

func (r adagradRule) Apply(centre, slots, delta, reply []float32, _ ps.Commit) {
	slots, delta, reply = slots[:len(centre)], delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		k := slots[i] + d*d
		slots[i] = k
		c := centre[i] + r.gamma*d/(float32(math.Sqrt(float64(k)))+r.epsilon)
		centre[i] = c
		reply[i] = c
	}
}

// difference is the worker's half that commits a window's difference: u = x - b.
type difference struct{ opt optim.Optimizer }

var (
	_ Adder     = difference{}
	_ Piecewise = difference{}
)

func (d difference) Step(x, grads []float32) { d.opt.Apply(x, grads) }

// Pieces implements Piecewise.
func (d difference) Pieces([]float32) Mover { return optim.Pieces(d.opt) }

func (d difference) Delta(delta, x, base []float32, _ int) {
	x, base = x[:len(delta)], base[:len(delta)]
	for i := range delta {
		delta[i] = x[i] - base[i]
	}
}

func (d difference) Adopt(x, base []float32) { copy(x, base) }

func (d difference) Adds() {}
