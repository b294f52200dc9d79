package transformers

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dkpipe/pipeline/expr"
)

var (
	nan64 = math.NaN()
	none  = expr.Value{Null: true}
)

func num(v float64) expr.Value { return expr.Value{Num: v} }

func whole(v int64) expr.Value { return expr.Value{Int: v} }

func vector(v ...float64) expr.Value { return expr.Value{Vec: v} }

// measure computes the statistics of one column from rows, by the textbook.
func measure(t *testing.T, in expr.Schema, need []expr.Stat, rows [][]expr.Value) []expr.StatValue {
	t.Helper()
	got := make([]expr.StatValue, len(need))
	for i, s := range need {
		c := 0
		for in[c].Name != s.Column {
			c++
		}
		width := max(in[c].Type.Width, 1)
		values := make([][]float64, width)
		for _, r := range rows {
			v := r[c].Vec
			if v == nil {
				v = []float64{r[c].Num + float64(r[c].Int)}
			}
			for k := range v {
				if !r[c].Null && v[k] == v[k] {
					values[k] = append(values[k], v[k])
				}
			}
		}
		if !s.PerPosition {
			var all []float64
			for _, v := range values {
				all = append(all, v...)
			}
			values = [][]float64{all}
		}
		for _, v := range values {
			got[i].Values = append(got[i].Values, aggregate(t, s.Kind, v))
		}
	}
	return got
}

func aggregate(t *testing.T, kind expr.StatKind, v []float64) float64 {
	n := float64(len(v))
	lo, hi, sum := math.Inf(1), math.Inf(-1), 0.0
	for _, x := range v {
		lo, hi, sum = min(lo, x), max(hi, x), sum+x
	}
	squares := 0.0
	for _, x := range v {
		squares += (x - sum/n) * (x - sum/n)
	}
	if n == 0 {
		return nan64
	}
	switch kind {
	case expr.Min:
		return lo
	case expr.Max:
		return hi
	case expr.Mean:
		return sum / n
	case expr.StddevPop:
		return math.Sqrt(squares / n)
	case expr.StddevSamp:
		return math.Sqrt(squares / (n - 1))
	}
	t.Fatalf("no statistic %s", kind)
	return 0
}

// apply fits on the rows and gives, a row, the output, or what the first broken guard says.
func apply(t *testing.T, op, fields string, in expr.Schema, rows ...[]expr.Value) []string {
	t.Helper()
	s := step(t, op, fields)
	need, err := s.Needs(in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Fit(in, measure(t, in, need, rows))
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, r := range rows {
		out = append(out, oneRow(t, f, in, r))
	}
	return out
}

func oneRow(t *testing.T, f expr.Fitted, in expr.Schema, row []expr.Value) string {
	t.Helper()
	for _, g := range f.Guards {
		v, err := expr.Eval(g.Expr, in, row)
		if err != nil {
			t.Fatal(err)
		}
		if v.Null || v.Int == 0 {
			return string(f.Invalid) + ": " + g.Says
		}
	}
	v, err := expr.Eval(f.Outputs[0].Expr, in, row)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case v.Null:
		return "NULL"
	case v.Vec != nil:
		return fmt.Sprint(v.Vec)
	case v.Kind == expr.String:
		return v.Text
	case v.Kind == expr.Int64 || v.Kind == expr.Bool:
		return fmt.Sprint(v.Int)
	}
	return fmt.Sprint(v.Num)
}

func rows(values ...expr.Value) [][]expr.Value {
	var r [][]expr.Value
	for _, v := range values {
		r = append(r, []expr.Value{v})
	}
	return r
}

