package expr

import (
	"fmt"
	"math"
	"strings"
)

// Error says why a tree or a fitted transformer cannot be used.
type Error struct {
	Message string
	Hint    string
}

func (e *Error) Error() string { return e.Message }

// ErrorKind makes the command line exit as for a wrong spec: the tree does not fit the columns.
func (e *Error) ErrorKind() string { return "spec" }

// ErrorHint is the next step.
func (e *Error) ErrorHint() string { return e.Hint }

func errorf(format string, args ...any) *Error { return &Error{Message: fmt.Sprintf(format, args...)} }

// String gives the type as people write it: float64, float32[10].
func (t Type) String() string {
	switch t.Width {
	case 0:
		return string(t.Kind)
	case AnyWidth:
		return string(t.Kind) + "[?]"
	}
	return fmt.Sprintf("%s[%d]", t.Kind, t.Width)
}

func (t Type) class() accept {
	if t.Width != 0 {
		if t.Kind == Float32 || t.Kind == Float64 {
			return aVec
		}
		return 0
	}
	switch t.Kind {
	case Bool:
		return aBool
	case Int64:
		return aInt
	case Float32, Float64:
		return aFloat
	case String:
		return aText
	}
	return 0
}

// Numeric reports whether the type is a number or a vector.
func (t Type) Numeric() bool { return t.class()&aEach != 0 }

// Check gives the type of a tree over the columns of in. It refuses whatever a back end could not evaluate: unknown
// operators and columns, wrong numbers and types of arguments, literals out of range, trees beyond the limits,
// placeholders. It is meant for trees from anywhere, files of unknown origin included. An absent column is a *ColumnError.
func Check(n *Node, in Schema) (Type, error) { return (&checker{in: in}).check(n, 1) }

// TypeOf is Check for a preview: placeholders are allowed.
func TypeOf(n *Node, in Schema) (Type, error) { return (&checker{in: in, open: true}).check(n, 1) }

type checker struct {
	in    Schema
	index map[string]Type
	nodes int
	open  bool
}

func (c *checker) check(n *Node, depth int) (Type, error) {
	if n == nil {
		return Type{}, errorf("expression: a node is missing")
	}
	c.nodes++
	if depth > MaxDepth || c.nodes > MaxNodes {
		return Type{}, errorf("expression: more than %d levels or %d nodes", MaxDepth, MaxNodes)
	}
	info, ok := n.Op.Lookup()
	if !ok {
		return Type{}, errorf("expression: unknown operator %s", quote(string(n.Op)))
	}
	if len(n.Args) < info.least || len(n.Args) > info.most && info.most > 0 || len(info.args) == 0 && len(n.Args) > 0 {
		return Type{}, errorf("%s: %d arguments", n.Op, len(n.Args))
	}
	var few [4]Type
	types := few[:0]
	for i, a := range n.Args {
		t, err := c.check(a, depth+1)
		if err != nil {
			return Type{}, err
		}
		want := info.args[min(i, len(info.args)-1)]
		if t.class()&want == 0 {
			return Type{}, errorf("%s: argument %d (%s) is %s, not %s", n.Op, i+1, brief(a), t, want)
		}
		types = append(types, t)
	}
	switch {
	case n.Op == Col:
		return c.column(n.Name)
	case n.Op == Param && !c.open:
		return Type{}, errorf("expression: %s is not fitted", brief(n))
	case n.Width == AnyWidth && !c.open:
		return Type{}, errorf("%s: width %d", n.Op, n.Width)
	}
	return info.result(n, types)
}

func (c *checker) column(name string) (Type, error) {
	if c.index == nil {
		c.index = make(map[string]Type, len(c.in))
		for _, f := range c.in {
			c.index[f.Name] = f.Type
		}
	}
	t, ok := c.index[name]
	if !ok {
		return Type{}, c.in.Missing("expression", name)
	}
	if t.class() == 0 || t.Width < AnyWidth || t.Width > MaxWidth || t.Width == AnyWidth && !c.open {
		return Type{}, errorf("expression: column %s is of an unknown type %s", quote(name), t)
	}
	return t, nil
}

