package kernel

import "unsafe"

// The methods here check lengths, for the assembly does not, and call the kernel of the set's width. They call it by
// its name, not through a variable: only then the compiler knows that the argument stays on the stack.

func (s *blockedSet) Add(x, y, z []float32) {
	if len(x) == 0 {
		return
	}
	checkLength(y, len(x))
	checkLength(z, len(x))
	t := vec{n: len(x), a: unsafe.Pointer(&x[0]), b: unsafe.Pointer(&y[0]), c: unsafe.Pointer(&z[0])}
	if s.wide {
		addAVX512(&t)
	} else {
		addAVX2(&t)
	}
}

func (s *blockedSet) Mul(x, y, z []float32) {
	if len(x) == 0 {
		return
	}
	checkLength(y, len(x))
	checkLength(z, len(x))
	t := vec{n: len(x), a: unsafe.Pointer(&x[0]), b: unsafe.Pointer(&y[0]), c: unsafe.Pointer(&z[0])}
	if s.wide {
		mulAVX512(&t)
	} else {
		mulAVX2(&t)
	}
}

func (s *blockedSet) ReLU(x, y []float32) {
	if len(x) == 0 {
		return
	}
	checkLength(y, len(x))
	t := vec{n: len(x), a: unsafe.Pointer(&x[0]), b: unsafe.Pointer(&y[0])}
	if s.wide {
		reluAVX512(&t)
	} else {
		reluAVX2(&t)
	}
}

func (s *blockedSet) ReLUGrad(y, dy, dx []float32) {
	if len(y) == 0 {
		return
	}
	checkLength(dy, len(y))
	checkLength(dx, len(y))
	t := vec{n: len(y), a: unsafe.Pointer(&y[0]), b: unsafe.Pointer(&dy[0]), c: unsafe.Pointer(&dx[0])}
	if s.wide {
		reluGradAVX512(&t)
	} else {
		reluGradAVX2(&t)
	}
}

func (s *blockedSet) Sigmoid(x, y []float32) {
	if len(x) == 0 {
		return
	}
	checkLength(y, len(x))
	t := vec{n: len(x), a: unsafe.Pointer(&x[0]), b: unsafe.Pointer(&y[0])}
	if s.wide {
		sigmoidAVX512(&t)
	} else {
		sigmoidAVX2(&t)
	}
}

func (s *blockedSet) SigmoidGrad(y, dy, dx []float32) {
	if len(y) == 0 {
		return
	}
	checkLength(dy, len(y))
	checkLength(dx, len(y))
	t := vec{n: len(y), a: unsafe.Pointer(&y[0]), b: unsafe.Pointer(&dy[0]), c: unsafe.Pointer(&dx[0])}
	if s.wide {
		sigmoidGradAVX512(&t)
	} else {
		sigmoidGradAVX2(&t)
	}
}

func (s *blockedSet) Tanh(x, y []float32) {
	if len(x) == 0 {
		return
	}
	checkLength(y, len(x))
	t := vec{n: len(x), a: unsafe.Pointer(&x[0]), b: unsafe.Pointer(&y[0])}
	if s.wide {
		tanhAVX512(&t)
	} else {
		tanhAVX2(&t)
	}
}

func (s *blockedSet) TanhGrad(y, dy, dx []float32) {
	if len(y) == 0 {
		return
	}
	checkLength(dy, len(y))
	checkLength(dx, len(y))
	t := vec{n: len(y), a: unsafe.Pointer(&y[0]), b: unsafe.Pointer(&dy[0]), c: unsafe.Pointer(&dx[0])}
	if s.wide {
		tanhGradAVX512(&t)
	} else {
		tanhGradAVX2(&t)
	}
}

func (s *blockedSet) Exp(x, y []float32) {
	if len(x) == 0 {
		return
	}
	checkLength(y, len(x))
	t := vec{n: len(x), a: unsafe.Pointer(&x[0]), b: unsafe.Pointer(&y[0])}
	if s.wide {
		expAVX512(&t)
	} else {
		expAVX2(&t)
	}
}

