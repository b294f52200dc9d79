package local

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// abPlan scales a and b together, and takes c as a weight when it is there.
func abPlan(file string, columns pipeline.Columns) pipeline.Plan {
	return pipeline.Plan{Source: csvSource(nil, file), Columns: columns,
		Steps: []expr.Step{assembleStep{[]string{"a", "b"}, "v"}, minMaxStep{"v", "x", true}}}
}

// TestABadCellIsNamedWithItsLine: a bad cell among the rows that suggest the types does not make its column text, and
// so does not put the blame on the step that needs numbers.
func TestABadCellIsNamedWithItsLine(t *testing.T) {
	x := pipeline.Columns{X: []string{"x"}}
	for name, c := range map[string]struct {
		text    string
		columns pipeline.Columns
		want    string
	}{
		"first row":     {"id,a,b\n1,abc,2\n2,3,4\n3,5,6\n", x, `f, line 2, column "a": "abc" is not a number, which assemble needs`},
		"later row":     {"id,a,b\n1,1,2\n2,3,4x\n3,5,6\n", x, `f, line 3, column "b": "4x" is not a number, which assemble needs`},
		"decimals":      {"id,a,b\n1,1.5,2\n2,2.5,4\n3,1.2.3,6\n", x, `f, line 4, column "a": "1.2.3" is not a number, which assemble needs`},
		"only NULL":     {"id,a,b\n1,,2\n2,,4\n", x, `f, line 2: assemble: an input is NULL or NaN: column "a" is NULL`},
		"no rows":       {"id,a,b\n", x, `empty source: f: columns, but no rows`},
		"raw x":         {"a,b,u\n1,2,3\n2,3,oops\n3,4,5\n", pipeline.Columns{X: []string{"u"}}, `f, line 3, column "u": "oops" is not a number, which columns.x needs`},
		"raw weight":    {"a,b,u\n1,2,3\n2,3,-\n3,4,5\n", pipeline.Columns{X: []string{"x"}, Weight: "u"}, `f, line 3, column "u": "-" is not a number, which columns.weight needs`},
		"true is no 1":  {"a,b\n1,1\n2,true\n3,4\n", x, `f, line 3, column "b": "true" is not a number, which assemble needs`},
		"text for sure": {"id,a,b\n1,red,2\n2,green,4\n3,3,6\n", x, `vector: argument 1 (a) is string, not int64 or float or vector`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := runPlan(t, memFiles{"f": []byte(c.text)}, abPlan("f", c.columns))
			if err == nil || err.Error() != c.want {
				t.Fatalf("got %v\nwant %s", err, c.want)
			}
			if kind := kindOfError(err); name != "text for sure" && kind != pipeline.Data {
				t.Errorf("kind %s, want data", kind)
			}
		})
	}
}

