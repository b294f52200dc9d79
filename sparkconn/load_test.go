package sparkconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/uuid"
)

// freshTable names a table that nobody else uses and drops it, and what is named after it, in the end.
func freshTable(t *testing.T, s *Session) string {
	t.Helper()
	name := "load_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		for _, left := range tablesLike(t, s, name+"*") {
			_ = s.Exec(context.Background(), "", "DROP VIEW IF EXISTS "+left)
			_ = s.Exec(context.Background(), "", "DROP TABLE IF EXISTS "+left)
		}
	})
	return name
}

func tablesLike(t *testing.T, s *Session, pattern string) []string {
	t.Helper()
	got, err := s.table(context.Background(), "tables", "", "SHOW TABLES LIKE '"+pattern+"'")
	if err != nil {
		t.Fatal(err)
	}
	if got.rows == 0 {
		return nil
	}
	return got.cols[1].texts
}

// idRows is a record of ids from..to with texts.
func idRows(t testing.TB, from, to int) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "p", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32), Nullable: true}}, nil))
	for i := from; i < to; i++ {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%3 == 0 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("t", i))
		}
		l := b.Field(2).(*array.ListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.Float32Builder).AppendValues([]float32{float32(i), 0.5}, nil)
	}
	return b.NewRecordBatch()
}

func alive(string) bool { return false }

// load loads ids from..to and fails the test when that goes wrong.
func load(t *testing.T, s *Session, name string, mode LoadMode, from, to int) {
	t.Helper()
	if err := tryLoad(t.Context(), s, name, mode, idRows(t, from, to)); err != nil {
		t.Fatal(err)
	}
}

func tryLoad(ctx context.Context, s *Session, name string, mode LoadMode, recs ...arrow.RecordBatch) error {
	l, err := s.NewLoad(ctx, name, mode, "me", alive)
	if err != nil {
		return err
	}
	defer l.Close(ctx)
	if err := l.Fits([]string{"id", "text", "p"}); err != nil {
		return err
	}
	n := int64(0)
	for _, r := range recs {
		if err := l.Add(ctx, r); err != nil {
			return err
		}
		n += r.NumRows()
	}
	return l.Commit(ctx, n)
}

// content is the number of rows, the sum of the ids, and what the texts and lists hold.
func content(t *testing.T, s *Session, name string) string {
	t.Helper()
	got, err := s.table(context.Background(), "content", "", "SELECT count(*), sum(id), count(text), sum(p[0]) FROM "+name)
	if err != nil {
		t.Fatal(err)
	}
	c := got.cols
	return fmt.Sprint(c[0].ints[0], " ", c[1].ints[0], " ", c[2].ints[0], " ", c[3].floats[0])
}

func TestLoadMakesReplacesAndAppends(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	load(t, s, name, LoadError, 0, 10)
	if got := content(t, s, name); got != "10 45 6 45" {
		t.Errorf("made: %s", got)
	}
	load(t, s, name, LoadAppend, 10, 12)
	if got := content(t, s, name); got != "12 66 8 66" {
		t.Errorf("appended: %s", got)
	}
	load(t, s, name, LoadOverwrite, 100, 103)
	if got := content(t, s, name); got != "3 303 2 303" {
		t.Errorf("replaced: %s", got)
	}
	if left := tablesLike(t, s, name+"*"); !slices.Equal(left, []string{name}) {
		t.Errorf("tables: %q", left)
	}
	quoted := "`" + name + "_q`"
	load(t, s, "spark_catalog.default."+quoted, LoadOverwrite, 0, 4)
	if got := content(t, s, quoted); got != "4 6 2 6" {
		t.Errorf("a name in quotes: %s", got)
	}
	if err := s.Exec(t.Context(), "", "DROP TABLE "+quoted); err != nil {
		t.Error(err)
	}
}

