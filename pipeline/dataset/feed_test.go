package dataset_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/pipetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const width = 16 // of the features; a decoded row has 4*(16+6+2+1)+4 bytes

// budgets are the ways a feed works: everything kept, a shard at a time, windows, a row group at a time.
var budgets = []struct {
	name  string
	bytes int64
}{{"kept", 1 << 20}, {"whole shards", 200_000}, {"windows", 120_000}, {"row groups", 40_000}}

// twelve makes a dataset whose shards, more than eight, are read in all the ways that budgets names.
func twelve(t testing.TB) fixture {
	return makeDataset(t, 3000, width, dataset.WriterOptions{Shards: 12, GroupBytes: 2 << 10})
}

func TestFeedConforms(t *testing.T) {
	f := twelve(t)
	for _, b := range budgets {
		for _, shuffle := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/shuffle=%v", b.name, shuffle), func(t *testing.T) {
				pipetest.TestFeed(t, func(t *testing.T) pipetest.FeedCase {
					feed := f.feed(t, dataset.FeedOptions{Shuffle: shuffle, Seed: 5, BudgetBytes: b.bytes})
					if feed.Cached() != (b.name == "kept") {
						t.Fatalf("Cached is %v", feed.Cached())
					}
					return pipetest.FeedCase{Feed: feed, BatchSize: 32, X: []int{width, 6}, Y: []int{2}, Weight: true,
						Rows: f.manifest.Rows("train"), Shuffled: shuffle}
				})
			})
		}
	}
}

