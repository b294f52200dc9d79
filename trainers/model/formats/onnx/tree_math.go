package onnx

import (
	"math"

	"dkpipe/pipeline/expr"
)

// elementwise translates arithmetic: float64 in, float64 out, as expr.Elementwise defines it.
func (b *builder) elementwise(n *expr.Node, args []value) (value, error) {
	width := 0
	x := make([]string, len(args))
	for i, a := range args {
		x[i] = b.as(a, expr.Float64).name
		width = max(width, a.t.Width)
	}
	out := value{t: expr.Type{Kind: expr.Float64, Width: width}}
	switch n.Op {
	case expr.Add, expr.Sub, expr.Mul, expr.Abs, expr.Exp, expr.Sqrt, expr.Floor:
		out.name = b.node(map[expr.Op]string{expr.Add: "Add", expr.Sub: "Sub", expr.Mul: "Mul", expr.Abs: "Abs", expr.Exp: "Exp",
			expr.Sqrt: "Sqrt", expr.Floor: "Floor"}[n.Op], x)
	case expr.Div:
		out.name = b.node("Div", x)
		if !nonZero(n.Args[1]) {
			out.name = b.choose(b.node("Equal", []string{x[1], b.double(0)}), b.nan(), out.name)
		}
	case expr.Pow:
		out.name = b.node("Pow", x)
		if e := n.Args[1]; e.Op != expr.Lit || e.Width > 0 || math.IsNaN(e.Num) || math.IsInf(e.Num, 0) {
			one := b.node("Equal", []string{b.node("Abs", x[:1]), b.double(1)})
			odd := b.or(b.node("IsNaN", x[1:]), b.node("Equal", []string{b.node("Abs", x[1:]), b.double(math.Inf(1))}))
			out.name = b.choose(b.and(one, odd), b.nan(), out.name)
		}
	case expr.Least, expr.Greatest:
		op := "Less"
		if n.Op == expr.Greatest {
			op = "Greater"
		}
		bad := b.or(b.node("IsNaN", x[:1]), b.node("IsNaN", x[1:]))
		out.name = b.choose(bad, b.nan(), b.choose(b.node(op, []string{x[1], x[0]}), x[1], x[0]))
	case expr.Clip:
		y := b.choose(b.node("Less", []string{x[0], x[1]}), x[1], b.choose(b.node("Greater", []string{x[0], x[2]}), x[2], x[0]))
		for i, a := range n.Args[1:] {
			if !number(a) {
				y = b.choose(b.node("IsNaN", x[i+1:i+2]), b.nan(), y)
			}
		}
		out.name = y
	case expr.Log:
		out.name = b.choose(b.node("LessOrEqual", []string{x[0], b.double(0)}), b.nan(), b.node("Log", x))
	case expr.IfNaN:
		out.name = b.choose(b.node("IsNaN", x[:1]), x[1], x[0])
	default:
		return value{}, unsupported(withoutTransform, "%s has no equivalent", n.Op)
	}
	return out, nil
}

// number reports whether a node is a constant without NaN.
func number(n *expr.Node) bool {
	if n.Op != expr.Lit || n.Null {
		return false
	}
	for _, v := range n.Vec {
		if v != v {
			return false
		}
	}
	return n.Num == n.Num
}

// nonZero reports whether a node is a constant other than 0, in all positions.
func nonZero(n *expr.Node) bool {
	if !number(n) {
		return false
	}
	for _, v := range n.Vec {
		if v == 0 {
			return false
		}
	}
	switch {
	case n.Width > 0:
		return true
	case n.Kind == expr.Int64 || n.Kind == expr.Bool:
		return n.Int != 0
	}
	return n.Num != 0
}

