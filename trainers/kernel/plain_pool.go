package kernel

// A row of windows of a pooling: those of one row of the result, with the cells that lie inside the image in that
// direction.
type poolRow struct {
	top        int // row of the image under the first row of the windows; may lie above it
	from, to   int // rows of the windows that lie inside
	image, out int // offsets of the image in x and of the row of results in y
}

// poolRow is row i of the results of all images, counted through.
func (g *Window) poolRow(i int) poolRow {
	r := poolRow{top: i%g.OH*g.SY - g.Top, image: i / g.OH * g.in(), out: i * g.OW * g.C}
	r.from, r.to = clip(r.top, g.KH, g.DY, g.H)
	return r
}

func (plain) MaxPool(g *Window, n int, x, y []float32, cells []uint8) {
	g.checkPool(n, x, y, cells)
	for i := range n * g.OH {
		g.maxPool(g.poolRow(i), x, y, cells, 0, g.OW, 0)
	}
}

// maxPool does the results from to to of a row, for the channels from first on.
func (g *Window) maxPool(r poolRow, x, y []float32, cells []uint8, from, to, first int) {
	for ox := from; ox < to; ox++ {
		left := ox*g.SX - g.Left
		fromX, toX := clip(left, g.KW, g.DX, g.W)
		for c := first; c < g.C; c++ {
			at := r.out + ox*g.C + c
			chosen := false
			for ky := r.from; ky < r.to; ky++ {
				for kx := fromX; kx < toX; kx++ {
					v := x[r.image+((r.top+ky*g.DY)*g.W+left+kx*g.DX)*g.C+c]
					if !chosen || v > y[at] || v != v {
						y[at], cells[at], chosen = v, uint8(ky*g.KW+kx), true
					}
				}
			}
		}
	}
}

func (plain) MaxPoolGrad(g *Window, n int, cells []uint8, dy, dx []float32) {
	g.checkPool(n, dx, dy, cells)
	clear(dx[:n*g.in()])
	for i := range n * g.OH {
		g.maxPoolGrad(g.poolRow(i), cells, dy, dx, 0, g.OW, 0)
	}
}

func (g *Window) maxPoolGrad(r poolRow, cells []uint8, dy, dx []float32, from, to, first int) {
	for ox := from; ox < to; ox++ {
		left := ox*g.SX - g.Left
		for c := first; c < g.C; c++ {
			at := r.out + ox*g.C + c
			ky, kx := int(cells[at])/g.KW, int(cells[at])%g.KW
			dx[r.image+((r.top+ky*g.DY)*g.W+left+kx*g.DX)*g.C+c] += dy[at]
		}
	}
}
