package kernel

// Set is a family of single-threaded float32 kernels. It is safe for concurrent use. Sizes and strides are the
// program's own, not user input: slices that are too short for them panic.
type Set interface {
	// Name is what logs and benchmarks call it: avx512, avx2, gonum.
	Name() string
	// Gemm computes C = alpha*op(A)*op(B) + beta*C on row-major matrices; op(A) is m×k, op(B) is k×n, and lda, ldb,
	// ldc are row strides of A, B and C as they are stored. C must not overlap A or B. With beta 0 the old content
	// of C is not read, so it may be NaN. m, n and k may be 0; with k = 0 or alpha = 0 it is C = beta*C. A set may leave
	// out terms whose factor from A is 0, so a NaN or infinity in B need not spread through those.
	Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int)
	// Axpy computes y += alpha*x over len(x) elements; y is at least as long.
	Axpy(alpha float32, x, y []float32)
}
