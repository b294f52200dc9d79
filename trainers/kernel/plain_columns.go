package kernel

import "math"

// run is how many rows a column is summed over before the sum is added to the total.
const run = 64

// columnRuns adds to sums what add puts into part for every row i and the columns from j.
func columnRuns(rows int, sums []float32, add func(i, j int, part []float32)) {
	var room [16]float32
	for j := 0; j < len(sums); j += len(room) {
		part := room[:min(len(room), len(sums)-j)]
		for i := 0; i < rows; i += run {
			clear(part)
			for l := i; l < min(i+run, rows); l++ {
				add(l, j, part)
			}
			for c, v := range part {
				sums[j+c] += v
			}
		}
	}
}

func (plain) AddColumnSums(rows, cols int, x, sums []float32) {
	checkMatrix(x, rows, cols, cols)
	columnRuns(rows, sums[:cols], func(i, j int, part []float32) {
		for c, v := range x[i*cols+j:][:len(part)] {
			part[c] += v
		}
	})
}

func (plain) AddColumnDots(rows, cols int, x, y, sums []float32) {
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	columnRuns(rows, sums[:cols], func(i, j int, part []float32) {
		y := y[i*cols+j:][:len(part)]
		for c, v := range x[i*cols+j:][:len(part)] {
			part[c] += float32(v * y[c])
		}
	})
}

func (plain) AddColumnSquares(rows, cols int, x, centre, sums []float32) {
	checkMatrix(x, rows, cols, cols)
	centre = centre[:cols]
	columnRuns(rows, sums[:cols], func(i, j int, part []float32) {
		for c, v := range x[i*cols+j:][:len(part)] {
			d := v - centre[j+c]
			part[c] += float32(d * d)
		}
	})
}

func (plain) ScaleColumns(rows, cols int, x, scale, shift, y []float32) {
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	scale, shift = scale[:cols], shift[:cols]
	for i := range rows {
		out := y[i*cols:][:cols]
		for j, v := range x[i*cols:][:cols] {
			out[j] = float32(v*scale[j]) + shift[j]
		}
	}
}

func (plain) BlendColumns(rows, cols int, x, a, y, b, c, z []float32) {
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	checkMatrix(z, rows, cols, cols)
	a, b, c = a[:cols], b[:cols], c[:cols]
	for i := range rows {
		u, out := y[i*cols:][:cols], z[i*cols:][:cols]
		for j, v := range x[i*cols:][:cols] {
			out[j] = float32(v*a[j]) + float32(u[j]*b[j]) + c[j]
		}
	}
}

func (plain) Softmax(rows, cols int, x, y []float32) {
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	if cols == 0 {
		return
	}
	for i := range rows {
		in, out := x[i*cols:][:cols], y[i*cols:][:cols]
		top := in[0]
		for _, v := range in[1:] {
			top = max(top, v)
		}
		var sum float64
		for j, v := range in {
			e := math.Exp(float64(v - top))
			sum += e
			out[j] = float32(e)
		}
		scale := float32(1 / sum)
		for j := range out {
			out[j] *= scale
		}
	}
}
