package local

import (
	"math"

	"dkpipe/pipeline/expr"
)

// blockLen is how many elements an elementwise operator computes at a time: a chain of operators then stays in the
// first-level cache, and only its last result is written to a column.
const blockLen = 512

// elements gives blocks of float64. For a scalar column a block is rows row..row+n; for a vector it is n elements
// of one row, from element from on.
type elements interface {
	prepare(m *machine)
	block(row, from, n int) []float64
}

// elementwise says whether a node may be part of a chain.
func (c *compiler) elementwise(n *expr.Node) bool {
	switch n.Op {
	case expr.Add, expr.Sub, expr.Mul, expr.Div, expr.Pow, expr.Least, expr.Greatest, expr.Clip, expr.Abs, expr.Exp, expr.Log,
		expr.Sqrt, expr.Floor, expr.IfNaN:
		return true
	case expr.Cast:
		return (n.Kind == expr.Float32 || n.Kind == expr.Float64) && c.types.of(n.Args[0]).Numeric()
	}
	return false
}

// buildEach makes the chain that ends in n; it is NULL where one of its leaves is.
func (c *compiler) buildEach(n *expr.Node, t expr.Type) value {
	ch := &chain{typ: t}
	if n.Op == expr.Cast {
		n = n.Args[0] // the chain's last loop rounds to float32
		ch.root = c.operand(n, t.Width, ch, false)
		return ch
	}
	ch.root = c.operand(n, t.Width, ch, true)
	return ch
}

// operand makes n part of a chain of the given width, as an operator when nobody else reads it, else as a leaf.
func (c *compiler) operand(n *expr.Node, width int, ch *chain, root bool) elements {
	t := c.types.of(n)
	if n.Op == expr.Lit && !n.Null {
		return literalElements(n, width)
	}
	if c.elementwise(n) && t.Width == width && (root || c.m.uses[n] < 2) {
		args := make([]elements, len(n.Args))
		for i, a := range n.Args {
			args[i] = c.operand(a, width, ch, false)
		}
		return newEach(n, args)
	}
	l := &leaf{v: c.compile(n), spread: width > 0 && t.Width == 0}
	ch.leaves = append(ch.leaves, l)
	return l
}

// chain writes the blocks of its root into a column of kind float32 or float64.
type chain struct {
	typ    expr.Type
	root   elements
	leaves []*leaf

	batch int64
	out   column
	bits  bitmap
	in    []*column
}

func (v *chain) eval(m *machine) *column {
	if v.batch == m.batch {
		return &v.out
	}
	v.batch = m.batch
	v.in = v.in[:0]
	v.root.prepare(m)
	for _, l := range v.leaves {
		v.in = append(v.in, l.c)
	}
	v.out.reset(v.typ, m.n)
	v.bits = intersect(v.bits, m.n, &v.out, v.in)
	if v.typ.Width == 0 {
		for r := 0; r < m.n; r += blockLen {
			n := min(blockLen, m.n-r)
			v.put(r, v.root.block(r, 0, n))
		}
		return &v.out
	}
	w := v.typ.Width
	for r := range m.n {
		for from := 0; from < w; from += blockLen {
			v.put(r*w+from, v.root.block(r, from, min(blockLen, w-from)))
		}
	}
	return &v.out
}

func (v *chain) put(at int, b []float64) {
	if v.typ.Kind == expr.Float64 {
		copy(v.out.f64[at:], b)
		return
	}
	dst := v.out.f32[at : at+len(b)]
	for i, x := range b {
		dst[i] = float32(x)
	}
}

// leaf reads a column as float64 blocks.
type leaf struct {
	v      value
	spread bool // a scalar that meets every element of a vector
	c      *column
	buf    [blockLen]float64
}

func (l *leaf) prepare(m *machine) { l.c = l.v.eval(m) }

func (l *leaf) block(row, from, n int) []float64 {
	if l.spread {
		x := l.c.number(row)
		for i := range l.buf[:n] {
			l.buf[i] = x
		}
		return l.buf[:n]
	}
	at := row*l.c.width() + from
	switch l.c.typ.Kind {
	case expr.Float64:
		return l.c.f64[at : at+n]
	case expr.Float32:
		src := l.c.f32[at : at+n]
		dst := l.buf[:len(src)]
		for i, x := range src {
			dst[i] = float64(x)
		}
	default:
		src := l.c.i64[at : at+n]
		dst := l.buf[:len(src)]
		for i, x := range src {
			dst[i] = float64(x)
		}
	}
	return l.buf[:n]
}

// number gives element i of a numeric column as float64.
func (c *column) number(i int) float64 {
	switch c.typ.Kind {
	case expr.Float64:
		return c.f64[i]
	case expr.Float32:
		return float64(c.f32[i])
	}
	return float64(c.i64[i])
}

// constant is a literal: one value repeated, or a vector.
type constant struct{ vec []float64 }

func (constant) prepare(*machine) {}

func (c constant) block(_, from, n int) []float64 { return c.vec[from : from+n] }

// same is one value for every element.
type same struct{ vec []float64 }

func (same) prepare(*machine) {}

func (c same) block(_, _, n int) []float64 { return c.vec[:n] }

