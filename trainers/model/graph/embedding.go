package graph

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Embedding replaces every number of a row, the index of a row of the table, by that row. table is a parameter of shape
// [rows, dim]. A number that is no such index stops the run with an error.
func (b *Builder) Embedding(ids, table Node) (Node, error) {
	shape := table.n.Shape()
	if len(shape) != 2 {
		return Node{}, fmt.Errorf("embedding: a table of shape %v", shape)
	}
	o := &embeddingOp{meta: meta{kind: "embedding"}, span: ids.width, size: shape[0], dim: shape[1]}
	return b.matrix(o, o.span*o.dim, ids.n, table.n)
}

// embeddingOp is y = table[ids]. Inputs: ids, table.
type embeddingOp struct {
	meta
	span, size, dim int // ids in a row, rows of the table, width of each
}

func (o *embeddingOp) run(f *frame, in [][]float32, out []float32) {
	for i, id := range in[0][:f.rows*o.span] {
		if !isIndex(id, o.size) {
			f.fail(i/o.span, "%v at position %d is no index of an embedding of %d: those are 0 to %d", id, i%o.span, o.size, o.size-1)
			return
		}
		copy(out[i*o.dim:][:o.dim], in[1][int(id)*o.dim:])
	}
}

func (o *embeddingOp) DiffWRT(int) []bool { return []bool{false, o.b.needsGrad(o.in[1])} }

func (o *embeddingOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	g := &embeddingGradOp{meta: meta{kind: "embedding gradient"}, span: o.span, dim: o.dim}
	d, err := o.b.apply(g, tensor.Shape{o.size, o.dim}, in[0], grad)
	return nodes(Node{}, d), err
}

// embeddingGradOp adds each dY to its row of the table's gradient. Inputs: ids, which the forward pass has checked, dY.
type embeddingGradOp struct {
	meta
	span, dim int
	order     []uint64 // of nonzero: ids and their places, sorted
}

func (o *embeddingGradOp) run(f *frame, in [][]float32, out []float32) { o.piece(f, in, 0, out) }

func (o *embeddingGradOp) unit() int { return o.dim }

func (o *embeddingGradOp) piece(f *frame, in [][]float32, at int, out []float32) {
	clear(out)
	for i, id := range in[0][:f.rows*o.span] {
		start := int(id)*o.dim - at
		if start < 0 || start >= len(out) {
			continue
		}
		row := out[start:][:o.dim]
		for j, v := range in[1][i*o.dim:][:o.dim] {
			row[j] += v
		}
	}
}

// nonzero adds up rows of dY in the order in which run does.
func (o *embeddingGradOp) nonzero(f *frame, in [][]float32, row []float32, off int, update func(at int, g []float32)) {
	if o.order == nil {
		o.order = make([]uint64, o.b.cfg.Rows*o.span)
	}
	order := o.order[:f.rows*o.span]
	for i, id := range in[0][:len(order)] {
		order[i] = uint64(id)<<32 | uint64(i)
	}
	slices.Sort(order)
	for i, next := range order {
		id := next >> 32
		if i == 0 || id != order[i-1]>>32 {
			clear(row)
		}
		for j, v := range in[1][int(uint32(next))*o.dim:][:o.dim] {
			row[j] += v
		}
		if i+1 == len(order) || id != order[i+1]>>32 {
			update(off+int(id)*o.dim, row)
		}
	}
}
