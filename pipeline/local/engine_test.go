package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"pgregory.net/rapid"
)

// statStep asks for statistics and shows what it got; it changes nothing.
type statStep struct {
	needs []expr.Stat
	got   *[]expr.StatValue
}

func (statStep) Op() string                               { return "stats" }
func (s statStep) Needs(expr.Schema) ([]expr.Stat, error) { return s.needs, nil }
func (s statStep) Fit(_ expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	*s.got = got
	return expr.Fitted{Op: "stats"}, nil
}
func (statStep) Preview(expr.Schema) (expr.Fitted, error) { return expr.Fitted{Op: "stats"}, nil }

// plainStep is a step without statistics.
type plainStep struct{ f expr.Fitted }

func (s plainStep) Op() string                                             { return s.f.Op }
func (s plainStep) Needs(expr.Schema) ([]expr.Stat, error)                 { return nil, nil }
func (s plainStep) Fit(expr.Schema, []expr.StatValue) (expr.Fitted, error) { return s.f, nil }

// counted opens files and counts how often.
type counted struct {
	memFiles
	opens *int
}

func (c counted) Open(ctx context.Context, name string) (pipeline.Blob, error) {
	*c.opens++
	return c.memFiles.Open(ctx, name)
}

// sink keeps copies of what it gets.
type sink struct {
	cols     []pipeline.ColumnInfo
	part     []uint8
	hash     []uint64
	vectors  [][]float32
	keep     []string
	finished bool
}

func (s *sink) Start(cols []pipeline.ColumnInfo) error { s.cols = cols; return nil }

func (s *sink) Write(_ context.Context, r *pipeline.Rows) error {
	s.part, s.hash = append(s.part, r.Part...), append(s.hash, r.Hash...)
	if s.vectors == nil {
		s.vectors = make([][]float32, len(r.Vectors))
	}
	for i, v := range r.Vectors {
		s.vectors[i] = append(s.vectors[i], v...)
	}
	for i := range r.N {
		var row []string
		for _, k := range r.Keep {
			switch {
			case k.Valid != nil && !k.Valid[i]:
				row = append(row, "null")
			case k.Int64 != nil:
				row = append(row, fmt.Sprint(k.Int64[i]))
			case k.Float64 != nil:
				row = append(row, fmt.Sprint(k.Float64[i]))
			default:
				row = append(row, strconv.Quote(strings.Clone(k.String[i])))
			}
		}
		s.keep = append(s.keep, strings.Join(row, " "))
	}
	return nil
}

func (s *sink) Finish(context.Context) ([]pipeline.ShardInfo, error) {
	s.finished = true
	return []pipeline.ShardInfo{{Path: "train/part-00000.parquet"}}, nil
}

func runPlan(t testing.TB, files memFiles, p pipeline.Plan) (*sink, pipeline.Plan, pipeline.Written, error) {
	t.Helper()
	e := Engine{Open: files}
	s := &sink{}
	p, err := e.Fit(t.Context(), p)
	if err != nil {
		return s, p, pipeline.Written{}, err
	}
	w, err := e.Write(t.Context(), p, pipeline.Stage{Sink: s})
	return s, p, w, err
}

