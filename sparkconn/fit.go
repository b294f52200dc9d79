package sparkconn

import (
	"context"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Fit checks p.Expect, computes the statistics that the steps need from the training rows, and gives the plan with
// its fitted steps. Scalar statistics, expectations and checks of a pass are one aggregate; statistics by position,
// distinct values and quantiles are queries of their own. Without statistics and expectations no row is read.
func (e Engine) Fit(ctx context.Context, p pipeline.Plan) (pipeline.Plan, error) {
	err := e.run(ctx, p, func(ctx context.Context, r *run) error {
		f := &fitter{r: r, steps: p.Steps, got: make([][]expr.StatValue, len(p.Steps))}
		if err := f.fit(ctx); err != nil {
			return err
		}
		p.Fitted = f.fitted
		return nil
	})
	return p, err
}

// fitter fits steps in passes over the source.
type fitter struct {
	r      *run
	steps  []expr.Step
	fitted []expr.Fitted
	got    [][]expr.StatValue // answers of earlier passes, a list a step; nil: not asked yet
}

// wish is what one step wants from a pass.
type wish struct {
	step  int
	needs []expr.Stat
}

func (f *fitter) fit(ctx context.Context) error {
	expect, err := newExpectations(f.r.p.Expect, f.r.src)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		c, err := f.r.chain(f.fitted, false, expect.extras(first))
		if err != nil {
			return err
		}
		wishes, err := f.advance(c)
		if err != nil {
			return err
		}
		if len(wishes) == 0 && !(first && expect.any()) {
			break
		}
		if err := f.pass(ctx, c, wishes, expect, first); err != nil {
			return err
		}
	}
	if f.fitted == nil {
		f.fitted = []expr.Fitted{}
	}
	return nil
}

// advance fits the steps that can be fitted, adds them to the chain, and gives the wishes that a pass over the chain
// can serve. A step behind an unfitted one can be served when it reads nothing that the steps between make, and these
// leave no rows out.
func (f *fitter) advance(c *chain) ([]wish, error) {
	for i := len(f.fitted); i < len(f.steps); i++ {
		needs, err := f.steps[i].Needs(c.schema)
		if err != nil {
			return nil, err
		}
		if len(needs) > 0 && f.got[i] == nil {
			break
		}
		fitted, err := f.steps[i].Fit(append(expr.Schema(nil), c.schema...), f.got[i])
		if err != nil {
			return nil, err
		}
		if err := c.add(fitted, false); err != nil {
			return nil, err
		}
		f.fitted = append(f.fitted, fitted)
	}
	var wishes []wish
	schema, touched := c.schema, map[string]bool{}
	for i := len(f.fitted); i < len(f.steps); i++ {
		needs, err := f.steps[i].Needs(schema)
		if err != nil {
			if len(wishes) == 0 {
				return nil, err
			}
			break // it may succeed once the steps before are fitted
		}
		if len(needs) > 0 && f.got[i] == nil && measurable(needs, c.schema, touched) {
			wishes = append(wishes, wish{i, needs})
		}
		shown, err := expr.Preview(f.steps[i], schema)
		if err != nil || shown.Filter != nil || shown.Invalid == expr.Skip && len(shown.Guards) > 0 {
			break
		}
		if schema, err = shown.ApplyPreview(schema); err != nil {
			break
		}
		for _, o := range shown.Outputs {
			touched[o.Name] = true
		}
	}
	return wishes, nil
}

// measurable reports whether the statistics are about columns that the chain has and no unfitted step makes anew.
func measurable(needs []expr.Stat, in expr.Schema, touched map[string]bool) bool {
	for _, n := range needs {
		if _, ok := in.Lookup(n.Column); !ok || touched[n.Column] {
			return false
		}
	}
	return true
}

// pass answers wishes, checks the rows and, in the first pass, the expectations.
func (f *fitter) pass(ctx context.Context, c *chain, wishes []wish, expect *expectations, first bool) error {
	agg := &aggregate{c: c}
	rows, broken := agg.item("count(*)"), -1
	if first {
		expect.items(agg)
	}
	if len(wishes) > 0 { // else Write finds broken rows, and expectations need not pay for columns that only checks read
		broken = agg.item("min(CASE WHEN " + stateColumn + " > 0 THEN " + stateColumn + " END)")
	}
	asked := map[statKey]*stat{}
	for _, w := range wishes {
		for _, n := range w.needs {
			if err := agg.want(asked, f.steps[w.step].Op(), n); err != nil {
				return err
			}
		}
	}
	t, err := f.r.table(ctx, "statistics", c.with("SELECT "+strings.Join(agg.items, ", ")+" FROM "+c.last()))
	if err != nil {
		return err
	}
	if t.rows != 1 {
		return internalErr("statistics: %d rows instead of one", t.rows)
	}
	agg.row = t
	if agg.row.cols[rows].ints[0] == 0 {
		return f.r.empty()
	}
	if first {
		if err := expect.finish(agg, rows); err != nil {
			return err
		}
	}
	if broken >= 0 && !t.cols[broken].null[0] {
		return f.r.blame(ctx, int(t.cols[broken].ints[0]), func(withFile bool) (*chain, error) {
			return f.r.chain(f.fitted, withFile, expect.extras(first))
		})
	}
	for _, s := range agg.stats {
		if err := s.ask(ctx, f.r, agg); err != nil {
			return err
		}
	}
	for _, w := range wishes {
		values := make([]expr.StatValue, len(w.needs))
		for i, n := range w.needs {
			values[i] = asked[statKey{n.Column, n.PerPosition}].answer(n, agg)
		}
		f.got[w.step] = values
	}
	return nil
}

// empty is the error of a source without rows.
func (r *run) empty() error { return r.src.empty() }
