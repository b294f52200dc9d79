package pipetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// File is a file that the suite wants the engine under test to find.
type File struct {
	Name  string
	Bytes []byte
}

// EngineCase is an engine under test.
type EngineCase struct {
	Engine pipeline.Engine
	Files  []string // what pipeline.Source.Files says for the files that were asked for, in their order
	// Stage gives a fresh stage for parts of these names and a function that reads the rows back from what Write
	// returned. Nil: the engine writes into Stage.Sink, and the suite gives it a Recorder.
	Stage func(t *testing.T, parts []string) (pipeline.Stage, func(pipeline.Written) ([]Row, error))
	// Names lists the files of the store that the engine works on, so that the suite sees whether Explain or Fit
	// writes. Nil: that is not looked at.
	Names func() []string
}

// TestEngine checks the promises of pipeline.Engine on a small CSV file. fresh stores the files and gives an engine
// that can read them.
func TestEngine(t *testing.T, fresh func(t *testing.T, files []File) EngineCase) {
	leak := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leak) })
	for _, p := range []struct {
		name string
		test func(*testing.T, func(*testing.T, []File) EngineCase)
	}{
		{"explain shows what is not fitted and writes nothing", engineExplain},
		{"statistics come from training rows only", engineTrainingRows},
		{"rows fall into parts by the golden hash", engineSplit},
		{"every row is written once with all its columns", engineRows},
		{"without a key all rows are training rows and still spread", engineNoKey},
		{"a fitted plan survives JSON", engineJSON},
		{"a missing column has its kind", engineMissing},
		{"a broken expectation has its kind", engineExpect},
		{"no rows are an error", engineNoRows},
		{"write before fit is an error", engineUnfitted},
		{"a cancelled context ends it", engineCancel},
		{"an error of the sink comes back", engineSinkError},
	} {
		t.Run(p.name, func(t *testing.T) { p.test(t, fresh) })
	}
}

// The fixture: 60 rows. With seed 7 and 80 % for training the rows of engineTestIDs are test rows; their column a lies
// far outside of what training rows have, so a statistic that saw them is wrong by far.
const (
	engineRowCount = 60
	engineSeed     = 7
	engineTrain    = 0.8
)

// engineTestIDs are the ids with pmod(xxhash64(id, 7L), 1000000) >= 800000, and engineHashes some of the hashes, as
// Spark SQL computes them for BIGINT ids.
func engineTestIDs() []int64 { return []int64{9, 11, 14, 21, 22, 41, 47, 52, 55} }

func engineHashes() map[int64]uint64 {
	return map[int64]uint64{0: 0xdb2767928f6fca4a, 1: 0x7ef442f4f64ef71d, 2: 0x0779fe0e6ef61d69, 3: 0x2d92315de6c12752,
		9: 0x500ee3a5493a0f0a, 10: 0xfec937524a30fe04, 11: 0x7973f23d99e505c9}
}

// engineA is column a of a row.
func engineA(id int64) float64 {
	if slices.Contains(engineTestIDs(), id) {
		return 1000 + float64(id)
	}
	return 2 + float64(id)/4
}

func engineCSV() []byte {
	var b strings.Builder
	b.WriteString("id,a,label,note\n")
	for id := range int64(engineRowCount) {
		note := fmt.Sprintf("row %d", id)
		if id%5 == 0 {
			note = "" // NULL
		}
		fmt.Fprintf(&b, "%d,%g,%d,%s\n", id, engineA(id), id%3, note)
	}
	return []byte(b.String())
}

func engineCase(t *testing.T, fresh func(*testing.T, []File) EngineCase) (EngineCase, pipeline.Plan) {
	t.Helper()
	return engineCaseOf(t, fresh, engineCSV())
}

func engineCaseOf(t *testing.T, fresh func(*testing.T, []File) EngineCase, csv []byte) (EngineCase, pipeline.Plan) {
	t.Helper()
	c := fresh(t, []File{{Name: "rows.csv", Bytes: csv}})
	if len(c.Files) != 1 {
		t.Fatalf("the engine was given 1 file and names %d", len(c.Files))
	}
	return c, pipeline.Plan{
		Source: pipeline.Source{Format: pipeline.CSV, Files: c.Files,
			Types: map[string]string{"id": "int64", "a": "float64", "label": "int64", "note": "string"}},
		Steps:   []expr.Step{scaleStep{column: "a", output: "scaled"}},
		Columns: pipeline.Columns{X: []string{"scaled"}, Y: []string{"label"}, Keep: []string{"id", "note"}},
		Split: pipeline.Split{Key: "id", Seed: engineSeed,
			Parts: []pipeline.Part{{Name: "train", Fraction: engineTrain}, {Name: "test", Fraction: 1 - engineTrain}}},
		Shards: 2,
	}
}

