package dataset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"pgregory.net/rapid"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/pipetest"
)

// pmod(h, n) as Spark computes it; the hashes are xxhash64 of BIGINT 0, 1, -1 and 42 there.
func TestShardOfIsSparksPmod(t *testing.T) {
	for _, c := range []struct {
		hash   int64
		shards int
		want   int
	}{
		{-5252525462095825812, 4, 0}, {-7001672635703045582, 4, 2}, {3858142552250413010, 4, 2}, {-6876166290308861218, 4, 2},
		{-5252525462095825812, 7, 4}, {-7, 3, 2}, {7, 3, 1}, {-1 << 63, 5, 2}, {1<<63 - 1, 1, 0},
	} {
		if got := dataset.ShardOf(uint64(c.hash), c.shards); got != c.want {
			t.Errorf("pmod(%d, %d) = %d, want %d", c.hash, c.shards, got, c.want)
		}
	}
}

func TestWriterDescribesWhatItWrote(t *testing.T) {
	var last, total int64
	f := makeDataset(t, 1000, width, dataset.WriterOptions{Shards: 3, Progress: func(r, n int64) {
		if r < last {
			t.Errorf("progress fell from %d to %d", last, r)
		}
		last, total = r, n
	}})
	if last != 1000 || total != 1000 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	var rows int64
	for i, s := range f.manifest.Shards {
		b := f.store.Get(s.Path)
		sum := sha256.Sum256(b)
		if s.Bytes != int64(len(b)) || s.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %d bytes, described as %d; or another hash", s.Path, len(b), s.Bytes)
		}
		if want := dataset.ShardPath([]string{"train", "test"}[i/3], i%3); s.Path != want {
			t.Errorf("shard %d is %s, want %s", i, s.Path, want)
		}
		rows += s.Rows
	}
	if len(f.manifest.Shards) != 6 || rows != 1000 {
		t.Errorf("%d shards with %d rows", len(f.manifest.Shards), rows)
	}
	if _, err := f.manifest.Encode(); err != nil {
		t.Error(err)
	}
}

func TestWriterMakesEveryShardEvenWithoutRows(t *testing.T) {
	f := makeDataset(t, 3, width, dataset.WriterOptions{Shards: 5, Parts: []string{"train", "validation", "test"}})
	if len(f.manifest.Shards) != 15 {
		t.Fatalf("%d shards", len(f.manifest.Shards))
	}
	f.manifest.Split.Parts = nil
	for _, split := range []string{"train", "validation", "test"} {
		rows, err := readAll(t.Context(), f.feed(t, dataset.FeedOptions{Split: split, Shuffle: true}), 0)
		if err != nil || rows != f.manifest.Rows(split) {
			t.Errorf("%s: %d rows, %v", split, rows, err)
		}
	}
}