// ids reads a shard and gives the numbers of its rows, after checking that every float of a row belongs to it.
func ids(t testing.TB, f *dataset.Feed, s pipeline.Shard, from pipeline.Cursor) []int {
	t.Helper()
	r, err := f.Open(t.Context(), s, from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []int
	for {
		b, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows {
			id := int(b.X[0][i*width])
			want := rowsBlock(id, 1, width, 2)
			if !slices.Equal(b.X[0][i*width:(i+1)*width], want.Vectors[0]) || !slices.Equal(b.X[1][i*6:(i+1)*6], want.Vectors[1]) ||
				!slices.Equal(b.Y[0][i*2:(i+1)*2], want.Vectors[2]) || b.Weight[i] != want.Vectors[3][0] {
				t.Fatalf("row %d has bytes of another row", id)
			}
			out = append(out, id)
		}
	}
}

func shardsOf(t testing.TB, f *dataset.Feed) []pipeline.Shard {
	t.Helper()
	s, err := f.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFeedScansInShardOrderWhateverTheBudget(t *testing.T) {
	f := twelve(t)
	for _, split := range []string{"train", "test"} {
		var want [][]int
		for _, b := range budgets {
			feed := f.feed(t, dataset.FeedOptions{Split: split, BudgetBytes: b.bytes})
			for i, s := range shardsOf(t, feed) {
				got := ids(t, feed, s, pipeline.Cursor{})
				if !slices.IsSortedFunc(got, func(a, b int) int {
					return int(int64(rowsBlock(a, 1, 1, 2).Hash[0])>>32) - int(int64(rowsBlock(b, 1, 1, 2).Hash[0])>>32)
				}) {
					t.Errorf("%s: not in hash order", s.Path)
				}
				if len(want) == i {
					want = append(want, got)
				}
				if !slices.Equal(got, want[i]) {
					t.Errorf("%s: budget %s changed the order", s.Path, b.name)
				}
			}
		}
	}
}

func TestFeedShufflesAShardThatFitsFully(t *testing.T) {
	f := makeDataset(t, 6000, width, dataset.WriterOptions{Shards: 12, GroupBytes: 2 << 10})
	kept := f.feed(t, dataset.FeedOptions{Shuffle: true, Seed: 1, BudgetBytes: 1 << 20})
	whole := f.feed(t, dataset.FeedOptions{Shuffle: true, Seed: 1, BudgetBytes: 400_000})
	if whole.Cached() {
		t.Fatal("the second feed keeps everything")
	}
	scan := f.feed(t, dataset.FeedOptions{})
	for _, s := range shardsOf(t, kept) {
		stored := ids(t, scan, s, pipeline.Cursor{})
		for e := range 3 {
			got := ids(t, kept, s, pipeline.Cursor{Epoch: e})
			if !slices.Equal(got, ids(t, whole, s, pipeline.Cursor{Epoch: e})) {
				t.Errorf("%s, epoch %d: kept and reread shards differ in order", s.Path, e)
			}
			// Mean distance between neighbours is a third of the length in a random order, 1 in the stored one.
			place := map[int]int{}
			for i, id := range stored {
				place[id] = i
			}
			sum := 0
			for i := 1; i < len(got); i++ {
				sum += max(place[got[i]]-place[got[i-1]], place[got[i-1]]-place[got[i]])
			}
			if mean := float64(sum) / float64(len(got)); mean < 0.28*float64(len(got)) || mean > 0.39*float64(len(got)) {
				t.Errorf("%s, epoch %d: neighbours lie %.0f apart, want about %d", s.Path, e, mean, len(got)/3)
			}
		}
	}
}

func TestFeedSeedShardAndEpochDecideTheOrder(t *testing.T) {
	f := makeDataset(t, 600, width, dataset.WriterOptions{GroupBytes: 2 << 10})
	for _, budget := range []int64{1 << 20, 20_000} {
		order := func(seed int64, epoch int) []int {
			feed := f.feed(t, dataset.FeedOptions{Shuffle: true, Seed: seed, BudgetBytes: budget})
			return ids(t, feed, shardsOf(t, feed)[0], pipeline.Cursor{Epoch: epoch})
		}
		base := order(1, 0)
		if !slices.Equal(base, order(1, 0)) {
			t.Error("the same seed and epoch gave two orders")
		}
		if slices.Equal(base, order(2, 0)) || slices.Equal(base, order(1, 1)) || slices.Equal(order(2, 0), order(1, 1)) {
			t.Error("another seed or epoch gave the same order")
		}
	}
}

// Stop anywhere, any number of times, resume in another feed: together it is the epoch.
func TestFeedResumesAnywhere(t *testing.T) {
	f := makeDataset(t, 700, width, dataset.WriterOptions{GroupBytes: 3 << 10})
	rapid.Check(t, func(rt *rapid.T) {
		opt := dataset.FeedOptions{Shuffle: rapid.Bool().Draw(rt, "shuffle"), Seed: rapid.Int64().Draw(rt, "seed"),
			BatchSize:   rapid.IntRange(1, 100).Draw(rt, "batch"),
			BudgetBytes: rapid.SampledFrom([]int64{20_000, 40_000, 1 << 20}).Draw(rt, "budget")}
		at := pipeline.Cursor{Epoch: rapid.IntRange(0, 5).Draw(rt, "epoch")}
		first := f.feed(t, opt)
		s := shardsOf(t, first)[0]
		want := ids(t, first, s, at)
		var got []int
		for at.Row < s.Rows {
			opt.BatchSize = rapid.IntRange(1, 100).Draw(rt, "batch")
			r, err := f.feed(t, opt).Open(t.Context(), s, at)
			if err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(1, 5).Draw(rt, "batches") {
				b, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					rt.Fatal(err)
				}
				for i := range b.Rows {
					got = append(got, int(b.X[0][i*width]))
				}
			}
			at = r.Cursor()
			r.Close()
		}
		if !slices.Equal(got, want) {
			rt.Fatal("the pieces are not the epoch")
		}
	})
}

func TestFeedDropsAShortLastBatchOnlyWhenAsked(t *testing.T) {
	f := makeDataset(t, 500, width, dataset.WriterOptions{})
	feed := f.feed(t, dataset.FeedOptions{DropLast: true})
	s := shardsOf(t, feed)[0]
	if got := len(ids(t, feed, s, pipeline.Cursor{})); got != int(s.Rows)/32*32 || got == int(s.Rows) {
		t.Errorf("%d rows of %d", got, s.Rows)
	}
}

func TestFeedReadsKeptShardsOnce(t *testing.T) {
	f := makeDataset(t, 500, width, dataset.WriterOptions{})
	feed := f.feed(t, dataset.FeedOptions{Shuffle: true})
	s := shardsOf(t, feed)[0]
	for e := range 4 {
		ids(t, feed, s, pipeline.Cursor{Epoch: e})
	}
	if n := f.store.BytesRead(s.Path); n > s.Bytes+s.Bytes/4+4096 {
		t.Errorf("%d bytes were read of a shard of %d", n, s.Bytes)
	}
}

func kindOf(err error) string {
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		return k.ErrorKind()
	}
	return ""
}

