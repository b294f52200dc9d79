package sparkconn

import (
	"math"
	"strconv"
	"strings"

	"dkpipe/pipeline/expr"
)

const nan = "double('NaN')"

// isElementwise says whether the operator works on each element alone: arithmetic, and casts of vectors.
func isElementwise(n *expr.Node) bool {
	switch n.Op {
	case expr.Add, expr.Sub, expr.Mul, expr.Div, expr.Pow, expr.Least, expr.Greatest, expr.Clip,
		expr.Abs, expr.Exp, expr.Log, expr.Sqrt, expr.Floor, expr.IfNaN, expr.Cast:
		return true
	}
	return false
}

// scalar renders an elementwise operator over scalars.
func (r *renderer) scalar(n *expr.Node, a []piece) (piece, error) {
	if n.Op == expr.Cast {
		return r.cast(n.Kind, a[0])
	}
	for i := range a {
		a[i] = double(a[i])
	}
	if changesNothing(n.Op, a) {
		return a[0], nil
	}
	out := piece{typ: expr.Type{Kind: expr.Float64}}
	switch n.Op {
	case expr.Add:
		out.text = "(" + a[0].text + " + " + a[1].text + ")"
	case expr.Sub:
		out.text = "(" + a[0].text + " - " + a[1].text + ")"
	case expr.Mul:
		out.text = "(" + a[0].text + " * " + a[1].text + ")"
	case expr.Div:
		divisor := a[1].text
		if !a[1].lit || a[1].num == 0 {
			divisor = r.bind(a[1], func(b piece) string { return "if(" + b.text + " = 0D, " + nan + ", " + b.text + ")" })
		}
		out.text = "(" + a[0].text + " / " + divisor + ")"
	case expr.Pow:
		out.text = "power(" + a[0].text + ", " + a[1].text + ")"
	case expr.Least:
		out.text = r.extreme(" < ", a[0], a[1])
	case expr.Greatest:
		out.text = r.extreme(" > ", a[0], a[1])
	case expr.Clip:
		out.text = r.clip(a)
	case expr.Abs:
		out.text = "abs(" + a[0].text + ")"
	case expr.Exp:
		out.text = "exp(" + a[0].text + ")"
	case expr.Log:
		out.text = r.bind(a[0], func(x piece) string { return "coalesce(ln(" + x.text + "), " + x.text + " * " + nan + ")" })
	case expr.Sqrt:
		out.text = "sqrt(" + a[0].text + ")"
	case expr.Floor:
		out.text = r.bind(a[0], func(x piece) string {
			return "if(abs(" + x.text + ") < 4503599627370496D, CAST(floor(" + x.text + ") AS DOUBLE), " + x.text + ")"
		})
	case expr.IfNaN:
		if a[1].safe {
			out.text = "nanvl(" + a[0].text + ", " + a[1].text + ")"
		} else {
			out.text = r.bind(a[1], func(b piece) string {
				return "if(" + b.text + " IS NULL, CAST(NULL AS DOUBLE), nanvl(" + a[0].text + ", " + b.text + "))"
			})
		}
	}
	return out, nil
}

// changesNothing finds operations that give their first argument back, bit by bit: x - 0, x * 1, x / 1, x + -0. (x + 0 is
// another matter: it makes 0 of -0.)
func changesNothing(op expr.Op, a []piece) bool {
	if len(a) != 2 || !a[1].lit {
		return false
	}
	switch v := a[1].num; op {
	case expr.Sub:
		return v == 0 && !math.Signbit(v)
	case expr.Add:
		return v == 0 && math.Signbit(v)
	case expr.Mul, expr.Div:
		return v == 1
	}
	return false
}

// extreme renders least and greatest: NULL or NaN in either gives that, else the first of equals.
func (r *renderer) extreme(sign string, a, b piece) string {
	return r.bind(a, func(a piece) string {
		return r.bind(b, func(b piece) string {
			return "CASE" + anyNull(a, b) + anyNaN(a, b) + " WHEN " + b.text + sign + a.text + " THEN " + b.text + " ELSE " + a.text + " END"
		})
	})
}

func (r *renderer) clip(a []piece) string {
	return r.bind(a[0], func(x piece) string {
		return r.bind(a[1], func(lo piece) string {
			return r.bind(a[2], func(hi piece) string {
				return "CASE" + anyNull(x, lo, hi) + anyNaN(x, lo, hi) + " WHEN " + x.text + " < " + lo.text + " THEN " + lo.text +
					" WHEN " + x.text + " > " + hi.text + " THEN " + hi.text + " ELSE " + x.text + " END"
			})
		})
	})
}