func TestResults(t *testing.T) {
	one := func(k expr.Kind, width int) expr.Schema {
		return expr.Schema{{Name: "x", Type: expr.Type{Kind: k, Width: width}}}
	}
	two := expr.Schema{{Name: "a", Type: f64}, {Name: "v", Type: expr.Type{Kind: expr.Float32, Width: 2}}}
	for _, c := range []struct {
		name, op, fields string
		in               expr.Schema
		rows             [][]expr.Value
		want             string
	}{
		{"min_max of a given range does not clip", "min_max", "{input: x, output: y, from: [0, 16]}", one(expr.Float64, 0),
			rows(num(0), num(16), num(4), num(32), num(-16), num(math.Inf(1))), "0 | 1 | 0.25 | 2 | -1 | +Inf"},
		{"min_max refuses NULL and NaN", "min_max", "{input: x, output: y, from: [0, 16]}", one(expr.Float64, 0),
			rows(num(nan64), none), `error: "x" is NULL or NaN | error: "x" is NULL or NaN`},
		{"min_max keeps NULL and NaN", "min_max", "{input: x, output: y, handle_invalid: keep}", one(expr.Float64, 0),
			rows(num(nan64), none, num(1), num(3)), "NaN | NULL | 0 | 1"},
		{"min_max fits each position", "min_max", "{input: x, output: y}", one(expr.Float32, 2),
			rows(vector(0, 10), vector(1, 20), vector(4, 15)), "[0 0] | [0.25 1] | [1 0.5]"},
		{"min_max fits over all positions", "min_max", "{input: x, output: y, per: all}", one(expr.Float32, 2),
			rows(vector(0, 10), vector(5, 20)), "[0 0.5] | [0.25 1]"},
		{"min_max puts a constant position in the middle", "min_max", "{input: x, output: y, to: [-1, 2]}", one(expr.Float64, 2),
			rows(vector(7, 1), vector(7, 2)), "[0.5 -1] | [0.5 2]"},
		{"min_max of a given point is the middle", "min_max", "{input: x, output: y, from: [3, 3]}", one(expr.Float64, 0), rows(num(3), num(100)), "0.5 | 0.5"},
		{"min_max takes subnormal ranges for constants", "min_max", "{input: x, output: y}", one(expr.Float64, 0), rows(num(0), num(5e-324)), "0.5 | 0.5"},
		{"min_max cannot fit an infinite range", "min_max", "{input: x, output: y}", one(expr.Float64, 0), rows(num(0), num(math.Inf(1))),
			`min_max: column "x" ranges from 0 to +Inf`},
		{"min_max names the position that has no value", "min_max", "{input: x, output: y}", one(expr.Float64, 2), rows(vector(1, nan64), vector(2, nan64)),
			`min_max: column "x", position 1 has no value to fit on`},
		{"standard by the population", "standard", "{input: x, output: y}", one(expr.Int64, 0), rows(whole(1), whole(3)), "-1 | 1"},
		{"standard by the sample", "standard", "{input: x, output: y, deviation: sample}", one(expr.Float64, 0), rows(num(1), num(3)), "-0.7071067690849304 | 0.7071067690849304"},
		{"standard of a constant is the difference", "standard", "{input: x, output: y}", one(expr.Float64, 2), rows(vector(5, 1), vector(5, 3)), "[0 -1] | [0 1]"},
		{"standard of one value by the sample", "standard", "{input: x, output: y, deviation: sample}", one(expr.Float64, 0), rows(num(5)), "0"},
		{"standard skips NULL", "standard", "{input: x, output: y, handle_invalid: skip}", one(expr.Float64, 0), rows(num(1), none, num(3)), `-1 | skip: "x" is NULL or NaN | 1`},
		{"one_hot", "one_hot", "{input: x, output: y, size: 3}", one(expr.Int64, 0), rows(whole(0), whole(2), whole(3), whole(-1), none),
			"[1 0 0] | [0 0 1] | error: x is outside 0..2 | error: x is outside 0..2 | error: x is outside 0..2"},
		{"one_hot of floats", "one_hot", "{input: x, output: y, size: 3}", one(expr.Float64, 0), rows(num(1), num(1.5), num(nan64), num(math.Inf(-1))),
			"[0 1 0] | error: x is not a whole number | error: x is outside 0..2 | error: x is outside 0..2"},
		{"one_hot fits its size", "one_hot", "{input: x, output: y}", one(expr.Int64, 0), rows(whole(0), whole(1)), "[1 0] | [0 1]"},
		{"one_hot keeps what is outside as zeros", "one_hot", "{input: x, output: y, size: 2, handle_invalid: keep}", one(expr.Float64, 0),
			rows(num(1), num(7), num(0.5), none, num(nan64)), "[0 1] | [0 0] | [0 0] | [0 0] | [0 0]"},
		{"one_hot cannot fit fractions", "one_hot", "{input: x, output: y}", one(expr.Float64, 0), rows(num(1.5)), `one_hot: column "x" has the greatest value 1.5; one_hot takes whole numbers from 0 on`},
		{"one_hot cannot fit identifiers", "one_hot", "{input: x, output: y}", one(expr.Int64, 0), rows(whole(1 << 40)), `one_hot: column "x" has the greatest value 1.099511627776e+12; a vector has at most 1048576 positions`},
		{"one_hot cannot fit negative values", "one_hot", "{input: x, output: y}", one(expr.Int64, 0), rows(whole(-4)), `one_hot: column "x" has the greatest value -4; one_hot takes whole numbers from 0 on`},
		{"assemble", "assemble", "{inputs: [v, a], output: y}", two, [][]expr.Value{{num(1), vector(2, 3)}, {none, vector(2, 3)}, {num(nan64), vector(2, 3)}, {num(1), none}, {num(1), vector(2, nan64)}},
			`[2 3 1]` + strings.Repeat(` | error: one of "v" … "a" is NULL or NaN`, 4)},
		{"assemble, keep", "assemble", "{inputs: [a, v], output: y, handle_invalid: keep}", two, [][]expr.Value{{none, vector(2, 3)}, {num(1), none}, {num(nan64), vector(0, 1)}}, "[NaN 2 3] | [1 NaN NaN] | [NaN 0 1]"},
		{"cast refuses what is no number", "cast", "{input: x, to: float64}", one(expr.String, 0), rows(expr.Value{Text: " 1.5"}, expr.Value{Text: "abc"}, none), "1.5 | error: x is not a float64 | NULL"},
		{"cast keeps it as NULL", "cast", "{input: x, to: int64, handle_invalid: keep}", one(expr.Float64, 0), rows(num(2.9), num(nan64), none), "2 | NULL | NULL"},
		{"cast to int64 refuses NaN", "cast", "{input: x, to: int64, handle_invalid: skip}", one(expr.Float64, 0), rows(num(-2.9), num(nan64)), "-2 | skip: x is not a int64"},
		{"cast to text", "cast", "{input: x, to: string}", one(expr.Int64, 0), rows(whole(-3)), "-3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(apply(t, c.op, c.fields, c.in, c.rows...), " | "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMinMaxMapsTheBoundsOfItsDataToTheBoundsOfTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Float64Range(-1e30, 1e30).Draw(t, "lo")
		hi := rapid.Float64Range(lo, 2e30).Draw(t, "hi")
		a := rapid.Float64Range(-10, 10).Draw(t, "a")
		s, err := New("min_max", decoder(fmt.Sprintf("{input: x, output: y, to: [%v, %v]}", a, a+1)))
		if err != nil {
			t.Fatal(err)
		}
		in := expr.Schema{{Name: "x", Type: f64}}
		f, err := s.Fit(in, []expr.StatValue{{Values: []float64{lo}}, {Values: []float64{hi}}})
		if err != nil {
			t.Fatal(err)
		}
		at := func(x float64) float32 {
			v, err := expr.Eval(f.Outputs[0].Expr, in, []expr.Value{num(x)})
			if err != nil {
				t.Fatal(err)
			}
			return float32(v.Num)
		}
		if hi-lo < 1e-300 {
			return // a constant
		}
		if at(lo) != float32(a) || math.Abs(float64(at(hi))-(a+1)) > 2e-6 {
			t.Fatalf("%v..%v became %v..%v, want %v..%v", lo, hi, at(lo), at(hi), a, a+1)
		}
	})
}

