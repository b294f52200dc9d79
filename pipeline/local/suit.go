package local

import (
	"errors"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// This file finds the types of text columns. The values of the first rows suggest a type, but who is to read the
// column has the last word: a column of numbers with one bad cell looks like text, and the step that needs numbers
// would be called wrong where the cell is. So, where a step cannot take the suggested type, the column gets the type
// that the step takes, and the cell is named with its line when it is read.

// stage is one reader of columns: a step, or a role of the finished columns.
type stage struct {
	op string
	// apply gives the columns after it, or the error that it cannot take them. It gives no columns and no error when
	// what comes after it is not known before data was read.
	apply func(in expr.Schema) (expr.Schema, error)
	// reads gives the columns of in that it reads; apply has taken in before.
	reads func(in expr.Schema) []string
	exact []string // of these, those whose type it tells apart although it takes several
}

// unfitted makes the stages of steps that are not fitted.
func unfitted(steps []expr.Step, c pipeline.Columns) []stage {
	var all []stage
	for _, s := range steps {
		all = append(all, stage{op: s.Op(), apply: func(in expr.Schema) (expr.Schema, error) {
			needs, err := s.Needs(in)
			if err != nil {
				return nil, err
			}
			if _, shown := s.(expr.Previewer); !shown && len(needs) > 0 {
				return nil, nil
			}
			f, err := expr.Preview(s, in)
			if err != nil {
				return nil, err
			}
			return f.ApplyPreview(in)
		}, reads: func(in expr.Schema) []string {
			f, err := expr.Preview(s, in)
			if err != nil { // not shown before it is fitted: it may read anything
				for _, c := range in {
					f.Inputs = append(f.Inputs, c.Name)
				}
			}
			return readsOf(f)
		}})
	}
	return append(all, roles(c)...)
}

// fittedStages makes the stages of fitted steps.
func fittedStages(steps []expr.Fitted, c pipeline.Columns) []stage {
	var all []stage
	for _, f := range steps {
		reads := readsOf(f)
		s := stage{op: f.Op, apply: f.Apply, reads: func(expr.Schema) []string { return reads }}
		for _, n := range treesOf(f) {
			s.exact = hashed(s.exact, n)
		}
		all = append(all, s)
	}
	return append(all, roles(c)...)
}

func treesOf(f expr.Fitted) []*expr.Node {
	var trees []*expr.Node
	for _, o := range f.Outputs {
		trees = append(trees, o.Expr)
	}
	for _, g := range f.Guards {
		trees = append(trees, g.Expr)
	}
	if f.Filter != nil {
		trees = append(trees, f.Filter)
	}
	return trees
}

func readsOf(f expr.Fitted) []string {
	reads := slices.Clone(f.Inputs)
	for _, n := range treesOf(f) {
		reads = append(reads, expr.Columns(n)...)
	}
	return reads
}

// roles makes a stage of every role that takes numbers. A column that is not there is for others to report.
func roles(c pipeline.Columns) []stage {
	var all []stage
	add := func(role string, names ...string) {
		all = append(all, stage{op: "columns." + role, reads: func(expr.Schema) []string { return names }, apply: func(in expr.Schema) (expr.Schema, error) {
			for _, name := range names {
				if f, ok := in.Lookup(name); ok {
					if err := vectorType(role, name, f.Type); err != nil {
						return nil, err
					}
				}
			}
			return in, nil
		}})
	}
	add("x", c.X...)
	add("y", c.Y...)
	if c.Weight != "" {
		add("weight", c.Weight)
	}
	return all
}

// usable is the schema of the columns that trees can use.
func usable(cols []field) expr.Schema {
	var s expr.Schema
	for _, f := range cols {
		if f.refused == "" {
			s = append(s, f.Field)
		}
	}
	return s
}

// walk gives the first stage that cannot take the columns, and its error; len(stages) when there is none.
func walk(in expr.Schema, stages []stage) (int, error) {
	for i, s := range stages {
		out, err := s.apply(in)
		if err != nil {
			return i, err
		}
		if out == nil {
			break
		}
		in = out
	}
	return len(stages), nil
}

// suit gives guessed columns the types that the stages take, where they cannot take the suggested ones. trained says
// that the stages took columns of these names before, so that nothing is wrong with them; otherwise a column that holds
// text for the most part stays text, and the stage that wants numbers of it is wrong.
func suit(cols []field, stages []stage, trained bool) []field {
	if !slices.ContainsFunc(cols, func(f field) bool { return f.guessed }) {
		return cols
	}
	kinds := []expr.Kind{expr.Float64}
	if trained {
		kinds = []expr.Kind{expr.Float64, expr.String, expr.Int64, expr.Bool}
	}
	for at := -1; ; {
		i, err := walk(usable(cols), stages)
		var missing *expr.ColumnError
		if err == nil || i <= at || errors.As(err, &missing) {
			break
		}
		at = i
		for _, kind := range kinds {
			if better, ok := retype(cols, stages, i, kind, trained); ok {
				cols = better
				break
			}
		}
	}
	if trained {
		cols = widen(cols, stages)
	}
	return cols
}

// retype makes columns that stage i reads to be of a kind, so that it takes them; false when that does not help. It is
// content with the fewest columns where a stage reads few: one that reads many wants the same of all.
func retype(cols []field, stages []stage, i int, kind expr.Kind, trained bool) ([]field, bool) {
	const few = 16
	s := stages[i]
	next := slices.Clone(cols)
	passes := func() bool {
		at, _ := walk(usable(next), stages[:i+1])
		return at > i
	}
	var chosen []int
	for c, f := range cols {
		if f.passed && f.Type.Numeric() && kind == expr.Float64 {
			continue
		}
		if f.guessed && f.Type.Kind != kind && (trained || f.Type.Kind == expr.String && f.mostlyNumbers) {
			chosen = append(chosen, c)
			next[c].Type.Kind, next[c].needs = kind, s.op
		}
	}
	if len(chosen) == 0 || !trained && !passes() {
		return nil, false
	}
	reads := map[string]bool{}
	for _, name := range s.reads(usable(next)) {
		reads[name] = true
	}
	chosen = slices.DeleteFunc(chosen, func(c int) bool {
		if !reads[cols[c].Name] {
			next[c] = cols[c]
		}
		return !reads[cols[c].Name]
	})
	if !passes() {
		return nil, false
	}
	for _, c := range chosen[:min(few, len(chosen))] {
		saved := next[c]
		if next[c] = cols[c]; len(chosen) > few || !passes() {
			next[c] = saved
		}
	}
	return next, true
}

// widen lets a column of whole numbers, where numbers of any sort will do, have decimals in its later rows. What is
// passed on to an output, or hashed, stays as its values suggest.
func widen(cols []field, stages []stage) []field {
	next := slices.Clone(cols)
	readers := map[string]string{} // the first one of every column
	for _, s := range slices.Backward(stages) {
		for _, name := range s.reads(nil) {
			readers[name] = s.op
		}
	}
	var chosen []int
	for c, f := range cols {
		if f.guessed && !f.passed && f.Type.Kind == expr.Int64 && !slices.ContainsFunc(stages, func(s stage) bool { return slices.Contains(s.exact, f.Name) }) {
			if op := readers[f.Name]; op != "" {
				chosen = append(chosen, c)
				next[c].needs = op
			}
		}
	}
	var widenPart func(part []int)
	widenPart = func(part []int) {
		for _, c := range part {
			next[c].Type.Kind = expr.Float64
		}
		if i, _ := walk(usable(next), stages); i == len(stages) {
			return
		}
		for _, c := range part {
			next[c].Type.Kind = expr.Int64
		}
		if half := len(part) / 2; half > 0 {
			widenPart(part[:half])
			widenPart(part[half:])
		} else {
			next[part[0]] = cols[part[0]]
		}
	}
	if len(chosen) > 0 {
		widenPart(chosen)
	}
	return next
}

// hashed adds the columns that are hashed: a whole number has another hash than the same number with decimals.
func hashed(names []string, n *expr.Node) []string {
	if n == nil {
		return names
	}
	if n.Op == expr.Hash {
		return append(names, expr.Columns(n)...)
	}
	for _, a := range n.Args {
		names = hashed(names, a)
	}
	return names
}

// asked is the error of a stage that asks for a column which cannot be used, by its name or by a pattern.
func asked(cols []field, stages []stage) error {
	plain := usable(cols)
	i, err := walk(plain, stages)
	var missing *expr.ColumnError
	for _, f := range cols {
		if f.refused == "" {
			continue
		}
		if errors.As(err, &missing) && missing.Column == f.Name {
			return refusedErr(missing.Op, f)
		}
		with := expr.Schema{}
		for _, g := range cols { // in source order: patterns depend on it
			if g.refused == "" {
				with = append(with, g.Field)
			} else if g.Name == f.Name {
				with = append(with, expr.Field{Name: f.Name, Type: expr.Type{Kind: "nested"}})
			}
		}
		if at, err := walk(with, stages); err != nil && at < i {
			return refusedErr(stages[at].op, f)
		}
	}
	return nil
}

func refusedErr(op string, f field) error {
	return unsupportedErr("leave the column out, or convert it before", "%s: column %q %s", op, f.Name, f.refused)
}

// suit gives the table's text columns the types that the stages take, and refuses stages that ask for columns which
// cannot be used. It comes before the first row.
func (t *Table) suit(stages []stage, trained bool) error {
	if err := asked(t.cols, stages); err != nil {
		return err
	}
	if r, ok := t.cur.(interface{ retype([]field) }); ok {
		t.cols = suit(t.cols, stages, trained)
		r.retype(slices.Clone(t.cols))
		t.schema = nil
	}
	return nil
}
