package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"dkpipe/pipeline"
)

// reader gives one shard's batches for one epoch. Either the whole shard is in cur, or a goroutine of the reader's
// own fills windows ahead; at most two exist, so it waits until the consumer gives one back.
type reader struct {
	feed  *Feed
	shard pipeline.Shard
	epoch int
	row   int64 // rows of the epoch given out

	batch pipeline.Batch
	buf   *block // memory of batches that are gathered

	cur   *block // rows of the current window
	order []uint32
	at    int // place in the window of the next row
	rows  int // of the window
	own   *block

	windows chan filled // nil when the whole shard is in cur
	free    chan *block
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	done  <-chan struct{}
	cause func() error
	err   error // sticky

	closed bool
}

// filled is a window on its way from the goroutine to the consumer.
type filled struct {
	b    *block
	rows int
	skip int // rows that were given out before the reader was opened
	err  error
}

func newReader(ctx context.Context, f *Feed, s pipeline.Shard, from pipeline.Cursor) *reader {
	r := &reader{feed: f, shard: s, epoch: from.Epoch, row: from.Row,
		done: ctx.Done(), cause: func() error { return context.Cause(ctx) }}
	r.batch.X = make([][]float32, f.lay.inputs)
	r.batch.Y = make([][]float32, f.lay.outputs)
	return r
}

// startWhole prepares reading when cur holds the whole shard.
func (r *reader) startWhole() {
	r.at, r.rows = int(r.row), int(r.shard.Rows)
	if !r.feed.opt.Shuffle {
		return
	}
	if r.own != nil {
		r.order = r.own.permutation(r.rows, r.windowKey(0))
		return
	}
	r.order = make([]uint32, r.rows)
	permute(r.order, r.windowKey(0))
}

// windowKey seeds the permutation of the window that begins at row start of the epoch.
func (r *reader) windowKey(start int64) uint64 {
	return key(uint64(r.feed.opt.Seed), uint64(r.shard.ID), uint64(r.epoch), 1, uint64(start))
}

// startWindows starts the goroutine that fills windows. On success it owns blob.
func (r *reader) startWindows(ctx context.Context, foot *footer, blob pipeline.Blob) error {
	f := r.feed
	groups := groupOrder(len(foot.groups), f.opt.Shuffle, key(uint64(f.opt.Seed), uint64(r.shard.ID), uint64(r.epoch), 0))
	size := max(0, f.share-foot.widest) / 2 / f.lay.rowSize
	if !f.opt.Shuffle {
		size = 0 // a group at a time: order does not depend on it, memory does
	}
	windows := packWindows(groups, foot.rows, size)
	most := 0
	for _, w := range windows {
		most = max(most, w.rows)
	}
	if need := int64(most) * f.lay.rowSize; need+foot.widest > f.opt.BudgetBytes {
		return &pipeline.Error{Kind: pipeline.Unsupported,
			Message: fmt.Sprintf("%s has a row group of %d rows, %d bytes in memory; the feed's budget is %d bytes",
				r.shard.Path, most, need+foot.widest, f.opt.BudgetBytes),
			Hint: "raise train.feed_budget_mb, or prepare the dataset with smaller row groups"}
	}
	mem := f.mem.get()
	d, err := newDecoder(f.lay, foot, mem)
	if err != nil {
		f.mem.put(mem)
		return unreadable(r.shard.Path, err)
	}
	for len(windows) > 0 && windows[0].start+int64(windows[0].rows) <= r.row {
		windows = windows[1:]
	}
	r.windows, r.free = make(chan filled), make(chan *block, 2)
	for range min(2, len(windows)) {
		r.free <- f.pool.get(most)
	}
	ctx, r.cancel = context.WithCancel(ctx)
	from := r.row
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		defer blob.Close() // it was only read
		defer f.mem.put(mem)
		defer close(r.windows)
		r.fill(ctx, blob, d, windows, from)
	}()
	return nil
}

// fill decodes one window after the other. It ends at the last one, at an error, or when the reader is closed.
func (r *reader) fill(ctx context.Context, blob pipeline.Blob, d *decoder, windows []window, from int64) {
	for _, w := range windows {
		var b *block
		select {
		case b = <-r.free:
		case <-ctx.Done():
			return
		}
		out := filled{b: b, rows: w.rows, skip: int(max(0, from-w.start))}
		out.err = r.fillWindow(ctx, blob, d, w, b)
		select {
		case r.windows <- out:
		case <-ctx.Done():
			r.feed.pool.put(b)
			return
		}
		if out.err != nil {
			return
		}
	}
}