// readAll reads every shard for one epoch and gives the first error.
func readAll(ctx context.Context, f *dataset.Feed, epoch int) (rows int64, err error) {
	shards, err := f.Shards(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range shards {
		r, err := f.Open(ctx, s, pipeline.Cursor{Epoch: epoch})
		if err != nil {
			return rows, err
		}
		for {
			b, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				r.Close()
				return rows, err
			}
			rows += int64(b.Rows)
		}
		r.Close()
	}
	return rows, nil
}

func TestFeedRefusesADamagedShardBeforeItsFirstBatch(t *testing.T) {
	for _, b := range budgets {
		f := twelve(t)
		path := f.manifest.Shards[0].Path
		whole := f.store.Get(path)
		flip := func(at int) []byte {
			c := bytes.Clone(whole)
			c[at] ^= 0x40
			return c
		}
		other := makeDataset(t, 1100, width, dataset.WriterOptions{}).store.Get(path)
		for _, c := range []struct {
			what string
			data []byte
			kind pipeline.Kind
		}{
			{"flipped bit in the data", flip(len(whole) / 3), pipeline.Corrupt},
			{"flipped bit in the magic", flip(1), pipeline.Corrupt},
			{"flipped bit in the footer", flip(len(whole) - 60), pipeline.Corrupt},
			{"flipped bit in the footer's length", flip(len(whole) - 7), pipeline.Corrupt},
			{"cut off", whole[:len(whole)-100], pipeline.Corrupt},
			{"cut off at the start", whole[100:], pipeline.Corrupt},
			{"empty", []byte{}, pipeline.Corrupt},
			{"another file", other, pipeline.Changed},
			{"gone", nil, pipeline.Changed},
		} {
			f.store.Put(path, c.data)
			if c.data == nil {
				f.store.Remove(path)
			}
			rows, err := readAll(t.Context(), f.feed(t, dataset.FeedOptions{Shuffle: true, BudgetBytes: b.bytes}), 0)
			if kindOf(err) != string(c.kind) || rows != 0 || !bytes.Contains([]byte(err.Error()), []byte(path)) {
				t.Errorf("%s, %s: %d rows, then %v (kind %q, want %q)", b.name, c.what, rows, err, kindOf(err), c.kind)
			}
		}
		f.store.Put(path, whole)
		if _, err := readAll(t.Context(), f.feed(t, dataset.FeedOptions{BudgetBytes: b.bytes}), 0); err != nil {
			t.Errorf("%s, the shard as it was: %v", b.name, err)
		}
	}
}

