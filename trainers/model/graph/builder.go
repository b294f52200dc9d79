package graph

import (
	"fmt"

	"dkpipe/trainers/kernel"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Config says what a Builder builds for.
type Config struct {
	Kernel kernel.Set
	Rows   int       // largest batch, at least 1
	Params []float32 // the flat vector that Param refers to
	State  []float32 // the flat vector that State refers to: what a run reads or updates, and no optimizer touches
}

// Node is a value in the graph: Rows × Width floats, or a parameter, or a scalar.
type Node struct {
	n     *gorgonia.Node
	width int
}

// Width is the number of floats in a row.
func (x Node) Width() int { return x.width }

// Zero tells whether x is the zero Node, which stands for "none".
func (x Node) Zero() bool { return x.n == nil }

// Builder makes one expression graph.
type Builder struct {
	cfg     Config
	g       *gorgonia.ExprGraph
	ids     int                          // operations made so far: gives each a hash of its own
	inputs  []*gorgonia.Node             // in the order of the Input calls
	params  []param                      // in the order of the Param calls
	leaves  map[*gorgonia.Node][]float32 // parameters, state and constants
	trained map[*gorgonia.Node]bool      // what depends on a parameter, as far as needsGrad was asked
	effects []effect
}

// effect is an operation that runs although no output needs it, because it changes state.
type effect struct {
	node  *gorgonia.Node
	state []float32
}

type param struct {
	node     *gorgonia.Node
	off, len int
}

// NewBuilder starts an empty graph.
func NewBuilder(cfg Config) *Builder {
	return &Builder{cfg: cfg, g: gorgonia.NewGraph(), leaves: map[*gorgonia.Node][]float32{}, trained: map[*gorgonia.Node]bool{}}
}

// Input adds a matrix that the caller gives at every run: model inputs, targets, row weights.
func (b *Builder) Input(width int) Node {
	n := gorgonia.NewMatrix(b.g, tensor.Float32, gorgonia.WithShape(b.cfg.Rows, width),
		gorgonia.WithName(fmt.Sprintf("input%d", len(b.inputs))))
	b.inputs = append(b.inputs, n)
	return Node{n, width}
}

// Param adds a trained tensor that lives at off in the flat vectors. Its width is the last dimension.
func (b *Builder) Param(off int, shape []int) Node {
	size := 1
	for _, d := range shape {
		size *= d
	}
	n := gorgonia.NewTensor(b.g, tensor.Float32, len(shape), gorgonia.WithShape(shape...),
		gorgonia.WithName(fmt.Sprintf("param%d", off)))
	b.params = append(b.params, param{n, off, size})
	b.leaves[n] = b.cfg.Params[off : off+size : off+size]
	b.trained[n] = true
	return Node{n, shape[len(shape)-1]}
}

// Frozen adds a tensor that stands where a parameter would and is not trained: it lives at off in Config.State. Its width
// is the last dimension.
func (b *Builder) Frozen(off int, shape []int) Node {
	size := 1
	for _, d := range shape {
		size *= d
	}
	n := gorgonia.NewTensor(b.g, tensor.Float32, len(shape), gorgonia.WithShape(shape...),
		gorgonia.WithName(fmt.Sprintf("frozen%d", off)))
	b.leaves[n] = b.cfg.State[off : off+size : off+size]
	return Node{n, shape[len(shape)-1]}
}

// State adds n floats that live at off in Config.State, to be read. They are not trained.
func (b *Builder) State(off, n int) Node {
	s := gorgonia.NewVector(b.g, tensor.Float32, gorgonia.WithShape(n), gorgonia.WithName(fmt.Sprintf("state%d", off)))
	b.leaves[s] = b.cfg.State[off : off+n : off+n]
	return Node{s, n}
}

// update makes a run write x, which has n floats, to off in Config.State. The operation that computes x finds the old
// value in its out.
func (b *Builder) update(x Node, off, n int) {
	b.effects = append(b.effects, effect{x.n, b.cfg.State[off : off+n : off+n]})
}

// matrix applies an operation that gives rows × width.
func (b *Builder) matrix(o op, width int, in ...*gorgonia.Node) (Node, error) {
	return b.apply(o, tensor.Shape{b.cfg.Rows, width}, in...)
}

// apply adds an operation to the graph. The shape of its result is known when it is built.
func (b *Builder) apply(o op, shape tensor.Shape, in ...*gorgonia.Node) (Node, error) {
	m := o.about()
	b.ids++
	m.id, m.b, m.shape = b.ids, b, shape
	m.in = in
	n, err := gorgonia.ApplyOp(o, in...)
	if err != nil {
		return Node{}, fmt.Errorf("%s: %w", m.kind, err)
	}
	width := 1
	if len(shape) > 0 {
		width = shape[len(shape)-1]
	}
	return Node{n, width}, nil
}

// nodes applies a list of operations' results as SymDiff wants them.
func nodes(xs ...Node) gorgonia.Nodes {
	out := make(gorgonia.Nodes, len(xs))
	for i, x := range xs {
		out[i] = x.n
	}
	return out
}

// Inference compiles the forward pass to the given outputs.
func (b *Builder) Inference(outputs []Node) (*Plan, error) {
	return b.compile(outputs, Node{}, nil)
}

// Statistics compiles what the state of a training graph is computed from, and nothing else.
func (b *Builder) Statistics() (*Plan, error) { return b.compile(nil, Node{}, nil) }

// Training compiles forward and backward passes: loss is a scalar, and the gradients are those of Plan.Train and Plan.Descend.
// A parameter that the loss does not depend on is an error.
func (b *Builder) Training(outputs []Node, loss Node) (*Plan, error) {
	if len(b.params) == 0 {
		return nil, fmt.Errorf("there is nothing to train: no parameters")
	}
	wrt := make(gorgonia.Nodes, len(b.params))
	for i, p := range b.params {
		wrt[i] = p.node
	}
	// A leaf of our own, not gorgonia's shared constant, so that graphs built concurrently touch no common node.
	one := gorgonia.NewScalar(b.g, tensor.Float32, gorgonia.WithName("one"))
	b.leaves[one] = []float32{1}
	grads, err := gorgonia.Backpropagate(gorgonia.Nodes{loss.n}, gorgonia.Nodes{one}, wrt)
	if err != nil {
		return nil, fmt.Errorf("differentiate: %w", err)
	}
	return b.compile(outputs, loss, grads)
}
