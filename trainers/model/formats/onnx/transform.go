package onnx

import (
	"fmt"

	"dkpipe/pipeline/expr"
)

const withoutTransform = "--without-transform writes the layers alone, for rows that were transformed before"

// value is a column or the result of an operator: a tensor [N, 1] or [N, width].
type value struct {
	name  string
	t     expr.Type
	fixed bool   // a constant: the first dimension is 1, not N
	null  string // a bool tensor [N, 1], true where the value is NULL; empty when it never is
}

// rows is what the steps of the transformation make of the raw columns. Columns are made when they are asked for, so a
// file asks its user for no column that the model does not need, such as the label.
type rows struct {
	b     *builder
	steps []expr.Fitted
	raw   map[string]expr.Type
	made  map[key]value
}

// key is a column as it stands before a step.
type key struct {
	column string
	step   int
}

// inputs gives the model's inputs: raw columns that went through the steps, or the model's own.
func (b *builder) inputs() ([]tensorValue, error) {
	var out []tensorValue
	if b.m.X == nil {
		for _, in := range b.m.Definition.Inputs {
			if b.used[in.Name] {
				return nil, unsupported("rename one of them", "an input and an output are both called %q", in.Name)
			}
			b.used[in.Name] = true
			out = append(out, tensorValue{name: b.input(in.Name, float32s, in.Shape), shape: in.Shape})
		}
		return out, nil
	}
	if len(b.m.X) != len(b.m.Definition.Inputs) {
		return nil, unsupported(withoutTransform, "the model has %d inputs, the dataset %d x columns", len(b.m.Definition.Inputs), len(b.m.X))
	}
	r := &rows{b: b, steps: b.m.Transform, raw: map[string]expr.Type{}, made: map[key]value{}}
	if err := r.infer(); err != nil {
		return nil, err
	}
	for i, name := range b.m.X {
		in := b.m.Definition.Inputs[i]
		v, err := r.column(name, len(r.steps))
		if err != nil {
			return nil, err
		}
		if !v.t.Numeric() {
			return nil, unsupported(withoutTransform, "column %q is %s, the model takes numbers", name, v.t)
		}
		if n := max(v.t.Width, 1); n != elements(in.Shape) {
			return nil, unsupported(withoutTransform, "column %q has the width %d, the model takes %v", name, n, in.Shape)
		}
		if v.null != "" {
			v = r.b.as(v, expr.Float64)
			v.name = b.choose(v.null, b.nan(), v.name)
		}
		x := r.b.spread(r.b.as(v, expr.Float32)).name
		if len(in.Shape) > 1 {
			x = b.node("Reshape", []string{x, b.indices(append([]int{0}, in.Shape...)...)})
		}
		out = append(out, tensorValue{name: x, shape: in.Shape})
	}
	return out, r.validity()
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// maker gives the last step before step that makes a column, or -1 for a raw one.
func (r *rows) maker(name string, step int) (int, *expr.Column, error) {
	for i := step - 1; i >= 0; i-- {
		f := &r.steps[i]
		if len(f.Only) > 0 {
			kept := false
			for _, o := range f.Only {
				kept = kept || o == name
			}
			if !kept {
				return 0, nil, &expr.ColumnError{Column: name, Op: f.Op}
			}
		}
		for k := range f.Outputs {
			if f.Outputs[k].Name == name {
				return i, &f.Outputs[k], nil
			}
		}
	}
	return -1, nil, nil
}

// typeOf gives the type of a column as it stands before a step.
func (r *rows) typeOf(name string, step int) (expr.Type, error) {
	i, made, err := r.maker(name, step)
	if err != nil {
		return expr.Type{}, err
	}
	if i < 0 {
		return r.raw[name], nil
	}
	return made.Type, nil
}

// column gives a column as it stands before a step; a raw one becomes an input of the file.
func (r *rows) column(name string, step int) (value, error) {
	i, made, err := r.maker(name, step)
	if err != nil {
		return value{}, err
	}
	k := key{name, i}
	if v, ok := r.made[k]; ok {
		return v, nil
	}
	var v value
	if i < 0 {
		if v, err = r.rawColumn(name); err != nil {
			return value{}, err
		}
	} else {
		if v, err = r.tree(made.Expr, i); err != nil {
			return value{}, inStep(r.steps[i], err)
		}
		if v.t != made.Type {
			return value{}, unsupported("give a file with such rows: --like FILE", "%s: column %q would be %s, not %s: the types of the raw columns cannot be told", r.steps[i].Op, name, v.t, made.Type)
		}
	}
	r.made[k] = v
	return v, nil
}

func (r *rows) rawColumn(name string) (value, error) {
	if r.b.used[name] {
		return value{}, unsupported("rename the layer", "column %q has the name of the model's output", name)
	}
	r.b.used[name] = true
	t := r.raw[name]
	return value{name: r.b.input(name, elemOf(t.Kind), []int{max(t.Width, 1)}), t: t}, nil
}

func elemOf(k expr.Kind) elem {
	switch k {
	case expr.Bool:
		return bools
	case expr.Int64:
		return int64s
	case expr.Float32:
		return float32s
	case expr.String:
		return texts
	}
	return float64s
}

// tree checks a tree of a step over the columns that it reads, and translates it.
func (r *rows) tree(n *expr.Node, step int) (value, error) {
	var in expr.Schema
	for _, name := range expr.Columns(n) {
		t, err := r.typeOf(name, step)
		if err != nil {
			return value{}, err
		}
		in = append(in, expr.Field{Name: name, Type: t})
	}
	if _, err := expr.Check(n, in); err != nil {
		return value{}, err
	}
	c := &compiler{rows: r, step: step, done: map[*expr.Node]value{}}
	return c.compile(n)
}

// inStep names the step of an error.
func inStep(f expr.Fitted, err error) error {
	hint := withoutTransform
	if h, ok := err.(interface{ ErrorHint() string }); ok && h.ErrorHint() != "" {
		hint = h.ErrorHint()
	}
	return unsupported(hint, "%s: %s", f.Op, trimmed(err))
}

func trimmed(err error) string {
	const prefix = "ONNX: "
	if s := err.Error(); len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):]
	}
	return err.Error()
}

