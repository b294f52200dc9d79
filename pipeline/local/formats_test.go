package local

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"pgregory.net/rapid"
)

func TestJSONLinesReadsTypesNullsAndLists(t *testing.T) {
	cases := []struct{ name, text, cols, rows string }{
		{"types", `{"a":1,"b":1.5,"c":true,"d":"x","e":[1,2.5]}` + "\n" + `{"e":[3,null],"a":-2,"d":"","c":null}` + "\n",
			"a int64|b float64|c bool|d string|e float64[2]", `1: 1 1.5 true "x" [1 2.5]|2: -2 null null "" [3 NaN]`},
		{"space, blank lines, no line end", " { \"a\" : 1 } \r\n\n{\"a\":2}", "a int64", "1: 1|3: 2"},
		{"escapes", `{"s":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dx"}`, "s string", `1: "a\"\\/\b\f\n\r\té😀` + "\ufffd" + `x"`},
		{"later keys", "{\"a\":1}\n{\"b\":2}\n{}\n", "a int64|b int64", "1: 1 null|2: null 2|3: null null"},
		{"mixed scalars are text", "{\"a\":1}\n{\"a\":\"x\"}\n{\"a\":true}\n", "a string", `1: "1"|2: "x"|3: "true"`},
		{"what is no column", `{"a":1,"o":{"x":[{}]},"l":["x"],"m":[[1]]}`, "a int64|o holds objects or mixed lists|l holds objects or mixed lists|m holds objects or mixed lists", "1: 1"},
		{"numbers of other programs", `{"a":NaN,"b":-Infinity}`, "a float64|b float64", "1: NaN -Inf"},
	}
	for _, c := range cases {
		for _, size := range []blocks{textBlocks(), {prefix: 200, block: 16}} {
			cols, rows, err := rowsOf(t, memFiles{"f": []byte(c.text)}, pipeline.Source{Format: pipeline.JSON, Files: []string{"f"}}, size)
			if err != nil || strings.Join(cols, "|") != c.cols || strings.Join(rows, "|") != c.rows {
				t.Errorf("%s: got %s\n%s %v", c.name, strings.Join(cols, "|"), strings.Join(rows, "|"), err)
			}
		}
	}
}

func TestJSONLinesErrorsNameLineAndKey(t *testing.T) {
	cases := []struct {
		text    string
		types   map[string]string
		kind    pipeline.Kind
		message string
	}{
		{"[{\"a\":1}]", nil, pipeline.Corrupt, `f, line 1: not a JSON object: "[{\"a\":1}]"`},
		{"{\"a\":1}\n{\"a\":\n1}\n", nil, pipeline.Corrupt, "f, line 2: the object does not end on its line"},
		{"{\"a\":01}\n", nil, pipeline.Corrupt, `f, line 1: not JSON at byte 8: "}"`},
		{"{\"a\":1,\"a\":2}\n", nil, pipeline.Corrupt, `f, line 1: the key "a" is there twice`},
		{"{\"a\":1}\n" + strings.Repeat("{\"a\":1}\n", prefixRows) + "{\"z\":1}\n", nil, pipeline.Data, `f, line 10002: the key "z" is not among those of the first 10000 rows`},
		{"{\"a\":[1,2]}\n{\"a\":[1]}\n", nil, pipeline.Data, `f, line 2, column "a": 1 elements, others have 2`},
		{"{\"a\":\"x\"}\n", map[string]string{"a": "int64"}, pipeline.Data, `f, line 1, column "a": "x" is not of the declared type int64`},
		{"\n\n", nil, pipeline.Data, "empty source: f: no object with a key in it"},
		{strings.Repeat(`{"a":`, 100), nil, pipeline.Corrupt, ""},
	}
	for _, c := range cases {
		_, _, err := rowsOf(t, memFiles{"f": []byte(c.text)}, pipeline.Source{Format: pipeline.JSON, Files: []string{"f"}, Types: c.types}, textBlocks())
		if kindOfError(err) != c.kind || c.message != "" && err.Error() != c.message {
			t.Errorf("%.40q: %v, want %s: %s", c.text, err, c.kind, c.message)
		}
	}
}

