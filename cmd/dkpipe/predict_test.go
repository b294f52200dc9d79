package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dkpipe/hdfsio/publish"
)

// smallModel is the quickstart with a model that was trained for a moment.
func smallModel(t *testing.T, changes ...string) string {
	t.Helper()
	dir := quickstart(t, changes...)
	run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.epochs=1,gate.at_least=0")
	return dir
}

// TestRawRowsAreReadAsTheModelWasTrained: what predict and evaluate say about raw rows that are not what training saw.
func TestRawRowsAreReadAsTheModelWasTrained(t *testing.T) {
	dir := smallModel(t)
	good := lines(t, filepath.Join(dir, "digits.csv"))
	put := func(name string, n int, pattern, with string) {
		all := slices.Clone(good)
		if n > 0 {
			all[n-1] = regexp.MustCompile(pattern).ReplaceAllString(all[n-1], with)
		}
		write(name, strings.Join(all, "\n")+"\n")(t, dir)
	}
	put("first.csv", 2, `^(\d+),\d+`, "$1,abc")
	put("decimals.csv", 1700, `^(\d+),\d+`, "$1,3.5")
	put("label.csv", 30, `\d+$`, "seven")
	put("null.csv", 9, `^(\d+),\d+`, "$1,")
	write("header.csv", good[0]+"\n")(t, dir)
	write("text.csv", good[0]+"\n"+strings.ReplaceAll(good[1], "0", "red")+"\n")(t, dir)
	long := good[0] + "\n" + strings.Repeat(strings.Join(good[1:], "\n")+"\n", 8)
	write("late.csv", long+"x"+good[1]+"\n")(t, dir)

	const guard = "correct the row, or set handle_invalid: skip (or keep, where the transformer has it) for assemble"
	const number = "correct the value, or leave the field empty and fill or leave out such rows"
	for name, c := range map[string]struct{ file, message, hint string }{
		"a bad cell in the first row": {"first.csv", `first.csv, line 2, column "p0": "abc" is not a number, which assemble needs`, number},
		"nothing but text":            {"text.csv", `text.csv, line 2, column "p0": "red" is not a number, which assemble needs`, number},
		"a header and no rows":        {"header.csv", "empty source: header.csv: columns, but no rows", "check that the file was written to its end"},
		"an empty field":              {"null.csv", `null.csv, line 9: assemble: one of "p0" … "p63" is NULL or NaN: column "p0" is NULL`, guard},
		"a passed column, late":       {"late.csv", `late.csv, line 14378, column "id": "x0" is not int64, the type that the first 6912 rows suggest`, "correct the value, or give the column's type: --types id=string"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, dir, 3, "predict", "--model", "out/model", "--in", c.file, "--out", "p.csv")
			if string(r.Error.Kind) != "data" || r.Error.Message != c.message || r.Error.Hint != c.hint {
				t.Errorf("got  %s: %s\n     next: %s\nwant data: %s\n     next: %s", r.Error.Kind, r.Error.Message, r.Error.Hint, c.message, c.hint)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*p.csv*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	if r := run(t, dir, 0, "predict", "--model", "out/model", "--in", "late.csv", "--out", "late-out.csv", "--types", "id=string"); r.Rows["predicted"] != 8*1797+1 {
		t.Errorf("with the type given: %v", r.Rows)
	}
	if r := run(t, dir, 3, "predict", "--model", "out/model", "--in", "late.csv", "--out", "p.csv", "--types", "id=int64"); r.Error.Hint != "correct the value, or give another type with --types" {
		t.Errorf("with a wrong type given: %+v", r.Error)
	}
	if r := run(t, dir, 0, "predict", "--model", "out/model", "--in", "decimals.csv", "--out", "d.csv"); r.Rows["predicted"] != 1797 {
		t.Errorf("decimals in a column of whole numbers: %v", r.Rows)
	}
	if r := run(t, dir, 0, "predict", "--model", "out/model", "--in", "label.csv", "--out", "l.csv"); r.Rows["predicted"] != 1797 {
		t.Errorf("a bad label, which no prediction needs: %v", r.Rows)
	}
	r := run(t, dir, 3, "evaluate", "--model", "out/model", "--data", "label.csv")
	if want := `label.csv, line 30, column "label": "seven" is not a number, which one_hot needs`; r.Error.Message != want {
		t.Errorf("evaluate: got %s\nwant %s", r.Error.Message, want)
	}
}

// TestABadCellIsNoFaultOfTheSpec: the same for preprocess, on a source that is read for the first time.
func TestABadCellIsNoFaultOfTheSpec(t *testing.T) {
	dir := quickstart(t)
	editLine(5, regexp.MustCompile(`^(\d+),\d+`), "$1,abc")(t, dir)
	for _, command := range []string{"preprocess", "run"} {
		r := run(t, dir, 3, command, "-f", "job.yaml")
		if want := `digits.csv, line 5, column "p0": "abc" is not a number, which assemble needs`; string(r.Error.Kind) != "data" || r.Error.Message != want {
			t.Errorf("%s: got %s: %s\nwant data: %s", command, r.Error.Kind, r.Error.Message, want)
		}
	}
	if left := published(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestEvaluateRawRows: raw rows of the dataset give what the dataset gives.
func TestEvaluateRawRows(t *testing.T) {
	dir := smallModel(t, "train: 0.8, test: 0.2", "train: 0.999, test: 0.001")
	prepared := run(t, dir, 0, "evaluate", "--model", "out/model", "--data", "out/dataset", "--split", "train")
	raw := run(t, dir, 0, "evaluate", "--model", "out/model", "--data", "digits.csv")
	if raw.Rows["raw"] != 1797 || raw.Metrics["raw"]["accuracy"] == 0 {
		t.Fatalf("%+v", raw)
	}
	for _, m := range []string{"loss", "accuracy"} {
		if d := raw.Metrics["raw"][m] - prepared.Metrics["train"][m]; d > 0.02 || d < -0.02 {
			t.Errorf("%s: raw %g, prepared %g", m, raw.Metrics["raw"][m], prepared.Metrics["train"][m])
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out/dataset/_pins")); err != nil {
		t.Errorf("the dataset was not pinned while it was read: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "out/dataset/_pins/*")); len(left) > 0 {
		t.Errorf("pins: %v", left)
	}
}

// TestDeclaredTypesOfTheTrainingHold: a column that the job declared as text is text again, also where it looks otherwise.
func TestDeclaredTypesOfTheTrainingHold(t *testing.T) {
	dir := smallModel(t, "source: {csv: digits.csv}", "source: {csv: digits.csv, types: {id: string}}")
	out := lines(t, filepath.Join(dir, "digits.csv"))
	out[1700] = "x" + out[1700]
	write("new.csv", strings.Join(out, "\n")+"\n")(t, dir)
	run(t, dir, 0, "predict", "--model", "out/model", "--in", "new.csv", "--out", "p.csv")
	if got := lines(t, filepath.Join(dir, "p.csv"))[1700]; !strings.HasPrefix(got, "x1699,") {
		t.Errorf("row 1700: %s", got)
	}
}

func TestPredictManyFiles(t *testing.T) {
	dir := smallModel(t)
	all := lines(t, filepath.Join(dir, "digits.csv"))
	if err := os.MkdirAll(filepath.Join(dir, "in*", "many"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		part := append([]string{all[0]}, all[1+i*100:101+i*100]...)
		write("in*/many/part-"+strconv.Itoa(i)+".csv", strings.Join(part, "\n")+"\n")(t, dir)
	}
	write("in*/many/_SUCCESS", "")(t, dir)
	for _, in := range []string{"in*/many", "in*/many/part-*.csv"} {
		r := run(t, dir, 0, "predict", "--model", "out/model", "--in", in, "--out", "p.csv")
		if got := lines(t, filepath.Join(dir, "p.csv")); r.Rows["predicted"] != 700 || len(got) != 701 || !strings.HasPrefix(got[700], "699,") {
			t.Errorf("%s: %v, %d lines", in, r.Rows, len(got))
		}
	}
	write("in*/many/part-9.parquet", "x")(t, dir)
	r := run(t, dir, 2, "predict", "--model", "out/model", "--in", "in*/many", "--out", "p.csv")
	if want := "--in in*/many: in*/many/part-0.csv and in*/many/part-9.parquet are of different formats"; r.Error.Message != want {
		t.Errorf("got %s\nwant %s", r.Error.Message, want)
	}
}

func TestPredictRefusesByName(t *testing.T) {
	dir := smallModel(t)
	write("there.csv", "old\n")(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "folder.csv"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, message, hint string }{
		{"--in digits.csv --out table:x", "--out table:x needs Spark", "say where Spark is: --spark-remote sc://host:15002, or SPARK_REMOTE"},
		{"--in table:x --out p.csv", "--in table:x needs Spark", "say where Spark is: --spark-remote sc://host:15002, or SPARK_REMOTE"},
		{"--in table:a;b --out p.csv", `--in table:a;b: "a;b" is no table's name`, "write table:name, table:schema.name or table:catalog.schema.name; a query goes into sql:…"},
		{"--in digits.csv --out table:a.b.c.d", `--out table:a.b.c.d: "a.b.c.d" is no table's name`, "write table:name, table:schema.name or table:catalog.schema.name, with backticks round a part of other characters"},
		{"--in digits.csv --out sql:x", "--out sql:x: a query is no place for predictions", "name a file or table:NAME"},
		{"--in digits.csv --out there.csv --mode error", "--out there.csv exists", "choose another name, or --mode overwrite"},
		{"--in digits.csv --out p.csv --mode apend", "--mode apend: there is no such mode", "did you mean append? known: error, overwrite, append"},
		{"--in digits.csv --out p.csv --mode append", "--mode append: nothing is appended to a file", "write another file, or append to a table: --out table:NAME"},
		{"--in digits.csv --out p.csv --stage x", "--stage is for --out table:NAME", "leave it out"},
		{"--in digits.csv --out folder.csv", "--out folder.csv is a folder", "name a file, for example folder.csv/predictions.parquet"},
		{"--in out/dataset --out p.csv", "out/dataset has a file LATEST: it is a prepared dataset or a model, and no raw rows",
			"name the raw rows that the dataset was made of; dkpipe evaluate measures a model on a prepared dataset"},
		{"--in digits.csv --out p.csv --types idd=string", `--types: digits.csv has no column "idd"`, `did you mean "id"?`},
		{"--in digits.csv --out p.csv --types id=number", `--types: column "id" has the unknown type "number"`, "use bool, int64, float64 or string"},
		{"--in digits.csv --out p.csv --events none/events", "--events none/events: there is no folder none", "make it, or name another file"},
	} {
		r := run(t, dir, 2, append([]string{"predict", "--model", "out/model"}, strings.Fields(c.args)...)...)
		if string(r.Error.Kind) != "usage" || r.Error.Message != c.message || r.Error.Hint != c.hint {
			t.Errorf("%s\ngot  %s: %s\n     next: %s\nwant usage: %s\n     next: %s", c.args, r.Error.Kind, r.Error.Message, r.Error.Hint, c.message, c.hint)
		}
	}
	if got := lines(t, filepath.Join(dir, "there.csv")); got[0] != "old" {
		t.Errorf("the file was touched: %s", got[0])
	}
}

func TestEvaluateKnowsItsSplits(t *testing.T) {
	dir := smallModel(t)
	for _, c := range []struct {
		split, kind, message, hint string
		code                       int
	}{
		{"foo", "usage", "--split foo: there is no such split", "known: train, validation, test", 2},
		{"tset", "usage", "--split tset: there is no such split", "did you mean test? known: train, validation, test", 2},
		{"validation", "data", "out/dataset/v000001 has no validation rows", "choose another --split; it has rows of train, test", 3},
	} {
		r := run(t, dir, c.code, "evaluate", "--model", "out/model", "--data", "out/dataset", "--split", c.split)
		if string(r.Error.Kind) != c.kind || r.Error.Message != c.message || r.Error.Hint != c.hint {
			t.Errorf("got  %s: %s\n     next: %s\nwant %s: %s\n     next: %s", r.Error.Kind, r.Error.Message, r.Error.Hint, c.kind, c.message, c.hint)
		}
	}
	r := run(t, dir, 2, "evaluate", "--model", "out/model", "--data", "digits.csv", "--split", "test")
	if !strings.HasPrefix(r.Error.Message, "--split is for prepared datasets") {
		t.Errorf("got %s", r.Error.Message)
	}
}

// TestWhatAKilledPredictLeft: the next one to the same output removes the parts of processes that have ended, and those
// alone.
func TestWhatAKilledPredictLeft(t *testing.T) {
	dir := smallModel(t)
	p := start(t, dir, []string{crashAt + "=predictions written#1"}, "predict", "--model", "out/model", "--in", "digits.csv", "--out", "p.csv")
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d, want a kill\n%s", code, &p.stderr)
	}
	parts := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, ".p.csv.part-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if left := parts(); len(left) != 1 {
		t.Fatalf("the killed process left %v", left)
	}
	mine := ".p.csv.part-" + publish.OwnerTag() + "-1"
	far := ".p.csv.part-0123456789ab_1_1-1"
	old := ".p.csv.part-0123456789ab_1_1-2"
	others := []string{mine, far, ".q.csv.part-" + filepath.Base(parts()[0]), ".p.csv.parts"}
	for _, name := range append(others, old) {
		write(name, "x")(t, dir)
	}
	if err := os.Chtimes(filepath.Join(dir, old), time.Time{}, time.Now().Add(-2*foreignAge)); err != nil {
		t.Fatal(err)
	}
	run(t, dir, 0, "predict", "--model", "out/model", "--in", "digits.csv", "--out", "p.csv")
	want := []string{filepath.Join(dir, far), filepath.Join(dir, mine)}
	slices.Sort(want)
	if left := parts(); !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
	for _, name := range others {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("of somebody who lives, or of another output: %v", err)
		}
	}
}

// TestAFullStdoutIsNoSuccess: a result that got lost is an error, and said on stderr.
func TestAFullStdoutIsNoSuccess(t *testing.T) {
	dir := smallModel(t)
	for _, c := range []struct {
		args string
		code int
	}{
		{"version --json", 1},
		{"version", 1},
		{"predict --model out/model --in digits.csv --out p.csv --json", 1},
		{"predict --model out/model --in digits.csv --out p.csv", 1},
		{"evaluate --model out/model --data out/dataset --split foo --json", 2},
		{"data cat digits.csv", 1},
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		cmd := exec.Command(os.Args[0], strings.Fields(c.args)...)
		var stderr bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, full, &stderr
		cmd.Env = append(os.Environ(), asProgram+"=1")
		_ = cmd.Run()
		full.Close()
		if code := cmd.ProcessState.ExitCode(); code != c.code || strings.Count(stderr.String(), "no space left on device") != 1 {
			t.Errorf("%s: exit code %d, want %d; stderr: %s", c.args, code, c.code, &stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "p.csv")); err != nil {
		t.Error(err)
	}
}

func TestNearestNames(t *testing.T) {
	for _, c := range []struct{ args, message, hint string }{
		{"predcit", `unknown command "predcit" for "dkpipe"`, "did you mean dkpipe predict?"},
		{"evalaute --model x", `unknown command "evalaute" for "dkpipe"`, "did you mean dkpipe evaluate?"},
		{"data lss x", `unknown command "lss" for "dkpipe data"`, "did you mean dkpipe data ls?"},
		{"box sttus", `unknown command "sttus" for "dkpipe box"`, "did you mean dkpipe box status?"},
		{"xyzzy", `unknown command "xyzzy" for "dkpipe"`, "dkpipe --help shows how it is used"},
		{"evaluate --modle x", "unknown flag: --modle", "did you mean --model? dkpipe evaluate --help lists the flags"},
		{"predict --oot=x", "unknown flag: --oot", "did you mean --out? dkpipe predict --help lists the flags"},
		{"run --fiel job.yaml", "unknown flag: --fiel", "did you mean --file? dkpipe run --help lists the flags"},
		{"predict --xyzzy", "unknown flag: --xyzzy", "dkpipe predict --help lists the flags"},
		{"predict --in a.csv b.csv", `dkpipe predict takes no argument "b.csv"`, "put a pattern in quotes, so that the shell leaves it alone: --in 'folder/*.csv'"},
		{"run now", `dkpipe run takes no argument "now"`, "dkpipe run --help shows how it is used"},
	} {
		r := run(t, t.TempDir(), 2, strings.Fields(c.args)...)
		if r.Error.Message != c.message || r.Error.Hint != c.hint {
			t.Errorf("%s\ngot  %s\n     next: %s\nwant %s\n     next: %s", c.args, r.Error.Message, r.Error.Hint, c.message, c.hint)
		}
	}
}

// TestAWarningIsShownOnce: on a terminal, where it was logged when it came up.
func TestAWarningIsShownOnce(t *testing.T) {
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("needs script (Debian, Ubuntu: apt-get install bsdutils) for a terminal")
	}
	dir := quickstart(t)
	cmd := exec.Command("script", "-qec", os.Args[0]+" run -f job.yaml --set train.window=1000,train.epochs=1,gate.at_least=0", "/dev/null")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "NO_COLOR=1", "TERM=dumb")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "train.window is 1000"); n != 1 {
		t.Errorf("the warning is there %d times:\n%s", n, out)
	}
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--set", "train.window=1000,train.epochs=1,gate.at_least=0", "--json")
	if code := p.wait(t); code != 0 {
		t.Fatal(&p.stderr)
	}
	var r struct{ Warnings []string }
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil || len(r.Warnings) == 0 {
		t.Errorf("the report lacks the warning: %s, %v", &p.stdout, err)
	}
}

// TestAJobInAFolderWithAStar: the spec's own folder is no pattern.
func TestAJobInAFolderWithAStar(t *testing.T) {
	dir := quickstart(t)
	for _, sub := range []string{"a*b?", "axbx"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"job.yaml", "digits.csv"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			write(filepath.Join(sub, name), strings.ReplaceAll(string(b), "csv: digits.csv", "csv: \"dig*.csv\""))(t, dir)
		}
	}
	r := run(t, dir, 0, "preprocess", "-f", "a*b?/job.yaml")
	if n := r.Rows["train"] + r.Rows["test"]; n != 1797 {
		t.Errorf("%d rows, want those of one file", n)
	}
}
