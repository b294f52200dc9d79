package pipetest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"dkpipe/pipeline"
)

// MemFeed is a pipeline.Feed over rows in memory. It passes TestFeed, shuffles when it is told to, and stands in for
// a dataset in tests of training. Its fields are not changed once it is in use.
type MemFeed struct {
	Data      []pipeline.Batch // one a shard: all rows of it, in one batch
	BatchSize int
	Shuffle   bool
	Seed      uint64
}

var _ pipeline.Feed = (*MemFeed)(nil)

// Shards lists the shards.
func (f *MemFeed) Shards(context.Context) ([]pipeline.Shard, error) {
	out := make([]pipeline.Shard, len(f.Data))
	for i, d := range f.Data {
		out[i] = pipeline.Shard{ID: i, Path: fmt.Sprintf("memory/part-%05d", i), Rows: int64(d.Rows)}
	}
	return out, nil
}

// Open gives a reader.
func (f *MemFeed) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	all, err := f.Shards(ctx)
	if err != nil {
		return nil, err
	}
	if s.ID < 0 || s.ID >= len(all) || all[s.ID] != s || from.Row < 0 || from.Row > s.Rows || from.Epoch < 0 {
		return nil, &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("%s: no such shard, or no such position: %+v", s.Path, from)}
	}
	r := &memReader{src: &f.Data[s.ID], size: f.BatchSize, path: s.Path, at: from, done: ctx.Done(), cause: func() error { return context.Cause(ctx) }}
	r.order = make([]int, s.Rows)
	for i := range r.order {
		r.order[i] = i
	}
	if f.Shuffle {
		r.order = rand.New(rand.NewPCG(f.Seed, uint64(s.ID)<<32|uint64(from.Epoch))).Perm(int(s.Rows))
	}
	return r, nil
}

type memReader struct {
	src   *pipeline.Batch
	size  int
	path  string
	order []int
	at    pipeline.Cursor
	batch pipeline.Batch
	done  <-chan struct{}
	cause func() error
	err   error
}

func (r *memReader) Next() (*pipeline.Batch, error) {
	if r.err != nil {
		return nil, r.err
	}
	select {
	case <-r.done:
		r.err = &pipeline.Error{Kind: pipeline.Interrupted, Message: fmt.Sprintf("%s, row %d", r.path, r.at.Row), Err: r.cause()}
		return nil, r.err
	default:
	}
	rows := r.order[r.at.Row:]
	rows = rows[:min(r.size, len(rows))]
	if len(rows) == 0 {
		r.err = io.EOF
		return nil, r.err
	}
	r.batch.Rows = len(rows)
	r.batch.X = r.pick(r.batch.X, r.src.X, rows)
	r.batch.Y = r.pick(r.batch.Y, r.src.Y, rows)
	if r.src.Weight != nil {
		r.batch.Weight = r.pick([][]float32{r.batch.Weight}, [][]float32{r.src.Weight}, rows)[0]
	}
	r.at.Row += int64(len(rows))
	return &r.batch, nil
}

func (r *memReader) pick(dst, src [][]float32, rows []int) [][]float32 {
	dst = slices.Grow(dst[:0], len(src))[:len(src)]
	for i, s := range src {
		w := len(s) / r.src.Rows
		dst[i] = dst[i][:0]
		for _, row := range rows {
			dst[i] = append(dst[i], s[row*w:(row+1)*w]...)
		}
	}
	return dst
}

func (r *memReader) Cursor() pipeline.Cursor { return r.at }

func (r *memReader) Close() error {
	r.err = &pipeline.Error{Kind: pipeline.Internal, Message: r.path + ": read after Close"}
	return nil
}