// What the scanner takes for an object must be one, and the other way round.
func FuzzJSONScanner(f *testing.F) {
	f.Add([]byte(`{"a":[1,null,{"b":"\u00e9\ud800"}],"c":-1.5e+3}`))
	f.Add([]byte(`{"a":tru}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		s := jsonScanner{b: line}
		_, ok := s.value(0)
		s.space()
		ok = ok && s.i == len(line)
		if bytes.ContainsAny(line, "\n") || bytes.Contains(line, []byte("NaN")) || bytes.Contains(line, []byte("Infinity")) || bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) >= jsonDepth {
			return
		}
		valid := json.Valid(line)
		if valid && !ok && !strings.Contains(string(line), "e") && !strings.Contains(string(line), "E") {
			var v any
			if json.Unmarshal(line, &v) == nil { // a number out of range is no value here
				t.Fatalf("%q is JSON but was refused", line)
			}
		}
		if ok && !valid {
			t.Fatalf("%q is not JSON but was taken", line)
		}
	})
}

func idx(kind byte, dims []int, values []byte) []byte {
	b := []byte{0, 0, kind, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	return append(b, values...)
}

func TestIDXPairsBecomeKeyPixelsAndLabel(t *testing.T) {
	images, labels := idx(8, []int{3, 2, 2}, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255}), idx(8, []int{3}, []byte{7, 8, 9})
	open := memFiles{"i": images, "l": labels, "iz": zipped(images), "lz": zipped(labels), "l2": idx(8, []int{2}, []byte{1, 2}), "cut": images[:20],
		"cutz": zipped(images[:20]), "f": idx(0x0d, []int{1, 1}, []byte{0x3f, 0x80, 0, 0}), "txt": []byte("hello, world")}
	src := func(f ...string) pipeline.Source { return pipeline.Source{Format: pipeline.IDX, Files: f} }
	want := "1: 0 [0 1 2 3] 7|2: 1 [4 5 6 7] 8|3: 2 [8 9 10 255] 9"
	for _, files := range [][]string{{"i", "l"}, {"iz", "lz"}, {"l", "i"}} {
		cols, rows, err := rowsOf(t, open, src(files...), textBlocks())
		if err != nil || strings.Join(cols, "|") != "id int64|pixels float32[4]|label int64" || strings.Join(rows, "|") != want {
			t.Errorf("%v: %v %v %v", files, cols, rows, err)
		}
	}
	_, rows, err := rowsOf(t, open, src("i", "l", "iz", "lz"), textBlocks())
	if err != nil || len(rows) != 6 || rows[3] != "1: 3 [0 1 2 3] 7" {
		t.Errorf("two pairs: %v %v", rows, err)
	}
	if cols, rows, err := rowsOf(t, open, src("f"), textBlocks()); err != nil || fmt.Sprint(cols, rows) != "[id int64 pixels float32[1]] [1: 0 [1]]" {
		t.Errorf("one file of floats: %v %v %v", cols, rows, err)
	}
	for _, c := range []struct {
		files   []string
		kind    pipeline.Kind
		message string
	}{
		{[]string{"i", "l2"}, pipeline.Data, "i has 3 rows, l2 has 2"},
		{[]string{"i", "i"}, pipeline.Data, "i and i both hold images"},
		{[]string{"cut", "l"}, pipeline.Corrupt, "cut has 20 bytes, its header promises 28 (3 rows)"},
		{[]string{"cutz", "l"}, pipeline.Corrupt, "cutz ends inside rows 1 to 3 of 3"},
		{[]string{"txt", "l"}, pipeline.Corrupt, "txt is not an IDX file: it starts with 68 65 6c 6c"},
		{[]string{"i", "l", "i"}, pipeline.BadSpec, "source.idx has 3 files"},
	} {
		_, _, err := rowsOf(t, open, src(c.files...), textBlocks())
		if kindOfError(err) != c.kind || !strings.HasPrefix(err.Error(), c.message) {
			t.Errorf("%v: %v, want %s", c.files, err, c.message)
		}
	}
}

// sample is a record with every type that is read, NULLs in every column.
func sample(t testing.TB, rows int) arrow.RecordBatch {
	return sampleWith(t, rows, arrow.ListOf(arrow.PrimitiveTypes.Float64))
}

// sampleWith takes the type of one of the two list columns.
func sampleWith(t testing.TB, rows int, pair arrow.DataType) arrow.RecordBatch {
	list := arrow.ListOf(arrow.PrimitiveTypes.Float32)
	fields := []arrow.Field{
		{Name: "i8", Type: arrow.PrimitiveTypes.Int8, Nullable: true}, {Name: "u32", Type: arrow.PrimitiveTypes.Uint32, Nullable: true},
		{Name: "i64", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "f32", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "f64", Type: arrow.PrimitiveTypes.Float64, Nullable: true}, {Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "dec", Type: &arrow.Decimal128Type{Precision: 9, Scale: 2}, Nullable: true},
		{Name: "v", Type: list, Nullable: true}, {Name: "w", Type: pair, Nullable: true},
		{Name: "n", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64}), Nullable: true},
	}
	schema := arrow.NewSchema(fields, nil)
	var text bytes.Buffer
	for r := range rows {
		text.WriteByte("[,"[min(r, 1)])
		if r%7 == 3 {
			fmt.Fprintln(&text, `{}`)
			continue
		}
		elem := "1.5"
		if r%5 == 2 {
			elem = "null"
		}
		fmt.Fprintf(&text, `{"i8":%d,"u32":%d,"i64":%d,"f32":%v,"f64":%v,"ok":%v,"s":"t%d","day":"2024-02-%02d","at":"2024-01-02 03:04:05.%06d","dec":"%d.25","v":[%d,%s,-3],"w":[%d,0.5],"n":{"x":1}}`+"\n",
			r%100-50, 4000000000+r, -r*1000000007, float32(r)/4, float64(r)/3, r%2 == 0, r, r%28+1, r, r, r, elem, r)
	}
	text.WriteByte(']')
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, &text)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

const sampleCols = "i8 int64|u32 int64|i64 int64|f32 float32|f64 float64|ok bool|s string|day string|at string|dec float64|v float32[3]|w float64[2]|"

func sampleRow(r int) string {
	if r%7 == 3 {
		return fmt.Sprintf("%d:%s", r+1, strings.Repeat(" null", 12))
	}
	elem := "1.5"
	if r%5 == 2 {
		elem = "NaN"
	}
	at := strings.TrimRight(fmt.Sprintf("2024-01-02 03:04:05.%06d", r), "0")
	if strings.HasSuffix(at, ".") {
		at = strings.TrimSuffix(at, ".")
		if r == 0 {
			at = "2024-01-02 03:04:05"
		}
	}
	return fmt.Sprintf(`%d: %d %d %d %v %v %v "t%d" "2024-02-%02d" %q %v [%d %s -3] [%d 0.5]`, r+1, r%100-50, 4000000000+r, -r*1000000007,
		float64(float32(r)/4), float64(r)/3, r%2 == 0, r, r%28+1, at, float64(r)+0.25, r, elem, r)
}

func checkSample(t *testing.T, what string, file []byte, format pipeline.Format, rows int) {
	t.Helper()
	cols, got, err := rowsOf(t, memFiles{"f": file}, pipeline.Source{Format: format, Files: []string{"f"}}, textBlocks())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if c := strings.Join(cols, "|"); !strings.HasPrefix(c, sampleCols) {
		t.Errorf("%s: columns %s", what, c)
	}
	if len(got) != rows {
		t.Fatalf("%s: %d rows, want %d", what, len(got), rows)
	}
	for r := range got {
		if got[r] != sampleRow(r) {
			t.Fatalf("%s: row %d\n got %s\nwant %s", what, r, got[r], sampleRow(r))
		}
	}
}

func TestArrowFilesAndStreamsAreRead(t *testing.T) {
	rec := sampleWith(t, 300, arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float64))
	var file, stream bytes.Buffer
	fw, err := ipc.NewFileWriter(&file, ipc.WithSchema(rec.Schema()), ipc.WithZstd())
	if err != nil {
		t.Fatal(err)
	}
	sw := ipc.NewWriter(&stream, ipc.WithSchema(rec.Schema()))
	for from := int64(0); from < 300; from += 100 {
		part := rec.NewSlice(from, from+100)
		if err := errors.Join(fw.Write(part), sw.Write(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(fw.Close(), sw.Close()); err != nil {
		t.Fatal(err)
	}
	checkSample(t, "file", file.Bytes(), pipeline.Arrow, 300)
	checkSample(t, "stream", stream.Bytes(), pipeline.Arrow, 300)
	for what, b := range map[string][]byte{"cut file": file.Bytes()[:file.Len()/2], "cut stream": stream.Bytes()[:stream.Len()/2], "text": []byte("id,label\n1,2\n")} {
		_, _, err := rowsOf(t, memFiles{"f.arrow": b}, pipeline.Source{Format: pipeline.Arrow, Files: []string{"f.arrow"}}, textBlocks())
		if kindOfError(err) != pipeline.Corrupt || !strings.Contains(err.Error(), "f.arrow") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whatever bytes are damaged, reading ends with an error of a kind, or with rows; it never panics.
func TestDamagedArrowAndIDXNeverPanic(t *testing.T) {
	rec := sample(t, 60)
	var file, stream bytes.Buffer
	fw, err := ipc.NewFileWriter(&file, ipc.WithSchema(rec.Schema()), ipc.WithLZ4())
	if err != nil {
		t.Fatal(err)
	}
	sw := ipc.NewWriter(&stream, ipc.WithSchema(rec.Schema()))
	if err := errors.Join(fw.Write(rec), fw.Close(), sw.Write(rec), sw.Close()); err != nil {
		t.Fatal(err)
	}
	images := idx(8, []int{5, 3, 2}, make([]byte, 30))
	rapid.Check(t, func(rt *rapid.T) {
		for format, good := range map[pipeline.Format][][]byte{pipeline.Arrow: {file.Bytes(), stream.Bytes()}, pipeline.IDX: {images}} {
			for _, g := range good {
				b := bytes.Clone(g)
				for range rapid.IntRange(1, 4).Draw(rt, "bytes") {
					b[rapid.IntRange(0, len(b)-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
				}
				if rapid.IntRange(0, 3).Draw(rt, "cut") == 0 {
					b = b[:rapid.IntRange(1, len(b)).Draw(rt, "length")]
				}
				_, _, err := rowsOf(t, memFiles{"f": b}, pipeline.Source{Format: format, Files: []string{"f"}}, textBlocks())
				if k := kindOfError(err); err != nil && k != pipeline.Corrupt && k != pipeline.Data {
					rt.Fatalf("%v is of kind %q", err, k)
				}
			}
		}
	})
}

func parquetOf(t testing.TB, rec arrow.RecordBatch, opts ...parquet.WriterProperty) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pqarrow.NewFileWriter(rec.Schema(), &b, parquet.NewWriterProperties(opts...), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestParquetIsReadWithAnyPagesAndRowGroups(t *testing.T) {
	rec := sample(t, 3000)
	for what, opts := range map[string][]parquet.WriterProperty{
		"default":       nil,
		"small pages":   {parquet.WithDataPageSize(300), parquet.WithBatchSize(16)},
		"row groups":    {parquet.WithMaxRowGroupLength(700)},
		"plain, v2":     {parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithDataPageSize(500), parquet.WithBatchSize(10)},
		"small, groups": {parquet.WithMaxRowGroupLength(111), parquet.WithDataPageSize(100), parquet.WithBatchSize(7)},
	} {
		checkSample(t, what, parquetOf(t, rec, opts...), pipeline.Parquet, 3000)
	}
}

func TestFilesOfAnotherLibraryAreRead(t *testing.T) {
	for name, format := range map[string]pipeline.Format{"pyarrow.parquet": pipeline.Parquet, "pyarrow.arrow": pipeline.Arrow} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		cols, rows, err := rowsOf(t, memFiles{name: data}, pipeline.Source{Format: format, Files: []string{name}}, textBlocks())
		if err != nil || len(rows) != 40 || strings.Join(cols, "|") != "i int64|f float64|s string|ls string|b bool|day string|at string|v float32[3]" {
			t.Fatalf("%s: %d rows of %v, %v", name, len(rows), cols, err)
		}
		for i, got := range rows {
			at := "2024-01-02 03:04:05"
			if i > 0 {
				at += strings.TrimRight(fmt.Sprintf(".%03d", i), "0")
			}
			want := fmt.Sprintf(`%d: %d %v "t%d" "é%d" %v "2024-02-%02d" %q [%d 0.5 %d]`, i+1, i, float64(i)/3, i%3, i, i%2 == 0, 1+i%28, at, i, -i)
			if i%9 == 4 {
				want = fmt.Sprintf("%d:%s", i+1, strings.Repeat(" null", 8))
			}
			if got != strings.Replace(want, "0.5 0]", "0.5 -0]", 1) && got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
}

func TestDamagedParquetIsCorruptAndNamesTheFile(t *testing.T) {
	good := parquetOf(t, sample(t, 500))
	src := pipeline.Source{Format: pipeline.Parquet, Files: []string{"f.parquet"}}
	for what, c := range map[string]struct {
		data    []byte
		message string
	}{
		"text":    {[]byte("id,label\n1,2\n3,4\n"), `f.parquet is not Parquet: it starts with "id,label\n1,2\n3,4\n"`},
		"cut off": {good[:len(good)/2], "f.parquet is cut off: it starts like Parquet but its last bytes are"},
		"tiny":    {[]byte("PAR1"), "f.parquet is cut off"},
	} {
		_, _, err := rowsOf(t, memFiles{"f.parquet": c.data}, src, textBlocks())
		if kindOfError(err) != pipeline.Corrupt || !strings.HasPrefix(err.Error(), c.message) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := rowsOf(t, memFiles{"f.parquet": nil}, src, textBlocks()); kindOfError(err) != pipeline.Data || err.Error() != "f.parquet is empty (0 bytes)" {
		t.Errorf("empty file: %v", err)
	}
	empty := sample(t, 4).NewSlice(0, 0)
	if _, _, err := rowsOf(t, memFiles{"f.parquet": parquetOf(t, empty)}, src, textBlocks()); kindOfError(err) != pipeline.Data || !strings.Contains(err.Error(), "empty source: f.parquet") {
		t.Errorf("no rows: %v", err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		b := bytes.Clone(good)
		for range rapid.IntRange(1, 4).Draw(rt, "bytes") {
			b[rapid.IntRange(4, len(b)-5).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
		}
		_, _, err := rowsOf(t, memFiles{"f.parquet": b}, src, textBlocks()) // must not panic
		if k := kindOfError(err); err != nil && k != pipeline.Corrupt && k != pipeline.Data {
			rt.Fatalf("%v is of kind %q", err, k)
		}
	})
}

func TestListsOfOtherLengthsAreRefusedByRow(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32), Nullable: true}}, nil)
	for text, want := range map[string]string{
		`[{"v":[1,2]},{"v":[1,2,3]}]`:        `f, row 2, column "v": the list has 3 elements, others have 2`,
		`[{"v":[1,2]},{"v":[1]},{"v":[1]}]`:  `f, row 2, column "v": the list has 1 elements, others have 2`,
		`[{"v":null},{"v":[1,2]},{"v":[]}]`:  `f, row 3, column "v": the list`,
		`[{"v":[1,2]},{"v":[1]},{"v":null}]`: `f, row 2, column "v": the list has 1 elements, others have 2`,
	} {
		rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		w := ipc.NewWriter(&file, ipc.WithSchema(schema))
		if err := errors.Join(w.Write(rec), w.Close()); err != nil {
			t.Fatal(err)
		}
		for format, b := range map[pipeline.Format][]byte{pipeline.Parquet: parquetOf(t, rec), pipeline.Arrow: file.Bytes()} {
			_, _, err := rowsOf(t, memFiles{"f": b}, pipeline.Source{Format: format, Files: []string{"f"}}, textBlocks())
			if kindOfError(err) != pipeline.Data || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s %s: %v, want %s", format, text, err, want)
			}
		}
	}
}

// A table that is written reads back equal, as Parquet and as CSV.
func TestTableWritersGiveBackTheTable(t *testing.T) {
	file := parquetOf(t, sample(t, 2000))
	tab, err := OpenTable(t.Context(), memFiles{"f": file}, pipeline.Source{Format: pipeline.Parquet, Files: []string{"f"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	var pq, csv bytes.Buffer
	with := arrow.NewSchema(append(tab.Schema().Fields(), arrow.Field{Name: "p", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), Nullable: true}), nil)
	pw, err := NewParquetWriter(&pq, with)
	if err != nil {
		t.Fatal(err)
	}
	cw, err := NewCSVWriter(&csv, with)
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := tab.Next(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := make([]float32, 2*rec.NumRows())
		p[0] = 0.25
		rec = WithFloats(rec, "p", 2, p)
		if err := errors.Join(pw.Write(rec), cw.Write(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(pw.Close(), cw.Close()); err != nil {
		t.Fatal(err)
	}
	cols, rows, err := rowsOf(t, memFiles{"f": pq.Bytes()}, pipeline.Source{Format: pipeline.Parquet, Files: []string{"f"}}, textBlocks())
	if err != nil || strings.Join(cols, "|") != sampleCols+"p float32[2]" || len(rows) != 2000 || rows[0] != sampleRow(0)+" [0.25 0]" || rows[1999] != sampleRow(1999)+" [0 0]" {
		t.Errorf("Parquet: %v %d rows %v", cols, len(rows), err)
	}
	_, rows, err = rowsOf(t, memFiles{"f": csv.Bytes()}, csvSource(nil, "f"), textBlocks())
	if err != nil || len(rows) != 2000 {
		t.Fatalf("CSV: %d rows, %v", len(rows), err)
	}
	if want := `2: -50 4000000000 0 0 0 true "t0" "2024-02-01" "2024-01-02 03:04:05" 0.25 "[0,1.5,-3]" "[0,0.5]" "[0.25,0]"`; rows[0] != want {
		t.Errorf("CSV: %s\nwant %s", rows[0], want)
	}
}

func TestCSVWriterTellsNullFromEmptyText(t *testing.T) {
	c := column{}
	c.reset(expr.Type{Kind: expr.String}, 3)
	for r, v := range []expr.Value{{Null: true}, {Text: ""}, {Text: "a \"b\",\nc"}} {
		c.setValue(t, r, v)
	}
	f := column{}
	f.reset(expr.Type{Kind: expr.Float64}, 3)
	copy(f.f64, []float64{math.Inf(-1), math.NaN(), 0.1})
	schema := arrowSchema(expr.Schema{{Name: "s,", Type: c.typ}, {Name: "f", Type: f.typ}})
	var b bytes.Buffer
	w, err := NewCSVWriter(&b, schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(record(schema, []*column{&c, &f}, 3)), w.Close()); err != nil {
		t.Fatal(err)
	}
	if want := "\"s,\",f\n,-Inf\n\"\",NaN\n\"a \"\"b\"\",\nc\",0.1\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
