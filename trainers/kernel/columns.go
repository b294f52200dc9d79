package kernel

// Convolution by columns: the windows of some rows of the result are laid out as rows of a matrix (im2col), and a
// product does the rest. It is what every set can do; the assembly sets read large images where they stand instead.

// columnFloats is about how much is laid out at a time: 1 MiB, which the second-level cache holds; columnRows is how
// many rows of the matrix there are at least, so that the product reads the filters for many rows.
const (
	columnFloats = 1 << 18
	columnRows   = 256
)

// flat tells that the windows are the pixels: the layout would be a copy of the images.
func (g *Window) flat() bool {
	return g.KH == 1 && g.KW == 1 && g.SY == 1 && g.SX == 1 && g.Top == 0 && g.Left == 0 && g.OH == g.H && g.OW == g.W
}

// piece is how many rows of results are laid out at a time.
func (g *Window) piece() int {
	rows := max(columnFloats/g.cells(), columnRows)
	return max(rows/g.OW, 1)
}

func convByColumns(s Products, b *scratch, g *Window, n, o int, x, filters, bias []float32, relu bool, y []float32) {
	if g.flat() {
		s.Linear(n*g.H*g.W, o, g.C, x, filters, bias, relu, y)
		return
	}
	columns := grow(&b.columns, g.piece()*g.OW*g.cells())
	for p := 0; p < n*g.OH; p += g.piece() {
		rows := min(g.piece(), n*g.OH-p)
		g.lay(x, columns, p, rows)
		s.Linear(rows*g.OW, o, g.cells(), columns, filters, bias, relu, y[p*g.OW*o:])
	}
}

func filterGradByColumns(s Products, b *scratch, g *Window, n, o int, x, dy, dw []float32) {
	if g.flat() {
		s.Gemm(true, false, g.C, o, n*g.H*g.W, 1, x, g.C, dy, o, 1, dw, o)
		return
	}
	columns := grow(&b.columns, g.piece()*g.OW*g.cells())
	for p := 0; p < n*g.OH; p += g.piece() {
		rows := min(g.piece(), n*g.OH-p)
		g.lay(x, columns, p, rows)
		s.Gemm(true, false, g.cells(), o, rows*g.OW, 1, columns, g.cells(), dy[p*g.OW*o:], o, 1, dw, o)
	}
}

func inputGradByColumns(s Products, b *scratch, g *Window, n, o int, dy, filters, dx []float32) {
	if g.flat() {
		s.Gemm(false, true, n*g.H*g.W, g.C, o, 1, dy, o, filters, o, 0, dx, g.C)
		return
	}
	clear(dx[:n*g.in()])
	columns := grow(&b.columns, g.piece()*g.OW*g.cells())
	for p := 0; p < n*g.OH; p += g.piece() {
		rows := min(g.piece(), n*g.OH-p)
		s.Gemm(false, true, rows*g.OW, g.cells(), o, 1, dy[p*g.OW*o:], o, filters, o, 0, columns, g.cells())
		g.gather(columns, dx, p, rows)
	}
}

// lay writes the windows of rows p to p+rows of the results (all images' rows counted through) to columns.
func (g *Window) lay(x, columns []float32, p, rows int) {
	for ; rows > 0; p, rows = p+1, rows-1 {
		image, oy := x[p/g.OH*g.in():][:g.in()], p%g.OH
		for ox := range g.OW {
			row := columns[:g.cells()]
			columns = columns[g.cells():]
			y0, x0 := oy*g.SY-g.Top, ox*g.SX-g.Left
			fromX, toX := clip(x0, g.KW, g.DX, g.W)
			for ky := range g.KH {
				line := row[ky*g.KW*g.C:][:g.KW*g.C]
				iy := y0 + ky*g.DY
				if iy < 0 || iy >= g.H || fromX >= toX {
					clear(line)
					continue
				}
				clear(line[:fromX*g.C])
				clear(line[toX*g.C:])
				if g.DX == 1 {
					copy(line[fromX*g.C:toX*g.C], image[(iy*g.W+x0+fromX)*g.C:])
					continue
				}
				for kx := fromX; kx < toX; kx++ {
					copy(line[kx*g.C:][:g.C], image[(iy*g.W+x0+kx*g.DX)*g.C:])
				}
			}
		}
	}
}

// gather adds columns, laid out as by lay, to the cells of the images that they stand for.
func (g *Window) gather(columns, dx []float32, p, rows int) {
	for ; rows > 0; p, rows = p+1, rows-1 {
		image, oy := dx[p/g.OH*g.in():][:g.in()], p%g.OH
		for ox := range g.OW {
			row := columns[:g.cells()]
			columns = columns[g.cells():]
			y0, x0 := oy*g.SY-g.Top, ox*g.SX-g.Left
			fromX, toX := clip(x0, g.KW, g.DX, g.W)
			fromY, toY := clip(y0, g.KH, g.DY, g.H)
			for ky := fromY; ky < toY; ky++ {
				for kx := fromX; kx < toX; kx++ {
					to := image[((y0+ky*g.DY)*g.W+x0+kx*g.DX)*g.C:][:g.C]
					for c, v := range row[(ky*g.KW+kx)*g.C:][:g.C] {
						to[c] += v
					}
				}
			}
		}
	}
}
