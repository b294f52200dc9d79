package safetensors

import (
	"fmt"
	"math"

	"dkpipe/pipeline"
)

// maxHeader is the largest header that is read or written, in bytes, as in the reference implementation.
const maxHeader = 100_000_000

const metadataKey = "__metadata__"

// Entry describes one tensor of a file.
type Entry struct {
	Name  string
	DType string // F32, and what other programs write: F64, I64, BF16, …
	Shape []int  // empty for a scalar
	Off   int64  // of its first byte in the file
	Len   int64  // bytes
}

// Elements is the number of elements.
func (e Entry) Elements() int {
	n := 1
	for _, d := range e.Shape {
		n *= d
	}
	return n
}

// width gives the bytes of one element, 0 for a type that is not known.
func width(dtype string) int64 {
	switch dtype {
	case "F64", "I64", "U64":
		return 8
	case "F32", "I32", "U32":
		return 4
	case "F16", "BF16", "I16", "U16":
		return 2
	case "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL":
		return 1
	}
	return 0
}

// byteLen is the size of a tensor, or -1 if the shape has a negative dimension or does not fit an int64.
func byteLen(shape []int, width int64) int64 {
	n := width
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt64/int64(d) {
			return -1
		}
		n *= int64(d)
	}
	return n
}

func corrupt(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: "safetensors: " + fmt.Sprintf(format, args...)}
}
