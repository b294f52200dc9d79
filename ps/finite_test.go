package ps

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// unfit finds what the obvious loop finds, over all bit patterns.
func TestUnfit(t *testing.T) {
	edge := math.Float32bits(MaxDelta)
	edges := []uint32{0, 1 << 31, edge - 1, edge, 1<<31 | edge - 1, 1<<31 | edge}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{0, 1, 7, 8, 9, 4095, 4096, 4097, 9000}).Draw(t, "length")
		x := make([]float32, n+1)[rapid.IntRange(0, 1).Draw(t, "start"):] // aligned to a pair or not
		x = x[:n]
		for i := range x {
			x[i] = float32(i%5-2) * MaxDelta / 2.0001
		}
		for range rapid.IntRange(0, 3).Draw(t, "marks") {
			if n > 0 {
				x[rapid.IntRange(0, n-1).Draw(t, "at")] = math.Float32frombits(rapid.OneOf(rapid.Uint32(), rapid.SampledFrom(edges)).Draw(t, "bits"))
			}
		}
		want := -1
		for i, v := range x {
			if f := float64(v); math.IsNaN(f) || math.Abs(f) >= MaxDelta {
				want = i
				break
			}
		}
		if got := unfit(x); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}
