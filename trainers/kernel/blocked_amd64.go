package kernel

import (
	"sync"
	"unsafe"
)

// blockedSet multiplies by assembly micro-kernels. It works on blocks that fit the caches, in the way of
//
//	Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008,
//
// but copies an operand into blocks only where that pays: the products of a training step are so small that copying
// the weights costs up to a third of the time. Its two kinds differ in the micro-kernel alone and give the same bits.
type blockedSet struct {
	name  string
	wide  bool // AVX-512 strips of 32 columns, else AVX2 strips of 16
	width int  // columns of a strip

	mu   sync.Mutex
	free []*workspace // as many as there ever were calls at the same time

	memory scratches
}

var _ Set = (*blockedSet)(nil)

func newAVX512() *blockedSet { return &blockedSet{name: "avx512", wide: true, width: 32} }

func newAVX2() *blockedSet { return &blockedSet{name: "avx2", width: 16} }

const (
	blockK     = 256 // depth: a strip of B of that depth and a tile's rows of A share the first-level cache
	blockM     = 256 // rows of A a block; with blockK 256 KiB, a quarter of the second-level cache
	blockN     = 512 // columns of packed B
	ahead      = 16  // rows of B from a prefetch to its use
	turnedRows = 48  // rows of a transposed product that are turned back at a time
	maxTile    = 12
	maxWidth   = 32
	rowGap     = 16 // elements between copied rows, so that they do not all start in the same set of the cache
)

// aliases tells that rows so many elements apart fall into few sets of the caches: in an 8-way first-level cache of
// 32 KiB, rows 4 KiB apart share one set, so 12 of them displace each other. Widths of 512 and 1024 are common.
func aliases(stride int) bool { return stride%512 == 0 }

// inPlace is up to how many rows of C the rows of B, so far apart, are read where they stand. It is measured. More
// rows pay for a copy of B. So do a few if its rows compete for sets of the caches: then the rate without a copy varies
// between processes and can fall to a third (BENCHMARKS.md).
func (s *blockedSet) inPlace(stride int) int {
	switch {
	case aliases(stride) || stride%256 == 0 && !s.wide: // narrow strips ask for rows four times as often
		return 16
	case s.wide:
		return 256
	}
	return 96
}

// workspace holds the packed blocks of one call. Its size does not depend on the matrices.
type workspace struct {
	b    [blockK * blockN]float32
	a    [(blockK + rowGap) * (blockM + maxTile)]float32
	turn [turnedRows * maxWidth]float32
}

func (s *blockedSet) acquire() *workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		w := s.free[n-1]
		s.free = s.free[:n-1]
		return w
	}
	return new(workspace)
}

func (s *blockedSet) release(w *workspace) {
	s.mu.Lock()
	s.free = append(s.free, w)
	s.mu.Unlock()
}

func (s *blockedSet) Name() string { return s.name }

func (s *blockedSet) Axpy(alpha float32, x, y []float32) {
	if len(x) == 0 {
		return
	}
	y = y[:len(x)]
	axpy(len(x), alpha, unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]))
}

// product is one call of Gemm. The slices are checked: every address that the loops form from m, n, k is inside.
type product struct {
	transA, transB bool
	m, n, k        int
	alpha, beta    float32
	a, b, c        []float32
	lda, ldb, ldc  int
	bias           []float32 // nil: none
	relu           bool
}

func (s *blockedSet) Linear(m, n, k int, x, w, bias []float32, relu bool, y []float32) {
	if m == 0 || n == 0 {
		return
	}
	checkMatrix(y, m, n, n)
	if bias != nil {
		checkLength(bias, n)
	}
	if k == 0 {
		clear(y[:m*n])
		finish(m, n, bias, relu, y)
		return
	}
	checkOperands(false, false, m, n, k, x, k, w, n)
	s.multiply(&product{m: m, n: n, k: k, alpha: 1, a: x, b: w, c: y, lda: k, ldb: n, ldc: n, bias: bias, relu: relu})
}

func (s *blockedSet) Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if m == 0 || n == 0 {
		return
	}
	checkMatrix(c, m, n, ldc)
	if k == 0 || alpha == 0 {
		scale(m, n, beta, c, ldc)
		return
	}
	checkOperands(transA, transB, m, n, k, a, lda, b, ldb)
	s.multiply(&product{transA: transA, transB: transB, m: m, n: n, k: k, alpha: alpha, beta: beta, a: a, b: b, c: c, lda: lda, ldb: ldb, ldc: ldc})
}

// multiply chooses the way of a product that is not empty.
func (s *blockedSet) multiply(p *product) {
	packA := (p.transA || aliases(p.lda) && p.m > 2) && p.n > 2*s.width // else the few strips read A where it stands
	packB := p.transB || p.m > s.inPlace(p.ldb)
	var w *workspace
	if packA || packB {
		w = s.acquire()
		defer s.release(w)
	}
	// Something must be transposed: all of B, or A and, once for each block of k, C.
	if p.transB && !p.transA && p.m*p.k+p.m*p.n*blocks(p.k, blockK) < p.n*p.k {
		s.turned(p, w)
		return
	}
	s.straight(p, w, packA, packB)
}

// sizeOf is the size in bytes of n elements.
func sizeOf(n int) uintptr { return uintptr(n) * unsafe.Sizeof(float32(0)) }

// blocks is how many blocks of at most size cover n.
func blocks(n, size int) int { return (n + size - 1) / size }

