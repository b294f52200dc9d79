package onnx

import (
	"math"

	"dkpipe/pipeline/expr"
)

// compiler translates the trees of one step. It expects trees that expr.Check accepted.
type compiler struct {
	*rows
	step int
	done map[*expr.Node]value // nodes may be shared
}

func (c *compiler) compile(n *expr.Node) (value, error) {
	if v, ok := c.done[n]; ok {
		return v, nil
	}
	v, err := c.node(n)
	if err == nil {
		c.done[n] = v
	}
	return v, err
}

func (c *compiler) node(n *expr.Node) (value, error) {
	switch n.Op {
	case expr.Col:
		return c.column(n.Name, c.step)
	case expr.Lit:
		return c.b.lit(n)
	}
	args := make([]value, len(n.Args))
	for i, a := range n.Args {
		var err error
		if args[i], err = c.compile(a); err != nil {
			return value{}, err
		}
	}
	b := c.b
	if v, ok, err := b.own(n, args); ok || err != nil {
		return v, err
	}
	v, err := b.strict(n, args)
	if err != nil {
		return value{}, err
	}
	v.fixed = allFixed(args)
	for _, a := range args { // NULL in, NULL out; what the operator itself made NULL stays
		v.null = b.or(v.null, a.null)
	}
	return v, nil
}

func allFixed(args []value) bool {
	for _, a := range args {
		if !a.fixed {
			return false
		}
	}
	return true
}

// strict translates the operators that are NULL when an argument is.
func (b *builder) strict(n *expr.Node, args []value) (value, error) {
	switch n.Op {
	case expr.Cast:
		return b.castTo(n.Kind, args[0])
	case expr.Not:
		return value{name: b.node("Not", []string{args[0].name}), t: expr.Type{Kind: expr.Bool}}, nil
	case expr.Eq, expr.Ne, expr.Lt, expr.Le, expr.Gt, expr.Ge:
		return b.compare(n, args)
	case expr.Pmod:
		m := b.shared(&tensor{shape: []int{1, 1}, ints: []int64{n.Int}})
		return value{name: b.node("Mod", []string{args[0].name, m}), t: expr.Type{Kind: expr.Int64}}, nil
	case expr.IndexOf:
		return b.lookup(args[0].name, n.Texts), nil
	case expr.Hash, expr.Lower, expr.Trim, expr.Substr, expr.Join:
		return value{}, unsupported(withoutTransform, "%s has no equivalent", n.Op)
	}
	if v, ok := b.overVector(n, args); ok {
		return v, nil
	}
	return b.elementwise(n, args)
}

// lit is a constant of shape [1, 1] or [1, width].
func (b *builder) lit(n *expr.Node) (value, error) {
	t := expr.Type{Kind: n.Kind, Width: n.Width}
	v := value{t: t, fixed: true}
	if n.Null {
		v.null = b.shared(&tensor{shape: []int{1, 1}, raw: []byte{1}})
	}
	shape := []int{1, max(n.Width, 1)}
	switch n.Kind {
	case expr.Bool:
		v.name = b.shared(&tensor{shape: shape, raw: []byte{byte(n.Int)}})
	case expr.Int64:
		v.name = b.shared(&tensor{shape: shape, ints: []int64{n.Int}})
	case expr.String:
		v.name = b.shared(&tensor{shape: shape, text: []string{n.Text}})
	default:
		wide := n.Vec
		if n.Width == 0 {
			wide = []float64{n.Num}
		}
		if n.Null {
			wide = make([]float64, shape[1])
		}
		v.name = b.shared(&tensor{shape: shape, wide: wide})
		if n.Kind == expr.Float32 {
			v.name = b.cast(v.name, float32s)
		}
	}
	return v, nil
}

// double is a constant of float64.
func (b *builder) double(v ...float64) string {
	return b.shared(&tensor{shape: []int{1, len(v)}, wide: v})
}

func (b *builder) nan() string { return b.double(math.NaN()) }

// as casts a number, a vector or a Bool to another kind of number.
func (b *builder) as(v value, k expr.Kind) value {
	if v.t.Kind == k {
		return v
	}
	v.name, v.t.Kind = b.cast(v.name, elemOf(k)), k
	return v
}

// spread gives a constant a row for every row of the input.
func (b *builder) spread(v value) value {
	if !v.fixed {
		return v
	}
	if len(b.out.Inputs) == 0 {
		return v
	}
	n := b.node("Slice", []string{b.node("Shape", []string{b.out.Inputs[0].Name}), b.indices(0), b.indices(1)})
	to := b.node("Concat", []string{n, b.indices(max(v.t.Width, 1))}, attr{"axis", 0})
	v.name, v.fixed = b.node("Expand", []string{v.name, to}), false
	if v.null != "" {
		to := b.node("Concat", []string{n, b.indices(1)}, attr{"axis", 0})
		v.null = b.node("Expand", []string{v.null, to})
	}
	return v
}

