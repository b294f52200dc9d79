package kernel

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
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

// place gives n elements for an operand, which keep their place until the next call for the same operand.
type place func(operand string, n int) []float32

func onHeap(_ string, n int) []float32 { return make([]float32, n) }

// checkGemm compares one product of random numbers with a float64 triple loop and checks that nothing outside C was
// written.
func checkGemm(t *testing.T, s Set, r *rand.Rand, g gemmCase) {
	t.Helper()
	checkGemmAt(t, s, r, g, onHeap, 0)
}

// checkGemmAt is checkGemm with operands in given places, and with odd NaN and infinite elements if wild is not 0.
func checkGemmAt(t *testing.T, s Set, r *rand.Rand, g gemmCase, at place, wild float64) {
	t.Helper()
	aRows, aCols, bRows, bCols := g.m, g.k, g.k, g.n
	if g.transA {
		aRows, aCols = aCols, aRows
	}
	if g.transB {
		bRows, bCols = bCols, bRows
	}
	lda, ldb, ldc := aCols+g.padA, bCols+g.padB, g.n+g.padC
	a, b, c := at("A", elements(aRows, aCols, lda)), at("B", elements(bRows, bCols, ldb)), at("C", elements(g.m, g.n, ldc))
	for _, x := range [][]float32{a, b, c} {
		copy(x, randomSlice(r, len(x)))
		for wild > 0 && len(x) > 0 && r.Float64() < wild {
			x[r.IntN(len(x))] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[r.IntN(3)]
		}
	}
	if g.beta == 0 {
		for i := range g.m {
			for j := range g.n {
				c[i*ldc+j] = float32(math.NaN())
			}
		}
	}
	old, oldA, oldB := slices.Clone(c), slices.Clone(a), slices.Clone(b)
	s.Gemm(g.transA, g.transB, g.m, g.n, g.k, g.alpha, a, lda, b, ldb, g.beta, c, ldc)
	if !sameBits(a, oldA) || !sameBits(b, oldB) {
		t.Fatalf("%v: an operand was changed", g)
	}
	for i, v := range c {
		row, col := i/ldc, i%ldc
		if col >= g.n {
			if !sameBits(c[i:i+1], old[i:i+1]) {
				t.Fatalf("%v: wrote outside C at %d", g, i)
			}
			continue
		}
		var sum, abs float64
		for l := range g.k {
			if g.alpha == 0 {
				break
			}
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
		var want float64
		if g.alpha != 0 {
			want = float64(g.alpha) * sum
		}
		if g.beta != 0 {
			want += float64(g.beta) * float64(old[i])
		}
		got, tol := float64(v), 1e-6*(1+math.Abs(float64(g.alpha))*abs+math.Abs(float64(g.beta)))
		if got == want || math.IsNaN(got) && math.IsNaN(want) { // equal covers infinities
			continue
		}
		if math.IsInf(want, 0) || !(math.Abs(got-want) <= tol) {
			t.Fatalf("%v: C[%d,%d] = %g, want %g", g, row, col, v, want)
		}
	}
}

// elements is the least length of a slice that holds such a matrix.
func elements(rows, cols, stride int) int {
	if rows == 0 || cols == 0 {
		return 0
	}
	return (rows-1)*stride + cols
}

func sameBits(x, y []float32) bool {
	return slices.EqualFunc(x, y, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
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

// The assembly has no bounds checks, so the sets must look before they start.
func TestShortSlicesPanic(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		x := make([]float32, 100)
		for name, f := range map[string]func(){
			"A":          func() { s.Gemm(false, false, 5, 5, 5, 1, x[:24], 5, x[:25], 5, 0, x[:25], 5) },
			"A^T":        func() { s.Gemm(true, false, 5, 5, 6, 1, x[:29], 5, x[:30], 5, 0, x[:25], 5) },
			"B":          func() { s.Gemm(false, false, 5, 5, 5, 1, x[:25], 5, x[:24], 5, 0, x[:25], 5) },
			"B^T":        func() { s.Gemm(false, true, 5, 5, 6, 1, x[:30], 6, x[:29], 6, 0, x[:25], 5) },
			"C":          func() { s.Gemm(false, false, 5, 5, 5, 1, x[:25], 5, x[:25], 5, 0, x[:24], 5) },
			"C of k = 0": func() { s.Gemm(false, false, 5, 5, 0, 1, nil, 5, nil, 5, 0, x[:24], 5) },
			"stride":     func() { s.Gemm(false, false, 5, 5, 5, 1, x, 5, x, 4, 0, x, 5) },
			"m":          func() { s.Gemm(false, false, -1, 5, 5, 1, x, 5, x, 5, 0, x, 5) },
			"y":          func() { s.Axpy(1, x[:5], x[:4:4]) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				f()
			}()
		}
	})
}

// One set serves all replicas of a process.
func TestConcurrentCallsDoNotMix(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		const workers = 6
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(13, uint64(w)))
				m, n, k := 30+11*w, 150, 100
				a, b, c := randomSlice(r, m*k), randomSlice(r, k*n), make([]float32, m*n)
				want := make([][]float32, 4) // by transposes
				for i := range 40 {
					tA, tB, lda, ldb := i&1 == 1, i&2 == 2, k, n
					if tA {
						lda = m
					}
					if tB {
						ldb = k
					}
					s.Gemm(tA, tB, m, n, k, 1, a, lda, b, ldb, 0, c, n)
					if want[i%4] == nil {
						want[i%4] = slices.Clone(c)
					}
					if !sameBits(c, want[i%4]) {
						t.Errorf("worker %d: call %d gave another product than call %d", w, i, i%4)
						return
					}
				}
				for trans := range 4 { // and the first products were right
					checkGemm(t, s, r, gemmCase{transA: trans&1 == 1, transB: trans&2 == 2, m: m, n: n, k: 40, alpha: 1})
				}
			})
		}
		wg.Wait()
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
	if s, err := Select("auto"); err != nil || s.Name() != Names()[0] {
		t.Errorf("auto is %v, %v; the best is %s", s, err, Names()[0])
	}
	_, err := Select("mlk")
	var e *NameError
	if !errors.As(err, &e) || e.ErrorKind() != "usage" || e.ErrorHint() == "" {
		t.Fatalf("Select(mlk) = %v", err)
	}
}

func TestPrefer(t *testing.T) {
	for _, c := range []struct{ name, wish, want string }{
		{"", "", ""}, {"auto", "", "auto"}, {"", "avx2", "avx2"}, {"auto", "avx2", "avx2"}, {"gonum", "avx2", "gonum"}, {"gonum", "", "gonum"}, {"", "auto", "auto"},
	} {
		if got := Prefer(c.name, c.wish); got != c.want {
			t.Errorf("Prefer(%q, %q) = %q, want %q", c.name, c.wish, got, c.want)
		}
	}
}
