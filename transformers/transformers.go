package transformers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// A maker decodes the fields of one transformer, fills in what is left out and checks them.
type maker func(decode func(into any) error) (expr.Step, error)

// table holds every transformer by its name in the spec.
var table = map[string]maker{
	"assemble": newAssemble,
	"cast":     newCast,
	"min_max":  newMinMax,
	"one_hot":  newOneHot,
	"select":   newSelect,
	"standard": newStandard,
}

// New makes the step that a spec's transform entry describes. decode fills a pointer to a struct with yaml tags from
// the entry's fields, strictly; its errors are passed on as they are. All other errors are of kind BadSpec: they
// name the transformer and the field, and the caller, who knows the entry's position, adds that.
func New(op string, decode func(into any) error) (expr.Step, error) {
	m, ok := table[op]
	if !ok {
		message := fmt.Sprintf("unknown transformer %q", op)
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: message + didYouMean(op, Names()), Hint: "known: " + strings.Join(Names(), ", ")}
	}
	return m(decode)
}

// Names lists the transformers, sorted.
func Names() []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func didYouMean(name string, known []string) string {
	if near := expr.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

func badSpec(op, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: op + ": " + fmt.Sprintf(format, args...)}
}

// badData reports statistics that a transformer cannot be fitted with.
func badData(op, hint, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Data, Message: op + ": " + fmt.Sprintf(format, args...), Hint: hint}
}

// required checks that text fields are there: name, value, name, value, ...
func required(op string, fields ...string) error {
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			return badSpec(op, "field %q is missing", fields[i])
		}
	}
	return nil
}

// oneOf checks a field that has a fixed set of values.
func oneOf(op, field, value string, known ...string) error {
	if slices.Contains(known, value) {
		return nil
	}
	message := fmt.Sprintf("%s: %s cannot be %q", op, field, value)
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: message + didYouMean(value, known), Hint: "known: " + strings.Join(known, ", ")}
}

// invalid checks a handle_invalid field.
func invalid(op, value string) error {
	return oneOf(op, "handle_invalid", value, string(expr.Fail), string(expr.Skip), string(expr.Keep))
}

// number gives the type of a column that must hold numbers: a scalar or a vector.
func number(op, column string, in expr.Schema) (expr.Type, error) {
	f, ok := in.Lookup(column)
	if !ok {
		return expr.Type{}, in.Missing(op, column)
	}
	if !f.Type.Numeric() {
		hint := "cast it first: cast: {input: " + column + ", to: float64}"
		if f.Type.Kind == expr.String {
			hint += ", or number its values with string_index"
		}
		return expr.Type{}, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s: column %q is %s, not a number", op, column, f.Type), Hint: hint}
	}
	return f.Type, nil
}

// isValid is the guard of transformers that take numbers only.
func isValid(columns ...string) expr.Guard {
	args := make([]*expr.Node, len(columns))
	for i, c := range columns {
		args[i] = expr.C(c)
	}
	says := fmt.Sprintf("%q is NULL or NaN", columns[0])
	if len(columns) > 1 {
		says = fmt.Sprintf("one of %q … %q is NULL or NaN", columns[0], columns[len(columns)-1])
	}
	return expr.Guard{Expr: expr.Call(expr.IsValid, args...), Says: says}
}

// values gives the answer to statistic i, which must have one value a position (width 0: one value).
func values(op string, got []expr.StatValue, i, width int) ([]float64, error) {
	if i >= len(got) || len(got[i].Values) != max(width, 1) {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%s: the engine's answer to statistic %d does not have %d values", op, i, max(width, 1))}
	}
	return got[i].Values, nil
}

// finish types the outputs and stores the parameters.
func finish(in expr.Schema, f expr.Fitted, params any) (expr.Fitted, error) {
	for i := range f.Outputs {
		t, err := expr.TypeOf(f.Outputs[i].Expr, in)
		if err != nil {
			return expr.Fitted{}, err
		}
		f.Outputs[i].Type = t
	}
	var err error
	if f.Params, err = json.Marshal(params); err != nil {
		return expr.Fitted{}, &pipeline.Error{Kind: pipeline.Internal, Message: f.Op + ": parameters", Err: err}
	}
	return f, nil
}

// at names a position of a vector in a message; scalars have none.
func at(t expr.Type, i int) string {
	if t.Width == 0 {
		return ""
	}
	return fmt.Sprintf(", position %d", i)
}

// literal is a Float64 scalar or vector with the width of t.
func literal(t expr.Type, v []float64) *expr.Node {
	if t.Width == 0 {
		return expr.Num(v[0])
	}
	return expr.Vec(v)
}

// placeholder is the type of a statistic's value: Float64, as wide as its column when there is one value a position.
func placeholder(in expr.Schema, s expr.Stat) expr.Type {
	t := expr.Type{Kind: expr.Float64}
	if f, ok := in.Lookup(s.Column); ok && s.PerPosition {
		t.Width = f.Type.Width
	}
	return t
}
