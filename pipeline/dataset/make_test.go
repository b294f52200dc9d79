package dataset_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/pipetest"
)

// into lets a writer write into a store in memory.
func into(s *pipetest.MemStore) dataset.Creator {
	return dataset.CreateFunc(func(ctx context.Context, name string) (dataset.Output, error) {
		return s.Create(ctx, name)
	})
}

// columns are two inputs, an output, a weight and a kept number and text.
func columns(width int) []pipeline.ColumnInfo {
	vec := func(name, role string, shape ...int) pipeline.ColumnInfo {
		return pipeline.ColumnInfo{Name: name, Role: role, DType: "float32", Shape: shape, Encoding: "f32le", Scale: 1}
	}
	return []pipeline.ColumnInfo{
		vec("features", "x", width), vec("more", "x", 2, 3), vec("target", "y", 2), vec("w", "weight"),
		{Name: "id", Role: "keep", DType: "int64", Encoding: "plain", Scale: 1},
		{Name: "score", Role: "keep", DType: "float64", Encoding: "plain", Scale: 1},
		{Name: "note", Role: "keep", DType: "string", Encoding: "plain", Scale: 1},
	}
}

// rowsBlock makes n distinct rows, numbered from first.
func rowsBlock(first, n, width, parts int) *pipeline.Rows {
	r := &pipeline.Rows{N: n, Vectors: make([][]float32, 4), Keep: make([]pipeline.KeepColumn, 3)}
	for i := first; i < first+n; i++ {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		r.Hash = append(r.Hash, rng.Uint64())
		r.Part = append(r.Part, uint8(rng.IntN(10)/8%parts)) // 80 % of the rows in part 0
		for j := range width {
			r.Vectors[0] = append(r.Vectors[0], float32(i)+float32(j)/1024)
		}
		for j := range 6 {
			r.Vectors[1] = append(r.Vectors[1], -float32(i*6+j))
		}
		r.Vectors[2] = append(r.Vectors[2], float32(i%2), float32(1-i%2))
		r.Vectors[3] = append(r.Vectors[3], 1+float32(i%5))
		r.Keep[0].Int64 = append(r.Keep[0].Int64, int64(i))
		r.Keep[1].Float64 = append(r.Keep[1].Float64, float64(i)/3)
		r.Keep[1].Valid = append(r.Keep[1].Valid, i%7 != 0)
		r.Keep[2].String = append(r.Keep[2].String, fmt.Sprintf("row %d", i))
		r.Keep[2].Valid = append(r.Keep[2].Valid, i%3 != 0)
	}
	return r
}

type fixture struct {
	store    *pipetest.MemStore
	manifest *dataset.Manifest
}

// makeDataset writes rows of the given width into a store in memory.
func makeDataset(t testing.TB, rows, width int, opt dataset.WriterOptions) fixture {
	t.Helper()
	store := &pipetest.MemStore{}
	if opt.Parts == nil {
		opt.Parts = []string{"train", "test"}
	}
	if opt.TempDir == "" {
		opt.TempDir = t.TempDir()
	}
	w, err := dataset.NewWriter(into(store), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cols := columns(width)
	if err := w.Start(cols); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < rows; at += 100 {
		if err := w.Write(t.Context(), rowsBlock(at, min(100, rows-at), width, len(opt.Parts))); err != nil {
			t.Fatal(err)
		}
	}
	shards, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fixture{store, &dataset.Manifest{Format: dataset.Format, Version: 1, Created: time.Unix(0, 0).UTC(), Run: "r1", Engine: "local",
		Source: dataset.Source{Format: pipeline.CSV, Files: []string{"rows.csv"}}, Columns: cols,
		Split:  dataset.Split{Key: "id", Seed: 1, Parts: dataset.Parts{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}},
		Shards: shards}}
}

func (f fixture) feed(t testing.TB, opt dataset.FeedOptions) *dataset.Feed {
	t.Helper()
	if opt.BatchSize == 0 {
		opt.BatchSize = 32
	}
	feed, err := dataset.NewFeed(f.store, f.manifest, opt)
	if err != nil {
		t.Fatal(err)
	}
	return feed
}
