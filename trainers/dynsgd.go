package trainers

import (
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// DynSGD scales every commit by its delay (Jiang, Cui, Zhang, Yu: Heterogeneity-aware Distributed Parameter Servers,
// SIGMOD 2017, in the form of distributed Keras, which keeps no aggregate of its own for each version):
//
//	worker: u = x - b
//	server: c = c + u / (tau + 1)        tau: updates of others since the worker got b
//
// The staleness is taken in the same step as the commit is applied. With n equal workers tau is n-1, so the scale is 1/n
// on average, which is inside the stable region for any window. It is best with exchanges that overlap (Policy.Overlap): without,
// a worker that comes twice in a row counts whole the second time, twice as much as the others, with all its noise.
type DynSGD struct {
	Policy `yaml:",inline"`
}

var (
	_ Algorithm = DynSGD{}
	_ Checker   = DynSGD{}
)

// Name gives "dynsgd".
func (DynSGD) Name() string { return "dynsgd" }

// Mode gives ps.Async.
func (DynSGD) Mode() ps.Mode { return ps.Async }

// Window gives 5 steps.
func (DynSGD) Window(int) int { return 5 }

// Rule adds the commit to the centre, divided by how late it is.
func (DynSGD) Rule(int) ps.Rule { return delayed{} }

// Local commits the difference of a window.
func (DynSGD) Local(_ int, opt optim.Optimizer) Local { return difference{opt} }

// Check looks at the mean gain, 1/n or with overlap 1/(2n). It is inside the delay law at any number of workers.
func (d DynSGD) Check(workers, _ int) ([]string, error) {
	delay := workers
	if d.Overlap {
		delay *= 2
	}
	if gain, limit := 1/float64(delay), d.limit(workers); gain >= limit {
		return unstable(d.Name(), workers, gain, limit, "lower the optimizer's learning_rate"), nil
	}
	return nil, nil
}

// delayed is sum with each commit divided by its staleness plus one.
type delayed struct{}

var _ ps.CentreRule = delayed{}

func (delayed) Slots() int { return 0 }

func (delayed) RepliesCentre() bool { return true }

func (delayed) Apply(centre, _, delta, reply []float32, c ps.Commit) {
	scale := 1 / float32(c.Staleness+1)
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		v := centre[i] + d*scale
		centre[i] = v
		reply[i] = v
	}
}
