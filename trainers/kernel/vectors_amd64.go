package kernel

import "unsafe"

//go:generate go run gen_vectors.go gen_columns.go gen_pool.go -out .

// vec tells an elementwise kernel about its slices, of n > 0 elements, and its numbers.
type vec struct {
	n          int
	a, b, c, d unsafe.Pointer
	s          [4]float32
}

// grid tells a column kernel about its matrices, of at least one row and column, row bytes from row to row, and its
// vectors along a row.
type grid struct {
	rows, cols int
	row        uintptr
	x, y       unsafe.Pointer
	u, v, w    unsafe.Pointer
	out        unsafe.Pointer
}

// pooling tells a pooling kernel about a row of windows whose parts inside the image are height × width cells.
type pooling struct {
	x, y, cells   unsafe.Pointer // first cell of the first window, its results, their cells' names
	windows       int
	channels      int     // AVX2: a multiple of 8, the rest is not touched
	pixel         int     // channels from a result to the next
	height, width int     // at least 1
	cell          uintptr // bytes from a cell to the next along a row of the window
	row           uintptr // bytes from behind the last cell of a row to the first of the next
	step          uintptr // bytes from a window to the next
	first, skip   int32   // name of the first cell; names from the one after a row's last to the next row's first
}

// The kernels of gen_vectors.go: what each computes is written at its head in the assembly.

//go:noescape
func addAVX512(t *vec)

//go:noescape
func mulAVX512(t *vec)

//go:noescape
func reluAVX512(t *vec)

//go:noescape
func reluGradAVX512(t *vec)

//go:noescape
func sigmoidAVX512(t *vec)

//go:noescape
func sigmoidGradAVX512(t *vec)

//go:noescape
func tanhAVX512(t *vec)

//go:noescape
func tanhGradAVX512(t *vec)

//go:noescape
func expAVX512(t *vec)

//go:noescape
func momentumAVX512(t *vec)

//go:noescape
func nesterovAVX512(t *vec)

//go:noescape
func adamAVX512(t *vec)

//go:noescape
func columnSumsAVX512(t *grid)

//go:noescape
func columnDotsAVX512(t *grid)

//go:noescape
func columnSquaresAVX512(t *grid)

//go:noescape
func columnScaleAVX512(t *grid)

//go:noescape
func columnBlendAVX512(t *grid)

//go:noescape
func softmaxAVX512(t *grid)

//go:noescape
func maxPoolAVX512(t *pooling)

//go:noescape
func maxPoolGradAVX512(t *pooling)

//go:noescape
func addAVX2(t *vec)

//go:noescape
func mulAVX2(t *vec)

//go:noescape
func reluAVX2(t *vec)

//go:noescape
func reluGradAVX2(t *vec)

//go:noescape
func sigmoidAVX2(t *vec)

//go:noescape
func sigmoidGradAVX2(t *vec)

//go:noescape
func tanhAVX2(t *vec)

//go:noescape
func tanhGradAVX2(t *vec)

//go:noescape
func expAVX2(t *vec)

//go:noescape
func momentumAVX2(t *vec)

//go:noescape
func nesterovAVX2(t *vec)

//go:noescape
func adamAVX2(t *vec)

//go:noescape
func columnSumsAVX2(t *grid)

//go:noescape
func columnDotsAVX2(t *grid)

//go:noescape
func columnSquaresAVX2(t *grid)

//go:noescape
func columnScaleAVX2(t *grid)

//go:noescape
func columnBlendAVX2(t *grid)

//go:noescape
func softmaxAVX2(t *grid)

//go:noescape
func maxPoolAVX2(t *pooling)

//go:noescape
func maxPoolGradAVX2(t *pooling)