// Bytes depend on the set of rows alone: not on their order, the size of blocks, or whether they fitted in memory.
func TestWriterShardsDoNotDependOnOrderOrMemory(t *testing.T) {
	const n = 120
	rapid.Check(t, func(rt *rapid.T) {
		shards := rapid.IntRange(1, 9).Draw(rt, "shards")
		write := func(order []int, budget int64) []pipeline.ShardInfo {
			w, err := dataset.NewWriter(into(&pipetest.MemStore{}), dataset.WriterOptions{Parts: []string{"train", "test"}, Shards: shards,
				BudgetBytes: budget, GroupBytes: 4096, TempDir: t.TempDir()})
			if err != nil {
				rt.Fatal(err)
			}
			defer w.Close()
			if err := w.Start(columns(width)); err != nil {
				rt.Fatal(err)
			}
			for _, i := range order {
				if err := w.Write(t.Context(), rowsBlock(i, 1, width, 2)); err != nil {
					rt.Fatal(err)
				}
			}
			out, err := w.Finish(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			return out
		}
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		want := write(order, 1<<20)
		if got := write(rapid.Permutation(order).Draw(rt, "order"), rapid.Int64Range(1, 60_000).Draw(rt, "budget")); !slices.Equal(got, want) {
			rt.Fatalf("got %v\nwant %v", got, want)
		}
	})
}

// Equal hashes keep the order of arrival, also when they come out of different runs.
func TestWriterKeepsArrivalOrderOfEqualHashes(t *testing.T) {
	for _, budget := range []int64{1 << 20, 3000} {
		store := &pipetest.MemStore{}
		w, err := dataset.NewWriter(into(store), dataset.WriterOptions{BudgetBytes: budget, TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		cols := columns(1)[:1]
		if err := w.Start(cols); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			r := &pipeline.Rows{N: 1, Part: []uint8{0}, Hash: []uint64{uint64(i % 3)}, Vectors: [][]float32{{float32(i)}}}
			if err := w.Write(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		shards, err := w.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f, err := dataset.NewFeed(store, &dataset.Manifest{Columns: cols, Shards: shards}, dataset.FeedOptions{BatchSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.Open(t.Context(), shardsOf(t, f)[0], pipeline.Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		b, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < b.Rows; i++ {
			x, y := int(b.X[0][i-1]), int(b.X[0][i])
			if x%3 > y%3 || x%3 == y%3 && x > y {
				t.Fatalf("budget %d: row %d stands before row %d", budget, x, y)
			}
		}
	}
}

func TestWriterSpillsOnlyWhatDoesNotFitAndCleansUp(t *testing.T) {
	spills := func(budget int64, end func(*dataset.Writer)) int {
		dir := t.TempDir()
		w, err := dataset.NewWriter(into(&pipetest.MemStore{}), dataset.WriterOptions{BudgetBytes: budget, TempDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(columns(width)); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(t.Context(), rowsBlock(0, 500, width, 1)); err != nil {
			t.Fatal(err)
		}
		during, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		end(w)
		if after, err := os.ReadDir(dir); err != nil || len(after) != 0 {
			t.Errorf("budget %d: left behind: %v (%v)", budget, after, err)
		}
		return len(during)
	}
	finish := func(w *dataset.Writer) {
		if _, err := w.Finish(t.Context()); err != nil {
			t.Error(err)
		}
	}
	closeOnly := func(w *dataset.Writer) {
		for range 2 {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := w.Finish(t.Context()); err == nil {
			t.Error("Finish after Close went through")
		}
	}
	cancelled := func(w *dataset.Writer) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Finish(ctx); kindOf(err) != string(pipeline.Interrupted) || !errors.Is(err, context.Canceled) {
			t.Errorf("Finish with a cancelled context: %v", err)
		}
	}
	for _, end := range []func(*dataset.Writer){finish, closeOnly, cancelled} {
		if n := spills(1<<20, end); n != 0 {
			t.Errorf("rows that fit were spilled")
		}
		if n := spills(20_000, end); n != 1 {
			t.Errorf("rows that do not fit: %d folders", n)
		}
	}
}

// brokenOutput fails at its n-th byte.
type brokenOutput struct {
	left    int
	aborted *bool
}

var errBroken = &pipeline.Error{Kind: pipeline.NoSpace, Message: "the store is full"}

func (b *brokenOutput) Write(p []byte) (int, error) {
	if b.left < len(p) {
		return 0, errBroken
	}
	b.left -= len(p)
	return len(p), nil
}
func (b *brokenOutput) Close() error { return nil }
func (b *brokenOutput) Abort()       { *b.aborted = true }

func TestWriterAbortsAShardThatCannotBeWritten(t *testing.T) {
	for _, left := range []int{0, 3, 50_000, 100_000} {
		aborted := false
		w, err := dataset.NewWriter(dataset.CreateFunc(func(context.Context, string) (dataset.Output, error) {
			return &brokenOutput{left: left, aborted: &aborted}, nil
		}), dataset.WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(columns(width)); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(t.Context(), rowsBlock(0, 2000, width, 1)); err != nil {
			t.Fatal(err)
		}
		_, err = w.Finish(t.Context())
		if !errors.Is(err, errBroken) || !aborted {
			t.Errorf("%d bytes of room: %v, aborted %v", left, err, aborted)
		}
		if again := w.Write(t.Context(), rowsBlock(0, 1, width, 1)); again != err {
			t.Errorf("the error changed to %v", again)
		}
	}
}

func TestWriterRefusesBlocksThatDoNotFitTheColumns(t *testing.T) {
	for what, spoil := range map[string]func(*pipeline.Rows){
		"a short vector":    func(r *pipeline.Rows) { r.Vectors[0] = r.Vectors[0][1:] },
		"a missing vector":  func(r *pipeline.Rows) { r.Vectors = r.Vectors[1:] },
		"a missing hash":    func(r *pipeline.Rows) { r.Hash = nil },
		"an unknown part":   func(r *pipeline.Rows) { r.Part[3] = 9 },
		"a short keep":      func(r *pipeline.Rows) { r.Keep[0].Int64 = nil },
		"a short validity":  func(r *pipeline.Rows) { r.Keep[1].Valid = r.Keep[1].Valid[:2] },
		"a negative length": func(r *pipeline.Rows) { r.N = -1 },
	} {
		w, err := dataset.NewWriter(into(&pipetest.MemStore{}), dataset.WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(columns(width)); err != nil {
			t.Fatal(err)
		}
		r := rowsBlock(0, 10, width, 1)
		spoil(r)
		if err := w.Write(t.Context(), r); kindOf(err) != string(pipeline.Internal) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWriterStoresRawFloatsWithoutLevelsAndKeepColumnsWithNulls(t *testing.T) {
	f := makeDataset(t, 3000, width, dataset.WriterOptions{GroupBytes: 64 << 10})
	for _, s := range f.manifest.Shards {
		r, err := file.NewParquetReader(bytes.NewReader(f.store.Get(s.Path)))
		if err != nil {
			t.Fatal(err)
		}
		if r.NumRows() != s.Rows || r.NumRowGroups() < 2 {
			t.Errorf("%s: %d rows in %d row groups", s.Path, r.NumRows(), r.NumRowGroups())
		}
		for g := range r.NumRowGroups() {
			rg := r.RowGroup(g)
			if rg.ByteSize() > 70<<10 {
				t.Errorf("a row group of %d bytes", rg.ByteSize())
			}
			for c := range 4 {
				d := r.MetaData().Schema.Column(c)
				cc, err := rg.MetaData().ColumnChunk(c)
				if err != nil {
					t.Fatal(err)
				}
				stats, _ := cc.StatsSet()
				if d.PhysicalType() != parquet.Types.FixedLenByteArray || d.MaxDefinitionLevel() != 0 || cc.HasDictionaryPage() || stats ||
					cc.Compression().String() != "UNCOMPRESSED" {
					t.Errorf("column %s is not raw floats", d.Name())
				}
			}
			checkKeeps(t, rg)
		}
	}
}

// checkKeeps compares the kept columns of a row group with the features beside them.
func checkKeeps(t *testing.T, rg *file.RowGroupReader) {
	t.Helper()
	n := rg.NumRows()
	read := func(i int, get func(r file.ColumnChunkReader, def []int16)) []int16 {
		c, err := rg.Column(i)
		if err != nil {
			t.Fatal(err)
		}
		def := make([]int16, n)
		get(c, def)
		return def
	}
	ids, scores, notes := make([]int64, n), make([]float64, n), make([]parquet.ByteArray, n)
	read(4, func(r file.ColumnChunkReader, def []int16) {
		r.(*file.Int64ColumnChunkReader).ReadBatch(n, ids, def, nil)
	})
	sd := read(5, func(r file.ColumnChunkReader, def []int16) {
		r.(*file.Float64ColumnChunkReader).ReadBatch(n, scores, def, nil)
	})
	nd := read(6, func(r file.ColumnChunkReader, def []int16) {
		r.(*file.ByteArrayColumnChunkReader).ReadBatch(n, notes, def, nil)
	})
	for _, id := range ids {
		want := rowsBlock(int(id), 1, 1, 1)
		if valid := sd[0] == 1; valid != want.Keep[1].Valid[0] || valid && scores[0] != want.Keep[1].Float64[0] {
			t.Fatalf("row %d: score %v, valid %v", id, scores[0], valid)
		}
		if valid := nd[0] == 1; valid != want.Keep[2].Valid[0] || valid && string(notes[0]) != want.Keep[2].String[0] {
			t.Fatalf("row %d: note %q, valid %v", id, notes[0], valid)
		}
		if sd[0] == 1 {
			scores = scores[1:]
		}
		if nd[0] == 1 {
			notes = notes[1:]
		}
		sd, nd = sd[1:], nd[1:]
	}
}

// Every row has the same key: one shard, one hash, many runs. Memory must stay near the budget all the same.
func TestWriterHoldsItsBudgetWithOneKeyForAllRows(t *testing.T) {
	const rows, wide, budget = 40_000, 256, 4 << 20 // 41 MB of rows
	w, err := dataset.NewWriter(dataset.CreateFunc(func(context.Context, string) (dataset.Output, error) {
		return &brokenOutput{left: 1 << 40, aborted: new(bool)}, nil
	}), dataset.WriterOptions{Shards: 8, BudgetBytes: budget, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Start(columns(wide)[:1]); err != nil {
		t.Fatal(err)
	}
	r := &pipeline.Rows{N: 100, Part: make([]uint8, 100), Hash: make([]uint64, 100), Vectors: [][]float32{make([]float32, 100*wide)}}
	var most uint64
	watch := func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	watch()
	start := most
	for i := 0; i < rows; i += r.N {
		if err := w.Write(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if i%4000 == 0 {
			watch()
		}
	}
	if _, err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used := int64(most - start); used > 2*budget {
		t.Errorf("%d bytes were in use for a budget of %d", used, int64(budget))
	}
}

func TestWriterOptionsAreChecked(t *testing.T) {
	for _, o := range []dataset.WriterOptions{{Shards: -1}, {Parts: []string{"a/b"}}, {Parts: []string{"a", "a"}}, {BudgetBytes: -1}} {
		if _, err := dataset.NewWriter(nil, o); kindOf(err) != string(pipeline.Usage) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for i, cols := range [][]pipeline.ColumnInfo{
		nil,
		{{Name: "a", Role: "x", DType: "float32", Encoding: "list"}},
		{{Name: "a", Role: "x", DType: "float64"}},
		{{Name: "a", Role: "y", DType: "float32"}, {Name: "b", Role: "x", DType: "float32"}},
		{{Name: "a", Role: "x", DType: "float32"}, {Name: "a", Role: "y", DType: "float32"}},
	} {
		w, err := dataset.NewWriter(nil, dataset.WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(cols); kindOf(err) != string(pipeline.Internal) {
			t.Errorf("columns %d: %v", i, err)
		}
	}
}

func ExampleShardOf() {
	fmt.Println(dataset.ShardOf(42, 4), dataset.ShardPath("train", dataset.ShardOf(42, 4)))
	// Output: 2 train/part-00002.parquet
}