func (b *builder) or(a, c string) string {
	switch {
	case a == "":
		return c
	case c == "" || a == c:
		return a
	}
	return b.node("Or", []string{a, c})
}

// and combines conditions; an empty name is no condition.
func (b *builder) and(a, c string) string {
	switch {
	case a == "" || c == "":
		return a + c
	}
	return b.node("And", []string{a, c})
}

func (b *builder) not(a string) string { return b.node("Not", []string{a}) }

// choose is a where the condition holds, else c.
func (b *builder) choose(condition, a, c string) string {
	return b.node("Where", []string{condition, a, c})
}

// castTo is expr.Cast.
func (b *builder) castTo(k expr.Kind, v value) (value, error) {
	from := v.t.Kind
	out := value{t: expr.Type{Kind: k, Width: v.t.Width}, name: v.name}
	switch {
	case from == k:
	case k == expr.String:
		return value{}, unsupported(withoutTransform, "a cast from %s to text", from)
	case from == expr.String: // ONNX has one, which takes other texts for numbers and stops at the rest
		return value{}, unsupported(withoutTransform, "a cast from text to %s has no equivalent", k)
	case k == expr.Bool: // NaN is true
		out.name = b.not(b.node("Equal", []string{b.as(v, expr.Float64).name, b.double(0)}))
	case k == expr.Int64 && from != expr.Bool:
		x := b.as(v, expr.Float64).name
		fits := b.node("And", []string{b.node("GreaterOrEqual", []string{x, b.double(-(1 << 63))}), b.node("Less", []string{x, b.double(1 << 63)})})
		out.name, out.null = b.cast(b.choose(fits, x, b.double(0)), int64s), b.not(fits)
	case k == expr.Float32:
		out.name = b.as(b.as(v, expr.Float64), expr.Float32).name
	default:
		out.name = b.as(v, k).name
	}
	return out, nil
}

// lookup is the position of a text in a list, or -1.
func (b *builder) lookup(x string, list []string) value {
	positions := make([]int64, len(list))
	for i := range positions {
		positions[i] = int64(i)
	}
	v := value{t: expr.Type{Kind: expr.Int64}}
	v.name = b.node("LabelEncoder", []string{x}, attr{"keys_strings", list}, attr{"values_int64s", positions}, attr{"default_int64", -1})
	return v
}

// compare is one of the comparisons: NaN equals NaN and is greater than all else.
func (b *builder) compare(n *expr.Node, args []value) (value, error) {
	out := value{t: expr.Type{Kind: expr.Bool}}
	x, y := args[0], args[1]
	if x.t.Kind == expr.String {
		return b.compareTexts(n, args)
	}
	switch {
	case x.t.Kind == expr.Bool:
		x, y = b.as(x, expr.Int64), b.as(y, expr.Int64)
	case x.t.Kind != expr.Int64 || y.t.Kind != expr.Int64:
		x, y = b.as(x, expr.Float64), b.as(y, expr.Float64)
	}
	op, negate := n.Op, false
	switch op { // three of them are the contraries of the others
	case expr.Ne:
		op, negate = expr.Eq, true
	case expr.Ge:
		op, negate = expr.Lt, true
	case expr.Gt:
		op, negate = expr.Le, true
	}
	nan := func(v value, at int) string { // where an argument may be NaN; empty when it cannot
		if v.t.Kind != expr.Float64 || n.Args[at].Op == expr.Lit && n.Args[at].Num == n.Args[at].Num {
			return ""
		}
		return b.node("IsNaN", []string{v.name})
	}
	nx, ny := nan(x, 0), nan(y, 1)
	pair := []string{x.name, y.name}
	switch op {
	case expr.Eq: // or both NaN
		out.name = b.node("Equal", pair)
		if nx != "" && ny != "" {
			out.name = b.or(out.name, b.and(nx, ny))
		}
	case expr.Lt: // or only the second one NaN
		out.name = b.node("Less", pair)
		if ny != "" {
			only := ny
			if nx != "" {
				only = b.and(ny, b.not(nx))
			}
			out.name = b.or(out.name, only)
		}
	case expr.Le: // or the second one NaN
		out.name = b.or(b.node("LessOrEqual", pair), ny)
	}
	if negate {
		out.name = b.not(out.name)
	}
	return out, nil
}

// compareTexts compares a text with a constant, by looking it up in a list of one; opset 17 compares no other texts.
func (b *builder) compareTexts(n *expr.Node, args []value) (value, error) {
	for i, a := range n.Args {
		if a.Op != expr.Lit || a.Null || n.Op != expr.Eq && n.Op != expr.Ne {
			continue
		}
		at := b.lookup(args[1-i].name, []string{a.Text})
		out := value{name: b.cast(at.name, bools), t: expr.Type{Kind: expr.Bool}} // -1 is true, 0 is false
		if n.Op == expr.Eq {
			out.name = b.not(out.name)
		}
		return out, nil
	}
	return value{}, unsupported(withoutTransform, "%s of two texts has no equivalent", n.Op)
}