func TestLoadSaysWhyNot(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	load(t, s, name, LoadError, 0, 3)
	for _, q := range []string{"CREATE VIEW " + name + "_view AS SELECT * FROM " + name, "CREATE TEMPORARY VIEW " + name + "_temp AS SELECT 1 AS id",
		"CREATE TABLE " + name + "_part (id BIGINT, text STRING, p ARRAY<FLOAT>) USING parquet PARTITIONED BY (text)",
		"CREATE TABLE " + name + "_other (id BIGINT, name STRING) USING parquet"} {
		if err := s.Exec(t.Context(), "", q); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		table string
		mode  LoadMode
		kind  pipeline.Kind
		want  string
	}{
		{name, LoadError, pipeline.Usage, "table `" + name + "` exists"},
		{name + "_view", LoadOverwrite, pipeline.Usage, "table `" + name + "_view` is a view"},
		{name + "_temp", LoadAppend, pipeline.Usage, "table `" + name + "_temp` is a view"},
		{name + "_part", LoadOverwrite, pipeline.Unsupported, "table `" + name + "_part` is partitioned and cannot be replaced in one step"},
		{name + "_other", LoadAppend, pipeline.Usage, "table `" + name + "_other` has the columns id, name, the rows have id, text, p"},
		{"no_such_schema." + name, LoadError, pipeline.BadSpec, "SCHEMA_NOT_FOUND"},
		{"a b", LoadError, pipeline.Usage, `"a b" is no table's name`},
		{"x; DROP TABLE y", LoadError, pipeline.Usage, "is no table's name"},
	} {
		err := tryLoad(t.Context(), s, c.table, c.mode, idRows(t, 0, 3))
		if err == nil || kindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %s: %v\nwant %s: %s", c.table, c.mode, kindOf(err), err, c.kind, c.want)
		}
	}
	if got := content(t, s, name); got != "3 3 2 3" {
		t.Errorf("the table was touched: %s", got)
	}
}

// TestLoadCountsBeforeItChanges: rows that do not arrive change nothing.
func TestLoadCountsBeforeItChanges(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	load(t, s, name, LoadError, 0, 3)
	l, err := s.NewLoad(t.Context(), name, LoadOverwrite, "me", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	if err := l.Add(t.Context(), idRows(t, 0, 5)); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(t.Context(), 6); kindOf(err) != pipeline.Changed {
		t.Errorf("got %v", err)
	}
	if got := content(t, s, name); got != "3 3 2 3" {
		t.Errorf("the table was touched: %s", got)
	}
}

func TestLoadTakesSoMuchThroughTheConnection(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	l, err := s.NewLoad(t.Context(), name, LoadError, "me", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	rec := idRows(t, 0, 100_000)
	n := int64(0)
	for err == nil && n < 10_000_000 {
		err = l.Add(t.Context(), rec)
		n += rec.NumRows()
	}
	if kindOf(err) != pipeline.Usage || !strings.Contains(err.Error(), "64 MiB") {
		t.Fatalf("after %d rows: %v", n, err)
	}
	if len(l.views) == 0 || l.buf.Cap() > 8*inlinePart {
		t.Errorf("%d views, %d bytes kept: the rows wait here and not on the server", len(l.views), l.buf.Cap())
	}
	if left := tablesLike(t, s, name+"*"); len(left) > 0 {
		t.Errorf("tables: %q", left)
	}
}

// TestLoadRepairsWhatADeadOneLeft: killed between the two renames, before them, and after them.
func TestLoadRepairsWhatADeadOneLeft(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	deadOne := func(owner string) bool { return owner == "dead" }
	open := func() error {
		l, err := s.NewLoad(t.Context(), name, LoadOverwrite, "me", deadOne)
		if err == nil {
			err = l.Close(t.Context())
		}
		return err
	}
	// Between: the old rows have another name.
	load(t, s, name+oldTable+"dead", LoadError, 0, 3)
	load(t, s, name+newTable+"dead", LoadError, 0, 4)
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s, name); got != "3 3 2 3" {
		t.Errorf("the old rows: %s", got)
	}
	// After: the old rows were not dropped. Another load that lives keeps what it has.
	load(t, s, name+oldTable+"dead", LoadError, 0, 5)
	load(t, s, name+newTable+"alive", LoadError, 0, 6)
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if got := tablesLike(t, s, name+"*"); !slices.Equal(got, []string{name, name + newTable + "alive"}) {
		t.Errorf("tables: %q", got)
	}
	// Between, of a load that may live.
	if err := s.Exec(t.Context(), "", "ALTER TABLE "+name+" RENAME TO "+name+oldTable+"alive"); err != nil {
		t.Fatal(err)
	}
	if err := open(); kindOf(err) != pipeline.Busy || !strings.Contains(err.Error(), "is just being replaced") {
		t.Errorf("got %v", err)
	}
}

// TestReadersOfALoadedTableNeverSeeAPart reads a table all the time while it is replaced and appended to.
func TestReadersOfALoadedTableNeverSeeAPart(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	load(t, s, name, LoadError, 0, 1000)
	reader := dialReal(t)
	var wg sync.WaitGroup
	stop, looked := make(chan struct{}), make(chan struct{}, 1)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := reader.table(context.Background(), "looking", "", "SELECT count(*) FROM "+name)
			if err != nil { // between two names, or a file that is gone: an error is no part of a result
				_ = reader.Exec(context.Background(), "", "REFRESH TABLE "+name) // Spark 3.5 remembers files and asks for this; none, between two names
				continue
			}
			if n := got.cols[0].ints[0]; n%1000 != 0 || n == 0 {
				t.Errorf("a reader sees %d rows", n)
			}
			select {
			case looked <- struct{}{}:
			default:
			}
		}
	})
	for range 4 {
		load(t, s, name, LoadOverwrite, 0, 1000)
		load(t, s, name, LoadAppend, 1000, 2000)
		select { // a look that fell into a load, or, where loads are too quick for the reader, the first one after it
		case <-looked:
		case <-time.After(time.Minute):
			t.Error("nothing to be seen in a table that nobody changes")
		}
	}
	close(stop)
	wg.Wait()
}

