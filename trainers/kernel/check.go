package kernel

// checkOperands is checkMatrix for A and B as they are stored.
func checkOperands(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int) {
	if transA {
		checkMatrix(a, k, m, lda)
	} else {
		checkMatrix(a, m, k, lda)
	}
	if transB {
		checkMatrix(b, n, k, ldb)
	} else {
		checkMatrix(b, k, n, ldb)
	}
}

// checkMatrix panics if rows × cols elements with that stride are not inside x. The assembly relies on it: it
// has no bounds checks.
func checkMatrix(x []float32, rows, cols, stride int) {
	if rows < 0 || cols < 0 {
		panic("kernel: negative size")
	}
	if stride < cols {
		panic("kernel: row stride below the width")
	}
	if rows == 0 || cols == 0 {
		return
	}
	if cols > len(x) || rows-1 > (len(x)-cols)/stride { // that is (rows-1)*stride+cols > len(x), but cannot overflow
		panic("kernel: slice too short for the matrix")
	}
}