func (s *blockedSet) Momentum(rate, momentum float32, nesterov bool, g, v, p []float32) {
	if len(g) == 0 {
		return
	}
	checkLength(v, len(g))
	checkLength(p, len(g))
	t := vec{n: len(g), a: unsafe.Pointer(&g[0]), b: unsafe.Pointer(&v[0]), c: unsafe.Pointer(&p[0]), s: [4]float32{rate, momentum}}
	switch {
	case s.wide && nesterov:
		nesterovAVX512(&t)
	case s.wide:
		momentumAVX512(&t)
	case nesterov:
		nesterovAVX2(&t)
	default:
		momentumAVX2(&t)
	}
}

func (s *blockedSet) Adam(rate, c1, c2, eps float32, g, m, v, p []float32) {
	if len(g) == 0 {
		return
	}
	checkLength(m, len(g))
	checkLength(v, len(g))
	checkLength(p, len(g))
	t := vec{n: len(g), a: unsafe.Pointer(&g[0]), b: unsafe.Pointer(&m[0]), c: unsafe.Pointer(&v[0]), d: unsafe.Pointer(&p[0]), s: [4]float32{rate, c1, c2, eps}}
	if s.wide {
		adamAVX512(&t)
	} else {
		adamAVX2(&t)
	}
}

func (s *blockedSet) AddColumnSums(rows, cols int, x, sums []float32) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix(x, rows, cols, cols)
	checkLength(sums, cols)
	t := grid{rows: rows, cols: cols, row: sizeOf(cols), x: unsafe.Pointer(&x[0]), out: unsafe.Pointer(&sums[0])}
	if s.wide {
		columnSumsAVX512(&t)
	} else {
		columnSumsAVX2(&t)
	}
}

func (s *blockedSet) AddColumnDots(rows, cols int, x, y, sums []float32) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	checkLength(sums, cols)
	t := grid{rows: rows, cols: cols, row: sizeOf(cols), x: unsafe.Pointer(&x[0]), y: unsafe.Pointer(&y[0]), out: unsafe.Pointer(&sums[0])}
	if s.wide {
		columnDotsAVX512(&t)
	} else {
		columnDotsAVX2(&t)
	}
}

func (s *blockedSet) AddColumnSquares(rows, cols int, x, centre, sums []float32) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix(x, rows, cols, cols)
	checkLength(centre, cols)
	checkLength(sums, cols)
	t := grid{rows: rows, cols: cols, row: sizeOf(cols), x: unsafe.Pointer(&x[0]), u: unsafe.Pointer(&centre[0]), out: unsafe.Pointer(&sums[0])}
	if s.wide {
		columnSquaresAVX512(&t)
	} else {
		columnSquaresAVX2(&t)
	}
}

func (s *blockedSet) ScaleColumns(rows, cols int, x, scale, shift, y []float32) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	checkLength(scale, cols)
	checkLength(shift, cols)
	t := grid{rows: rows, cols: cols, row: sizeOf(cols), x: unsafe.Pointer(&x[0]), u: unsafe.Pointer(&scale[0]), v: unsafe.Pointer(&shift[0]), out: unsafe.Pointer(&y[0])}
	if s.wide {
		columnScaleAVX512(&t)
	} else {
		columnScaleAVX2(&t)
	}
}

func (s *blockedSet) BlendColumns(rows, cols int, x, a, y, b, c, z []float32) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	checkMatrix(z, rows, cols, cols)
	checkLength(a, cols)
	checkLength(b, cols)
	checkLength(c, cols)
	t := grid{rows: rows, cols: cols, row: sizeOf(cols), x: unsafe.Pointer(&x[0]), y: unsafe.Pointer(&y[0]), u: unsafe.Pointer(&a[0]), v: unsafe.Pointer(&b[0]), w: unsafe.Pointer(&c[0]), out: unsafe.Pointer(&z[0])}
	if s.wide {
		columnBlendAVX512(&t)
	} else {
		columnBlendAVX2(&t)
	}
}

func (s *blockedSet) Softmax(rows, cols int, x, y []float32) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	t := grid{rows: rows, cols: cols, row: sizeOf(cols), x: unsafe.Pointer(&x[0]), out: unsafe.Pointer(&y[0])}
	if s.wide {
		softmaxAVX512(&t)
	} else {
		softmaxAVX2(&t)
	}
}
