package sparkconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// plainStep is a step without statistics.
type plainStep struct{ f expr.Fitted }

func (s plainStep) Op() string                                             { return s.f.Op }
func (s plainStep) Needs(expr.Schema) ([]expr.Stat, error)                 { return nil, nil }
func (s plainStep) Fit(expr.Schema, []expr.StatValue) (expr.Fitted, error) { return s.f, nil }

// statStep asks for statistics and shows what it got; it changes nothing.
type statStep struct {
	needs []expr.Stat
	got   *[]expr.StatValue
}

func (statStep) Op() string                               { return "stats" }
func (s statStep) Needs(expr.Schema) ([]expr.Stat, error) { return s.needs, nil }
func (s statStep) Fit(_ expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	*s.got = got
	return expr.Fitted{Op: "stats", Params: json.RawMessage("{}")}, nil
}
func (statStep) Preview(expr.Schema) (expr.Fitted, error) { return expr.Fitted{Op: "stats"}, nil }

// csvPlan is a plan over a CSV text in a file, without steps; x is its input.
func csvPlan(t *testing.T, text string) pipeline.Plan {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return pipeline.Plan{
		Source:  pipeline.Source{Format: pipeline.CSV, Files: []string{name}},
		Columns: pipeline.Columns{X: []string{"x"}, Keep: []string{"id"}},
		Split:   pipeline.Split{Key: "id", Seed: 1, Parts: []pipeline.Part{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}},
		Shards:  3,
	}
}

// sqlOver is a plan over a query.
func sqlOver(query string) pipeline.Plan {
	return pipeline.Plan{Source: pipeline.Source{Format: pipeline.SQL, Text: query}, Columns: pipeline.Columns{X: []string{"x"}, Keep: []string{"id"}},
		Split: pipeline.Split{Key: "id", Seed: 1, Parts: []pipeline.Part{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}}, Shards: 3}
}

// inTrain says whether a row is a training row of these plans.
func inTrain(id int64) bool {
	return expr.Pmod64(expr.HashInt64(1, expr.HashInt64(id, expr.HashSeed)), hashRange) < 800_000
}

// wantError fails unless err is of the kind and its message has all the words.
func wantError(t *testing.T, err error, kind pipeline.Kind, words ...string) {
	t.Helper()
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error %v of kind %q, want kind %q", err, kindOf(err), kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
	if e.Hint == "" {
		t.Errorf("error %q has no next step", err)
	}
}

