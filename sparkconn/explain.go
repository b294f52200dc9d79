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
	err := e.run(ctx, p, func(ctx context.Context, r *run) error {
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
	var wanted, open []string
	for i := range max(len(p.Steps), len(p.Fitted)) {
		var f expr.Fitted
		if i < len(p.Fitted) {
			f = p.Fitted[i]
		} else {
			needs, err := p.Steps[i].Needs(c.schema)
			if err == nil {
				f, err = expr.Preview(p.Steps[i], c.schema)
			}
			if err != nil && o.s == nil { // a glob, for example, needs the names that only the source knows
				open = append(open, fmt.Sprintf("-- step %d, %s, depends on the source's columns: %v", i+1, p.Steps[i].Op(), err))
				if f, ok := o.made[i]; ok {
					err = c.push(append(c.schema[:len(c.schema):len(c.schema)], f), map[string]string{f.Name: ":" + p.Steps[i].Op()}, stateColumn)
					if err != nil {
						return "", err
					}
				}
				continue
			}
			if err != nil {
				return "", err
			}
			for _, n := range needs {
				wanted = append(wanted, fmt.Sprintf("%s(%s)", n.Kind, n.Column))
			}
		}
		if err := c.add(f, true); err != nil {
			return "", err
		}
	}
	outputs, err := c.roles(&shown, p, false)
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
	for _, line := range open {
		b.WriteString(line + "\n")
	}
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
// whose type is not declared is taken for the first type that the steps accept. A step that cannot be shown without
// the source, for example because its input is a glob, is taken to make the first column that is missing behind it.
func guessSource(p pipeline.Plan) *source {
	o := &source{src: p.Source, from: sourceSQL(p.Source), made: map[int]expr.Field{}}
	number := expr.Type{Kind: expr.Float64}
	for _, name := range sortedKeys(p.Source.Types) {
		o.assume(name, expr.Type{Kind: expr.Kind(p.Source.Types[name])})
	}
	for _, names := range [][]string{sortedKeys(p.Expect.MaxNull), sortedKeys(p.Expect.Labels)} {
		for _, name := range names {
			if _, ok := o.schema.Lookup(name); !ok {
				o.assume(name, number)
			}
		}
	}
	if _, ok := o.schema.Lookup(p.Split.Key); !ok && p.Split.Key != "" {
		o.assume(p.Split.Key, expr.Type{Kind: expr.Int64})
	}
	guesses := []expr.Type{number, {Kind: expr.Float32, Width: expr.AnyWidth}, {Kind: expr.String}, {Kind: expr.Int64}, {Kind: expr.Bool}}
	for range 4096 {
		missing, behind := o.firstMissing(p)
		if missing == "" {
			break
		}
		if behind >= 0 {
			o.made[behind] = expr.Field{Name: missing, Type: guesses[1]}
			continue
		}
		for _, t := range guesses {
			o.assume(missing, t)
			if !o.refused(p, missing) {
				break
			}
		}
		if o.refused(p, missing) {
			o.assume(missing, number)
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

// preview runs the steps over the assumed columns. It gives the columns and the last step that cannot be shown and
// makes nothing yet, or -1; then the error of the first step that lacks a column, or else of the last that fails.
func (o *source) preview(p pipeline.Plan) (schema expr.Schema, closed int, last error) {
	schema, closed = append(schema, o.schema...), -1
	for i := range max(len(p.Steps), len(p.Fitted)) {
		var f expr.Fitted
		var err error
		if i < len(p.Fitted) {
			f = p.Fitted[i]
		} else {
			f, err = expr.Preview(p.Steps[i], schema)
		}
		if err == nil {
			var next expr.Schema
			if next, err = f.ApplyPreview(schema); err == nil {
				schema = next
				continue
			}
		}
		var absent *expr.ColumnError
		if errors.As(err, &absent) {
			return schema, closed, err
		}
		last = err
		if made, ok := o.made[i]; ok {
			schema = append(schema, made)
		} else {
			closed = i
		}
	}
	return schema, closed, last
}

// firstMissing gives the first column that the plan reads and nobody makes, and the step that may make it, or -1.
func (o *source) firstMissing(p pipeline.Plan) (string, int) {
	schema, closed, err := o.preview(p)
	var absent *expr.ColumnError
	if errors.As(err, &absent) {
		if _, known := schema.Lookup(absent.Column); !known {
			return absent.Column, closed
		}
		return "", -1
	}
	for _, names := range [][]string{p.Columns.X, p.Columns.Y, {p.Columns.Weight}} {
		for _, n := range names {
			if _, ok := schema.Lookup(n); !ok && n != "" {
				return n, closed
			}
		}
	}
	for _, n := range p.Columns.Keep {
		if _, ok := schema.Lookup(n); !ok {
			return n, -1
		}
	}
	return "", -1
}

// refused reports whether the steps fail for another reason than an absent column while this one has its type.
func (o *source) refused(p pipeline.Plan, column string) bool {
	_, _, err := o.preview(p)
	var absent *expr.ColumnError
	return err != nil && !errors.As(err, &absent) && strings.Contains(err.Error(), column)
}
