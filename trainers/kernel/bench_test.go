package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// benchShapes are the products of a step of the 784-500-500-10 network, and two cubes.
func benchShapes() []gemmCase {
	var all []gemmCase
	for _, batch := range []int{128, 32} {
		all = append(all,
			gemmCase{m: batch, n: 500, k: 784},               // forward
			gemmCase{transB: true, m: batch, n: 500, k: 500}, // gradient of the input
			gemmCase{transA: true, m: 784, n: 500, k: batch}, // gradient of the weights
			gemmCase{m: batch, n: 10, k: 500},
			gemmCase{transB: true, m: batch, n: 500, k: 10},
			gemmCase{transA: true, m: 500, n: 10, k: batch})
	}
	return append(all, gemmCase{m: 1, n: 500, k: 784}, gemmCase{m: 8, n: 8, k: 8},
		gemmCase{m: 512, n: 512, k: 512}, gemmCase{m: 1024, n: 1024, k: 1024})
}

func (c gemmCase) label() string {
	op := func(t bool) string {
		if t {
			return "T"
		}
		return "N"
	}
	return fmt.Sprintf("%dx%dx%d-%s%s", c.m, c.n, c.k, op(c.transA), op(c.transB))
}

// BenchmarkGemm runs all sets in turn in every round, so that a slower moment of the machine hits them alike, and
// reports the rate of each in its median round and in its best one, which is nearest to an undisturbed core. ns/op is
// the time of a round over all sets; the allocations of a call are a test's matter.
func BenchmarkGemm(b *testing.B) {
	sets := candidates()
	for _, g := range benchShapes() {
		b.Run(g.label(), func(b *testing.B) {
			x, y, c := make([]float32, g.m*g.k), make([]float32, g.k*g.n), make([]float32, g.m*g.n)
			for i := range x {
				x[i] = float32(i%7) + 1
			}
			lda, ldb := g.k, g.n
			if g.transA {
				lda = g.m
			}
			if g.transB {
				ldb = g.k
			}
			flop := 2 * float64(g.m) * float64(g.n) * float64(g.k)
			calls := 1 + int(1e6/flop) // a clock reading must not count
			times := make([][]time.Duration, len(sets))
			for b.Loop() {
				for i, s := range sets {
					start := time.Now()
					for range calls {
						s.Gemm(g.transA, g.transB, g.m, g.n, g.k, 1, x, lda, y, ldb, 0, c, g.n)
					}
					times[i] = append(times[i], time.Since(start))
				}
			}
			for i, s := range sets {
				slices.Sort(times[i])
				rate := func(d time.Duration) float64 { return flop * float64(calls) / d.Seconds() / 1e9 }
				b.ReportMetric(rate(times[i][len(times[i])/2]), s.Name()+"-median-GF/s")
				b.ReportMetric(rate(times[i][0]), s.Name()+"-best-GF/s")
			}
		})
	}
}

// BenchmarkAxpy runs the sets in turn like BenchmarkGemm and reports the bytes of x a second.
func BenchmarkAxpy(b *testing.B) {
	sets := candidates()
	for _, n := range []int{500, 648010} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, y := make([]float32, n), make([]float32, n)
			calls := 1 + 1_000_000/n
			times := make([][]time.Duration, len(sets))
			for b.Loop() {
				for i, s := range sets {
					start := time.Now()
					for range calls {
						s.Axpy(0.5, x, y)
					}
					times[i] = append(times[i], time.Since(start))
				}
			}
			for i, s := range sets {
				slices.Sort(times[i])
				b.ReportMetric(float64(4*n*calls)/times[i][len(times[i])/2].Seconds()/1e9, s.Name()+"-median-GB/s")
			}
		})
	}
}
