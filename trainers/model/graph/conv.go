package graph

import (
	"fmt"

	"dkpipe/trainers/kernel"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// blockFloats bounds what a convolution works on at a time besides its operands: some images' results before a fused
// pooling, or gradients after it. That much stays in the second-level cache between the kernels that use it.
const blockFloats = 1 << 16

// convOp is y = pool?(relu?(x * filters (+ b))) over images with channels last. Inputs: x, filters and, with bias, b.
type convOp struct {
	meta
	g          kernel.Window
	filters    int
	bias, relu bool

	pool  *kernel.Window // a max-pooling of the result, or nil
	cells []uint8        // with pool: where every result came from
	block []float32      // with pool: results before it, of a few images
}

// Conv adds y = relu?(x * filters + b): rows of x are images of g. filters is a parameter of shape
// [g.KH, g.KW, g.C, filters], or [g.KW, g.C, filters] where g.KH is 1; bias a parameter of shape [filters], or the zero
// Node.
func (b *Builder) Conv(x, filters, bias Node, g kernel.Window, relu bool) (Node, error) {
	shape, want := filters.n.Shape(), tensor.Shape{g.KH, g.KW, g.C, filters.width}
	if g.KH == 1 && len(shape) == 3 {
		want = want[1:]
	}
	if !shape.Eq(want) || x.width != g.H*g.W*g.C || !bias.Zero() && bias.width != filters.width {
		return Node{}, fmt.Errorf("conv2d: filters of shape %v on rows of %d floats", shape, x.width)
	}
	o := &convOp{meta: meta{kind: "conv2d"}, g: g, filters: filters.width, bias: !bias.Zero(), relu: relu}
	if o.bias {
		return b.matrix(o, g.OH*g.OW*o.filters, x.n, filters.n, bias.n)
	}
	return b.matrix(o, g.OH*g.OW*o.filters, x.n, filters.n)
}

// pooled adds the same convolution with a max-pooling of its result. The full result is never stored.
func (o *convOp) pooled(g kernel.Window) (Node, error) {
	p := &convOp{meta: meta{kind: "conv2d max-pooled"}, g: o.g, filters: o.filters, bias: o.bias, relu: o.relu, pool: &g}
	p.cells = make([]uint8, o.b.cfg.Rows*p.width())
	return o.b.matrix(p, p.width(), o.meta.in...)
}

// width is the number of floats in a row of the result.
func (o *convOp) width() int {
	if o.pool != nil {
		return o.pool.OH * o.pool.OW * o.filters
	}
	return o.g.OH * o.g.OW * o.filters
}

// images is how many images are worked on at a time.
func (o *convOp) images(rows int) int {
	return min(rows, max(1, blockFloats/(o.g.OH*o.g.OW*o.filters)))
}

// room gives the results of a few images before the pooling.
func (o *convOp) room(rows int) []float32 {
	if o.block == nil {
		o.block = make([]float32, o.images(o.b.cfg.Rows)*o.g.OH*o.g.OW*o.filters)
	}
	return o.block[:o.images(rows)*o.g.OH*o.g.OW*o.filters]
}

func (o *convOp) run(f *frame, in [][]float32, out []float32) {
	k := o.b.cfg.Kernel
	var bias []float32
	if o.bias {
		bias = in[2]
	}
	if o.pool == nil {
		k.Conv(&o.g, f.rows, o.filters, in[0], in[1], bias, o.relu, out)
		return
	}
	z, x, y := o.room(f.rows), o.g.H*o.g.W*o.g.C, o.width()
	for i := 0; i < f.rows; i += o.images(f.rows) {
		n := min(o.images(f.rows), f.rows-i)
		k.Conv(&o.g, n, o.filters, in[0][i*x:], in[1], bias, o.relu, z)
		k.MaxPool(o.pool, n, z, out[i*y:], o.cells[i*y:])
	}
}

func (o *convOp) DiffWRT(n int) []bool { return o.wrt(n) }

// SymDiff: the gradients of images, filters and bias read the same gradient of the result, so one operation computes
// all three while it is in the cache, and the others hand them out.
func (o *convOp) SymDiff(in gorgonia.Nodes, y, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	shape := in[1].Shape()
	back := &convGradOp{meta: meta{kind: "conv2d gradients"}, of: o, needsX: o.b.needsGrad(in[0]), needsW: o.b.needsGrad(in[1])}
	if back.needsW {
		back.dw, back.db = make([]float32, shape.TotalSize()), make([]float32, o.filters)
	}
	args := gorgonia.Nodes{in[0], in[1], y, grad}
	var first Node
	var err error
	if back.needsX {
		first, err = o.b.matrix(back, o.g.H*o.g.W*o.g.C, args...)
	} else {
		first, err = o.b.apply(back, shape, args...)
	}
	if err != nil {
		return nil, err
	}
	dx, dw, db := first, first, Node{}
	if !back.needsW {
		return nodes(dx, Node{}, db)[:len(in)], nil
	}
	if back.needsX {
		if dw, err = o.b.apply(&heldOp{meta: meta{kind: "conv2d kernel gradient"}, value: back.dw}, shape, first.n); err != nil {
			return nil, err
		}
	} else {
		dx = Node{}
	}
	if !o.bias {
		return nodes(dx, dw), nil
	}
	db, err = o.b.apply(&heldOp{meta: meta{kind: "conv2d bias gradient"}, value: back.db}, tensor.Shape{o.filters}, first.n)
	return nodes(dx, dw, db), err
}

// convGradOp computes dX of a convolution, or dW where nobody needs dX. Inputs: x, filters, y, dY. The other gradients
// stay in the operation until a heldOp fetches them. Of frozen filters it computes dX alone.
type convGradOp struct {
	meta
	of     *convOp
	needsX bool
	needsW bool
	dw, db []float32
	masked []float32 // dY where y > 0, of a few images
}

func (o *convGradOp) run(f *frame, in [][]float32, out []float32) {
	k, c := o.b.cfg.Kernel, o.of
	dw := o.dw
	if !o.needsX {
		dw = out
	}
	clear(dw)
	clear(o.db)
	x, y := c.g.H*c.g.W*c.g.C, c.width()
	if c.relu && o.masked == nil {
		o.masked = make([]float32, c.images(o.b.cfg.Rows)*y)
	}
	for i := 0; i < f.rows; i += c.images(f.rows) {
		n := min(c.images(f.rows), f.rows-i)
		d := in[3][i*y:][:n*y]
		if c.relu {
			k.ReLUGrad(in[2][i*y:][:n*y], d, o.masked)
			d = o.masked[:n*y]
		}
		if c.bias && o.needsW { // before the pooling there are only zeros more
			k.AddColumnSums(n*y/c.filters, c.filters, d, o.db)
		}
		if c.pool != nil {
			z := c.room(f.rows)
			k.MaxPoolGrad(c.pool, n, c.cells[i*y:], d, z)
			d = z
		}
		if o.needsW {
			k.ConvGradFilters(&c.g, n, c.filters, in[0][i*x:], d, dw)
		}
		if o.needsX {
			k.ConvGradInput(&c.g, n, c.filters, d, in[1], out[i*x:])
		}
	}
}

// heldOp hands out what the operation before it computed beside its own result.
type heldOp struct {
	meta
	value []float32
}

func (o *heldOp) run(_ *frame, _ [][]float32, out []float32) { copy(out, o.value) }
