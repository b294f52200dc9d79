package local

import (
	"unsafe"

	"dkpipe/pipeline/expr"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func arrowSchema(s expr.Schema) *arrow.Schema {
	fields := make([]arrow.Field, len(s))
	for i, f := range s {
		fields[i] = arrow.Field{Name: f.Name, Type: arrowType(f.Type), Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

func arrowType(t expr.Type) arrow.DataType {
	var elem arrow.DataType
	switch t.Kind {
	case expr.Bool:
		elem = arrow.FixedWidthTypes.Boolean
	case expr.Int64:
		elem = arrow.PrimitiveTypes.Int64
	case expr.Float32:
		elem = arrow.PrimitiveTypes.Float32
	case expr.Float64:
		elem = arrow.PrimitiveTypes.Float64
	default:
		elem = arrow.BinaryTypes.String
	}
	if t.Width > 0 {
		return arrow.FixedSizeListOf(int32(t.Width), elem)
	}
	return elem
}

// record wraps columns without copying; only bools are packed into bits.
func record(schema *arrow.Schema, cols []*column, n int) arrow.RecordBatch {
	arrays := make([]arrow.Array, len(cols))
	for i, c := range cols {
		arrays[i] = c.arrow(n)
	}
	return array.NewRecordBatch(schema, arrays, int64(n))
}

func (c *column) arrow(n int) arrow.Array {
	var valid *memory.Buffer
	if c.valid != nil {
		valid = memory.NewBufferBytes(c.valid)
	}
	nulls := zeros(c.valid, n)
	typ := arrowType(c.typ)
	if c.typ.Width > 0 {
		elem := arrowType(expr.Type{Kind: c.typ.Kind})
		child := array.NewData(elem, n*c.typ.Width, []*memory.Buffer{nil, c.values(n * c.typ.Width)}, nil, 0, 0)
		return array.MakeFromData(array.NewData(typ, n, []*memory.Buffer{valid}, []arrow.ArrayData{child}, nulls, 0))
	}
	buffers := []*memory.Buffer{valid, c.values(n)}
	if c.typ.Kind == expr.String {
		buffers = []*memory.Buffer{valid, memory.NewBufferBytes(raw(c.off[:n+1])), memory.NewBufferBytes(c.text)}
	}
	return array.MakeFromData(array.NewData(typ, n, buffers, nil, nulls, 0))
}

func (c *column) values(m int) *memory.Buffer {
	switch c.typ.Kind {
	case expr.Int64:
		return memory.NewBufferBytes(raw(c.i64[:m]))
	case expr.Float64:
		return memory.NewBufferBytes(raw(c.f64[:m]))
	case expr.Float32:
		return memory.NewBufferBytes(raw(c.f32[:m]))
	case expr.Bool:
		packed := make([]byte, bitBytes(m))
		for i, x := range c.bool[:m] {
			if x {
				bitutil.SetBit(packed, i)
			}
		}
		return memory.NewBufferBytes(packed)
	}
	return nil
}

// raw is the memory of a slice of numbers.
func raw[T int32 | int64 | float32 | float64](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}
