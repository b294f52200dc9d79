package psrpc

import (
	"encoding/binary"
	"math"
)

// packBF16 appends x, two bytes an element. NaN stays NaN and infinity stays infinite.
func packBF16(b []byte, x []float32) []byte {
	n := len(b)
	b = b[:n+2*len(x)]
	out := b[n:]
	for i, v := range x {
		bits := math.Float32bits(v)
		half := uint16((bits + 0x7fff + bits>>16&1) >> 16)
		if v != v {
			half = uint16(bits>>16) | 0x40 // rounding could make it infinite
		}
		binary.LittleEndian.PutUint16(out[2*i:2*i+2], half)
	}
	return b
}

func unpackBF16(dst []float32, b []byte) error {
	if len(b) != 2*len(dst) {
		return malformed("%d bytes of bf16 for %d elements", len(b), len(dst))
	}
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:2*i+2])) << 16)
	}
	return nil
}