func anyNull(a ...piece) string {
	var tests []string
	for _, p := range a {
		if !p.safe {
			tests = append(tests, p.text+" IS NULL")
		}
	}
	if tests == nil {
		return ""
	}
	return " WHEN " + strings.Join(tests, " OR ") + " THEN CAST(NULL AS DOUBLE)"
}

func anyNaN(a ...piece) string {
	var tests []string
	for _, p := range a {
		if !p.real {
			tests = append(tests, "isnan("+p.text+")")
		}
	}
	if tests == nil {
		return ""
	}
	return " WHEN " + strings.Join(tests, " OR ") + " THEN " + nan
}

// Patterns of texts that are numbers or truth values, for Java's regular expressions.
const (
	edge        = `[\u0000-\u0020]*`
	intPattern  = `^` + edge + `[+-]?[0-9]+` + edge + `$`
	realPattern = `^` + edge + `((?i)[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?inf|[+-]?infinity|nan)` + edge + `$`
	boolPattern = `^` + edge + `(?i)(t|true|y|yes|1|f|false|n|no|0)` + edge + `$`
)

func (r *renderer) cast(to expr.Kind, p piece) (piece, error) {
	out := piece{typ: expr.Type{Kind: to}}
	guarded := func(pattern string, typ string) string {
		return r.bind(p, func(p piece) string {
			return "CASE WHEN " + p.text + " RLIKE " + quoteText(pattern) + " THEN try_cast(" + p.text + " AS " + typ + ") END"
		})
	}
	from := p.typ.Kind
	switch {
	case from == to:
		return p, nil
	case to == expr.String:
		out.text = "CAST(" + p.text + " AS STRING)"
	case from == expr.String && to == expr.Int64:
		out.text = guarded(intPattern, "BIGINT")
	case from == expr.String && to == expr.Float64:
		out.text = guarded(realPattern, "DOUBLE")
	case from == expr.String && to == expr.Float32:
		out.text = "CAST(" + guarded(realPattern, "DOUBLE") + " AS FLOAT)"
	case from == expr.String:
		out.text = guarded(boolPattern, "BOOLEAN")
	case to == expr.Float64:
		out.text = "CAST(" + p.text + " AS DOUBLE)"
	case to == expr.Float32:
		out.text = "CAST(" + double(p).text + " AS FLOAT)"
	case to == expr.Bool && from == expr.Int64:
		out.text = "(" + p.text + " <> 0L)"
	case to == expr.Bool:
		out.text = "(" + double(p).text + " <> 0D)"
	case from == expr.Bool:
		out.text = "CAST(" + p.text + " AS BIGINT)"
	default: // of 2^63 Spark would make the greatest BIGINT
		out.text = r.bind(double(p), func(p piece) string {
			return "CASE WHEN " + p.text + " < 9223372036854775808D THEN try_cast(" + p.text + " AS BIGINT) END"
		})
	}
	out.safe = p.safe && from != expr.String && to != expr.Int64
	return out, nil
}

func (r *renderer) vectorOp(n *expr.Node, a []piece) (piece, error) {
	var out piece
	types := make([]expr.Type, len(a))
	for i := range a {
		types[i] = a[i].typ
	}
	v := a[0]
	switch n.Op {
	case expr.SumOf:
		s, e := r.variable(), r.variable()
		out = piece{typ: expr.Type{Kind: expr.Float64}, text: "aggregate(" + v.text + ", 0D, (" + s + ", " + e + ") -> " + s + " + " + e + ")"}
	case expr.MaxOf:
		out = double(piece{typ: expr.Type{Kind: v.typ.Kind}, text: "array_max(" + v.text + ")"})
	case expr.ArgMax:
		out = piece{typ: expr.Type{Kind: expr.Int64}, text: r.bind(v, func(v piece) string {
			return "(array_position(" + v.text + ", array_max(" + v.text + ")) - 1L)"
		})}
	case expr.AtLeast:
		e := r.variable()
		out = piece{typ: expr.Type{Kind: expr.Int64}, text: "(array_position(transform(" + v.text + ", " + e + " -> " +
			double(piece{text: e, typ: expr.Type{Kind: v.typ.Kind}}).text + " >= " + number64(n.Num) + "), true) - 1L)"}
	case expr.At:
		out = piece{typ: expr.Type{Kind: v.typ.Kind}, text: "element_at(" + v.text + ", " + strconv.Itoa(n.From+1) + ")"}
	case expr.Slice:
		out = piece{typ: expr.Type{Kind: v.typ.Kind, Width: n.Width}, text: "slice(" + v.text + ", " + strconv.Itoa(n.From+1) + ", " + strconv.Itoa(n.Width) + ")"}
	case expr.Bucket:
		s := r.variable()
		x := double(v)
		out = piece{typ: expr.Type{Kind: expr.Int64}, text: r.bind(x, func(x piece) string {
			return "if(" + x.text + " IS NULL, CAST(NULL AS BIGINT), CAST(size(filter(" + literalVector(n.Vec, expr.Float64) + ", " + s + " -> " + s + " <= " + x.text + ")) AS BIGINT))"
		})}
	case expr.OneHot:
		out = piece{typ: expr.Type{Kind: expr.Float32, Width: n.Width}, text: r.oneHot(n.Width, v)}
	case expr.Vector:
		return r.vector(n, a)
	}
	return out, nil
}

