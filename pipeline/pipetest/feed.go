package pipetest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"dkpipe/pipeline"
)

// FeedCase is a feed under test and what is known about it.
type FeedCase struct {
	Feed      pipeline.Feed
	BatchSize int
	X, Y      []int // widths of the inputs and outputs
	Weight    bool
	Rows      int64 // of all shards; at least one shard must have more than two batches
	Shuffled  bool  // another order in every epoch
}

// TestFeed checks the promises of pipeline.Feed. fresh gives a fresh feed over the same data each time it is called;
// rows should be distinct, so that a lost row cannot hide behind its double.
func TestFeed(t *testing.T, fresh func(t *testing.T) FeedCase) {
	leak := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leak) })
	for _, p := range []struct {
		name string
		test func(*testing.T, func(*testing.T) FeedCase)
	}{
		{"shards are stable and travel as JSON", feedShards},
		{"batches have the declared form", feedForm},
		{"an epoch gives every row once", feedEveryRow},
		{"the order does not depend on the workers", feedOrder},
		{"a cursor resumes where it stands", feedResume},
		{"the end is sticky", feedEnd},
		{"close twice, then nothing is given", feedClose},
		{"a cancelled context ends a reader for good", feedCancel},
		{"a batch is valid until the next one", feedMemory},
		{"readers of one shard do not disturb each other", feedSameShard},
		{"a foreign shard or position is refused", feedForeign},
	} {
		t.Run(p.name, func(t *testing.T) { p.test(t, fresh) })
	}
}

// rows reads a shard from a position to its end and gives each row as one string of bytes. It checks cursors and
// batch sizes on the way.
func (c FeedCase) rows(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) ([]string, error) {
	r, err := c.Feed.Open(ctx, s, from)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out []string
	at := from
	for {
		if got := r.Cursor(); got != at {
			return out, fmt.Errorf("%s: Cursor is %+v, want %+v", s.Path, got, at)
		}
		b, err := r.Next()
		if err == io.EOF {
			if at.Row != s.Rows {
				return out, fmt.Errorf("%s: the epoch ended at row %d of %d", s.Path, at.Row, s.Rows)
			}
			return out, r.Close()
		}
		if err != nil {
			return out, err
		}
		if b.Rows < 1 || b.Rows > c.BatchSize || b.Rows < c.BatchSize && at.Row+int64(b.Rows) != s.Rows {
			return out, fmt.Errorf("%s: a batch of %d rows at row %d of %d", s.Path, b.Rows, at.Row, s.Rows)
		}
		out = c.split(out, b)
		at.Row += int64(b.Rows)
	}
}

func (c FeedCase) split(out []string, b *pipeline.Batch) []string {
	for i := 0; i < b.Rows; i++ {
		var key []byte
		add := func(v []float32) {
			for _, f := range v {
				key = binary.LittleEndian.AppendUint32(key, math.Float32bits(f))
			}
		}
		for j, w := range c.X {
			add(b.X[j][i*w : (i+1)*w])
		}
		for j, w := range c.Y {
			add(b.Y[j][i*w : (i+1)*w])
		}
		if c.Weight {
			add(b.Weight[i : i+1])
		}
		out = append(out, string(key))
	}
	return out
}