func TestBadRowsAreNamed(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	guard := func(rule expr.Invalid) expr.Step {
		return plainStep{expr.Fitted{Op: "assemble", Params: json.RawMessage("{}"), Inputs: []string{"a", "b"}, Invalid: rule,
			Outputs: []expr.Column{{Name: "x", Type: expr.Type{Kind: expr.Float32, Width: 2}, Expr: expr.To(expr.Float32, expr.Call(expr.Vector, expr.C("a"), expr.C("b")))}},
			Guards:  []expr.Guard{{Expr: expr.Call(expr.IsValid, expr.C("a"), expr.C("b")), Says: "a value is NULL or NaN"}}}}
	}
	write := func(t *testing.T, p pipeline.Plan) (pipeline.Written, error) {
		fitted, err := e.Fit(t.Context(), p)
		if err != nil {
			return pipeline.Written{}, err
		}
		return e.Write(t.Context(), fitted, pipeline.Stage{URI: t.TempDir()})
	}
	t.Run("a value that a step cannot take", func(t *testing.T) {
		p := csvPlan(t, "id,a,b\n1,1,2\n2,1.5,\n3,4,5\n")
		p.Steps = []expr.Step{guard(expr.Fail)}
		_, err := write(t, p)
		wantError(t, err, pipeline.Data, "rows.csv, the row with id 2", "assemble", `column "b" is NULL`)
	})
	t.Run("handle_invalid: skip", func(t *testing.T) {
		p := csvPlan(t, "id,a,b\n1,1,2\n2,1.5,\n3,4,nan\n4,1,1\n")
		p.Steps = []expr.Step{guard(expr.Skip)}
		w, err := write(t, p)
		if err != nil || w.Skipped != 2 {
			t.Errorf("%d rows skipped, error %v; want 2", w.Skipped, err)
		}
	})
	t.Run("all rows skipped", func(t *testing.T) {
		p := csvPlan(t, "id,a,b\n1,,2\n2,1.5,\n")
		p.Source.Types = map[string]string{"a": "float64", "b": "float64"}
		p.Steps = []expr.Step{guard(expr.Skip)}
		_, err := write(t, p)
		wantError(t, err, pipeline.Data, "none of the 2 rows is left")
	})
	t.Run("a field that is not of its declared type", func(t *testing.T) {
		for field, kind := range map[string]string{"1d": "float64", "0x1p3": "float64", "1e999": "float64", "1.5": "int64", "9223372036854775808": "int64", "yes": "bool"} {
			p := csvPlan(t, "id,x\n1,\n2,"+field+"\n")
			p.Source.Types = map[string]string{"id": "int64", "x": kind}
			p.Columns.X = []string{"id"}
			p.Columns.Keep = []string{"x"}
			_, err := write(t, p)
			wantError(t, err, pipeline.Data, "rows.csv, the row with id 2", `column "x"`, field, "no "+kind)
		}
	})
	t.Run("a finished column with NULL or infinity", func(t *testing.T) {
		for field, word := range map[string]string{"": "is NULL", "inf": "is Infinity", "1e300": "is 1.0E300", "3.4028235677973366e38": "is 3.4", "-3.4028235677973366e38": "is -3.4"} {
			p := csvPlan(t, "id,x\n1,2.5\n2,"+field+"\n3,0.5\n")
			_, err := write(t, p)
			wantError(t, err, pipeline.Data, "the row with id 2", "columns.x", `"x"`, word)
		}
	})
	t.Run("the greatest number that a float32 holds", func(t *testing.T) {
		p := csvPlan(t, "id,x\n1,3.4028235677973362e38\n2,-3.4028235677973362e38\n")
		if _, err := write(t, p); err != nil {
			t.Error(err)
		}
	})
	t.Run("a negative weight", func(t *testing.T) {
		p := csvPlan(t, "id,x,w\n1,2.5,1\n2,1,-0.5\n")
		p.Columns.Weight = "w"
		_, err := write(t, p)
		wantError(t, err, pipeline.Data, "the row with id 2", "columns.weight", "-0.5")
	})
	t.Run("a vector of another length", func(t *testing.T) {
		p := sqlOver("SELECT id, array_repeat(CAST(id AS FLOAT), if(id = 5, 2, 3)) AS x FROM range(10)")
		_, err := write(t, p)
		wantError(t, err, pipeline.Data, "the row with id 5", `column "x"`, "2 elements", "3")
	})
	t.Run("a row with too few fields", func(t *testing.T) {
		p := csvPlan(t, "id,x,y\n1,2.5,1\n2,1\n")
		_, err := write(t, p)
		wantError(t, err, pipeline.Data, "2,1")
	})
}