func (r *reader) fillWindow(ctx context.Context, blob pipeline.Blob, d *decoder, w window, b *block) error {
	at := 0
	for _, g := range w.groups {
		raw, err := rereadGroup(ctx, blob, r.shard, d.foot, g, &d.raw)
		if err != nil {
			return err
		}
		if err := d.group(g, raw, b, at); err != nil {
			return unreadable(r.shard.Path, err)
		}
		at += int(d.foot.rows[g])
	}
	b.order = b.order[:0]
	if r.feed.opt.Shuffle {
		b.permutation(w.rows, r.windowKey(w.start))
	}
	return nil
}

// Next gives the next batch. In shard order it is a view of the decoded rows where they lie together.
func (r *reader) Next() (*pipeline.Batch, error) {
	if r.err != nil {
		return nil, r.err
	}
	select {
	case <-r.done:
		return nil, r.fail(interrupted(r.shard.Path, r.cause()))
	default:
	}
	n := int(min(int64(r.feed.opt.BatchSize), r.shard.Rows-r.row))
	if n == 0 || r.feed.opt.DropLast && n < r.feed.opt.BatchSize {
		return nil, r.fail(io.EOF)
	}
	if r.at == r.rows {
		if err := r.nextWindow(); err != nil {
			return nil, r.fail(err)
		}
	}
	lay := r.feed.lay
	if len(r.order) == 0 && r.rows-r.at >= n {
		lay.view(&r.batch, r.cur, r.at, n)
		r.at += n
	} else {
		if err := r.gather(n); err != nil {
			return nil, r.fail(err)
		}
		lay.view(&r.batch, r.buf, 0, n)
	}
	r.row += int64(n)
	return &r.batch, nil
}

func (r *reader) gather(n int) error {
	if r.buf == nil {
		r.buf = r.feed.pool.get(int(min(int64(r.feed.opt.BatchSize), r.shard.Rows)))
	}
	for got := 0; got < n; {
		if r.at == r.rows {
			if err := r.nextWindow(); err != nil {
				return err
			}
		}
		k := min(n-got, r.rows-r.at)
		r.feed.lay.gather(r.buf, got, r.cur, r.order, r.at, k)
		r.at, got = r.at+k, got+k
	}
	return nil
}

// nextWindow gives the used up window back and waits for the next one.
func (r *reader) nextWindow() error {
	if r.windows == nil {
		return &pipeline.Error{Kind: pipeline.Internal, Message: r.shard.Path + ": rows are missing"}
	}
	if r.cur != nil {
		r.free <- r.cur // never blocks: it has room for both blocks
		r.cur = nil
	}
	w, ok := <-r.windows
	if !ok {
		if err := r.cause(); err != nil {
			return interrupted(r.shard.Path, err)
		}
		return &pipeline.Error{Kind: pipeline.Internal, Message: r.shard.Path + ": rows are missing"}
	}
	r.cur, r.order, r.rows, r.at = w.b, w.b.order, w.rows, w.skip
	if w.err != nil {
		r.rows, r.at = 0, 0
	}
	return w.err
}

// fail keeps err and says where it happened.
func (r *reader) fail(err error) error {
	var e *pipeline.Error
	if errors.As(err, &e) {
		at := *e
		at.Message = fmt.Sprintf("%s (epoch %d, row %d)", e.Message, r.epoch, r.row)
		err = &at
	}
	r.err = err
	return err
}

// Cursor is the position of the next batch.
func (r *reader) Cursor() pipeline.Cursor { return pipeline.Cursor{Epoch: r.epoch, Row: r.row} }

// Close ends the goroutine, waits for it, and gives memory back. Batches are not valid any more.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.err = &pipeline.Error{Kind: pipeline.Internal, Message: r.shard.Path + ": read after Close", Err: fs.ErrClosed}
	pool := &r.feed.pool
	if r.windows != nil {
		r.cancel()
		r.wg.Wait()
		close(r.free)
		for b := range r.free {
			pool.put(b)
		}
		pool.put(r.cur)
	}
	pool.put(r.own)
	pool.put(r.buf)
	r.cur, r.own, r.buf, r.order = nil, nil, nil, nil
	r.batch = pipeline.Batch{}
	return nil
}
