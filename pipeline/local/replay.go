package local

import (
	"fmt"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Replay turns the raw rows of a Table into finished rows with fitted steps, without fitting anything.
type Replay struct {
	t *Table
	w *rowWriter
}

// NewReplay prepares a replay over a table. Only the steps that the named columns depend on are run, so columns of
// training that the table lacks, such as the label, are missed only when c names something made of them. Filters are
// part of the replay when c.Y is not empty: an evaluation is about the rows that training was about, while a
// prediction is wanted for every row. c.Keep may name columns of the source.
// A column that is needed and absent is an error of kind MissingColumn, one of a type that no step can use one of kind
// Unsupported. NewReplay comes before the table's first row: where the values of a text file suggest another type than
// the steps were fitted for, a column gets the type that they take, so that a bad value is named with its line.
func NewReplay(t *Table, fitted []expr.Fitted, c pipeline.Columns) (*Replay, error) {
	steps, err := needed(t.cols, fitted, c)
	if err != nil {
		return nil, err
	}
	if err := t.suit(fittedStages(steps, c), true); err != nil {
		return nil, err
	}
	w, err := newRowWriter(pipeline.Plan{Fitted: steps, Columns: c}, t.cols)
	if err != nil {
		return nil, err
	}
	return &Replay{t: t, w: w}, nil
}

// Columns describes the finished columns, in the order of Rows.Vectors and Rows.Keep.
func (r *Replay) Columns() []pipeline.ColumnInfo { return r.w.info }

// Batch gives the finished rows of the table's last batch, without Part and Hash, and which rows of the batch they
// are: a step with handle_invalid: skip leaves rows out. The memory is used again by the next call.
// Errors are of kind Data and name file, row and column.
func (r *Replay) Batch() (rows *pipeline.Rows, from []int32, err error) {
	if err := r.w.batch(&r.t.b); err != nil {
		return nil, nil, err
	}
	r.w.rows.Part, r.w.rows.Hash = nil, nil
	return &r.w.rows, r.w.pick, nil
}

// Skipped counts the rows that were left out so far.
func (r *Replay) Skipped() int64 { return r.w.prog.skipped }

// needed keeps of the steps what the columns of c depend on, going backwards.
func needed(source []field, fitted []expr.Fitted, c pipeline.Columns) ([]expr.Fitted, error) {
	want := map[string]bool{}
	for _, names := range [][]string{c.X, c.Y, {c.Weight}, c.Keep} {
		for _, n := range names {
			want[n] = n != ""
		}
	}
	delete(want, "")
	var steps []expr.Fitted
	for i := len(fitted) - 1; i >= 0; i-- {
		f := fitted[i]
		f.Only, f.Inputs = nil, nil
		f.Outputs = slices.DeleteFunc(slices.Clone(f.Outputs), func(o expr.Column) bool { return !want[o.Name] })
		if len(c.Y) == 0 {
			f.Filter = nil
		}
		if len(f.Outputs) == 0 && f.Filter == nil {
			continue
		}
		reads := expr.Columns(f.Filter)
		for _, o := range f.Outputs {
			delete(want, o.Name)
			reads = append(reads, expr.Columns(o.Expr)...)
		}
		for _, n := range reads {
			want[n] = true
		}
		if len(f.Outputs) < len(fitted[i].Outputs) {
			f.Guards = guardsOver(f.Guards, want)
		} else {
			for _, g := range f.Guards {
				for _, n := range expr.Columns(g.Expr) {
					want[n] = true
				}
			}
		}
		steps = append(steps, f)
	}
	slices.Reverse(steps)
	for _, name := range sortedKeys(want) {
		if !slices.ContainsFunc(source, func(f field) bool { return f.Name == name }) {
			return nil, &pipeline.Error{Kind: pipeline.MissingColumn,
				Message: fmt.Sprintf("the source has no column %q, which the model's columns are made of", name), Hint: didYouMean(name, source)}
		}
	}
	return steps, nil
}

// guardsOver narrows the guards of a step that makes less than it did in training: a guard against NULL and NaN is
// kept for the columns that are still read, another one when all of its columns are.
func guardsOver(guards []expr.Guard, read map[string]bool) []expr.Guard {
	var kept []expr.Guard
	for _, g := range guards {
		if g.Expr.Op == expr.IsValid {
			one := *g.Expr
			one.Args = slices.DeleteFunc(slices.Clone(one.Args), func(a *expr.Node) bool { return !allRead(a, read) })
			if len(one.Args) > 0 {
				kept = append(kept, expr.Guard{Expr: &one, Says: g.Says})
			}
		} else if allRead(g.Expr, read) {
			kept = append(kept, g)
		}
	}
	return kept
}

func allRead(n *expr.Node, read map[string]bool) bool {
	return !slices.ContainsFunc(expr.Columns(n), func(name string) bool { return !read[name] })
}