func literalElements(n *expr.Node, width int) elements {
	if n.Width > 0 {
		return constant{vec: n.Vec}
	}
	x := n.Num
	if n.Kind == expr.Int64 {
		x = float64(n.Int)
	}
	s := same{vec: make([]float64, blockLen)}
	for i := range s.vec {
		s.vec[i] = x
	}
	return s
}

// each is an elementwise operator of a chain.
type each struct {
	args    []elements
	one     func(dst, a []float64)
	two     func(dst, a, b []float64)
	three   func(dst, a, b, c []float64)
	nothing bool // the argument as it is
	buf     [blockLen]float64
}

func (e *each) prepare(m *machine) {
	for _, a := range e.args {
		a.prepare(m)
	}
}

func (e *each) block(row, from, n int) []float64 {
	a := e.args[0].block(row, from, n)
	dst := e.buf[:n]
	switch {
	case e.nothing:
		return a
	case e.one != nil:
		e.one(dst, a)
	case e.two != nil:
		e.two(dst, a, e.args[1].block(row, from, n))
	default:
		e.three(dst, a, e.args[1].block(row, from, n), e.args[2].block(row, from, n))
	}
	return dst
}

func newEach(n *expr.Node, args []elements) *each {
	e := &each{args: args}
	switch n.Op {
	case expr.Cast:
		if n.Kind == expr.Float64 {
			e.nothing = true
		} else {
			e.one = roundTo32
		}
	case expr.Add:
		e.two = add
	case expr.Sub:
		e.two = sub
	case expr.Mul:
		e.two = mul
	case expr.Div:
		e.two = div
	case expr.Pow:
		e.two = pow
	case expr.Least:
		e.two = least
	case expr.Greatest:
		e.two = most
	case expr.IfNaN:
		e.two = ifNaN
	case expr.Clip:
		e.three = clip
	case expr.Abs:
		e.one = abs
	case expr.Exp:
		e.one = exp
	case expr.Log:
		e.one = log
	case expr.Sqrt:
		e.one = sqrt
	case expr.Floor:
		e.one = floor
	}
	return e
}

func roundTo32(dst, a []float64) {
	for i, x := range a {
		dst[i] = float64(float32(x))
	}
}

func add(dst, a, b []float64) {
	b = b[:len(a)]
	dst = dst[:len(a)]
	for i, x := range a {
		dst[i] = x + b[i]
	}
}

func sub(dst, a, b []float64) {
	b = b[:len(a)]
	dst = dst[:len(a)]
	for i, x := range a {
		dst[i] = x - b[i]
	}
}

func mul(dst, a, b []float64) {
	b = b[:len(a)]
	dst = dst[:len(a)]
	for i, x := range a {
		dst[i] = x * b[i]
	}
}

func div(dst, a, b []float64) {
	b = b[:len(a)]
	dst = dst[:len(a)]
	for i, x := range a {
		q := x / b[i]
		if b[i] == 0 {
			q = math.NaN()
		}
		dst[i] = q
	}
}

// pow is IEEE pow, except that Java gives NaN for a base of 1 or -1 and an exponent that is NaN or infinite.
func pow(dst, a, b []float64) {
	for i, x := range a {
		y := b[i]
		if (x == 1 || x == -1) && (math.IsNaN(y) || math.IsInf(y, 0)) {
			dst[i] = math.NaN()
			continue
		}
		dst[i] = math.Pow(x, y)
	}
}

func least(dst, a, b []float64) {
	for i, x := range a {
		y := b[i]
		switch {
		case x != x || y != y:
			x = math.NaN()
		case y < x:
			x = y
		}
		dst[i] = x
	}
}

func most(dst, a, b []float64) {
	for i, x := range a {
		y := b[i]
		switch {
		case x != x || y != y:
			x = math.NaN()
		case y > x:
			x = y
		}
		dst[i] = x
	}
}

func clip(dst, a, b, c []float64) {
	for i, x := range a {
		lo, hi := b[i], c[i]
		switch {
		case x != x || lo != lo || hi != hi:
			x = math.NaN()
		case x < lo:
			x = lo
		case x > hi:
			x = hi
		}
		dst[i] = x
	}
}

func ifNaN(dst, a, b []float64) {
	for i, x := range a {
		if x != x {
			x = b[i]
		}
		dst[i] = x
	}
}

func abs(dst, a []float64) {
	for i, x := range a {
		dst[i] = math.Abs(x)
	}
}

func exp(dst, a []float64) {
	for i, x := range a {
		dst[i] = math.Exp(x)
	}
}

// log scales subnormal numbers up first: the assembly version of math.Log on amd64 takes them for the least normal one.
func log(dst, a []float64) {
	for i, x := range a {
		switch {
		case x <= 0:
			dst[i] = math.NaN()
		case x < 0x1p-1022:
			dst[i] = math.Log(x*0x1p54) - 54*math.Ln2
		default:
			dst[i] = math.Log(x)
		}
	}
}

func sqrt(dst, a []float64) {
	for i, x := range a {
		dst[i] = math.Sqrt(x)
	}
}

// floor turns -0 into 0: Spark's floor goes through an integer.
func floor(dst, a []float64) {
	for i, x := range a {
		x = math.Floor(x)
		if x == 0 {
			x = 0
		}
		dst[i] = x
	}
}