func (a accept) String() string {
	var s []string
	for _, p := range []struct {
		bit  accept
		name string
	}{{aBool, "bool"}, {aInt, "int64"}, {aFloat, "float"}, {aText, "string"}, {aVec, "vector"}} {
		if a&p.bit != 0 {
			s = append(s, p.name)
		}
	}
	return strings.Join(s, " or ")
}

// brief prints a node in at most about 60 characters, for error messages.
func brief(n *Node) string {
	s := n.String()
	if r := []rune(s); len(r) > 60 {
		s = string(r[:59]) + "…"
	}
	return s
}

func fixed(k Kind) func(*Node, []Type) (Type, error) {
	return func(*Node, []Type) (Type, error) { return Type{Kind: k}, nil }
}

// typeOfCol is never reached: the checker knows the columns.
func typeOfCol(n *Node, _ []Type) (Type, error) {
	return Type{}, errorf("expression: column %s", quote(n.Name))
}

func typeOfParam(n *Node, _ []Type) (Type, error) {
	t := Type{Kind: n.Kind, Width: n.Width}
	if t.class() == 0 {
		return Type{}, errorf("param: no type %s", t)
	}
	return t, nil
}

func typeOfLit(n *Node, _ []Type) (Type, error) {
	t := Type{Kind: n.Kind, Width: n.Width}
	if t.class() == 0 || n.Width < 0 || n.Width > MaxWidth {
		return Type{}, errorf("lit: no type %s", t)
	}
	if n.Null {
		return t, nil
	}
	if len(n.Vec) != n.Width {
		return Type{}, errorf("lit: %d elements for a width of %d", len(n.Vec), n.Width)
	}
	if n.Kind == Float32 {
		for _, v := range n.Vec {
			if !isFloat32(v) {
				return Type{}, errorf("lit: %v is not a float32", v)
			}
		}
		if !isFloat32(n.Num) {
			return Type{}, errorf("lit: %v is not a float32", n.Num)
		}
	}
	if n.Kind == Bool && n.Int != 0 && n.Int != 1 {
		return Type{}, errorf("lit: %d is not a bool", n.Int)
	}
	return t, nil
}

func isFloat32(v float64) bool { return math.IsNaN(v) || float64(float32(v)) == v }

func typeOfCast(n *Node, args []Type) (Type, error) {
	from, to := args[0], Type{Kind: n.Kind, Width: args[0].Width}
	refused := to.class() == 0 || to.Kind == String && (from.Kind == Float32 || from.Kind == Float64)
	if refused {
		return Type{}, errorf("cast: no cast from %s to %s", from, quote(string(n.Kind)))
	}
	return to, nil
}

// typeOfEach broadcasts: a vector when one argument is a vector.
func typeOfEach(n *Node, args []Type) (Type, error) {
	width := 0
	for i, t := range args {
		switch {
		case t.Width == 0 || t.Width == width:
		case width == 0 || width == AnyWidth:
			width = t.Width
		case t.Width != AnyWidth:
			return Type{}, errorf("%s: argument %d (%s) has width %d, another has %d", n.Op, i+1, brief(n.Args[i]), t.Width, width)
		}
	}
	return Type{Kind: Float64, Width: width}, nil
}

func typeOfCompare(n *Node, args []Type) (Type, error) {
	a, b := args[0].class(), args[1].class()
	if a != b && (a|b)&^aNumber != 0 {
		return Type{}, errorf("%s: %s against %s", n.Op, args[0], args[1])
	}
	return Type{Kind: Bool}, nil
}

func typeOfSame(n *Node, args []Type) (Type, error) {
	t := args[0]
	for _, u := range args[1:] {
		if t.Kind == u.Kind && t.Width == AnyWidth && u.Width > 0 {
			t = u
		}
		if u != t && !(u.Kind == t.Kind && t.Width > 0 && u.Width == AnyWidth) {
			return Type{}, errorf("%s: values of types %s and %s", n.Op, t, u)
		}
	}
	return t, nil
}