func partNames(p pipeline.Plan) []string {
	var out []string
	for _, part := range p.Split.Parts {
		out = append(out, part.Name)
	}
	return out
}

// stage gives a stage and a way to see what was written into it.
func (c EngineCase) stage(t *testing.T, p pipeline.Plan) (pipeline.Stage, func(pipeline.Written) ([]Row, error)) {
	t.Helper()
	if c.Stage != nil {
		return c.Stage(t, partNames(p))
	}
	r := &Recorder{Parts: partNames(p)}
	return pipeline.Stage{Sink: r}, func(w pipeline.Written) ([]Row, error) {
		if got := r.Columns(); len(got) != len(w.Columns) {
			return nil, fmt.Errorf("the sink was started with %d columns, Write returned %d", len(got), len(w.Columns))
		}
		return r.Rows(), nil
	}
}

// run fits and writes, and gives the rows by id.
func (c EngineCase) run(t *testing.T, p pipeline.Plan) (map[int64]Row, pipeline.Written) {
	t.Helper()
	fitted, err := c.Engine.Fit(t.Context(), p)
	if err != nil {
		t.Fatalf("Fit: %v", err)
	}
	return c.write(t, fitted)
}

func (c EngineCase) write(t *testing.T, fitted pipeline.Plan) (map[int64]Row, pipeline.Written) {
	t.Helper()
	s, read := c.stage(t, fitted)
	w, err := c.Engine.Write(t.Context(), fitted, s)
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	rows, err := read(w)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int64]Row{}
	for _, r := range rows {
		id, ok := r.Keep[0].(int64)
		if _, twice := out[id]; !ok || twice {
			t.Fatalf("a row with the id %v, which is no number or came twice", r.Keep[0])
		}
		out[id] = r
	}
	return out, w
}

func engineExplain(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	var before []string
	if c.Names != nil {
		before = c.Names()
	}
	text, err := c.Engine.Explain(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{":min(a)", ":max(a)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the unfitted plan is explained without %s:\n%s", want, text)
		}
	}
	fitted, err := c.Engine.Fit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = c.Engine.Explain(t.Context(), fitted); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, ":min(") {
		t.Errorf("the fitted plan is explained with open values:\n%s", text)
	}
	if c.Names != nil {
		if after := c.Names(); !slices.Equal(before, after) {
			t.Errorf("Explain and Fit left %v, there was %v", after, before)
		}
	}
}

func engineTrainingRows(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	fitted, err := c.Engine.Fit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Fitted) != 0 || len(fitted.Fitted) != len(p.Steps) {
		t.Fatalf("Fit changed its argument, or gave %d fitted transformers for %d steps", len(fitted.Fitted), len(p.Steps))
	}
	rows, _ := c.write(t, fitted)
	lo, hi := math.Inf(1), math.Inf(-1)
	for id := range int64(engineRowCount) {
		if !slices.Contains(engineTestIDs(), id) {
			lo, hi = min(lo, engineA(id)), max(hi, engineA(id))
		}
	}
	for id, r := range rows {
		want := float32((engineA(id) - lo) / (hi - lo))
		if got := r.Vectors[0][0]; got != want {
			t.Fatalf("row %d: scaled is %v, want %v from the bounds %v and %v of the training rows", id, got, want, lo, hi)
		}
	}
}

func engineSplit(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	rows, w := c.run(t, p)
	var test []int64
	for id, r := range rows {
		if r.Part == 1 {
			test = append(test, id)
		}
		if want, ok := engineHashes()[id]; ok && c.Stage == nil && r.Hash != want {
			t.Errorf("row %d has the hash %#x, xxhash64(id, 7L) is %#x", id, r.Hash, want)
		}
	}
	slices.Sort(test)
	if !slices.Equal(test, engineTestIDs()) {
		t.Errorf("the test rows are %v, want %v", test, engineTestIDs())
	}
	got := map[string]int64{}
	for _, s := range w.Shards {
		got[s.Split] += s.Rows
	}
	if n := int64(len(engineTestIDs())); got["test"] != n || got["train"] != engineRowCount-n || len(got) != 2 {
		t.Errorf("the shards have rows %v", got)
	}
}

