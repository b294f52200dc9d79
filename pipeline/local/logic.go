package local

import (
	"bytes"
	"cmp"

	"dkpipe/pipeline/expr"
)

func logicKernel(n *expr.Node, types *typer) kernel {
	switch n.Op {
	case expr.Eq, expr.Ne, expr.Lt, expr.Le, expr.Gt, expr.Ge:
		return compare(n.Op, types.of(n.Args[0]), types.of(n.Args[1]))
	case expr.And:
		return andOr(false)
	case expr.Or:
		return andOr(true)
	case expr.Not:
		return func(out *column, args []*column, n int) {
			for r, x := range args[0].bool[:n] {
				out.bool[r] = !x
			}
		}
	case expr.Case:
		return choose
	case expr.First:
		return first
	case expr.IsNull:
		return func(out *column, args []*column, n int) {
			out.valid = nil
			for r := range n {
				out.bool[r] = args[0].isNull(r)
			}
		}
	case expr.IsNaN:
		return func(out *column, args []*column, n int) {
			out.valid = nil
			for r := range n {
				out.bool[r] = !args[0].isNull(r) && args[0].hasNaN(r)
			}
		}
	case expr.IsValid:
		return func(out *column, args []*column, n int) {
			out.valid = nil
			for r := range n {
				out.bool[r] = true
			}
			for _, a := range args {
				markInvalid(out.bool[:n], a)
			}
		}
	}
	return nil
}

// hasNaN says whether an element of row r is NaN.
func (c *column) hasNaN(r int) bool {
	w := c.width()
	switch c.typ.Kind {
	case expr.Float64:
		for _, x := range c.f64[r*w : (r+1)*w] {
			if x != x {
				return true
			}
		}
	case expr.Float32:
		for _, x := range c.f32[r*w : (r+1)*w] {
			if x != x {
				return true
			}
		}
	}
	return false
}

// markInvalid clears ok where the column is NULL or holds NaN.
func markInvalid(ok []bool, a *column) {
	for r := range ok {
		if a.isNull(r) || a.hasNaN(r) {
			ok[r] = false
		}
	}
}

func compare(op expr.Op, a, b expr.Type) kernel {
	var holds [3]bool // by the sign of the comparison, plus one
	switch op {
	case expr.Eq:
		holds = [3]bool{false, true, false}
	case expr.Ne:
		holds = [3]bool{true, false, true}
	case expr.Lt:
		holds = [3]bool{true, false, false}
	case expr.Le:
		holds = [3]bool{true, true, false}
	case expr.Gt:
		holds = [3]bool{false, false, true}
	case expr.Ge:
		holds = [3]bool{false, true, true}
	}
	var sign func(x, y *column, r int) int
	switch {
	case a.Kind == expr.String:
		sign = func(x, y *column, r int) int { return bytes.Compare(x.str(r), y.str(r)) }
	case a.Kind == expr.Bool:
		sign = func(x, y *column, r int) int { return cmp.Compare(b2i(x.bool[r]), b2i(y.bool[r])) }
	case a.Kind == expr.Int64 && b.Kind == expr.Int64:
		sign = func(x, y *column, r int) int { return cmp.Compare(x.i64[r], y.i64[r]) }
	default:
		sign = func(x, y *column, r int) int { return compareFloats(x.number(r), y.number(r)) }
	}
	return func(out *column, args []*column, n int) {
		for r := range n {
			out.bool[r] = holds[sign(args[0], args[1], r)+1]
		}
	}
}

// andOr is AND when strong is false and OR when it is true: one strong argument decides, else a NULL one does.
func andOr(strong bool) kernel {
	return func(out *column, args []*column, n int) {
		valid := bitmap(out.valid)
		anyNull := false
		for r := range n {
			decided, null := false, false
			for _, a := range args {
				if a.isNull(r) {
					null = true
				} else if a.bool[r] == strong {
					decided = true
					break
				}
			}
			out.bool[r] = decided == strong
			if null && !decided {
				valid.clear(r)
				anyNull = true
			} else {
				valid.set(r)
			}
		}
		if !anyNull {
			out.valid = nil
		}
	}
}

// choose is CASE: conditions and values in turn, last the value for the rest.
func choose(out *column, args []*column, n int) {
	pick(out, n, func(r int) *column {
		i := 0
		for ; i+1 < len(args); i += 2 {
			if c := args[i]; !c.isNull(r) && c.bool[r] {
				return args[i+1]
			}
		}
		return args[i]
	})
}

// first is COALESCE.
func first(out *column, args []*column, n int) {
	pick(out, n, func(r int) *column {
		for _, a := range args[:len(args)-1] {
			if !a.isNull(r) {
				return a
			}
		}
		return args[len(args)-1]
	})
}

// pick takes every row from one of several columns of out's type.
func pick(out *column, n int, from func(r int) *column) {
	valid := bitmap(out.valid)
	w, anyNull := out.width(), false
	for r := range n {
		a := from(r)
		if a.isNull(r) {
			valid.clear(r)
			anyNull = true
		} else {
			valid.set(r)
		}
		lo, hi := r*w, (r+1)*w
		switch out.typ.Kind {
		case expr.Int64:
			out.i64[r] = a.i64[r]
		case expr.Bool:
			out.bool[r] = a.bool[r]
		case expr.Float64:
			copy(out.f64[lo:hi], a.f64[lo:hi])
		case expr.Float32:
			copy(out.f32[lo:hi], a.f32[lo:hi])
		case expr.String:
			if !a.isNull(r) {
				out.text = append(out.text, a.str(r)...)
			}
			out.off[r+1] = int32(len(out.text))
		}
	}
	if !anyNull {
		out.valid = nil
	}
}
