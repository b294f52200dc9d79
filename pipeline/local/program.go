package local

import (
	"fmt"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// program runs fitted steps over the batches of a source. The steps' columns are computed when somebody reads them;
// guards and filters are evaluated for every batch, in the order of the steps.
type program struct {
	m     *machine
	slots []*slot
	sc    *scope
	runs  []run

	alive   []bool // rows of the batch that no guard or filter has left out
	skipped int64  // rows left out since the start
}

// run is what one step does with rows.
type run struct {
	before func(b *batch, alive []bool) error // reads columns as they are when the step begins; may be nil
	op     string
	guards []guard
	skip   bool
	filter value
}

// guard is a compiled expr.Guard with the columns that it reads.
type guard struct {
	v     value
	says  string
	names []string
	cols  []value
}

// newProgram makes a program over a source's columns. Columns that cannot be used are left out of the schema.
func newProgram(cols []field) *program {
	p := &program{m: newMachine()}
	var schema expr.Schema
	var vals []value
	for _, f := range cols {
		s := &slot{}
		p.slots = append(p.slots, s)
		if f.refused == "" {
			schema = append(schema, f.Field)
			vals = append(vals, s)
		}
	}
	p.sc = newScope(schema, vals)
	return p
}

// add appends a fitted step.
func (p *program) add(f expr.Fitted) error {
	if _, err := f.Apply(p.sc.schema); err != nil {
		return err
	}
	r := run{op: f.Op, skip: f.Invalid == expr.Skip}
	for _, g := range f.Guards {
		v, _, err := p.m.compile(g.Expr, p.sc)
		if err != nil {
			return err
		}
		one := guard{v: v, says: g.Says, names: expr.Columns(g.Expr)}
		for _, n := range one.names {
			one.cols = append(one.cols, p.sc.vals[n])
		}
		r.guards = append(r.guards, one)
	}
	if f.Filter != nil {
		v, _, err := p.m.compile(f.Filter, p.sc)
		if err != nil {
			return err
		}
		r.filter = v
	}
	outs := make([]value, len(f.Outputs))
	for i, o := range f.Outputs {
		v, _, err := p.m.compile(o.Expr, p.sc)
		if err != nil {
			return err
		}
		outs[i] = v
	}
	for i, o := range f.Outputs {
		p.sc.add(expr.Field{Name: o.Name, Type: o.Type}, outs[i])
	}
	if len(f.Only) > 0 {
		if err := p.sc.only(f.Only); err != nil {
			return err
		}
	}
	p.runs = append(p.runs, r)
	return nil
}

// batch runs the guards and filters over a batch; afterwards alive says which rows are left, and every column of the
// scope can be read.
func (p *program) batch(b *batch) error {
	p.m.start(b.n)
	for i, s := range p.slots {
		s.c = &b.cols[i]
	}
	p.alive = grow(p.alive, b.n)
	for i := range p.alive {
		p.alive[i] = true
	}
	for i := range p.runs {
		r := &p.runs[i]
		if r.before != nil {
			if err := r.before(b, p.alive); err != nil {
				return err
			}
		}
		for g := range r.guards {
			if err := p.guard(b, r, &r.guards[g]); err != nil {
				return err
			}
		}
		if r.filter != nil {
			p.leaveOut(r.filter.eval(p.m))
		}
	}
	return nil
}

// leaveOut drops the rows where c is not true.
func (p *program) leaveOut(c *column) {
	for i, ok := range c.bool[:p.m.n] {
		if p.alive[i] && (!ok || c.isNull(i)) {
			p.alive[i] = false
			p.skipped++
		}
	}
}

func (p *program) guard(b *batch, r *run, g *guard) error {
	c := g.v.eval(p.m)
	if r.skip {
		p.leaveOut(c)
		return nil
	}
	for i, ok := range c.bool[:p.m.n] {
		if p.alive[i] && (!ok || c.isNull(i)) {
			return dataErr("correct the row, or set handle_invalid: skip (or keep, where the transformer has it) for "+r.op,
				"%s: %s: %s%s", b.place(i), r.op, g.says, p.blame(g, i))
		}
	}
	return nil
}

// blame says which of the columns that a guard reads is NULL or NaN in row i, or, when none is, their values.
func (p *program) blame(g *guard, i int) string {
	var bad, plain []string
	for k, v := range g.cols {
		c := v.eval(p.m)
		if s := c.flaw(i); s != "" {
			bad = append(bad, fmt.Sprintf("column %q%s", g.names[k], s))
		} else if c.typ.Width == 0 {
			plain = append(plain, fmt.Sprintf("column %q is %s", g.names[k], c.show(i)))
		}
	}
	if len(bad) == 0 {
		bad = plain
	}
	if len(bad) > 3 {
		bad = append(bad[:3], fmt.Sprintf("and %d more", len(bad)-3))
	}
	if len(bad) == 0 {
		return ""
	}
	return ": " + strings.Join(bad, ", ")
}

// flaw says what makes row i unusable: " is NULL", " is NaN", " is NaN at position 3", or nothing.
func (c *column) flaw(i int) string {
	if c.isNull(i) {
		return " is NULL"
	}
	if !c.hasNaN(i) {
		return ""
	}
	if c.typ.Width == 0 {
		return " is NaN"
	}
	w := c.width()
	at := 0
	for x := c.number(i * w); x == x; x = c.number(i*w + at) {
		at++
	}
	return fmt.Sprintf(" is NaN at position %d", at)
}

// show prints the value of row i of a scalar column.
func (c *column) show(i int) string {
	switch {
	case c.isNull(i):
		return "NULL"
	case c.typ.Kind == expr.String:
		return shown(c.str(i))
	case c.typ.Kind == expr.Bool:
		return fmt.Sprint(c.bool[i])
	case c.typ.Kind == expr.Int64:
		return fmt.Sprint(c.i64[i])
	}
	return fmt.Sprint(c.number(i))
}

// use gives a column of the scope, or the error that a role names a column that is not there.
func (p *program) use(role, name string, source []field) (value, expr.Type, error) {
	if v, ok := p.sc.vals[name]; ok {
		return v, p.sc.types[name], nil
	}
	for _, f := range source {
		if f.Name == name && f.refused != "" {
			return nil, expr.Type{}, unsupportedErr("leave the column out, or convert it before", "columns.%s: column %q %s", role, name, f.refused)
		}
	}
	return nil, expr.Type{}, missingRole(role, name, p.sc.schema)
}

func missingRole(role, name string, schema expr.Schema) error {
	all := make([]field, len(schema))
	for i, f := range schema {
		all[i].Field = f
	}
	return &pipeline.Error{Kind: pipeline.MissingColumn,
		Message: fmt.Sprintf("columns.%s: there is no column %q", role, name), Hint: didYouMean(name, all)}
}