func engineRows(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	rows, w := c.run(t, p)
	if len(rows) != engineRowCount || w.Skipped != 0 {
		t.Errorf("%d rows were written and %d skipped, want %d and 0", len(rows), w.Skipped, engineRowCount)
	}
	for id, r := range rows {
		if got := r.Vectors[1]; len(got) != 1 || got[0] != float32(id%3) {
			t.Errorf("row %d has the label %v", id, got)
		}
		var want any = fmt.Sprintf("row %d", id)
		if id%5 == 0 {
			want = nil
		}
		if r.Keep[1] != want {
			t.Errorf("row %d has the note %v, want %v", id, r.Keep[1], want)
		}
	}
	want := []pipeline.ColumnInfo{{Name: "scaled", Role: "x", DType: "float32"}, {Name: "label", Role: "y", DType: "float32"},
		{Name: "id", Role: "keep", DType: "int64"}, {Name: "note", Role: "keep", DType: "string"}}
	if len(w.Columns) != len(want) {
		t.Fatalf("%d columns, want %d", len(w.Columns), len(want))
	}
	for i, c := range w.Columns {
		if c.Name != want[i].Name || c.Role != want[i].Role || c.DType != want[i].DType || c.Encoding == "" {
			t.Errorf("column %d is %+v, want %+v with an encoding", i, c, want[i])
		}
		if c.Role != "keep" && (c.Scale == 0 || Width(c) != 1) {
			t.Errorf("column %s has the scale %v and the shape %v", c.Name, c.Scale, c.Shape)
		}
	}
}

func engineNoKey(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	p.Split = pipeline.Split{Parts: []pipeline.Part{{Name: "train", Fraction: 1}}}
	rows, _ := c.run(t, p)
	hashes := map[uint64]bool{}
	for id, r := range rows {
		if r.Part != 0 {
			t.Errorf("row %d is in part %d", id, r.Part)
		}
		hashes[r.Hash] = true
	}
	if len(rows) != engineRowCount || c.Stage == nil && len(hashes) < engineRowCount/2 {
		t.Errorf("%d rows with %d hashes: they cannot spread over shards", len(rows), len(hashes))
	}
}

func engineJSON(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	fitted, err := c.Engine.Fit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(fitted.Fitted)
	if err != nil {
		t.Fatal(err)
	}
	again := fitted
	again.Fitted = nil
	if err := json.Unmarshal(b, &again.Fitted); err != nil {
		t.Fatal(err)
	}
	want, _ := c.write(t, fitted)
	got, _ := c.write(t, again)
	for id, w := range want {
		g := got[id]
		if g.Part != w.Part || g.Hash != w.Hash || !slices.EqualFunc(g.Vectors, w.Vectors, SameFloats) || !slices.Equal(g.Keep, w.Keep) {
			t.Fatalf("row %d is %+v after JSON, %+v before", id, g, w)
		}
	}
}

// wantKind fails unless err has one of the kinds and text.
func wantKind(t *testing.T, what string, err error, kind pipeline.Kind) {
	t.Helper()
	var k interface{ ErrorKind() string }
	if err == nil || !errors.As(err, &k) || k.ErrorKind() != string(kind) {
		t.Errorf("%s: error %v, want one of kind %s", what, err, kind)
	}
}

// fitAndWrite gives the first error of a whole run.
func (c EngineCase) fitAndWrite(ctx context.Context, t *testing.T, p pipeline.Plan) error {
	t.Helper()
	fitted, err := c.Engine.Fit(ctx, p)
	if err != nil {
		return err
	}
	s, _ := c.stage(t, p)
	_, err = c.Engine.Write(ctx, fitted, s)
	return err
}

func engineMissing(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	for what, change := range map[string]func(*pipeline.Plan){
		"split key":       func(p *pipeline.Plan) { p.Split.Key = "idd" },
		"input column":    func(p *pipeline.Plan) { p.Columns.X = []string{"scaled", "nope"} },
		"step's column":   func(p *pipeline.Plan) { p.Steps = []expr.Step{scaleStep{column: "aa", output: "scaled"}} },
		"kept column":     func(p *pipeline.Plan) { p.Columns.Keep = []string{"id", "remark"} },
		"expected column": func(p *pipeline.Plan) { p.Expect.MaxNull = map[string]float64{"remark": 0} },
	} {
		c, p := engineCase(t, fresh)
		change(&p)
		wantKind(t, what, c.fitAndWrite(t.Context(), t, p), pipeline.MissingColumn)
	}
}

func engineExpect(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	for what, e := range map[string]pipeline.Expect{
		"min_rows": {MinRows: engineRowCount + 1},
		"max_null": {MaxNull: map[string]float64{"note": 0.1}}, // a fifth is NULL
		"labels":   {Labels: map[string][]float64{"label": {0, 1}}},
	} {
		c, p := engineCase(t, fresh)
		p.Expect = e
		_, err := c.Engine.Fit(t.Context(), p)
		wantKind(t, what, err, pipeline.Expectation)
	}
	c, p := engineCase(t, fresh)
	p.Expect = pipeline.Expect{MinRows: engineRowCount, MaxNull: map[string]float64{"note": 0.2, "a": 0}, Labels: map[string][]float64{"label": {0, 1, 2}}}
	if _, err := c.Engine.Fit(t.Context(), p); err != nil {
		t.Errorf("expectations that hold: %v", err)
	}
}