func TestWriteGivesVectorsKeysPartsAndHashes(t *testing.T) {
	var text strings.Builder
	text.WriteString("id,a,b,label,w,name,score\n")
	for i := range 1000 {
		name := fmt.Sprintf("n%d", i)
		if i%10 == 0 {
			name = ""
		}
		fmt.Fprintf(&text, "%d,%d,%d.5,%d,%d,%s,%d.25\n", i, i%7, i%3, i%4, i%2, name, i)
	}
	p := pipeline.Plan{
		Source:  csvSource(nil, "f"),
		Steps:   []expr.Step{assembleStep{[]string{"a", "b"}, "ab"}, minMaxStep{"ab", "x", true}, oneHotStep{"label", "y", 0}},
		Columns: pipeline.Columns{X: []string{"x", "a"}, Y: []string{"y"}, Weight: "w", Keep: []string{"id", "name", "score"}},
		Split:   pipeline.Split{Key: "id", Seed: 7, Parts: []pipeline.Part{{Name: "train", Fraction: 0.7}, {Name: "validation", Fraction: 0.1}, {Name: "test", Fraction: 0.2}}},
		Shards:  4,
	}
	s, fitted, w, err := runPlan(t, memFiles{"f": []byte(text.String())}, p)
	if err != nil {
		t.Fatal(err)
	}
	if !s.finished || len(w.Shards) != 1 || w.Skipped != 0 || len(fitted.Fitted) != 3 || p.Fitted != nil {
		t.Errorf("finished %v, %+v", s.finished, w)
	}
	want := []string{"x x float32 [2] f32le 1", "a x float32 [1] f32le 1", "y y float32 [4] f32le 1", "w weight float32 [1] f32le 1", "id keep int64 [] plain 1", "name keep string [] plain 1", "score keep float64 [] plain 1"}
	for i, c := range s.cols {
		if got := fmt.Sprint(c.Name, " ", c.Role, " ", c.DType, " ", c.Shape, " ", c.Encoding, " ", c.Scale); got != want[i] {
			t.Errorf("column %d: %s, want %s", i, got, want[i])
		}
	}
	counts := map[uint8]int{}
	for i := range 1000 {
		h := expr.HashInt64(7, expr.HashInt64(int64(i), expr.HashSeed))
		class := expr.Pmod64(h, 1_000_000)
		part := uint8(0)
		if class >= 700_000 {
			part = 1
		}
		if class >= 800_000 {
			part = 2
		}
		counts[part]++
		if s.hash[i] != h || s.part[i] != part {
			t.Fatalf("row %d: part %d hash %x, want %d %x", i, s.part[i], s.hash[i], part, h)
		}
		if got, want := s.vectors[0][2*i:2*i+2], []float32{float32(float64(i%7) * (1. / 6)), float32(float64(float32(i%3)+0.5-0.5) * (1. / 2))}; !slices.Equal(got, want) {
			t.Fatalf("row %d: x %v, want %v", i, got, want)
		}
		hot := make([]float32, 4)
		hot[i%4] = 1
		if s.vectors[1][i] != float32(i%7) || !slices.Equal(s.vectors[2][4*i:4*i+4], hot) || s.vectors[3][i] != float32(i%2) {
			t.Fatalf("row %d: %v %v %v", i, s.vectors[1][i], s.vectors[2][4*i:4*i+4], s.vectors[3][i])
		}
		name := fmt.Sprintf("%q", fmt.Sprintf("n%d", i))
		if i%10 == 0 {
			name = "null"
		}
		if want := fmt.Sprintf("%d %s %v", i, name, float64(i)+0.25); s.keep[i] != want {
			t.Fatalf("row %d: keep %s, want %s", i, s.keep[i], want)
		}
	}
	if counts[0] < 650 || counts[0] > 750 || counts[1] == 0 || counts[2] == 0 {
		t.Errorf("parts %v", counts)
	}
}

