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
	lists := listSchema(schema)
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
	lists, err := withLists(p.schema, rec)
	if err != nil {
		return err
	}
	for _, a := range rec.Columns() {
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
	if err := p.w.WriteBuffered(lists); err != nil {
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

// listSchema is the schema with lists in the place of fixed-size lists.
func listSchema(schema *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, schema.NumFields())
	for i, f := range schema.Fields() {
		fields[i] = f
		if t, ok := f.Type.(*arrow.FixedSizeListType); ok {
			fields[i].Type = arrow.ListOf(t.Elem())
		}
	}
	return arrow.NewSchema(fields, nil)
}

// Lists gives the record with lists in the place of fixed-size lists, which neither Parquet nor Spark has. It is on the
// record's memory where that will do.
func Lists(rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	return withLists(listSchema(rec.Schema()), rec)
}

func withLists(schema *arrow.Schema, rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, rec.NumCols())
	for i, a := range rec.Columns() {
		var err error
		if cols[i], err = asList(a); err != nil {
			return nil, err
		}
	}
	return array.NewRecordBatch(schema, cols, rec.NumRows()), nil
}

// asList gives a fixed-size list array as a list array: Parquet has only lists. Without NULLs it is on the same
// memory; NULL lists have no elements in Parquet, so theirs are left out.
func asList(a arrow.Array) (arrow.Array, error) {
	f, ok := a.(*array.FixedSizeList)
	if !ok {
		return a, nil
	}
	w := f.DataType().(*arrow.FixedSizeListType).Len()
	offsets := make([]int32, f.Len()+1)
	child := f.ListValues()
	var bits *memory.Buffer
	if f.NullN() == 0 {
		for i := range offsets {
			offsets[i] = (int32(f.Data().Offset()) + int32(i)) * w
		}
	} else {
		valid := bitmap(nil).ones(f.Len())
		var parts []arrow.Array
		for i := range f.Len() {
			offsets[i+1] = offsets[i]
			if f.IsNull(i) {
				valid.clear(i)
				continue
			}
			lo, hi := f.ValueOffsets(i)
			parts = append(parts, array.NewSlice(child, lo, hi))
			offsets[i+1] += w
		}
		bits = memory.NewBufferBytes(valid)
		child = array.NewSlice(child, 0, 0)
		if len(parts) > 0 {
			var err error
			if child, err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
				return nil, fmt.Errorf("parquet: %w", err)
			}
		}
	}
	typ := arrow.ListOf(f.DataType().(*arrow.FixedSizeListType).Elem())
	return array.MakeFromData(array.NewData(typ, f.Len(), []*memory.Buffer{bits, memory.NewBufferBytes(raw(offsets))},
		[]arrow.ArrayData{child.Data()}, f.NullN(), 0)), nil
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
