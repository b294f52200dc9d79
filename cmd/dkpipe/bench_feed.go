package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
)

const (
	benchRows  = 20_000
	benchWidth = 784
	benchOut   = 10
)

// benchFeed measures epochs of 20,000 rows of 794 floats in batches of 128.
func benchFeed(ctx context.Context, rounds int) (cases []benchCase, err error) {
	dir, err := os.MkdirTemp("", "dkpipe-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store := place{fs: &hdfsio.Local{}, path: dir}
	m, err := benchDataset(ctx, store)
	if err != nil {
		return nil, err
	}
	open := func(opt dataset.FeedOptions) (*dataset.Feed, error) {
		opt.BatchSize = 128
		return dataset.NewFeed(folder{store}, m, opt)
	}
	kept, err := open(dataset.FeedOptions{Shuffle: true, BudgetBytes: 256 << 20})
	if err != nil {
		return nil, err
	}
	if err := feedEpoch(ctx, kept, 0); err != nil {
		return nil, err
	}
	epoch := 0
	next := func(f *dataset.Feed) func() error {
		return func() error { epoch++; return feedEpoch(ctx, f, epoch) }
	}
	windows, err := open(dataset.FeedOptions{Shuffle: true, BudgetBytes: 40 << 20})
	if err != nil {
		return nil, err
	}
	if err := feedEpoch(ctx, windows, 0); err != nil { // the one that verifies
		return nil, err
	}
	source := make([]float32, benchRows*(benchWidth+benchOut))
	for i := range source {
		source[i] = float32(i)
	}
	batch := make([]float32, 128*(benchWidth+benchOut))
	memcpy := func() error {
		for at := 0; at < len(source); at += len(batch) {
			copy(batch, source[at:])
		}
		return nil
	}
	plain := func() error { return readPlain(ctx, dir, m) }
	return compete(ctx, rounds, []contest{
		{name: "in memory, shuffled", unit: "rows/s", amount: benchRows, work: next(kept), limit: memcpy},
		{name: "from shards, shuffled", unit: "rows/s", amount: benchRows, work: next(windows), limit: plain},
		{name: "first epoch with verification", unit: "rows/s", amount: benchRows, limit: plain, work: func() error {
			f, err := open(dataset.FeedOptions{Shuffle: true, BudgetBytes: 256 << 20})
			if err != nil {
				return err
			}
			return feedEpoch(ctx, f, 0)
		}},
	})
}

// benchDataset writes the rows that are fed.
func benchDataset(ctx context.Context, store place) (*dataset.Manifest, error) {
	create := creator(func(ctx context.Context, name string) (hdfsio.Writer, error) {
		at := store.join(name)
		if err := at.fs.Mkdir(ctx, filepath.Dir(at.path)); err != nil {
			return nil, err
		}
		return at.fs.Create(ctx, at.path)
	})
	w, err := dataset.NewWriter(create, dataset.WriterOptions{Shards: 4})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	m := &dataset.Manifest{Columns: []pipeline.ColumnInfo{
		{Name: "features", Role: dataset.RoleX, DType: "float32", Shape: []int{benchWidth}, Encoding: dataset.EncodingF32LE, Scale: 1},
		{Name: "target", Role: dataset.RoleY, DType: "float32", Shape: []int{benchOut}, Encoding: dataset.EncodingF32LE, Scale: 1},
	}}
	if err := w.Start(m.Columns); err != nil {
		return nil, err
	}
	const block = 1000
	rows := &pipeline.Rows{N: block, Part: make([]uint8, block), Hash: make([]uint64, block),
		Vectors: [][]float32{make([]float32, block*benchWidth), make([]float32, block*benchOut)}}
	for first := 0; first < benchRows; first += block {
		for i := range block {
			rows.Hash[i] = uint64(first+i) * 0x9e3779b97f4a7c15 // spreads consecutive numbers over shards and order
			for k := range benchWidth {
				rows.Vectors[0][i*benchWidth+k] = float32((first + i) ^ k)
			}
		}
		if err := w.Write(ctx, rows); err != nil {
			return nil, err
		}
	}
	m.Shards, err = w.Finish(ctx)
	return m, err
}

// feedEpoch reads every batch of every shard once.
func feedEpoch(ctx context.Context, f *dataset.Feed, epoch int) error {
	shards, err := f.Shards(ctx)
	if err != nil {
		return err
	}
	for _, s := range shards {
		r, err := f.Open(ctx, s, pipeline.Cursor{Epoch: epoch})
		if err != nil {
			return err
		}
		for err == nil {
			_, err = r.Next()
		}
		if cerr := r.Close(); err == io.EOF {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readPlain reads the shard files and does nothing with them.
func readPlain(ctx context.Context, dir string, m *dataset.Manifest) error {
	buf := make([]byte, 1<<20)
	for _, s := range m.Shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(s.Path)))
		if err != nil {
			return err
		}
		for err == nil {
			_, err = f.Read(buf)
		}
		if cerr := f.Close(); err == io.EOF {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}