// Statistics over random values agree with their definitions, and only training rows count.
func TestStatisticsAreThoseOfTheTrainingRows(t *testing.T) {
	kinds := []expr.StatKind{expr.Count, expr.CountInvalid, expr.Min, expr.Max, expr.Mean, expr.StddevPop, expr.StddevSamp}
	rapid.Check(t, func(rt *rapid.T) {
		vals := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(-1e6, 1e6), rapid.SampledFrom([]float64{math.NaN(), 5, -2})), 1, 400).Draw(rt, "values")
		text := "id,x,s\n"
		split := pipeline.Split{Key: "id", Seed: 3, Parts: []pipeline.Part{{Name: "test", Fraction: 0.4}, {Name: "train", Fraction: 0.6}}}
		var train []float64
		invalid, texts := 0, map[string]int64{}
		for i, v := range vals {
			null := i%11 == 5
			s := "k" + strconv.Itoa(i*i%13)
			x := strconv.FormatFloat(v, 'g', -1, 64)
			if null {
				x = ""
			}
			text += fmt.Sprintf("%d,%s,%s\n", i, x, s)
			if expr.Pmod64(expr.HashInt64(3, expr.HashInt64(int64(i), expr.HashSeed)), 1_000_000) < 400_000 {
				continue
			}
			texts[s]++
			if null || v != v {
				invalid++
			} else {
				train = append(train, v)
			}
		}
		var got []expr.StatValue
		step := statStep{got: &got}
		for _, k := range kinds {
			step.needs = append(step.needs, expr.Stat{Kind: k, Column: "x"})
		}
		qs := []float64{0, 0.1, 0.5, 0.75, 1}
		step.needs = append(step.needs, expr.Stat{Kind: expr.Quantiles, Column: "x", Quantiles: qs}, expr.Stat{Kind: expr.Distinct, Column: "s", Limit: 20})
		p := pipeline.Plan{Source: csvSource(map[string]string{"x": "float64"}, "f"), Steps: []expr.Step{step}, Split: split}
		if _, err := (Engine{Open: memFiles{"f": []byte(text)}}).Fit(context.Background(), p); err != nil {
			rt.Fatal(err)
		}
		slices.Sort(train)
		n := float64(len(train))
		want := []float64{n, float64(invalid), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}
		if n > 0 {
			mean, m2 := 0.0, 0.0
			for _, v := range train {
				mean += v / n
			}
			for _, v := range train {
				m2 += (v - mean) * (v - mean)
			}
			want = []float64{n, float64(invalid), train[0], train[len(train)-1], mean, math.Sqrt(m2 / n), math.Sqrt(m2 / (n - 1))}
		}
		for i, w := range want {
			g := got[i].Values
			if len(g) != 1 || !(math.Abs(g[0]-w) <= 1e-9*math.Max(1, math.Abs(w))) && !(w != w && g[0] != g[0]) {
				rt.Fatalf("%s = %v, want %v of %v", kinds[i], g, w, train)
			}
		}
		for i, q := range qs {
			w := math.NaN()
			for k := len(train) - 1; k >= 0; k-- { // percentile_disc: the least value with a share of at least q
				if float64(k+1)/n >= q {
					w = train[k]
				}
			}
			if g := got[len(want)].Values[i]; g != w && !(g != g && w != w) {
				rt.Fatalf("quantile %v = %v, want %v of %v", q, g, w, train)
			}
		}
		d := got[len(want)+1]
		if len(d.Distinct) != len(texts) {
			rt.Fatalf("distinct %v, want %v", d.Distinct, texts)
		}
		for i, s := range d.Distinct {
			if d.Counts[i] != texts[s] || i > 0 && (d.Counts[i] > d.Counts[i-1] || d.Counts[i] == d.Counts[i-1] && s < d.Distinct[i-1]) {
				rt.Fatalf("distinct %v %v, want %v, most frequent first, ties by value", d.Distinct, d.Counts, texts)
			}
		}
	})
}

func TestStatisticsPerPositionOfAVector(t *testing.T) {
	text := `{"v":[1,10]}` + "\n" + `{"v":[3,null]}` + "\n" + `{"v":null}` + "\n" + `{"v":[5,30]}`
	var got []expr.StatValue
	step := statStep{got: &got}
	for _, per := range []bool{true, false} {
		for _, k := range []expr.StatKind{expr.Count, expr.CountInvalid, expr.Min, expr.Max, expr.Mean, expr.StddevPop} {
			step.needs = append(step.needs, expr.Stat{Kind: k, Column: "v", PerPosition: per})
		}
	}
	p := pipeline.Plan{Source: pipeline.Source{Format: pipeline.JSON, Files: []string{"f"}}, Steps: []expr.Step{step}}
	if _, err := (Engine{Open: memFiles{"f": []byte(text)}}).Fit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range got {
		all = append(all, fmt.Sprint(g.Values))
	}
	want := "[3 2] [1 2] [1 10] [5 30] [3 20] [1.632993161855452 10] [5] [2] [1] [30] [9.8] [10.533755265810953]"
	if s := strings.Join(all, " "); s != want {
		t.Errorf("%s, want %s", s, want)
	}
}