func engineNoRows(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCaseOf(t, fresh, []byte("id,a,label,note\n"))
	wantKind(t, "a header without rows", c.fitAndWrite(t.Context(), t, p), pipeline.Data)
	c, p = engineCaseOf(t, fresh, []byte("id,a,label,note\n"))
	p.Steps, p.Columns.X = nil, []string{"a"}
	wantKind(t, "a header without rows, and nothing to fit", c.fitAndWrite(t.Context(), t, p), pipeline.Data)
}

func engineUnfitted(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	s, _ := c.stage(t, p)
	if _, err := c.Engine.Write(t.Context(), p, s); err == nil {
		t.Error("a plan that is not fitted was written")
	}
}

func engineCancel(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	c, p := engineCase(t, fresh)
	ctx, cancel := context.WithCancel(t.Context())
	fitted, err := c.Engine.Fit(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := c.Engine.Fit(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("Fit with a cancelled context: %v", err)
	}
	s, _ := c.stage(t, p)
	if _, err := c.Engine.Write(ctx, fitted, s); !errors.Is(err, context.Canceled) {
		t.Errorf("Write with a cancelled context: %v", err)
	}
}

// brokenSink fails where it is told to.
type brokenSink struct {
	Recorder
	at string
}

var errSink = &pipeline.Error{Kind: pipeline.NoSpace, Message: "the stage is full"}

func (s *brokenSink) Start(c []pipeline.ColumnInfo) error {
	if s.at == "start" {
		return errSink
	}
	return s.Recorder.Start(c)
}

func (s *brokenSink) Write(ctx context.Context, r *pipeline.Rows) error {
	if s.at == "write" {
		return errSink
	}
	return s.Recorder.Write(ctx, r)
}

func (s *brokenSink) Finish(ctx context.Context) ([]pipeline.ShardInfo, error) {
	if s.at == "finish" {
		return nil, errSink
	}
	return s.Recorder.Finish(ctx)
}

func engineSinkError(t *testing.T, fresh func(*testing.T, []File) EngineCase) {
	for _, at := range []string{"start", "write", "finish"} {
		c, p := engineCase(t, fresh)
		if c.Stage != nil {
			t.Skip("the engine does not write into a sink")
		}
		fitted, err := c.Engine.Fit(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Engine.Write(t.Context(), fitted, pipeline.Stage{Sink: &brokenSink{Recorder: Recorder{Parts: partNames(p)}, at: at}}); !errors.Is(err, errSink) {
			t.Errorf("a sink that fails in %s: %v", at, err)
		}
	}
}

// scaleStep maps a column from the range that training rows have to 0..1.
type scaleStep struct {
	column, output string
}

func (s scaleStep) Op() string { return "scale" }

func (s scaleStep) Needs(in expr.Schema) ([]expr.Stat, error) {
	if _, ok := in.Lookup(s.column); !ok {
		return nil, &expr.ColumnError{Column: s.column, Op: s.Op()}
	}
	return []expr.Stat{{Kind: expr.Min, Column: s.column}, {Kind: expr.Max, Column: s.column}}, nil
}

func (s scaleStep) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	if len(got) != 2 || len(got[0].Values) != 1 || len(got[1].Values) != 1 {
		return expr.Fitted{}, fmt.Errorf("scale: %d statistics, want one minimum and one maximum", len(got))
	}
	return s.build(in, expr.Num(got[0].Values[0]), expr.Num(got[1].Values[0]))
}

// Preview shows the step before it is fitted.
func (s scaleStep) Preview(in expr.Schema) (expr.Fitted, error) {
	if _, err := s.Needs(in); err != nil {
		return expr.Fitted{}, err
	}
	t := expr.Type{Kind: expr.Float64}
	return s.build(in, expr.Unfitted("min("+s.column+")", t), expr.Unfitted("max("+s.column+")", t))
}

func (s scaleStep) build(in expr.Schema, lo, hi *expr.Node) (expr.Fitted, error) {
	n := expr.To(expr.Float32, expr.Call(expr.Div, expr.Call(expr.Sub, expr.C(s.column), lo), expr.Call(expr.Sub, hi, lo)))
	t, err := expr.TypeOf(n, in)
	return expr.Fitted{Op: s.Op(), Params: json.RawMessage(`{}`), Inputs: []string{s.column},
		Outputs: []expr.Column{{Name: s.output, Type: t, Expr: n}}}, err
}