func (c FeedCase) shards(t *testing.T) []pipeline.Shard {
	t.Helper()
	s, err := c.Feed.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// big gives the shard with the most rows.
func (c FeedCase) big(t *testing.T) pipeline.Shard {
	t.Helper()
	s := slices.MaxFunc(c.shards(t), func(a, b pipeline.Shard) int { return int(a.Rows - b.Rows) })
	if s.Rows <= int64(2*c.BatchSize) {
		t.Fatalf("the largest shard has %d rows, the suite needs more than two batches of %d", s.Rows, c.BatchSize)
	}
	return s
}

func (c FeedCase) mustRows(t *testing.T, s pipeline.Shard, from pipeline.Cursor) []string {
	t.Helper()
	rows, err := c.rows(t.Context(), s, from)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func feedShards(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	first := c.shards(t)
	var total int64
	for i, s := range first {
		if s.ID != i {
			t.Errorf("shard %d has the number %d", i, s.ID)
		}
		total += s.Rows
	}
	if total != c.Rows {
		t.Errorf("the shards have %d rows, want %d", total, c.Rows)
	}
	if again := c.shards(t); !slices.Equal(first, again) {
		t.Errorf("Shards changed from %v to %v", first, again)
	}
	if other := fresh(t).shards(t); !slices.Equal(first, other) {
		t.Errorf("another feed of the same data has shards %v, want %v", other, first)
	}
	b, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	var back []pipeline.Shard
	if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(first, back) {
		t.Errorf("after JSON the shards are %v (%v)", back, err)
	}
	big := c.big(t)
	if got := c.mustRows(t, back[big.ID], pipeline.Cursor{}); int64(len(got)) != big.Rows {
		t.Errorf("a shard that travelled has %d rows, want %d", len(got), big.Rows)
	}
}

func feedForm(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	r, err := c.Feed.Open(t.Context(), c.big(t), pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got [][]float32, widths []int) {
		if len(got) != len(widths) {
			t.Fatalf("%s: %d slices, want %d", what, len(got), len(widths))
		}
		for i, w := range widths {
			if len(got[i]) != b.Rows*w {
				t.Errorf("%s[%d]: %d floats for %d rows of %d", what, i, len(got[i]), b.Rows, w)
			}
		}
	}
	check("X", b.X, c.X)
	check("Y", b.Y, c.Y)
	if c.Weight && len(b.Weight) != b.Rows || !c.Weight && b.Weight != nil {
		t.Errorf("Weight has %d values for %d rows, the dataset has weights: %v", len(b.Weight), b.Rows, c.Weight)
	}
}

func feedEveryRow(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	for _, s := range c.shards(t) {
		want := c.mustRows(t, s, pipeline.Cursor{})
		for epoch := 1; epoch < 4; epoch++ {
			got := c.mustRows(t, s, pipeline.Cursor{Epoch: epoch})
			same := slices.Equal(want, got)
			if !same && !c.Shuffled {
				t.Errorf("%s: epoch %d has another order, the feed does not shuffle", s.Path, epoch)
			}
			if same && c.Shuffled && s.Rows > 20 {
				t.Errorf("%s: epoch %d has the order of epoch 0", s.Path, epoch)
			}
			a, b := slices.Clone(want), slices.Clone(got)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s: epoch %d has other rows than epoch 0", s.Path, epoch)
			}
		}
	}
}

func feedOrder(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	shards := c.shards(t)
	const epochs = 2
	want := map[pipeline.Cursor][]string{} // Row is the shard here
	for _, s := range shards {
		for e := range epochs {
			want[pipeline.Cursor{Epoch: e, Row: int64(s.ID)}] = c.mustRows(t, s, pipeline.Cursor{Epoch: e})
		}
	}
	for _, workers := range []int{1, 2, 5} {
		c := fresh(t)
		units := epochs * len(shards)
		work := make(chan int, units)
		for u := range units {
			work <- u
		}
		close(work)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for u := range work {
					// The last shard of the last epoch comes first.
					s, e := shards[len(shards)-1-u%len(shards)], epochs-1-u/len(shards)
					got, err := c.rows(t.Context(), s, pipeline.Cursor{Epoch: e})
					if err != nil {
						t.Errorf("%d workers: %v", workers, err)
					} else if !slices.Equal(got, want[pipeline.Cursor{Epoch: e, Row: int64(s.ID)}]) {
						t.Errorf("%d workers: %s has another order in epoch %d", workers, s.Path, e)
					}
				}
			})
		}
		wg.Wait()
	}
}

func feedResume(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	for epoch := range 2 {
		whole := c.mustRows(t, s, pipeline.Cursor{Epoch: epoch})
		n := int64(c.BatchSize)
		for _, row := range []int64{1, n - 1, n, n + 1, 2 * n, s.Rows / 2, s.Rows - 1, s.Rows} {
			if row < 0 || row > s.Rows {
				continue
			}
			// A fresh feed, as in a process that was started anew, and the one that is warm.
			for _, f := range []FeedCase{c, fresh(t)} {
				got := f.mustRows(t, s, pipeline.Cursor{Epoch: epoch, Row: row})
				if !slices.Equal(got, whole[row:]) {
					t.Errorf("epoch %d, from row %d: %d rows that are not the rest of the epoch", epoch, row, len(got))
				}
			}
		}
	}
}

