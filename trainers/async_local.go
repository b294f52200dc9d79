package trainers

import (
	"fmt"

	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// AsyncLocal is asynchronous local SGD with delayed Nesterov momentum (Liu et al. 2024, arXiv 2401.09135, with its c = 0).
// Each of n workers commits when it is ready and weighs 1/n; the momentum, which is what goes wrong with late commits,
// moves once every N commits by the mean of them all:
//
//	worker: u = x - b
//	server: c = c + (e/n) u,   a = a + u
//	        every N commits:  m = beta m + a/N,   c = c + e beta m,   a = 0
//
// n is the number of workers of the run at that moment. A momentum of 0 leaves the delayed part out. Dynamic windows
// (Policy.Dynamic, the paper's DyLU) let slow workers do fewer steps, so that all commits are of the same age.
type AsyncLocal struct {
	Policy       `yaml:",inline"`
	LearningRate float64 `yaml:"learning_rate" spec:"min=0"`       // e of the server; New gives 0.7
	Momentum     float64 `yaml:"momentum" spec:"min=0,max=0.9999"` // beta; New gives 0.3, with which e/(1-beta) is 1
	Period       int     `yaml:"momentum_every" spec:"min=0"`      // N; 0 means the number of workers
}

var (
	_ Algorithm = AsyncLocal{}
	_ Checker   = AsyncLocal{}
)

// Name gives "async_local".
func (AsyncLocal) Name() string { return "async_local" }

// Mode gives ps.Async.
func (AsyncLocal) Mode() ps.Mode { return ps.Async }

// Window gives 16 steps.
func (AsyncLocal) Window(int) int { return 16 }

// Rule is the sum of small parts, with momentum once in a while.
func (a AsyncLocal) Rule(workers int) ps.Rule {
	r := delayedNesterov{rate: float32(a.LearningRate), beta: float32(a.Momentum), every: a.Period, workers: workers}
	if r.every == 0 {
		r.every = max(1, workers)
	}
	return r
}

// Local commits the difference of a window.
func (AsyncLocal) Local(_ int, opt optim.Optimizer) Local { return difference{opt} }

// Check warns when the direct part is beyond the delay law, or the delayed one makes slow directions too fast.
func (a AsyncLocal) Check(workers, _ int) ([]string, error) {
	if err := checkOuter(a.Name(), a.LearningRate, a.Momentum); err != nil {
		return nil, err
	}
	n := float64(max(1, workers))
	if gain, limit := a.LearningRate/n, a.limit(workers); gain >= limit {
		return unstable(a.Name(), workers, gain, limit, fmt.Sprintf("set the trainer's learning_rate to %.2g or less", limit*n/2)), nil
	}
	if slow := a.LearningRate / (1 - a.Momentum); workers > 1 && a.Momentum > 0 && slow > safeMomentum {
		return []string{fmt.Sprintf("async_local: learning_rate %g over 1 - momentum %g is %.3g; late commits ring when it is above %g: set momentum to %.2g or less",
			a.LearningRate, a.Momentum, slow, safeMomentum, max(0, 1-a.LearningRate/safeMomentum))}, nil
	}
	return nil, nil
}

// delayedNesterov is the server's half. Its slots are the sum since the last momentum step, and the momentum.
type delayedNesterov struct {
	rate, beta     float32
	every, workers int
}

var _ ps.CentreRule = delayedNesterov{}

func (r delayedNesterov) Slots() int {
	if r.beta == 0 {
		return 0
	}
	return 2
}

func (delayedNesterov) RepliesCentre() bool { return true }

func (r delayedNesterov) Apply(centre, slots, delta, reply []float32, c ps.Commit) {
	n := len(centre)
	part := r.rate / float32(peers(c, r.workers))
	delta, reply = delta[:n], reply[:n]
	if r.beta == 0 {
		for i, d := range delta {
			v := centre[i] + part*d
			centre[i] = v
			reply[i] = v
		}
		return
	}
	sum, momentum := slots[:n], slots[n:2*n]
	if number := c.Base + c.Staleness + 1; number%uint64(r.every) != 0 { // of this commit
		for i, d := range delta {
			v := centre[i] + part*d
			centre[i] = v
			reply[i] = v
			sum[i] += d
		}
		return
	}
	mean, push := 1/float32(r.every), r.rate*r.beta
	for i, d := range delta {
		m := r.beta*momentum[i] + (sum[i]+d)*mean
		momentum[i], sum[i] = m, 0
		v := centre[i] + part*d + push*m
		centre[i] = v
		reply[i] = v
	}
}
