package dataset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"dkpipe/pipeline"
)

// DefaultFeedBudget is the memory of a feed when its options name none.
const DefaultFeedBudget = 256 << 20

// maxOpenShards is how many readers of one feed share its budget. It is a fixed number, not the number of workers,
// because the size of a shuffle window decides the order of the rows. More readers at once need more memory.
const maxOpenShards = 8

// FeedOptions says which rows a feed gives and in what order. BatchSize must be set; the zero value of the rest scans
// the training rows in shard order.
type FeedOptions struct {
	Split     string // part of the dataset; empty: train
	BatchSize int    // rows of a batch
	Shuffle   bool   // another order in every epoch; else the order of the shard: for evaluation
	Seed      int64  // of the shuffle
	// BudgetBytes is the memory for decoded rows, all readers together; 0: DefaultFeedBudget. The order depends on it.
	// Beside it a reader needs the bytes of one row group, a few pages and one batch.
	BudgetBytes int64
	DropLast    bool // leave out a short last batch
}

// Feed is the pipeline.Feed over a dataset's shards.
//
// When the decoded rows of all its shards fit the budget, each shard is read once, kept, and later epochs are copies
// out of memory. Otherwise every reader has a share of the budget, 1/min(8, shards), as two windows that are filled and
// given out in turn, or as one when the whole shard fits. With Shuffle the rows of a window are permuted, so a shard
// that fits is shuffled fully. See order.go for what the order depends on.
//
// A shard's length and SHA-256 are compared with the manifest before its first batch is given out. That reading takes
// a checksum of every row group, which each later reading is held against: a shard that is no longer the verified one
// is an error of kind Changed.
type Feed struct {
	open   pipeline.Opener
	lay    *layout
	opt    FeedOptions
	shards []pipeline.Shard
	states []shardState
	keep   bool  // all shards stay in memory
	share  int64 // bytes of decoded rows that one reader may hold
	pool   blockPool
	mem    scratchPool
}

var _ pipeline.Feed = (*Feed)(nil)

// shardState is what the feed learnt about a shard. Who took the token may touch the rest.
type shardState struct {
	token chan struct{}
	foot  *footer // nil before the shard was verified
	rows  *block  // all rows, when the feed keeps them
}

// NewFeed makes a feed of one split. The names that it opens are the paths in the manifest, which are relative to the
// version's folder.
func NewFeed(open pipeline.Opener, m *Manifest, opt FeedOptions) (*Feed, error) {
	if opt.Split == "" {
		opt.Split = "train"
	}
	if opt.BudgetBytes == 0 {
		opt.BudgetBytes = DefaultFeedBudget
	}
	if opt.BatchSize < 1 || opt.BudgetBytes < 0 {
		return nil, &pipeline.Error{Kind: pipeline.Usage,
			Message: fmt.Sprintf("feed of split %s: batches of %d rows, budget of %d bytes", opt.Split, opt.BatchSize, opt.BudgetBytes)}
	}
	if err := m.check(); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: ManifestName, Err: err}
	}
	lay, err := newLayout(m)
	if err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: ManifestName, Err: err}
	}
	if lay.inputs == 0 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the dataset has no input columns",
			Hint: "name them in columns.x and prepare the dataset again"}
	}
	f := &Feed{open: open, lay: lay, opt: opt}
	var rows int64
	for _, s := range m.Shards {
		if s.Split != opt.Split {
			continue
		}
		f.shards = append(f.shards, pipeline.Shard{ID: len(f.shards), Path: s.Path, Rows: s.Rows, Bytes: s.Bytes, SHA256: s.SHA256})
		rows += s.Rows
	}
	if len(f.shards) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the dataset has no part %q", opt.Split),
			Hint: "the manifest's shards name the parts; a live dataset has none on disk"}
	}
	f.keep = rows <= opt.BudgetBytes/lay.rowSize
	f.share = opt.BudgetBytes / int64(min(len(f.shards), maxOpenShards))
	f.pool = blockPool{lay: lay, limit: opt.BudgetBytes}
	f.mem = make(scratchPool, maxOpenShards)
	f.states = make([]shardState, len(f.shards))
	for i := range f.states {
		f.states[i].token = make(chan struct{}, 1)
		f.states[i].token <- struct{}{}
	}
	return f, nil
}

// Shards lists the split's shards as the manifest has them.
func (f *Feed) Shards(context.Context) ([]pipeline.Shard, error) {
	return append([]pipeline.Shard(nil), f.shards...), nil
}

// Cached tells whether every epoch after the first is served from memory.
func (f *Feed) Cached() bool { return f.keep }

