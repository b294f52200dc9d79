package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// The columns of an IDX source. The format has no names; id numbers the rows of the whole source from 0, so that
// there is a key to split by.
const (
	idxKey    = "id"
	idxPixels = "pixels"
	idxLabel  = "label"
)

// idxFile is one file of the IDX format (Y. LeCun, C. Cortes, C. Burges, The MNIST database, "File formats"):
// two zero bytes, a type, the number of dimensions, the dimensions as big-endian uint32, the values.
type idxFile struct {
	s     *stream
	kind  byte
	size  int // bytes of a value
	rows  int64
	width int // values of a row
	dims  int
	buf   []byte
}

func openIDX(ctx context.Context, open pipeline.Opener, name string) (*idxFile, error) {
	blob, err := openBlob(ctx, open, name)
	if err != nil {
		return nil, err
	}
	s, err := newStream(name, blob)
	if err != nil {
		return nil, errors.Join(err, blob.Close())
	}
	f := &idxFile{s: s}
	if err := f.header(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return f, nil
}

func (f *idxFile) header() error {
	const hint = "source.idx takes pairs of files: images, labels"
	var h [4]byte
	if _, err := io.ReadFull(f.s, h[:]); err != nil {
		return f.short(err, "its header")
	}
	sizes := map[byte]int{0x08: 1, 0x09: 1, 0x0b: 2, 0x0c: 4, 0x0d: 4, 0x0e: 8}
	f.kind, f.dims, f.size = h[2], int(h[3]), sizes[h[2]]
	if h[0] != 0 || h[1] != 0 || f.size == 0 || f.dims < 1 || f.dims > 8 {
		return corruptErr(nil, hint, "%s is not an IDX file: it starts with % x", f.s.name, h[:])
	}
	f.width = 1
	for d := range f.dims {
		if _, err := io.ReadFull(f.s, h[:]); err != nil {
			return f.short(err, "its header")
		}
		n := int64(binary.BigEndian.Uint32(h[:]))
		if d == 0 {
			f.rows = n
			continue
		}
		if n == 0 || int64(f.width)*n > expr.MaxWidth {
			return corruptErr(nil, hint, "%s: dimension %d is %d", f.s.name, d+1, n)
		}
		f.width *= int(n)
	}
	want := int64(4+4*f.dims) + f.rows*int64(f.width*f.size)
	if !f.s.zip && f.s.blob.Size() != want {
		return corruptErr(nil, "copy or make the file again", "%s has %d bytes, its header promises %d (%d rows)", f.s.name, f.s.blob.Size(), want, f.rows)
	}
	return nil
}

func (f *idxFile) short(err error, what string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return corruptErr(nil, "copy or make the file again", "%s ends inside %s", f.s.name, what)
	}
	return err
}

// kindOf is the narrowest float kind that holds every value exactly.
func (f *idxFile) floatKind() expr.Kind {
	if f.kind == 0x0c || f.kind == 0x0e {
		return expr.Float64
	}
	return expr.Float32
}

func (f *idxFile) labelKind() expr.Kind {
	switch f.kind {
	case 0x0d:
		return expr.Float32
	case 0x0e:
		return expr.Float64
	}
	return expr.Int64
}

// read fills the column with n rows from row first on.
func (f *idxFile) read(c *column, t expr.Type, first int64, n int) error {
	c.reset(t, n)
	f.buf = grow(f.buf, n*f.width*f.size)
	if _, err := io.ReadFull(f.s, f.buf); err != nil {
		return f.short(err, fmt.Sprintf("rows %d to %d of %d", first+1, first+int64(n), f.rows))
	}
	switch t.Kind {
	case expr.Float32:
		f.floats32(c.f32)
	case expr.Float64:
		for i := range c.f64 {
			c.f64[i] = f.value(i)
		}
	case expr.Int64:
		for i := range c.i64 {
			c.i64[i] = int64(f.value(i))
		}
	}
	return nil
}

func (f *idxFile) floats32(dst []float32) {
	if f.kind == 0x08 {
		for i, v := range f.buf {
			dst[i] = float32(v)
		}
		return
	}
	for i := range dst {
		dst[i] = float32(f.value(i))
	}
}

func (f *idxFile) value(i int) float64 {
	b := f.buf[i*f.size:]
	switch f.kind {
	case 0x08:
		return float64(b[0])
	case 0x09:
		return float64(int8(b[0]))
	case 0x0b:
		return float64(int16(binary.BigEndian.Uint16(b)))
	case 0x0c:
		return float64(int32(binary.BigEndian.Uint32(b)))
	case 0x0d:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b))
}

// idxReader joins an images file and a labels file row by row. Either may be missing.
type idxReader struct {
	images, labels *idxFile
	cols           []field
	at, rows       int64
	base           int64 // rows of the files before: where id starts
	batch          int
}

// openIDXPair opens one or two files; which one holds the labels is told by the number of dimensions.
func openIDXPair(ctx context.Context, open pipeline.Opener, files []string, base int64) (*idxReader, error) {
	r := &idxReader{base: base, cols: []field{{Field: expr.Field{Name: idxKey, Type: expr.Type{Kind: expr.Int64}}}}}
	for _, name := range files {
		if err := r.add(ctx, open, name); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	if r.images != nil && r.labels != nil && r.images.rows != r.labels.rows {
		return nil, errors.Join(dataErr("give each images file its own labels file, in the same order",
			"%s has %d rows, %s has %d", r.images.s.name, r.images.rows, r.labels.s.name, r.labels.rows), r.Close())
	}
	if f := r.images; f != nil {
		r.cols = append(r.cols, field{Field: expr.Field{Name: idxPixels, Type: expr.Type{Kind: f.floatKind(), Width: f.width}}})
	}
	if f := r.labels; f != nil {
		r.cols = append(r.cols, field{Field: expr.Field{Name: idxLabel, Type: expr.Type{Kind: f.labelKind()}}})
	}
	r.batch = batchRows(r.cols)
	return r, nil
}

func (r *idxReader) add(ctx context.Context, open pipeline.Opener, name string) error {
	f, err := openIDX(ctx, open, name)
	if err != nil {
		return err
	}
	into, what := &r.images, "images"
	if f.dims == 1 {
		into, what = &r.labels, "labels (one dimension)"
	}
	if *into != nil {
		return errors.Join(dataErr("source.idx takes pairs of files: images, labels", "%s and %s both hold %s", (*into).s.name, name, what), f.s.Close())
	}
	*into, r.rows = f, f.rows
	return nil
}

func (r *idxReader) fields() []field { return r.cols }

// Close closes both files.
func (r *idxReader) Close() error {
	var errs [2]error
	for i, f := range []*idxFile{r.images, r.labels} {
		if f != nil {
			errs[i] = f.s.Close()
		}
	}
	return errors.Join(errs[:]...)
}

func (r *idxReader) next(b *batch) error {
	n := int(min(int64(r.batch), r.rows-r.at))
	if n == 0 {
		return io.EOF
	}
	b.n, b.first, b.lines = n, r.at+1, nil
	b.cols = grow(b.cols, len(r.cols))
	key := &b.cols[0]
	key.reset(r.cols[0].Type, n)
	for i := range key.i64 {
		key.i64[i] = r.base + r.at + int64(i)
	}
	c := 1
	for _, f := range []*idxFile{r.images, r.labels} {
		if f == nil {
			continue
		}
		if b.file = f.s.name; r.images != nil {
			b.file = r.images.s.name
		}
		if err := f.read(&b.cols[c], r.cols[c].Type, r.at, n); err != nil {
			return err
		}
		c++
	}
	r.at += int64(n)
	return nil
}
