package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrowReader reads Arrow IPC, the file format and the stream format.
type arrowReader struct {
	name   string
	blob   pipeline.Blob
	file   *ipc.FileReader // one of file, stream and pull is set
	stream *ipc.Reader
	pull   func() (arrow.RecordBatch, error)
	seen   *arrow.Schema // of the first record that pull gave
	at     int           // next record of file

	cols []field
	rec  arrow.RecordBatch
	used int // rows of rec
	row  int64
	rows int
}

const arrowHint = "copy or write the file again"

func openArrow(ctx context.Context, open pipeline.Opener, name string) (*arrowReader, error) {
	blob, err := openBlob(ctx, open, name)
	if err != nil {
		return nil, err
	}
	r := &arrowReader{name: name, blob: blob}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *arrowReader) open() error {
	h, err := head(r.name, r.blob, 24)
	if err != nil {
		return err
	}
	src := io.NewSectionReader(r.blob, 0, r.blob.Size())
	opts := []ipc.Option{ipc.WithBodySizeLimit(r.blob.Size()), ipc.WithAllocator(bounded{memory.DefaultAllocator, r.blob.Size()})}
	var schema *arrow.Schema
	err = r.calm(func() error {
		isFile := bytes.HasPrefix(h, []byte("ARROW1"))
		if !isFile && !bytes.HasPrefix(h, []byte{0xff, 0xff, 0xff, 0xff}) && (len(h) < 8 || h[3] != 0) {
			return corruptErr(nil, "name its real format in source, for example {csv: ...}", "%s is not Arrow: it starts with %s", r.name, shown(h))
		}
		err := verifyArrow(r.blob, isFile)
		if err != nil {
			return err
		}
		if isFile {
			if r.file, err = ipc.NewFileReader(src, opts...); err == nil {
				schema = r.file.Schema()
			}
			return err
		}
		if r.stream, err = ipc.NewReader(src, opts...); err == nil {
			schema = r.stream.Schema()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := r.load(); err != nil && err != io.EOF {
		return err
	}
	return r.columns(schema)
}

// columns makes a field of every column.
func (r *arrowReader) columns(schema *arrow.Schema) error {
	seen := map[string]bool{}
	for i, f := range schema.Fields() {
		if seen[f.Name] {
			return dataErr("rename one of them", "%s has two columns named %q", r.name, f.Name)
		}
		seen[f.Name] = true
		var first arrow.Array
		if r.rec != nil {
			first = r.rec.Column(i)
		}
		r.cols = append(r.cols, fieldOf(f, first))
	}
	r.rows = batchRows(r.cols)
	return nil
}

// bounded refuses allocations out of proportion to the file: a damaged length must not take the process down.
type bounded struct {
	memory.Allocator
	file int64
}

func (b bounded) check(size int) {
	if limit := 64<<20 + 1000*b.file; int64(size) > limit {
		panic(fmt.Sprintf("a buffer of %d bytes from a file of %d", size, b.file))
	}
}

// Allocate panics on a size that the file cannot mean; calm turns that into an error.
func (b bounded) Allocate(size int) []byte { b.check(size); return b.Allocator.Allocate(size) }

// Reallocate is Allocate for memory that grows.
func (b bounded) Reallocate(size int, old []byte) []byte {
	b.check(size)
	return b.Allocator.Reallocate(size, old)
}

// calm is the boundary to the Arrow library: errors and panics on damaged bytes become errors of kind corrupt.
func (r *arrowReader) calm(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = corruptErr(fmt.Errorf("%v", p), arrowHint, "%s is damaged", r.name)
		}
	}()
	err = f()
	var kind interface{ ErrorKind() string }
	if err == nil || err == io.EOF || errors.As(err, &kind) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return corruptErr(err, arrowHint, "%s is damaged or cut off", r.name)
}

// load makes the next record that has rows the current one.
func (r *arrowReader) load() error {
	r.used = 0
	for {
		r.rec = nil
		err := r.calm(func() error {
			if r.pull != nil {
				rec, err := r.pull()
				if err == nil && r.seen == nil {
					r.seen = rec.Schema()
				}
				r.rec = rec
				return err
			}
			if r.stream != nil {
				if r.stream.Next() {
					r.rec = r.stream.RecordBatch()
					return nil
				}
				if err := r.stream.Err(); err != nil {
					return err
				}
				return io.EOF
			}
			if r.at == r.file.NumRecords() {
				return io.EOF
			}
			rec, err := r.file.RecordBatchAt(r.at)
			r.at++
			r.rec = rec
			return err
		})
		if err != nil || r.rec.NumRows() > 0 {
			return err
		}
	}
}

func (r *arrowReader) fields() []field { return r.cols }

// Close closes the file.
func (r *arrowReader) Close() error {
	r.rec = nil
	if r.blob == nil {
		return nil
	}
	return r.blob.Close()
}

func (r *arrowReader) next(b *batch) error {
	if r.rec != nil && r.used == int(r.rec.NumRows()) {
		if err := r.load(); err != nil {
			return err
		}
	}
	if r.rec == nil {
		return io.EOF
	}
	n := min(r.rows, int(r.rec.NumRows())-r.used)
	b.n, b.file, b.first, b.lines = n, r.name, r.row+1, nil
	b.cols = grow(b.cols, len(r.cols))
	for i, f := range r.cols {
		if f.refused != "" {
			b.cols[i].n = 0
			continue
		}
		err := r.calm(func() error {
			row, what := fromArrow(&b.cols[i], f.Type, r.rec.Column(i), r.used, n)
			if what != "" {
				return dataErr("correct the row, or leave the column out", "%s, row %d, column %q: %s", r.name, r.row+1+int64(row), f.Name, what)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.used += n
	r.row += int64(n)
	return nil
}
