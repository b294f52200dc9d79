package local

import (
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// ParquetWriter writes Arrow records as a Parquet file that Spark and pandas read: snappy, vectors as LIST columns.
type ParquetWriter struct {
	w      *pqarrow.FileWriter
	schema *arrow.Schema
	group  int64 // bytes of the row group so far, about
}

// groupBytes is about how large a row group becomes in memory.
const groupBytes = 32 << 20

// NewParquetWriter starts a file. The caller closes w, after Close.
func NewParquetWriter(w io.Writer, schema *arrow.Schema) (*ParquetWriter, error) {
	fields := make([]arrow.Field, schema.NumFields())
	for i, f := range schema.Fields() {
		fields[i] = f
		if t, ok := f.Type.(*arrow.FixedSizeListType); ok {
			fields[i].Type = arrow.ListOf(t.Elem())
		}
	}
	lists := arrow.NewSchema(fields, nil)
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithMaxRowGroupLength(1<<30))
	fw, err := pqarrow.NewFileWriter(lists, unclosed{w}, props, pqarrow.NewArrowWriterProperties())
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	return &ParquetWriter{w: fw, schema: lists}, nil
}

// unclosed keeps the library from closing the caller's writer.
type unclosed struct{ io.Writer }

// Write appends the rows of a record of the writer's schema.
func (p *ParquetWriter) Write(rec arrow.RecordBatch) error {
	cols := make([]arrow.Array, rec.NumCols())
	for i, a := range rec.Columns() {
		cols[i] = asList(a)
		for _, b := range a.Data().Buffers() {
			if b != nil {
				p.group += int64(b.Len())
			}
		}
		for _, d := range a.Data().Children() {
			for _, b := range d.Buffers() {
				if b != nil {
					p.group += int64(b.Len())
				}
			}
		}
	}
	if err := p.w.WriteBuffered(array.NewRecordBatch(p.schema, cols, rec.NumRows())); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	if p.group > groupBytes {
		p.group = 0
		p.w.NewBufferedRowGroup()
	}
	return nil
}

// Close writes the footer. It does not close the underlying writer.
func (p *ParquetWriter) Close() error {
	if err := p.w.Close(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

// asList gives a fixed-size list array as a list array on the same memory: Parquet has only lists.
func asList(a arrow.Array) arrow.Array {
	f, ok := a.(*array.FixedSizeList)
	if !ok {
		return a
	}
	w := int32(f.DataType().(*arrow.FixedSizeListType).Len())
	offsets := make([]int32, f.Len()+1)
	for i := range offsets {
		offsets[i] = (int32(f.Data().Offset()) + int32(i)) * w
	}
	bits := f.Data().Buffers()[0]
	if f.Data().Offset() != 0 && bits != nil {
		packed := bitmap(nil).ones(f.Len())
		for i := range f.Len() {
			if f.IsNull(i) {
				packed.clear(i)
			}
		}
		bits = memory.NewBufferBytes(packed)
	}
	typ := arrow.ListOf(f.DataType().(*arrow.FixedSizeListType).Elem())
	return array.MakeFromData(array.NewData(typ, f.Len(), []*memory.Buffer{bits, memory.NewBufferBytes(raw(offsets))},
		[]arrow.ArrayData{f.Data().Children()[0]}, f.NullN(), 0))
}

// WithFloats gives the record with one more column on the memory of values: float32 when width is 0, else lists of
// width float32. It is how predictions join the rows that they were made from.
func WithFloats(rec arrow.RecordBatch, name string, width int, values []float32) arrow.RecordBatch {
	c := &column{f32: values}
	c.typ.Kind, c.typ.Width = "float32", width
	f := arrow.Field{Name: name, Type: arrowType(c.typ), Nullable: true}
	schema := arrow.NewSchema(append(rec.Schema().Fields(), f), nil)
	return array.NewRecordBatch(schema, append(rec.Columns()[:rec.NumCols():rec.NumCols()], c.arrow(int(rec.NumRows()))), rec.NumRows())
}