func feedEnd(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	r, err := c.Feed.Open(t.Context(), s, pipeline.Cursor{Row: s.Rows - 1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := r.Next(); err != nil || b.Rows != 1 {
		t.Fatalf("the last row: %v", err)
	}
	for range 3 {
		if b, err := r.Next(); err != io.EOF || b != nil {
			t.Fatalf("after the end: batch %v, error %v, want io.EOF", b, err)
		}
	}
	if got := r.Cursor(); got.Row != s.Rows {
		t.Errorf("Cursor at the end is %+v, want row %d", got, s.Rows)
	}
}

func feedClose(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	for _, batches := range []int{0, 1, 2} {
		r, err := c.Feed.Open(t.Context(), s, pipeline.Cursor{})
		if err != nil {
			t.Fatal(err)
		}
		for range batches {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Errorf("Close after %d batches: %v", batches, err)
			}
		}
		if b, err := r.Next(); err == nil || err == io.EOF || b != nil {
			t.Errorf("Next after Close gave %v, %v; want an error", b, err)
		}
	}
}

func feedCancel(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Feed.Open(ctx, s, pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, first := r.Next()
	if !errors.Is(first, context.Canceled) {
		t.Fatalf("Next after cancel: %v, want context.Canceled", first)
	}
	if _, second := r.Next(); second != first {
		t.Errorf("the error changed from %v to %v", first, second)
	}
	if r, err := c.Feed.Open(ctx, s, pipeline.Cursor{}); err == nil {
		if _, err = r.Next(); err == nil {
			t.Error("a reader that was opened with a cancelled context gave a batch")
		}
		r.Close()
	}
	if got := c.mustRows(t, s, pipeline.Cursor{}); int64(len(got)) != s.Rows {
		t.Errorf("after a cancelled reader the feed gives %d rows, want %d", len(got), s.Rows)
	}
}

func feedMemory(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	var wg sync.WaitGroup
	for worker := range 3 {
		wg.Go(func() {
			r, err := c.Feed.Open(t.Context(), s, pipeline.Cursor{Epoch: worker})
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			for {
				b, err := r.Next()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				before := c.split(nil, b)
				// Other readers go on meanwhile, in other goroutines and here.
				if _, err := c.Feed.Shards(t.Context()); err != nil {
					t.Error(err)
				}
				if !slices.Equal(before, c.split(nil, b)) {
					t.Errorf("a batch of %s changed while it was valid", s.Path)
					return
				}
			}
		})
	}
	wg.Wait()
}

func feedSameShard(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	want := c.mustRows(t, s, pipeline.Cursor{})
	a, err := c.Feed.Open(t.Context(), s, pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := c.Feed.Open(t.Context(), s, pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var got [2][]string
	for i := 0; ; i++ {
		r := [2]pipeline.BatchReader{a, b}[i%2]
		batch, err := r.Next()
		if err == io.EOF {
			if i%2 == 1 {
				break
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got[i%2] = c.split(got[i%2], batch)
	}
	for i := range got {
		if !slices.Equal(got[i], want) {
			t.Errorf("reader %d of two gave another order", i)
		}
	}
}

func feedForeign(t *testing.T, fresh func(*testing.T) FeedCase) {
	c := fresh(t)
	s := c.big(t)
	other := s
	other.Path += ".old"
	beyond := s
	beyond.ID = len(c.shards(t))
	for _, bad := range []struct {
		what string
		s    pipeline.Shard
		at   pipeline.Cursor
	}{
		{"a shard of another path", other, pipeline.Cursor{}},
		{"a shard number that does not exist", beyond, pipeline.Cursor{}},
		{"a row behind the end", s, pipeline.Cursor{Row: s.Rows + 1}},
		{"a negative row", s, pipeline.Cursor{Row: -1}},
	} {
		r, err := c.Feed.Open(t.Context(), bad.s, bad.at)
		if err == nil {
			r.Close()
			t.Errorf("%s was opened", bad.what)
		}
	}
}
