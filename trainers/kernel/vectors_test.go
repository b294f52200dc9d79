package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
)

// oddities are what random numbers rarely are.
func oddities() []float32 {
	inf := float32(math.Inf(1))
	return []float32{0, float32(math.Copysign(0, -1)), inf, -inf, float32(math.NaN()), math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32,
		1e-39, math.MaxFloat32, -math.MaxFloat32, 1, -1, 88.5, 88.73, -87.4, -103.9, -104.1, 0.625, -0.625, 1e-10, 20}
}

// wildSlice has random numbers of all sizes and some oddities.
func wildSlice(r *rand.Rand, n int) []float32 {
	x := randomSlice(r, n)
	for i := range x {
		switch r.IntN(8) {
		case 0:
			x[i] = oddities()[r.IntN(len(oddities()))]
		case 1:
			x[i] *= 100
		}
	}
	return x
}

// vectorCase is a kernel on slices of equal length, of which the first inputs are only read.
type vectorCase struct {
	name   string
	slices int
	inputs int
	run    func(s Set, x [][]float32)
}

func vectorCases() []vectorCase {
	return []vectorCase{
		{"Add", 3, 2, func(s Set, x [][]float32) { s.Add(x[0], x[1], x[2]) }},
		{"Mul", 3, 2, func(s Set, x [][]float32) { s.Mul(x[0], x[1], x[2]) }},
		{"ReLU", 2, 1, func(s Set, x [][]float32) { s.ReLU(x[0], x[1]) }},
		{"ReLUGrad", 3, 2, func(s Set, x [][]float32) { s.ReLUGrad(x[0], x[1], x[2]) }},
		{"SigmoidGrad", 3, 2, func(s Set, x [][]float32) { s.SigmoidGrad(x[0], x[1], x[2]) }},
		{"TanhGrad", 3, 2, func(s Set, x [][]float32) { s.TanhGrad(x[0], x[1], x[2]) }},
		{"Momentum", 3, 1, func(s Set, x [][]float32) { s.Momentum(0.1, 0.9, false, x[0], x[1], x[2]) }},
		{"Nesterov", 3, 1, func(s Set, x [][]float32) { s.Momentum(0.1, 0.9, true, x[0], x[1], x[2]) }},
		{"Adam", 4, 1, func(s Set, x [][]float32) { s.Adam(0.01, 0.1, 0.001, 1e-7, x[0], x[1], x[2], x[3]) }},
		{"Sigmoid", 2, 1, func(s Set, x [][]float32) { s.Sigmoid(x[0], x[1]) }},
		{"Tanh", 2, 1, func(s Set, x [][]float32) { s.Tanh(x[0], x[1]) }},
		{"Exp", 2, 1, func(s Set, x [][]float32) { s.Exp(x[0], x[1]) }},
	}
}

// ulps is the distance of a float32 from a number, in units of the last place of that number.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	switch {
	case got == w || got != got && w != w:
		return 0
	case got != got || w != w || math.IsInf(float64(w), 0) || math.IsInf(float64(got), 0):
		return math.Inf(1)
	}
	unit := float64(math.Nextafter32(max(w, -w), float32(math.Inf(1))) - max(w, -w))
	return math.Abs(float64(got)-want) / unit
}

// Thousands of lengths and numbers, each slice between memory that may not be touched.
func TestVectorKernelsMatchGo(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		r := rand.New(rand.NewPCG(41, 0))
		f := newFences(t, 300)
		f.of["D"] = newFence(t, 300)
		for _, c := range vectorCases() {
			for i := range 600 {
				f.front = i%2 == 1
				n := r.IntN(1 + r.IntN(200))
				x, want := make([][]float32, c.slices), make([][]float32, c.slices)
				for k := range x {
					x[k] = f.place(string(rune('A'+k)), n)
					copy(x[k], wildSlice(r, n))
					if c.name == "Adam" && k == 2 { // a sum of squares
						for j, v := range x[k] {
							x[k][j] = max(v, -v)
						}
					}
					want[k] = slices.Clone(x[k])
				}
				c.run(s, x)
				exact := true
				switch c.name {
				case "Sigmoid", "Tanh", "Exp":
					exact = false
				default:
					c.run(&gonumSet{}, want)
				}
				for k := range x {
					if !f.intact(string(rune('A'+k)), n) {
						t.Fatalf("%s of %d: memory beside slice %d was changed", c.name, n, k)
					}
					if (exact || k < c.inputs) && !same(x[k], want[k]) {
						t.Fatalf("%s of %d: slice %d is %v, want %v", c.name, n, k, x[k], want[k])
					}
				}
				if !exact {
					checkFunction(t, c.name, x[0], x[1])
				}
			}
		}
	})
}

