package kernel

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// everySet runs a conformance test over every set of this machine.
func everySet(t *testing.T, f func(t *testing.T, s Set)) {
	for _, s := range candidates() {
		t.Run(s.Name(), func(t *testing.T) { f(t, s) })
	}
}

type gemmCase struct {
	transA, transB   bool
	m, n, k          int
	padA, padB, padC int
	alpha, beta      float32
}

func (c gemmCase) String() string {
	return fmt.Sprintf("tA=%v tB=%v m=%d n=%d k=%d pad=%d,%d,%d alpha=%g beta=%g",
		c.transA, c.transB, c.m, c.n, c.k, c.padA, c.padB, c.padC, c.alpha, c.beta)
}

func randomSlice(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = 2*r.Float32() - 1
	}
	return s
}

// checkGemm compares one product with a float64 triple loop and checks that nothing outside C was written.
func checkGemm(t *testing.T, s Set, r *rand.Rand, g gemmCase) {
	t.Helper()
	aRows, aCols, bRows, bCols := g.m, g.k, g.k, g.n
	if g.transA {
		aRows, aCols = aCols, aRows
	}
	if g.transB {
		bRows, bCols = bCols, bRows
	}
	lda, ldb, ldc := aCols+g.padA, bCols+g.padB, g.n+g.padC
	a, b, c := randomSlice(r, aRows*lda), randomSlice(r, bRows*ldb), randomSlice(r, g.m*ldc+3)
	if g.beta == 0 {
		for i := range g.m {
			for j := range g.n {
				c[i*ldc+j] = float32(math.NaN())
			}
		}
	}
	old, oldA, oldB := slices.Clone(c), slices.Clone(a), slices.Clone(b)
	s.Gemm(g.transA, g.transB, g.m, g.n, g.k, g.alpha, a, lda, b, ldb, g.beta, c, ldc)
	if !slices.Equal(a, oldA) || !slices.Equal(b, oldB) {
		t.Fatalf("%v: an operand was changed", g)
	}
	for i, v := range c {
		row, col := i/max(ldc, 1), i%max(ldc, 1)
		if row >= g.m || col >= g.n {
			if v != old[i] {
				t.Fatalf("%v: wrote outside C at %d", g, i)
			}
			continue
		}
		var sum, abs float64
		for l := range g.k {
			var av, bv float32
			if g.transA {
				av = a[l*lda+row]
			} else {
				av = a[row*lda+l]
			}
			if g.transB {
				bv = b[col*ldb+l]
			} else {
				bv = b[l*ldb+col]
			}
			p := float64(av) * float64(bv)
			sum += p
			abs += math.Abs(p)
		}
		want := float64(g.alpha) * sum
		if g.beta != 0 {
			want += float64(g.beta) * float64(old[i])
		}
		tol := 1e-6 * (1 + math.Abs(float64(g.alpha))*abs + math.Abs(float64(g.beta)))
		if d := math.Abs(float64(v) - want); !(d <= tol) {
			t.Fatalf("%v: C[%d,%d] = %g, want %g", g, row, col, v, want)
		}
	}
}

func TestGemmMatchesTripleLoop(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		const seed = 7
		r := rand.New(rand.NewPCG(seed, 0))
		scalars := []float32{0, 1, -1, 0.5, 2.25}
		for range 400 {
			checkGemm(t, s, r, gemmCase{
				transA: r.IntN(2) == 1, transB: r.IntN(2) == 1,
				m: r.IntN(70), n: r.IntN(70), k: r.IntN(70),
				padA: r.IntN(4), padB: r.IntN(4), padC: r.IntN(4),
				alpha: scalars[r.IntN(len(scalars))], beta: scalars[r.IntN(len(scalars))],
			})
		}
	})
}

