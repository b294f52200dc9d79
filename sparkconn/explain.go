package sparkconn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Explain gives the SQL of a plan; values that are not fitted yet stand as :min(label). It writes nothing. With a
// Session the source's columns are asked for; without one they are guessed from what the steps want, and types that
// only the source knows are taken for numbers.
func (e Engine) Explain(ctx context.Context, p pipeline.Plan) (string, error) {
	if e.Session == nil {
		return explain(guessSource(p), p)
	}
	var text string
	err := e.run(ctx, p, func(r *run) error {
		if _, err := newExpectations(p.Expect, r.src); err != nil {
			return err
		}
		var err error
		text, err = explain(r.src, p)
		return err
	})
	return text, err
}

func explain(o *source, p pipeline.Plan) (string, error) {
	shown := *o
	if o.view != "" || o.s == nil {
		shown.from = sourceSQL(p.Source)
	}
	c, err := newChain(&shown, p.Split, false, nil)
	if err != nil {
		return "", err
	}
	var wanted []string
	for i := range max(len(p.Steps), len(p.Fitted)) {
		var f expr.Fitted
		if i < len(p.Fitted) {
			f = p.Fitted[i]
		} else {
			needs, err := p.Steps[i].Needs(c.schema)
			if err != nil {
				return "", err
			}
			for _, n := range needs {
				wanted = append(wanted, fmt.Sprintf("%s(%s)", n.Kind, n.Column))
			}
			if f, err = expr.Preview(p.Steps[i], c.schema); err != nil {
				return "", err
			}
		}
		if err := c.add(f, true); err != nil {
			return "", err
		}
	}
	shownPlan := p
	outputs, err := c.roles(&shown, shownPlan, false)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	engine := "spark, without asking a server: the columns of the source are guessed"
	if o.s != nil {
		engine = "spark " + o.s.Version() + " at " + o.s.Remote()
	}
	fmt.Fprintf(&b, "-- engine: %s\n", engine)
	explainExpect(&b, p.Expect)
	if wanted != nil {
		fmt.Fprintf(&b, "-- fit: %s over the training rows\n", strings.Join(wanted, ", "))
	}
	fmt.Fprintf(&b, "-- write: %d shards a part, partitioned by %s and %s, rows sorted by the hash of their key\n", max(1, p.Shards), partColumn, shardColumn)
	b.WriteString(rowsSQL(c, outputs, p.Shards, false))
	b.WriteString("\n")
	return b.String(), nil
}

func explainExpect(b *strings.Builder, e pipeline.Expect) {
	if e.MinRows > 0 {
		fmt.Fprintf(b, "-- expect: at least %d rows\n", e.MinRows)
	}
	for _, name := range sortedKeys(e.MaxNull) {
		fmt.Fprintf(b, "-- expect: %s: at most a share of %v is NULL or NaN\n", name, e.MaxNull[name])
	}
	for _, name := range sortedKeys(e.Labels) {
		fmt.Fprintf(b, "-- expect: %s: %s\n", name, listed(e.Labels[name]))
	}
}

// sourceSQL shows where rows come from.
func sourceSQL(s pipeline.Source) string {
	switch s.Format {
	case pipeline.Table:
		return s.Text
	case pipeline.SQL:
		return "(\n" + strings.TrimRight(s.Text, "; \t\r\n") + "\n)"
	}
	if len(s.Files) == 0 {
		return string(s.Format)
	}
	text := string(s.Format) + ".`" + strings.ReplaceAll(s.Files[0], "`", "``") + "`"
	if n := len(s.Files); n > 1 {
		text += fmt.Sprintf(" /* and %d more files */", n-1)
	}
	return text
}

// guessSource makes up the columns of a source that nobody has looked at: the names that the plan mentions. A column
// whose type is not declared is taken for the first type that the steps accept.
func guessSource(p pipeline.Plan) *source {
	o := &source{src: p.Source, from: sourceSQL(p.Source)}
	for _, name := range sortedKeys(p.Source.Types) {
		o.assume(name, expr.Type{Kind: expr.Kind(p.Source.Types[name])})
	}
	if p.Split.Key != "" {
		o.assume(p.Split.Key, expr.Type{Kind: expr.Int64})
	}
	guesses := []expr.Type{{Kind: expr.Float64}, {Kind: expr.Float32, Width: expr.AnyWidth}, {Kind: expr.String}, {Kind: expr.Int64}, {Kind: expr.Bool}}
	// A step that does not find a column says its name; a step that does not like its type is offered the next one.
	for range 4096 {
		missing := o.firstMissing(p)
		if missing == "" {
			break
		}
		for _, t := range guesses {
			o.assume(missing, t)
			if o.firstMissing(p) != missing && !o.refused(p, missing) {
				break
			}
		}
		if o.refused(p, missing) {
			o.assume(missing, guesses[0])
		}
	}
	return o
}

// assume adds a column, or changes its type.
func (o *source) assume(name string, t expr.Type) {
	id, err := identifier(name)
	if err != nil {
		return
	}
	for i := range o.cols {
		if o.cols[i].Name == name {
			o.cols[i].Type, o.schema[i].Type = t, t
			return
		}
	}
	o.cols = append(o.cols, sourceColumn{Field: expr.Field{Name: name, Type: t}, sql: id})
	o.schema = append(o.schema, expr.Field{Name: name, Type: t})
}

// preview runs the steps over the assumed columns and gives the columns and the error of the first that fails.
func (o *source) preview(p pipeline.Plan) (expr.Schema, error) {
	schema := append(expr.Schema(nil), o.schema...)
	for i := range max(len(p.Steps), len(p.Fitted)) {
		var f expr.Fitted
		var err error
		if i < len(p.Fitted) {
			f = p.Fitted[i]
		} else if f, err = expr.Preview(p.Steps[i], schema); err != nil {
			return schema, err
		}
		if schema, err = f.ApplyPreview(schema); err != nil {
			return schema, err
		}
	}
	return schema, nil
}

// firstMissing gives the first column that the plan reads and nobody makes.
func (o *source) firstMissing(p pipeline.Plan) string {
	schema, err := o.preview(p)
	var absent *expr.ColumnError
	if errors.As(err, &absent) {
		if _, known := o.schema.Lookup(absent.Column); !known {
			return absent.Column
		}
		return ""
	}
	if err != nil {
		return ""
	}
	for _, names := range [][]string{p.Columns.X, p.Columns.Y, {p.Columns.Weight}, p.Columns.Keep} {
		for _, n := range names {
			if _, ok := schema.Lookup(n); !ok && n != "" {
				return n
			}
		}
	}
	return ""
}

// refused reports whether the steps fail for another reason than an absent column while this one has its type.
func (o *source) refused(p pipeline.Plan, column string) bool {
	_, err := o.preview(p)
	var absent *expr.ColumnError
	return err != nil && !errors.As(err, &absent) && strings.Contains(err.Error(), column)
}