func checkFunction(t *testing.T, name string, x, y []float32) {
	t.Helper()
	for i, v := range x {
		z, most := float64(v), 3.0
		var want float64
		switch name {
		case "Sigmoid":
			want = 1 / (1 + math.Exp(-z))
		case "Tanh":
			want = math.Tanh(z)
		case "Exp":
			want, most = math.Exp(z), 2
		}
		if d := ulps(y[i], want); !(d <= most) {
			t.Fatalf("%s(%g) = %g, want %g: off by %.2f units", name, v, y[i], want, d)
		}
	}
}

// Every sign, exponent and some of the fractions.
func TestFunctionsOverTheWholeRange(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		x := make([]float32, 0, 1<<17)
		for b := uint64(0); b < 1<<32; b += 40_009 {
			x = append(x, math.Float32frombits(uint32(b)))
		}
		y := make([]float32, len(x))
		for _, c := range vectorCases() {
			if c.name == "Sigmoid" || c.name == "Tanh" || c.name == "Exp" {
				c.run(s, [][]float32{x, y})
				checkFunction(t, c.name, x, y)
			}
		}
	})
}

// gridCase is a kernel on matrices and vectors; the last operand is the result.
type gridCase struct {
	name     string
	matrices int // the first operands; the others are vectors along a row
	vectors  int
	matrix   bool // the result is one
	run      func(s Set, rows, cols int, x [][]float32)
}

func gridCases() []gridCase {
	return []gridCase{
		{"AddColumnSums", 1, 0, false, func(s Set, rows, cols int, x [][]float32) { s.AddColumnSums(rows, cols, x[0], x[1]) }},
		{"AddColumnDots", 2, 0, false, func(s Set, rows, cols int, x [][]float32) { s.AddColumnDots(rows, cols, x[0], x[1], x[2]) }},
		{"AddColumnSquares", 1, 1, false, func(s Set, rows, cols int, x [][]float32) { s.AddColumnSquares(rows, cols, x[0], x[1], x[2]) }},
		{"ScaleColumns", 1, 2, true, func(s Set, rows, cols int, x [][]float32) { s.ScaleColumns(rows, cols, x[0], x[1], x[2], x[3]) }},
		{"BlendColumns", 2, 3, true, func(s Set, rows, cols int, x [][]float32) {
			s.BlendColumns(rows, cols, x[0], x[2], x[1], x[3], x[4], x[5])
		}},
		{"Softmax", 1, 0, true, func(s Set, rows, cols int, x [][]float32) { s.Softmax(rows, cols, x[0], x[1]) }},
	}
}

