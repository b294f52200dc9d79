package hdf5

import (
	"encoding/binary"
	"math"
)

// Class is what sort of elements a tensor or an attribute has, with their widths in Type.Size.
type Class string

// The classes that are read.
const (
	Float   Class = "float"   // IEEE 754 of 2, 4 or 8 bytes
	Int     Class = "int"     // signed, 1 to 8 bytes
	Uint    Class = "uint"    // unsigned, 1 to 8 bytes
	Text    Class = "text"    // of a fixed length
	VarText Class = "vartext" // of any length, kept in a global heap
	Opaque  Class = "opaque"  // bytes without a meaning; Keras keeps bfloat16 so
	Other   Class = "another" // recognised, and not read
)

// Type is the type of an element.
type Type struct {
	Class Class
	Size  int // bytes in the file
	big   bool
}

// datatype is section IV.A.2.d.
func (o *Object) datatype(c *cursor) (Type, error) {
	head := c.u8()
	class, bits := head&15, [3]byte{c.u8(), c.u8(), c.u8()}
	t := Type{Size: int(c.u32()), Class: Other}
	if c.short || t.Size < 1 {
		return t, o.corrupt("its data type is cut off")
	}
	switch class {
	case 0:
		t.big = bits[0]&1 != 0
		offset, precision := c.u16(), int(c.u16())
		if offset == 0 && precision == 8*t.Size && t.Size <= 8 {
			if t.Class = Uint; bits[0]&8 != 0 {
				t.Class = Int
			}
		}
	case 1:
		t.big = bits[0]&1 != 0
		var layout [12]byte
		copy(layout[:], c.take(12))
		if bits[0]&0x40 == 0 && isIEEE(t.Size, bits[1], layout) {
			t.Class = Float
		}
	case 3:
		t.Class = Text
	case 5:
		t.Class = Opaque
	case 9:
		if bits[0]&15 == 1 {
			t.Class = VarText
			if t.Size != 8+o.f.width.address {
				return t, o.corrupt("texts of variable length take %d bytes each", t.Size)
			}
		}
	}
	if c.short {
		return t, o.corrupt("its data type is cut off")
	}
	return t, nil
}

// isIEEE compares the fields of a float with those of half, single and double precision.
func isIEEE(size int, sign byte, f [12]byte) bool {
	for _, k := range []struct{ size, exponent, mantissa, bias int }{{2, 5, 10, 15}, {4, 8, 23, 127}, {8, 11, 52, 1023}} {
		if k.size != size {
			continue
		}
		want := [12]byte{0, 0, byte(8 * size), 0, byte(k.mantissa), byte(k.exponent), 0, byte(k.mantissa)}
		binary.LittleEndian.PutUint32(want[8:], uint32(k.bias))
		return f == want && int(sign) == 8*size-1
	}
	return false
}

// dataspace is section IV.A.2.b: the shape, nil for a scalar. none is true for an attribute without a value.
func (o *Object) dataspace(c *cursor) (shape []int, none bool, err error) {
	version, rank, flags := c.u8(), int(c.u8()), c.u8()
	switch version {
	case 1:
		c.skip(5)
	case 2:
		none = c.u8() == 2
	default:
		return nil, false, o.unsupported("a dataspace of version %d", version)
	}
	if rank > maxRank {
		return nil, false, o.corrupt("it has %d dimensions", rank)
	}
	for range rank {
		d := c.length()
		if d > 1<<48 {
			return nil, false, o.corrupt("it has a dimension of %d", d)
		}
		shape = append(shape, int(d))
	}
	if flags&1 != 0 {
		c.skip(rank * o.f.width.length) // largest sizes
	}
	if c.short || elements(shape) < 0 {
		return nil, false, o.corrupt("its shape %v is cut off or too large", shape)
	}
	return shape, none, nil
}

// toFloat32 converts elements; half and single precision and bfloat16 are exact, the others are rounded to the nearest.
func (t Type) toFloat32(dst []float32, src []byte) {
	var order binary.ByteOrder = binary.LittleEndian
	if t.big {
		order = binary.BigEndian
	}
	if t.Class == Float && t.Size == 4 && !t.big { // nearly all tensors
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
		return
	}
	for i := range dst {
		b := src[i*t.Size:][:t.Size]
		switch {
		case t.Class == Float && t.Size == 4:
			dst[i] = math.Float32frombits(order.Uint32(b))
		case t.Class == Float && t.Size == 8:
			dst[i] = float32(math.Float64frombits(order.Uint64(b)))
		case t.Class == Float:
			dst[i] = half(order.Uint16(b))
		case t.Class == Opaque: // bfloat16
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
		default:
			dst[i] = float32(t.integer(b))
		}
	}
}

// integer reads one element of an integer type; a uint64 beyond int64 is wrong only in how it is rounded.
func (t Type) integer(b []byte) float64 {
	var v uint64
	for i := range b {
		k := i
		if t.big {
			k = len(b) - 1 - i
		}
		v |= uint64(b[k]) << (8 * i)
	}
	if t.Class == Uint {
		return float64(v)
	}
	shift := 64 - 8*len(b)
	return float64(int64(v<<shift) >> shift)
}

// half widens IEEE 754 half precision.
func half(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exponent, mantissa := uint32(h>>10)&31, uint32(h)&1023
	switch exponent {
	case 0:
		v := float32(mantissa) * 0x1p-24
		if sign != 0 {
			return -v
		}
		return v
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | mantissa<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | mantissa<<13)
}
