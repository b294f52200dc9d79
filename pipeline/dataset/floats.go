package dataset

import (
	"encoding/binary"
	"unsafe"
)

// littleEndian tells whether a float32 in memory is what f32le stores.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// asBytes is the memory of f.
func asBytes(f []float32) []byte {
	if len(f) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 4*len(f))
}

// putFloats writes src as little-endian float32; len(dst) is 4*len(src).
func putFloats(dst []byte, src []float32) {
	copy(dst, asBytes(src))
	if !littleEndian {
		swap4(dst)
	}
}

// getFloats reads little-endian float32 of any alignment; len(src) is 4*len(dst).
func getFloats(dst []float32, src []byte) {
	b := asBytes(dst)
	copy(b, src)
	if !littleEndian {
		swap4(b)
	}
}

func swap4(b []byte) {
	for ; len(b) >= 4; b = b[4:] {
		b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	}
}
