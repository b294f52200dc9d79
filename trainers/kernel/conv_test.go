package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
)

// convCase is a convolution of n images with o filters.
type convCase struct {
	Window
	n, o int
}

func (c convCase) String() string {
	return fmt.Sprintf("%+v", struct {
		Window
		n, o int
	}{c.Window, c.n, c.o})
}

// randomWindow has padding as Keras' valid and same, or any up to the window's size.
func randomWindow(r *rand.Rand, most, channels int) Window {
	for {
		g := Window{H: 1 + r.IntN(most), W: 1 + r.IntN(most), C: 1 + r.IntN(channels), KH: 1 + r.IntN(5), KW: 1 + r.IntN(5), SY: 1, SX: 1, DY: 1, DX: 1}
		switch r.IntN(3) {
		case 0:
			g.SY, g.SX = 1+r.IntN(3), 1+r.IntN(3)
		case 1:
			g.DY, g.DX = 1+r.IntN(2), 1+r.IntN(3)
		}
		high, wide := (g.KH-1)*g.DY+1, (g.KW-1)*g.DX+1
		switch r.IntN(3) {
		case 0: // valid
			g.OH, g.OW = (g.H-high)/g.SY+1, (g.W-wide)/g.SX+1
			if g.H < high || g.W < wide {
				continue
			}
		case 1: // same
			g.OH, g.OW = (g.H+g.SY-1)/g.SY, (g.W+g.SX-1)/g.SX
			g.Top, g.Left = max((g.OH-1)*g.SY+high-g.H, 0)/2, max((g.OW-1)*g.SX+wide-g.W, 0)/2
		default:
			g.Top, g.Left = r.IntN(high), r.IntN(wide)
			g.OH, g.OW = (g.H+g.Top+r.IntN(high))/g.SY+1, (g.W+g.Left+r.IntN(wide))/g.SX+1
		}
		return g
	}
}

// eachProduct calls f for every pair of a result and a cell of its window that lies inside the image, with the indices
// of both in one image's slices, without channels and filters.
func eachProduct(g Window, f func(out, in, cell int)) {
	for oy := range g.OH {
		for ox := range g.OW {
			for ky := range g.KH {
				for kx := range g.KW {
					y, x := oy*g.SY-g.Top+ky*g.DY, ox*g.SX-g.Left+kx*g.DX
					if y >= 0 && y < g.H && x >= 0 && x < g.W {
						f(oy*g.OW+ox, y*g.W+x, ky*g.KW+kx)
					}
				}
			}
		}
	}
}

// sum is a float64 sum with what its rounding error is measured by.
type sum struct{ value, abs float64 }

func (s *sum) add(a, b float32) {
	p := float64(a) * float64(b)
	s.value += p
	s.abs += math.Abs(p)
}

func (s *sum) agrees(got float32) bool {
	g := float64(got)
	if math.IsNaN(s.value) || math.IsInf(s.value, 0) {
		return g == s.value || math.IsNaN(g) && math.IsNaN(s.value)
	}
	return math.Abs(g-s.value) <= 1e-6*(1+s.abs)
}

