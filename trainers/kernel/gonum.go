package kernel

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// gonumSet is the portable set: it runs wherever Go runs, and the others are tested against the same table.
type gonumSet struct {
	plain
	memory scratches
}

var _ Set = (*gonumSet)(nil)

// gonum's Sgemm starts goroutines as soon as C has four blocks of 64×64, which would break the promise of one thread
// a call. Tiles of at most three blocks stay below that; wide rather than tall, because its inner loops run along a
// row of C. Cutting k too keeps the tile of B (192 KiB) in the second-level cache.
const (
	tileM = 64
	tileN = 3 * 64
	tileK = 256
)

func (*gonumSet) Name() string { return "gonum" }

func (*gonumSet) Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if m == 0 || n == 0 {
		return
	}
	checkMatrix(c, m, n, ldc)
	if k == 0 || alpha == 0 {
		scale(m, n, beta, c, ldc)
		return
	}
	checkOperands(transA, transB, m, n, k, a, lda, b, ldb)
	tA, tB := blas.NoTrans, blas.NoTrans
	if transA {
		tA = blas.Trans
	}
	if transB {
		tB = blas.Trans
	}
	for j := 0; j < n; j += tileN {
		nj := min(tileN, n-j)
		for l := 0; l < k; l += tileK {
			kl := min(tileK, k-l)
			tileBeta := beta
			if l > 0 {
				tileBeta = 1
			}
			bo := l*ldb + j
			if transB {
				bo = j*ldb + l
			}
			for i := 0; i < m; i += tileM {
				mi := min(tileM, m-i)
				ao := i*lda + l
				if transA {
					ao = l*lda + i
				}
				gonum.Implementation{}.Sgemm(tA, tB, mi, nj, kl, alpha, a[ao:], lda, b[bo:], ldb, tileBeta, c[i*ldc+j:], ldc)
			}
		}
	}
}

// scale computes C = beta*C; beta 0 clears, whatever C held.
func scale(m, n int, beta float32, c []float32, ldc int) {
	if beta == 1 {
		return
	}
	for i := range m {
		row := c[i*ldc : i*ldc+n]
		if beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= beta
		}
	}
}

func (*gonumSet) Axpy(alpha float32, x, y []float32) {
	if len(x) == 0 {
		return
	}
	gonum.Implementation{}.Saxpy(len(x), alpha, x, 1, y[:len(x)], 1)
}

func (s *gonumSet) Linear(m, n, k int, x, w, bias []float32, relu bool, y []float32) {
	s.Gemm(false, false, m, n, k, 1, x, k, w, n, 0, y, n)
	finish(m, n, bias, relu, y)
}

// finish adds bias to the rows of Y = m×n and takes what is below 0 away if relu.
func finish(m, n int, bias []float32, relu bool, y []float32) {
	if bias == nil && !relu {
		return
	}
	for i := range m {
		row := y[i*n:][:n]
		if bias != nil {
			for j, b := range bias[:n] {
				row[j] += b
			}
		}
		if relu {
			plain{}.ReLU(row, row)
		}
	}
}

func (s *gonumSet) Conv(g *Window, n, o int, x, filters, bias []float32, relu bool, y []float32) {
	g.checkConv(n, o, x, filters, y)
	b := s.memory.acquire()
	defer s.memory.release(b)
	convByColumns(s, b, g, n, o, x, filters, bias, relu, y)
}

func (s *gonumSet) ConvGradFilters(g *Window, n, o int, x, dy, dw []float32) {
	g.checkConv(n, o, x, dw, dy)
	b := s.memory.acquire()
	defer s.memory.release(b)
	filterGradByColumns(s, b, g, n, o, x, dy, dw)
}

func (s *gonumSet) ConvGradInput(g *Window, n, o int, dy, filters, dx []float32) {
	g.checkConv(n, o, dx, filters, dy)
	b := s.memory.acquire()
	defer s.memory.release(b)
	inputGradByColumns(s, b, g, n, o, dy, filters, dx)
}
