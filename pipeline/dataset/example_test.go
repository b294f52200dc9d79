package dataset_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/pipetest"
)

// Rows go into shards, the shards into a manifest, and batches come out. A program uses a folder or HDFS where this
// example has a store in memory.
func Example() {
	ctx := context.Background()
	store := &pipetest.MemStore{}
	create := dataset.CreateFunc(func(ctx context.Context, name string) (dataset.Output, error) { return store.Create(ctx, name) })

	w, err := dataset.NewWriter(create, dataset.WriterOptions{Shards: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	columns := []pipeline.ColumnInfo{
		{Name: "features", Role: "x", DType: "float32", Shape: []int{2}, Encoding: "f32le", Scale: 1},
		{Name: "target", Role: "y", DType: "float32", Shape: []int{1}, Encoding: "f32le", Scale: 1},
	}
	if err := w.Start(columns); err != nil {
		log.Fatal(err)
	}
	if err := w.Write(ctx, &pipeline.Rows{N: 3, Part: []uint8{0, 0, 0}, Hash: []uint64{10, 4, 7},
		Vectors: [][]float32{{1, 10, 2, 20, 3, 30}, {0, 1, 0}}}); err != nil {
		log.Fatal(err)
	}
	shards, err := w.Finish(ctx)
	if err != nil {
		log.Fatal(err)
	}

	m := &dataset.Manifest{Version: 1, Columns: columns, Shards: shards}
	feed, err := dataset.NewFeed(store, m, dataset.FeedOptions{BatchSize: 2})
	if err != nil {
		log.Fatal(err)
	}
	list, err := feed.Shards(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range list {
		r, err := feed.Open(ctx, s, pipeline.Cursor{})
		if err != nil {
			log.Fatal(err)
		}
		for {
			b, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(s.Path, b.Rows, b.X[0], b.Y[0])
		}
		r.Close()
	}
	// Output:
	// train/part-00000.parquet 2 [2 20 1 10] [1 0]
	// train/part-00001.parquet 1 [3 30] [0]
}