// evenly is the size of equal blocks that cover n, at most size, rounded up to a multiple of unit.
func evenly(n, size, unit int) int {
	each := blocks(n, blocks(n, size))
	return blocks(each, unit) * unit
}

// straight is C = op(A)*op(B) strip by strip.
func (s *blockedSet) straight(p *product, w *workspace, packA, packB bool) {
	kb, mb, nb := evenly(p.k, blockK, 4), evenly(p.m, blockM, maxTile), p.n
	if packB {
		nb = min(nb, blockN)
	}
	t := strip{aStride: sizeOf(p.lda), aNext: sizeOf(p.lda), bRow: sizeOf(p.ldb), ahead: sizeOf(ahead * p.ldb), cRow: sizeOf(p.ldc), alpha: p.alpha}
	if p.transA {
		t.aNext = sizeOf(1)
	}
	for j := 0; j < p.n; j += nb {
		nj := min(nb, p.n-j)
		for l := 0; l < p.k; l += kb {
			t.k, t.beta = min(kb, p.k-l), 1
			if l == 0 {
				t.beta = p.beta
			}
			last := l+kb >= p.k // the sums are whole after this block
			t.relu = 0
			if last && p.relu {
				t.relu = 1
			}
			if packB {
				s.packB(w, p, l, j, t.k, nj)
				t.bRow, t.ahead = sizeOf(s.width), sizeOf(ahead*s.width)
			}
			for i := 0; i < p.m; i += mb {
				t.rows = min(mb, p.m-i)
				switch {
				case packA && p.transA:
					s.packA(w, p, i, l, t.rows, t.k)
					t.a, t.aStride, t.aNext = unsafe.Pointer(&w.a), 0, sizeOf(t.k)
				case packA:
					copyRows(w.a[:], t.k+rowGap, p.a[i*p.lda+l:], p.lda, t.rows, t.k)
					t.a, t.aStride, t.aNext = unsafe.Pointer(&w.a), sizeOf(t.k+rowGap), sizeOf(t.k+rowGap)
				case p.transA:
					t.a = unsafe.Pointer(&p.a[l*p.lda+i])
				default:
					t.a = unsafe.Pointer(&p.a[i*p.lda+l])
				}
				for o := 0; o < nj; o += s.width {
					if packB {
						t.b = unsafe.Pointer(&w.b[o*t.k])
					} else {
						t.b = unsafe.Pointer(&p.b[l*p.ldb+j+o])
					}
					t.c = unsafe.Pointer(&p.c[i*p.ldc+j+o])
					if last && p.bias != nil {
						t.bias = unsafe.Pointer(&p.bias[j+o])
					}
					s.run(&t, p.transA, min(s.width, nj-o))
				}
			}
		}
	}
}

// turned is C^T = B*A^T with B as it is stored: A, the smaller operand, is packed, and C is turned back piece by piece.
// Where this is cheaper, m is below blockK (m*k + m*n*k/blockK < n*k), so a block of A fits the place of one of B.
func (s *blockedSet) turned(p *product, w *workspace) {
	kb := evenly(p.k, blockK, 4)
	t := strip{bRow: sizeOf(s.width), ahead: sizeOf(ahead * s.width), c: unsafe.Pointer(&w.turn), cRow: sizeOf(s.width), alpha: p.alpha}
	for l := 0; l < p.k; l += kb {
		t.k = min(kb, p.k-l)
		beta := float32(1)
		if l == 0 {
			beta = p.beta
		}
		packStrips(w.b[:], s.width, p.a[l:], p.lda, p.m, t.k)
		for j := 0; j < p.n; j += turnedRows {
			t.rows = min(turnedRows, p.n-j)
			t.a, t.aStride = unsafe.Pointer(&p.b[j*p.ldb+l]), sizeOf(p.ldb)
			if aliases(p.ldb) {
				copyRows(w.a[:], t.k+rowGap, p.b[j*p.ldb+l:], p.ldb, t.rows, t.k)
				t.a, t.aStride = unsafe.Pointer(&w.a), sizeOf(t.k+rowGap)
			}
			t.aNext = t.aStride
			for i := 0; i < p.m; i += s.width {
				cols := min(s.width, p.m-i)
				t.b = unsafe.Pointer(&w.b[i*t.k])
				s.run(&t, false, cols)
				transposeAdd(p.c[i*p.ldc+j:], p.ldc, w.turn[:], s.width, t.rows, cols, beta)
			}
		}
	}
}

// run computes one strip of cols columns.
func (s *blockedSet) run(t *strip, transA bool, cols int) {
	edge, narrow := cols < s.width, cols <= s.width/2
	t.last = cols
	if !narrow {
		t.last -= s.width / 2
	}
	switch {
	case s.wide && !transA:
		switch {
		case narrow:
			stripAVX512RowsNarrow(t)
		case edge:
			stripAVX512RowsEdge(t)
		default:
			stripAVX512Rows(t)
		}
	case s.wide:
		switch {
		case narrow:
			stripAVX512ColsNarrow(t)
		case edge:
			stripAVX512ColsEdge(t)
		default:
			stripAVX512Cols(t)
		}
	case !transA:
		switch {
		case narrow:
			stripAVX2RowsNarrow(t)
		case edge:
			stripAVX2RowsEdge(t)
		default:
			stripAVX2Rows(t)
		}
	default:
		switch {
		case narrow:
			stripAVX2ColsNarrow(t)
		case edge:
			stripAVX2ColsEdge(t)
		default:
			stripAVX2Cols(t)
		}
	}
}