// validity makes the output valid, when the job leaves rows out: filters, and guards of handle_invalid: skip.
func (r *rows) validity() error {
	var all []string
	for i, f := range r.steps {
		conditions := []*expr.Node{f.Filter}
		if f.Invalid == expr.Skip {
			for _, g := range f.Guards {
				conditions = append(conditions, g.Expr)
			}
		}
		for _, n := range conditions {
			if n == nil || !r.needed(n, i) {
				continue
			}
			v, err := r.tree(n, i)
			if err != nil {
				return inStep(f, err)
			}
			v = r.b.spread(v)
			name := v.name
			if v.null != "" {
				name = r.b.node("And", []string{name, r.b.node("Not", []string{v.null})})
			}
			all = append(all, name)
		}
	}
	if len(all) > 0 {
		r.b.valid = r.b.fold("And", all)
	}
	return nil
}

// needed reports whether a condition looks at columns that the model needs anyway. A guard on the label does not keep a
// row from being predicted, as in predict.
func (r *rows) needed(n *expr.Node, step int) bool {
	for _, name := range expr.Columns(n) {
		i, _, err := r.maker(name, step)
		if err != nil {
			return false
		}
		if _, ok := r.made[key{name, i}]; !ok {
			return false
		}
	}
	return true
}

// fold combines many values two by two, so that the graph does not get deep.
func (b *builder) fold(op string, all []string) string {
	for len(all) > 1 {
		var next []string
		for i := 0; i+1 < len(all); i += 2 {
			next = append(next, b.node(op, all[i:i+2]))
		}
		if len(all)%2 == 1 {
			next = append(next, all[len(all)-1])
		}
		all = next
	}
	return all[0]
}

// infer finds the types of raw columns from what is done to them, for the model keeps none of them.
func (r *rows) infer() error {
	for name, t := range r.b.m.Types {
		r.raw[name] = t
	}
	g := &guesser{rows: r, seen: map[key]bool{}, told: map[string]bool{}}
	for name := range r.b.m.Types {
		g.told[name] = true
	}
	for i, name := range r.b.m.X {
		n := elements(r.b.m.Definition.Inputs[i].Shape)
		if n == 1 {
			n = 0
		}
		if err := g.column(name, len(r.steps), expr.Type{Kind: expr.Float32, Width: n}); err != nil {
			return err
		}
	}
	return nil
}

