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

// Window gives 10, or as many steps as there are workers where that is more; with overlap, twice as many.
func (a AGN) Window(workers int) int { return max(10, a.safe(workers)) }

// Rule adds the commit to the centre.
func (AGN) Rule(int) ps.Rule { return sum{} }

// Local commits the mean step of a window.
func (AGN) Local(_ int, opt optim.Optimizer) Local { return meanStep{difference{opt}} }

// Check warns when the window is too short for the number of workers.
func (a AGN) Check(workers, window int) ([]string, error) {
	return a.check(a.Name(), workers, window), nil
}

func (a AGN) check(name string, workers, window int) []string {
	low, safe := a.shortest(workers), a.safe(workers)
	switch {
	case window <= 0 || window >= safe || window >= low && workers < 3:
		return nil
	case window < low:
		return unstable(name, workers, 1/float64(window), a.limit(workers), fmt.Sprintf("with a window of %d it may; set window to %d or more", window, safe))
	}
	return []string{fmt.Sprintf("%s with %d workers: the delay law allows windows of %d steps and more, and with a momentum in the workers, adam's too, %d is so near to that that the centre may ring; set window to %d or more",
		name, workers, low, window, safe)}
}

// shortest is the shortest window that is stable by the delay law: a commit's gain is at most 1/window, unless the workers'
// optimizer overshoots.
func (a AGN) shortest(workers int) int { return max(1, int(math.Ceil(1/a.limit(workers)))) }

// safe is the shortest window with which commits of all workers together have a gain of 1, as far below the law's limit as
// a momentum overshoots. At that limit itself, 13 steps for 20 workers, adam rang on Fashion-MNIST: 52 % in the place of 85 %.
func (a AGN) safe(workers int) int { return max(1, int(math.Ceil(math.Pi/2/a.limit(workers)-1e-9))) }

// meanStep is difference divided by the number of steps.
type meanStep struct{ difference }

func (m meanStep) Delta(delta, x, base []float32, steps int) {
	scale := 1 / float32(steps)
	x, base = x[:len(delta)], base[:len(delta)]
	for i := range delta {
		delta[i] = (x[i] - base[i]) * scale
	}
}
