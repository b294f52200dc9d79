package kernel

// Set is a family of single-threaded float32 kernels. It is safe for concurrent use; the caller brings workspaces.
type Set interface {
	// Name is what logs and benchmarks call it: avx512, avx2, gonum.
	Name() string
	// Gemm computes C = alpha*op(A)*op(B) + beta*C on row-major matrices; op(A) is m×k, op(B) is k×n, and lda, ldb,
	// ldc are row strides of A, B and C as they are stored.
	Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int)
	// Axpy computes y += alpha*x.
	Axpy(alpha float32, x, y []float32)
}
