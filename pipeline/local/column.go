package local

import (
	"math/bits"

	"dkpipe/pipeline/expr"
)

// column holds n values of one type in Arrow's layout, except that a bool takes a byte. A vector column holds its
// rows one after the other, n × Width elements. Exactly one value slice is in use, chosen by typ.Kind.
type column struct {
	typ   expr.Type
	n     int
	valid []byte // a bit a row, least significant first; nil when no row is NULL

	i64  []int64
	f64  []float64
	f32  []float32
	bool []bool
	off  []int32 // strings: n*width+1 offsets into text
	text []byte
}

// width is the number of elements of a row.
func (c *column) width() int { return max(1, c.typ.Width) }

// reset gives the column a type and room for n rows; values are not cleared. valid becomes nil.
func (c *column) reset(t expr.Type, n int) {
	c.typ, c.n, c.valid = t, n, nil
	m := n * c.width()
	switch t.Kind {
	case expr.Int64:
		c.i64 = grow(c.i64, m)
	case expr.Float64:
		c.f64 = grow(c.f64, m)
	case expr.Float32:
		c.f32 = grow(c.f32, m)
	case expr.Bool:
		c.bool = grow(c.bool, m)
	case expr.String:
		c.off = grow(c.off, m+1)
		c.off[0] = 0
		c.text = c.text[:0]
	}
}

// str gives element i of a string column.
func (c *column) str(i int) []byte { return c.text[c.off[i]:c.off[i+1]] }

// isNull says whether row i is NULL.
func (c *column) isNull(i int) bool { return c.valid != nil && c.valid[i>>3]&(1<<(i&7)) == 0 }

// grow gives a slice of length n, on the same memory when it is large enough. Old values stay.
func grow[T any](s []T, n int) []T {
	if cap(s) >= n {
		return s[:n]
	}
	g := make([]T, n, n+n/4)
	copy(g, s)
	return g
}

// bitmap is the memory of a column's NULL bits.
type bitmap []byte

func bitBytes(n int) int { return (n + 7) >> 3 }

// ones sizes b for n rows and sets every bit.
func (b bitmap) ones(n int) bitmap {
	b = grow(b, bitBytes(n))
	for i := range b {
		b[i] = 0xff
	}
	return b
}

func (b bitmap) clear(i int) { b[i>>3] &^= 1 << (i & 7) }
func (b bitmap) set(i int)   { b[i>>3] |= 1 << (i & 7) }

// zeros counts the first n rows whose bit is clear; a nil map has none.
func zeros(b []byte, n int) int {
	if b == nil {
		return 0
	}
	set := 0
	for _, x := range b[:n>>3] {
		set += bits.OnesCount8(x)
	}
	if n&7 != 0 {
		set += bits.OnesCount8(b[n>>3] & (1<<(n&7) - 1))
	}
	return n - set
}

// field is a column of a source: its type, or the reason why it cannot be used.
type field struct {
	expr.Field
	refused string // "has the type map<...>"; empty: usable

	declared bool  // the plan gave the type
	sample   int64 // else, in a text format: how many rows suggested it

	guessed       bool   // in a text format: the type may become another one, see suit
	mostlyNumbers bool   // at least half of the values that suggested the type are numbers
	passed        bool   // goes to an output as it is, see Table.Pass
	needs         string // what asked for the type, instead of the values: "min_max", "columns.x"
}

// batch is a block of rows as a file reader gives it. Its memory is used again for the next one.
type batch struct {
	n     int
	cols  []column
	file  string
	first int64   // row number in the file, from 1, of row 0
	lines []int64 // line of each row, or nil where the format has no lines
}

// place says where row i came from.
func (b *batch) place(i int) Place {
	p := Place{File: b.file, Row: b.first + int64(i)}
	if b.lines != nil {
		p.Line = b.lines[i]
	}
	return p
}

// fileReader reads one file. next fills b and gives io.EOF after the last row; it never gives zero rows with nil.
type fileReader interface {
	fields() []field
	next(b *batch) error
	Close() error
}
