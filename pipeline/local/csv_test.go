package local

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"pgregory.net/rapid"
)

// kindOfError gives an error's kind, or the empty string.
func kindOfError(err error) pipeline.Kind {
	var e *pipeline.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// rowsOf reads a whole source; a value prints as null, a number, a quoted text, true or a list.
func rowsOf(t testing.TB, open memFiles, src pipeline.Source, text blocks) ([]string, []string, error) {
	t.Helper()
	tab, err := openTable(t.Context(), open, src, text)
	if err != nil {
		return nil, nil, err
	}
	defer tab.Close()
	var cols, rows []string
	for _, f := range tab.cols {
		cols = append(cols, f.Name+" "+f.what())
	}
	for {
		b, err := tab.next(t.Context())
		if err == io.EOF {
			return cols, rows, nil
		}
		if err != nil {
			return cols, rows, err
		}
		for r := range b.n {
			var vals []string
			for c := range b.cols {
				if tab.cols[c].refused == "" {
					vals = append(vals, printed(b.cols[c].value(r)))
				}
			}
			p := b.place(r)
			if p.Line == 0 {
				p.Line = p.Row
			}
			rows = append(rows, fmt.Sprintf("%d: %s", p.Line, strings.Join(vals, " ")))
		}
	}
}

func printed(v expr.Value) string {
	switch {
	case v.Null:
		return "null"
	case v.Vec != nil:
		return fmt.Sprint(v.Vec)
	case v.Kind == expr.String:
		return fmt.Sprintf("%q", v.Text)
	case v.Kind == expr.Bool:
		return fmt.Sprint(v.Int != 0)
	case v.Kind == expr.Int64:
		return fmt.Sprint(v.Int)
	}
	return fmt.Sprint(v.Num)
}

func csvSource(types map[string]string, files ...string) pipeline.Source {
	return pipeline.Source{Format: pipeline.CSV, Files: files, Types: types}
}

func TestCSVReadsTypesNullsQuotesAndLines(t *testing.T) {
	cases := []struct{ name, text, cols, rows string }{
		{"types of a prefix", "a,b,c,d,e\n1,1.5,true,x,\n-2,3,FALSE,\"\",\n", "a int64|b float64|c bool|d string|e string",
			`2: 1 1.5 true "x" null|3: -2 3 false "" null`},
		{"unquoted empty is NULL, quoted empty is text", "s,n\n,1\n\"\",\n\"a\",3\n", "s string|n int64", `2: null 1|3: "" null|4: "a" 3`},
		{"quotes, commas and line ends inside quotes", "s,n\n\"a \"\"b\"\", c\nd\",1\nx,2\n", "s string|n int64", `2: "a \"b\", c\nd" 1|4: "x" 2`},
		{"CRLF and no line end at the end", "s,n\r\na,1\r\n,2\r\nb,", "s string|n int64", `2: "a" 1|3: null 2|4: "b" null`},
		{"byte order mark", "\xef\xbb\xbfa\n1\n", "a int64", "2: 1"},
		{"blank lines between rows", "a,b\n\n1,2\n\r\n3,4\n\n", "a int64|b int64", "3: 1 2|5: 3 4"},
		{"a blank line is NULL in a single column", "a\n1\n\n2\n", "a int64", "2: 1|3: null|4: 2"},
		{"large and odd numbers", "a,b,c\n9223372036854775807,12345678901234567890,1e400x\n-9223372036854775808,-1E3,y\n",
			"a int64|b float64|c string", `2: 9223372036854775807 1.2345678901234567e+19 "1e400x"|3: -9223372036854775808 -1000 "y"`},
		{"spaces around numbers", "a,b\n 1,2 \n 3 , 4.5\n", "a int64|b float64", "2: 1 2|3: 3 4.5"},
		{"NaN and infinities are floats", "a\n1\nNaN\n-inf\nInfinity\n", "a float64", "2: 1|3: NaN|4: -Inf|5: +Inf"},
		{"hexadecimal and underscores are text", "a,b\n0x10,1_000\n", "a string|b string", `2: "0x10" "1_000"`},
		{"quoted numbers are numbers", "a,b\n\"1\",\"2.5\"\n", "a int64|b float64", "2: 1 2.5"},
		{"names that are empty get Spark's", ",a\n0,1\n", "_c0 int64|a int64", "2: 0 1"},
		{"a quote inside a field stands for itself", "a,b\n5\" pipe,1\n", "a string|b int64", `2: "5\" pipe" 1`},
		{"signs and leading zeros", "a,b\n+5,007\n-0,1\n", "a int64|b int64", "2: 5 7|3: 0 1"},
	}
	for _, c := range cases {
		for _, size := range []blocks{textBlocks(), {prefix: 64, block: 8}} {
			cols, rows, err := rowsOf(t, memFiles{"f.csv": []byte(c.text)}, csvSource(nil, "f.csv"), size)
			if err != nil || strings.Join(cols, "|") != c.cols || strings.Join(rows, "|") != c.rows {
				t.Errorf("%s (%+v):\n got %s\n     %s %v\nwant %s\n     %s", c.name, size, strings.Join(cols, "|"), strings.Join(rows, "|"), err, c.cols, c.rows)
			}
		}
	}
}

func TestCSVErrorsNameFileLineColumnAndRemedy(t *testing.T) {
	many := "n\n" + strings.Repeat("1\n", prefixRows) + "x\n"
	cases := []struct {
		name, text string
		types      map[string]string
		kind       pipeline.Kind
		message    string
		hint       string
	}{
		{"ragged, too few", "a,b\n1,2\n3\n", nil, pipeline.Data, "f.csv, line 3: 1 fields, the header has 2", "give every row one field a column"},
		{"ragged, too many", "a,b\n1,2,3,4\n", nil, pipeline.Data, "f.csv, line 2: 4 fields, the header has 2", ""},
		{"doubled name", "a,b,a\n1,2,3\n", nil, pipeline.Data, `f.csv, line 1: fields 1 and 3 are both named "a"`, "the first line must hold the column names"},
		{"empty file", "", nil, pipeline.Data, "f.csv is empty (0 bytes)", "remove the file"},
		{"header without rows", "a,b\n", nil, pipeline.Data, "empty source: f.csv: columns, but no rows", ""},
		{"open quote", "a,b\n1,\"x\n", nil, pipeline.Data, "f.csv: the quote opened in the record at line 2 is never closed", "close the quote"},
		{"text after a quote", "a,b\n1,\"x\"y\n", nil, pipeline.Data, `f.csv, line 2: text follows the closing quote of "x"`, ""},
		{"value against the prefix", many, nil, pipeline.Data, fmt.Sprintf(`f.csv, line %d, column "n": "x" is not int64, the type that the first 10000 rows suggest`, prefixRows+2), "source: {types: {n: string}}"},
		{"value against a declared type", "a\n1.5\n", map[string]string{"a": "int64"}, pipeline.Data, `f.csv, line 2, column "a": "1.5" is not of the declared type int64`, "declare another type"},
		{"declared type of no column", "amount\n1\n", map[string]string{"amuont": "int64"}, pipeline.MissingColumn, `source.types: f.csv has no column "amuont"`, `did you mean "amount"?`},
		{"unknown declared type", "a\n1\n", map[string]string{"a": "number"}, pipeline.BadSpec, `source.types: column "a" has the unknown type "number"`, "use bool"},
		{"other separator", "a;b\n1;2\n", nil, pipeline.Data, `f.csv, line 1: the header has no comma but is "a;b"`, "separate the columns by commas"},
		{"Parquet under another name", "PAR1....", nil, pipeline.Corrupt, "f.csv is not text: it starts like a parquet file", "source: {parquet: ...}"},
		{"UTF-16", "\xff\xfea\x00", nil, pipeline.Corrupt, "f.csv is UTF-16 text", "iconv"},
		{"not UTF-8", "a\nx\nGr\xfc\xdfe\n", nil, pipeline.Corrupt, `f.csv, line 3, column "a": "Gr\xfc\xdfe" is not UTF-8`, "iconv"},
		{"cut gzip", string(zipped([]byte("a\n1\n"))[:15]), nil, pipeline.Corrupt, "f.csv: the gzip data is damaged or cut off", "again"},
	}
	for _, c := range cases {
		_, _, err := rowsOf(t, memFiles{"f.csv": []byte(c.text)}, csvSource(c.types, "f.csv"), textBlocks())
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != c.kind || e.Message != c.message || !strings.Contains(e.Hint, c.hint) || e.Hint == "" {
			t.Errorf("%s: got %#v, want %s: %s (%s)", c.name, err, c.kind, c.message, c.hint)
		}
	}
	if _, _, err := rowsOf(t, memFiles{}, csvSource(nil, "no.csv"), textBlocks()); kindOfError(err) != pipeline.Data || !strings.Contains(err.Error(), "no.csv: there is no such file") {
		t.Errorf("absent file: %v", err)
	}
}

func zipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

func TestFilesOfASourceAreReadInOrderAndMustAgree(t *testing.T) {
	open := memFiles{"1.csv": []byte("a,b\n1,x\n"), "2.csv": zipped([]byte("a,b\n2,y\n")), "3.csv": []byte("a,c\n3,z\n"), "4.csv": []byte("a\n3\n"), "5.csv": []byte("a,b\nq,z\n")}
	_, rows, err := rowsOf(t, open, csvSource(nil, "1.csv", "2.csv"), textBlocks())
	if err != nil || strings.Join(rows, "|") != `2: 1 "x"|2: 2 "y"` {
		t.Errorf("%v %v", rows, err)
	}
	for file, want := range map[string]string{"3.csv": `3.csv: column 2 is "c", in the first file "b"`, "4.csv": `4.csv: column "b" of the first file is missing`,
		"5.csv": `5.csv, line 2, column "a": "q" is not int64`} {
		_, _, err := rowsOf(t, open, csvSource(nil, "1.csv", file), textBlocks())
		if kindOfError(err) != pipeline.Data || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

// Whatever the values and wherever a block ends, what the writer of the test writes is what the reader reads.
func TestCSVGivesBackWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kinds := rapid.SliceOfN(rapid.SampledFrom([]expr.Kind{expr.Int64, expr.Float64, expr.Bool, expr.String}), 2, 5).Draw(rt, "kinds")
		types := map[string]string{}
		var text []byte
		for i, k := range kinds {
			name := fmt.Sprintf("c%d", i)
			types[name] = string(k)
			text = append(append(text, name...), ',')
		}
		text[len(text)-1] = '\n'
		var want []string
		for range rapid.IntRange(1, 30).Draw(rt, "rows") {
			var row []string
			for _, k := range kinds {
				v := drawValue(rt, expr.Type{Kind: k})
				if v.Num == 0 {
					v.Num = math.Abs(v.Num)
				}
				row = append(row, printed(v))
				text = append(appendValue(text, v), ',')
			}
			text[len(text)-1] = '\n'
			want = append(want, strings.Join(row, " "))
		}
		size := blocks{prefix: 256, block: rapid.IntRange(1, 40).Draw(rt, "block")}
		_, rows, err := rowsOf(t, memFiles{"f.csv": text}, csvSource(types, "f.csv"), size)
		if err != nil {
			rt.Fatalf("%v in %q", err, text)
		}
		for i := range rows {
			_, rows[i], _ = strings.Cut(rows[i], ": ")
		}
		if strings.Join(rows, "|") != strings.Join(want, "|") {
			rt.Fatalf("got  %s\nwant %s\nfrom %q", rows, want, text)
		}
	})
}