func (r *renderer) oneHot(width int, p piece) string {
	w := strconv.Itoa(width)
	last := strconv.Itoa(width - 1)
	if width == expr.AnyWidth {
		w, last = ":size", ":size - 1"
	}
	return r.bind(p, func(x piece) string {
		whole := ""
		low, high := "0D", w+"D"
		if x.typ.Kind == expr.Int64 {
			low, high = "0L", w+"L"
		} else {
			whole = " AND " + x.text + " = floor(" + x.text + ")"
		}
		if width == expr.AnyWidth {
			high = w
		}
		return "CASE WHEN " + x.text + " IS NULL THEN CAST(NULL AS ARRAY<FLOAT>) WHEN " + x.text + " >= " + low + " AND " + x.text + " < " + high + whole +
			" THEN concat(array_repeat(0F, CAST(" + x.text + " AS INT)), array(1F), array_repeat(0F, " + last + " - CAST(" + x.text + " AS INT)))" +
			" ELSE array_repeat(0F, " + w + ") END"
	})
}

// vector joins scalars and vectors. An array with a NULL in it is no NULL for Spark, so scalars are tested.
func (r *renderer) vector(n *expr.Node, a []piece) (piece, error) {
	out := piece{typ: expr.Type{Kind: expr.Float32}}
	for _, p := range a {
		if p.typ.Kind != expr.Float32 {
			out.typ.Kind = expr.Float64
		}
		if p.typ.Width == expr.AnyWidth || out.typ.Width == expr.AnyWidth {
			out.typ.Width = expr.AnyWidth
		} else {
			out.typ.Width += max(1, p.typ.Width)
		}
	}
	elem := sparkType(expr.Type{Kind: out.typ.Kind})
	var parts, run, nulls []string
	flush := func() {
		if run != nil {
			parts = append(parts, "array("+strings.Join(run, ", ")+")")
			run = nil
		}
	}
	for _, p := range a {
		text := p.text
		if p.typ.Width != 0 {
			flush()
			if p.typ.Kind != out.typ.Kind {
				text = "CAST(" + text + " AS " + sparkType(expr.Type{Kind: out.typ.Kind, Width: 1}) + ")"
			}
			parts = append(parts, text)
			continue
		}
		if !p.safe {
			nulls = append(nulls, p.text+" IS NULL")
		}
		if p.typ.Kind != out.typ.Kind {
			text = "CAST(" + text + " AS " + elem + ")"
		}
		run = append(run, text)
	}
	flush()
	out.text = parts[0]
	if len(parts) > 1 {
		out.text = "concat(" + strings.Join(parts, ", ") + ")"
	}
	if nulls != nil {
		out.text = "if(" + strings.Join(nulls, " OR ") + ", CAST(NULL AS " + sparkType(out.typ) + "), " + out.text + ")"
	}
	return out, nil
}