// TestExpectationsReadNoMoreThanTheirColumns: without statistics to compute, what only checks and steps read is left to
// Write.
func TestExpectationsReadNoMoreThanTheirColumns(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	p := sqlOver("SELECT id, id % 3 AS label, CAST(raise_error('x was read') AS DOUBLE) AS x FROM range(30)")
	p.Expect = pipeline.Expect{MinRows: 30, MaxNull: map[string]float64{"label": 0}, Labels: map[string][]float64{"label": {0, 1, 2}}}
	fitted, err := e.Fit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(t.Context(), fitted, pipeline.Stage{URI: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "x was read") {
		t.Errorf("Write: error %v, want that of x", err)
	}
}

func TestNullInsideAVectorIsNaN(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	for name, values := range map[string]string{
		"float":  "array(1F, NULL, 3F), array(CAST('NaN' AS FLOAT), 2F, NULL), array(4F, 5F, 6F), array(CAST('NaN' AS FLOAT), 2F, 3F), CAST(NULL AS ARRAY<FLOAT>)",
		"double": "array(1D, NULL, 3D), array(CAST('NaN' AS DOUBLE), 2D, NULL), array(4D, 5D, 6D), array(CAST('NaN' AS DOUBLE), 2D, 3D), CAST(NULL AS ARRAY<DOUBLE>)",
		"int":    "array(1, NULL, 3), array(NULL, 2, NULL), array(4, 5, 6), array(NULL, 2, 3), CAST(NULL AS ARRAY<INT>)",
	} {
		t.Run(name, func(t *testing.T) {
			p := sqlOver("SELECT CAST(pos AS BIGINT) AS id, x, 1F AS one FROM (SELECT posexplode(array(" + values + ")) AS (pos, x))")
			p.Columns = pipeline.Columns{X: []string{"one"}, Keep: []string{"id", "first", "second", "third"}}
			p.Split, p.Shards = pipeline.Split{}, 1
			f := expr.Fitted{Op: "parts", Params: json.RawMessage("{}"), Inputs: []string{"x"}}
			for i, name := range []string{"first", "second", "third"} {
				f.Outputs = append(f.Outputs, expr.Column{Name: name, Type: expr.Type{Kind: expr.Float64}, Expr: expr.To(expr.Float64, expr.Element(expr.C("x"), i))})
			}
			p.Steps = []expr.Step{plainStep{f}}
			fitted, err := e.Fit(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			stage, read := stageIn(t, []string{"train"})
			w, err := e.Write(t.Context(), fitted, stage)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := read(w)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]string, 5)
			for _, r := range rows {
				got[r.Keep[0].(int64)] = fmt.Sprint(r.Keep[1:]...)
			}
			if want := "[1 NaN 3 NaN 2 NaN 4 5 6 NaN 2 3 <nil> <nil> <nil>]"; fmt.Sprint(got) != want {
				t.Errorf("rows are %v, want %v", got, want)
			}
		})
	}
}

func TestFieldsOfTextFilesAreReadAsTheEmbeddedEngineReadsThem(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	p := csvPlan(t, "id,x,s,b,f\n1, 7,\"\",TRUE,+1.\n2,8\t,,false,-.5e1\n3,-9,\"a,\"\"b\"\"\",,NaN\n4,0,\" \\n ${x}\",True,-Infinity\n")
	p.Split = pipeline.Split{}
	p.Shards = 1
	p.Columns.Keep = []string{"id", "s", "b", "f"}
	fitted, err := e.Fit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	stage, read := stageIn(t, []string{"train"})
	w, err := e.Write(t.Context(), fitted, stage)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := read(w)
	if err != nil {
		t.Fatal(err)
	}
	got := map[any]string{}
	for _, r := range rows {
		got[r.Keep[0]] = fmt.Sprintf("%v %q %v %v", r.Vectors[0], r.Keep[1], r.Keep[2], r.Keep[3])
	}
	want := map[any]string{int64(1): `[7] "" 1 1`, int64(2): `[8] %!q(<nil>) 0 -5`, int64(3): `[-9] "a,\"b\"" <nil> NaN`, int64(4): `[0] " \\n ${x}" 1 -Inf`}
	for id, s := range want {
		if got[id] != s {
			t.Errorf("row %v is %s, want %s", id, got[id], s)
		}
	}
}