func appendValue(b []byte, v expr.Value) []byte {
	switch {
	case v.Null:
		return b
	case v.Kind == expr.String:
		return append(append(append(b, '"'), strings.ReplaceAll(v.Text, `"`, `""`)...), '"')
	case v.Kind == expr.Bool:
		return fmt.Append(b, v.Int != 0)
	case v.Kind == expr.Int64:
		return fmt.Append(b, v.Int)
	}
	return appendFloat(b, v.Num, 64)
}

func TestNumbersOnTheFastPathAreThoseOfStrconv(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.OneOf(rapid.StringMatching(`-?[0-9]{1,21}`), rapid.StringMatching(`-?[0-9]{0,18}\.?[0-9]{0,18}([eE][+-]?[0-9]{1,3})?`)).Draw(rt, "number")
		b := append([]byte(s), ",       "...)
		want, ok := parseFloat([]byte(s))
		if got, j, fast := scanFloat(b, 0); fast && j == len(s) && (!ok || math.Float64bits(got) != math.Float64bits(want)) {
			rt.Fatalf("scanFloat(%q) = %v, want %v", s, got, want)
		}
		i, ok := parseInt([]byte(s))
		if got, j, fast := scanInt(b, 0); fast && j == len(s) && (!ok || got != i) {
			rt.Fatalf("scanInt(%q) = %v, want %v", s, got, i)
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("a,b\n1,\"x\ny\"\n"), 7)
	f.Add([]byte("a\r\n\"\"\r\n"), 1)
	f.Add([]byte("\xef\xbb\xbfa,b\n,\n\n1,2"), 3)
	f.Fuzz(func(t *testing.T, text []byte, block int) {
		if block < 1 || block > 64 {
			return
		}
		cols, rows, err := rowsOf(t, memFiles{"f": text}, csvSource(nil, "f"), textBlocks())
		if err != nil && kindOfError(err) == "" {
			t.Fatalf("an error without a kind: %v", err)
		}
		_, again, err2 := rowsOf(t, memFiles{"f": text}, csvSource(typesOf(cols), "f"), blocks{prefix: len(text) + 1, block: block})
		if err == nil && (err2 != nil || strings.Join(rows, "|") != strings.Join(again, "|")) {
			t.Fatalf("in blocks of %d: %v %q, want %q", block, err2, again, rows)
		}
	})
}

func typesOf(cols []string) map[string]string {
	m := map[string]string{}
	for _, c := range cols {
		i := strings.LastIndex(c, " ")
		m[c[:i]] = c[i+1:]
	}
	return m
}