func TestColumnKernelsMatchGo(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		r := rand.New(rand.NewPCG(42, 0))
		f := newFences(t, 300*30)
		for _, o := range []string{"D", "E", "F"} {
			f.of[o] = newFence(t, 300*30)
		}
		for _, c := range gridCases() {
			for i := range 400 {
				f.front = i%2 == 1
				rows, cols := r.IntN(20), r.IntN(1+r.IntN(150))
				if i%8 == 0 {
					rows, cols = r.IntN(300), r.IntN(30)
				}
				number := randomSlice
				if i%3 == 0 {
					number = wildSlice
				}
				x := make([][]float32, c.matrices+c.vectors+1)
				want := make([][]float32, len(x))
				for k := range x {
					n := cols
					if k < c.matrices || k == len(x)-1 && c.matrix {
						n = rows * cols
					}
					x[k] = f.place(string(rune('A'+k)), n)
					copy(x[k], number(r, n))
					want[k] = slices.Clone(x[k])
				}
				c.run(s, rows, cols, x)
				c.run(&gonumSet{}, rows, cols, want)
				for k := range x {
					if !f.intact(string(rune('A'+k)), len(x[k])) {
						t.Fatalf("%s of %d×%d: memory beside operand %d was changed", c.name, rows, cols, k)
					}
					if c.name == "Softmax" && k == 1 {
						checkSoftmax(t, rows, cols, x[1], want[1])
					} else if !same(x[k], want[k]) {
						t.Fatalf("%s of %d×%d: operand %d is %v, want %v", c.name, rows, cols, k, x[k], want[k])
					}
				}
			}
		}
	})
}

func checkSoftmax(t *testing.T, rows, cols int, got, want []float32) {
	t.Helper()
	for i, w := range want[:rows*cols] {
		g := got[i]
		if g != g && w != w {
			continue
		}
		if !(math.Abs(float64(g)-float64(w)) <= 1e-6*float64(w)+1e-37) {
			t.Fatalf("softmax of %d×%d: [%d] = %g, want %g", rows, cols, i, g, w)
		}
	}
}

// What the assembly sets compute does not depend on which of them a machine has.
func TestAssemblySetsGiveTheSameBits(t *testing.T) {
	sets := candidates()
	sets = sets[:len(sets)-1]
	if len(sets) < 2 {
		t.Skip("this processor runs fewer than two of the assembly sets")
	}
	r := rand.New(rand.NewPCG(43, 0))
	for i := range 300 {
		n := r.IntN(100)
		rows, cols := r.IntN(10), r.IntN(90)
		x := wildSlice(r, n)
		m := randomSlice(r, rows*cols)
		var first [][]float32
		for k, s := range sets {
			var all [][]float32
			for _, f := range []func(x, y []float32){s.Exp, s.Sigmoid, s.Tanh} {
				y := make([]float32, n)
				f(x, y)
				all = append(all, y)
			}
			y := make([]float32, rows*cols)
			s.Softmax(rows, cols, m, y)
			all = append(all, y)
			c := convCase{Window: Window{H: 5, W: 12 + i%5, C: 1 + i%3, KH: 3, KW: 3, SY: 1, SX: 1, DY: 1, DX: 1, OH: 3, OW: 10 + i%5}, n: 1, o: 1 + i%40}
			in, w := make([]float32, c.in()), make([]float32, c.cells()*c.o)
			q := rand.New(rand.NewPCG(44, uint64(i)))
			copy(in, randomSlice(q, len(in)))
			copy(w, randomSlice(q, len(w)))
			out := make([]float32, c.Window.out(c.o))
			s.Conv(&c.Window, 1, c.o, in, w, nil, true, out)
			dx := make([]float32, c.in())
			s.ConvGradInput(&c.Window, 1, c.o, out, w, dx)
			s.ConvGradFilters(&c.Window, 1, c.o, in, out, w)
			all = append(all, out, dx, w)
			if k == 0 {
				first = all
				continue
			}
			for j := range all {
				if !same(all[j], first[j]) {
					t.Fatalf("kernel %d: %s and %s differ", j, sets[0].Name(), s.Name())
				}
			}
		}
	}
}

func TestResultsMayReplaceOperands(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		r := rand.New(rand.NewPCG(45, 0))
		for _, n := range []int{1, 7, 16, 40, 61} {
			x, y := randomSlice(r, n), randomSlice(r, n)
			want, got := make([]float32, n), slices.Clone(y)
			s.Add(x, y, want)
			s.Add(x, got, got)
			if !same(got, want) {
				t.Errorf("Add in place of %d differs", n)
			}
			s.Tanh(x, want)
			got = slices.Clone(x)
			s.Tanh(got, got)
			if !same(got, want) {
				t.Errorf("Tanh in place of %d differs", n)
			}
			s.ReLUGrad(x, y, want)
			got = slices.Clone(y)
			s.ReLUGrad(x, got, got)
			if !same(got, want) {
				t.Errorf("ReLUGrad in place of %d differs", n)
			}
			s.Softmax(1, n, x, want)
			got = slices.Clone(x)
			s.Softmax(1, n, got, got)
			if !same(got, want) {
				t.Errorf("Softmax in place of %d differs", n)
			}
		}
	})
}