// TestSuitChangesNothingThatFits: where the values suggest what the steps take, and for columns that no step reads, the
// values decide.
func TestSuitChangesNothingThatFits(t *testing.T) {
	files := memFiles{"f": []byte("id,a,b,note,n\n1,1,2,abc,7\n2,3,4.5,8,9\n")}
	tab, err := OpenTable(t.Context(), files, csvSource(nil, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	before := fmt.Sprint(tab.Fields())
	p := abPlan("f", pipeline.Columns{X: []string{"x"}})
	if err := tab.suit(unfitted(p.Steps, p.Columns), false); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(tab.Fields()); after != before {
		t.Errorf("%s\nbefore %s", after, before)
	}
}

// TestOnlyWhatStepsNeedIsReadAnew: of several text columns, those that the failing step reads become numbers.
func TestOnlyWhatStepsNeedIsReadAnew(t *testing.T) {
	text := "a,b,c,d\n1,2,3,4\n5,6,7,8\nx,y,z,w\n"
	tab, err := OpenTable(t.Context(), memFiles{"f": []byte(text)}, csvSource(nil, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	p := abPlan("f", pipeline.Columns{X: []string{"x", "d"}})
	if err := tab.suit(unfitted(p.Steps, p.Columns), false); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(tab.Fields()), "[{a float64} {b float64} {c string} {d float64}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestDeclaredTypesStand: what the plan declares is not second-guessed.
func TestDeclaredTypesStand(t *testing.T) {
	p := abPlan("f", pipeline.Columns{X: []string{"x"}})
	p.Source.Types = map[string]string{"a": "string"}
	_, _, _, err := runPlan(t, memFiles{"f": []byte("a,b\n1,2\n3,4\n")}, p)
	if err == nil || !strings.Contains(err.Error(), "is string") {
		t.Errorf("got %v, want that a is string", err)
	}
}

func TestJSONCellsAreNamedToo(t *testing.T) {
	p := abPlan("f", pipeline.Columns{X: []string{"x"}})
	p.Source.Format = pipeline.JSON
	_, _, _, err := runPlan(t, memFiles{"f": []byte("{\"a\": 1, \"b\": 2}\n{\"a\": \"abc\", \"b\": 3}\n{\"a\": 4, \"b\": 3}\n")}, p)
	if want := `f, line 2, column "a": "abc" is not a number, which assemble needs`; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// fittedAB fits the plan on sound rows.
func fittedAB(t *testing.T, more ...expr.Step) []expr.Fitted {
	t.Helper()
	p := abPlan("train", pipeline.Columns{X: []string{"x"}})
	p.Steps = append(p.Steps, more...)
	_, p, _, err := runPlan(t, memFiles{"train": []byte("id,a,b,s\n1,1,2,p\n2,3,4,q\n")}, p)
	if err != nil {
		t.Fatal(err)
	}
	return p.Fitted
}

// replayed reads a file through fitted steps and gives the vectors of its rows.
func replayed(t *testing.T, text string, fitted []expr.Fitted, c pipeline.Columns, pass ...string) (string, *Table, error) {
	t.Helper()
	tab, err := openTable(t.Context(), memFiles{"f": []byte(text)}, csvSource(nil, "f"), blocks{prefix: 64, block: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	tab.Pass(pass...)
	r, err := NewReplay(tab, fitted, c)
	if err != nil {
		return "", tab, err
	}
	out := ""
	for {
		if _, err := tab.Next(t.Context()); err == io.EOF {
			return out, tab, nil
		} else if err != nil {
			return out, tab, err
		}
		rows, _, err := r.Batch()
		if err != nil {
			return out, tab, err
		}
		out += fmt.Sprint(rows.Vectors)
	}
}

// TestReplayReadsWhatTheStepsWereFittedFor: the types are those of training, whatever the values of the new file look like.
func TestReplayReadsWhatTheStepsWereFittedFor(t *testing.T) {
	x := pipeline.Columns{X: []string{"x"}}
	fitted := fittedAB(t)
	for name, c := range map[string]struct{ text, want string }{
		"a bad cell":          {"a,b\n1,2\noops,4\n", `f, line 3, column "a": "oops" is not a number, which assemble needs`},
		"nothing but text":    {"a,b\nred,2\ngreen,4\n", `f, line 2, column "a": "red" is not a number, which assemble needs`},
		"truth values":        {"a,b\ntrue,2\nfalse,4\n", `f, line 2, column "a": "true" is not a number, which assemble needs`},
		"a header, no rows":   {"a,b\n", `empty source: f: columns, but no rows`},
		"nothing but NULL":    {"a,b\n,2\n,4\n", `f, line 2: assemble: an input is NULL or NaN: column "a" is NULL`},
		"a missing column":    {"a\n1\n", `the source has no column "b", which the model's columns are made of`},
		"decimals in the end": {"a,b\n" + strings.Repeat("1,2\n", 40) + "1.5,2\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := replayed(t, c.text, fitted, x)
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// vocabulary is a fitted step that reads text.
func vocabulary(in, out string) plainStep {
	n := &expr.Node{Op: expr.IndexOf, Args: []*expr.Node{expr.C(in)}, Texts: []string{"7", "8"}}
	return plainStep{expr.Fitted{Op: "string_index", Inputs: []string{in}, Outputs: []expr.Column{{Name: out, Type: expr.Type{Kind: expr.Int64}, Expr: n}}}}
}

// TestReplayReadsDigitsAsTextForAVocabulary: labels that happen to be digits are the labels that were learned.
func TestReplayReadsDigitsAsTextForAVocabulary(t *testing.T) {
	fitted := fittedAB(t, vocabulary("s", "i"))
	got, tab, err := replayed(t, "a,b,s\n1,2,8\n3,4,7\n", fitted, pipeline.Columns{X: []string{"x", "i"}})
	if err != nil || got != "[[0 0 1 1] [1 0]]" {
		t.Errorf("%s, %v; columns %v", got, err, tab.Fields())
	}
}

// TestPassedNumbersStayWhole: an output shows a whole number as one, though the model would take decimals.
func TestPassedNumbersStayWhole(t *testing.T) {
	fitted := fittedAB(t)
	text := "a,b,n\n1,2,5\n3,4,6\n"
	_, tab, err := replayed(t, text, fitted, pipeline.Columns{X: []string{"x"}}, "a", "n")
	if got, want := fmt.Sprint(tab.Fields()), "[{a int64} {b float64} {n int64}]"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestHashedNumbersStayWhole: 1 and 1.0 have different hashes, and training hashed 1.
func TestHashedNumbersStayWhole(t *testing.T) {
	h := expr.Call(expr.Hash, expr.C("a"))
	bucket := &expr.Node{Op: expr.Pmod, Args: []*expr.Node{h}, Int: 1000}
	fitted := fittedAB(t, plainStep{expr.Fitted{Op: "hash_bucket", Inputs: []string{"a"}, Outputs: []expr.Column{{Name: "h", Type: expr.Type{Kind: expr.Int64}, Expr: bucket}}}})
	_, tab, err := replayed(t, "a,b\n1,2\n", fitted, pipeline.Columns{X: []string{"x", "h"}})
	if got, want := fmt.Sprint(tab.Fields()), "[{a int64} {b float64}]"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestWideTablesAreSuitedQuickly: thousands of columns with bad cells are settled in well under a second.
func TestWideTablesAreSuitedQuickly(t *testing.T) {
	const n = 1500
	var names, cells, bad []string
	for i := range n {
		names, cells = append(names, fmt.Sprintf("p%d", i)), append(cells, "1")
		bad = append(bad, "1")
		if i%3 == 0 {
			bad[i] = "x"
		}
	}
	text := strings.Join(names, ",") + "\n" + strings.Join(cells, ",") + "\n" + strings.Join(bad, ",") + "\n"
	p := pipeline.Plan{Source: csvSource(nil, "f"), Columns: pipeline.Columns{X: []string{"v"}}, Steps: []expr.Step{assembleStep{names, "v"}}}
	_, _, _, err := runPlan(t, memFiles{"f": []byte(text)}, p)
	if want := `f, line 3, column "p0": "x" is not a number, which assemble needs`; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// nested is a record with a struct column.
func nested(t *testing.T) arrow.RecordBatch {
	t.Helper()
	s := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.StructOf(arrow.Field{Name: "u", Type: arrow.PrimitiveTypes.Int64})}}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(`[{"a": 1, "b": {"u": 2}}, {"a": 3, "b": {"u": 4}}]`))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// TestNestedColumnsAreNamedWhenTheyAreAskedFor: a column that cannot be used is not silently absent.
func TestNestedColumnsAreNamedWhenTheyAreAskedFor(t *testing.T) {
	open := func() *Table {
		rec := nested(t)
		tab, err := OpenRecords(t.Context(), "query", func() (arrow.RecordBatch, error) {
			r := rec
			if rec = nil; r == nil {
				return nil, io.EOF
			}
			return r, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return tab
	}
	tab := open()
	if names, why := tab.Unused(); len(names) != 1 || names[0] != "b" || !strings.Contains(why[0], "struct") {
		t.Errorf("unused: %q %q", names, why)
	}
	steps := map[string]expr.Step{"by name": assembleStep{[]string{"a", "b"}, "v"}, "by a pattern": patternStep{}}
	for name, s := range steps {
		err := open().suit(unfitted([]expr.Step{s}, pipeline.Columns{}), false)
		if kindOfError(err) != pipeline.Unsupported || !strings.HasPrefix(err.Error(), `assemble: column "b" is of the type struct<`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open().suit(unfitted([]expr.Step{assembleStep{[]string{"a"}, "v"}}, pipeline.Columns{}), false); err != nil {
		t.Errorf("not asked for: %v", err)
	}
	if _, err := NewReplay(open(), fittedAB(t), pipeline.Columns{X: []string{"x"}}); kindOfError(err) != pipeline.Unsupported || !strings.Contains(err.Error(), `column "b"`) {
		t.Errorf("replay: %v", err)
	}
}

// patternStep assembles whatever columns there are.
type patternStep struct{ assembleStep }

func (patternStep) Needs(in expr.Schema) ([]expr.Stat, error) {
	for _, f := range in {
		if !f.Type.Numeric() {
			return nil, errors.New(f.Name + " is no number")
		}
	}
	return nil, nil
}

func (patternStep) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	var names []string
	for _, f := range in {
		names = append(names, f.Name)
	}
	return assembleStep{names, "v"}.Fit(in, got)
}

// TestRecordsAreReadLikeFiles: batches from elsewhere become rows, in pieces, with the place of an error.
func TestRecordsAreReadLikeFiles(t *testing.T) {
	fitted := fittedAB(t)
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32}, {Name: "b", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
	record := func(text string) arrow.RecordBatch {
		rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	read := func(recs ...arrow.RecordBatch) (string, error) {
		tab, err := OpenRecords(t.Context(), "table sales", func() (arrow.RecordBatch, error) {
			if len(recs) == 0 {
				return nil, io.EOF
			}
			r := recs[0]
			recs = recs[1:]
			return r, nil
		})
		if err != nil {
			return "", err
		}
		defer tab.Close()
		r, err := NewReplay(tab, fitted, pipeline.Columns{X: []string{"x"}})
		if err != nil {
			return "", err
		}
		out := ""
		for {
			if _, err := tab.Next(t.Context()); err == io.EOF {
				return out, nil
			} else if err != nil {
				return out, err
			}
			rows, _, err := r.Batch()
			if err != nil {
				return out, err
			}
			out += fmt.Sprint(rows.Vectors)
		}
	}
	one, two, none := record(`[{"a": 1, "b": 2}]`), record(`[{"a": 3, "b": 4}, {"a": 1, "b": 4}]`), record(`[]`)
	if got, err := read(none, one, none, two); err != nil || got != "[[0 0]][[1 1 0 1]]" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := read(one, record(`[{"a": 3, "b": null}]`)); err == nil || err.Error() != `table sales, row 2: assemble: an input is NULL or NaN: column "b" is NULL` {
		t.Errorf("NULL: %v", err)
	}
	for name, recs := range map[string][]arrow.RecordBatch{"no record": nil, "no rows": {none}} {
		if _, err := read(recs...); kindOfError(err) != pipeline.Data || !strings.Contains(err.Error(), "table sales") || !strings.Contains(err.Error(), "no rows") {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("the stream broke")
	if _, err := OpenRecords(t.Context(), "q", func() (arrow.RecordBatch, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestShareGrowsToTheEnd: how much of a source was read, for bars.
func TestShareGrowsToTheEnd(t *testing.T) {
	files := memFiles{"a": imageCSV(20_000, 20), "b": imageCSV(20_000, 20)}
	tab, err := OpenTable(t.Context(), files, csvSource(nil, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	last, half := 0.0, false
	for {
		if _, err := tab.Next(t.Context()); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		share := tab.Share()
		if share < last || share > 1 {
			t.Fatalf("%g after %g", share, last)
		}
		half = half || share > 0.4 && share < 0.6
		last = share
	}
	if last < 0.99 || !half {
		t.Errorf("%g at the end, about a half seen: %t", last, half)
	}
}
