package sparkconn

import (
	"math"
	"slices"
	"strings"

	"dkpipe/pipeline/expr"
)

// This file renders arithmetic over vectors, for which Spark has lambdas only.

// lane is one vector that a fused lambda reads.
type lane struct {
	piece
	name string // of the variable
}

// overVectors renders an elementwise tree over vectors as lambdas: transform(v, e -> (e - 3D) * 2D). Lambdas are
// interpreted, node by node and element by element, while the cast of a whole array is compiled: so a lambda takes and
// gives DOUBLE, and casts stand around it. A lambda over three vectors or more would have to pack them into structs,
// which costs more than a lambda for every two of them. ok is false for a tree over scalars.
func (r *renderer) overVectors(n *expr.Node) (piece, bool, error) {
	t, err := expr.TypeOf(n, r.schema)
	if err != nil || t.Width == 0 {
		return piece{}, false, err
	}
	if n.Op == expr.Cast {
		p, err := r.node(n.Args[0])
		return castVector(p, n.Kind), true, err
	}
	f := &fused{r: r, even: true}
	body, err := f.body(n)
	for err == nil && len(f.lanes) != 1 && len(f.lanes) != 2 {
		if len(f.lanes) == 0 { // of nothing but even literals
			f = &fused{r: r}
		} else if at := f.pair(n, n); at != nil {
			f = &fused{r: r, even: f.even, apart: append(f.apart, at)}
		} else {
			break
		}
		body, err = f.body(n)
	}
	if err != nil {
		return piece{}, false, err
	}
	text := f.zipped(body.text)
	if f.nulls != nil {
		text = "if(" + strings.Join(f.nulls, " OR ") + ", CAST(NULL AS " + sparkType(t) + "), " + text + ")"
	}
	return piece{text: text, typ: t}, true, nil
}

// castVector is a vector with elements of another kind.
func castVector(p piece, to expr.Kind) piece {
	if p.typ.Kind == to || p.text == "" {
		return p
	}
	p.typ.Kind, p.flat = to, false
	p.text = "CAST(" + p.text + " AS " + sparkType(p.typ) + ")"
	return p
}

// fused is a lambda in the making.
type fused struct {
	r     *renderer
	even  bool         // literals of equal elements stand in the body, as scalars
	apart []*expr.Node // vectors with lambdas of their own
	lanes []lane
	nulls []string // tests for the scalars that may be NULL: a vector is NULL as a whole
}

// pair finds the first subtree, from above, of exactly two vectors that is not apart yet, or gives nil.
func (f *fused) pair(n, root *expr.Node) *expr.Node {
	if !isElementwise(n) || slices.Contains(f.apart, n) {
		return nil
	}
	if n != root {
		g := &fused{r: f.r, even: f.even, apart: f.apart}
		if _, err := g.body(n); err == nil && len(g.lanes) == 2 {
			return n
		}
	}
	for _, a := range n.Args {
		if at := f.pair(a, root); at != nil {
			return at
		}
	}
	return nil
}

// evenLiteral gives the scalar that all elements of a literal are.
func evenLiteral(n *expr.Node) (piece, bool) {
	if n.Op != expr.Lit || n.Null || len(n.Vec) == 0 {
		return piece{}, false
	}
	for _, v := range n.Vec {
		if math.Float64bits(v) != math.Float64bits(n.Vec[0]) {
			return piece{}, false
		}
	}
	return literal(expr.Num(n.Vec[0])), true
}

// body renders the lambda's body: vectors become variables, scalars stay.
func (f *fused) body(n *expr.Node) (piece, error) {
	t, err := expr.TypeOf(n, f.r.schema)
	if err != nil {
		return piece{}, err
	}
	if t.Width == 0 {
		p, err := f.r.node(n)
		if err == nil && !p.safe {
			f.nulls = append(f.nulls, p.text+" IS NULL")
			p.safe = true
		}
		return p, err
	}
	if f.even {
		if p, ok := evenLiteral(n); ok {
			return p, nil
		}
	}
	if !isElementwise(n) || slices.Contains(f.apart, n) {
		p, err := f.r.node(n)
		if err != nil {
			return piece{}, err
		}
		return piece{text: f.lane(castVector(p, expr.Float64)), typ: expr.Type{Kind: expr.Float64}, flat: true, safe: true}, nil
	}
	args := make([]piece, len(n.Args))
	for i, a := range n.Args {
		if args[i], err = f.body(a); err != nil {
			return piece{}, err
		}
	}
	return f.r.scalar(n, args)
}

// lane gives the variable of a vector; equal vectors share one.
func (f *fused) lane(p piece) string {
	for _, l := range f.lanes {
		if l.text == p.text && l.typ == p.typ {
			return l.name
		}
	}
	l := lane{p, f.r.variable()}
	f.lanes = append(f.lanes, l)
	return l.name
}

// zipped puts the lambda around its vectors.
func (f *fused) zipped(body string) string {
	r, lanes := f.r, f.lanes
	switch len(lanes) {
	case 1:
		if body == lanes[0].name {
			return lanes[0].text
		}
		return "transform(" + lanes[0].text + ", " + lanes[0].name + " -> " + body + ")"
	case 2:
		return "zip_with(" + lanes[0].text + ", " + lanes[1].text + ", (" + lanes[0].name + ", " + lanes[1].name + ") -> " + body + ")"
	}
	// More vectors are packed into structs, pair by pair.
	packed := lanes[0].text
	fields := []string{lanes[0].name}
	for k, l := range lanes[1 : len(lanes)-1] {
		p, v := r.variable(), r.variable()
		items := make([]string, 0, 2*len(fields)+2)
		for _, f := range fields {
			from := p
			if k > 0 {
				from = p + "." + f
			}
			items = append(items, "'"+f+"', "+from)
		}
		items = append(items, "'"+l.name+"', "+v)
		packed = "zip_with(" + packed + ", " + l.text + ", (" + p + ", " + v + ") -> named_struct(" + strings.Join(items, ", ") + "))"
		fields = append(fields, l.name)
	}
	last := lanes[len(lanes)-1]
	p := r.variable()
	for _, f := range fields {
		body = replaceWord(body, f, p+"."+f)
	}
	return "zip_with(" + packed + ", " + last.text + ", (" + p + ", " + last.name + ") -> " + body + ")"
}

// replaceWord replaces a variable in a rendered text, outside of quotes.
func replaceWord(s, word, with string) string {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); {
		c := s[i]
		if quote != 0 {
			if c == '\\' && quote == '\'' && i+1 < len(s) {
				b.WriteByte(c)
				i++
				c = s[i]
			} else if c == quote {
				quote = 0
			}
			b.WriteByte(c)
			i++
			continue
		}
		if c == '\'' || c == '`' {
			quote = c
		}
		j := i
		for j < len(s) && wordByte(s[j]) {
			j++
		}
		if j > i && s[i:j] == word && (i == 0 || s[i-1] != '.') {
			b.WriteString(with)
		} else if j > i {
			b.WriteString(s[i:j])
		} else {
			b.WriteByte(c)
			j = i + 1
		}
		i = j
	}
	return b.String()
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
