package expr

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Value is one value of a row. Kind and the length of Vec are those of its type; a Bool is Int 0 or 1.
type Value struct {
	Kind Kind
	Null bool
	Num  float64   // Float32, Float64
	Int  int64     // Int64, Bool
	Text string    // String
	Vec  []float64 // a vector's elements; nil for a scalar
}

// Eval computes a tree for one row: row holds a value a column of in. It is the definition of the operators in
// its shortest form, checked against testdata/golden.json, for tests and for single values. The back ends compute
// whole columns and must give the same.
func Eval(n *Node, in Schema, row []Value) (Value, error) {
	t, err := Check(n, in)
	if err != nil {
		return Value{}, err
	}
	if len(row) != len(in) {
		return Value{}, errorf("%d values for %d columns", len(row), len(in))
	}
	e := &evaluator{in: in, row: row}
	v := e.eval(n)
	v.Kind = t.Kind
	return v, nil
}

type evaluator struct {
	in  Schema
	row []Value
}

var null = Value{Null: true}

func float(v float64) Value { return Value{Kind: Float64, Num: v} }

func integer(v int64) Value { return Value{Kind: Int64, Int: v} }

func truth(v bool) Value {
	if v {
		return Value{Kind: Bool, Int: 1}
	}
	return Value{Kind: Bool}
}

// eval expects a tree that Check accepted.
func (e *evaluator) eval(n *Node) Value {
	switch n.Op {
	case Col:
		for i, f := range e.in {
			if f.Name == n.Name {
				v := e.row[i]
				v.Kind = f.Type.Kind
				return v
			}
		}
	case Lit:
		return Value{Kind: n.Kind, Null: n.Null, Num: n.Num, Int: n.Int, Text: n.Text, Vec: n.Vec}
	}
	args := make([]Value, len(n.Args))
	for i, a := range n.Args {
		args[i] = e.eval(a)
	}
	if v, ok := own(n, args); ok {
		return v
	}
	for _, a := range args {
		if a.Null {
			return null
		}
	}
	if v, ok := overVector(n, args); ok {
		return v
	}
	if v, ok := overText(n, args); ok {
		return v
	}
	switch n.Op {
	case Cast:
		return castTo(n.Kind, args[0])
	case Pmod:
		return integer(Pmod64(uint64(args[0].Int), n.Int))
	case Not:
		return truth(args[0].Int == 0)
	case Eq, Ne, Lt, Le, Gt, Ge:
		return compared(n.Op, args[0], args[1])
	}
	return elementwise(n.Op, args)
}

// own computes the operators with a rule of their own for NULL.
func own(n *Node, args []Value) (Value, bool) {
	switch n.Op {
	case And, Or:
		decides := int64(0)
		if n.Op == Or {
			decides = 1
		}
		v := Value{Kind: Bool, Int: 1 - decides}
		for _, a := range args {
			switch {
			case a.Null:
				v.Null = true
			case a.Int == decides:
				return a, true
			}
		}
		return v, true
	case Case:
		for i := 0; i+1 < len(args); i += 2 {
			if !args[i].Null && args[i].Int != 0 {
				return args[i+1], true
			}
		}
		return args[len(args)-1], true
	case First:
		for _, a := range args {
			if !a.Null {
				return a, true
			}
		}
		return args[0], true
	case IsNull:
		return truth(args[0].Null), true
	case IsNaN:
		return truth(!args[0].Null && args[0].hasNaN()), true
	case IsValid:
		fine := true
		for _, a := range args {
			fine = fine && !a.Null && !a.hasNaN()
		}
		return truth(fine), true
	case Hash:
		h := HashSeed
		for _, a := range args {
			h = a.hash(h)
		}
		return integer(int64(h)), true
	}
	return Value{}, false
}

func (v Value) hasNaN() bool {
	for _, e := range v.Vec {
		if e != e {
			return true
		}
	}
	return v.Num != v.Num
}

func (v Value) hash(seed uint64) uint64 {
	switch {
	case v.Null:
		return seed
	case v.Kind == Bool:
		return HashBool(v.Int != 0, seed)
	case v.Kind == Int64:
		return HashInt64(v.Int, seed)
	case v.Kind == Float32:
		return HashFloat32(float32(v.Num), seed)
	case v.Kind == String:
		return HashString(v.Text, seed)
	}
	return HashFloat64(v.Num, seed)
}