func (r *renderer) logic(n *expr.Node, a []piece) (piece, error) {
	out := piece{typ: expr.Type{Kind: expr.Bool}}
	join := func(sign string) string {
		var b []string
		for _, p := range a {
			b = append(b, p.text)
		}
		return "(" + strings.Join(b, sign) + ")"
	}
	switch n.Op {
	case expr.And:
		out.text = join(" AND ")
	case expr.Or:
		out.text = join(" OR ")
	case expr.Not:
		out.text = "(NOT " + a[0].text + ")"
	case expr.IsNull:
		out.text, out.safe = "("+a[0].text+" IS NULL)", true
	case expr.IsNaN:
		out.text, out.safe = "coalesce("+hasNaN(a[0])+", false)", true
	case expr.IsValid:
		var tests []string
		for _, p := range a {
			tests = append(tests, r.bind(p, valid))
		}
		out.text, out.safe = "("+strings.Join(tests, " AND ")+")", true
	case expr.Case:
		return caseOf(a), nil
	case expr.First:
		var b []string
		for _, p := range a {
			b = append(b, p.text)
			out.safe = out.safe || p.safe
		}
		out.typ, out.text = a[0].typ, "coalesce("+strings.Join(b, ", ")+")"
		for _, p := range a {
			if p.typ.Width > 0 {
				out.typ = p.typ
			}
		}
	default:
		out.text = compare(n.Op, a[0], a[1])
	}
	return out, nil
}

// hasNaN is true, false, or NULL for NULL. NaN is the greatest of all, so the greatest element tells.
func hasNaN(p piece) string {
	switch {
	case p.typ.Width != 0:
		return "isnan(array_max(" + p.text + "))"
	case p.typ.Kind == expr.Float32 || p.typ.Kind == expr.Float64:
		return "if(" + p.text + " IS NULL, CAST(NULL AS BOOLEAN), isnan(" + p.text + "))"
	}
	return "if(" + p.text + " IS NULL, CAST(NULL AS BOOLEAN), false)"
}

// valid is true when p is neither NULL nor NaN.
func valid(p piece) string {
	switch {
	case p.typ.Width != 0:
		return p.text + " IS NOT NULL AND NOT isnan(array_max(" + p.text + "))"
	case p.typ.Kind == expr.Float32 || p.typ.Kind == expr.Float64:
		return p.text + " IS NOT NULL AND NOT isnan(" + p.text + ")"
	}
	return p.text + " IS NOT NULL"
}

func caseOf(a []piece) piece {
	out := piece{typ: a[len(a)-1].typ}
	var b strings.Builder
	b.WriteString("CASE")
	for i := 0; i+1 < len(a); i += 2 {
		b.WriteString(" WHEN " + a[i].text + " THEN " + a[i+1].text)
		if a[i+1].typ.Width > 0 {
			out.typ = a[i+1].typ
		}
	}
	b.WriteString(" ELSE " + a[len(a)-1].text + " END")
	out.text = b.String()
	return out
}

var signs = map[expr.Op]string{expr.Eq: " = ", expr.Ne: " <> ", expr.Lt: " < ", expr.Le: " <= ", expr.Gt: " > ", expr.Ge: " >= "}

func compare(op expr.Op, a, b piece) string {
	if a.typ.Kind != b.typ.Kind || a.typ.Kind == expr.Float32 {
		a, b = double(a), double(b)
	}
	return "(" + a.text + signs[op] + b.text + ")"
}

// text renders the operators on texts, hashes and integers.
func (r *renderer) text(n *expr.Node, a []piece) (piece, error) {
	out := piece{typ: expr.Type{Kind: expr.String}}
	texts := make([]string, len(a))
	for i, p := range a {
		texts[i] = p.text
	}
	all := strings.Join(texts, ", ")
	switch n.Op {
	case expr.Lower:
		out.text = "translate(" + all + ", 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')"
	case expr.Trim:
		out.text = "trim(" + all + ")"
	case expr.Substr:
		out.text = "substring(" + all + ", " + strconv.Itoa(n.From+1) + ", " + strconv.Itoa(n.Width) + ")"
	case expr.Join:
		out.text = "concat(" + all + ")"
	case expr.IndexOf:
		out.typ.Kind = expr.Int64
		if len(n.Texts) == 0 {
			out.text = "if(" + all + " IS NULL, CAST(NULL AS BIGINT), -1L)"
			break
		}
		var b strings.Builder
		for i, s := range n.Texts {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quoteText(s))
		}
		out.text = "(array_position(array(" + b.String() + "), " + all + ") - 1L)"
	case expr.Hash:
		out.typ.Kind, out.safe = expr.Int64, true
		out.text = "xxhash64(" + all + ")"
	case expr.Pmod:
		out.typ.Kind = expr.Int64
		out.text = "pmod(" + all + ", " + strconv.FormatInt(n.Int, 10) + "L)"
	default:
		return out, unsupported("", "operator %q has no form in Spark SQL", n.Op)
	}
	return out, nil
}
