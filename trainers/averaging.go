package trainers

import (
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// Averaging is model averaging once an epoch: every worker trains the same model on its part of the data, and the
// new centre is the mean of their parameters,
//
//	c = (1/n) Σ x_i        (algorithms 1.2; parallelised SGD, Zinkevich et al. 2010, algorithm 3, repeated per epoch)
//
// The mean is computed from nothing but this round's vectors, in worker order, so a run is the same bit for bit
// whenever the workers get the same data.
type Averaging struct {
	Policy `yaml:",inline"`
}

var (
	_ Algorithm = Averaging{}
	_ Checker   = Averaging{}
)

// Name gives "averaging".
func (Averaging) Name() string { return "averaging" }

// Mode gives ps.Rounds: the server takes the mean over the members of a round.
func (Averaging) Mode() ps.Mode { return ps.Rounds }

// Window gives 0: a worker commits when its part of the epoch is done.
func (Averaging) Window(int) int { return 0 }

// Rule sets the centre to the mean that the server made of the round's commits.
func (Averaging) Rule(int) ps.Rule { return replace{} }

// Local commits x, when the server asks for it and at no other time.
func (Averaging) Local(_ int, opt optim.Optimizer) Local { return wholeEpoch{whole{opt}} }

// Check warns that a window has no meaning here.
func (a Averaging) Check(_, window int) ([]string, error) {
	if window > 0 || a.Every != (Span{}) {
		return []string{"averaging commits once an epoch; the window is not used"}, nil
	}
	return nil, nil
}

// wholeEpoch is whole with windows as long as an epoch.
type wholeEpoch struct{ whole }

var _ Due = wholeEpoch{}

func (wholeEpoch) Due(int, float64) bool { return false }