func TestFitReadsTheSourceOnceForIndependentSteps(t *testing.T) {
	text := "a,b,label\n1,4,0\n2,6,2\n3,8,1\n"
	cases := []struct {
		name  string
		steps []expr.Step
		opens int
	}{
		{"no statistics", []expr.Step{assembleStep{[]string{"a", "b"}, "v"}, oneHotStep{"label", "y", 3}}, 1},
		{"independent", []expr.Step{minMaxStep{"a", "a1", true}, minMaxStep{"b", "b1", true}, oneHotStep{"label", "y", 0}}, 1},
		{"behind a step that needs nothing", []expr.Step{minMaxStep{"a", "a1", true}, assembleStep{[]string{"a", "b"}, "v"}, minMaxStep{"v", "v1", true}}, 1},
		{"one after the other", []expr.Step{minMaxStep{"a", "a", true}, minMaxStep{"a", "a", true}}, 2},
		{"a chain and a side branch", []expr.Step{minMaxStep{"a", "x", true}, minMaxStep{"x", "z", true}, oneHotStep{"label", "y", 0}, minMaxStep{"z", "zz", true}}, 3},
	}
	for _, c := range cases {
		n := 0
		p, err := Engine{Open: counted{memFiles{"f": []byte(text)}, &n}}.Fit(t.Context(), pipeline.Plan{Source: csvSource(nil, "f"), Steps: c.steps})
		if err != nil || n != c.opens || len(p.Fitted) != len(c.steps) {
			t.Errorf("%s: opened %d times, want %d: %v", c.name, n, c.opens, err)
		}
	}
}

// A row that a step leaves out does not count in the statistics of later steps.
func TestSkippedAndFilteredRowsLeaveLaterStatistics(t *testing.T) {
	text := "a,b\n1,1\n,100\n2,50\n3,3\n"
	var got []expr.StatValue
	guarded := assembleFitted(t)
	small := plainStep{expr.Fitted{Op: "filter", Filter: expr.Call(expr.Lt, expr.C("b"), expr.Int(10))}}
	p := pipeline.Plan{Source: csvSource(nil, "f"), Columns: pipeline.Columns{X: []string{"v"}, Keep: []string{"b"}},
		Steps: []expr.Step{plainStep{guarded}, small, statStep{[]expr.Stat{{Kind: expr.Max, Column: "b"}, {Kind: expr.Count, Column: "a"}}, &got}}}
	s, _, w, err := runPlan(t, memFiles{"f": []byte(text)}, p)
	if err != nil || got[0].Values[0] != 3 || got[1].Values[0] != 2 || w.Skipped != 2 || strings.Join(s.keep, "|") != "1|3" {
		t.Errorf("%v %+v %+v %v", got, w, s.keep, err)
	}
}

// Rows that a later step leaves out do count, even when that step is ready before the statistics are.
func TestLaterFiltersLeaveEarlierStatisticsAlone(t *testing.T) {
	var before, after []expr.StatValue
	max := []expr.Stat{{Kind: expr.Max, Column: "b"}}
	p := pipeline.Plan{Source: csvSource(nil, "f"), Columns: pipeline.Columns{X: []string{"b"}}, Steps: []expr.Step{statStep{max, &before},
		plainStep{expr.Fitted{Op: "filter", Filter: expr.Call(expr.Lt, expr.C("b"), expr.Int(10))}}, statStep{max, &after}}}
	_, _, w, err := runPlan(t, memFiles{"f": []byte("a,b\n1,1\n2,50\n3,3\n")}, p)
	if err != nil || before[0].Values[0] != 50 || after[0].Values[0] != 3 || w.Skipped != 1 {
		t.Errorf("%v %v %+v %v", before, after, w, err)
	}
}

