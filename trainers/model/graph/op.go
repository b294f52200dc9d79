package graph

import (
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// frame is what operations need to know about the current run.
type frame struct {
	rows int    // of this batch, at most Config.Rows
	step uint64 // differs between steps: seeds dropout
	seen *int64 // rows that the state is the statistics of already, when it is to become that of all; nil: moving averages
	err  error  // what an operation found wrong with its input: the run stops after it
}

// fail ends the run after the operation that calls it, because of the values of a row. The first error counts.
func (f *frame) fail(row int, format string, args ...any) {
	if f.err == nil {
		f.err = &RowError{row, fmt.Sprintf(format, args...)}
	}
}

// RowError says which row of a batch holds a value that an operation cannot take, counting from 0.
type RowError struct {
	Row  int
	Text string
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d: %s", e.Row, e.Text) }

// op is an operation of ours: a node's function for gorgonia, and its work for the executor.
type op interface {
	gorgonia.SDOp
	about() *meta
	// run computes the first f.rows rows of out (or all of it, for what has no rows). in and out are whole buffers
	// and never overlap. It writes nothing else. What is wrong with the values of in goes to f.fail.
	run(f *frame, in [][]float32, out []float32)
}

// meta is the part of gorgonia's Op that is alike for all operations. An operation embeds it and adds run, and
// DiffWRT and SymDiff if it can be differentiated.
type meta struct {
	kind  string
	id    int // no two operations of a graph have the same hash, so none are merged
	b     *Builder
	in    []*gorgonia.Node
	shape tensor.Shape
}

func (m *meta) about() *meta { return m }

func (m *meta) Arity() int { return len(m.in) }

// Type is the operation's signature over the types of its actual inputs.
func (m *meta) Type() hm.Type {
	types := make([]hm.Type, 0, len(m.in)+1)
	for _, n := range m.in {
		types = append(types, n.Type())
	}
	if len(m.shape) == 0 {
		types = append(types, tensor.Float32)
	} else {
		types = append(types, gorgonia.TensorType{Dims: len(m.shape), Of: tensor.Float32})
	}
	return hm.NewFnType(types...)
}

func (m *meta) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) { return m.shape.Clone(), nil }

// Do belongs to gorgonia's machines, which are not used.
func (m *meta) Do(...gorgonia.Value) (gorgonia.Value, error) {
	return nil, fmt.Errorf("%s runs on the static executor only", m.kind)
}

func (m *meta) ReturnsPtr() bool     { return true }
func (m *meta) CallsExtern() bool    { return false }
func (m *meta) OverwritesInput() int { return -1 }
func (m *meta) Hashcode() uint32     { return uint32(m.id) }
func (m *meta) String() string       { return fmt.Sprintf("%s#%d", m.kind, m.id) }

func (m *meta) WriteHash(h hash.Hash) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(m.id))
	h.Write(b[:])
}

// DiffWRT says that the operation has no derivative; differentiable ones have their own.
func (m *meta) DiffWRT(inputs int) []bool { return make([]bool, inputs) }

// SymDiff is not called for an operation without derivative.
func (m *meta) SymDiff(gorgonia.Nodes, *gorgonia.Node, *gorgonia.Node) (gorgonia.Nodes, error) {
	return nil, fmt.Errorf("%s has no derivative", m.kind)
}

// needsGrad tells whether a gradient with respect to n is of use to anyone: n is a parameter or computed from one.
// It keeps the product for the first layer's input gradient out of the graph.
func (b *Builder) needsGrad(n *gorgonia.Node) bool {
	if known, ok := b.trained[n]; ok {
		return known
	}
	found := false
	if o, ok := n.Op().(op); ok {
		for _, c := range o.about().in {
			if b.needsGrad(c) {
				found = true
				break
			}
		}
	}
	b.trained[n] = found
	return found
}

// wrt answers DiffWRT for an operation whose first inputs have derivatives: those that anyone needs.
func (m *meta) wrt(differentiable int) []bool {
	d := make([]bool, len(m.in))
	for i := range min(differentiable, len(d)) {
		d[i] = m.b.needsGrad(m.in[i])
	}
	return d
}

// addOp is x + y, elementwise over equal shapes. Backpropagation makes gorgonia's own addition where a value has
// several readers; the executor runs that one with this code too.
type addOp struct{ meta }

// Add adds two values of the same width, or two scalars.
func (b *Builder) Add(x, y Node) (Node, error) {
	if !x.n.Shape().Eq(y.n.Shape()) {
		return Node{}, fmt.Errorf("add: shapes %v and %v differ", x.n.Shape(), y.n.Shape())
	}
	return b.apply(&addOp{meta{kind: "add"}}, x.n.Shape().Clone(), x.n, y.n)
}

func (o *addOp) DiffWRT(n int) []bool { return o.wrt(n) }

func (o *addOp) SymDiff(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	return gorgonia.Nodes{grad, grad}, nil
}

func (o *addOp) run(_ *frame, in [][]float32, out []float32) {
	// All rows, also those beyond the batch: what backpropagation adds up may be the gradient of a parameter, too.
	o.b.cfg.Kernel.Add(in[0][:len(out)], in[1][:len(out)], out)
}
