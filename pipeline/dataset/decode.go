package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// maxPage is the largest page that is unpacked; writers make pages of about 1 MiB.
const maxPage = 256 << 20

// decoder turns the bytes of row groups into floats with raw column readers. It belongs to one goroutine.
type decoder struct {
	lay   *layout
	foot  *footer
	bytes span
	file  *file.Reader
	*scratch
}

func newDecoder(lay *layout, foot *footer, mem *scratch) (d *decoder, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("parquet: %v", r)
		}
	}()
	d = &decoder{lay: lay, foot: foot, scratch: mem}
	props := parquet.NewReaderProperties(&mem.pages)
	props.BufferedStreamEnabled = true // else a column's bytes are copied once more
	props.BufferSize = 4 << 10
	props.MaxCompressedPageSize, props.MaxUncompressedPageSize = max(1, foot.widest), maxPage
	d.file, err = file.NewParquetReader(&d.bytes, file.WithMetadata(foot.meta), file.WithReadProps(props))
	return d, err
}

// group decodes row group g, whose bytes are b, into dst from row at on. Whatever arrow-go makes of bad bytes comes
// back as an error.
func (d *decoder) group(g int, b []byte, dst *block, at int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("row group %d: parquet: %v", g, r)
		}
	}()
	d.bytes.off, d.bytes.buf = d.foot.groups[g].off, b
	rg := d.file.RowGroup(g)
	rows := int(d.foot.rows[g])
	for i, c := range d.lay.cols {
		cr, err := rg.Column(d.foot.leaf[i])
		if err != nil {
			return fmt.Errorf("row group %d, column %q: %w", g, c.name, err)
		}
		out := dst.cols[i][at*c.width : (at+rows)*c.width]
		if err := d.column(cr, c, out, rows); err != nil {
			return fmt.Errorf("row group %d, column %q: %w", g, c.name, err)
		}
	}
	return nil
}

func (d *decoder) column(cr file.ColumnChunkReader, c column, out []float32, rows int) (err error) {
	defer func() {
		if cl, ok := cr.(io.Closer); ok {
			err = errors.Join(err, cl.Close())
		}
	}()
	if c.encoding == EncodingU8 {
		for i := range d.table {
			d.table[i] = float32(float64(i)*c.scale + c.offset)
		}
	}
	switch r := cr.(type) {
	case *file.FixedLenByteArrayColumnChunkReader:
		err = d.fixedColumn(r, c, out, rows)
	case *file.ByteArrayColumnChunkReader:
		err = d.textColumn(r, c, out, rows)
	case *file.Float32ColumnChunkReader:
		err = d.listColumn(r, c, out)
	default:
		err = fmt.Errorf("unexpected reader %T", cr)
	}
	if err != nil || c.encoding == EncodingU8 || (c.scale == 1 && c.offset == 0) {
		return err
	}
	for i, v := range out {
		out[i] = float32(float64(v)*c.scale + c.offset)
	}
	return nil
}

// fixedColumn reads f32le, and u8 of fixed length. The values of a page are views of the page, so they are copied
// before the next page is touched.
func (d *decoder) fixedColumn(r *file.FixedLenByteArrayColumnChunkReader, c column, out []float32, rows int) error {
	const batch = 4096
	if d.fixed == nil {
		d.fixed = make([]parquet.FixedLenByteArray, batch)
	}
	d.levels(batch)
	for rows > 0 {
		n, values, err := r.ReadBatchInPage(int64(min(rows, batch)), d.fixed, d.def, nil)
		if err != nil {
			return err
		}
		if err := full(n, values, r.Err()); err != nil {
			return err
		}
		for _, v := range d.fixed[:values] {
			if err := d.value(v, c, out[:c.width]); err != nil {
				return err
			}
			out = out[c.width:]
		}
		rows -= values
	}
	return nil
}

