package trainers

import (
	"fmt"
	"math"

	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// AGN is accumulated gradient normalization (Hermans, Spanakis, Möckel, ACML 2017, arXiv 1710.02368, equation 3):
//
//	worker: u = (x - b) / steps        the mean of the window's local steps
//	server: c = c + u
//
// Distributed Keras calls it ADAG, which is an alias here. steps are the steps really done, also in the last window
// of a run. A window of 1 is DOWNPOUR.
type AGN struct {
	Policy `yaml:",inline"`
}

var (
	_ Algorithm = AGN{}
	_ Checker   = AGN{}
)

// Name gives "agn".
func (AGN) Name() string { return "agn" }

// Mode gives ps.Async.
func (AGN) Mode() ps.Mode { return ps.Async }

// Window gives max(10, the shortest window that the delay law allows).
func (a AGN) Window(workers int) int { return max(10, a.shortest(workers)) }

// Rule adds the commit to the centre.
func (AGN) Rule(int) ps.Rule { return sum{} }

// Local commits the mean step of a window.
func (AGN) Local(_ int, opt optim.Optimizer) Local { return meanStep{difference{opt}} }

// Check warns when the window is too short for the number of workers.
func (a AGN) Check(workers, window int) ([]string, error) {
	low := a.shortest(workers)
	if window <= 0 || window >= low {
		return nil, nil
	}
	return unstable(a.Name(), workers, 1/float64(window), a.limit(workers),
		fmt.Sprintf("with a window of %d it is; set window to %d or more", window, low)), nil
}

// shortest is the shortest window that is stable: a commit's gain is at most 1/window.
func (a AGN) shortest(workers int) int { return max(1, int(math.Ceil(1/a.limit(workers)))) }

// meanStep is difference divided by the number of steps.
type meanStep struct{ difference }

func (m meanStep) Delta(delta, x, base []float32, steps int) {
	scale := 1 / float32(steps)
	x, base = x[:len(delta)], base[:len(delta)]
	for i := range delta {
		delta[i] = (x[i] - base[i]) * scale
	}
}