// A long column of numbers near one would lose digits in a plain sum.
func TestLongColumnsKeepTheirDigits(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		const rows = 200_000
		r := rand.New(rand.NewPCG(46, 0))
		x := make([]float32, rows)
		var want float64
		for i := range x {
			x[i] = 1 + r.Float32()/10
			want += float64(x[i])
		}
		sum := []float32{0}
		s.AddColumnSums(rows, 1, x, sum)
		if d := math.Abs(float64(sum[0])-want) / want; d > 3e-6 {
			t.Errorf("the sum is off by %g of itself", d)
		}
	})
}

func TestMaxPoolMatchesGo(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		r := rand.New(rand.NewPCG(47, 0))
		f := newFences(t, 50_000)
		for i := range 1500 {
			f.front = i%2 == 1
			g := randomWindow(r, 9, 40)
			g.Top, g.Left = min(g.Top, (g.KH-1)*g.DY), min(g.Left, (g.KW-1)*g.DX)
			g.OH, g.OW = min(g.OH, (g.H-1+g.Top)/g.SY+1), min(g.OW, (g.W-1+g.Left)/g.SX+1)
			if !everyWindowHasACell(g) {
				continue
			}
			n := 1 + r.IntN(2)
			x, y, dx := f.place("A", n*g.in()), f.place("B", n*g.out(g.C)), f.place("C", n*g.in())
			number := randomSlice
			if i%2 == 0 {
				number = wildSlice
			}
			copy(x, number(r, len(x)))
			if i%3 == 0 { // equal ones
				for j := range x {
					x[j] = float32(r.IntN(3))
				}
			}
			cells, wantCells := make([]uint8, len(y)+1), make([]uint8, len(y)+1)
			cells[len(y)], wantCells[len(y)] = 99, 99
			wantY, wantX := make([]float32, len(y)), make([]float32, len(x))
			plain{}.MaxPool(&g, n, x, wantY, wantCells)
			s.MaxPool(&g, n, x, y, cells)
			if !same(y, wantY) || !slices.Equal(cells, wantCells) {
				t.Fatalf("%+v: %v at %v, want %v at %v", g, y, cells, wantY, wantCells)
			}
			dy := randomSlice(r, len(y))
			plain{}.MaxPoolGrad(&g, n, cells, dy, wantX)
			s.MaxPoolGrad(&g, n, cells, dy, dx)
			if !same(dx, wantX) {
				t.Fatalf("%+v: gradient %v, want %v", g, dx, wantX)
			}
			for o, m := range map[string]int{"A": len(x), "B": len(y), "C": len(dx)} {
				if !f.intact(o, m) {
					t.Fatalf("%+v: memory beside %s was changed", g, o)
				}
			}
		}
	})
}

func everyWindowHasACell(g Window) bool {
	found := map[int]bool{}
	eachProduct(g, func(out, _, _ int) { found[out] = true })
	return len(found) == g.OH*g.OW
}

// The reference of the poolings, against a plain reading of the definition.
func TestMaxPoolIsTheLargestCell(t *testing.T) {
	r := rand.New(rand.NewPCG(48, 0))
	for range 300 {
		g := randomWindow(r, 6, 3)
		if !everyWindowHasACell(g) {
			continue
		}
		x := randomSlice(r, g.in())
		y, cells := make([]float32, g.out(g.C)), make([]uint8, g.out(g.C))
		plain{}.MaxPool(&g, 1, x, y, cells)
		want, at := make([]float32, len(y)), make([]uint8, len(y))
		for i := range want {
			want[i] = float32(math.Inf(-1))
		}
		eachProduct(g, func(out, in, cell int) {
			for c := range g.C {
				if v := x[in*g.C+c]; v > want[out*g.C+c] {
					want[out*g.C+c], at[out*g.C+c] = v, uint8(cell)
				}
			}
		})
		if !same(y, want) || !slices.Equal(cells, at) {
			t.Fatalf("%+v: %v at %v, want %v at %v", g, y, cells, want, at)
		}
	}
}

