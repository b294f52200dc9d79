package trainertest

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"dkpipe/pipeline"
)

// Feed is a data set in memory. Its shards are runs of rows, in an order of their own in every epoch. It is safe for
// concurrent use; its fields must not change after the first call.
type Feed struct {
	Inputs, Outputs int       // width of a row of X and Y
	X, Y            []float32 // rows × width
	Weight          []float32 // one a row, or nil
	NumShards       int       // 0 means 1
	BatchSize       int       // 0 means 1
	Seed            uint64    // of the order of rows
	// Fault is asked before every batch, with the position of that batch; an error is what Next gives. It may block
	// to hold a worker back. It may be nil.
	Fault func(ctx context.Context, shard int, at pipeline.Cursor) error
}

var _ pipeline.Feed = (*Feed)(nil)

// Linear makes rows of standard normal inputs and the outputs of a linear model with random parameters, without
// noise: parameters, laid out as NewLinear lays them out, have a loss of 0 there and nowhere else.
func Linear(rows, inputs, outputs int, seed uint64) (feed *Feed, parameters []float32) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	parameters = make([]float32, (inputs+1)*outputs)
	for i := range parameters {
		parameters[i] = float32(rnd.NormFloat64())
	}
	f := &Feed{Inputs: inputs, Outputs: outputs, X: make([]float32, rows*inputs), Y: make([]float32, rows*outputs), Seed: seed}
	for i := range f.X {
		f.X[i] = float32(rnd.NormFloat64())
	}
	m := &Model{inputs: inputs, outputs: outputs, params: parameters}
	_ = m.Predict(&pipeline.Batch{Rows: rows, X: [][]float32{f.X}}, [][]float32{f.Y}) // cannot fail: the shapes are ours
	return f, parameters
}

// Rows gives the number of rows.
func (f *Feed) Rows() int64 { return int64(len(f.X) / f.Inputs) }

// Shards implements pipeline.Feed.
func (f *Feed) Shards(context.Context) ([]pipeline.Shard, error) {
	n := max(1, f.NumShards)
	shards := make([]pipeline.Shard, n)
	for i := range shards {
		first, last := f.span(i)
		shards[i] = pipeline.Shard{ID: i, Path: path(i), Rows: int64(last - first)}
	}
	return shards, nil
}

func path(shard int) string { return fmt.Sprintf("memory/%d", shard) }

// span gives the rows of a shard.
func (f *Feed) span(shard int) (first, last int) {
	rows, n := int(f.Rows()), max(1, f.NumShards)
	return shard * rows / n, (shard + 1) * rows / n
}

// Open implements pipeline.Feed.
func (f *Feed) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	if s.ID < 0 || s.ID >= max(1, f.NumShards) || s.Path != path(s.ID) {
		return nil, &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("shard %d, %s, is not of this feed", s.ID, s.Path)}
	}
	first, last := f.span(s.ID)
	if from.Row < 0 || from.Row > int64(last-first) {
		return nil, &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("%s: cursor at row %d of %d", s.Path, from.Row, last-first)}
	}
	order := rand.New(rand.NewPCG(f.Seed, uint64(from.Epoch)<<32|uint64(s.ID))).Perm(last - first)
	for i := range order {
		order[i] += first
	}
	size := max(1, f.BatchSize)
	r := &reader{ctx: ctx, feed: f, shard: s.ID, at: from, order: order}
	r.batch.X = [][]float32{make([]float32, size*f.Inputs)}
	r.batch.Y = [][]float32{make([]float32, size*f.Outputs)}
	if f.Weight != nil {
		r.batch.Weight = make([]float32, size)
	}
	return r, nil
}

// reader fills one batch again and again, and spoils it when it is over, so that a consumer who keeps a batch notices.
// It keeps the context of Open, as pipeline.Feed asks.
type reader struct {
	ctx   context.Context
	feed  *Feed
	shard int
	at    pipeline.Cursor
	order []int
	batch pipeline.Batch
	err   error
}

func (r *reader) Cursor() pipeline.Cursor { return r.at }

func (r *reader) Next() (*pipeline.Batch, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err == nil && r.feed.Fault != nil {
		r.err = r.feed.Fault(r.ctx, r.shard, r.at)
	}
	if r.err == nil && r.at.Row == int64(len(r.order)) {
		r.err = io.EOF
	}
	if r.err != nil {
		r.spoil()
		return nil, r.err
	}
	f := r.feed
	rows := min(max(1, f.BatchSize), len(r.order)-int(r.at.Row))
	b := &r.batch
	b.Rows, b.X[0], b.Y[0] = rows, b.X[0][:rows*f.Inputs], b.Y[0][:rows*f.Outputs]
	if b.Weight != nil {
		b.Weight = b.Weight[:rows]
	}
	for i, row := range r.order[r.at.Row : int(r.at.Row)+rows] {
		copy(b.X[0][i*f.Inputs:], f.X[row*f.Inputs:(row+1)*f.Inputs])
		copy(b.Y[0][i*f.Outputs:], f.Y[row*f.Outputs:(row+1)*f.Outputs])
		if b.Weight != nil {
			b.Weight[i] = f.Weight[row]
		}
	}
	r.at.Row += int64(rows)
	return b, nil
}

func (r *reader) Close() error {
	if r.err == nil {
		r.err = fmt.Errorf("%s: read after Close", path(r.shard))
	}
	r.spoil()
	return nil
}

func (r *reader) spoil() {
	nan := float32(math.NaN())
	for _, v := range [][]float32{r.batch.X[0], r.batch.Y[0]} {
		for i := range v {
			v[i] = nan
		}
	}
}
