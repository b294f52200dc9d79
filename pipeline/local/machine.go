package local

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// value is a compiled node: it computes its column once a batch, into memory that it keeps.
type value interface {
	// eval gives the column for the machine's current batch. It is valid until the machine's next batch.
	eval(m *machine) *column
}

// machine evaluates trees over the columns of one batch. Trees are compiled once; a node that several trees share
// is computed once a batch. Since no operator of expr raises an error, every tree is evaluated over all rows, those
// left out by a filter included, and nothing has to be moved when rows drop out.
type machine struct {
	n     int   // rows of the batch
	batch int64 // counts batches: tells a node that its memory is stale
	uses  map[*expr.Node]int
}

func newMachine() *machine {
	return &machine{uses: map[*expr.Node]int{}}
}

// start begins a batch of n rows.
func (m *machine) start(n int) { m.n = n; m.batch++ }

// scope is what a name means at one point of the steps.
type scope struct {
	schema expr.Schema
	types  map[string]expr.Type
	vals   map[string]value
}

func newScope(cols expr.Schema, vals []value) *scope {
	sc := &scope{types: map[string]expr.Type{}, vals: map[string]value{}}
	for i, f := range cols {
		sc.add(f, vals[i])
	}
	return sc
}

// add gives a name a new meaning; a new name comes last.
func (sc *scope) add(f expr.Field, v value) {
	if _, old := sc.vals[f.Name]; old {
		for i := range sc.schema {
			if sc.schema[i].Name == f.Name {
				sc.schema[i] = f
			}
		}
	} else {
		sc.schema = append(sc.schema, f)
	}
	sc.types[f.Name], sc.vals[f.Name] = f.Type, v
}

// only keeps the named columns, in that order.
func (sc *scope) only(names []string) error {
	kept := newScope(nil, nil)
	for _, n := range names {
		f, ok := sc.schema.Lookup(n)
		if !ok {
			return sc.schema.Missing("select", n)
		}
		kept.add(f, sc.vals[n])
	}
	*sc = *kept
	return nil
}

// compile checks a tree against the scope and makes it runnable.
func (m *machine) compile(n *expr.Node, sc *scope) (value, expr.Type, error) {
	t, err := expr.Check(n, sc.schema)
	if err != nil {
		return nil, t, err
	}
	m.count(n)
	types := &typer{sc: sc, memo: map[*expr.Node]expr.Type{}}
	c := &compiler{m: m, sc: sc, types: types, memo: map[*expr.Node]value{}}
	return c.compile(n), t, types.err
}

func (m *machine) count(n *expr.Node) {
	m.uses[n]++
	if m.uses[n] == 1 {
		for _, a := range n.Args {
			m.count(a)
		}
	}
}

// typer gives the types of the nodes of a checked tree.
type typer struct {
	sc   *scope
	memo map[*expr.Node]expr.Type
	err  error
}

func (t *typer) of(n *expr.Node) expr.Type {
	if k, ok := t.memo[n]; ok {
		return k
	}
	k := t.infer(n)
	t.memo[n] = k
	return k
}

// infer asks expr for the type of one operator, with a NULL of the right type in the place of each argument: asking
// for the whole tree at every node would take quadratic time.
func (t *typer) infer(n *expr.Node) expr.Type {
	if n.Op == expr.Col {
		return t.sc.types[n.Name]
	}
	one := *n
	one.Args = make([]*expr.Node, len(n.Args))
	for i, a := range n.Args {
		one.Args[i] = expr.Null(t.of(a))
	}
	k, err := expr.Check(&one, nil)
	if err != nil && t.err == nil {
		t.err = err
	}
	return k
}

type compiler struct {
	m     *machine
	sc    *scope
	types *typer
	memo  map[*expr.Node]value
}

// compile makes a node runnable; columns are what the scope says.
func (c *compiler) compile(n *expr.Node) value {
	if v, ok := c.memo[n]; ok {
		return v
	}
	v := c.build(n)
	c.memo[n] = v
	return v
}