// checkConv compares the three kernels with loops in float64.
func checkConv(t *testing.T, s Set, r *rand.Rand, c convCase, at place, wild bool) {
	t.Helper()
	in, out, cells := c.H*c.W*c.C, c.OH*c.OW*c.o, c.KH*c.KW*c.C
	fill := func(operand string, n int, spoil bool) []float32 {
		x := at(operand, n)
		copy(x, randomSlice(r, n))
		if spoil && n > 0 {
			x[r.IntN(n)] = []float32{float32(math.NaN()), float32(math.Inf(1))}[r.IntN(2)]
		}
		return x
	}
	var bias []float32
	if r.IntN(3) > 0 {
		bias = randomSlice(r, c.o)
	}
	relu := r.IntN(2) == 1

	x, w, y := fill("A", c.n*in, wild), fill("B", cells*c.o, false), fill("C", c.n*out, true)
	want := make([]sum, c.n*out)
	for i := range want {
		if bias != nil {
			want[i].add(bias[i%c.o], 1)
		}
	}
	for i := range c.n {
		eachProduct(c.Window, func(to, from, cell int) {
			for ch := range c.C {
				for f := range c.o {
					want[i*out+to*c.o+f].add(x[i*in+from*c.C+ch], w[(cell*c.C+ch)*c.o+f])
				}
			}
		})
	}
	s.Conv(&c.Window, c.n, c.o, x, w, bias, relu, y)
	for i := range want {
		if relu && want[i].value <= 0 {
			want[i].value = 0
		}
		if !want[i].agrees(y[i]) {
			t.Fatalf("%v relu=%v bias=%v: y[%d] = %g, want %g", c, relu, bias != nil, i, y[i], want[i].value)
		}
	}

	dy, dw := fill("C", c.n*out, false), fill("B", cells*c.o, false)
	want = make([]sum, len(dw))
	for i, v := range dw {
		want[i].add(v, 1)
	}
	for i := range c.n {
		eachProduct(c.Window, func(to, from, cell int) {
			for ch := range c.C {
				for f := range c.o {
					want[(cell*c.C+ch)*c.o+f].add(x[i*in+from*c.C+ch], dy[i*out+to*c.o+f])
				}
			}
		})
	}
	s.ConvGradFilters(&c.Window, c.n, c.o, x, dy, dw)
	for i := range want {
		if !want[i].agrees(dw[i]) {
			t.Fatalf("%v: dw[%d] = %g, want %g", c, i, dw[i], want[i].value)
		}
	}

	w, dy, dx := fill("B", cells*c.o, false), fill("C", c.n*out, wild), fill("A", c.n*in, true)
	want = make([]sum, len(dx))
	for i := range c.n {
		eachProduct(c.Window, func(to, from, cell int) {
			for ch := range c.C {
				for f := range c.o {
					want[i*in+from*c.C+ch].add(w[(cell*c.C+ch)*c.o+f], dy[i*out+to*c.o+f])
				}
			}
		})
	}
	s.ConvGradInput(&c.Window, c.n, c.o, dy, w, dx)
	for i := range want {
		if !want[i].agrees(dx[i]) {
			t.Fatalf("%v: dx[%d] = %g, want %g", c, i, dx[i], want[i].value)
		}
	}
}

func TestConvMatchesLoops(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(21, 0))
		for i := range 1500 {
			c := convCase{Window: randomWindow(r, 8, 5), n: r.IntN(4), o: 1 + r.IntN(7)}
			checkConv(t, s, r, c, onHeap, i%5 == 0)
		}
		for range 60 { // more than a strip of filters or channels
			c := convCase{Window: randomWindow(r, 4, 40), n: 1 + r.IntN(2), o: 1 + r.IntN(70)}
			checkConv(t, s, r, c, onHeap, false)
		}
	})
}

// Rows long enough for the way without columns, and some common networks' shapes.
func TestConvOfWideImagesMatchesLoops(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(22, 0))
		for i := range 150 {
			c := convCase{Window: randomWindow(r, 8, 4), n: 1 + r.IntN(2), o: 1 + r.IntN(5)}
			c.W, c.OW = c.W+8+r.IntN(20), 0
			c.OW = (c.W + c.Left - (c.KW-1)*c.DX - 1 + r.IntN(c.KW)) / c.SX
			if c.OW < 1 {
				continue
			}
			if i%10 == 0 {
				c.o = 30 + r.IntN(40)
			}
			if i%10 == 5 {
				c.C = 30 + r.IntN(10)
			}
			checkConv(t, s, r, c, onHeap, i%4 == 0)
		}
		same := func(h, w, ch, k int) Window {
			return Window{H: h, W: w, C: ch, KH: k, KW: k, SY: 1, SX: 1, DY: 1, DX: 1, Top: (k - 1) / 2, Left: (k - 1) / 2, OH: h, OW: w}
		}
		valid := func(h, w, ch, k, stride int) Window {
			return Window{H: h, W: w, C: ch, KH: k, KW: k, SY: stride, SX: stride, DY: 1, DX: 1, OH: (h-k)/stride + 1, OW: (w-k)/stride + 1}
		}
		for _, c := range []convCase{
			{valid(28, 28, 1, 3, 1), 2, 32}, {valid(26, 26, 32, 3, 1), 1, 32}, {same(14, 14, 3, 5), 2, 33}, {same(12, 12, 70, 3), 1, 65},
			{valid(30, 30, 3, 4, 2), 2, 17}, {valid(11, 23, 16, 1, 1), 3, 20}, {valid(3, 13, 512, 3, 1), 1, 3}, {valid(4, 12, 3, 2, 1), 1, 512},
		} {
			checkConv(t, s, r, c, onHeap, false)
		}
	})
}

