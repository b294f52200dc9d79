package kernel

import (
	"math/rand/v2"
	"testing"
)

// An element of C is the same sum in the same order in every tile, strip, way and set of the assembly. So a prediction
// does not depend on which rows share its batch, nor a training run on which of these sets the machine has.
func TestElementsDoNotDependOnShapeOrSet(t *testing.T) {
	sets := native()
	if len(sets) == 0 {
		t.Skip("this processor runs none of the assembly sets")
	}
	r := rand.New(rand.NewPCG(14, 0))
	for range 60 {
		m, n, k := 1+r.IntN(60), 1+r.IntN(130), 1+r.IntN(600)
		alpha, beta := 2*r.Float32()-1, float32(r.IntN(2))*r.Float32()
		a, b, c := randomSlice(r, m*k), randomSlice(r, k*n), randomSlice(r, m*n)
		bT := make([]float32, n*k)
		for l := range k {
			for j := range n {
				bT[j*k+l] = b[l*n+j]
			}
		}
		whole := append([]float32(nil), c...)
		sets[0].Gemm(false, false, m, n, k, alpha, a, k, b, n, beta, whole, n)
		for _, s := range sets {
			turned := append([]float32(nil), c...)
			s.Gemm(false, true, m, n, k, alpha, a, k, bT, k, beta, turned, n)
			if !sameBits(turned, whole) {
				t.Fatalf("%s: %d×%d×%d with B stored transposed differs", s.Name(), m, n, k)
			}
			for i := range m {
				row := append([]float32(nil), c[i*n:][:n]...)
				s.Gemm(false, false, 1, n, k, alpha, a[i*k:], k, b, n, beta, row, n)
				if !sameBits(row, whole[i*n:][:n]) {
					t.Fatalf("%s: row %d of %d×%d×%d differs when it is alone", s.Name(), i, m, n, k)
				}
			}
		}
	}
}

// Workspaces are kept, and no more of them than calls ran at a time.
func TestWorkspacesAreReused(t *testing.T) {
	for _, s := range native() {
		s := s.(*blockedSet)
		x := make([]float32, 100*100)
		for range 20 {
			s.Gemm(true, true, 100, 100, 100, 1, x, 100, x, 100, 0, make([]float32, 100*100), 100)
		}
		if len(s.free) != 1 {
			t.Errorf("%s keeps %d workspaces after calls one by one", s.name, len(s.free))
		}
	}
}
