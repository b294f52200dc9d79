package local

import (
	"context"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Fit checks p.Expect, computes the statistics that the steps need from the training rows, and gives the plan with
// its fitted steps. Steps whose statistics do not depend on each other share a pass over the source; without
// statistics and expectations the rows are not read at all.
func (e Engine) Fit(ctx context.Context, p pipeline.Plan) (pipeline.Plan, error) {
	f := &fitter{steps: p.Steps, fitted: make([]expr.Fitted, len(p.Steps)), got: make([][]expr.StatValue, len(p.Steps))}
	for first := true; ; first = false {
		err := e.table(ctx, p, func(t *Table) error {
			if err := f.pass(ctx, e, p, t, first); err != nil || f.done {
				return err
			}
			wishes, err := f.plan(newProgram(t.cols), nil) // fits what the pass made possible
			f.done = len(wishes) == 0
			return err
		})
		if err != nil {
			return p, err
		}
		if f.done {
			break
		}
	}
	p.Fitted = f.fitted
	return p, nil
}

// fitter fits steps in passes over the source.
type fitter struct {
	steps  []expr.Step
	fitted []expr.Fitted
	got    [][]expr.StatValue // answers of earlier passes, a list a step; nil: not asked yet
	ready  int                // steps that are fitted
	done   bool
}

// wish is what one step wants from the pass.
type wish struct {
	step  int
	needs []expr.Stat
	accs  []*accumulator // one a need
}

// pass fits what can be fitted, reads the source once if something is missing, and fits what that gave.
func (f *fitter) pass(ctx context.Context, e Engine, p pipeline.Plan, t *Table, first bool) error {
	split, err := newSplitter(p.Split, t.cols)
	if err != nil {
		return err
	}
	var expect *expectations
	if first {
		if expect, err = newExpectations(p.Expect, t.cols); err != nil {
			return err
		}
	}
	prog := newProgram(t.cols)
	wishes, err := f.plan(prog, split)
	if err != nil {
		// A text file without rows says nothing about types: that it is empty is the better explanation.
		if _, rowErr := t.next(ctx); rowErr != nil {
			err = rowErr
		}
		return err
	}
	if len(wishes) == 0 && expect == nil {
		f.done = true
		return nil
	}
	prog.cut()
	err = e.each(ctx, t, func(b *batch) error {
		if expect != nil {
			if err := expect.batch(b); err != nil {
				return err
			}
		}
		if len(wishes) == 0 {
			return nil // guards and filters are for Write
		}
		split.batch(b)
		return prog.batch(b)
	})
	if err != nil {
		return err
	}
	if expect != nil {
		if err := expect.finish(); err != nil {
			return err
		}
	}
	for _, w := range wishes {
		values := make([]expr.StatValue, len(w.needs))
		for i, s := range w.needs {
			values[i] = w.accs[i].answer(s)
		}
		f.got[w.step] = values
	}
	return nil
}

// plan adds to the program the steps that are or can be fitted now, and gives the wishes of the steps that can be
// served in this pass. A step after an unfitted one can be served when it reads nothing that the unfitted one makes,
// and when that one leaves no rows out.
func (f *fitter) plan(prog *program, split *splitter) ([]wish, error) {
	var wishes []wish
	blocked := map[string]bool{} // columns that come out of unfitted steps
	schema := prog.sc.schema     // with previews of them
	exact := true                // no step so far is unfitted
	for i, s := range f.steps {
		if i < f.ready {
			if err := prog.add(f.fitted[i]); err != nil {
				return nil, err
			}
			schema = prog.sc.schema
			continue
		}
		needs, err := s.Needs(schema)
		if err != nil {
			if exact {
				return nil, err
			}
			return wishes, nil // it may succeed once the steps before are fitted
		}
		if exact && (len(needs) == 0 || f.got[i] != nil) {
			if err := f.fit(i, prog); err != nil {
				return nil, err
			}
			schema = prog.sc.schema
			continue
		}
		exact = false
		if len(needs) == 0 && f.ahead(s, schema, prog, blocked) {
			schema, err = f.after(s, schema)
			if err != nil {
				return wishes, nil
			}
			continue
		}
		if w := (wish{step: i, needs: needs}); len(needs) > 0 && f.got[i] == nil && w.bind(s, prog, blocked) {
			if err := w.want(); err != nil {
				return nil, err
			}
			wishes = append(wishes, w)
			prog.collect(w, split)
		}
		next, ok := f.preview(s, schema, blocked)
		if !ok {
			return wishes, nil
		}
		schema = next
	}
	return wishes, nil
}

// fit fits step i, the first that is not fitted, and adds it to the program.
func (f *fitter) fit(i int, prog *program) error {
	fitted, err := f.steps[i].Fit(append(expr.Schema(nil), prog.sc.schema...), f.got[i])
	if err != nil {
		return err
	}
	f.fitted[i] = fitted
	f.ready = i + 1
	return prog.add(fitted)
}

// ahead adds a step that needs no statistics and stands behind an unfitted one, when it reads nothing that is not
// known yet: a later step may then be served in this pass too.
func (f *fitter) ahead(s expr.Step, schema expr.Schema, prog *program, blocked map[string]bool) bool {
	fitted, err := s.Fit(append(expr.Schema(nil), schema...), nil)
	if err != nil || len(fitted.Only) > 0 {
		return false
	}
	reads := append([]string(nil), fitted.Inputs...)
	for _, o := range fitted.Outputs {
		reads = append(reads, expr.Columns(o.Expr)...)
	}
	for _, g := range fitted.Guards {
		reads = append(reads, expr.Columns(g.Expr)...)
	}
	reads = append(reads, expr.Columns(fitted.Filter)...)
	for _, name := range reads {
		if _, ok := prog.sc.vals[name]; !ok || blocked[name] {
			return false
		}
	}
	if prog.add(fitted) != nil {
		return false
	}
	for _, o := range fitted.Outputs {
		delete(blocked, o.Name)
	}
	return true
}

func (f *fitter) after(s expr.Step, schema expr.Schema) (expr.Schema, error) {
	fitted, err := s.Fit(append(expr.Schema(nil), schema...), nil)
	if err != nil {
		return nil, err
	}
	return fitted.ApplyPreview(schema)
}

// preview gives the schema after an unfitted step and blocks its outputs. It gives false when later steps must wait.
func (f *fitter) preview(s expr.Step, schema expr.Schema, blocked map[string]bool) (expr.Schema, bool) {
	shown, err := expr.Preview(s, schema)
	if err != nil || shown.Filter != nil || shown.Invalid == expr.Skip && len(shown.Guards) > 0 {
		return nil, false
	}
	next, err := shown.ApplyPreview(schema)
	if err != nil {
		return nil, false
	}
	for _, o := range shown.Outputs {
		blocked[o.Name] = true
	}
	return next, true
}

// bind finds the columns of the statistics; it gives false when one is not known yet.
func (w *wish) bind(s expr.Step, prog *program, blocked map[string]bool) bool {
	type key struct {
		column string
		per    bool
	}
	accs := map[key]*accumulator{}
	for _, n := range w.needs {
		v, ok := prog.sc.vals[n.Column]
		if !ok || blocked[n.Column] {
			return false
		}
		k := key{n.Column, n.PerPosition}
		if accs[k] == nil {
			accs[k] = newAccumulator(s.Op(), n.Column, v, prog.sc.types[n.Column], n.PerPosition)
		}
		w.accs = append(w.accs, accs[k])
	}
	return true
}

func (w *wish) want() error {
	for i, s := range w.needs {
		if err := w.accs[i].want(s); err != nil {
			return err
		}
	}
	return nil
}

// cut drops the runs behind the last one that collects: what later steps refuse or leave out is for Write.
func (p *program) cut() {
	for len(p.runs) > 0 && p.runs[len(p.runs)-1].before == nil {
		p.runs = p.runs[:len(p.runs)-1]
	}
}

// collect makes the program feed a wish with the training rows that are left after the steps added so far.
func (p *program) collect(w wish, split *splitter) {
	seen := map[*accumulator]bool{}
	var accs []*accumulator
	for _, a := range w.accs {
		if !seen[a] {
			seen[a] = true
			accs = append(accs, a)
		}
	}
	var chosen []bool
	p.runs = append(p.runs, run{before: func(b *batch, alive []bool) error {
		chosen = grow(chosen, b.n)
		for i, ok := range alive {
			chosen[i] = ok && int(split.part[i]) == split.train
		}
		for _, a := range accs {
			if err := a.batch(p.m, chosen); err != nil {
				return err
			}
		}
		return nil
	}})
}