func TestFeedNamesAShardThatChangedBetweenOrDuringEpochs(t *testing.T) {
	for _, b := range budgets {
		f := twelve(t)
		path := f.manifest.Shards[0].Path
		whole := f.store.Get(path)
		flipped := bytes.Clone(whole)
		for i := 100; i < len(flipped)-2000; i += 500 {
			flipped[i] ^= 1
		}
		for what, data := range map[string][]byte{"shorter": whole[:len(whole)-1], "longer": append(bytes.Clone(whole), 0), "other bytes": flipped} {
			if b.name == "kept" && what == "other bytes" {
				continue // the verified rows are in memory
			}
			f.store.Put(path, whole)
			feed := f.feed(t, dataset.FeedOptions{Shuffle: true, BudgetBytes: b.bytes})
			if _, err := readAll(t.Context(), feed, 0); err != nil {
				t.Fatal(err)
			}
			f.store.Put(path, data)
			_, err := readAll(t.Context(), feed, 1)
			if kindOf(err) != string(pipeline.Changed) || !bytes.Contains([]byte(err.Error()), []byte(path)) {
				t.Errorf("%s, %s: %v", b.name, what, err)
			}
		}
		if b.name != "windows" && b.name != "row groups" {
			continue // the whole shard was read when it was opened
		}
		f.store.Put(path, whole)
		feed := f.feed(t, dataset.FeedOptions{Shuffle: true, BudgetBytes: b.bytes})
		r, err := feed.Open(t.Context(), shardsOf(t, feed)[0], pipeline.Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		f.store.Put(path, flipped)
		for err == nil {
			_, err = r.Next()
		}
		_, again := r.Next()
		if kindOf(err) != string(pipeline.Changed) || err != again {
			t.Errorf("%s, during an epoch: %v, then %v", b.name, err, again)
		}
		r.Close()
	}
}

func TestFeedRefusesWhatItCannotDo(t *testing.T) {
	f := makeDataset(t, 200, width, dataset.WriterOptions{})
	for what, opt := range map[string]dataset.FeedOptions{
		"no batch size": {}, "no such part": {BatchSize: 1, Split: "holdout"}, "negative budget": {BatchSize: 1, BudgetBytes: -1},
	} {
		if _, err := dataset.NewFeed(f.store, f.manifest, opt); kindOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := readAll(t.Context(), f.feed(t, dataset.FeedOptions{BudgetBytes: 1000}), 0)
	if kindOf(err) != string(pipeline.Unsupported) {
		t.Errorf("a row group larger than the budget: %v", err)
	}
}

func TestFeedNextDoesNotAllocateOnceWarm(t *testing.T) {
	f := makeDataset(t, 6000, width, dataset.WriterOptions{GroupBytes: 512 << 10})
	for _, shuffle := range []bool{true, false} {
		feed := f.feed(t, dataset.FeedOptions{Shuffle: shuffle})
		r, err := feed.Open(t.Context(), shardsOf(t, feed)[0], pipeline.Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("shuffle %v: %v allocations a batch", shuffle, n)
		}
		r.Close()
	}
}

// A feed whose shards are ten times its budget, with as many readers as the budget is meant for.
func TestFeedHoldsItsBudget(t *testing.T) {
	const budget = 8 << 20
	f := makeDataset(t, 30_000, 600, dataset.WriterOptions{Shards: 4, Parts: []string{"train"}, GroupBytes: 128 << 10, BudgetBytes: 256 << 20})
	for _, shuffle := range []bool{true, false} {
		feed := f.feed(t, dataset.FeedOptions{Shuffle: shuffle, BudgetBytes: budget})
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		start, most := m.HeapAlloc, uint64(0)
		var open []pipeline.BatchReader
		for _, s := range shardsOf(t, feed) {
			r, err := feed.Open(t.Context(), s, pipeline.Cursor{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			open = append(open, r)
		}
		for i := 0; len(open) > 0; i++ {
			r := open[i%len(open)]
			if _, err := r.Next(); err == io.EOF {
				open = slices.DeleteFunc(open, func(o pipeline.BatchReader) bool { return o == r })
				r.Close()
			} else if err != nil {
				t.Fatal(err)
			}
			if i%64 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
		// Beside the rows: a raw row group, some pages and the footer of four readers.
		if used := int64(most) - int64(start); used > 2*budget {
			t.Errorf("shuffle %v: %d bytes in use, the budget is %d", shuffle, used, int64(budget))
		}
	}
}
