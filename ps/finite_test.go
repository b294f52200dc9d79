package ps

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// nonFinite finds what the obvious loop finds, over all bit patterns.
func TestNonFinite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{0, 1, 7, 8, 9, 4095, 4096, 4097, 9000}).Draw(t, "length")
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i%5) * math.MaxFloat32 / 4
		}
		for range rapid.IntRange(0, 3).Draw(t, "marks") {
			if n > 0 {
				x[rapid.IntRange(0, n-1).Draw(t, "at")] = math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			}
		}
		want := -1
		for i, v := range x {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				want = i
				break
			}
		}
		if got := nonFinite(x); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}