func (c *compiler) args(n *expr.Node) []value {
	vs := make([]value, len(n.Args))
	for i, a := range n.Args {
		vs[i] = c.compile(a)
	}
	return vs
}

func (c *compiler) build(n *expr.Node) value {
	t := c.types.of(n)
	switch n.Op {
	case expr.Col:
		return c.sc.vals[n.Name]
	case expr.Lit:
		return &literal{n: n}
	}
	if c.elementwise(n) {
		return c.buildEach(n, t)
	}
	k := kernelOf(n, t, c.types)
	if k == nil {
		c.types.err = &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the embedded engine has no operator %s", n.Op)}
		return nil
	}
	return &call{typ: t, args: c.args(n), kernel: k, nullIn: nullIn(n.Op)}
}

func nullIn(op expr.Op) bool { i, _ := op.Lookup(); return i.Nulls == expr.NullIn }

// kernel fills out for n rows. out has its type and room, and its NULL bits when the operator is NULL where an
// argument is; another operator sets them. Values at NULL rows are arbitrary but readable.
type kernel func(out *column, args []*column, n int)

// call is a node that computes whole columns.
type call struct {
	typ    expr.Type
	args   []value
	kernel kernel
	nullIn bool

	batch int64
	out   column
	bits  bitmap
	in    []*column
}

func (v *call) eval(m *machine) *column {
	if v.batch == m.batch {
		return &v.out
	}
	v.batch = m.batch
	v.in = v.in[:0]
	for _, a := range v.args {
		v.in = append(v.in, a.eval(m))
	}
	v.out.reset(v.typ, m.n)
	if v.nullIn {
		v.bits = intersect(v.bits, m.n, &v.out, v.in)
	} else {
		v.bits = grow(v.bits, bitBytes(m.n))
		v.out.valid = v.bits
	}
	v.kernel(&v.out, v.in, m.n)
	return &v.out
}

// intersect makes out NULL where one of the columns is, with bits as memory.
func intersect(bits bitmap, n int, out *column, in []*column) bitmap {
	first := true
	for _, a := range in {
		if a.valid == nil {
			continue
		}
		if first {
			bits = grow(bits, bitBytes(n))
			copy(bits, a.valid)
			out.valid = bits
			first = false
			continue
		}
		for i := range bits {
			bits[i] &= a.valid[i]
		}
	}
	return bits
}

// literal is a value repeated for every row.
type literal struct {
	n    *expr.Node
	out  column
	bits bitmap
	rows int
}

func (v *literal) eval(m *machine) *column {
	n := v.n
	if v.rows < m.n {
		v.rows = m.n
		v.fill(v.rows)
	}
	v.out.n = m.n
	if n.Null {
		v.bits = grow(v.bits, bitBytes(v.rows))
		v.out.valid = v.bits
	}
	return &v.out
}

func (v *literal) fill(rows int) {
	n := v.n
	t := expr.Type{Kind: n.Kind, Width: n.Width}
	v.out.reset(t, rows)
	for r := range rows {
		switch {
		case n.Kind == expr.String:
			if !n.Null {
				v.out.text = append(v.out.text, n.Text...)
			}
			v.out.off[r+1] = int32(len(v.out.text))
		case n.Kind == expr.Bool:
			v.out.bool[r] = n.Int != 0
		case n.Kind == expr.Int64:
			v.out.i64[r] = n.Int
		default:
			for i := range v.out.width() {
				f := n.Num
				if n.Width > 0 {
					f = 0
					if !n.Null {
						f = n.Vec[i]
					}
				}
				if n.Kind == expr.Float32 {
					v.out.f32[r*v.out.width()+i] = float32(f)
				} else {
					v.out.f64[r*v.out.width()+i] = f
				}
			}
		}
	}
}

// slot is a column of the source; whoever drives the machine sets it before each batch.
type slot struct{ c *column }

func (s *slot) eval(*machine) *column { return s.c }
