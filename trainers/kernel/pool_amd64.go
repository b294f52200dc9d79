package kernel

import "unsafe"

func (s *blockedSet) MaxPool(g *Window, n int, x, y []float32, cells []uint8) {
	g.checkPool(n, x, y, cells)
	s.pool(g, n, x, y, cells, false)
}

func (s *blockedSet) MaxPoolGrad(g *Window, n int, cells []uint8, dy, dx []float32) {
	g.checkPool(n, dx, dy, cells)
	clear(dx[:n*g.in()])
	s.pool(g, n, dx, dy, cells, true)
}

// pool runs over the rows of windows of n images: those that stick out to the left or right one by one, the others
// together.
func (s *blockedSet) pool(g *Window, n int, x, y []float32, cells []uint8, back bool) {
	// Of the windows in a row, those from inner to outer lie between the sides.
	inner := min((g.Left+g.SX-1)/g.SX, g.OW)
	outer := max(inner, min((g.W-1-(g.KW-1)*g.DX+g.Left)/g.SX+1, g.OW))
	if g.W-1-(g.KW-1)*g.DX+g.Left < 0 {
		outer = inner
	}
	for i := range n * g.OH {
		r := g.poolRow(i)
		if r.from >= r.to {
			continue
		}
		for ox := range inner {
			s.poolWindows(g, r, x, y, cells, ox, ox+1, back)
		}
		s.poolWindows(g, r, x, y, cells, inner, outer, back)
		for ox := outer; ox < g.OW; ox++ {
			s.poolWindows(g, r, x, y, cells, ox, ox+1, back)
		}
	}
}

// poolWindows does the windows from from to to, which have the same cells inside the image.
func (s *blockedSet) poolWindows(g *Window, r poolRow, x, y []float32, cells []uint8, from, to int, back bool) {
	left := from*g.SX - g.Left
	fromX, toX := clip(left, g.KW, g.DX, g.W)
	if from == to || fromX >= toX {
		return
	}
	channels := g.C
	if !s.wide {
		channels &^= 7
	}
	if channels < g.C {
		if back {
			g.maxPoolGrad(r, cells, y, x, from, to, channels)
		} else {
			g.maxPool(r, x, y, cells, from, to, channels)
		}
	}
	if channels == 0 {
		return
	}
	at := r.out + from*g.C
	t := pooling{
		x: unsafe.Pointer(&x[r.image+((r.top+r.from*g.DY)*g.W+left+fromX*g.DX)*g.C]), y: unsafe.Pointer(&y[at]), cells: unsafe.Pointer(&cells[at]),
		windows: to - from, channels: channels, pixel: g.C, height: r.to - r.from, width: toX - fromX,
		cell: sizeOf(g.DX * g.C), row: sizeOf((g.DY*g.W - (toX-fromX)*g.DX) * g.C), step: sizeOf(g.SX * g.C),
		first: int32(r.from*g.KW + fromX), skip: int32(g.KW - (toX - fromX)),
	}
	switch {
	case s.wide && back:
		maxPoolGradAVX512(&t)
	case s.wide:
		maxPoolAVX512(&t)
	case back:
		maxPoolGradAVX2(&t)
	default:
		maxPoolAVX2(&t)
	}
}