func TestShortVectorsPanic(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		x := make([]float32, 64)
		short := x[:7:7]
		g := Window{H: 4, W: 4, C: 1, KH: 2, KW: 2, SY: 2, SX: 2, DY: 1, DX: 1, OH: 2, OW: 2}
		for name, f := range map[string]func(){
			"Add":      func() { s.Add(x[:8], x[:8], short) },
			"Momentum": func() { s.Momentum(1, 1, true, x[:8], short, x[:8]) },
			"Adam":     func() { s.Adam(1, 1, 1, 1, x[:8], x[:8], short, x[:8]) },
			"sums":     func() { s.AddColumnSums(1, 8, x[:8], short) },
			"scale":    func() { s.ScaleColumns(2, 8, x[:16], x[:8], x[:8], x[:15:15]) },
			"softmax":  func() { s.Softmax(2, 8, x[:15:15], x[:16]) },
			"bias":     func() { s.Linear(2, 8, 1, x[:2], x[:8], short, false, x[:16]) },
			"pool":     func() { s.MaxPool(&g, 1, x[:15:15], x[:4], make([]uint8, 4)) },
			"cells":    func() { s.MaxPool(&g, 1, x[:16], x[:4], make([]uint8, 3)) },
			"conv":     func() { s.Conv(&g, 1, 2, x[:16], x[:8], nil, false, short) },
			"filters":  func() { s.Conv(&g, 1, 2, x[:16], short, nil, false, x[:8]) },
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

func TestVectorKernelsAllocateNothing(t *testing.T) {
	everySet(t, func(t *testing.T, s Set) {
		g := Window{H: 6, W: 6, C: 9, KH: 3, KW: 3, SY: 2, SX: 2, DY: 1, DX: 1, Top: 1, Left: 1, OH: 3, OW: 3}
		x, y, cells := make([]float32, g.in()), make([]float32, g.out(g.C)), make([]uint8, g.out(g.C))
		s.MaxPool(&g, 1, x, y, cells)
		work := map[string]func(){
			"MaxPool":     func() { s.MaxPool(&g, 1, x, y, cells) },
			"MaxPoolGrad": func() { s.MaxPoolGrad(&g, 1, cells, y, x) },
		}
		v := [][]float32{x[:90], x[90:180], x[180:270], y[:81]}
		for _, c := range vectorCases()[:8] {
			work[c.name] = func() { c.run(s, v) }
		}
		for _, c := range gridCases() {
			m := [][]float32{x[:30], x[30:60], x[60:70], x[70:80], x[80:90], x[90:120]}
			last := m[:c.matrices+c.vectors+1]
			if c.matrix {
				last = append(slices.Clone(m[:c.matrices]), slices.Clone(m[2:2+c.vectors])...)
				last = append(last, x[120:150])
			}
			work[c.name] = func() { c.run(s, 3, 10, last) }
		}
		for name, f := range work {
			if n := testing.AllocsPerRun(5, f); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

func BenchmarkVectors(b *testing.B) {
	const n = 100_000
	for _, s := range candidates() {
		x := make([][]float32, 4)
		for k := range x {
			x[k] = make([]float32, n)
			for i := range x[k] {
				x[k][i] = float32(i%100) / 30
			}
		}
		for _, c := range vectorCases() {
			b.Run(fmt.Sprintf("%s/%s", s.Name(), c.name), func(b *testing.B) {
				b.SetBytes(4 * n)
				for b.Loop() {
					c.run(s, x)
				}
			})
		}
	}
}
