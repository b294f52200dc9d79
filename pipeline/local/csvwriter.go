package local

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// CSVWriter writes Arrow records as RFC 4180 with a header row: NULL as an empty field, the empty string as "",
// lists of numbers as quoted text "[0.1,0.9]", floats in the shortest form that reads back equal.
type CSVWriter struct {
	w    io.Writer
	buf  []byte
	cols int
}

// NewCSVWriter writes the header. It refuses columns that have no form in CSV. The caller closes w.
func NewCSVWriter(w io.Writer, schema *arrow.Schema) (*CSVWriter, error) {
	c := &CSVWriter{w: w, cols: schema.NumFields()}
	for i, f := range schema.Fields() {
		if r := fieldOf(f, nil); r.refused != "" && r.Type.Kind == "" {
			return nil, unsupportedErr("write parquet, or leave the column out", "csv: column %q %s", f.Name, r.refused)
		}
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = appendField(c.buf, []byte(f.Name))
	}
	c.buf = append(c.buf, '\n')
	return c, c.flush()
}

// Write appends the rows of a record of the writer's schema.
func (c *CSVWriter) Write(rec arrow.RecordBatch) error {
	if int(rec.NumCols()) != c.cols {
		return fmt.Errorf("csv: a record of %d columns for %d", rec.NumCols(), c.cols)
	}
	cols := rec.Columns()
	for r := range int(rec.NumRows()) {
		for i, a := range cols {
			if i > 0 {
				c.buf = append(c.buf, ',')
			}
			if !a.IsNull(r) {
				c.buf = appendCell(c.buf, a, r)
			}
		}
		c.buf = append(c.buf, '\n')
		if len(c.buf) > 64<<10 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *CSVWriter) flush() error {
	_, err := c.w.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// Close writes what is left. It does not close the underlying writer.
func (c *CSVWriter) Close() error { return c.flush() }

func appendCell(b []byte, a arrow.Array, r int) []byte {
	if d, ok := a.(*array.Dictionary); ok {
		return appendCell(b, d.Dictionary(), d.GetValueIndex(r))
	}
	switch a := a.(type) {
	case *array.Boolean:
		return strconv.AppendBool(b, a.Value(r))
	case *array.Uint64:
		return strconv.AppendUint(b, a.Value(r), 10)
	case array.ListLike:
		v := a.ListValues()
		lo, hi := a.ValueOffsets(r)
		b = append(b, `"[`...)
		for k := lo; k < hi; k++ {
			if k > lo {
				b = append(b, ',')
			}
			if v.IsNull(int(k)) {
				b = append(b, "null"...)
			} else {
				b = appendNumber(b, v, int(k))
			}
		}
		return append(b, `]"`...)
	}
	switch kindOf(a.DataType()) {
	case "string":
		start := len(b)
		b = appendTextAt(b, a, r)
		text := b[start:]
		if quotes(text) {
			text = bytes.Clone(text)
			return appendField(b[:start], text)
		}
		return b
	}
	return appendNumber(b, a, r)
}

func appendNumber(b []byte, a arrow.Array, r int) []byte {
	switch a := a.(type) {
	case *array.Float32:
		return appendFloat(b, float64(a.Value(r)), 32)
	case *array.Float64:
		return appendFloat(b, a.Value(r), 64)
	case *array.Decimal128, *array.Decimal256, *array.Float16:
		return appendFloat(b, numberAt(a, r), 64)
	}
	v, _ := integerAt(a, r)
	return strconv.AppendInt(b, v, 10)
}

// appendFloat writes infinities as Spark and pandas read them.
func appendFloat(b []byte, x float64, bits int) []byte {
	switch {
	case math.IsInf(x, 1):
		return append(b, "Inf"...)
	case math.IsInf(x, -1):
		return append(b, "-Inf"...)
	}
	return strconv.AppendFloat(b, x, 'g', -1, bits)
}

// quotes says whether a text must be quoted: the empty one is, so that it does not read as NULL.
func quotes(s []byte) bool {
	return len(s) == 0 || bytes.ContainsAny(s, ",\"\r\n") || s[0] == ' ' || s[len(s)-1] == ' '
}

func appendField(b, s []byte) []byte {
	if !quotes(s) {
		return append(b, s...)
	}
	b = append(b, '"')
	for _, c := range s {
		if c == '"' {
			b = append(b, '"')
		}
		b = append(b, c)
	}
	return append(b, '"')
}