// The sizes around tile edges, in all transposes, overwriting and adding.
func TestGemmAtTileEdges(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(8, 0))
		for _, d := range [][3]int{{1, 1, 1}, {64, 192, 256}, {65, 193, 257}, {63, 191, 255}, {130, 400, 20}, {3, 500, 520}, {200, 10, 128}, {1, 784, 10}} {
			for trans := range 4 {
				for _, beta := range []float32{0, 1} {
					checkGemm(t, s, r, gemmCase{transA: trans&1 == 1, transB: trans&2 == 2, m: d[0], n: d[1], k: d[2], padC: 1, alpha: 1, beta: beta})
				}
			}
		}
	})
}

func TestGemmOfNothingScalesC(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		c := []float32{1, 2, 3, 4}
		s.Gemm(false, false, 2, 2, 0, 1, nil, 0, nil, 2, 0.5, c, 2)
		if !slices.Equal(c, []float32{0.5, 1, 1.5, 2}) {
			t.Errorf("k = 0: C = %v", c)
		}
		s.Gemm(false, false, 0, 2, 3, 1, nil, 3, make([]float32, 6), 2, 0, nil, 2)
		s.Gemm(true, true, 2, 0, 3, 1, make([]float32, 6), 2, nil, 3, 0, nil, 0)
		if !slices.Equal(c, []float32{0.5, 1, 1.5, 2}) {
			t.Errorf("an empty C changed its neighbour: %v", c)
		}
	})
}

func TestAxpy(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(9, 0))
		for _, n := range []int{0, 1, 3, 4, 7, 8, 31, 32, 33, 1000} {
			x, y := randomSlice(r, n), randomSlice(r, n+2)
			old := slices.Clone(y)
			s.Axpy(-0.75, x, y)
			for i := range y {
				want := float64(old[i])
				if i < n {
					want += -0.75 * float64(x[i])
				}
				if math.Abs(float64(y[i])-want) > 1e-6 {
					t.Fatalf("n=%d: y[%d] = %g, want %g", n, i, y[i], want)
				}
			}
		}
	})
}

// A product must stay on the calling goroutine: workers are the unit of parallelism.
func TestGemmIsSingleThreadedAndAllocatesNothing(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		const d = 300
		a, b, c := make([]float32, d*d), make([]float32, d*d), make([]float32, d*d)
		before := runtime.NumGoroutine()
		allocs := testing.AllocsPerRun(3, func() {
			s.Gemm(false, true, d, d, d, 1, a, d, b, d, 0, c, d)
			s.Gemm(true, false, d, d, d, 1, a, d, b, d, 1, c, d)
		})
		if allocs != 0 { // starting a goroutine allocates, so this also proves that none is started
			t.Errorf("%v allocations a call", allocs)
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines before, %d after", before, after)
		}
	})
}

func TestSelect(t *testing.T) {
	for _, name := range append(Names(), "auto", "") {
		s, err := Select(name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if name != "" && name != "auto" && s.Name() != name {
			t.Errorf("Select(%q) gave %s", name, s.Name())
		}
	}
	_, err := Select("mlk")
	var e *NameError
	if !errors.As(err, &e) || e.ErrorKind() != "usage" || e.ErrorHint() == "" {
		t.Fatalf("Select(mlk) = %v", err)
	}
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range candidates() {
		for _, d := range []struct {
			name    string
			tA, tB  bool
			m, n, k int
		}{{"fwd-128x500x784", false, false, 128, 500, 784}, {"dX-128x500x500", false, true, 128, 500, 500}, {"dW-784x500x128", true, false, 784, 500, 128}} {
			b.Run(s.Name()+"/"+d.name, func(b *testing.B) {
				x, y, c := make([]float32, d.m*d.k), make([]float32, d.k*d.n), make([]float32, d.m*d.n)
				for i := range x {
					x[i] = float32(i%7) + 1
				}
				lda, ldb := d.k, d.n
				if d.tA {
					lda = d.m
				}
				if d.tB {
					ldb = d.k
				}
				b.ReportAllocs()
				for b.Loop() {
					s.Gemm(d.tA, d.tB, d.m, d.n, d.k, 1, x, lda, y, ldb, 0, c, d.n)
				}
				b.ReportMetric(2*float64(d.m)*float64(d.n)*float64(d.k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GF/s")
			})
		}
	}
}
