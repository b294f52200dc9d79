package dataset

import (
	"encoding/binary"
	"fmt"
	"math"

	"dkpipe/pipeline"
)

// rowSchema knows how a finished row lies in memory while it waits for its shard: the floats of all vector columns,
// little-endian, then the keep cells: one byte that says whether there is a value, then eight bytes, or a length of
// four bytes and text.
type rowSchema struct {
	vectors []vector
	keeps   []keep
	fixed   int // bytes of the vectors
}

type vector struct {
	name  string
	width int
	off   int // byte offset in a row
}

type keep struct {
	name  string
	dtype string
}

func newRowSchema(columns []pipeline.ColumnInfo) (*rowSchema, error) {
	s := &rowSchema{}
	names := map[string]bool{}
	last := 0
	for _, c := range columns {
		if names[c.Name] {
			return nil, fmt.Errorf("column %q stands twice", c.Name)
		}
		names[c.Name] = true
		if c.Encoding == "" {
			c.Encoding = EncodingF32LE
			if c.Role == RoleKeep {
				c.Encoding = EncodingPlain
			}
		}
		if c.Scale == 0 {
			c.Scale = 1
		}
		if err := checkColumn(c); err != nil {
			return nil, err
		}
		rank := map[string]int{RoleX: 0, RoleY: 1, RoleWeight: 2, RoleKeep: 3}[c.Role]
		if rank < last {
			return nil, fmt.Errorf("column %q: want inputs, outputs, weight and keep columns in this order", c.Name)
		}
		last = rank
		if c.Role == RoleKeep {
			s.keeps = append(s.keeps, keep{name: c.Name, dtype: c.DType})
			continue
		}
		if c.Encoding != EncodingF32LE || c.Scale != 1 || c.Offset != 0 {
			return nil, fmt.Errorf("column %q: encoding %s with scale %v and offset %v, the writer stores f32le as it is",
				c.Name, c.Encoding, c.Scale, c.Offset)
		}
		w, err := width(c)
		if err != nil {
			return nil, err
		}
		s.vectors = append(s.vectors, vector{name: c.Name, width: w, off: s.fixed})
		s.fixed += 4 * w
		if s.fixed > maxRecord {
			return nil, fmt.Errorf("a row of more than %d bytes at column %q", maxRecord, c.Name)
		}
	}
	if len(s.vectors)+len(s.keeps) == 0 {
		return nil, fmt.Errorf("no columns")
	}
	return s, nil
}

// check refuses a block whose slices do not fit together.
func (s *rowSchema) check(r *pipeline.Rows, parts int) error {
	if r.N < 0 || len(r.Part) != r.N || len(r.Hash) != r.N {
		return fmt.Errorf("a block of %d rows has %d parts and %d hashes", r.N, len(r.Part), len(r.Hash))
	}
	if len(r.Vectors) != len(s.vectors) || len(r.Keep) != len(s.keeps) {
		return fmt.Errorf("a block has %d vector and %d keep columns, Start named %d and %d",
			len(r.Vectors), len(r.Keep), len(s.vectors), len(s.keeps))
	}
	for _, p := range r.Part {
		if int(p) >= parts {
			return fmt.Errorf("a row of part %d, there are %d", p, parts)
		}
	}
	for i, v := range s.vectors {
		if len(r.Vectors[i]) != r.N*v.width {
			return fmt.Errorf("column %q: %d floats for %d rows of %d", v.name, len(r.Vectors[i]), r.N, v.width)
		}
	}
	for i, k := range s.keeps {
		c := r.Keep[i]
		n := map[string]int{"int64": len(c.Int64), "float64": len(c.Float64), "string": len(c.String)}[k.dtype]
		if n != r.N || (c.Valid != nil && len(c.Valid) != r.N) {
			return fmt.Errorf("column %q: %d values of type %s and %d validity marks for %d rows", k.name, n, k.dtype, len(c.Valid), r.N)
		}
	}
	return nil
}

// size is the number of bytes that encode needs for row i.
func (s *rowSchema) size(r *pipeline.Rows, i int) int {
	n := s.fixed
	for j, k := range s.keeps {
		c := &r.Keep[j]
		n++
		switch {
		case c.Valid != nil && !c.Valid[i]:
		case k.dtype == "string":
			n += 4 + len(c.String[i])
		default:
			n += 8
		}
	}
	return n
}

// encode writes row i into b, which has exactly size bytes.
func (s *rowSchema) encode(b []byte, r *pipeline.Rows, i int) {
	for j, v := range s.vectors {
		putFloats(b[v.off:v.off+4*v.width], r.Vectors[j][i*v.width:(i+1)*v.width])
	}
	b = b[s.fixed:]
	for j, k := range s.keeps {
		c := &r.Keep[j]
		if c.Valid != nil && !c.Valid[i] {
			b[0] = 0
			b = b[1:]
			continue
		}
		b[0] = 1
		b = b[1:]
		switch k.dtype {
		case "int64":
			binary.LittleEndian.PutUint64(b, uint64(c.Int64[i]))
			b = b[8:]
		case "float64":
			binary.LittleEndian.PutUint64(b, math.Float64bits(c.Float64[i]))
			b = b[8:]
		default:
			binary.LittleEndian.PutUint32(b, uint32(len(c.String[i])))
			b = b[4+copy(b[4:], c.String[i]):]
		}
	}
}

// cell reads the first keep cell of b: its value bytes, whether there is one, and what follows.
func (k keep) cell(b []byte) (value []byte, valid bool, rest []byte) {
	if b[0] == 0 {
		return nil, false, b[1:]
	}
	b = b[1:]
	if k.dtype != "string" {
		return b[:8], true, b[8:]
	}
	n := 4 + int(binary.LittleEndian.Uint32(b))
	return b[4:n], true, b[n:]
}