// overVector translates what makes, takes apart or reduces vectors.
func (b *builder) overVector(n *expr.Node, args []value) (value, bool) {
	switch n.Op {
	case expr.Vector:
		return b.vector(args), true
	case expr.OneHot:
		positions := make([]float64, n.Width)
		for i := range positions {
			positions[i] = float64(i)
		}
		hot := b.node("Equal", []string{b.as(args[0], expr.Float64).name, b.double(positions...)})
		return value{name: b.cast(hot, float32s), t: expr.Type{Kind: expr.Float32, Width: n.Width}}, true
	case expr.At:
		return value{name: b.node("Gather", []string{args[0].name, b.indices(n.From)}, attr{"axis", 1}), t: expr.Type{Kind: args[0].t.Kind}}, true
	case expr.Slice:
		part := b.node("Slice", []string{args[0].name, b.indices(n.From), b.indices(n.From + n.Width), b.indices(1)})
		return value{name: part, t: expr.Type{Kind: args[0].t.Kind, Width: n.Width}}, true
	case expr.Bucket:
		x := b.as(args[0], expr.Float64).name
		at := b.or(b.node("GreaterOrEqual", []string{x, b.double(n.Vec...)}), b.node("IsNaN", []string{x}))
		return value{name: b.reduce("ReduceSum", b.cast(at, int64s)), t: expr.Type{Kind: expr.Int64}}, true
	case expr.SumOf:
		return value{name: b.reduce("ReduceSum", b.as(args[0], expr.Float64).name), t: expr.Type{Kind: expr.Float64}}, true
	case expr.MaxOf, expr.ArgMax, expr.AtLeast:
		return b.extreme(n, b.as(args[0], expr.Float64).name), true
	}
	return value{}, false
}

// reduce reduces every row to one value. ReduceSum takes its axes as an input since opset 13, the others as an attribute.
func (b *builder) reduce(op, x string) string {
	if op == "ReduceSum" {
		return b.node(op, []string{x, b.indices(1)}, attr{"keepdims", 1})
	}
	return b.node(op, []string{x}, attr{"axes", []int{1}}, attr{"keepdims", 1})
}

// first is the position of the first true of every row, 0 without any; some is whether there is one.
func (b *builder) first(mask string) (position, some string) {
	hot := b.cast(mask, float32s)
	position = b.node("ArgMax", []string{hot}, attr{"axis", 1}, attr{"keepdims", 1})
	some = b.node("Greater", []string{b.reduce("ReduceMax", hot), b.number(0)})
	return position, some
}

// extreme translates what looks for an element; NaN is the greatest of all.
func (b *builder) extreme(n *expr.Node, x string) value {
	nan := b.node("IsNaN", []string{x})
	integer := expr.Type{Kind: expr.Int64}
	if n.Op == expr.AtLeast {
		at, some := b.first(b.or(b.node("GreaterOrEqual", []string{x, b.double(n.Num)}), nan))
		return value{name: b.choose(some, at, b.shared(&tensor{shape: []int{1, 1}, ints: []int64{-1}})), t: integer}
	}
	at, some := b.first(nan)
	plain := b.choose(nan, b.double(math.Inf(-1)), x) // so that nothing depends on how NaN is ordered there
	if n.Op == expr.MaxOf {
		return value{name: b.choose(some, b.nan(), b.reduce("ReduceMax", plain)), t: expr.Type{Kind: expr.Float64}}
	}
	return value{name: b.choose(some, at, b.node("ArgMax", []string{plain}, attr{"axis", 1}, attr{"keepdims", 1})), t: integer}
}

// vector puts values one after the other.
func (b *builder) vector(args []value) value {
	out := value{t: expr.Type{Kind: expr.Float32}}
	for _, a := range args {
		if a.t.Kind != expr.Float32 {
			out.t.Kind = expr.Float64
		}
		out.t.Width += max(a.t.Width, 1)
	}
	var parts []string
	for _, a := range args {
		if !allFixed(args) {
			a = b.spread(a)
		}
		parts = append(parts, b.as(a, out.t.Kind).name)
	}
	out.name = parts[0]
	if len(parts) > 1 {
		out.name = b.node("Concat", parts, attr{"axis", 1})
	}
	return out
}

