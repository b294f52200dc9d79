package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
)

// GlobalAveragePool adds the mean over all pixels of a row's image, each of its channels for itself.
func (b *Builder) GlobalAveragePool(x Node, channels int) (Node, error) {
	if channels < 1 || x.width%channels != 0 {
		return Node{}, fmt.Errorf("global_average_pooling2d: %d channels in rows of %d floats", channels, x.width)
	}
	return b.matrix(&globalAverageOp{meta: meta{kind: "global_average_pooling2d"}, pixels: x.width / channels, channels: channels}, channels, x.n)
}

type globalAverageOp struct {
	meta
	pixels, channels int
}

func (o *globalAverageOp) run(f *frame, in [][]float32, out []float32) {
	clear(out[:f.rows*o.channels])
	for i := range f.rows {
		y := out[i*o.channels:][:o.channels]
		o.b.cfg.Kernel.AddColumnSums(o.pixels, o.channels, in[0][i*o.pixels*o.channels:], y)
		for c := range y {
			y[c] /= float32(o.pixels)
		}
	}
}

func (o *globalAverageOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *globalAverageOp) SymDiff(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&globalAverageGradOp{meta: meta{kind: "global_average_pooling2d gradient"}, of: o}, o.pixels*o.channels, grad)
	return nodes(dx), err
}

type globalAverageGradOp struct {
	meta
	of *globalAverageOp
}

func (o *globalAverageGradOp) run(f *frame, in [][]float32, out []float32) {
	c := o.of.channels
	for i := range f.rows {
		dy, dx := in[0][i*c:][:c], out[i*o.of.pixels*c:][:o.of.pixels*c]
		for j, v := range dy {
			dx[j] = v / float32(o.of.pixels)
		}
		for done := c; done < len(dx); done *= 2 {
			copy(dx[done:], dx[:done])
		}
	}
}

// GlobalMaxPool adds the largest value of all pixels of a row's image, each of its channels for itself.
func (b *Builder) GlobalMaxPool(x Node, channels int) (Node, error) {
	if channels < 1 || x.width%channels != 0 {
		return Node{}, fmt.Errorf("global_max_pooling2d: %d channels in rows of %d floats", channels, x.width)
	}
	o := &globalMaxOp{meta: meta{kind: "global_max_pooling2d"}, pixels: x.width / channels, channels: channels, from: make([]int32, b.cfg.Rows*channels)}
	return b.matrix(o, channels, x.n)
}

// globalMaxOp remembers the pixel of every result: the first of equal ones. A NaN is larger than any number.
type globalMaxOp struct {
	meta
	pixels, channels int
	from             []int32
}

func (o *globalMaxOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows {
		x, y, from := in[0][i*o.pixels*o.channels:], out[i*o.channels:][:o.channels], o.from[i*o.channels:][:o.channels]
		copy(y, x)
		clear(from)
		for p := 1; p < o.pixels; p++ {
			for c, v := range x[p*o.channels:][:o.channels] {
				if v > y[c] || v != v {
					y[c], from[c] = v, int32(p)
				}
			}
		}
	}
}

func (o *globalMaxOp) DiffWRT(int) []bool { return o.wrt(1) }

// SymDiff reads y so that it runs after the forward pass.
func (o *globalMaxOp) SymDiff(_ gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	dx, err := o.b.matrix(&globalMaxGradOp{meta: meta{kind: "global_max_pooling2d gradient"}, of: o}, o.pixels*o.channels, y, grad)
	return nodes(dx), err
}

type globalMaxGradOp struct {
	meta
	of *globalMaxOp
}

func (o *globalMaxGradOp) run(f *frame, in [][]float32, out []float32) {
	c := o.of.channels
	clear(out[:f.rows*o.of.pixels*c])
	for i := range f.rows {
		for j, v := range in[1][i*c:][:c] {
			out[(i*o.of.pixels+int(o.of.from[i*c+j]))*c+j] = v
		}
	}
}
