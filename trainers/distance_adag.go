package trainers

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// DistanceADAG is the ADAG of Hermans' thesis (On Scalable Deep Learning and Parallelizing Gradient Descent, Maastricht
// 2017, algorithm 2: the server remembers what each worker pulled) on top of AGN: a commit counts the less in a parameter the farther the centre has moved
// there since the worker got it.
//
//	worker: u = (x - b) / steps
//	server: c = c + u / (1 + (c - b)² / gamma)        in each parameter
//
// Distributed Keras has it under the name Experimental, with gamma as its learning rate. The server keeps what each worker
// was given, so nothing more goes over the wire.
type DistanceADAG struct {
	Policy `yaml:",inline"`
	Gamma  float64 `yaml:"gamma" spec:"min=0"` // 0 means 1e-4, as in the thesis; distributed Keras has 1
}

var (
	_ Algorithm = DistanceADAG{}
	_ Checker   = DistanceADAG{}
)

// Name gives "distance_adag".
func (DistanceADAG) Name() string { return "distance_adag" }

// Mode gives ps.Async.
func (DistanceADAG) Mode() ps.Mode { return ps.Async }

// Window gives that of AGN.
func (d DistanceADAG) Window(workers int) int { return AGN{d.Policy}.Window(workers) }

// Rule adds the commit to the centre, less where the centre has moved.
func (d DistanceADAG) Rule(int) ps.Rule {
	if d.Gamma > 0 {
		return distant{float32(1 / d.Gamma)}
	}
	return distant{1e4}
}

// Local commits the mean step of a window.
func (DistanceADAG) Local(_ int, opt optim.Optimizer) Local { return meanStep{difference{opt}} }

// Check warns as AGN: where the centre has not moved, the gain is the same.
func (d DistanceADAG) Check(workers, window int) ([]string, error) {
	if !single(d.Gamma) {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer distance_adag: gamma is %g, which float32 does not hold", d.Gamma), Hint: "set it above 0, or leave it out for 1e-4"}
	}
	return AGN{d.Policy}.check(d.Name(), workers, window), nil
}

// distant is sum with each element scaled by how far the centre has moved there; the field is 1/gamma.
type distant struct{ perGamma float32 }

var (
	_ ps.CentreRule = distant{}
	_ ps.BaseRule   = distant{}
)

func (distant) Slots() int { return 0 }

func (distant) RepliesCentre() bool { return true }

func (distant) UsesBase() bool { return true }

func (r distant) Apply(centre, _, delta, reply []float32, c ps.Commit) {
	delta, reply, from := delta[:len(centre)], reply[:len(centre)], c.From[:len(centre)]
	for i, d := range delta {
		v := centre[i]
		moved := v - from[i]
		v += d / (1 + moved*moved*r.perGamma)
		centre[i] = v
		reply[i] = v
	}
}