// double gives a number as float64.
func (v Value) double() float64 {
	if v.Kind == Int64 || v.Kind == Bool {
		return float64(v.Int)
	}
	return v.Num
}

// elementwise broadcasts scalars over vectors.
func elementwise(op Op, args []Value) Value {
	width := -1
	for _, a := range args {
		if a.Vec != nil {
			width = len(a.Vec)
		}
	}
	at := func(i, k int) float64 {
		if k < len(args) {
			if args[k].Vec != nil {
				return args[k].Vec[i]
			}
			return args[k].double()
		}
		return 0
	}
	if width < 0 {
		return float(Elementwise(op, at(0, 0), at(0, 1), at(0, 2)))
	}
	out := make([]float64, width)
	for i := range out {
		out[i] = Elementwise(op, at(i, 0), at(i, 1), at(i, 2))
	}
	return Value{Kind: Float64, Vec: out}
}

// Elementwise computes one element of an elementwise operator (Add to IfNaN); arguments that the operator does not
// have are ignored. Back ends may call it where they have nothing faster.
func Elementwise(op Op, a, b, c float64) float64 {
	switch op {
	case Add:
		return a + b
	case Sub:
		return a - b
	case Mul:
		return a * b
	case Div:
		if b == 0 {
			return math.NaN()
		}
		return a / b
	case Pow:
		if math.Abs(a) == 1 && (b != b || math.IsInf(b, 0)) {
			return math.NaN()
		}
		return math.Pow(a, b)
	case Least, Greatest:
		switch {
		case a != a || b != b:
			return math.NaN()
		case op == Least && b < a, op == Greatest && b > a:
			return b
		}
		return a
	case Clip:
		switch {
		case a != a || b != b || c != c:
			return math.NaN()
		case a < b:
			return b
		case a > c:
			return c
		}
		return a
	case Abs:
		return math.Abs(a)
	case Exp:
		return math.Exp(a)
	case Log:
		if a <= 0 {
			return math.NaN()
		}
		return naturalLog(a)
	case Sqrt:
		return math.Sqrt(a)
	case Floor:
		if f := math.Floor(a); f != 0 {
			return f
		}
		return 0
	case IfNaN:
		if a != a {
			return b
		}
		return a
	}
	return math.NaN()
}

// naturalLog is math.Log for positive numbers, with subnormal ones scaled up first: the assembly version of math.Log
// on amd64 takes them for the least normal number.
func naturalLog(a float64) float64 {
	if a < 0x1p-1022 {
		return math.Log(a*0x1p54) - 54*math.Ln2
	}
	return math.Log(a)
}

// overVector computes the operators that make, take apart or reduce vectors.
func overVector(n *Node, args []Value) (Value, bool) {
	var v Value
	if len(args) > 0 {
		v = args[0]
	}
	switch n.Op {
	case Vector:
		out := []float64{}
		for _, a := range args {
			if a.Vec != nil {
				out = append(out, a.Vec...)
			} else {
				out = append(out, a.double())
			}
		}
		return Value{Vec: out}, true
	case OneHot:
		out := make([]float64, n.Width)
		if x := v.double(); x >= 0 && x < float64(n.Width) && x == math.Floor(x) {
			out[int(x)] = 1
		}
		return Value{Vec: out}, true
	case At:
		return Value{Kind: v.Kind, Num: v.Vec[n.From]}, true
	case Slice:
		return Value{Kind: v.Kind, Vec: v.Vec[n.From : n.From+n.Width]}, true
	case SumOf:
		sum := 0.0
		for _, e := range v.Vec {
			sum += e
		}
		return float(sum), true
	case MaxOf:
		return float(v.Vec[argMax(v.Vec)]), true
	case ArgMax:
		return integer(int64(argMax(v.Vec))), true
	case AtLeast:
		for i, e := range v.Vec {
			if Order(e, n.Num) >= 0 {
				return integer(int64(i)), true
			}
		}
		return integer(-1), true
	case Bucket:
		count := int64(0)
		for _, s := range n.Vec {
			if Order(s, v.double()) <= 0 {
				count++
			}
		}
		return integer(count), true
	}
	return Value{}, false
}