func TestGlobsTakeColumnsInSourceOrder(t *testing.T) {
	for fields, want := range map[string]string{
		`{columns: "p*"}`:          "p1 p10 p2 pixels",
		`{columns: [label, "*"]}`:  "label id p1 p10 p2 pixels name",
		`{columns: ["p?", "p*"]}`:  "p1 p2 p10 pixels",
		`{columns: ["*e*", "?d"]}`: "pixels label name id",
		`{columns: [p2, p1]}`:      "p2 p1",
		`{columns: id}`:            "id",
	} {
		s := step(t, "select", fields)
		f, err := s.Fit(digits, nil)
		if err != nil || strings.Join(f.Only, " ") != want {
			t.Errorf("%s: %v, %v, want %s", fields, f.Only, err, want)
		}
	}
	odd := append(expr.Schema{{Name: "p*", Type: i64}}, digits...)
	if f, err := step(t, "select", `{columns: "p*"}`).Fit(odd, nil); err != nil || strings.Join(f.Only, " ") != "p*" {
		t.Errorf("a column named like a glob: %v, %v", f.Only, err)
	}
	if _, err := step(t, "select", `{columns: "q*"}`).Needs(digits); kind(err) != "missing_column" || !strings.Contains(err.Error(), `no column matches "q*"`) {
		t.Errorf("%v", err)
	}
	if _, err := step(t, "select", `{columns: [id, id]}`).Needs(digits); kind(err) != "spec" {
		t.Errorf("%v", err)
	}
}

