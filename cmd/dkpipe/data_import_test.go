package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
)

// idx makes a file of the IDX format with unsigned bytes.
func idx(t *testing.T, values []byte, dims ...int) string {
	t.Helper()
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	return string(append(b, values...))
}

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// fourIDX makes the files of a tiny MNIST: 5 and 3 images of 2 × 3 pixels; pixel k of image i is 10i+k, the label i.
func fourIDX(t *testing.T, dir string) string {
	t.Helper()
	for part, n := range map[string]int{"train": 5, "t10k": 3} {
		var pixels, labels []byte
		for i := range n {
			for k := range 6 {
				pixels = append(pixels, byte(10*i+k))
			}
			labels = append(labels, byte(i))
		}
		files(t, dir, "raw/"+part+"-images-idx3-ubyte.gz", zipped(t, idx(t, pixels, n, 2, 3)), "raw/"+part+"-labels-idx1-ubyte.gz", zipped(t, idx(t, labels, n)))
	}
	return dir
}

// rows reads a table back as one text a row.
func rows(t *testing.T, j *job, format pipeline.Format, files ...string) (header string, out []string) {
	t.Helper()
	table, err := local.OpenTable(t.Context(), anywhere{j.stores}, pipeline.Source{Format: format, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	var names []string
	for _, f := range table.Schema().Fields() {
		names = append(names, f.Name+" "+sparkType(f.Type))
	}
	for {
		rec, err := table.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return strings.Join(names, ", "), out
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			var cells []string
			for _, c := range rec.Columns() {
				cells = append(cells, c.ValueStr(i))
			}
			out = append(out, strings.Join(cells, " "))
		}
	}
}

// rowsBelow reads the table in a folder.
func rowsBelow(t *testing.T, dir, table string) (header string, out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, table, "part-*.parquet"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	j, _, _ := memJob(t)
	return rows(t, j, pipeline.Parquet, files...)
}

// mnistRows are the rows of fourIDX as a table.
func mnistRows() []string {
	var out []string
	for id := range 8 {
		i, part := id, "train"
		if id >= 5 {
			i, part = id-5, "test"
		}
		out = append(out, fmt.Sprintf("%d [%d,%d,%d,%d,%d,%d] %d %s", id, 10*i, 10*i+1, 10*i+2, 10*i+3, 10*i+4, 10*i+5, i, part))
	}
	return out
}

func TestImportMakesOneTableOfFourIDXFiles(t *testing.T) {
	dir := fourIDX(t, t.TempDir())
	r := data(t, dir, 0, "import", "--in", "raw/*.gz", "--out", "out/table")
	if r.Rows != 8 || r.Files != 2 || r.Output != "out/table" || r.Parts["train"] != 5 || r.Parts["test"] != 3 || len(r.Entries) != 2 || r.Seconds <= 0 {
		t.Errorf("%+v", r)
	}
	want := []importedColumn{{"id", "bigint"}, {"pixels", "array<float>"}, {"label", "bigint"}, {"part", "string"}}
	if !slices.Equal(r.Columns, want) {
		t.Errorf("columns %v", r.Columns)
	}
	var bytes int64
	for name, content := range tree(t, filepath.Join(dir, "out")) {
		if bytes += int64(len(content)); !strings.HasPrefix(name, "table/part-0000") {
			t.Errorf("left: %s", name)
		}
	}
	if bytes != r.Bytes {
		t.Errorf("%d bytes, the report says %d", bytes, r.Bytes)
	}
	header, got := rowsBelow(t, dir, "out/table")
	if header != "id bigint, pixels array<float>, label bigint, part string" || !slices.Equal(got, mnistRows()) {
		t.Errorf("%s\n%s", header, strings.Join(got, "\n"))
	}
	// The order of the arguments does not matter, nor how they are given; train comes first.
	for i, args := range [][]string{
		{"--in", "raw"},
		{"--in", "raw/t10k-labels-idx1-ubyte.gz,raw/train-labels-idx1-ubyte.gz", "--in", "raw/train-images-idx3-ubyte.gz,raw/t10k-images-idx3-ubyte.gz"},
		{"raw/t10k-images-idx3-ubyte.gz", "raw/t10k-labels-idx1-ubyte.gz", "raw/train-images-idx3-ubyte.gz", "raw/train-labels-idx1-ubyte.gz"},
	} {
		out := fmt.Sprintf("out/again%d", i)
		data(t, dir, 0, append([]string{"import", "--out", out}, args...)...)
		if _, got := rowsBelow(t, dir, out); !slices.Equal(got, mnistRows()) {
			t.Errorf("%q: %s", args, strings.Join(got, "\n"))
		}
	}
}

func TestImportOfOnePairHasNoPart(t *testing.T) {
	dir := fourIDX(t, t.TempDir())
	r := data(t, dir, 0, "import", "--in", "raw/t10k*", "--out", "out")
	if header, got := rowsBelow(t, dir, "out"); header != "id bigint, pixels array<float>, label bigint" || len(got) != 3 || r.Parts != nil {
		t.Errorf("%s, %d rows, parts %v", header, len(got), r.Parts)
	}
	data(t, dir, 0, "import", "--in", "raw/train-images-idx3-ubyte.gz", "--out", "images")
	if header, got := rowsBelow(t, dir, "images"); header != "id bigint, pixels array<float>" || len(got) != 5 {
		t.Errorf("%s, %d rows", header, len(got))
	}
}

func TestImportCutsFilesAndRenamesColumns(t *testing.T) {
	dir := fourIDX(t, t.TempDir())
	r := data(t, dir, 0, "import", "--in", "raw", "--out", "out", "--rows-per-file", "2", "--rename", "pixels=features", "--rename", "part=split")
	if r.Files != 5 { // 2, 2, 1 and 2, 1: no file holds rows of two parts
		t.Errorf("%d files", r.Files)
	}
	header, got := rowsBelow(t, dir, "out")
	if header != "id bigint, features array<float>, label bigint, split string" || !slices.Equal(got, mnistRows()) {
		t.Errorf("%s\n%s", header, strings.Join(got, "\n"))
	}
	// A swap is one step, not two.
	data(t, dir, 0, "import", "--in", "raw", "--out", "swapped", "--rename", "id=label", "--rename", "label=id")
	if header, got := rowsBelow(t, dir, "swapped"); header != "label bigint, pixels array<float>, id bigint, part string" || !slices.Equal(got, mnistRows()) {
		t.Errorf("%s\n%s", header, strings.Join(got, "\n"))
	}
}

func TestImportReadsEveryFormat(t *testing.T) {
	csv := "id,x,name,ok\n1,1.5,a,true\n2,,\"b,c\",false\n3,-2,\"\",true\n"
	dir := files(t, t.TempDir(), "a.csv", csv, "b.csv.gz", zipped(t, csv), "no-name", csv,
		"c.jsonl", `{"id":1,"x":1.5,"name":"a","ok":true}`+"\n"+`{"id":2,"x":null,"name":"b,c","ok":false}`+"\n"+`{"id":3,"x":-2,"name":"","ok":true}`+"\n")
	want := []string{"1 1.5 a true", "2 (null) b,c false", "3 -2  true"}
	for _, args := range [][]string{{"a.csv"}, {"b.csv.gz"}, {"c.jsonl"}, {"no-name", "--format", "csv"}, {"from-a.csv/part-00000.parquet"}, {"from-a.csv"}} {
		name := "from-" + strings.ReplaceAll(args[0], "/", "-") + strings.Repeat("x", len(args))
		if args[0] == "a.csv" {
			name = "from-a.csv"
		}
		data(t, dir, 0, append([]string{"import", "--out", name, "--in"}, args...)...)
		if header, got := rowsBelow(t, dir, name); header != "id bigint, x double, name string, ok boolean" || !slices.Equal(got, want) {
			t.Errorf("%s: %s\n%s", args, header, strings.Join(got, "\n"))
		}
	}
	data(t, dir, 0, "import", "--in", "from-a.csv", "--out", "as-csv", "--to", "csv", "--rows-per-file", "2")
	got := tree(t, filepath.Join(dir, "as-csv"))
	if want := map[string]string{"part-00000.csv": "id,x,name,ok\n1,1.5,a,true\n2,,\"b,c\",false\n", "part-00001.csv": "id,x,name,ok\n3,-2,\"\",true\n"}; !maps.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestImportReplacesOnlyTables(t *testing.T) {
	dir := fourIDX(t, t.TempDir())
	data(t, dir, 0, "import", "--in", "raw/t10k*", "--out", "out")
	if r := data(t, dir, 2, "import", "--in", "raw", "--out", "out"); r.Error.Message != "--out: out exists" {
		t.Errorf("%+v", r.Error)
	}
	files(t, dir, "out/_SUCCESS", "", "out/.part-00000.parquet.crc", "x") // what Spark leaves beside
	data(t, dir, 0, "import", "--in", "raw", "--out", "out", "--force")
	if _, got := rowsBelow(t, dir, "out"); !slices.Equal(got, mnistRows()) {
		t.Error("not replaced")
	}
	for name := range tree(t, dir) {
		if strings.Contains(name, tempPrefix) || strings.Contains(name, "_SUCCESS") {
			t.Errorf("left: %s", name)
		}
	}
	files(t, dir, "home/part-00000.parquet", "1", "home/letters/mother", "2", "home2/letter.txt", "3")
	for _, name := range []string{"home", "home2"} {
		before := tree(t, filepath.Join(dir, name))
		if r := data(t, dir, 2, "import", "--in", "raw", "--out", name, "--force"); !strings.Contains(r.Error.Message, "it is not only a table") {
			t.Errorf("%+v", r.Error)
		}
		if !maps.Equal(before, tree(t, filepath.Join(dir, name))) {
			t.Error("something is gone")
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	data(t, dir, 0, "import", "--in", "raw", "--out", "empty")
}

// TestImportThatIsKilledShowsNoHalfTable kills the process at every step that an observer can tell apart.
func TestImportThatIsKilledShowsNoHalfTable(t *testing.T) {
	for point, want := range map[string]string{"imported": "old", "old table aside": "none", "table replaced": "new"} {
		t.Run(point, func(t *testing.T) {
			dir := fourIDX(t, t.TempDir())
			data(t, dir, 0, "import", "--in", "raw/t10k*", "--out", "out")
			old := tree(t, filepath.Join(dir, "out"))
			p := start(t, dir, []string{crashAt + "=" + point + "#1"}, "data", "import", "--in", "raw", "--out", "out", "--force")
			if code := p.wait(t); code != -1 {
				t.Fatalf("exit code %d\n%s", code, &p.stderr)
			}
			state := "none"
			if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
				state = "new"
				if maps.Equal(old, tree(t, filepath.Join(dir, "out"))) {
					state = "old"
				} else if _, got := rowsBelow(t, dir, "out"); !slices.Equal(got, mnistRows()) {
					t.Errorf("half a table: %d rows", len(got))
				}
			}
			if state != want {
				t.Errorf("the table is %s, want %s", state, want)
			}
			data(t, dir, 0, "import", "--in", "raw", "--out", "out", "--force") // the same command again
			if _, got := rowsBelow(t, dir, "out"); !slices.Equal(got, mnistRows()) {
				t.Error("not replaced")
			}
		})
	}
}

// importTo runs import inside the process.
func importTo(t *testing.T, j *job, in, out string, force bool) (*importReport, error) {
	t.Helper()
	r := &importReport{}
	return r, j.importTable(t.Context(), importOptions{in: []string{in}, out: out, to: "parquet", rowsPerFile: 3, force: force}, r)
}

// TestImportThatFailsIsAllOrNothing fails every call to the store in turn, with nothing at the target and with a table
// there. What readers see afterwards is the old table or the new one, and the report does not lie about which.
func TestImportThatFailsIsAllOrNothing(t *testing.T) {
	t.Chdir(fourIDX(t, t.TempDir()))
	broken := errors.New("the wire broke")
	for _, replace := range []bool{false, true} {
		for n, more := 1, true; more; n++ {
			for _, lost := range []bool{false, true} {
				j, mem, faults := memJob(t)
				before := map[string]string{}
				if replace {
					if _, err := importTo(t, j, "raw/t10k*", "mem://ns/t/out", false); err != nil {
						t.Fatal(err)
					}
					before = memTree(t, mem)
				}
				calls := faults.Calls("")
				faults.Add(hdfstest.Fault{Nth: n, Err: broken, Done: lost})
				r, err := importTo(t, j, "raw", "mem://ns/t/out", replace)
				more = faults.Calls("")-calls >= n
				after := memTree(t, mem)
				faults.Clear()
				visible := map[string]string{}
				for name, content := range after {
					if !strings.Contains(name, "/"+tempPrefix) {
						visible[name] = content
					}
				}
				switch {
				case err == nil:
					var names []string
					for _, e := range r.Entries {
						names = append(names, e.Path)
					}
					if _, got := rows(t, j, pipeline.Parquet, names...); !slices.Equal(got, mnistRows()) || len(visible) != len(names) {
						t.Errorf("replace %v, call %d, lost %v: success with %q", replace, n, lost, got)
					}
				case !errors.Is(err, broken):
					t.Errorf("replace %v, call %d, lost %v: %v", replace, n, lost, err)
				case !maps.Equal(visible, before):
					t.Errorf("replace %v, call %d, lost %v: %v, and %d files instead of %d", replace, n, lost, err, len(visible), len(before))
				case len(after) != len(before):
					t.Errorf("replace %v, call %d, lost %v: %v left %v", replace, n, lost, err, slices.Sorted(maps.Keys(after)))
				}
			}
			if !more && n < 20 {
				t.Fatalf("only %d calls", n)
			}
		}
	}
}

func TestAnImportThatFindsAnotherTableAtTheEndSaysSo(t *testing.T) {
	t.Chdir(fourIDX(t, t.TempDir()))
	j, mem, faults := memJob(t)
	faults.Add(hdfstest.Fault{Op: hdfstest.Rename, Nth: 1, Hook: func(ctx context.Context, _ string) {
		if err := errors.Join(mem.Mkdir(ctx, "/out"), hdfsio.WriteFile(ctx, mem, "/out/part-00000.parquet", []byte("theirs"))); err != nil {
			t.Error(err)
		}
	}})
	_, err := importTo(t, j, "raw", "mem://ns/out", false)
	if pipelineKind(err) != "usage" || err.Error() != "mem://ns/out appeared while the table was written" {
		t.Errorf("%v", err)
	}
	if got := memTree(t, mem); !maps.Equal(got, map[string]string{"/out/part-00000.parquet": "theirs"}) {
		t.Errorf("%q", got)
	}
}

func TestIDXFilesFindTheirPairs(t *testing.T) {
	for _, c := range []struct {
		files, want []string
		parts       map[string]string
	}{
		{[]string{"a"}, []string{"a"}, nil},
		{[]string{"a", "b"}, []string{"a", "b"}, nil}, // names that tell nothing: as given
		{[]string{"t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz"}, []string{"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"}, nil},
		{[]string{"d/test-images.idx3-ubyte", "d/test-labels.idx1-ubyte", "d/train-images.idx3-ubyte", "d/train-labels.idx1-ubyte"},
			[]string{"d/train-images.idx3-ubyte", "d/train-labels.idx1-ubyte", "d/test-images.idx3-ubyte", "d/test-labels.idx1-ubyte"},
			map[string]string{"d/train-images.idx3-ubyte": "train", "d/test-images.idx3-ubyte": "test"}},
		{[]string{"hdfs://ns/emnist-letters-train-images-idx3-ubyte.gz", "hdfs://ns/emnist-letters-train-labels-idx1-ubyte.gz"},
			[]string{"hdfs://ns/emnist-letters-train-images-idx3-ubyte.gz", "hdfs://ns/emnist-letters-train-labels-idx1-ubyte.gz"}, nil},
		{[]string{"a/train-images-idx3-ubyte", "b/train-images-idx3-ubyte", "a/train-labels-idx1-ubyte", "b/train-labels-idx1-ubyte"}, // one part
			[]string{"a/train-images-idx3-ubyte", "a/train-labels-idx1-ubyte", "b/train-images-idx3-ubyte", "b/train-labels-idx1-ubyte"}, nil},
		{[]string{"x-images-idx3-ubyte", "x-labels-idx1-ubyte", "train-images-idx3-ubyte", "train-labels-idx1-ubyte"}, // a part without a name
			[]string{"x-images-idx3-ubyte", "x-labels-idx1-ubyte", "train-images-idx3-ubyte", "train-labels-idx1-ubyte"}, nil},
	} {
		got, parts, err := pairIDX(c.files)
		if err != nil || !slices.Equal(got, c.want) || !maps.Equal(parts, c.parts) || (parts == nil) != (c.parts == nil) {
			t.Errorf("%q: %q, %v, %v", c.files, got, parts, err)
		}
	}
}

// TestImportBadInput checks message, hint, exit code and that nothing is made.
func TestImportBadInput(t *testing.T) {
	for _, c := range []struct {
		args    string
		arrange []string
		code    int
		kind    string
		message string
		hint    string
	}{
		{args: "", code: 2, kind: "usage", message: "import needs --in and --out", hint: "dkpipe data import --in raw.csv --out out/table"},
		{args: "--in raw", code: 2, kind: "usage", message: "import needs --in and --out", hint: "dkpipe data import --in raw.csv --out out/table"},
		{args: "--in none --out out", code: 3, kind: "data", message: "none: there is no such file or folder",
			hint: "plain paths start at the working directory; dkpipe data ls shows what a folder holds"},
		{args: "--in raw --out .", code: 2, kind: "usage", message: "--out: . is a whole store or the working directory", hint: "name a folder to be made below it"},
		{args: "--in raw --out a.csv --force", code: 2, kind: "usage", message: "--out: a.csv is a file; import makes a folder of files", hint: "name a folder"},
		{args: "--in raw --out raw", code: 2, kind: "usage", message: "--out: raw exists", hint: "--force replaces it; or choose another name"},
		{args: "--in a.csv --out raw --force", code: 2, kind: "usage", message: "--out: raw holds t10k-images-idx3-ubyte.gz, so it is not only a table; --force does not replace it",
			hint: "remove it yourself (dkpipe data rm -r), or choose another name"},
		{args: "--in a.csv --out out --to orc", code: 2, kind: "usage", message: `--to: "orc" is not a format that import writes`, hint: "--to parquet or --to csv"},
		{args: "--in a.csv --out out --format xml", code: 2, kind: "usage", message: `--format: "xml" is not a format that import reads`, hint: "use idx, csv, json, arrow or parquet"},
		{args: "--in a.csv --out out --rows-per-file -1", code: 2, kind: "usage", message: "--rows-per-file: -1 is negative", hint: "0 leaves it to the size of the files"},
		{args: "--in a.csv --out out --rename id", code: 2, kind: "usage", message: `--rename: want OLD=NEW, got "id"`, hint: "--rename label=digit"},
		{args: "--in a.csv --out out --rename idd=key", code: 2, kind: "missing_column", message: `--rename: there is no column "idd"; did you mean "id"?`},
		{args: "--in a.csv --out out --rename id=x", code: 2, kind: "usage", message: `--rename: two columns would be called "x"`, hint: "choose another name"},
		{args: "--in a.csv --out out --rename id=k --rename id=l", code: 2, kind: "usage", message: `--rename: "id" is renamed twice`, hint: "give every column one name"},
		{args: "--in a.csv,a.csv --out out", code: 2, kind: "usage", message: "--in: a.csv is given twice", hint: "name every file once"},
		{args: "--in a.csv,raw --out out", code: 2, kind: "usage", message: "--in: a.csv is csv, raw/t10k-images-idx3-ubyte.gz is idx", hint: "import one format at a time, or set --format"},
		{args: "--in a.txt --out out", arrange: []string{"a.txt", "x"}, code: 2, kind: "usage", message: "--in: the name of a.txt does not tell its format",
			hint: "set --format idx, csv, json, arrow or parquet"},
		{args: "--in raw/train* --in raw/t10k-labels-idx1-ubyte.gz --out out", code: 2, kind: "usage", message: "--in: raw/t10k-labels-idx1-ubyte.gz has no images file",
			hint: "give the images file, too, or import this file alone"},
		{args: "--in raw/train* --in raw/t10k-images-idx3-ubyte.gz --out out", code: 2, kind: "usage", message: "--in: raw/t10k-images-idx3-ubyte.gz has no labels file",
			hint: "give the labels file, too, or import this file alone"},
		{args: "--in r --out out", arrange: []string{"r/train-images-idx3-ubyte", "\x00\x00\x08\x03\x00\x00\x00\x05\x00\x00\x00\x02\x00\x00\x00\x03abc", "r/train-labels-idx1-ubyte", "\x00\x00\x08\x01\x00\x00\x00\x05abcde"},
			code: 3, kind: "corrupt", message: "r/train-images-idx3-ubyte has 19 bytes, its header promises 46 (5 rows)", hint: "copy or make the file again"},
		{args: "--in r --out out", arrange: []string{"r/train-images-idx3-ubyte", "\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01ab", "r/train-labels-idx1-ubyte", "\x00\x00\x08\x01\x00\x00\x00\x01a"},
			code: 3, kind: "data", message: "r/train-images-idx3-ubyte has 2 rows, r/train-labels-idx1-ubyte has 1", hint: "give each images file its own labels file, in the same order"},
		{args: "--in b.csv --out out", arrange: []string{"b.csv", "id,x\n1,2\n3,4,5\n"}, code: 3, kind: "data", message: "b.csv, line 3: 3 fields, the header has 2",
			hint: "give every row one field a column; quote a value that has a comma in it"},
		{args: "--in b.csv --out out", arrange: []string{"b.csv", ""}, code: 3, kind: "data", message: "b.csv is empty (0 bytes)", hint: "remove the file from source, or write it again"},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir := files(t, fourIDX(t, t.TempDir()), append([]string{"a.csv", "id,x\n1,2\n"}, c.arrange...)...)
			before := tree(t, dir)
			r := data(t, dir, c.code, append([]string{"import"}, strings.Fields(c.args)...)...)
			if string(r.Error.Kind) != c.kind || r.Error.Message != c.message || r.Error.Hint != c.hint {
				t.Errorf("got  %s: %s\n     next: %s\nwant %s: %s\n     next: %s", r.Error.Kind, r.Error.Message, r.Error.Hint, c.kind, c.message, c.hint)
			}
			if after := tree(t, dir); !maps.Equal(before, after) {
				t.Errorf("left behind: %v", slices.Sorted(maps.Keys(after)))
			}
		})
	}
}

// BenchmarkImport writes the rows of an image set; the limit is how fast the Parquet writer encodes lists of floats.
func BenchmarkImport(b *testing.B) {
	const rows, width = 1024, 784
	pixels := make([]float32, rows*width)
	for i := range pixels {
		pixels[i] = float32(i * 7 % 251)
	}
	rec := local.WithFloats(array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, rows), "pixels", width, pixels)
	shape := &importShape{schema: arrow.NewSchema(append(rec.Schema().Fields(), arrow.Field{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true}), nil),
		part: true, texts: map[string]arrow.Array{}}
	mem := &hdfsio.Mem{}
	t := &tableFolder{at: place{fs: mem, path: "/"}, shape: shape, format: pipeline.Parquet}
	b.SetBytes(4 * rows * width)
	b.ReportAllocs()
	for b.Loop() {
		if err := t.write(b.Context(), rec, "train"); err != nil {
			b.Fatal(err)
		}
	}
	t.abort()
}
