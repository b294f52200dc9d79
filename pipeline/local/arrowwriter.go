package local

import (
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// ArrowWriter writes Arrow records as an Arrow file, which is also Feather version 2. Columns with dictionaries are
// written without: records may have different ones, and a file has one.
type ArrowWriter struct {
	w      *ipc.FileWriter
	schema *arrow.Schema
}

// NewArrowWriter starts a file. The caller closes w, after Close.
func NewArrowWriter(w io.Writer, schema *arrow.Schema) (*ArrowWriter, error) {
	fields := schema.Fields()
	for i, f := range fields {
		if d, ok := f.Type.(*arrow.DictionaryType); ok {
			fields[i].Type = d.ValueType
		}
	}
	plain := arrow.NewSchema(fields, nil)
	fw, err := ipc.NewFileWriter(w, ipc.WithSchema(plain))
	if err != nil {
		return nil, fmt.Errorf("arrow: %w", err)
	}
	return &ArrowWriter{fw, plain}, nil
}

// Write appends the rows of a record of the writer's schema.
func (a *ArrowWriter) Write(rec arrow.RecordBatch) error {
	columns := make([]arrow.Array, rec.NumCols())
	for i, c := range rec.Columns() {
		var err error
		if columns[i], err = withoutDictionary(c); err != nil {
			return fmt.Errorf("arrow: column %s: %w", rec.ColumnName(i), err)
		}
	}
	if err := a.w.Write(array.NewRecordBatch(a.schema, columns, rec.NumRows())); err != nil {
		return fmt.Errorf("arrow: %w", err)
	}
	return nil
}

// withoutDictionary gives the values of a column that has a dictionary; any other as it is.
func withoutDictionary(a arrow.Array) (arrow.Array, error) {
	d, ok := a.(*array.Dictionary)
	if !ok {
		return a, nil
	}
	values := d.Dictionary()
	b := array.NewBuilder(memory.DefaultAllocator, values.DataType())
	for i := range d.Len() {
		if d.IsNull(i) || values.IsNull(d.GetValueIndex(i)) {
			b.AppendNull()
		} else if err := b.AppendValueFromString(values.ValueStr(d.GetValueIndex(i))); err != nil {
			return nil, err
		}
	}
	return b.NewArray(), nil
}

// Close writes the footer. It does not close the underlying writer.
func (a *ArrowWriter) Close() error {
	if err := a.w.Close(); err != nil {
		return fmt.Errorf("arrow: %w", err)
	}
	return nil
}