func assembleFitted(t testing.TB) expr.Fitted {
	f, err := assembleStep{[]string{"a"}, "v"}.Fit(expr.Schema{{Name: "a", Type: expr.Type{Kind: expr.Int64}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Invalid = expr.Skip
	return f
}

func TestExpectationsNameColumnValueLimitAndPlace(t *testing.T) {
	text := "a,label\n1,0\n,1\n3,\n4,7\n"
	cases := []struct {
		expect  pipeline.Expect
		message string
	}{
		{pipeline.Expect{MinRows: 4, MaxNull: map[string]float64{"a": 0.25}, Labels: map[string][]float64{"label": {7, 1, 0}}}, ""},
		{pipeline.Expect{MinRows: 5}, "expect.min_rows: the source has 4 rows, expected at least 5"},
		{pipeline.Expect{MaxNull: map[string]float64{"a": 0.2}}, `expect.max_null: column "a" is NULL or NaN in 1 of 4 rows (share 0.25), expected at most 0.2; the first is f, line 3`},
		{pipeline.Expect{MaxNull: map[string]float64{"label": 0}}, `f, line 4: expect.max_null: column "label" is NULL, expected never`},
		{pipeline.Expect{Labels: map[string][]float64{"label": {0, 1, 2}}}, `f, line 5: expect.labels: column "label" is 7, expected one of 0, 1, 2`},
	}
	for _, c := range cases {
		_, err := Engine{Open: memFiles{"f": []byte(text)}}.Fit(t.Context(), pipeline.Plan{Source: csvSource(nil, "f"), Expect: c.expect})
		if c.message == "" && err != nil || c.message != "" && (kindOfError(err) != pipeline.Expectation || err.Error() != c.message) {
			t.Errorf("%+v: %v, want %s", c.expect, err, c.message)
		}
	}
	_, err := Engine{Open: memFiles{"f": []byte(text)}}.Fit(t.Context(), pipeline.Plan{Source: csvSource(nil, "f"), Expect: pipeline.Expect{MaxNull: map[string]float64{"lable": 0}}})
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != pipeline.MissingColumn || e.Hint != `did you mean "label"?` {
		t.Errorf("%#v", err)
	}
}

func TestWriteRefusesWhatCannotBeTrainedOn(t *testing.T) {
	cols := func(x ...string) pipeline.Columns { return pipeline.Columns{X: x} }
	text := "a,b,s,w,n,h\n1,2,x,1,1,1e300\n3,4,y,-1,,2\n"
	json := `{"v":[1,2],"a":1}` + "\n" + `{"v":[3,null],"a":1}`
	cases := []struct {
		name    string
		text    string
		steps   []expr.Step
		columns pipeline.Columns
		kind    pipeline.Kind
		message string
	}{
		{"absent", text, nil, cols("aa"), pipeline.MissingColumn, `columns.x: there is no column "aa"`},
		{"text", text, nil, cols("s"), pipeline.BadSpec, `columns.x: "s" is text`},
		{"NULL", text, nil, cols("a", "n"), pipeline.Data, `f, line 3: columns.x: column "n" is NULL`},
		{"negative weight", text, nil, pipeline.Columns{X: []string{"a"}, Weight: "w"}, pipeline.Data, `f, line 3: columns.weight: column "w" is -1; a weight is a number of 0 or more`},
		{"too large", text, nil, cols("h"), pipeline.Data, `f, line 2: columns.x: column "h" holds 1e+300, which is too large for float32`},
		{"NaN in a vector", json, nil, cols("v"), pipeline.Data, `f, line 2: columns.x: column "v" is NaN at position 1`},
		{"broken guard, vector", json, []expr.Step{minMaxStep{"v", "x", false}}, cols("x"), pipeline.Data, `f, line 2: min_max: v is NULL or NaN: column "v" is NaN at position 1`},
		{"broken guard, scalar", text, []expr.Step{oneHotStep{"b", "y", 3}}, cols("a"), pipeline.Data, `f, line 3: one_hot: b is no class: column "b" is 4`},
		{"broken guard, NULL", text, []expr.Step{assembleStep{[]string{"a", "n", "b"}, "v"}}, cols("v"), pipeline.Data, `f, line 3: assemble: an input is NULL or NaN: column "n" is NULL`},
		{"vector kept", json, nil, pipeline.Columns{X: []string{"a"}, Keep: []string{"v"}}, pipeline.BadSpec, `columns.keep: "v" is float64[2]`},
		{"nothing left", text, []expr.Step{plainStep{expr.Fitted{Op: "filter", Filter: expr.Boolean(false)}}}, cols("a"), pipeline.Data, "none of the 2 rows is left after the transform"},
		{"step without its column", text, []expr.Step{minMaxStep{"c", "x", false}}, cols("x"), pipeline.MissingColumn, `min_max: there is no column "c"`},
	}
	for _, c := range cases {
		p := pipeline.Plan{Source: csvSource(nil, "f"), Steps: c.steps, Columns: c.columns}
		if c.text == json {
			p.Source.Format = pipeline.JSON
		}
		s, _, _, err := runPlan(t, memFiles{"f": []byte(c.text)}, p)
		var kind interface{ ErrorKind() string }
		if !errors.As(err, &kind) || kind.ErrorKind() != string(c.kind) || !strings.HasPrefix(err.Error(), c.message) || s.finished {
			t.Errorf("%s: %v, want %s: %s", c.name, err, c.kind, c.message)
		}
	}
}

// handle_invalid: keep means NaN on purpose, also through steps behind it that do not guard.
func TestKeptInvalidValuesReachTheDataset(t *testing.T) {
	keep := expr.Fitted{Op: "log", Invalid: expr.Keep, Outputs: []expr.Column{{Name: "x", Type: expr.Type{Kind: expr.Float64}, Expr: expr.Call(expr.Log, expr.C("a"))}}}
	twice := expr.Fitted{Op: "rename", Outputs: []expr.Column{{Name: "z", Type: expr.Type{Kind: expr.Float64}, Expr: expr.C("x")}}}
	p := pipeline.Plan{Source: csvSource(nil, "f"), Steps: []expr.Step{plainStep{keep}, plainStep{twice}}, Columns: pipeline.Columns{X: []string{"x", "z"}}}
	s, _, _, err := runPlan(t, memFiles{"f": []byte("a,b\n1,1\n-1,1\n,1\n")}, p)
	if err != nil || fmt.Sprint(s.vectors) != "[[0 NaN NaN] [0 NaN NaN]]" {
		t.Errorf("%v %v", s.vectors, err)
	}
}

func TestCancellingEndsFitAndWrite(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("asked to stop")
	cancel(why)
	e := Engine{Open: memFiles{"f": []byte("a\n1\n")}}
	p := pipeline.Plan{Source: csvSource(nil, "f"), Expect: pipeline.Expect{MinRows: 1}, Columns: pipeline.Columns{X: []string{"a"}}}
	if _, err := e.Fit(ctx, p); !errors.Is(err, why) {
		t.Errorf("Fit: %v", err)
	}
	if _, err := e.Write(ctx, p, pipeline.Stage{Sink: &sink{}}); !errors.Is(err, why) {
		t.Errorf("Write: %v", err)
	}
}

func TestExplainShowsSourceStepsAndSplit(t *testing.T) {
	var head, row []string
	for i := range 64 {
		head, row = append(head, fmt.Sprintf("p%d", i)), append(row, "1")
	}
	text := "id,label," + strings.Join(head, ",") + "\n1,2," + strings.Join(row, ",") + "\n"
	p := pipeline.Plan{
		Source:  csvSource(nil, "digits.csv"),
		Expect:  pipeline.Expect{MinRows: 1000, Labels: map[string][]float64{"label": {0, 1, 2}}},
		Steps:   []expr.Step{assembleStep{head, "pixels"}, minMaxStep{"pixels", "features", true}, oneHotStep{"label", "target", 0}},
		Columns: pipeline.Columns{X: []string{"features"}, Y: []string{"target"}, Keep: []string{"id"}},
		Split:   pipeline.Split{Key: "id", Seed: 1, Parts: []pipeline.Part{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}},
		Shards:  4,
	}
	e := Engine{Open: memFiles{"digits.csv": []byte(text)}}
	got, err := e.Explain(t.Context(), p)
	want := `engine   embedded
source   csv: digits.csv
           id: int64
           label: int64
           p0 … p63: 64 columns, int64 each
expect   at least 1000 rows
         label: one of 0, 1, 2
step 1   assemble
           a row is an error when an input is NULL or NaN
           pixels: float32[64] = cast(vector(p0, p1, p2, p3, p4, p5, … 57 more …, p63), float32)
step 2   min_max
           a row is an error when pixels is NULL or NaN
           features: float32[64] = cast((((pixels - :min(pixels)) * :scale(pixels)) + 0), float32)
step 3   one_hot
           target: float32[?] = one_hot(label, ?)
fit      min(pixels), max(pixels), max(label) over the training rows
columns  x: features, float32[64]
         y: target, float32[?]
         keep: id, int64
split    by the hash of id, seed 1: train 80 %, test 20 %
write    4 shards a part
`
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	p.Columns.X = []string{"feature"}
	if _, err := e.Explain(t.Context(), p); kindOfError(err) != pipeline.MissingColumn {
		t.Errorf("absent column: %v", err)
	}
}

// The label and what is made of it may be absent in the data to predict.
func TestReplayRunsOnlyWhatTheInputsDependOn(t *testing.T) {
	train := "id,a,b,label,note\n1,1,10,0,x\n2,3,20,2,y\n3,5,30,1,z\n"
	both := expr.Fitted{Op: "cast", Guards: []expr.Guard{{Expr: expr.Call(expr.IsValid, expr.C("a"), expr.C("label")), Says: "NULL"}},
		Outputs: []expr.Column{{Name: "a", Type: expr.Type{Kind: expr.Float64}, Expr: expr.To(expr.Float64, expr.C("a"))},
			{Name: "label", Type: expr.Type{Kind: expr.Float64}, Expr: expr.To(expr.Float64, expr.C("label"))}}, Inputs: []string{"a", "label"}}
	odd := expr.Fitted{Op: "filter", Filter: expr.Call(expr.Ge, expr.C("label"), expr.Int(0))}
	sel := expr.Fitted{Op: "select", Only: []string{"id", "a", "b", "label"}}
	p := pipeline.Plan{Source: csvSource(nil, "train"), Columns: pipeline.Columns{X: []string{"x"}, Y: []string{"y"}},
		Steps: []expr.Step{plainStep{both}, plainStep{odd}, plainStep{sel}, assembleStep{[]string{"a", "b"}, "v"}, minMaxStep{"v", "x", true}, oneHotStep{"label", "y", 0}}}
	files := memFiles{"train": []byte(train), "new": []byte("id,a,b\n7,1,30\n8,5,10\n"), "bad": []byte("id,a\n7,1\n"), "null": []byte("id,a,b\n7,1,30\n8,,1\n")}
	s, p, _, err := runPlan(t, files, p)
	if err != nil {
		t.Fatal(err)
	}
	replay := func(name string, c pipeline.Columns) (string, error) {
		tab, err := OpenTable(t.Context(), files, csvSource(nil, name))
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		r, err := NewReplay(tab, p.Fitted, c)
		if err != nil {
			return "", err
		}
		rec, err := tab.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rows, from, err := r.Batch()
		if err != nil {
			return "", err
		}
		return fmt.Sprint(rec.NumRows(), rows.Vectors, from), nil
	}
	if got, err := replay("new", pipeline.Columns{X: []string{"x"}}); err != nil || got != "2 [[0 1 1 0]] [0 1]" {
		t.Errorf("%s %v", got, err)
	}
	if got, err := replay("train", pipeline.Columns{X: []string{"x"}, Y: []string{"y"}}); err != nil || got != fmt.Sprint(3, s.vectors, []int{0, 1, 2}) {
		t.Errorf("%s %v, want %v", got, err, s.vectors)
	}
	if _, err := replay("bad", pipeline.Columns{X: []string{"x"}}); kindOfError(err) != pipeline.MissingColumn || !strings.Contains(err.Error(), `no column "b"`) {
		t.Errorf("absent input: %v", err)
	}
	if _, err := replay("null", pipeline.Columns{X: []string{"x"}}); kindOfError(err) != pipeline.Data || !strings.HasPrefix(err.Error(), `null, line 3: cast: NULL: column "a" is NULL`) {
		t.Errorf("NULL input: %v", err)
	}
}

// Memory must not grow with the source: a longer file costs no more allocations a batch.
func TestMemoryDoesNotGrowWithTheRows(t *testing.T) {
	allocs := func(rows int) float64 {
		e := Engine{Open: memFiles{"images.csv": imageCSV(rows, 20)}}
		p := benchPlan(20, true)
		return testing.AllocsPerRun(3, func() {
			f, err := e.Fit(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Write(t.Context(), f, pipeline.Stage{Sink: &nullSink{}}); err != nil {
				t.Fatal(err)
			}
		})
	}
	short, long := allocs(20_000), allocs(80_000)
	if extra := (long - short) / 60_000; extra > 0.001 {
		t.Errorf("%v allocations for 20000 rows, %v for 80000: %v a row", short, long, extra)
	}
}
