package kernel

import "unsafe"

// Convolution without columns: along a row of the image the cells of a window are neighbours in memory, so a window is
// KH runs of KW*C floats, and the windows of one row of results start SX*C floats apart. That is a matrix for the
// micro-kernels as it stands, with k in KH segments. Rows of padding above and below are left out of the segments; with
// padding to the left or right, images are copied with it first.

// direct tells whether rows of so many results, whose windows start so many floats apart, are worth it. Short rows
// make low tiles, which read the filters too often; aliasing ones displace each other in the cache. Windows that
// reach far out of an image would need rows that are padding for the most part.
func (s *blockedSet) direct(g *Window, wide, apart int) bool {
	return !g.flat() && wide >= 10 && !aliases(apart) && (g.KW-1)*g.DX <= 16*g.W
}

func (s *blockedSet) Conv(g *Window, n, o int, x, filters, bias []float32, relu bool, y []float32) {
	g.checkConv(n, o, x, filters, y)
	if bias != nil {
		checkLength(bias, o)
	}
	b := s.memory.acquire()
	defer s.memory.release(b)
	if !s.direct(g, g.OW, g.SX*g.C) {
		convByColumns(s, b, g, n, o, x, filters, bias, relu, y)
		return
	}
	e := g.slide(o)
	e.bias, e.relu = bias, relu
	e.filters = filters
	if o > s.width {
		e.filters, e.packed = s.packFilters(b, filters, g.cells(), o), true
	}
	for i := range n {
		e.src = padded(&b.image, x[i*g.in():][:g.in()], g.H, g.W, g.C, g.Left, e.row)
		e.dst = y[i*g.out(o):][:g.out(o)]
		s.slide(&e)
	}
}

// padded gives an image with left columns of zeros before it and so many floats a row: itself if it has them already.
func padded(room *[]float32, x []float32, h, w, c, left, row int) []float32 {
	if row == w*c {
		return x
	}
	to := grow(room, h*row)
	for i := range h {
		line := to[i*row:][:row]
		clear(line[:left*c])
		copy(line[left*c:], x[i*w*c:][:w*c])
		clear(line[(left+w)*c:])
	}
	return to
}

// packFilters lays rows × o filters out strip by strip.
func (s *blockedSet) packFilters(b *scratch, filters []float32, rows, o int) []float32 {
	strips := blocks(o, s.width)
	to := grow(&b.filters, strips*rows*s.width)
	for j := range strips {
		copyRows(to[j*rows*s.width:], s.width, filters[j*s.width:], o, rows, min(s.width, o-j*s.width))
	}
	return to
}

// slide is a convolution of one image whose rows have their padding.
type slide struct {
	h, row, c      int // rows of the image, floats of a row, channels
	kh, kw         int
	sy, sx, dy, dx int
	top            int
	oh, ow, o      int

	src, filters, bias, dst []float32
	packed, relu            bool // filters are in strips
}

// slide is the convolution over an image with columns of padding.
func (g *Window) slide(o int) slide {
	right := max((g.OW-1)*g.SX+(g.KW-1)*g.DX+1-g.Left-g.W, 0)
	return slide{h: g.H, row: (g.Left + g.W + right) * g.C, c: g.C, kh: g.KH, kw: g.KW, sy: g.SY, sx: g.SX, dy: g.DY, dx: g.DX,
		top: g.Top, oh: g.OH, ow: g.OW, o: o}
}

func (s *blockedSet) slide(e *slide) {
	rows := e.kh * e.kw * e.c
	t := strip{aStride: sizeOf(e.sx * e.c), aNext: sizeOf(e.sx * e.c), cRow: sizeOf(e.o), rows: e.ow, alpha: 1}
	for j := 0; j < e.o; j += s.width {
		cols, filters, width := min(s.width, e.o-j), e.filters[j:], e.o
		if e.packed {
			filters, width = e.filters[j*rows:], s.width
		}
		t.bRow, t.ahead = sizeOf(width), sizeOf(ahead*width)
		for oy := range e.oh {
			t.c = unsafe.Pointer(&e.dst[oy*e.ow*e.o+j])
			at := oy*e.sy - e.top
			from, to := clip(at, e.kh, e.dy, e.h)
			if e.dx == 1 || from >= to {
				t.k, t.segments, t.beta = e.kw*e.c, to-from, 0
				t.aJump = sizeOf(e.dy*e.row - e.kw*e.c)
				if from >= to { // all padding
					t.k, from, at = 0, 0, 0
				}
				t.a = unsafe.Pointer(&e.src[(at+from*e.dy)*e.row])
				t.b = unsafe.Pointer(&filters[from*e.kw*e.c*width])
				e.last(&t, j)
				s.run(&t, false, cols)
				continue
			}
			t.bias, t.relu = nil, 0
			t.k, t.segments = e.c, e.kw
			t.aJump = sizeOf((e.dx - 1) * e.c)
			for ky := from; ky < to; ky++ {
				t.beta = 1
				if ky == from {
					t.beta = 0
				}
				if ky == to-1 {
					e.last(&t, j)
				}
				t.a = unsafe.Pointer(&e.src[(at+ky*e.dy)*e.row])
				t.b = unsafe.Pointer(&filters[ky*e.kw*e.c*width])
				s.run(&t, false, cols)
			}
		}
	}
}

