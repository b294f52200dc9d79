package local

import (
	"fmt"
	"math"

	"dkpipe/pipeline/expr"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
)

// fieldOf says how an Arrow column is read: integers as int64, dates and times as text, decimals as float64, lists of
// numbers as vectors. first is a part of the column, for the width of lists whose type does not tell; may be nil.
func fieldOf(f arrow.Field, first arrow.Array) field {
	out := field{Field: expr.Field{Name: f.Name}}
	out.Type.Kind = kindOf(f.Type)
	if out.Type.Kind != "" {
		return out
	}
	elem, width := f.Type, 0
	switch t := f.Type.(type) {
	case *arrow.FixedSizeListType:
		elem, width = t.Elem(), int(t.Len())
	case arrow.ListLikeType:
		elem = t.Elem()
		if l, ok := first.(array.ListLike); ok && f.Type.ID() != arrow.MAP {
			for i := 0; i < l.Len() && width == 0; i++ {
				if !l.IsNull(i) {
					from, to := l.ValueOffsets(i)
					width = int(to - from)
				}
			}
		}
	}
	switch kind := kindOf(elem); {
	case kind == expr.Float32:
		out.Type = expr.Type{Kind: kind, Width: width}
	case kind == expr.Float64, kind == expr.Int64:
		out.Type = expr.Type{Kind: expr.Float64, Width: width}
	default:
		out.refused = "is of the type " + f.Type.String()
		return out
	}
	if width <= 0 || width > expr.MaxWidth {
		out.refused = "holds lists without elements"
	}
	return out
}

func kindOf(t arrow.DataType) expr.Kind {
	switch t.ID() {
	case arrow.BOOL:
		return expr.Bool
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		return expr.Int64
	case arrow.FLOAT16, arrow.FLOAT32:
		return expr.Float32
	case arrow.FLOAT64, arrow.DECIMAL128, arrow.DECIMAL256:
		return expr.Float64
	case arrow.STRING, arrow.LARGE_STRING, arrow.STRING_VIEW, arrow.DATE32, arrow.DATE64, arrow.TIMESTAMP:
		return expr.String
	case arrow.DICTIONARY:
		return kindOf(t.(*arrow.DictionaryType).ValueType)
	}
	return ""
}

// fromArrow copies rows from..from+n of an Arrow array. When a row cannot be taken it gives the row, counted from
// from, and what is wrong with it.
func fromArrow(c *column, t expr.Type, a arrow.Array, from, n int) (row int, wrong string) {
	c.reset(t, n)
	if a.NullN() > 0 {
		c.valid = bitmap(nil).ones(n)
		for i := range n {
			if a.IsNull(from + i) {
				bitmap(c.valid).clear(i)
			}
		}
	}
	if t.Width > 0 {
		return fromList(c, a.(array.ListLike), from, n)
	}
	if d, ok := a.(*array.Dictionary); ok {
		for i := range n {
			k := 0
			if !c.isNull(i) {
				k = d.GetValueIndex(from + i)
			} else if d.Dictionary().Len() == 0 {
				c.putNull(i)
				continue
			}
			if wrong := c.put(i, d.Dictionary(), k); wrong != "" {
				return i, wrong
			}
		}
		return 0, ""
	}
	switch a := a.(type) { // the commonest without a call a row
	case *array.Int64:
		copy(c.i64, a.Int64Values()[from:from+n])
		return 0, ""
	case *array.Float64:
		copy(c.f64, a.Float64Values()[from:from+n])
		return 0, ""
	case *array.Float32:
		copy(c.f32, a.Float32Values()[from:from+n])
		return 0, ""
	}
	for i := range n {
		if c.isNull(i) {
			c.putNull(i)
			continue
		}
		if wrong := c.put(i, a, from+i); wrong != "" {
			return i, wrong
		}
	}
	return 0, ""
}

// putNull puts something readable into a row that is NULL.
func (c *column) putNull(i int) {
	switch c.typ.Kind {
	case expr.Int64:
		c.i64[i] = 0
	case expr.Float64:
		c.f64[i] = 0
	case expr.Float32:
		c.f32[i] = 0
	case expr.Bool:
		c.bool[i] = false
	case expr.String:
		c.off[i+1] = int32(len(c.text))
	}
}

