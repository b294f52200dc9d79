package local

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Explain describes the plan: the source with its columns, every step with its formula, the split and what would be
// written. It opens the first file and reads its header and prefix, or footer; it writes nothing.
func (e Engine) Explain(ctx context.Context, p pipeline.Plan) (string, error) {
	var s string
	err := e.table(ctx, p, func(t *Table) error {
		var err error
		s, err = explain(p, t.cols)
		return err
	})
	return s, err
}

// page lines up a word in the margin with text beside it.
type page struct {
	b    strings.Builder
	last string
}

func (w *page) line(margin, format string, a ...any) {
	if margin == w.last {
		margin = ""
	} else {
		w.last = margin
	}
	text := fmt.Sprintf(format, a...)
	w.b.WriteString(strings.TrimRight(fmt.Sprintf("%-9s%s", margin, text), " "))
	w.b.WriteByte('\n')
}

func explain(p pipeline.Plan, cols []field) (string, error) {
	if _, err := newSplitter(p.Split, cols); err != nil {
		return "", err
	}
	if _, err := newExpectations(p.Expect, cols); err != nil {
		return "", err
	}
	w := &page{}
	w.line("engine", "embedded")
	explainSource(w, p.Source, cols)
	explainExpect(w, p.Expect)
	schema, passes, err := explainSteps(w, p, cols)
	if err != nil {
		return "", err
	}
	if passes != "" {
		w.line("fit", "%s", passes)
	}
	if err := explainColumns(w, p.Columns, schema); err != nil {
		return "", err
	}
	explainSplit(w, p)
	return w.b.String(), nil
}

func explainSource(w *page, s pipeline.Source, cols []field) {
	files := s.Files
	more := ""
	if len(files) > 4 {
		files, more = files[:3], fmt.Sprintf(", … %d more", len(files)-3)
	}
	w.line("source", "%s: %s%s", s.Format, strings.Join(files, ", "), more)
	lines := 0
	for i := 0; i < len(cols); lines++ {
		if lines == 40 && len(cols)-i > 1 {
			w.line("source", "  … %d more columns", len(cols)-i)
			return
		}
		j := i + 1
		for j < len(cols) && numbered(cols[i], cols[j]) {
			j++
		}
		what := cols[i].Type.String()
		if cols[i].refused != "" {
			what = "not used: " + cols[i].refused
		}
		if j-i > 2 {
			w.line("source", "  %s … %s: %d columns, %s each", cols[i].Name, cols[j-1].Name, j-i, what)
			i = j
			continue
		}
		w.line("source", "  %s: %s", cols[i].Name, what)
		i++
	}
}

// numbered says whether two columns are of one type and differ in the number at the end of their names.
func numbered(a, b field) bool {
	stem := strings.TrimRight(a.Name, "0123456789")
	return stem != a.Name && stem != b.Name && stem == strings.TrimRight(b.Name, "0123456789") && a.Type == b.Type && a.refused == b.refused
}

func explainExpect(w *page, e pipeline.Expect) {
	if e.MinRows > 0 {
		w.line("expect", "at least %d rows", e.MinRows)
	}
	for _, name := range sortedKeys(e.MaxNull) {
		w.line("expect", "%s: at most a share of %v is NULL or NaN", name, e.MaxNull[name])
	}
	for _, name := range sortedKeys(e.Labels) {
		v := append([]float64(nil), e.Labels[name]...)
		sort.Float64s(v)
		w.line("expect", "%s: %s", name, listed(v))
	}
}

// explainSteps prints the steps and gives the columns after them and a line about the passes of Fit.
func explainSteps(w *page, p pipeline.Plan, cols []field) (expr.Schema, string, error) {
	var schema expr.Schema
	for _, f := range cols {
		if f.refused == "" {
			schema = append(schema, f.Field)
		}
	}
	var wanted []string
	for i := range max(len(p.Steps), len(p.Fitted)) {
		var f expr.Fitted
		var err error
		if i < len(p.Fitted) {
			f = p.Fitted[i]
		} else {
			needs, err := p.Steps[i].Needs(schema)
			if err != nil {
				return nil, "", err
			}
			for _, n := range needs {
				wanted = append(wanted, fmt.Sprintf("%s(%s)", n.Kind, n.Column))
			}
			if f, err = expr.Preview(p.Steps[i], schema); err != nil {
				return nil, "", err
			}
		}
		next, err := f.ApplyPreview(schema)
		if err != nil {
			return nil, "", err
		}
		explainStep(w, i+1, f, schema, next)
		schema = next
	}
	if len(wanted) == 0 {
		return schema, "", nil
	}
	return schema, strings.Join(wanted, ", ") + " over the training rows", nil
}

func explainStep(w *page, n int, f expr.Fitted, before, after expr.Schema) {
	margin := fmt.Sprintf("step %d", n)
	w.line(margin, "%s", f.Op)
	for _, g := range f.Guards {
		what := "an error"
		if f.Invalid == expr.Skip {
			what = "left out"
		}
		w.line(margin, "  a row is %s when %s", what, g.Says)
	}
	if f.Filter != nil {
		w.line(margin, "  keep rows where %s", f.Filter)
	}
	for i, o := range f.Outputs {
		if i == 6 && len(f.Outputs) > 8 {
			w.line(margin, "  … %d more columns", len(f.Outputs)-i)
			break
		}
		t := o.Type
		if g, ok := after.Lookup(o.Name); ok {
			t = g.Type
		}
		w.line(margin, "  %s: %s = %s", o.Name, t, o.Expr)
	}
	if len(f.Only) > 0 {
		w.line(margin, "  columns left: %d of %d", len(after), len(before)+len(f.Outputs))
	}
}

func explainColumns(w *page, c pipeline.Columns, schema expr.Schema) error {
	one := func(role, name string) error {
		f, ok := schema.Lookup(name)
		if !ok {
			return missingRole(role, name, schema)
		}
		w.line("columns", "%s: %s, %s", role, name, f.Type)
		return nil
	}
	roles := []struct {
		role  string
		names []string
	}{{"x", c.X}, {"y", c.Y}, {"weight", nil}, {"keep", c.Keep}}
	if c.Weight != "" {
		roles[2].names = []string{c.Weight}
	}
	for _, r := range roles {
		for _, n := range r.names {
			if err := one(r.role, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func explainSplit(w *page, p pipeline.Plan) {
	if p.Split.Key == "" {
		w.line("split", "no key: every row is a training row")
	} else {
		var parts []string
		for _, x := range p.Split.Parts {
			parts = append(parts, fmt.Sprintf("%s %.6g %%", x.Name, 100*x.Fraction))
		}
		w.line("split", "by the hash of %s, seed %d: %s", p.Split.Key, p.Split.Seed, strings.Join(parts, ", "))
	}
	if p.Shards > 0 {
		w.line("write", "%d shards a part", p.Shards)
	}
}
