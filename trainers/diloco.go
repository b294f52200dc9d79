package trainers

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// DiLoCo is local SGD with Nesterov's momentum over the rounds (Douillard et al. 2023, arXiv 2311.08105, algorithm 1):
//
//	worker: u = x - b                        u is the negative of the paper's outer gradient
//	server: m = beta m + (1/n) Σ u_i
//	        c = c + e (beta m + (1/n) Σ u_i)
//
// The paper's inner optimizer is adamw, whose state stays with the worker. A momentum of 0 and a rate of 1 is LocalSGD.
type DiLoCo struct {
	Policy       `yaml:",inline"`
	LearningRate float64 `yaml:"learning_rate" spec:"min=0"`       // e of the server; New gives 0.7
	Momentum     float64 `yaml:"momentum" spec:"min=0,max=0.9999"` // beta; New gives 0.9
}

var (
	_ Algorithm = DiLoCo{}
	_ Checker   = DiLoCo{}
)

// Name gives "diloco".
func (DiLoCo) Name() string { return "diloco" }

// Mode gives ps.Rounds.
func (DiLoCo) Mode() ps.Mode { return ps.Rounds }

// Window gives 30 steps.
func (DiLoCo) Window(int) int { return 30 }

// Rule is Nesterov's momentum over the rounds.
func (d DiLoCo) Rule(int) ps.Rule { return nesterov{float32(d.LearningRate), float32(d.Momentum)} }

// Local commits the difference of a window.
func (DiLoCo) Local(_ int, opt optim.Optimizer) Local { return difference{opt} }

// Check warns when rounds that finish a direction would throw the centre farther than it came: Nesterov's iteration with
// rate e and curvature 1 is stable if and only if e < 2 (1 + beta) / (1 + 2 beta).
func (d DiLoCo) Check(workers, _ int) ([]string, error) {
	if err := checkOuter("diloco", d.LearningRate, d.Momentum); err != nil {
		return nil, err
	}
	limit := 2 * (1 + d.Momentum) / (1 + 2*d.Momentum)
	if d.LearningRate < limit {
		return nil, nil
	}
	return unstable(d.Name(), workers, d.LearningRate, limit, fmt.Sprintf("set the trainer's learning_rate to %.2g or less", limit/2)), nil
}

// checkOuter refuses rates and momenta of a server that cannot learn.
func checkOuter(name string, rate, momentum float64) error {
	if rate > 0 && single(rate) && single(momentum) && float32(momentum) < 1 {
		return nil
	}
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer %s: learning_rate is %g and momentum %g", name, rate, momentum),
		Hint: fmt.Sprintf("set learning_rate above 0 and momentum to 0 or more and below 1; trainers.New(%q, nil) has the paper's", name)}
}

// nesterov is the server's half. Its slot is the momentum.
type nesterov struct{ rate, beta float32 }

var _ ps.CentreRule = nesterov{}

func (nesterov) Slots() int { return 1 }

func (nesterov) RepliesCentre() bool { return true }

func (r nesterov) Apply(centre, slots, delta, reply []float32, _ ps.Commit) {
	slots, delta, reply = slots[:len(centre)], delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		m := r.beta*slots[i] + d
		slots[i] = m
		c := centre[i] + r.rate*(r.beta*m+d)
		centre[i] = c
		reply[i] = c
	}
}
