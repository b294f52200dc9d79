package sparkconn

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"dkpipe/pipeline/expr"
)

// This file and sqlops.go render the trees of pipeline/expr as Spark SQL. Every rendered text has exactly the Spark
// type of its tree: BOOLEAN, BIGINT, FLOAT, DOUBLE, STRING, ARRAY<FLOAT> or ARRAY<DOUBLE>. No text raises an error,
// whatever the values and the session's ANSI setting.

// renderer renders trees over the columns of one schema.
type renderer struct {
	schema expr.Schema
	prefix string // of the variables of lambdas: no column's name begins with it
	vars   int
}

func newRenderer(in expr.Schema) *renderer {
	r := &renderer{schema: in, prefix: "e"}
	for i := 0; i < len(in); i++ { // a column that begins like a variable would be hidden by one
		if hasPrefixFold(in[i].Name, r.prefix) && strings.Trim(in[i].Name[len(r.prefix):], "0123456789") == "" {
			r.prefix += "_"
			i = -1
		}
	}
	return r
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// variable gives a fresh name for the variable of a lambda.
func (r *renderer) variable() string {
	r.vars++
	return r.prefix + strconv.Itoa(r.vars)
}

// piece is a rendered tree.
type piece struct {
	text string
	typ  expr.Type
	flat bool    // a literal, a column, a variable: may stand twice at no cost
	safe bool    // never NULL
	real bool    // a number that is not NaN
	num  float64 // of a literal that is real
	lit  bool    // num holds
}

// sqlOf renders a tree that expr.Check accepted; placeholders of previews are allowed and print as :name.
func sqlOf(n *expr.Node, in expr.Schema) (string, error) {
	p, err := newRenderer(in).node(n)
	return p.text, err
}

func (r *renderer) node(n *expr.Node) (piece, error) {
	switch n.Op {
	case expr.Col:
		f, ok := r.schema.Lookup(n.Name)
		if !ok {
			return piece{}, r.schema.Missing("expression", n.Name)
		}
		name, err := identifier(n.Name)
		return piece{text: name, typ: f.Type, flat: true}, err
	case expr.Lit:
		return literal(n), nil
	case expr.Param:
		return piece{text: ":" + n.Name, typ: expr.Type{Kind: n.Kind, Width: n.Width}, flat: true}, nil
	}
	if isElementwise(n) {
		if p, ok, err := r.overVectors(n); ok || err != nil {
			return p, err
		}
	}
	args := make([]piece, len(n.Args))
	for i, a := range n.Args {
		p, err := r.node(a)
		if err != nil {
			return piece{}, err
		}
		args[i] = p
	}
	return r.apply(n, args)
}

// apply renders an operator over rendered arguments. Vectors never meet an elementwise operator here.
func (r *renderer) apply(n *expr.Node, a []piece) (piece, error) {
	if isElementwise(n) {
		return r.scalar(n, a)
	}
	switch n.Op {
	case expr.SumOf, expr.MaxOf, expr.ArgMax, expr.AtLeast, expr.At, expr.Slice, expr.Vector, expr.OneHot, expr.Bucket:
		return r.vectorOp(n, a)
	case expr.IsNull, expr.IsNaN, expr.IsValid, expr.And, expr.Or, expr.Not, expr.Case, expr.First,
		expr.Eq, expr.Ne, expr.Lt, expr.Le, expr.Gt, expr.Ge:
		return r.logic(n, a)
	}
	return r.text(n, a)
}

// bind gives a text in which p may stand often: a short text stands as it is, a long one becomes a lambda's variable.
func (r *renderer) bind(p piece, use func(p piece) string) string {
	const short = 80
	if p.flat || len(p.text) <= short {
		return use(p)
	}
	v := r.variable()
	inner := p
	inner.text, inner.flat = v, true
	return "element_at(transform(array(" + p.text + "), " + v + " -> " + use(inner) + "), 1)"
}

// double is the piece as a DOUBLE.
func double(p piece) piece {
	if p.typ.Kind == expr.Float64 {
		return p
	}
	if p.lit && p.typ.Kind == expr.Int64 {
		p.text = number64(p.num)
	} else {
		p.text = "CAST(" + p.text + " AS DOUBLE)"
	}
	p.typ = expr.Type{Kind: expr.Float64}
	return p
}

// identifier quotes a name. Spark replaces ${…} in a statement before it is parsed, inside of backticks too, and
// offers no way to write the same characters otherwise.
func identifier(name string) (string, error) {
	if strings.Contains(name, "${") || strings.ContainsRune(name, 0) {
		return "", unsupported("rename the column at its source", "column %q: Spark cannot be given this name", name)
	}
	return "`" + strings.ReplaceAll(name, "`", "``") + "`", nil
}

// text quotes a text. A dollar sign is escaped because Spark replaces ${…} in statements.
func quoteText(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, c := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == '$' || c == 0x7f || c == 0xfeff || c >= 0xfff0 && c <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// number64 writes a DOUBLE.
func number64(v float64) string {
	switch {
	case v != v:
		return "double('NaN')"
	case math.IsInf(v, 1):
		return "double('Infinity')"
	case math.IsInf(v, -1):
		return "double('-Infinity')"
	}
	return negative(strconv.FormatFloat(v, 'g', -1, 64) + "D")
}

// number32 writes a FLOAT.
func number32(v float64) string {
	switch {
	case v != v:
		return "float('NaN')"
	case math.IsInf(v, 1):
		return "float('Infinity')"
	case math.IsInf(v, -1):
		return "float('-Infinity')"
	}
	return negative(strconv.FormatFloat(v, 'g', -1, 32) + "F")
}

func negative(s string) string {
	if strings.HasPrefix(s, "-") {
		return "(" + s + ")"
	}
	return s
}

func literal(n *expr.Node) piece {
	p := piece{typ: expr.Type{Kind: n.Kind, Width: n.Width}, flat: true, safe: true}
	switch {
	case n.Null:
		p.text, p.safe = "CAST(NULL AS "+sparkType(p.typ)+")", false
	case n.Width > 0:
		p.text = literalVector(n.Vec, n.Kind)
		p.flat = len(n.Vec) <= 8
	case n.Kind == expr.Float64:
		p.text, p.num = number64(n.Num), n.Num
		p.real = n.Num == n.Num
	case n.Kind == expr.Float32:
		p.text, p.num = number32(n.Num), n.Num
		p.real = n.Num == n.Num
	case n.Kind == expr.Int64:
		p.text, p.num, p.real = negative(strconv.FormatInt(n.Int, 10)+"L"), float64(n.Int), true
	case n.Kind == expr.Bool:
		p.text = strconv.FormatBool(n.Int != 0)
	default:
		p.text = quoteText(n.Text)
	}
	p.lit = p.real
	return p
}

// literalVector writes an array; equal elements are written once.
func literalVector(v []float64, kind expr.Kind) string {
	write := number64
	if kind == expr.Float32 {
		write = number32
	}
	same := true
	for _, x := range v {
		same = same && math.Float64bits(x) == math.Float64bits(v[0])
	}
	if same && len(v) > 4 {
		return "array_repeat(" + write(v[0]) + ", " + strconv.Itoa(len(v)) + ")"
	}
	var b strings.Builder
	b.WriteString("array(")
	for i, x := range v {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(write(x))
	}
	b.WriteByte(')')
	return b.String()
}

// sparkType is the Spark type of a type.
func sparkType(t expr.Type) string {
	name := map[expr.Kind]string{expr.Bool: "BOOLEAN", expr.Int64: "BIGINT", expr.Float32: "FLOAT", expr.Float64: "DOUBLE", expr.String: "STRING"}[t.Kind]
	if t.Width != 0 {
		return "ARRAY<" + name + ">"
	}
	return name
}
