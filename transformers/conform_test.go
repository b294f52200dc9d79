package transformers

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"dkpipe/pipeline/expr"
)

var (
	i64  = expr.Type{Kind: expr.Int64}
	f64  = expr.Type{Kind: expr.Float64}
	text = expr.Type{Kind: expr.String}
	vec3 = expr.Type{Kind: expr.Float32, Width: 3}
)

var digits = expr.Schema{{Name: "id", Type: i64}, {Name: "p1", Type: f64}, {Name: "p10", Type: i64}, {Name: "p2", Type: f64},
	{Name: "pixels", Type: vec3}, {Name: "label", Type: i64}, {Name: "name", Type: text}}

// examples has at least one entry for every transformer of the table, over the columns of digits.
var examples = []struct {
	op, fields string
	input      string // a column that must be there
	takesText  bool
	out        string // the columns that come out
}{
	{op: "assemble", fields: `{inputs: [p1, p2], output: x}`, input: "p1", out: "x float32[2]"},
	{op: "assemble", fields: `{inputs: [pixels, "p?", id], output: x, handle_invalid: keep}`, input: "pixels", out: "x float32[6]"},
	{op: "min_max", fields: `{input: pixels, output: x, from: [0, 16]}`, input: "pixels", out: "x float32[3]"},
	{op: "min_max", fields: `{input: pixels, output: x}`, input: "pixels", out: "x float32[3]"},
	{op: "min_max", fields: `{input: p10, output: p10, to: [-1, 1]}`, input: "p10", out: "p10 float32"},
	{op: "min_max", fields: `{input: pixels, output: x, per: all, handle_invalid: keep}`, input: "pixels", out: "x float32[3]"},
	{op: "standard", fields: `{input: pixels, output: x}`, input: "pixels", out: "x float32[3]"},
	{op: "standard", fields: `{input: p1, output: x, deviation: sample, handle_invalid: skip}`, input: "p1", out: "x float32"},
	{op: "one_hot", fields: `{input: label, output: x, size: 10}`, input: "label", out: "x float32[10]"},
	{op: "one_hot", fields: `{input: p1, output: x, handle_invalid: skip}`, input: "p1", out: "x float32[4]"},
	{op: "one_hot", fields: `{input: label, output: x, handle_invalid: keep}`, input: "label", out: "x float32[4]"},
	{op: "cast", fields: `{input: name, to: float64}`, input: "name", takesText: true, out: "name float64"},
	{op: "cast", fields: `{input: p1, output: x, to: int64, handle_invalid: keep}`, input: "p1", takesText: true, out: "x int64"},
	{op: "select", fields: `{columns: [label, "p*"]}`, input: "label", takesText: true, out: "label int64, p1 float64, p10 int64, p2 float64, pixels float32[3]"},
}

func decoder(fields string) func(any) error {
	return func(into any) error { return yaml.UnmarshalWithOptions([]byte(fields), into, yaml.Strict()) }
}

func step(t *testing.T, op, fields string) expr.Step {
	t.Helper()
	s, err := New(op, decoder(fields))
	if err != nil {
		t.Fatalf("%s: %s: %v", op, fields, err)
	}
	return s
}

// answers makes statistics up: minimum 0, maximum 3, mean 1, deviation 2.
func answers(in expr.Schema, need []expr.Stat) []expr.StatValue {
	value := map[expr.StatKind]float64{expr.Min: 0, expr.Max: 3, expr.Mean: 1, expr.StddevPop: 2, expr.StddevSamp: 2}
	got := make([]expr.StatValue, len(need))
	for i, s := range need {
		width := 1
		if f, _ := in.Lookup(s.Column); s.PerPosition {
			width = f.Type.Width
		}
		for range width {
			got[i].Values = append(got[i].Values, value[s.Kind])
		}
	}
	return got
}

func kind(err error) string {
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		return k.ErrorKind()
	}
	return ""
}

func without(in expr.Schema, name string) expr.Schema {
	var out expr.Schema
	for _, f := range in {
		if f.Name != name {
			out = append(out, f)
		}
	}
	return out
}

