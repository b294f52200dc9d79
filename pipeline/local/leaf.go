package local

import (
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"dkpipe/pipeline/expr"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// leafReader reads one leaf column of a Parquet file into rows: scalars, or lists of a fixed length.
type leafReader struct {
	index int
	desc  *schema.Column
	typ   expr.Type // as the column is read
	list  bool
	elem  int16 // list: definition level from which on an element exists

	chunk    file.ColumnChunkReader
	def, rep []int16
	bits     bitmap

	// values of one ReadBatch; the slice of the physical type is in use
	i32   []int32
	i64   []int64
	i96   []parquet.Int96
	f32   []float32
	f64   []float64
	bytes []parquet.ByteArray
	fixed []parquet.FixedLenByteArray
	bools []bool

	// list: what is read but not used yet
	levels, at, valueAt int
	elems               []float64
	elems32             []float32
}

func newLeafReader(index int, desc *schema.Column) *leafReader {
	if desc.MaxRepetitionLevel() > 1 {
		return nil
	}
	r := &leafReader{index: index, desc: desc, list: desc.MaxRepetitionLevel() == 1}
	if r.list {
		r.elem = listLevel(desc)
	} else if len(desc.ColumnPath()) != 1 {
		return nil // a struct
	}
	return r
}

// typeOf gives the type as that a leaf is read; the width of a list is found out later.
func (r *leafReader) typeOf() (t expr.Type, refused string) {
	logical := r.desc.LogicalType()
	switch r.desc.PhysicalType() {
	case parquet.Types.Boolean:
		t.Kind = expr.Bool
	case parquet.Types.Float:
		t.Kind = expr.Float32
	case parquet.Types.Double:
		t.Kind = expr.Float64
	case parquet.Types.Int96:
		t.Kind = expr.String
	case parquet.Types.Int32, parquet.Types.Int64:
		t.Kind = expr.Int64
		switch logical.(type) {
		case schema.DateLogicalType, *schema.DateLogicalType, schema.TimestampLogicalType, *schema.TimestampLogicalType:
			t.Kind = expr.String
		case schema.DecimalLogicalType, *schema.DecimalLogicalType:
			t.Kind = expr.Float64
		}
	default:
		switch logical.(type) {
		case schema.StringLogicalType, *schema.StringLogicalType, schema.EnumLogicalType, *schema.EnumLogicalType,
			schema.JSONLogicalType, *schema.JSONLogicalType:
			t.Kind = expr.String
		case schema.DecimalLogicalType, *schema.DecimalLogicalType:
			t.Kind = expr.Float64
		default:
			return t, "is of the type " + r.desc.PhysicalType().String() + " without a meaning"
		}
	}
	if !r.list {
		return t, ""
	}
	switch t.Kind {
	case expr.Int64:
		t.Kind = expr.Float64
	case expr.Bool, expr.String:
		return t, "is a list of " + string(t.Kind) + " values"
	}
	return t, ""
}

func (r *leafReader) start(chunk file.ColumnChunkReader) {
	r.chunk = chunk
	r.levels, r.at, r.valueAt = 0, 0, 0
}

// batch reads up to n levels of one page into the slice of the physical type.
func (r *leafReader) batch(n int) (levels, values int, err error) {
	r.def = grow(r.def, n)
	r.rep = grow(r.rep, n)
	var total int64
	switch c := r.chunk.(type) {
	case *file.Int32ColumnChunkReader:
		r.i32 = grow(r.i32, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.i32, r.def, r.rep)
	case *file.Int64ColumnChunkReader:
		r.i64 = grow(r.i64, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.i64, r.def, r.rep)
	case *file.Int96ColumnChunkReader:
		r.i96 = grow(r.i96, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.i96, r.def, r.rep)
	case *file.Float32ColumnChunkReader:
		r.f32 = grow(r.f32, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.f32, r.def, r.rep)
	case *file.Float64ColumnChunkReader:
		r.f64 = grow(r.f64, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.f64, r.def, r.rep)
	case *file.ByteArrayColumnChunkReader:
		r.bytes = grow(r.bytes, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.bytes, r.def, r.rep)
	case *file.FixedLenByteArrayColumnChunkReader:
		r.fixed = grow(r.fixed, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.fixed, r.def, r.rep)
	case *file.BooleanColumnChunkReader:
		r.bools = grow(r.bools, n)
		total, values, err = c.ReadBatchInPage(int64(n), r.bools, r.def, r.rep)
	default:
		return 0, 0, fmt.Errorf("unknown column reader %T", c)
	}
	if err != nil {
		return 0, 0, err
	}
	if err := r.chunk.Err(); err != nil && err != io.EOF {
		return 0, 0, err
	}
	return int(total), values, nil
}

// read fills the column with n rows. fault makes the error for row k of them.
func (r *leafReader) read(c *column, n int, fault func(k int, what string) error) error {
	c.reset(r.typ, n)
	if r.list {
		return r.lists(c, n, fault)
	}
	deepest := r.desc.MaxDefinitionLevel()
	for row := 0; row < n; {
		if !r.chunk.HasNext() {
			return r.short(n - row)
		}
		levels, values, err := r.batch(n - row)
		if err != nil {
			return err
		}
		if levels == 0 {
			return r.short(n - row)
		}
		v := 0
		for k := range levels {
			null := deepest > 0 && r.def[k] < deepest
			if null {
				if c.valid == nil {
					r.bits = r.bits.ones(n)
					c.valid = r.bits
				}
				bitmap(c.valid).clear(row + k)
			}
			if !null && v >= values {
				return fmt.Errorf("%d values for more levels", values)
			}
			if what := r.store(c, row+k, v, null); what != "" {
				return fault(row+k, what)
			}
			if !null {
				v++
			}
		}
		row += levels
	}
	return nil
}

func (r *leafReader) short(rows int) error {
	if err := r.chunk.Err(); err != nil && err != io.EOF {
		return err
	}
	return fmt.Errorf("%d rows are missing: %w", rows, io.ErrUnexpectedEOF)
}

// store puts value v of the batch into row of a scalar column, or what it says about it.
func (r *leafReader) store(c *column, row, v int, null bool) string {
	switch c.typ.Kind {
	case expr.Bool:
		c.bool[row] = !null && r.bools[v]
	case expr.String:
		if !null {
			start := len(c.text)
			c.text = r.appendText(c.text, v)
			if !utf8.Valid(c.text[start:]) {
				return "the text is not UTF-8"
			}
		}
		c.off[row+1] = int32(len(c.text))
	case expr.Int64:
		if null {
			c.i64[row] = 0
			return ""
		}
		if r.desc.PhysicalType() == parquet.Types.Int32 {
			c.i64[row] = int64(r.i32[v])
			if !r.signed() {
				c.i64[row] = int64(uint32(r.i32[v]))
			}
			return ""
		}
		c.i64[row] = r.i64[v]
		if r.i64[v] < 0 && !r.signed() {
			return fmt.Sprintf("%d is too large for int64", uint64(r.i64[v]))
		}
	case expr.Float32:
		if null {
			c.f32[row] = 0
			return ""
		}
		c.f32[row] = r.f32[v]
	case expr.Float64:
		c.f64[row] = 0
		if !null {
			c.f64[row] = r.number(v)
		}
	}
	return ""
}

func (r *leafReader) signed() bool {
	switch t := r.desc.LogicalType().(type) {
	case schema.IntLogicalType:
		return t.IsSigned()
	case *schema.IntLogicalType:
		return t.IsSigned()
	}
	return true
}

// number gives value v of the batch as float64: a number, or a decimal.
func (r *leafReader) number(v int) float64 {
	scale := 0
	switch t := r.desc.LogicalType().(type) {
	case schema.DecimalLogicalType:
		scale = int(t.Scale())
	case *schema.DecimalLogicalType:
		scale = int(t.Scale())
	}
	switch r.desc.PhysicalType() {
	case parquet.Types.Double:
		return r.f64[v]
	case parquet.Types.Float:
		return float64(r.f32[v])
	case parquet.Types.Int32:
		if !r.signed() {
			return float64(uint32(r.i32[v]))
		}
		return decimal(float64(r.i32[v]), scale)
	case parquet.Types.Int64:
		return decimal(float64(r.i64[v]), scale)
	case parquet.Types.ByteArray:
		return decimal(bigEndian(r.bytes[v]), scale)
	}
	return decimal(bigEndian(r.fixed[v]), scale)
}

func decimal(unscaled float64, scale int) float64 {
	if scale == 0 {
		return unscaled
	}
	return unscaled / math.Pow10(scale)
}

// bigEndian reads a two's complement number.
func bigEndian(b []byte) float64 {
	x := 0.0
	for i, c := range b {
		if i == 0 {
			x = float64(int8(c))
		} else {
			x = x*256 + float64(c)
		}
	}
	return x
}

// appendText appends value v of the batch: a text, or a date or time as Spark prints it.
func (r *leafReader) appendText(b []byte, v int) []byte {
	switch r.desc.PhysicalType() {
	case parquet.Types.ByteArray:
		return append(b, r.bytes[v]...)
	case parquet.Types.FixedLenByteArray:
		return append(b, r.fixed[v]...)
	case parquet.Types.Int96:
		return appendTime(b, r.i96[v].ToTime())
	case parquet.Types.Int32:
		return appendDate(b, int64(r.i32[v]))
	}
	unit := schema.TimeUnitMicros
	switch t := r.desc.LogicalType().(type) {
	case schema.TimestampLogicalType:
		unit = t.TimeUnit()
	case *schema.TimestampLogicalType:
		unit = t.TimeUnit()
	}
	x := r.i64[v]
	switch unit {
	case schema.TimeUnitMillis:
		return appendTime(b, time.UnixMilli(x))
	case schema.TimeUnitNanos:
		return appendTime(b, time.Unix(x/1e9, x%1e9))
	}
	return appendTime(b, time.UnixMicro(x))
}

// appendDate appends days since 1970-01-01.
func appendDate(b []byte, days int64) []byte {
	return time.Unix(days*86400, 0).UTC().AppendFormat(b, "2006-01-02")
}

// appendTime appends a time in UTC, with a fraction only where there is one, as Spark casts a timestamp to text.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02 15:04:05.999999999")
}
