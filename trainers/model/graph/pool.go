package graph

import (
	"fmt"

	"dkpipe/trainers/kernel"

	"gorgonia.org/gorgonia"
)

// MaxPool adds the largest value of every window, each channel for itself. Windows have at most kernel.MaxPoolCells
// cells. A max-pooling of the filters of a convolution that nobody else reads (alone) is computed with it, which saves
// storing the larger image.
func (b *Builder) MaxPool(x Node, g kernel.Window, alone bool) (Node, error) {
	if x.width != g.H*g.W*g.C || g.KH*g.KW > kernel.MaxPoolCells {
		return Node{}, fmt.Errorf("max_pooling2d: a window of %d × %d on rows of %d floats", g.KH, g.KW, x.width)
	}
	if c, ok := x.n.Op().(*convOp); ok && c.pool == nil && c.filters == g.C && alone {
		return c.pooled(g)
	}
	o := &maxPoolOp{meta: meta{kind: "max_pooling2d"}, g: g, cells: make([]uint8, b.cfg.Rows*g.OH*g.OW*g.C)}
	return b.matrix(o, g.OH*g.OW*g.C, x.n)
}

// maxPoolOp remembers where every result came from.
type maxPoolOp struct {
	meta
	g     kernel.Window
	cells []uint8
}

func (o *maxPoolOp) run(f *frame, in [][]float32, out []float32) {
	o.b.cfg.Kernel.MaxPool(&o.g, f.rows, in[0], out, o.cells)
}

func (o *maxPoolOp) DiffWRT(int) []bool { return o.wrt(1) }

// SymDiff reads y so that it runs after the forward pass.
func (o *maxPoolOp) SymDiff(_ gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&maxPoolGradOp{meta: meta{kind: "max_pooling2d gradient"}, of: o}, o.g.H*o.g.W*o.g.C, y, grad)
	return nodes(dx), err
}

type maxPoolGradOp struct {
	meta
	of *maxPoolOp
}

func (o *maxPoolGradOp) run(f *frame, in [][]float32, out []float32) {
	o.b.cfg.Kernel.MaxPoolGrad(&o.of.g, f.rows, o.of.cells, in[1], out)
}

// AveragePool adds the mean of the cells of every window that lie inside the image, each channel for itself.
func (b *Builder) AveragePool(x Node, g kernel.Window) (Node, error) {
	if x.width != g.H*g.W*g.C {
		return Node{}, fmt.Errorf("average_pooling2d: an image of %d × %d × %d on rows of %d floats", g.H, g.W, g.C, x.width)
	}
	return b.matrix(&averagePoolOp{meta: meta{kind: "average_pooling2d"}, g: g}, g.OH*g.OW*g.C, x.n)
}

type averagePoolOp struct {
	meta
	g kernel.Window
}

// walk adds the share of every cell in its window's mean to the mean, or back: the mean's gradient to the cell's.
func (o *averagePoolOp) walk(images int, pixels, means []float32, back bool) {
	g, k := &o.g, o.b.cfg.Kernel
	for i := range images {
		x, y := pixels[i*g.H*g.W*g.C:][:g.H*g.W*g.C], means[i*g.OH*g.OW*g.C:]
		for at := range g.OH * g.OW {
			oy, ox := at/g.OW*g.SY-g.Top, at%g.OW*g.SX-g.Left
			top, left := max(oy, 0), max(ox, 0)
			bottom, right := min(oy+g.KH, g.H), min(ox+g.KW, g.W)
			share := 1 / float32((bottom-top)*(right-left))
			mean := y[at*g.C:][:g.C]
			for iy := top; iy < bottom; iy++ {
				for ix := left; ix < right; ix++ {
					pixel := x[(iy*g.W+ix)*g.C:][:g.C]
					if back {
						k.Axpy(share, mean, pixel)
					} else {
						k.Axpy(share, pixel, mean)
					}
				}
			}
		}
	}
}

func (o *averagePoolOp) run(f *frame, in [][]float32, out []float32) {
	clear(out[:f.rows*o.g.OH*o.g.OW*o.g.C])
	o.walk(f.rows, in[0], out, false)
}

func (o *averagePoolOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *averagePoolOp) SymDiff(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&averagePoolGradOp{meta: meta{kind: "average_pooling2d gradient"}, of: o}, o.g.H*o.g.W*o.g.C, grad)
	return nodes(dx), err
}

type averagePoolGradOp struct {
	meta
	of *averagePoolOp
}

func (o *averagePoolGradOp) run(f *frame, in [][]float32, out []float32) {
	g := &o.of.g
	clear(out[:f.rows*g.H*g.W*g.C])
	o.of.walk(f.rows, out, in[0], true)
}
