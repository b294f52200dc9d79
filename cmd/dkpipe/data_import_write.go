package main

import (
	"context"
	"crypto/sha256"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
)

// fileBytes is about how large a file of a table becomes: with the row group that is still in memory then it stays
// below the 128 MiB of an HDFS block, so that whoever reads the file finds all of it on one machine.
const fileBytes = 96 << 20

// tableFolder writes rows as the files of one folder.
type tableFolder struct {
	at          place
	shape       *importShape
	format      pipeline.Format
	rowsPerFile int64 // 0: by bytes

	files []summed // complete ones; paths are below the folder

	file hdfsio.Writer // the present one, or nil
	out  recordWriter
	sum  *summing
	rows int64
	part string
}

// write adds rows of one part. A file never holds rows of two parts, so a reader of one part opens no file in vain.
func (t *tableFolder) write(ctx context.Context, rec arrow.RecordBatch, part string) error {
	if t.file != nil && part != t.part {
		if err := t.finish(ctx); err != nil {
			return err
		}
	}
	t.part = part
	rec = t.shape.record(rec, part)
	for at := int64(0); at < rec.NumRows(); {
		if t.file == nil {
			if err := t.start(ctx); err != nil {
				return err
			}
		}
		n := rec.NumRows() - at
		if t.rowsPerFile > 0 {
			n = min(n, t.rowsPerFile-t.rows)
		}
		piece := rec
		if n < rec.NumRows() {
			piece = rec.NewSlice(at, at+n)
		}
		if err := t.out.Write(piece); err != nil {
			return err
		}
		at, t.rows = at+n, t.rows+n
		if t.rows == t.rowsPerFile || t.rowsPerFile == 0 && t.sum.bytes >= fileBytes {
			if err := t.finish(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tableFolder) start(ctx context.Context) error {
	var err error
	if t.file, err = t.at.fs.Create(ctx, t.at.join(partFile(len(t.files), t.format)).path); err != nil {
		return err
	}
	t.sum, t.rows = &summing{w: t.file, hash: sha256.New()}, 0
	if t.format == pipeline.CSV {
		t.out, err = local.NewCSVWriter(t.sum, t.shape.schema)
	} else {
		t.out, err = local.NewParquetWriter(t.sum, t.shape.schema)
	}
	return err
}

// finish ends the present file and reads it back.
func (t *tableFolder) finish(ctx context.Context) error {
	if t.file == nil {
		return nil
	}
	name := partFile(len(t.files), t.format)
	if err := t.out.Close(); err != nil {
		return err
	}
	if err := t.file.Close(); err != nil {
		return err
	}
	t.file = nil
	wrote, err := t.sum.check(ctx, t.at.join(name))
	t.files = append(t.files, summed{name, wrote})
	return err
}

// abort removes the file that is being written; after finish there is none.
func (t *tableFolder) abort() {
	if t.file != nil {
		t.file.Abort()
	}
}

// record gives a record of the source the shape of the table.
func (s *importShape) record(rec arrow.RecordBatch, part string) arrow.RecordBatch {
	columns := rec.Columns()
	if s.part {
		columns = append(columns[:len(columns):len(columns)], s.text(part, int(rec.NumRows())))
	}
	return array.NewRecordBatch(s.schema, columns, rec.NumRows())
}

// text gives a column that has one text n times. It is made once for the largest batch.
func (s *importShape) text(v string, n int) arrow.Array {
	if have := s.texts[v]; have == nil || have.Len() < n {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		for range n {
			b.Append(v)
		}
		s.texts[v] = b.NewArray()
	}
	return array.NewSlice(s.texts[v], 0, int64(n))
}