// own translates the operators with a rule of their own for NULL.
func (b *builder) own(n *expr.Node, args []value) (v value, ok bool, err error) {
	boolean := expr.Type{Kind: expr.Bool}
	v = value{t: boolean, fixed: allFixed(args)}
	switch n.Op {
	case expr.IsNull:
		if v.name = args[0].null; v.name == "" {
			v.name, v.fixed = b.shared(&tensor{shape: []int{1, 1}, raw: []byte{0}}), true
		}
	case expr.IsNaN, expr.IsValid:
		var bad string
		for _, a := range args {
			nan := b.anyNaN(a)
			if n.Op == expr.IsNaN && nan != "" && a.null != "" { // NULL is not NaN
				nan = b.and(nan, b.not(a.null))
			} else if n.Op == expr.IsValid {
				bad = b.or(bad, a.null)
			}
			bad = b.or(bad, nan)
		}
		switch {
		case bad == "":
			c := byte(0)
			if n.Op == expr.IsValid {
				c = 1
			}
			v.name, v.fixed = b.shared(&tensor{shape: []int{1, 1}, raw: []byte{c}}), true
		case n.Op == expr.IsValid:
			v.name = b.not(bad)
		default:
			v.name = bad
		}
	case expr.And, expr.Or:
		v.name, v.null = b.logic(n.Op, args)
	case expr.Case:
		v, err = b.cases(args)
		v.fixed = allFixed(args)
	case expr.First:
		v = args[len(args)-1]
		for i := len(args) - 2; i >= 0; i-- {
			if a := args[i]; a.null == "" {
				v = a
			} else {
				v = value{name: b.choose(a.null, v.name, a.name), t: a.t, null: b.and3(a.null, v.null)}
			}
		}
		v.fixed = allFixed(args)
	default:
		return value{}, false, nil
	}
	return v, true, err
}

// and3 is true where both are; an empty second one is false everywhere.
func (b *builder) and3(a, c string) string {
	if c == "" {
		return ""
	}
	return b.node("And", []string{a, c})
}

// anyNaN tells in which rows a number is NaN, or a vector holds NaN; empty when the type has none.
func (b *builder) anyNaN(v value) string {
	if v.t.Kind != expr.Float32 && v.t.Kind != expr.Float64 {
		return ""
	}
	nan := b.node("IsNaN", []string{v.name})
	if v.t.Width == 0 {
		return nan
	}
	return b.node("Greater", []string{b.reduce("ReduceMax", b.cast(nan, float32s)), b.number(0)})
}

// logic is And or Or of three values: what decides wins over NULL.
func (b *builder) logic(op expr.Op, args []value) (result, null string) {
	fold := map[expr.Op]string{expr.And: "And", expr.Or: "Or"}[op]
	var all []string
	for _, a := range args {
		null = b.or(null, a.null)
		x := a.name
		if a.null != "" { // NULL does not decide
			if op == expr.And {
				x = b.or(x, a.null)
			} else {
				x = b.and(x, b.not(a.null))
			}
		}
		all = append(all, x)
	}
	result = b.fold(fold, all)
	if null != "" {
		if op == expr.And { // false is sure
			null = b.and(null, result)
		} else {
			null = b.and(null, b.not(result))
		}
	}
	return result, null
}

// cases is expr.Case: the first value whose condition is true.
func (b *builder) cases(args []value) (value, error) {
	v := args[len(args)-1]
	for i := len(args) - 3; i >= 0; i -= 2 {
		condition, a := args[i], args[i+1]
		holds := condition.name
		if condition.null != "" {
			holds = b.and(holds, b.not(condition.null))
		}
		null := ""
		if a.null != "" || v.null != "" {
			no := b.shared(&tensor{shape: []int{1, 1}, raw: []byte{0}})
			null = b.choose(holds, orElse(a.null, no), orElse(v.null, no))
		}
		v = value{name: b.choose(holds, a.name, v.name), t: a.t, null: null}
	}
	return v, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
