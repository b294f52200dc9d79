package kernel

import "math"

// run is how many rows a column is summed over before the sum is added to the total.
const run = 64

// A term is what a row adds to the sum of its column.
type term int

const (
	itself     term = iota // x
	withOther              // x*y, with y a matrix too
	fromCentre             // (x-y)², with y a row
)

const columnsAtATime = 16

// addColumns adds the terms of rows to sums, in runs, for some columns at a time.
func addColumns(kind term, rows, cols int, x, y, sums []float32) {
	for j := 0; j < cols; j += columnsAtATime {
		var room [columnsAtATime]float32
		part := room[:min(columnsAtATime, cols-j)]
		for i := range rows {
			line := x[i*cols+j:][:len(part)]
			switch kind {
			case itself:
				for c, v := range line {
					part[c] += v
				}
			case withOther:
				other := y[i*cols+j:][:len(part)]
				for c, v := range line {
					part[c] += float32(v * other[c])
				}
			case fromCentre:
				centre := y[j:][:len(part)]
				for c, v := range line {
					d := v - centre[c]
					part[c] += float32(d * d)
				}
			}
			if i%run == run-1 || i == rows-1 {
				for c, v := range part {
					sums[j+c] += v
				}
				clear(part)
			}
		}
	}
}

func (plain) AddColumnSums(rows, cols int, x, sums []float32) {
	checkMatrix(x, rows, cols, cols)
	addColumns(itself, rows, cols, x, nil, sums[:cols])
}

func (plain) AddColumnDots(rows, cols int, x, y, sums []float32) {
	checkMatrix(x, rows, cols, cols)
	checkMatrix(y, rows, cols, cols)
	addColumns(withOther, rows, cols, x, y, sums[:cols])
}

func (plain) AddColumnSquares(rows, cols int, x, centre, sums []float32) {
	checkMatrix(x, rows, cols, cols)
	addColumns(fromCentre, rows, cols, x, centre[:cols], sums[:cols])
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