// A window of a file may be as long as it likes: what it costs is what lies inside the image.
func TestConvOfFarCellsMatchesLoops(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(25, 0))
		for _, apart := range []int{3, 15, 300, 1 << 30} {
			for _, before := range []int{apart, apart / 2} {
				checkConv(t, s, r, convCase{Window{H: 2, W: 15, C: 3, KH: 1, KW: 2, SY: 1, SX: 1, DY: 1, DX: apart, Left: before, OH: 2, OW: 15}, 2, 4}, onHeap, false)
			}
		}
	})
}

// The assembly has no bounds checks: nothing outside the images, filters and results may be touched.
func TestConvStaysInsideItsOperands(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		r := rand.New(rand.NewPCG(23, 0))
		f := newFences(t, 200_000)
		for i := range 400 {
			f.front = i%2 == 1
			c := convCase{Window: randomWindow(r, 6, 4), n: 1 + r.IntN(2), o: 1 + r.IntN(40)}
			c.W, c.OW = c.W+10, c.OW+10/c.SX
			sizes := map[string]int{}
			checkConv(t, s, r, c, func(operand string, n int) []float32 {
				sizes[operand] = n
				return f.place(operand, n)
			}, false)
			for operand, n := range sizes {
				if !f.intact(operand, n) {
					t.Fatalf("%v: memory beside %s was changed", c, operand)
				}
			}
		}
	})
}

func TestLinearIsAProductWithItsEnd(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(24, 0))
		nan := float32(math.NaN())
		for i := range 600 {
			m, n, k := r.IntN(50), r.IntN(100), r.IntN(60)
			if i%20 == 0 {
				k = 200 + r.IntN(400)
			}
			x, w := randomSlice(r, m*k), randomSlice(r, k*n)
			if m*k > 0 && i%4 == 0 {
				x[r.IntN(m*k)] = nan
			}
			var bias []float32
			if i%3 > 0 {
				bias = randomSlice(r, n)
			}
			relu := i%2 == 0
			want := make([]float32, m*n)
			s.Gemm(false, false, m, n, k, 1, x, k, w, n, 0, want, n)
			finish(m, n, bias, relu, want)
			y := slices.Repeat([]float32{nan}, m*n+3)
			s.Linear(m, n, k, x, w, bias, relu, y)
			if !same(y[:m*n], want) {
				t.Fatalf("%d×%d×%d relu=%v bias=%v: differs from a product, a sum and a maximum", m, n, k, relu, bias != nil)
			}
			if y[m*n] == y[m*n] {
				t.Fatalf("%d×%d×%d: wrote behind Y", m, n, k)
			}
		}
		y := []float32{9, 9}
		negative := float32(math.Copysign(0, -1))
		s.Linear(1, 2, 1, []float32{1}, []float32{negative, -1}, []float32{negative, 0}, true, y)
		if math.Float32bits(y[0]) != 0 || math.Float32bits(y[1]) != 0 {
			t.Errorf("the ReLU of -0 and -1 is %v", y)
		}
	})
}

// same compares bits, but takes one NaN for another.
func same(x, y []float32) bool {
	return slices.EqualFunc(x, y, func(a, b float32) bool {
		return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
	})
}

func TestConvAllocatesNothing(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		for _, g := range []Window{
			{H: 8, W: 20, C: 3, KH: 3, KW: 3, SY: 1, SX: 1, DY: 1, DX: 1, Top: 1, Left: 1, OH: 8, OW: 20},
			{H: 6, W: 6, C: 3, KH: 3, KW: 3, SY: 2, SX: 2, DY: 1, DX: 1, OH: 2, OW: 2},
		} {
			x, w, y := make([]float32, 2*g.in()), make([]float32, g.cells()*40), make([]float32, 2*g.out(40))
			if n := testing.AllocsPerRun(5, func() {
				s.Conv(&g, 2, 40, x, w, nil, false, y)
				s.ConvGradFilters(&g, 2, 40, x, y, w)
				s.ConvGradInput(&g, 2, 40, y, w, x)
			}); n != 0 {
				t.Errorf("%v allocations for %+v", n, g)
			}
		}
	})
}