func TestRowsStandInTheOrderOfTheirHash(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	p := sqlOver("SELECT id, CAST(id AS FLOAT) AS x, array(CAST(id AS DOUBLE), 1D) AS v FROM range(0, 2000, 1, 3)")
	p.Columns.Y = []string{"v"}
	stage, read := stageIn(t, []string{"train", "test"})
	p.Fitted = []expr.Fitted{}
	w, err := e.Write(t.Context(), p, stage)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Shards) != 6 {
		t.Fatalf("%d shards, want 3 a part", len(w.Shards))
	}
	rows, err := read(w)
	if err != nil {
		t.Fatal(err)
	}
	at, seen := 0, map[int64]bool{}
	for i, s := range w.Shards {
		last := int64(math.MinInt64)
		for range s.Rows {
			r := rows[at]
			at++
			id := r.Keep[0].(int64)
			h := expr.HashInt64(1, expr.HashInt64(id, expr.HashSeed))
			if (s.Split == "train") != inTrain(id) || expr.Pmod64(h, 3) != int64(i%3) || int64(h) < last || seen[id] {
				t.Fatalf("row %d with hash %d stands in shard %d of %s behind hash %d", id, int64(h), i%3, s.Split, last)
			}
			last, seen[id] = int64(h), true
			if r.Vectors[0][0] != float32(id) || r.Vectors[1][0] != float32(id) || r.Vectors[1][1] != 1 {
				t.Fatalf("row %d is %v", id, r.Vectors)
			}
		}
	}
	if len(seen) != 2000 {
		t.Errorf("%d rows", len(seen))
	}
}

