package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/sparkconn"
)

// tables is a folder with a small model, and tables of its own on a Spark server.
type tables struct {
	t     *testing.T
	dir   string
	env   []string
	box   box.Box
	spark *sparkconn.Session
	name  string // of a table that is not there yet
	root  string // a folder of the test's own on HDFS
}

func newTables(t *testing.T) *tables {
	t.Helper()
	b := boxtest.Shared(t, "spark", "hdfs")
	s, err := sparkconn.Dial(t.Context(), b.Spark, sparkconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	x := &tables{t: t, dir: smallModel(t), env: []string{"SPARK_REMOTE=" + b.Spark, "HADOOP_CONF_DIR=" + b.Conf}, box: b, spark: s, name: "predict_" + id, root: "hdfs:///predict-" + id}
	t.Cleanup(func() {
		_ = start(t, x.dir, x.env, "data", "rm", "-r", x.root).wait(t) // only one test makes it
		for _, left := range x.tables() {
			_ = s.Exec(context.Background(), "", "DROP TABLE IF EXISTS "+left)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// predict runs dkpipe predict to its end.
func (x *tables) predict(code int, args ...string) result {
	x.t.Helper()
	p := start(x.t, x.dir, x.env, append(append([]string{"predict"}, args...), "--json")...)
	if got := p.wait(x.t); got != code {
		x.t.Fatalf("predict %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	return p.result(x.t)
}

// query gives the values of the one row of a query, as text; an error is given as it is.
func (x *tables) query(sql string) (string, error) {
	var out []string
	err := x.spark.Query(context.Background(), "", sql, func(rec arrow.RecordBatch) error {
		for i := range int(rec.NumRows()) {
			for _, c := range rec.Columns() {
				out = append(out, c.ValueStr(i))
			}
		}
		return nil
	})
	return strings.Join(out, " "), err
}

// count is how many rows a table has; -1 when there is none of that name. The session's memory of the table's files is
// dropped first: they are another session's.
func (x *tables) count() int {
	x.t.Helper()
	for {
		err := x.spark.Exec(context.Background(), "", "REFRESH TABLE "+x.name)
		got := ""
		if err == nil {
			got, err = x.query("SELECT count(*) FROM " + x.name)
		}
		if err != nil && strings.Contains(err.Error(), "TABLE_OR_VIEW_NOT_FOUND") {
			return -1
		}
		if err != nil && strings.Contains(err.Error(), "FILE_NOT_EXIST") {
			continue // replaced between the two statements, by what a killed process had asked for
		}
		n := 0
		if _, scanErr := fmt.Sscan(got, &n); err != nil || scanErr != nil {
			x.t.Fatalf("%q, %v", got, err)
		}
		return n
	}
}

// tables lists those of the test.
func (x *tables) tables() []string {
	got, err := x.query("SHOW TABLES LIKE '" + x.name + "*'")
	if err != nil {
		x.t.Error(err)
	}
	var names []string
	for i, f := range strings.Fields(got) {
		if i%3 == 1 {
			names = append(names, f)
		}
	}
	return names
}

// stages lists what waits for Spark below a local folder.
func (x *tables) stages(dir string) []string {
	x.t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, stagePrefix+"*"))
	if err != nil {
		x.t.Fatal(err)
	}
	return found
}

// TestPredictIntoATable: made, refused, appended to, replaced; through the connection and by way of HDFS and of a folder;
// what the table holds is what the file holds.
func TestPredictIntoATable(t *testing.T) {
	x := newTables(t)
	x.predict(0, "--model", "out/model", "--in", "digits.csv", "--out", "p.csv")
	right := agree(t, filepath.Join(x.dir, "p.csv"))
	p := start(t, x.dir, x.env, "data", "put", "out/model", x.root+"/model")
	if code := p.wait(t); code != 0 {
		t.Fatalf("data put: %s", &p.stderr)
	}
	p = start(t, x.dir, x.env, "data", "put", "digits.csv", x.root+"/in/digits.csv")
	if code := p.wait(t); code != 0 {
		t.Fatalf("data put: %s", &p.stderr)
	}
	stage := filepath.Join(x.dir, "stage")
	out := tablePrefix + x.name
	rows := 0
	for i, c := range []struct {
		args string
		code int
		rows int // more, or all of them after a replacement
	}{
		{"--model out/model --in digits.csv --out " + out, 0, 1797},
		{"--model out/model --in digits.csv --out " + out, 2, 0},
		{"--model out/model --in digits.csv --mode append --out " + out, 0, 1797},
		{"--model " + x.root + "/model --in digits.csv --mode overwrite --out " + out, 0, 1797},
		{"--model " + x.root + "/model --in " + x.root + "/in --mode append --out " + out, 0, 1797},
		{"--model out/model --in digits.csv --mode overwrite --out " + out + " --stage " + stage, 0, 1797},
	} {
		r := x.predict(c.code, strings.Fields(c.args)...)
		if strings.Contains(c.args, "overwrite") {
			rows = 0
		}
		rows += c.rows
		if got := x.count(); got != rows {
			t.Fatalf("%d %s: the table has %d rows, want %d", i, c.args, got, rows)
		}
		if c.code != 0 {
			if want := "table `" + x.name + "` exists"; r.Error.Message != want || !strings.Contains(r.Error.Hint, "--mode overwrite") {
				t.Errorf("got %s, next: %s", r.Error.Message, r.Error.Hint)
			}
			continue
		}
		if r.Rows["predicted"] != 1797 {
			t.Errorf("%s: %v", c.args, r.Rows)
		}
	}
	got, err := x.query("SELECT count_if(label = prediction) FROM " + x.name)
	if want := fmt.Sprint(right); err != nil || got != want {
		t.Errorf("%s predictions in the table are right, %v, in the file %s", got, err, want)
	}
	if left := x.stages(stage); len(left) > 0 {
		t.Errorf("stages: %v", left)
	}
	p = start(t, x.dir, x.env, "data", "ls", "hdfs:///tmp")
	if code := p.wait(t); code == 0 && strings.Contains(p.stdout.String(), stagePrefix) {
		t.Errorf("stages on HDFS: %s", &p.stdout)
	}
	if names := x.tables(); len(names) != 1 {
		t.Errorf("tables: %v", names)
	}
}

// TestPredictProbabilitiesIntoATable: vectors are lists there.
func TestPredictProbabilitiesIntoATable(t *testing.T) {
	x := newTables(t)
	x.predict(0, "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+x.name, "--probabilities", "--keep", "id")
	got, err := x.query("SELECT count(*), min(size(probabilities)), max(size(probabilities)), count_if(array_position(probabilities, array_max(probabilities)) = prediction + 1) FROM " + x.name)
	if want := "1797 10 10 1797"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestPredictFromATable: rows that Spark gives are predicted as those of the file they came from.
func TestPredictFromATable(t *testing.T) {
	x := newTables(t)
	source := x.name + "_source"
	if err := x.spark.Exec(t.Context(), "", "CREATE TABLE "+source+" USING csv OPTIONS (path 'file://"+filepath.Join(x.dir, "digits.csv")+"', header 'true', inferSchema 'true')"); err != nil {
		t.Fatal(err)
	}
	x.predict(0, "--model", "out/model", "--in", "digits.csv", "--out", "file.csv")
	want := lines(t, filepath.Join(x.dir, "file.csv"))
	for _, in := range []string{tablePrefix + source, queryPrefix + "SELECT * FROM " + source + " ORDER BY id"} {
		r := x.predict(0, "--model", "out/model", "--in", in, "--out", "spark.csv")
		got := lines(t, filepath.Join(x.dir, "spark.csv"))
		if r.Rows["predicted"] != 1797 || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %v, and other predictions than of the file", in, r.Rows)
		}
	}
	x.predict(0, "--model", "out/model", "--in", tablePrefix+source, "--out", tablePrefix+x.name)
	if n := x.count(); n != 1797 {
		t.Errorf("%d rows", n)
	}
	p := start(t, x.dir, x.env, "evaluate", "--model", "out/model", "--data", tablePrefix+source, "--json")
	if code := p.wait(t); code != 0 || p.result(t).Rows["raw"] != 1797 {
		t.Errorf("evaluate: exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	for _, c := range []struct {
		in, message, hint string
		code              int
		kind              string
	}{
		{tablePrefix + "none_" + x.name, "--in: table none_" + x.name + ": [TABLE_OR_VIEW_NOT_FOUND]", "check the name; SHOW TABLES lists what there is", 2, "usage"},
		{queryPrefix + "SELEC 1", "--in: query: [PARSE_SYNTAX_ERROR]", "", 2, "usage"},
		{queryPrefix + "SELECT * FROM " + source + " WHERE id < 0", "empty source: query: columns, but no rows", "", 3, "data"},
		{queryPrefix + "SELECT *, CAST(IF(id = 7, NULL, p0) AS DOUBLE) AS q FROM " + source, "", "", 0, ""},
		{queryPrefix + "SELECT * EXCEPT (p0), IF(id = 7, NULL, p0) AS p0 FROM " + source + " ORDER BY id",
			`query, row 8: assemble: one of "p0" … "p63" is NULL or NaN: column "p0" is NULL`, "", 3, "data"},
		{queryPrefix + "SELECT * EXCEPT (p0), named_struct('a', p0) AS p0 FROM " + source, `assemble: column "p0" is of the type struct<`, "", 2, "unsupported"},
	} {
		r := x.predict(c.code, "--model", "out/model", "--in", c.in, "--out", "spark.csv")
		if c.code != 0 && (string(r.Error.Kind) != c.kind || !strings.HasPrefix(r.Error.Message, c.message) || c.hint != "" && r.Error.Hint != c.hint) {
			t.Errorf("%s\ngot  %s: %s\n     next: %s\nwant %s: %s", c.in, r.Error.Kind, r.Error.Message, r.Error.Hint, c.kind, c.message)
		}
	}
}

// TestTablesThatCannotBe: what is wrong is said before anything is predicted.
func TestTablesThatCannotBe(t *testing.T) {
	x := newTables(t)
	for name, c := range map[string]struct {
		args, kind, message, hint string
		code                      int
	}{
		"no Spark there": {"--out table:x --spark-remote sc://127.0.0.1:1", "unreachable", "connecting: Spark at sc://127.0.0.1:1 does not answer", "start the server, or check host and port", 4},
		"no address":     {"--out table:x --spark-remote http://h", "spec", "", "", 2},
		"no schema":      {"--out table:nosuch_" + x.name + ".t", "usage", "--out: [SCHEMA_NOT_FOUND]", "make the schema first", 2},
		"no HDFS there":  {"--out table:x --stage hdfs://127.0.0.1:1/tmp", "unreachable", "connect to hdfs://127.0.0.1:1", "", 4},
		"a file":         {"--out table:x --stage digits.csv", "usage", "--stage digits.csv is a file", "name a folder", 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := x.predict(c.code, append([]string{"--model", "out/model", "--in", "digits.csv"}, strings.Fields(c.args)...)...)
			if string(r.Error.Kind) != c.kind || !strings.HasPrefix(r.Error.Message, c.message) || !strings.HasPrefix(r.Error.Hint, c.hint) {
				t.Errorf("got %s: %s\nnext: %s", r.Error.Kind, r.Error.Message, r.Error.Hint)
			}
		})
	}
}

// TestAStageThatSparkCannotRead: dkpipe sees another folder there than Spark does.
func TestAStageThatSparkCannotRead(t *testing.T) {
	x := newTables(t)
	if err := os.Mkdir(filepath.Join(x.dir, "stage"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SPARK_REMOTE", x.box.Spark)
	script := `mount -t tmpfs tmpfs stage && exec "$0" "$@"`
	r := runIn(t, x.dir, 4, []string{"unshare", "-m", "sh", "-c", script}, "predict", "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+x.name, "--stage", "stage")
	if want := "Spark at " + x.box.Spark + " cannot read the stage stage/" + stagePrefix; string(r.Error.Kind) != "unreachable" || !strings.HasPrefix(r.Error.Message, want) ||
		!strings.Contains(r.Error.Message, "PATH_NOT_FOUND") || !strings.Contains(r.Error.Hint, "--stage hdfs://namenode:8020/tmp") {
		t.Errorf("got %s: %s\nnext: %s", r.Error.Kind, r.Error.Message, r.Error.Hint)
	}
	if n := x.count(); n != -1 {
		t.Errorf("the table has %d rows", n)
	}
}

// TestAKilledPredictLeavesNoHalfTable kills predict at many times while it replaces a table of 1797 rows by one of 3594.
// At every time the table has the one or the other, and the next predict clears up.
func TestAKilledPredictLeavesNoHalfTable(t *testing.T) {
	x := newTables(t)
	if err := os.MkdirAll(filepath.Join(x.dir, "twice"), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(x.dir, "digits.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"twice/a.csv", "twice/b.csv"} {
		write(name, string(b))(t, x.dir)
	}
	stage := filepath.Join(x.dir, "stage")
	args := []string{"predict", "--model", "out/model", "--in", "twice", "--out", tablePrefix + x.name, "--mode", "overwrite", "--stage", stage}
	x.predict(0, "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+x.name)
	began := time.Now()
	x.predict(0, append(args[1:], "--stage", stage)...)
	whole := time.Since(began)
	killed := 0
	for i := range 8 {
		x.predict(0, "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+x.name, "--mode", "overwrite")
		p := start(t, x.dir, x.env, args...)
		timer := time.AfterFunc(whole*time.Duration(i+1)/8, func() { _ = p.cmd.Process.Kill() })
		if p.wait(t) == -1 {
			killed++
		}
		timer.Stop()
		if n := x.count(); n != 1797 && n != 3594 && n != -1 { // -1: between two names
			t.Fatalf("killed after %d/8: the table has %d rows", i+1, n)
		}
	}
	if killed < 3 {
		t.Errorf("only %d of 8 were killed", killed)
	}
	// What the dead ones asked of Spark may come to its end after them; then nothing is left.
	for tries := 0; ; tries++ {
		x.predict(0, args[1:]...)
		if n := x.count(); n != 3594 {
			t.Fatalf("the table has %d rows", n)
		}
		tables, stages := x.tables(), x.stages(stage)
		if len(tables) == 1 && len(stages) == 0 {
			break
		}
		if tries == 10 {
			t.Fatalf("left: tables %v, stages %v", tables, stages)
		}
	}
}

// TestAnInterruptedPredictLeavesNothing: asked to stop while the rows wait for Spark.
func TestAnInterruptedPredictLeavesNothing(t *testing.T) {
	x := newTables(t)
	stage := filepath.Join(x.dir, "stage")
	p := start(t, x.dir, append(x.env, crashAt+"=predictions staged#1"), "predict", "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+x.name, "--stage", stage)
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d\n%s", code, &p.stderr)
	}
	if n, left := x.count(), x.stages(stage); n != -1 || len(left) != 1 {
		t.Errorf("killed before the table: %d rows, stages %v", n, left)
	}
	x.predict(0, "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+x.name, "--stage", stage)
	if n, left := x.count(), x.stages(stage); n != 1797 || len(left) != 0 {
		t.Errorf("after the next one: %d rows, stages %v", n, left)
	}
}

// TestPredictForAnotherUser: Spark reads the rows that wait on HDFS as another user, although new files are closed to
// others; where it may not, the right that is missing is named.
func TestPredictForAnotherUser(t *testing.T) {
	u := newTwoUsers(t)
	run(t, u.dir, 0, "run", "-f", "job.yaml")
	u.mkdir(t, "/tmp", "hdfs", "supergroup", "1777")
	u.mkdir(t, "/jobs/closed", "ann", "annas", "700")
	predict := func(code int, stage string) result {
		t.Helper()
		return u.as(t, "ann", code, "predict", "--model", "out/model", "--in", "digits.csv", "--out", tablePrefix+"predict_two", "--mode", "overwrite", "--stage", stage)
	}
	if r := predict(0, "hdfs:///tmp"); r.Rows["predicted"] != 1797 {
		t.Errorf("%+v", r)
	}
	r := predict(4, "hdfs:///jobs/closed")
	if string(r.Error.Kind) != "denied" || !strings.Contains(r.Error.Message, "Spark is the HDFS user spark, who may not enter /jobs/closed") ||
		!strings.Contains(r.Error.Hint, "--stage") {
		t.Errorf("got %s: %s\nnext: %s", r.Error.Kind, r.Error.Message, r.Error.Hint)
	}
}
