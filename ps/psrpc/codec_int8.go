package psrpc

import (
	"encoding/binary"
	"math"
)

// int8Block elements share a scale, so that one large element costs the precision of its block only.
const int8Block = 256

// roundMagic is 1.5 * 2^23: the sum with a float32 of less than 2^22 has in its lowest byte the nearest integer, ties to
// even, as two's complement.
const roundMagic = 12582912

// packInt8 appends x + residual: per block the scale as a float32 and an int8 for each element, and leaves in residual what
// the other side will not see. A block with NaN or infinity arrives as NaN, and its residual starts anew.
func packInt8(b []byte, x, residual []float32) []byte {
	for len(x) > 0 {
		n := min(len(x), int8Block)
		b = packInt8Block(b, x[:n], residual[:n])
		x, residual = x[n:], residual[n:]
	}
	return b
}

func packInt8Block(b []byte, x, residual []float32) []byte {
	at := len(b)
	b = b[:at+4+len(x)]
	out := b[at+4:]
	residual, out = residual[:len(x)], out[:len(x)]
	var most uint32
	for i, v := range x {
		a := v + residual[i]
		residual[i] = a
		most = max(most, math.Float32bits(a)&^(1<<31)) // magnitudes are ordered as their bits are, NaN last
	}
	largest := math.Float32frombits(most)
	scale, inverse := largest/127, 127/largest
	switch {
	case !finite32(largest):
		binary.LittleEndian.PutUint32(b[at:], math.Float32bits(nan32()))
		clear(out)
		clear(residual)
		return b
	case scale == 0 || !finite32(inverse): // too small to be told apart: all of it waits
		binary.LittleEndian.PutUint32(b[at:], 0)
		clear(out)
		return b
	}
	binary.LittleEndian.PutUint32(b[at:], math.Float32bits(scale))
	for i, a := range residual {
		q := int8(math.Float32bits(float32(a*inverse) + roundMagic))
		out[i] = byte(q)
		residual[i] = a - float32(float32(q)*scale) // rounded as the other side does
	}
	return b
}

func unpackInt8(dst []float32, b []byte) error {
	if len(b) != Int8.packed(len(dst)) {
		return malformed("%d bytes of int8 for %d elements", len(b), len(dst))
	}
	for len(dst) > 0 {
		n := min(len(dst), int8Block)
		scale := math.Float32frombits(binary.LittleEndian.Uint32(b))
		for i, q := range b[4 : 4+n] {
			dst[i] = float32(float32(int8(q)) * scale)
		}
		dst, b = dst[n:], b[4+n:]
	}
	return nil
}