// textColumn reads avro_f32, and u8 of any length.
func (d *decoder) textColumn(r *file.ByteArrayColumnChunkReader, c column, out []float32, rows int) error {
	const batch = 4096
	if d.texts == nil {
		d.texts = make([]parquet.ByteArray, batch)
	}
	d.levels(batch)
	for rows > 0 {
		n, values, err := r.ReadBatchInPage(int64(min(rows, batch)), d.texts, d.def, nil)
		if err != nil {
			return err
		}
		if err := full(n, values, r.Err()); err != nil {
			return err
		}
		for _, v := range d.texts[:values] {
			if err := d.value(v, c, out[:c.width]); err != nil {
				return err
			}
			out = out[c.width:]
		}
		rows -= values
	}
	return nil
}

func (d *decoder) value(v []byte, c column, out []float32) error {
	switch c.encoding {
	case EncodingF32LE:
		if len(v) != 4*c.width {
			return fmt.Errorf("a value of %d bytes, want %d", len(v), 4*c.width)
		}
		getFloats(out, v)
	case EncodingU8:
		if len(v) != c.width {
			return fmt.Errorf("a value of %d bytes, want %d", len(v), c.width)
		}
		for i, b := range v {
			out[i] = d.table[b]
		}
	default:
		return avroFloats(out, v)
	}
	return nil
}

// avroFloats reads an Avro array of float: one block, a zigzag varint count, the floats, and the zero that ends it.
func avroFloats(out []float32, v []byte) error {
	count, n := binary.Varint(v)
	if n <= 0 || count != int64(len(out)) || len(v) != n+4*len(out)+1 || v[len(v)-1] != 0 {
		return fmt.Errorf("an Avro value of %d bytes, count %d, want one block of %d floats", len(v), count, len(out))
	}
	getFloats(out, v[n:n+4*len(out)])
	return nil
}

// listColumn reads array<float> straight into out: every row has width values, none of them NULL.
func (d *decoder) listColumn(r *file.Float32ColumnChunkReader, c column, out []float32) error {
	const batch = 16 << 10
	d.levels(batch)
	maxDef, nested := r.Descriptor().MaxDefinitionLevel(), r.Descriptor().MaxRepetitionLevel() > 0
	col := 0 // place of the next value in its row
	for len(out) > 0 {
		n, values, err := r.ReadBatch(int64(min(len(out), batch)), out, d.def, d.rep)
		if err != nil {
			return err
		}
		if err := full(n, values, r.Err()); err != nil {
			return err
		}
		if maxDef > 0 {
			for _, l := range d.def[:n] {
				if l != maxDef {
					return errNull
				}
			}
		}
		if nested {
			for _, l := range d.rep[:n] {
				if (l == 0) != (col == 0) {
					return fmt.Errorf("a row with another number of values than %d", c.width)
				}
				if col++; col == c.width {
					col = 0
				}
			}
		}
		out = out[values:]
	}
	if r.HasNext() {
		return fmt.Errorf("a row with more than %d values", c.width)
	}
	return nil
}

var errNull = errors.New("a NULL where a number is needed")

// full refuses a read that gave fewer values than rows, or nothing at all.
func full(levels int64, values int, err error) error {
	switch {
	case err != nil:
		return err
	case levels == 0:
		return io.ErrUnexpectedEOF
	case int64(values) != levels:
		return errNull
	}
	return nil
}

func (d *decoder) levels(n int) {
	if len(d.def) < n {
		d.def, d.rep = make([]int16, n), make([]int16, n)
	}
}

// span is a file of which only some bytes are there.
type span struct {
	off int64
	buf []byte
}

func (s *span) ReadAt(p []byte, off int64) (int, error) {
	if off < s.off || off > s.off+int64(len(s.buf)) {
		return 0, fmt.Errorf("offset %d lies outside the row group", off)
	}
	n := copy(p, s.buf[off-s.off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *span) Read([]byte) (int, error)       { return 0, errors.ErrUnsupported }
func (s *span) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }
