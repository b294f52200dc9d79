package kernel

import (
	"math/rand/v2"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// fence is memory between two pages that may not be touched, so that an access beyond it ends the test.
type fence struct{ room []float32 }

func newFence(t *testing.T, n int) *fence {
	t.Helper()
	page := syscall.Getpagesize()
	size := (4*n + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{all[:page], all[page+size:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return &fence{unsafe.Slice((*float32)(unsafe.Pointer(&all[page])), size/4)}
}

func checkFenced(t *testing.T, s Set, r *rand.Rand, f *fences, g gemmCase, wild float64) {
	t.Helper()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%v front=%v: %v", g, f.front, p)
		}
	}()
	sizes := map[string]int{}
	checkGemmAt(t, s, r, g, func(operand string, n int) []float32 {
		sizes[operand] = n
		return f.place(operand, n)
	}, wild)
	for operand, n := range sizes {
		if !f.intact(operand, n) {
			t.Fatalf("%v: memory beside %s was changed", g, operand)
		}
	}
}

// Thousands of small shapes: every height and width of a tile, every remainder of k.
func TestGemmStaysInsideItsOperands(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(11, 0))
		f := newFences(t, 100*100)
		scalars := []float32{0, 1, 1, -1, 0.5, 2.25}
		for i := range 4000 {
			f.front = i%2 == 1
			g := gemmCase{
				transA: r.IntN(2) == 1, transB: r.IntN(2) == 1,
				m: r.IntN(1 + r.IntN(81)), n: r.IntN(1 + r.IntN(81)), k: r.IntN(1 + r.IntN(81)),
				alpha: scalars[r.IntN(len(scalars))], beta: scalars[r.IntN(len(scalars))],
			}
			if r.IntN(2) == 1 {
				g.padA, g.padB, g.padC = r.IntN(20), r.IntN(20), r.IntN(20)
			}
			if r.IntN(4) == 0 { // one thin side
				*[]*int{&g.m, &g.n, &g.k}[r.IntN(3)] = 1 + r.IntN(3)
			}
			wild := 0.0
			if i%4 == 0 {
				wild = 0.6
			}
			checkFenced(t, s, r, f, g, wild)
		}
	})
}

// Shapes beyond the blocks of every direction, in all transposes.
func TestLargeGemmStaysInsideItsOperands(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(12, 0))
		f := newFences(t, 1000*300)
		for i, d := range [][3]int{{257, 33, 259}, {300, 70, 40}, {40, 530, 270}, {530, 520, 9}, {13, 37, 800}, {32, 500, 500}, {5, 1040, 17}, {100, 97, 513}, {1, 784, 300}, {270, 1, 300}} {
			for trans := range 4 {
				f.front = i%2 == 1
				g := gemmCase{transA: trans&1 == 1, transB: trans&2 == 2, m: d[0], n: d[1], k: d[2], padA: i % 3, padB: i % 2, padC: i % 4, alpha: 0.5, beta: float32(trans % 2)}
				checkFenced(t, s, r, f, g, 0.3)
			}
		}
	})
}

// Rows a multiple of 1 KiB or 2 KiB apart, which the assembly sets copy where they read others in place.
func TestGemmOfAliasedRowsStaysInsideItsOperands(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(15, 0))
		f := newFences(t, 1024*100)
		for i, d := range [][3]int{{20, 100, 512}, {40, 512, 70}, {3, 90, 512}, {70, 65, 1024}, {17, 1024, 33}, {65, 256, 90}, {2, 512, 90}, {90, 33, 512}} {
			for trans := range 4 {
				f.front = i%2 == 1
				g := gemmCase{transA: trans&1 == 1, transB: trans&2 == 2, m: d[0], n: d[1], k: d[2], alpha: -1, beta: float32(i % 3)}
				checkFenced(t, s, r, f, g, 0.3)
			}
		}
	})
}

func TestAxpyStaysInsideItsOperands(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		f := newFences(t, 1000)
		for n := range 200 {
			for _, f.front = range []bool{false, true} {
				x, y := f.place("A", n), f.place("B", n)
				s.Axpy(2, x, y)
				for i, v := range y {
					if v != 3*canary {
						t.Fatalf("n=%d: y[%d] = %g", n, i, v)
					}
				}
				if !f.intact("A", n) || !f.intact("B", n) {
					t.Fatalf("n=%d: memory beside the vectors was changed", n)
				}
			}
		}
	})
}
