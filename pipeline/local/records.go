package local

import (
	"context"
	"io"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
)

// OpenRecords makes a table of records that come from somewhere else, for example a query. pull gives the next record,
// or io.EOF after the last one; a record need not live longer than until the next call. The first record is taken at
// once: its schema gives the columns, which are read as those of an Arrow file. name stands in messages in the place of
// a file. No record at all, or none with rows, is an error of kind Data.
func OpenRecords(ctx context.Context, name string, pull func() (arrow.RecordBatch, error)) (*Table, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	r := &arrowReader{name: name, pull: pull}
	if err := r.load(); err != nil && err != io.EOF {
		return nil, err
	}
	if r.seen == nil {
		return nil, dataErr("check what it is read from", "empty source: %s: no rows", name)
	}
	if err := r.columns(r.seen); err != nil {
		return nil, err
	}
	return &Table{src: pipeline.Source{Format: pipeline.Arrow, Files: []string{name}}, units: [][]string{{name}}, at: 1, cur: r, cols: r.cols}, nil
}