// last makes a strip the one that ends the sums of its results.
func (e *slide) last(t *strip, j int) {
	if e.bias != nil {
		t.bias = unsafe.Pointer(&e.bias[j])
	}
	if e.relu {
		t.relu = 1
	}
}

func (s *blockedSet) ConvGradFilters(g *Window, n, o int, x, dy, dw []float32) {
	g.checkConv(n, o, x, dw, dy)
	b := s.memory.acquire()
	defer s.memory.release(b)
	if !s.direct(g, g.OW, g.SX*g.C) {
		filterGradByColumns(s, b, g, n, o, x, dy, dw)
		return
	}
	e := g.slide(o)
	for i := range n {
		e.src = padded(&b.image, x[i*g.in():][:g.in()], g.H, g.W, g.C, g.Left, e.row)
		s.filterGrad(&e, b, dy[i*g.out(o):][:g.out(o)], dw)
	}
}

// filterGrad is the product of the transposed windows and dy: k goes along the results, in a segment for each of
// their rows, and the rows of the product are cells of the window, which are neighbours in memory.
func (s *blockedSet) filterGrad(e *slide, b *scratch, dy, dw []float32) {
	t := strip{aStride: sizeOf(e.sx * e.c), aNext: sizeOf(1), cRow: sizeOf(e.o), k: e.ow, alpha: 1, beta: 1}
	t.aJump = sizeOf(e.sy*e.row - e.ow*e.sx*e.c)
	together, apart := e.kw, 1 // cells that are neighbours
	if e.dx > 1 {
		together, apart = 1, e.kw
	}
	t.rows = together * e.c
	for j := 0; j < e.o; j += s.width {
		cols, right, width := min(s.width, e.o-j), dy[j:], e.o
		if e.o > s.width {
			width = s.width
			right = grow(&b.filters, e.oh*e.ow*width)
			copyRows(right, width, dy[j:], e.o, e.oh*e.ow, cols)
		}
		t.bRow, t.ahead = sizeOf(width), sizeOf(ahead*width)
		for ky := range e.kh {
			// The rows of results whose window has its row ky inside the image.
			from, to := clip(ky*e.dy-e.top, e.oh, e.sy, e.h)
			if from >= to {
				continue
			}
			t.segments = to - from
			t.b = unsafe.Pointer(&right[from*e.ow*width])
			for kx := range apart {
				t.a = unsafe.Pointer(&e.src[(from*e.sy-e.top+ky*e.dy)*e.row+kx*e.dx*e.c])
				t.c = unsafe.Pointer(&dw[(ky*e.kw+kx)*e.c*e.o+j])
				s.run(&t, true, cols)
			}
		}
	}
}

func (s *blockedSet) ConvGradInput(g *Window, n, o int, dy, filters, dx []float32) {
	g.checkConv(n, o, dx, filters, dy)
	b := s.memory.acquire()
	defer s.memory.release(b)
	// With stride 1 the gradient is a convolution too: of dy, padded until every cell of the image has all its
	// windows, with the filters turned by half a circle.
	left, right := (g.KW-1)*g.DX-g.Left, g.W-1+g.Left-(g.OW-1)
	if g.SY != 1 || g.SX != 1 || left < 0 || right < 0 || !s.direct(g, g.W, o) {
		inputGradByColumns(s, b, g, n, o, dy, filters, dx)
		return
	}
	e := slide{h: g.OH, row: (left + g.OW + right) * o, c: o, kh: g.KH, kw: g.KW, sy: 1, sx: 1, dy: g.DY, dx: g.DX,
		top: (g.KH-1)*g.DY - g.Top, oh: g.H, ow: g.W, o: g.C}
	e.filters, e.packed = s.turnFilters(b, g, o, filters), true
	for i := range n {
		e.src = padded(&b.image, dy[i*g.out(o):][:g.out(o)], g.OH, g.OW, o, left, e.row)
		e.dst = dx[i*g.in():][:g.in()]
		s.slide(&e)
	}
}

// turnFilters lays the turned filters out strip by strip: o*KH*KW rows of the image's channels.
func (s *blockedSet) turnFilters(b *scratch, g *Window, o int, filters []float32) []float32 {
	rows := g.KH * g.KW * o
	to := grow(&b.filters, blocks(g.C, s.width)*rows*s.width)
	for j := 0; j < g.C; j += s.width {
		strip := to[j*rows:]
		for cell := range g.KH * g.KW {
			from := filters[((g.KH*g.KW-1-cell)*g.C+j)*o:]
			transposeInto(strip[cell*o*s.width:], s.width, from, o, min(s.width, g.C-j), o)
		}
	}
	return to
}