// Open verifies the shard, when that was not done yet, and gives a reader at position from. s must be one of Shards;
// it may have travelled through another process.
func (f *Feed) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	if s.ID < 0 || s.ID >= len(f.shards) {
		return nil, &pipeline.Error{Kind: pipeline.Changed,
			Message: fmt.Sprintf("shard %d (%s): this dataset's part %s has %d shards", s.ID, s.Path, f.opt.Split, len(f.shards)), Hint: hintVersion}
	}
	if s != f.shards[s.ID] {
		return nil, &pipeline.Error{Kind: pipeline.Changed,
			Message: fmt.Sprintf("shard %d is %s of %d rows here, %s of %d rows was asked for", s.ID, f.shards[s.ID].Path, f.shards[s.ID].Rows, s.Path, s.Rows),
			Hint:    hintVersion}
	}
	if from.Epoch < 0 || from.Row < 0 || from.Row > s.Rows {
		return nil, &pipeline.Error{Kind: pipeline.Internal,
			Message: fmt.Sprintf("%s: position epoch %d, row %d; the shard has %d rows", s.Path, from.Epoch, from.Row, s.Rows)}
	}
	st := &f.states[s.ID]
	select {
	case <-st.token:
	case <-ctx.Done():
		return nil, interrupted(s.Path, context.Cause(ctx))
	}
	blob, err := f.openBlob(ctx, s, st)
	if err != nil {
		st.token <- struct{}{}
		return nil, err
	}
	return f.openReader(ctx, s, from, st, blob)
}

const hintVersion = "all processes of a run must read the same version of the dataset"

// openBlob opens the file and looks whether it can still be the verified one. It gives nil for a shard that is kept
// in memory: a store that does not answer is no reason to stop then, a file that is gone or has another length is.
func (f *Feed) openBlob(ctx context.Context, s pipeline.Shard, st *shardState) (pipeline.Blob, error) {
	blob, err := f.open.Open(ctx, s.Path)
	if err != nil {
		if st.rows != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, readFault(s.Path, err)
	}
	if st.foot != nil && blob.Size() != s.Bytes {
		n := blob.Size()
		blob.Close()
		return nil, changed(s.Path, fmt.Sprintf("it has %d bytes now, %d before", n, s.Bytes))
	}
	if st.rows != nil {
		return nil, blob.Close()
	}
	return blob, nil
}

// openReader gives the token back and takes over blob.
func (f *Feed) openReader(ctx context.Context, s pipeline.Shard, from pipeline.Cursor, st *shardState, blob pipeline.Blob) (*reader, error) {
	r := newReader(ctx, f, s, from)
	whole := f.keep || s.Rows <= f.share/f.lay.rowSize
	err := func() (err error) {
		defer func() { st.token <- struct{}{} }()
		mem := f.mem.get()
		defer f.mem.put(mem)
		switch {
		case st.rows != nil:
			r.cur = st.rows
		case f.keep:
			st.rows, st.foot, err = f.load(ctx, blob, s, nil, f.lay.newBlock(int(s.Rows)), mem)
			r.cur = st.rows
		case whole:
			r.own = f.pool.get(int(s.Rows))
			r.cur, st.foot, err = f.load(ctx, blob, s, st.foot, r.own, mem)
		case st.foot == nil:
			st.foot, err = verify(ctx, blob, s, f.lay, &mem.raw, nil)
		}
		return err
	}()
	if err == nil && !whole {
		err = r.startWindows(ctx, st.foot, blob)
		if err == nil {
			return r, nil // the reader's goroutine owns blob now
		}
	}
	if blob != nil {
		if e := blob.Close(); err == nil && e != nil {
			err = readFault(s.Path, e)
		}
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.startWhole()
	return r, nil
}

// load decodes a whole shard into b: with foot nil it is verified in the same reading.
func (f *Feed) load(ctx context.Context, blob pipeline.Blob, s pipeline.Shard, foot *footer, b *block, mem *scratch) (*block, *footer, error) {
	var d *decoder
	at := 0
	visit := func(ft *footer, g int, raw []byte) (err error) {
		if d == nil {
			if d, err = newDecoder(f.lay, ft, mem); err != nil {
				return err
			}
		}
		n := int(ft.rows[g])
		if n > b.cap-at {
			return fmt.Errorf("row group %d goes past the %d rows that the manifest lists", g, s.Rows)
		}
		if err := d.group(g, raw, b, at); err != nil {
			return err
		}
		at += n
		return nil
	}
	if foot == nil {
		foot, err := verify(ctx, blob, s, f.lay, &mem.raw, visit)
		if err != nil {
			return nil, nil, err
		}
		return b, foot, nil
	}
	for g := range foot.groups {
		raw, err := rereadGroup(ctx, blob, s, foot, g, &mem.raw)
		if err != nil {
			return nil, foot, err
		}
		if err := visit(foot, g, raw); err != nil {
			return nil, foot, unreadable(s.Path, err)
		}
	}
	return b, foot, nil
}

// rereadGroup reads a row group of a verified shard and holds it against the checksum of then.
func rereadGroup(ctx context.Context, blob pipeline.Blob, s pipeline.Shard, foot *footer, g int, buf *[]byte) ([]byte, error) {
	p := foot.groups[g]
	raw := sized(buf, p.end-p.off)
	if err := readGroup(ctx, blob, raw, p.off); err != nil {
		return nil, readFault(s.Path, err)
	}
	if checksum(raw) != p.sum {
		return nil, changed(s.Path, fmt.Sprintf("row group %d, bytes %d to %d", g, p.off, p.end))
	}
	return raw, nil
}
