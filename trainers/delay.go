package trainers

import "math"

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
