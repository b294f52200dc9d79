package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/expr"
	"dkpipe/sparkconn"

	"github.com/apache/arrow-go/v18/arrow"
)

// onSpark gives a session of its own.
func onSpark(t *testing.T, remote string) *sparkconn.Session {
	t.Helper()
	s, err := sparkconn.Dial(t.Context(), remote, sparkconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// rowsPlan is a plan over a query of id, x, v, label and w, with a scaled vector and a one-hot label.
func rowsPlan(query string, shards int, parts ...pipeline.Part) pipeline.Plan {
	fit := func(op, in, out string, n *expr.Node, width int) expr.Fitted {
		return expr.Fitted{Op: op, Params: json.RawMessage("{}"), Inputs: []string{in},
			Outputs: []expr.Column{{Name: out, Type: expr.Type{Kind: expr.Float32, Width: width}, Expr: n}}}
	}
	scaled := expr.To(expr.Float32, expr.Call(expr.Mul, expr.Call(expr.Sub, expr.C("v"), expr.Num(0.1)), expr.Num(1.0/3)))
	p := pipeline.Plan{
		Source:  pipeline.Source{Format: pipeline.SQL, Text: query},
		Columns: pipeline.Columns{X: []string{"x", "features"}, Y: []string{"target"}, Weight: "w", Keep: []string{"id"}},
		Split:   pipeline.Split{Key: "id", Seed: 3, Parts: parts},
		Shards:  shards,
		Fitted:  []expr.Fitted{fit("scale", "v", "features", scaled, 5), fit("one_hot", "label", "target", expr.Hot(expr.C("label"), 4), 4)},
	}
	p.Steps = make([]expr.Step, len(p.Fitted))
	return p
}

// oddRows has numbers of every size, fractions that no float32 holds, -0, the least and the greatest float32.
func oddRows(n int) string {
	return strings.Replace(`SELECT id, CAST(CASE id % 5 WHEN 0 THEN '-0.0' WHEN 1 THEN '1e-45' WHEN 2 THEN '3.4028234663852886e38' ELSE '0.1' END AS DOUBLE) * if(id % 2 = 0, 1, -1) AS x,
 transform(array(1L, 2L, 3L, 4L, 5L), i -> CAST(xxhash64(id, i) % 1000003 AS DOUBLE) / power(10D, id % 12)) AS v, id % 4 AS label, 0.5D + id % 3 AS w
 FROM range(0, ROWS, 1, 4)`, "ROWS", strconv.Itoa(n), 1)
}

// shardSums reads every shard of a feed in order and gives the SHA-256 of its decoded floats, by the shard's number.
func shardSums(t *testing.T, feed pipeline.Feed) []string {
	t.Helper()
	shards, err := feed.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for _, s := range shards {
		r, err := feed.Open(t.Context(), s, pipeline.Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		sum, rows := sumOf(t, r)
		if rows != s.Rows {
			t.Errorf("%s: %d rows of %d", s.Path, rows, s.Rows)
		}
		sums = append(sums, fmt.Sprintf("%d rows %s", rows, sum))
	}
	return sums
}

// sumOf reads a reader to its end and closes it.
func sumOf(t *testing.T, r pipeline.BatchReader) (string, int64) {
	t.Helper()
	h, rows := sha256.New(), int64(0)
	var buf []byte
	add := func(v []float32) {
		buf = buf[:0]
		for _, x := range v {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
		}
		h.Write(buf)
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rows += int64(b.Rows)
		for i := range b.Rows { // row by row, so that the size of batches does not matter
			for _, col := range append(append([][]float32{}, b.X...), b.Y...) {
				w := len(col) / b.Rows
				add(col[i*w : (i+1)*w])
			}
			add(b.Weight[i : i+1])
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), rows
}

// fileOpener opens names below a folder.
type fileOpener string

func (dir fileOpener) Open(_ context.Context, name string) (pipeline.Blob, error) {
	f, err := os.Open(filepath.Join(string(dir), name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	return fileBlob{f, info.Size()}, err
}

type fileBlob struct {
	*os.File
	size int64
}

func (b fileBlob) Size() int64 { return b.size }

// writtenFiles has Spark write a plan's shards into a folder, and gives its manifest.
func writtenFiles(t *testing.T, s *sparkconn.Session, p pipeline.Plan, lists bool) (fileOpener, *dataset.Manifest) {
	t.Helper()
	dir := t.TempDir()
	e := sparkconn.Engine{Session: s, Lists: lists, Adopt: func(_ context.Context, name string) (int64, string, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		return int64(len(b)), fmt.Sprintf("%x", sha256.Sum256(b)), err
	}}
	w, err := e.Write(t.Context(), p, pipeline.Stage{URI: dir})
	if err != nil {
		t.Fatal(err)
	}
	avro, err := s.HasAvro(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range w.Columns {
		if list := c.Encoding == "list"; c.Role != "keep" && list != (lists || !avro) {
			t.Errorf("column %s is written as %s; lists were asked for: %v, Spark can pack: %v", c.Name, c.Encoding, lists, avro)
		}
	}
	return fileOpener(dir), &dataset.Manifest{Columns: w.Columns, Shards: w.Shards}
}

// TestLiveAndFilesGiveTheSameRows: out of Spark's streams and out of the files that Spark wrote, packed and as lists, every
// shard has the same floats in the same order, to the bit.
func TestLiveAndFilesGiveTheSameRows(t *testing.T) {
	s := onSpark(t, boxtest.Shared(t, "spark").Spark)
	for _, c := range []struct {
		rows, shards int
		parts        []pipeline.Part
	}{
		{3000, 3, []pipeline.Part{{Name: "train", Fraction: 0.7}, {Name: "validation", Fraction: 0.1}, {Name: "test", Fraction: 0.2}}},
		{11, 7, []pipeline.Part{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}}, // shards without a row
	} {
		p := rowsPlan(oddRows(c.rows), c.shards, c.parts...)
		live, err := sparkconn.Engine{Session: s}.Materialize(t.Context(), p, 0)
		if err != nil {
			t.Fatal(err)
		}
		for name, lists := range map[string]bool{"packed": false, "lists": true} {
			opener, m := writtenFiles(t, s, p, lists)
			all := 0
			for _, part := range c.parts {
				f, err := sparkconn.OpenLive(t.Context(), s, live, sparkconn.FeedOptions{Split: part.Name, BatchSize: 64, Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				files, err := dataset.NewFeed(opener, m, dataset.FeedOptions{Split: part.Name, BatchSize: 50})
				if err != nil {
					t.Fatal(err)
				}
				a, b := shardSums(t, f), shardSums(t, files)
				if fmt.Sprint(a) != fmt.Sprint(b) || len(a) == 0 {
					t.Errorf("%d rows, %s, %s: live\n%s\nfiles\n%s", c.rows, name, part.Name, strings.Join(a, "\n"), strings.Join(b, "\n"))
				}
				all += len(a)
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
			if full := len(c.parts) * c.shards; (all == full) != (c.rows > 100) {
				t.Errorf("%d rows make %d of %d shards", c.rows, all, full)
			}
		}
		if err := live.Drop(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
}

// TestAPartWithoutRowsIsNamedByBothFeeds: nobody trains or evaluates on nothing without a word.
func TestAPartWithoutRowsIsNamedByBothFeeds(t *testing.T) {
	s := onSpark(t, boxtest.Shared(t, "spark").Spark)
	p := rowsPlan(oddRows(20), 2, pipeline.Part{Name: "train", Fraction: 1}, pipeline.Part{Name: "test"})
	live, err := sparkconn.Engine{Session: s}.Materialize(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, liveErr := sparkconn.OpenLive(t.Context(), s, live, sparkconn.FeedOptions{Split: "test", BatchSize: 8, Dir: t.TempDir()})
	opener, m := writtenFiles(t, s, p, false)
	_, fileErr := dataset.NewFeed(opener, m, dataset.FeedOptions{Split: "test", BatchSize: 8})
	for name, err := range map[string]error{"live": liveErr, "files": fileErr} {
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != pipeline.Data && e.Kind != pipeline.BadSpec || !strings.Contains(err.Error(), "test") || e.Hint == "" {
			t.Errorf("%s: a feed of a part without rows: %v", name, err)
		}
	}
}

// TestASlowReaderNeedsNothingOfSpark reads a batch, lets Spark forget the rows, and reads the rest: what was streamed is
// here, so Spark holds nothing for a slow reader.
func TestASlowReaderNeedsNothingOfSpark(t *testing.T) {
	s := onSpark(t, boxtest.Shared(t, "spark").Spark)
	p := rowsPlan(oddRows(2000), 1, pipeline.Part{Name: "train", Fraction: 1})
	live, err := sparkconn.Engine{Session: s}.Materialize(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := sparkconn.OpenLive(t.Context(), s, live, sparkconn.FeedOptions{BatchSize: 16, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shards, err := f.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(t.Context(), shards[0], pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if err := live.Drop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, rows := sumOf(t, r); rows != 2000-16 {
		t.Errorf("%d rows after Spark had forgotten them, want %d", rows, 2000-16)
	}
}

// heapPeak calls f and gives the most memory that collections of the heap found in use meanwhile.
func heapPeak(f func()) uint64 {
	debug.FreeOSMemory()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		most := uint64(0)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				metrics.Read(sample)
				most = max(most, sample[0].Value.Uint64())
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	f()
	close(stop)
	return <-peak
}

// TestMemoryOfALiveFeedIsConstant streams one shard of ten times the rows: the peak of the heap is the same.
func TestMemoryOfALiveFeedIsConstant(t *testing.T) {
	s := onSpark(t, boxtest.Shared(t, "spark").Spark)
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // many collections
	const width = 512
	stream := func(rows int) uint64 {
		p := pipeline.Plan{Source: pipeline.Source{Format: pipeline.SQL, Text: fmt.Sprintf("SELECT id, array_repeat(CAST(id AS FLOAT), %d) AS x FROM range(0, %d, 1, 4)", width, rows)},
			Columns: pipeline.Columns{X: []string{"x"}}, Split: pipeline.Split{Key: "id", Parts: []pipeline.Part{{Name: "train", Fraction: 1}}}, Shards: 1, Fitted: []expr.Fitted{}}
		live, err := sparkconn.Engine{Session: s}.Materialize(t.Context(), p, 0)
		if err != nil {
			t.Fatal(err)
		}
		f, err := sparkconn.OpenLive(t.Context(), s, live, sparkconn.FeedOptions{BatchSize: 32, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		peak := heapPeak(func() {
			shards, err := f.Shards(t.Context())
			if err != nil || len(shards) != 1 {
				t.Fatalf("%d shards, %v", len(shards), err)
			}
			r, err := f.Open(t.Context(), shards[0], pipeline.Cursor{})
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for b, err := r.Next(); err != io.EOF; b, err = r.Next() {
				if err != nil {
					t.Fatal(err)
				}
				seen += b.Rows
			}
			if seen != rows {
				t.Errorf("%d rows of %d", seen, rows)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := live.Drop(t.Context(), s); err != nil {
			t.Error(err)
		}
		return peak
	}
	stream(1000) // what is made once
	small, large := stream(8000), stream(80000)
	t.Logf("peak of the heap: %.1f MiB for 16 MiB of rows, %.1f MiB for 160 MiB", float64(small)/(1<<20), float64(large)/(1<<20))
	// gRPC's window grows from 64 KiB to 16 MiB with the speed of the connection, so the peaks are not the same to the byte.
	if ratio := float64(large) / float64(small); ratio > 1.6 || large > 48<<20 {
		t.Errorf("ten times the rows take %.2f times the memory", ratio)
	}
}

// TestACappedResultIsNoResult: Spark stops a query when its result exceeds spark.driver.maxResultSize, after it has given
// out most of it. The error names the setting, and what has come is not used.
func TestACappedResultIsNoResult(t *testing.T) {
	b := boxtest.Start(t, box.Options{Only: "spark", Spark: map[string]string{"spark.driver.maxResultSize": "16m"}})
	s := onSpark(t, b.Spark)
	capped := func(err error) {
		t.Helper()
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != pipeline.BadSpec || !strings.Contains(e.Hint, "dataset.shards") || !strings.Contains(e.Hint, "spark.driver.maxResultSize") {
			t.Errorf("error %v, want one that names the setting to raise", err)
		}
	}
	seen := int64(0)
	// 40 tasks of 1 MiB on two threads: many results are here before their sum is too large.
	err := s.Query(t.Context(), "", "SELECT id, array_repeat(CAST(id AS FLOAT), 1024) AS x FROM range(0, 10240, 1, 40)", func(r arrow.RecordBatch) error {
		seen += r.NumRows()
		return nil
	})
	if capped(err); seen == 0 || seen == 10240 {
		t.Errorf("%d of 10240 rows came before the error; the test is about an error in the middle", seen)
	}

	p := pipeline.Plan{Source: pipeline.Source{Format: pipeline.SQL, Text: "SELECT id, array_repeat(CAST(id AS FLOAT), 1024) AS x FROM range(0, 6000, 1, 4)"},
		Columns: pipeline.Columns{X: []string{"x"}}, Split: pipeline.Split{Key: "id", Parts: []pipeline.Part{{Name: "train", Fraction: 0.9}, {Name: "test", Fraction: 0.1}}},
		Shards: 1, Fitted: []expr.Fitted{}}
	live, err := sparkconn.Engine{Session: s}.Materialize(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, err := sparkconn.OpenLive(t.Context(), s, live, sparkconn.FeedOptions{BatchSize: 16, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	shards, err := f.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is fetched anew: nothing of the first was kept
		r, err := f.Open(t.Context(), shards[0], pipeline.Cursor{})
		if capped(err); r != nil {
			t.Error("there is a reader of a shard that did not come whole")
		}
	}
	var left []string
	err = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, name)
		}
		return err
	})
	if err != nil || len(left) > 0 {
		t.Errorf("left of shards that did not come whole: %v, %v", left, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	small, err := sparkconn.OpenLive(t.Context(), s, live, sparkconn.FeedOptions{Split: "test", BatchSize: 16, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	if shards, err = small.Shards(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := small.Open(t.Context(), shards[0], pipeline.Cursor{}); err != nil {
		t.Errorf("a shard below the cap: %v", err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
}
