package kernel

import "unsafe"

//go:generate go run gen_tiles.go -out .

// strip tells a micro-kernel about one column strip of C = alpha*A*B + beta*C. Strides are in bytes. The assembly
// reads it and does not change it.
type strip struct {
	a, b, c unsafe.Pointer
	aStride uintptr // Rows kernels: from row to row of A. Cols kernels: from one k to the next; 0 if packed tile by tile.
	aNext   uintptr // what a tile adds to a for each of its rows
	bRow    uintptr // from one k to the next
	ahead   uintptr // from a row of B to the one to prefetch with it
	cRow    uintptr
	k       int
	rows    int
	last    int // Edge and Narrow kernels: columns of the last vector, at least 1
	alpha   float32
	beta    float32

	// k may come in several runs of equal length: then A goes on by aJump from the end of one to the start of the next.
	// So a window over an image is read where it stands.
	segments int // 0 and 1 are the same
	aJump    uintptr

	bias unsafe.Pointer // added to every row at the end, unless nil
	relu int            // not 0: negative results become 0, after the bias
}

// The micro-kernels. Rows kernels read A along its rows as it is stored; Cols kernels read the elements of a column
// of A one after the other, as they stand in a packed panel and in a stored transpose. A plain strip is two vectors
// wide; of an Edge strip the second is cut; a Narrow strip is one vector, cut or not.

//go:noescape
func stripAVX512Rows(t *strip)

//go:noescape
func stripAVX512RowsEdge(t *strip)

//go:noescape
func stripAVX512RowsNarrow(t *strip)

//go:noescape
func stripAVX512Cols(t *strip)

//go:noescape
func stripAVX512ColsEdge(t *strip)

//go:noescape
func stripAVX512ColsNarrow(t *strip)

//go:noescape
func stripAVX2Rows(t *strip)

//go:noescape
func stripAVX2RowsEdge(t *strip)

//go:noescape
func stripAVX2RowsNarrow(t *strip)

//go:noescape
func stripAVX2Cols(t *strip)

//go:noescape
func stripAVX2ColsEdge(t *strip)

//go:noescape
func stripAVX2ColsNarrow(t *strip)

// transpose8 writes the transpose of 8 rows and 8*blocks columns of src to dst. Strides are in bytes.
//
//go:noescape
func transpose8(dst unsafe.Pointer, dstRow uintptr, src unsafe.Pointer, srcRow uintptr, blocks int)

// transposeAdd8 is transpose8 with dst = src^T + beta*dst.
//
//go:noescape
func transposeAdd8(dst unsafe.Pointer, dstRow uintptr, src unsafe.Pointer, srcRow uintptr, blocks int, beta float32)

// axpy computes y += alpha*x over n elements with fused multiply-add.
//
//go:noescape
func axpy(n int, alpha float32, x, y unsafe.Pointer)