// guesser walks from the model's inputs back to the raw columns.
type guesser struct {
	*rows
	seen map[key]bool
	told map[string]bool // columns whose type is given
}

// anyWidth stands for a width that nothing tells.
const anyWidth = expr.AnyWidth

// column visits what makes a column; want is its type as far as its readers tell.
func (g *guesser) column(name string, step int, want expr.Type) error {
	i, made, err := g.maker(name, step)
	if err != nil {
		return err
	}
	if i >= 0 {
		if k := (key{name, i}); !g.seen[k] {
			g.seen[k] = true
			return g.tree(made.Expr, i, made.Type)
		}
		return nil
	}
	if g.told[name] {
		return nil
	}
	if want.Width == anyWidth {
		want.Width = 0
	}
	if want.Kind == "" || want.Kind == expr.Int64 || want.Width == 0 && want.Kind == expr.Float32 {
		want.Kind = expr.Float64
		if want.Width > 0 {
			want.Kind = expr.Float32
		}
	}
	if now, ok := g.raw[name]; ok && now != want {
		if now.Width == want.Width && now.Kind == expr.Float64 { // a number is only the default
			g.raw[name] = want
			return nil
		}
		if want.Kind == expr.Float64 && (now.Width == want.Width || want.Width == 0) {
			return nil
		}
		return unsupported("give a file with such rows: --like FILE", "column %q is used as %s and as %s", name, now, want)
	}
	g.raw[name] = want
	return nil
}

// tree passes down what is known of the type of a result.
func (g *guesser) tree(n *expr.Node, step int, want expr.Type) error {
	if n == nil {
		return fmt.Errorf("expression: a node is missing")
	}
	each := func(t expr.Type) error {
		for _, a := range n.Args {
			if err := g.tree(a, step, t); err != nil {
				return err
			}
		}
		return nil
	}
	switch n.Op {
	case expr.Col:
		return g.column(n.Name, step, want)
	case expr.Lit, expr.Param:
		return nil
	case expr.Cast:
		return each(expr.Type{Width: want.Width})
	case expr.Vector:
		return g.vector(n, step, want)
	case expr.IndexOf, expr.Lower, expr.Trim, expr.Substr, expr.Join:
		return each(expr.Type{Kind: expr.String})
	case expr.And, expr.Or, expr.Not:
		return each(expr.Type{Kind: expr.Bool})
	case expr.Eq, expr.Ne, expr.Lt, expr.Le, expr.Gt, expr.Ge:
		t := expr.Type{}
		for _, a := range n.Args {
			if a != nil && a.Op == expr.Lit && (a.Kind == expr.String || a.Kind == expr.Bool) {
				t.Kind = a.Kind
			}
		}
		return each(t)
	case expr.Case:
		for i, a := range n.Args {
			t := want
			if i%2 == 0 && i < len(n.Args)-1 {
				t = expr.Type{Kind: expr.Bool}
			}
			if err := g.tree(a, step, t); err != nil {
				return err
			}
		}
		return nil
	case expr.First:
		return each(want)
	case expr.OneHot, expr.Bucket, expr.Pmod, expr.Hash:
		return each(expr.Type{})
	case expr.SumOf, expr.MaxOf, expr.ArgMax, expr.AtLeast, expr.At, expr.Slice, expr.IsNull, expr.IsNaN, expr.IsValid:
		return each(expr.Type{Width: anyWidth})
	}
	return each(expr.Type{Width: want.Width}) // elementwise
}

// vector spreads a width over the arguments: as many numbers as there are arguments, or one vector among numbers.
func (g *guesser) vector(n *expr.Node, step int, want expr.Type) error {
	width := 0
	if len(n.Args) == 1 {
		width = want.Width
	}
	for _, a := range n.Args {
		t := expr.Type{Kind: want.Kind, Width: width}
		if width == 0 {
			t.Kind = ""
		}
		if err := g.tree(a, step, t); err != nil {
			return err
		}
	}
	return nil
}