// TestAnInterruptedLoadLeavesNothing: asked to stop at any time, the table is as it was or as it shall be.
func TestAnInterruptedLoadLeavesNothing(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	load(t, s, name, LoadError, 0, 3)
	for _, mode := range []LoadMode{LoadOverwrite, LoadAppend} {
		ctx, cancel := context.WithCancel(t.Context())
		l, err := s.NewLoad(ctx, name, mode, "me", alive)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Add(ctx, idRows(t, 0, 500)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := l.Commit(ctx, 500); err == nil {
			t.Errorf("%s: no error", mode)
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		if got := content(t, s, name); got != "3 3 2 3" {
			t.Errorf("%s: %s", mode, got)
		}
	}
	if left := tablesLike(t, s, name+"*"); !slices.Equal(left, []string{name}) {
		t.Errorf("tables: %q", left)
	}
}

func TestLoadReadsFiles(t *testing.T) {
	s := dialReal(t)
	name := freshTable(t, s)
	dir := t.TempDir()
	w := newMessage("Plan")
	op := w.in("command.write_operation").set("source", "parquet").set("path", "file://"+dir+"/rows").setEnum("mode", "SAVE_MODE_ERROR_IF_EXISTS")
	sqlRelation(op.in("input"), "SELECT id, CAST(id AS STRING) AS text, array(CAST(id AS FLOAT)) AS p FROM range(7)")
	if err := s.execute(t.Context(), "files", "", w, func(message) error { return nil }); err != nil {
		t.Fatal(err)
	}
	l, err := s.NewLoad(t.Context(), name, LoadError, "me", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	if err := l.Files(t.Context(), dir+"/rows"); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s, name); got != "7 21 7 21" {
		t.Errorf("content: %s", got)
	}
	for _, path := range []string{dir + "/none", "hdfs://127.0.0.1:1/rows"} {
		if err := l.Files(t.Context(), path); err == nil {
			t.Errorf("%s: no error", path)
		} else {
			t.Logf("%s: %s: %v", path, kindOf(err), err)
		}
	}
}