func TestGlobNeedsNoExponentialTime(t *testing.T) {
	if glob(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 5000)) {
		t.Error("matched")
	}
	for _, c := range []struct {
		p, s string
		want bool
	}{{"*", "", true}, {"", "", true}, {"?", "", false}, {"a*b*c", "aXbYbc", true}, {"a*b*c", "aXbYbcd", false}, {"ü?", "üß", true}, {"**", "x", true}} {
		if got := glob(c.p, c.s); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.p, c.s, got)
		}
	}
}

func TestPreviewShowsWhatWillBeFitted(t *testing.T) {
	for _, c := range []struct{ op, fields, want string }{
		{"min_max", "{input: pixels, output: x}", "cast((((pixels - :min(pixels)) * (1 / (:max(pixels) - :min(pixels)))) + 0), float32); is_valid(pixels)"},
		{"standard", "{input: p1, output: x, deviation: sample}", "cast(((p1 - :mean(p1)) * (1 / :stddev_samp(p1))), float32); is_valid(p1)"},
		{"one_hot", "{input: label, output: x}", "one_hot(label, ?); ((label >= 0) and (label <= :max(label)))"},
		{"one_hot", "{input: label, output: x, size: 4}", "one_hot(label, 4); ((label >= 0) and (label <= 3))"},
	} {
		p, err := expr.Preview(step(t, c.op, c.fields), digits)
		if got := encodeTrees(p); err != nil || got != c.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
		}
	}
}

// A chain is shown although the width of an early step is not known yet.
func TestPreviewsChain(t *testing.T) {
	in := digits
	for _, c := range []struct{ op, fields string }{
		{"one_hot", "{input: label, output: hot}"}, {"min_max", "{input: hot, output: scaled}"}, {"standard", "{input: scaled, output: std}"},
		{"assemble", "{inputs: [p1, std], output: x}"}, {"assemble", "{inputs: [x, hot], output: z, handle_invalid: keep}"}, {"cast", "{input: z, to: float64}"}, {"select", "{columns: [z]}"},
	} {
		p, err := expr.Preview(step(t, c.op, c.fields), in)
		if err != nil {
			t.Fatal(err)
		}
		if in, err = p.ApplyPreview(in); err != nil {
			t.Fatal(err)
		}
	}
	if len(in) != 1 || in[0].Type.String() != "float64[?]" {
		t.Errorf("%v", in)
	}
}
