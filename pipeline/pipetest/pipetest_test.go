package pipetest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/pipetest"
)

func memFeed(shuffle bool) *pipetest.MemFeed {
	f := &pipetest.MemFeed{BatchSize: 8, Shuffle: shuffle, Seed: 3}
	next := float32(0)
	for _, n := range []int{50, 21, 8} {
		b := pipeline.Batch{Rows: n, X: make([][]float32, 1), Y: make([][]float32, 1)}
		for range n {
			b.X[0] = append(b.X[0], next, -next, next/2)
			b.Y[0] = append(b.Y[0], next)
			b.Weight = append(b.Weight, 1+next)
			next++
		}
		f.Data = append(f.Data, b)
	}
	return f
}

func TestMemFeedConforms(t *testing.T) {
	for _, shuffle := range []bool{true, false} {
		pipetest.TestFeed(t, func(*testing.T) pipetest.FeedCase {
			return pipetest.FeedCase{Feed: memFeed(shuffle), BatchSize: 8, X: []int{3}, Y: []int{1}, Weight: true, Rows: 79, Shuffled: shuffle}
		})
	}
}

func TestMemStoreBehavesLikeAStore(t *testing.T) {
	var s pipetest.MemStore
	if _, err := s.Open(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is absent: %v", err)
	}
	f, err := s.Create(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if s.Get("a") != nil {
		t.Error("a file is there before it was closed")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	if _, err := s.Create(t.Context(), "a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second file of the name: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b, err := s.Open(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	if n, err := b.ReadAt(p, 1); n != 4 || err != nil || string(p) != "ello" || b.Size() != 5 {
		t.Errorf("%d bytes %q of %d, %v", n, p, b.Size(), err)
	}
	if n, err := b.ReadAt(p, 3); n != 2 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	cancel()
	if _, err := b.ReadAt(p, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
	s.Put("b", nil)
	if !slices.Equal(s.Names(), []string{"a", "b"}) || s.BytesRead("a") != 8 {
		t.Errorf("names %v, %d bytes read", s.Names(), s.BytesRead("a"))
	}
}

func TestRecorderRefusesBrokenBlocks(t *testing.T) {
	cols := []pipeline.ColumnInfo{{Name: "x", Role: "x", DType: "float32", Shape: []int{2}}, {Name: "k", Role: "keep", DType: "int64"}}
	good := pipeline.Rows{N: 1, Part: []uint8{0}, Hash: []uint64{5}, Vectors: [][]float32{{1, 2}}, Keep: []pipeline.KeepColumn{{Int64: []int64{9}}}}
	var r pipetest.Recorder
	if err := r.Write(t.Context(), &good); err == nil {
		t.Error("rows before Start were taken")
	}
	if err := r.Start(cols); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(cols); err == nil {
		t.Error("Start was taken twice")
	}
	short := good
	short.Vectors = [][]float32{{1}}
	null := good
	null.Keep = []pipeline.KeepColumn{{Valid: []bool{false}}}
	if err := r.Write(t.Context(), &short); err == nil {
		t.Error("a short vector was taken")
	}
	for _, b := range []*pipeline.Rows{&good, &null} {
		if err := r.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	shards, err := r.Finish(t.Context())
	if err != nil || len(shards) != 1 || shards[0].Rows != 2 || shards[0].Split != "train" {
		t.Errorf("shards %v, %v", shards, err)
	}
	rows := r.Rows()
	if len(rows) != 2 || rows[0].Keep[0] != int64(9) || rows[1].Keep[0] != nil || !pipetest.SameFloats(rows[0].Vectors[0], []float32{1, 2}) {
		t.Errorf("rows %+v", rows)
	}
}
