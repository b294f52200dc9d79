package kernel

// Window is the geometry of a window that slides over images with channels last. Cells outside an image are padding:
// 0 for a convolution, nothing for a pooling.
type Window struct {
	H, W, C   int // rows, columns and channels of an image
	KH, KW    int // rows and columns of the window
	SY, SX    int // strides down and along, at least 1
	DY, DX    int // distance of neighbouring cells of the window, at least 1 (dilation)
	Top, Left int // rows and columns of padding before the image, at least 0
	OH, OW    int // rows and columns of the result, which say how much padding follows the image
}

// check panics if a size is out of range.
func (g *Window) check() {
	if g.H < 1 || g.W < 1 || g.C < 1 || g.KH < 1 || g.KW < 1 || g.SY < 1 || g.SX < 1 || g.DY < 1 || g.DX < 1 || g.Top < 0 || g.Left < 0 ||
		g.OH < 1 || g.OW < 1 {
		panic("kernel: a window out of range")
	}
}

// in and out are the floats of an image and of its result with so many channels.
func (g *Window) in() int              { return g.H * g.W * g.C }
func (g *Window) out(channels int) int { return g.OH * g.OW * channels }

// cells is the number of floats under a window: the length of a filter.
func (g *Window) cells() int { return g.KH * g.KW * g.C }

func checkLength(x []float32, n int) {
	if n < 0 || len(x) < n {
		panic("kernel: slice too short")
	}
}

func (g *Window) checkConv(n, o int, x, filters, y []float32) {
	g.check()
	if n < 0 || o < 1 {
		panic("kernel: negative size")
	}
	checkLength(x, n*g.in())
	checkLength(filters, g.cells()*o)
	checkLength(y, n*g.out(o))
}

func (g *Window) checkPool(n int, x, y []float32, cells []uint8) {
	g.check()
	if n < 0 || g.KH*g.KW > MaxPoolCells {
		panic("kernel: a window out of range")
	}
	checkLength(x, n*g.in())
	checkLength(y, n*g.out(g.C))
	if len(cells) < n*g.out(g.C) {
		panic("kernel: slice too short")
	}
}

// clip gives the part of a window along one direction that lies inside an image: cells from to to (exclusive) of size,
// whose first one would be at place at, distance apart.
func clip(at, size, distance, length int) (from, to int) {
	if at < 0 {
		from = (-at + distance - 1) / distance
	}
	to = size
	if last := at + (size-1)*distance; last >= length {
		to = max((length-at+distance-1)/distance, 0)
	}
	return min(from, size), to
}