func TestExplainNeedsNoServer(t *testing.T) {
	p := csvPlan(t, "")
	p.Steps = []expr.Step{scaled{"a", "x"}}
	text, err := Engine{}.Explain(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{":min(a)", ":max(a)", "`a`", "xxhash64(`id`, 1L)", "csv.`" + p.Source.Files[0] + "`"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// scaled maps a column from the range of the training rows to 0..1.
type scaled struct{ column, output string }

func (scaled) Op() string { return "scaled" }
func (s scaled) Needs(in expr.Schema) ([]expr.Stat, error) {
	if _, ok := in.Lookup(s.column); !ok {
		return nil, in.Missing("scaled", s.column)
	}
	return []expr.Stat{{Kind: expr.Min, Column: s.column}, {Kind: expr.Max, Column: s.column}}, nil
}
func (s scaled) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	return s.build(in, expr.Num(got[0].Values[0]), expr.Num(got[1].Values[0]))
}
func (s scaled) Preview(in expr.Schema) (expr.Fitted, error) {
	if _, err := s.Needs(in); err != nil {
		return expr.Fitted{}, err
	}
	d := expr.Type{Kind: expr.Float64}
	return s.build(in, expr.Unfitted("min("+s.column+")", d), expr.Unfitted("max("+s.column+")", d))
}
func (s scaled) build(in expr.Schema, lo, hi *expr.Node) (expr.Fitted, error) {
	n := expr.To(expr.Float32, expr.Call(expr.Div, expr.Call(expr.Sub, expr.C(s.column), lo), expr.Call(expr.Sub, hi, lo)))
	t, err := expr.TypeOf(n, in)
	return expr.Fitted{Op: "scaled", Params: json.RawMessage("{}"), Inputs: []string{s.column}, Outputs: []expr.Column{{Name: s.output, Type: t, Expr: n}}}, err
}

// globStep makes a vector of all columns of a name's beginning; without them it cannot be shown.
type globStep struct{ prefix, output string }

func (globStep) Op() string                                  { return "glob" }
func (g globStep) Needs(in expr.Schema) ([]expr.Stat, error) { _, err := g.build(in); return nil, err }
func (g globStep) Fit(in expr.Schema, _ []expr.StatValue) (expr.Fitted, error) {
	return g.build(in)
}
func (g globStep) build(in expr.Schema) (expr.Fitted, error) {
	f := expr.Fitted{Op: "glob", Params: json.RawMessage("{}")}
	var args []*expr.Node
	for _, c := range in {
		if strings.HasPrefix(c.Name, g.prefix) {
			args, f.Inputs = append(args, expr.C(c.Name)), append(f.Inputs, c.Name)
		}
	}
	if args == nil {
		return f, errors.New("no column matches " + g.prefix)
	}
	f.Guards = []expr.Guard{{Expr: expr.Call(expr.IsValid, args...), Says: "a value is NULL or NaN"}}
	f.Outputs = []expr.Column{{Name: g.output, Type: expr.Type{Kind: expr.Float32, Width: len(args)}, Expr: expr.To(expr.Float32, expr.Call(expr.Vector, args...))}}
	return f, nil
}

func TestExplainWithoutAServerSaysWhatItCannotShow(t *testing.T) {
	p := csvPlan(t, "")
	p.Steps = []expr.Step{globStep{"p", "pixels"}, scaled{"pixels", "x"}}
	text, err := Engine{}.Explain(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-- step 1, glob,", "no column matches p", ":min(pixels)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestWidePlansAreQuick guards against expressions that Spark puts into each other until planning takes minutes: two
// hundred columns, guards over all of them, statistics by position, several steps.
func TestWidePlansAreQuick(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	const columns, rows = 200, 40
	var b strings.Builder
	b.WriteString("id,label")
	for i := range columns {
		fmt.Fprintf(&b, ",p%d", i)
	}
	for r := range rows {
		fmt.Fprintf(&b, "\n%d,%d", r, r%3)
		for i := range columns {
			fmt.Fprintf(&b, ",%d.5", (r*i)%17)
		}
	}
	b.WriteString("\n")
	got := new([]expr.StatValue)
	steps := []expr.Step{globStep{"p", "v"}, statStep{needs: []expr.Stat{{Kind: expr.Max, Column: "v", PerPosition: true}, {Kind: expr.Mean, Column: "v"}}, got: got},
		plainStep{expr.Fitted{Op: "scale", Params: json.RawMessage("{}"), Inputs: []string{"v"},
			Outputs: []expr.Column{{Name: "x", Type: expr.Type{Kind: expr.Float32, Width: columns}, Expr: expr.To(expr.Float32, expr.Call(expr.Mul, expr.C("v"), expr.Num(0.5)))}},
			Guards:  []expr.Guard{{Expr: expr.Call(expr.IsValid, expr.C("v")), Says: "NaN"}}}},
		plainStep{expr.Fitted{Op: "one_hot", Params: json.RawMessage("{}"), Inputs: []string{"label"},
			Outputs: []expr.Column{{Name: "y", Type: expr.Type{Kind: expr.Float32, Width: 3}, Expr: expr.Hot(expr.C("label"), 3)}},
			Guards:  []expr.Guard{{Expr: expr.Call(expr.Lt, expr.C("label"), expr.Int(3)), Says: "label is outside 0..2"}}}}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := csvPlan(t, b.String())
	p.Steps, p.Columns.Y = steps, []string{"y"}
	fitted, err := e.Fit(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if n := len((*got)[0].Values); n != columns {
		t.Errorf("%d maxima", n)
	}
	stage, read := stageIn(t, []string{"train", "test"})
	w, err := e.Write(ctx, fitted, stage)
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(w)
	if err != nil || len(all) != rows {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	for _, r := range all {
		id := r.Keep[0].(int64)
		if x := r.Vectors[0][columns-1]; x != float32((id*(columns-1))%17)/2+0.25 || r.Vectors[1][id%3] != 1 {
			t.Errorf("row %d: last pixel %v, target %v", id, x, r.Vectors[1])
		}
	}
	bad := csvPlan(t, strings.Replace(b.String(), "\n7,1,", "\n7,1,nan", 1))
	bad.Source.Types = map[string]string{"p0": "float64"}
	bad.Steps, bad.Columns.Y = steps, []string{"y"}
	_, err = e.Fit(ctx, bad)
	wantError(t, err, pipeline.Data, "row with id 7", `"p0"`)
}
