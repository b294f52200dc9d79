package trainers

import (
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// LocalSGD lets workers take steps of their own and averages what they changed every window, in rounds (Stich, ICLR 2019,
// arXiv 1805.09767, algorithm 1; Lin et al. 2020, arXiv 1808.07217):
//
//	worker: u = x - b
//	server: c = c + (1/n) Σ u_i
//
// The sum is taken in the order of worker numbers, so that a run repeats itself bit for bit. With a window in seconds every
// worker does as many steps as it can in that time, and nobody waits for a slow one.
type LocalSGD struct {
	Policy `yaml:",inline"`
}

var _ Algorithm = LocalSGD{}

// Name gives "local_sgd".
func (LocalSGD) Name() string { return "local_sgd" }

// Mode gives ps.Rounds.
func (LocalSGD) Mode() ps.Mode { return ps.Rounds }

// Window gives 16 steps.
func (LocalSGD) Window(int) int { return 16 }

// Rule adds the mean of the round to the centre.
func (LocalSGD) Rule(int) ps.Rule { return sum{} }

// Local commits the difference of a window.
func (LocalSGD) Local(_ int, opt optim.Optimizer) Local { return difference{opt} }