func argMax(v []float64) int {
	best := 0
	for i := range v {
		if Order(v[i], v[best]) > 0 {
			best = i
		}
	}
	return best
}

// Order compares as Spark does: -1, 0 or 1 for less, equal, greater; -0 equals 0, NaN equals NaN and is greater than
// all else.
func Order(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	case a == a:
		return -1
	case b == b:
		return 1
	}
	return 0
}

func compared(op Op, a, b Value) Value {
	var c int
	switch {
	case a.Kind == String:
		c = strings.Compare(a.Text, b.Text)
	case a.Kind == Bool || a.Kind == Int64 && b.Kind == Int64:
		switch {
		case a.Int < b.Int:
			c = -1
		case a.Int > b.Int:
			c = 1
		}
	default:
		c = Order(a.double(), b.double())
	}
	switch op {
	case Eq:
		return truth(c == 0)
	case Ne:
		return truth(c != 0)
	case Lt:
		return truth(c < 0)
	case Le:
		return truth(c <= 0)
	case Gt:
		return truth(c > 0)
	}
	return truth(c >= 0)
}

func overText(n *Node, args []Value) (Value, bool) {
	text := func(s string) (Value, bool) { return Value{Kind: String, Text: s}, true }
	switch n.Op {
	case Lower:
		return text(lower(args[0].Text))
	case Trim:
		return text(strings.Trim(args[0].Text, " "))
	case Substr:
		r := []rune(args[0].Text)
		from := min(n.From, len(r))
		return text(string(r[from:min(from+n.Width, len(r))]))
	case Join:
		var b strings.Builder
		for _, a := range args {
			b.WriteString(a.Text)
		}
		return text(b.String())
	case IndexOf:
		for i, s := range n.Texts {
			if s == args[0].Text {
				return integer(int64(i)), true
			}
		}
		return integer(-1), true
	}
	return Value{}, false
}

func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func castTo(k Kind, v Value) Value {
	if v.Vec != nil {
		out := make([]float64, len(v.Vec))
		for i, e := range v.Vec {
			out[i] = e
			if k == Float32 {
				out[i] = float64(float32(e))
			}
		}
		return Value{Kind: k, Vec: out}
	}
	switch {
	case v.Kind == k:
		return v
	case k == String && v.Kind == Bool:
		return Value{Kind: String, Text: strconv.FormatBool(v.Int != 0)}
	case k == String:
		return Value{Kind: String, Text: strconv.FormatInt(v.Int, 10)}
	case v.Kind == String:
		return Parse(k, v.Text)
	case k == Bool:
		return truth(v.double() != 0)
	case k == Float32:
		return Value{Kind: Float32, Num: float64(float32(v.double()))}
	case k == Float64:
		return float(v.double())
	case v.Kind == Bool:
		return integer(v.Int)
	case v.Num >= -(1<<63) && v.Num < 1<<63:
		return integer(int64(v.Num))
	}
	return null
}

var (
	wholeNumber = regexp.MustCompile(`^[+-]?[0-9]+$`)
	realNumber  = regexp.MustCompile(`^(?i:[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?inf|[+-]?infinity|nan)$`)
)

// Parse reads a text as another kind, by the rules of Cast: as Spark's try_cast does, without the letters d and f
// that Java allows after a number.
func Parse(k Kind, s string) Value {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	switch k {
	case Int64:
		if v, err := strconv.ParseInt(s, 10, 64); err == nil && wholeNumber.MatchString(s) {
			return integer(v)
		}
	case Float32, Float64:
		if !realNumber.MatchString(s) {
			return null
		}
		v, _ := strconv.ParseFloat(s, 64) // out of range gives ±Inf, as Java
		if k == Float32 {
			v = float64(float32(v))
		}
		return Value{Kind: k, Num: v}
	case Bool:
		switch lower(s) {
		case "t", "true", "y", "yes", "1":
			return truth(true)
		case "f", "false", "n", "no", "0":
			return truth(false)
		}
	}
	return null
}
