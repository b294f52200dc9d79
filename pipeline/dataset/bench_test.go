package dataset_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/pipetest"
)

const (
	benchRows  = 20_000
	benchWidth = 784
)

// benchDataset is 20,000 rows of 784 + 10 floats in four shards: 64 MB.
var benchDataset = sync.OnceValues(func() (fixture, error) {
	store := &pipetest.MemStore{}
	w, err := dataset.NewWriter(into(store), dataset.WriterOptions{Shards: 4, BudgetBytes: 256 << 20})
	if err != nil {
		return fixture{}, err
	}
	defer w.Close()
	cols := []pipeline.ColumnInfo{
		{Name: "features", Role: "x", DType: "float32", Shape: []int{benchWidth}, Encoding: "f32le", Scale: 1},
		{Name: "target", Role: "y", DType: "float32", Shape: []int{10}, Encoding: "f32le", Scale: 1},
	}
	if err := w.Start(cols); err != nil {
		return fixture{}, err
	}
	if err := w.Write(context.Background(), benchRowsBlock()); err != nil {
		return fixture{}, err
	}
	shards, err := w.Finish(context.Background())
	return fixture{store, &dataset.Manifest{Columns: cols, Shards: shards}}, err
})

func benchRowsBlock() *pipeline.Rows {
	r := &pipeline.Rows{N: benchRows, Part: make([]uint8, benchRows), Vectors: [][]float32{make([]float32, benchRows*benchWidth), make([]float32, benchRows*10)}}
	for i := range benchRows {
		r.Hash = append(r.Hash, uint64(i)*0x9e3779b97f4a7c15)
		for j := range benchWidth {
			r.Vectors[0][i*benchWidth+j] = float32(i ^ j)
		}
	}
	return r
}

// epoch reads one epoch of all shards and gives the number of batches.
func epoch(b *testing.B, f *dataset.Feed, e int) (batches int) {
	shards, err := f.Shards(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range shards {
		r, err := f.Open(b.Context(), s, pipeline.Cursor{Epoch: e})
		if err != nil {
			b.Fatal(err)
		}
		for {
			_, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			batches++
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return batches
}

// BenchmarkFeed is an epoch of 20,000 rows of 794 floats in batches of 128, against memcpy of the same bytes.
func BenchmarkFeed(b *testing.B) {
	data, err := benchDataset()
	if err != nil {
		b.Fatal(err)
	}
	rate := func(b *testing.B) {
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		b.SetBytes(benchRows * (benchWidth + 10) * 4)
	}
	b.Run("memcpy", func(b *testing.B) {
		src := make([]float32, benchRows*(benchWidth+10))
		for i := range src {
			src[i] = 1
		}
		dst := make([]float32, 128*(benchWidth+10))
		for b.Loop() {
			for at := 0; at < len(src); at += len(dst) {
				copy(dst, src[at:])
			}
		}
		rate(b)
	})
	for _, c := range []struct {
		name   string
		budget int64
	}{{"kept", 256 << 20}, {"windows", 40 << 20}} {
		for _, shuffle := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/shuffle=%v", c.name, shuffle), func(b *testing.B) {
				f := data.feed(b, dataset.FeedOptions{BatchSize: 128, Shuffle: shuffle, BudgetBytes: c.budget})
				batches := epoch(b, f, 0)
				b.ReportAllocs()
				e := 0
				for b.Loop() {
					e++
					epoch(b, f, e)
				}
				rate(b)
				b.ReportMetric(float64(batches), "batches/op")
			})
		}
	}
	b.Run("list, snappy, dictionary", func(b *testing.B) {
		// Pixels as Spark writes them by default: array<float> of 256 values.
		f := foreign(b, "list", benchRows, benchWidth, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy),
			parquet.WithMaxRowGroupLength(benchRows/15)), func(row int) []float32 {
			v := make([]float32, benchWidth)
			for i := range v {
				v[i] = float32((row*7 + i*i) % 256)
			}
			return v
		})
		feed := f.feed(b, dataset.FeedOptions{BatchSize: 128, Shuffle: true, BudgetBytes: 40 << 20})
		epoch(b, feed, 0)
		for b.Loop() {
			epoch(b, feed, 1)
		}
		rate(b)
	})
	b.Run("first epoch", func(b *testing.B) {
		for b.Loop() {
			epoch(b, data.feed(b, dataset.FeedOptions{BatchSize: 128, Shuffle: true, BudgetBytes: 256 << 20}), 0)
		}
		rate(b)
	})
}

// BenchmarkFeedAgainstMemcpy interleaves epochs with memcpy of the same bytes into a buffer of one batch, and reports
// the median of the ratios: 1 is memcpy's rate.
func BenchmarkFeedAgainstMemcpy(b *testing.B) {
	data, err := benchDataset()
	if err != nil {
		b.Fatal(err)
	}
	src := make([]float32, benchRows*(benchWidth+10))
	for i := range src {
		src[i] = 1
	}
	dst := make([]float32, 128*(benchWidth+10))
	for _, c := range []struct {
		name   string
		budget int64
	}{{"kept", 256 << 20}, {"windows", 40 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			f := data.feed(b, dataset.FeedOptions{BatchSize: 128, Shuffle: true, BudgetBytes: c.budget})
			epoch(b, f, 0)
			var ratios []float64
			for b.Loop() {
				start := time.Now()
				for at := 0; at < len(src); at += len(dst) {
					copy(dst, src[at:])
				}
				limit := time.Since(start)
				start = time.Now()
				epoch(b, f, 1+len(ratios))
				ratios = append(ratios, limit.Seconds()/time.Since(start).Seconds())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-memcpy")
		})
	}
}

// BenchmarkWriter writes the same rows, in memory and through sorted runs on disk.
func BenchmarkWriter(b *testing.B) {
	rows := benchRowsBlock()
	for name, budget := range map[string]int64{"in memory": 256 << 20, "runs": 16 << 20} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w, err := dataset.NewWriter(into(&pipetest.MemStore{}), dataset.WriterOptions{Shards: 4, BudgetBytes: budget, TempDir: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				if err := w.Start([]pipeline.ColumnInfo{
					{Name: "features", Role: "x", DType: "float32", Shape: []int{benchWidth}},
					{Name: "target", Role: "y", DType: "float32", Shape: []int{10}},
				}); err != nil {
					b.Fatal(err)
				}
				if err := w.Write(b.Context(), rows); err != nil {
					b.Fatal(err)
				}
				if _, err := w.Finish(b.Context()); err != nil {
					b.Fatal(err)
				}
				w.Close()
			}
			b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.SetBytes(benchRows * (benchWidth + 10) * 4)
		})
	}
}