func typeOfCase(n *Node, args []Type) (Type, error) {
	if len(args)%2 == 0 {
		return Type{}, errorf("case: the value for the rest is missing")
	}
	values := make([]Type, 0, len(args)/2+1)
	for i, t := range args {
		last := i == len(args)-1
		if i%2 == 0 && !last {
			if t != (Type{Kind: Bool}) {
				return Type{}, errorf("case: condition %s is %s, not bool", brief(n.Args[i]), t)
			}
			continue
		}
		values = append(values, t)
	}
	return typeOfSame(n, values)
}

func typeOfAtLeast(n *Node, _ []Type) (Type, error) {
	if math.IsNaN(n.Num) {
		return Type{}, errorf("at_least: the threshold is NaN")
	}
	return Type{Kind: Int64}, nil
}

func typeOfBucket(n *Node, _ []Type) (Type, error) {
	if len(n.Vec) == 0 || len(n.Vec) > MaxWidth {
		return Type{}, errorf("bucket: %d splits", len(n.Vec))
	}
	for i, v := range n.Vec {
		if math.IsNaN(v) || i > 0 && v <= n.Vec[i-1] {
			return Type{}, errorf("bucket: splits must strictly rise, split %d is %v", i, v)
		}
	}
	return Type{Kind: Int64}, nil
}

func typeOfOneHot(n *Node, _ []Type) (Type, error) {
	if n.Width != AnyWidth && (n.Width < 1 || n.Width > MaxWidth) {
		return Type{}, errorf("one_hot: width %d is outside 1..%d", n.Width, MaxWidth)
	}
	return Type{Kind: Float32, Width: n.Width}, nil
}

func typeOfVector(_ *Node, args []Type) (Type, error) {
	t := Type{Kind: Float32}
	unknown := false
	for _, a := range args {
		if a.Kind != Float32 {
			t.Kind = Float64
		}
		unknown = unknown || a.Width == AnyWidth
		if t.Width += max(a.Width, 1); t.Width > MaxWidth {
			return Type{}, errorf("vector: more than %d elements", MaxWidth)
		}
	}
	if unknown {
		t.Width = AnyWidth
	}
	return t, nil
}

func typeOfAt(n *Node, args []Type) (Type, error) {
	if n.From < 0 || args[0].Width != AnyWidth && n.From >= args[0].Width {
		return Type{}, errorf("at: position %d of %s", n.From, args[0])
	}
	return Type{Kind: args[0].Kind}, nil
}

func typeOfSlice(n *Node, args []Type) (Type, error) {
	w := args[0].Width
	if n.From < 0 || n.Width < 1 || n.Width > MaxWidth || w != AnyWidth && n.From > w-n.Width {
		return Type{}, errorf("slice: %d elements from position %d of %s", n.Width, n.From, args[0])
	}
	return Type{Kind: args[0].Kind, Width: n.Width}, nil
}

func typeOfSubstr(n *Node, _ []Type) (Type, error) {
	if n.From < 0 || n.Width < 0 || n.From > MaxWidth || n.Width > MaxWidth {
		return Type{}, errorf("substr: %d characters from %d", n.Width, n.From)
	}
	return Type{Kind: String}, nil
}

func typeOfIndexOf(n *Node, _ []Type) (Type, error) {
	if len(n.Texts) > MaxTexts {
		return Type{}, errorf("index_of: %d texts, more than %d", len(n.Texts), MaxTexts)
	}
	seen := make(map[string]bool, len(n.Texts))
	for _, s := range n.Texts {
		if seen[s] {
			return Type{}, errorf("index_of: %s is there twice", quote(s))
		}
		seen[s] = true
	}
	return Type{Kind: Int64}, nil
}

func typeOfPmod(n *Node, _ []Type) (Type, error) {
	if n.Int < 1 {
		return Type{}, errorf("pmod: divisor %d", n.Int)
	}
	return Type{Kind: Int64}, nil
}

// Missing makes the error for a column that the schema does not have. op is the transformer that asked.
func (s Schema) Missing(op, name string) *ColumnError {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.Name
	}
	return &ColumnError{Column: name, Op: op, Near: Nearest(name, names)}
}
