package trainers

import (
	"fmt"
	"math"
)

// CriticalGain is the delay law for asynchronous commits: n equal workers in turn, each committing a delta with gain
// k per eigen-direction of a quadratic loss, follow
//
//	c[t+1] = c[t] - k c[t-(n-1)]
//
// which is stable if and only if 0 < k < 2 sin(π/(4n-2)). The gain of a commit is s (1-q), where s is the scale that
// the method gives to a window's delta (1 for DOWNPOUR, 1/window for AGN) and q, between 0 and 1 for a window that
// is stable in itself, is the share of an error that is left after the window. So s below the critical gain is safe.
func CriticalGain(workers int) float64 {
	return 2 * math.Sin(math.Pi/float64(4*max(1, workers)-2))
}

// SafeRate is what the learning rate of one worker is to be multiplied by when the deltas of workers are added up as they
// are: then a direction in which the one worker's step is just right, 1/curvature, has half the critical gain.
func SafeRate(workers, window int) float64 {
	return CriticalGain(workers) / (2 * float64(max(1, window)))
}

// safeMomentum is how much a momentum may make of slow directions, rate/(1-momentum), when the changes of all workers
// together weigh as much as those of one. On a quadratic with plain descent the direct and the delayed part ring above 1.5;
// adam, which overshoots by itself, was seen to lose accuracy at 1.4 (20 workers, windows of 5 and 10) and not at 1.
const safeMomentum = 1.2

// unstable words the warning of a gain beyond the delay law.
func unstable(name string, workers int, gain, limit float64, advice string) []string {
	return []string{fmt.Sprintf("%s with %d workers: a commit may have a gain of %.3g, the delay law allows less than %.3g, so the run is likely to diverge; %s",
		name, workers, gain, limit, advice)}
}