func TestEveryTransformerHasAnExample(t *testing.T) {
	have := map[string]bool{}
	for _, e := range examples {
		have[e.op] = true
	}
	for _, name := range Names() {
		if !have[name] {
			t.Errorf("%s is in the table of New and has no example here", name)
		}
	}
}

func TestEveryTransformerKeepsTheCommonPromises(t *testing.T) {
	for _, e := range examples {
		t.Run(e.op+" "+e.fields, func(t *testing.T) {
			s := step(t, e.op, e.fields)
			if s.Op() != e.op {
				t.Errorf("Op is %q", s.Op())
			}
			in := append(expr.Schema(nil), digits...)
			need, err := s.Needs(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range need {
				if f, ok := in.Lookup(n.Column); !ok || n.PerPosition && f.Type.Width == 0 {
					t.Errorf("asks for %+v", n)
				}
			}
			f, err := s.Fit(in, answers(in, need))
			if err != nil {
				t.Fatal(err)
			}
			again, err := s.Fit(in, answers(in, need))
			if err != nil || string(encode(t, f)) != string(encode(t, again)) || !reflect.DeepEqual(in, digits) {
				t.Errorf("a second Fit gives another result (%v), or Fit changed its argument", err)
			}
			if f.Op != e.op || len(f.Inputs) == 0 || !json.Valid(f.Params) {
				t.Errorf("op %q, inputs %v, params %s", f.Op, f.Inputs, f.Params)
			}
			out, err := f.Apply(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := changed(in, out, f); got != e.out {
				t.Errorf("out: %s, want %s", got, e.out)
			}
			reads(t, f)
			roundTrip(t, f, in, out)
			preview(t, s, f, in, len(need) == 0)
			refusals(t, s, e.input, e.takesText, need)
		})
	}
}

func encode(t *testing.T, f expr.Fitted) []byte {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// changed lists the columns that a transformer made, or kept when it selects.
func changed(in, out expr.Schema, f expr.Fitted) string {
	var s []string
	for _, c := range out {
		if old, ok := in.Lookup(c.Name); len(f.Only) > 0 || !ok || old != c {
			s = append(s, c.Name+" "+c.Type.String())
		}
	}
	return strings.Join(s, ", ")
}

// reads checks that Inputs names every column that the trees read.
func reads(t *testing.T, f expr.Fitted) {
	named := map[string]bool{}
	for _, c := range f.Inputs {
		named[c] = true
	}
	trees := []*expr.Node{}
	for _, o := range f.Outputs {
		trees = append(trees, o.Expr)
	}
	for _, g := range f.Guards {
		trees = append(trees, g.Expr)
		if g.Says == "" {
			t.Error("a guard says nothing")
		}
	}
	for _, n := range trees {
		for _, c := range expr.Columns(n) {
			if !named[c] {
				t.Errorf("%s reads %s, which is not among the inputs", n, c)
			}
		}
	}
}

func roundTrip(t *testing.T, f expr.Fitted, in, out expr.Schema) {
	t.Helper()
	data := encode(t, f)
	var back expr.Fitted
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if string(encode(t, back)) != string(data) {
		t.Errorf("JSON %s became %s", data, encode(t, back))
	}
	if got, err := back.Apply(in); err != nil || !reflect.DeepEqual(got, out) {
		t.Errorf("after JSON: %v, %v", got, err)
	}
}

func preview(t *testing.T, s expr.Step, f expr.Fitted, in expr.Schema, fixed bool) {
	t.Helper()
	p, err := expr.Preview(s, in)
	if err != nil {
		t.Fatal(err)
	}
	if fixed && string(encode(t, p)) != string(encode(t, f)) {
		t.Errorf("needs nothing, and is shown as %s", encode(t, p))
	}
	out, err := p.ApplyPreview(in)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := f.Apply(in); err != nil || len(want) != len(out) {
		t.Errorf("preview gives columns %v, fitted %v", out, want)
	}
	if shown := len(p.Outputs) > 0 && strings.Contains(encodeTrees(p), ":"); shown == fixed && len(f.Outputs) > 0 && f.Invalid != expr.Keep {
		t.Errorf("placeholders shown: %v, needs statistics: %v: %s", shown, !fixed, encodeTrees(p))
	}
}

func encodeTrees(f expr.Fitted) string {
	var s []string
	for _, o := range f.Outputs {
		s = append(s, o.Expr.String())
	}
	for _, g := range f.Guards {
		s = append(s, g.Expr.String())
	}
	return strings.Join(s, "; ")
}

func refusals(t *testing.T, s expr.Step, input string, takesText bool, need []expr.Stat) {
	t.Helper()
	near := append(without(digits, input), expr.Field{Name: strings.ToUpper(input), Type: i64})
	for _, f := range []func() error{
		func() error { _, err := s.Needs(near); return err },
		func() error { _, err := s.Fit(near, answers(digits, need)); return err },
		func() error { _, err := expr.Preview(s, near); return err },
	} {
		var missing *expr.ColumnError
		if err := f(); !errors.As(err, &missing) || missing.Column != input || missing.Near != strings.ToUpper(input) || missing.Op != s.Op() {
			t.Errorf("without %s: %v", input, err)
		}
	}
	if !takesText {
		wrong := append(without(digits, input), expr.Field{Name: input, Type: text})
		if _, err := s.Needs(wrong); kind(err) != "spec" || !strings.Contains(err.Error(), input) || !strings.Contains(err.Error(), s.Op()) {
			t.Errorf("%s as text: %v", input, err)
		}
	}
	if len(need) > 0 {
		if _, err := s.Fit(digits, nil); kind(err) != "internal" {
			t.Errorf("Fit without statistics: %v", err)
		}
		empty := answers(digits, need)
		for _, v := range empty {
			for i := range v.Values {
				v.Values[i] = math.NaN()
			}
		}
		if _, err := s.Fit(digits, empty); kind(err) != "data" || !strings.Contains(err.Error(), input) {
			t.Errorf("Fit on no values: %v", err)
		}
	}
}

func TestEveryTransformerRefusesBadFields(t *testing.T) {
	for _, name := range Names() {
		if _, err := New(name, decoder("{}")); kind(err) != "spec" || !strings.Contains(err.Error(), "is missing") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s without fields: %v", name, err)
		}
		if _, err := New(name, decoder("{inputt: x}")); err == nil || !strings.Contains(err.Error(), "inputt") {
			t.Errorf("%s with an unknown field: %v", name, err)
		}
	}
	for _, c := range []struct{ op, fields, says string }{
		{"min_mx", "{}", `unknown transformer "min_mx"; did you mean "min_max"?`},
		{"pca", "{}", `unknown transformer "pca"`},
		{"assemble", "{inputs: [1], output: x}", "inputs: 1 is not a column name"},
		{"assemble", "{inputs: {a: b}, output: x}", "inputs: "},
		{"assemble", "{inputs: [], output: x}", `field "inputs" is missing`},
		{"assemble", "{inputs: a, output: x, handle_invalid: skipp}", `handle_invalid cannot be "skipp"; did you mean "skip"?`},
		{"min_max", "{input: a, output: x, from: [1]}", "from: [1] is not of the form [low, high]"},
		{"min_max", "{input: a, output: x, from: [2, 1]}", "from: [2 1] does not rise"},
		{"min_max", "{input: a, output: x, from: [.nan, 1]}", "from: [NaN 1] does not rise"},
		{"min_max", "{input: a, output: x, from: [0, .inf]}", "does not rise"},
		{"min_max", "{input: a, output: x, to: [1, 1]}", "to: [1 1] is empty"},
		{"min_max", "{input: a, output: x, per: row}", `per cannot be "row"`},
		{"standard", "{input: a, output: x, deviation: std}", `deviation cannot be "std"`},
		{"one_hot", "{input: a, output: x, size: 0}", "size: 0 is outside 1.."},
		{"one_hot", "{input: a, output: x, size: 100000000}", "size: 100000000 is outside 1.."},
		{"one_hot", "{input: a}", `field "output" is missing`},
		{"cast", "{input: a, to: double}", `to cannot be "double"`},
		{"select", "{columns: 7}", "columns: 7 is neither"},
	} {
		if _, err := New(c.op, decoder(c.fields)); kind(err) != "spec" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %v, want %q", c.op, c.fields, err, c.says)
		}
	}
}