// put puts element k of a into row i.
func (c *column) put(i int, a arrow.Array, k int) (wrong string) {
	switch c.typ.Kind {
	case expr.Bool:
		c.bool[i] = a.(*array.Boolean).Value(k)
	case expr.Int64:
		c.i64[i], wrong = integerAt(a, k)
	case expr.Float32:
		c.f32[i] = float32(numberAt(a, k))
	case expr.Float64:
		c.f64[i] = numberAt(a, k)
	case expr.String:
		c.text = appendTextAt(c.text, a, k)
		c.off[i+1] = int32(len(c.text))
	}
	return wrong
}

func integerAt(a arrow.Array, k int) (v int64, wrong string) {
	switch a := a.(type) {
	case *array.Int8:
		return int64(a.Value(k)), ""
	case *array.Int16:
		return int64(a.Value(k)), ""
	case *array.Int32:
		return int64(a.Value(k)), ""
	case *array.Int64:
		return a.Value(k), ""
	case *array.Uint8:
		return int64(a.Value(k)), ""
	case *array.Uint16:
		return int64(a.Value(k)), ""
	case *array.Uint32:
		return int64(a.Value(k)), ""
	case *array.Uint64:
		if v := a.Value(k); v > math.MaxInt64 {
			return 0, fmt.Sprintf("%d is too large for int64", v)
		}
		return int64(a.Value(k)), ""
	}
	return 0, "is a " + a.DataType().String()
}

func numberAt(a arrow.Array, k int) float64 {
	switch a := a.(type) {
	case *array.Float64:
		return a.Value(k)
	case *array.Float32:
		return float64(a.Value(k))
	case *array.Float16:
		return float64(a.Value(k).Float32())
	case *array.Decimal128:
		return a.Value(k).ToFloat64(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.Decimal256:
		return a.Value(k).ToFloat64(a.DataType().(*arrow.Decimal256Type).Scale)
	case *array.Uint64:
		return float64(a.Value(k))
	}
	v, _ := integerAt(a, k)
	return float64(v)
}

func appendTextAt(b []byte, a arrow.Array, k int) []byte {
	switch a := a.(type) {
	case *array.String:
		return append(b, a.Value(k)...)
	case *array.LargeString:
		return append(b, a.Value(k)...)
	case *array.StringView:
		return append(b, a.Value(k)...)
	case *array.Date32:
		return appendDate(b, int64(a.Value(k)))
	case *array.Date64:
		return appendDate(b, int64(a.Value(k))/86400000)
	case *array.Timestamp:
		return appendTime(b, a.Value(k).ToTime(a.DataType().(*arrow.TimestampType).Unit))
	}
	return b
}

// fromList copies lists of one length; a NULL element becomes NaN.
func fromList(c *column, l array.ListLike, from, n int) (row int, wrong string) {
	w := c.typ.Width
	v := l.ListValues()
	for i := range n {
		if c.isNull(i) {
			if c.typ.Kind == expr.Float32 {
				clear(c.f32[i*w : (i+1)*w])
			} else {
				clear(c.f64[i*w : (i+1)*w])
			}
			continue
		}
		lo, hi := l.ValueOffsets(from + i)
		if int(hi-lo) != w {
			return i, fmt.Sprintf("the list has %d elements, others have %d", hi-lo, w)
		}
		if c.typ.Kind == expr.Float32 {
			if f, ok := v.(*array.Float32); ok {
				copy(c.f32[i*w:(i+1)*w], f.Float32Values()[lo:hi])
			} else {
				for k := range w {
					c.f32[i*w+k] = float32(numberAt(v, int(lo)+k))
				}
			}
		} else {
			for k := range w {
				c.f64[i*w+k] = numberAt(v, int(lo)+k)
			}
		}
		if v.NullN() == 0 {
			continue
		}
		for k := range w {
			if !bitutil.BitIsSet(v.NullBitmapBytes(), v.Data().Offset()+int(lo)+k) {
				if c.typ.Kind == expr.Float32 {
					c.f32[i*w+k] = float32(math.NaN())
				} else {
					c.f64[i*w+k] = math.NaN()
				}
			}
		}
	}
	return 0, ""
}
