package graph

// pieceFloats is how much of a gradient is computed at a time when nobody needs all of it: enough for a product to be worth
// packing its operands, and little enough to be in the second-level cache when the optimizer reads it.
const pieceFloats = 1 << 17

// pieces is an operation that can compute its result a piece at a time, which is worth it for the gradient of a large
// parameter.
type pieces interface {
	op
	// unit is the number of floats that cannot be divided: a row of the result.
	unit() int
	// piece computes the floats of the result from at on, a multiple of unit, as run would.
	piece(f *frame, in [][]float32, at int, out []float32)
}

// sparse is an operation whose result is zero but for a few pieces, such as the gradient of an embedding's table.
type sparse interface {
	pieces
	// nonzero hands out all that is not zero, every float at most once, as parameters from off on. room has unit floats.
	nonzero(f *frame, in [][]float32, room []float32, off int, update func(at int, g []float32))
}

// gradient is the gradient of a parameter in a Training plan.
type gradient struct {
	off, len int
	step     int       // that computes it
	own      bool      // another step reads it, or its parameter, later: it has a buffer of its own
	value    []float32 // where it is, if it is own; nil before the first Descend
}

// Train computes a Training plan for a batch, as Run does, and leaves the gradient of every parameter in grads, which is laid
// out like Config.Params.
func (p *Plan) Train(rows int, step uint64, inputs [][]float32, grads []float32) error {
	for _, g := range p.grads {
		p.values[p.steps[g.step].out] = grads[g.off : g.off+g.len : g.off+g.len]
	}
	p.frame = frame{rows: rows, step: step}
	return p.run(inputs)
}

// Descend computes a Training plan for a batch and hands the gradient of every parameter to update as soon as nothing else
// needs the parameter, so that update may change it: g is the gradient of the parameters at, at+1, … of Config.Params, valid
// during the call. A large one comes in pieces. All gradients together never exist, and what update reads is in the cache.
// With lazy, what is known to be zero is left out. A batch with a loss that is not finite ends before any update.
func (p *Plan) Descend(rows int, step uint64, inputs [][]float32, lazy bool, update func(at int, g []float32)) error {
	p.prepare()
	p.frame = frame{rows: rows, step: step}
	for i, slot := range p.inputs {
		p.values[slot] = inputs[i]
	}
	for i := range p.steps {
		if i == p.backward && !finite(p.values[p.loss][0]) {
			return nil
		}
		s := &p.steps[i]
		if s.grad >= 0 && !p.grads[s.grad].own {
			p.hand(s, &p.grads[s.grad], lazy, update)
		} else {
			p.exec(s, p.values[s.out])
		}
		if p.frame.err != nil {
			return p.frame.err
		}
		for _, k := range s.ready {
			g := &p.grads[k]
			update(g.off, g.value)
		}
	}
	return nil
}

// hand computes a gradient in the scratch buffer and hands it to update, in pieces where that is possible.
func (p *Plan) hand(s *step, g *gradient, lazy bool, update func(at int, g []float32)) {
	if o, ok := s.op.(sparse); ok && lazy {
		p.load(s)
		o.nonzero(&p.frame, s.buf, p.scratch[:o.unit()], g.off, update)
		return
	}
	o, ok := s.op.(pieces)
	n := g.len
	if ok {
		n = pieceOf(o, g.len)
	}
	if n == g.len {
		out := p.scratch[:n]
		p.exec(s, out)
		update(g.off, out)
		return
	}
	p.load(s)
	for at := 0; at < g.len; at += n {
		out := p.scratch[:min(n, g.len-at)]
		o.piece(&p.frame, s.buf, at, out)
		update(g.off+at, out)
	}
}

// pieceOf is the length of the pieces of a gradient of n floats: whole rows, and pieces that are about equal.
func pieceOf(o pieces, n int) int {
	rows := n / o.unit()
	count := (n + pieceFloats - 1) / pieceFloats
	return (rows + count - 1) / count * o.unit()
}

// prepare makes the buffers that only Descend needs.
func (p *Plan) prepare() {
	room := 0
	for i := range p.grads {
		g := &p.grads[i]
		s := &p.steps[g.step]
		switch o, ok := s.op.(pieces); {
		case g.own && g.value == nil:
			g.value = make([]float32, g.len)
		case ok && !g.own:
			room = max(room, pieceOf(o, g.len))
		case !g.own:
			room = max(room, g.len)
		}
		if g.own {
			p.values[s.out] = g.value
		}
	}
	if len(p.scratch) < room {
		p.scratch = make([]float32, room)
	}
}

func finite(v float32) bool { return v-v == 0 }

// arrange puts the steps that compute gradients behind the last step that reads their parameter, so that the parameter may be
// changed at once. Where another step reads such a gradient it stays where it is, and the change comes later.
func (c *compiler) arrange() {
	p := c.p
	last := lastReads(p.steps)
	behind := map[int][]step{} // what comes after a step
	ordered := make([]step, 0, len(p.steps))
	backward := p.backward
	for i, s := range p.steps {
		if i == backward {
			p.backward = len(ordered)
		}
		if s.grad >= 0 && last[c.leaves[s.grad]] > i {
			if _, read := last[s.out]; !read {
				after := last[c.leaves[s.grad]]
				behind[after] = append(behind[after], s)
				continue
			}
		}
		ordered = append(append(ordered, s), behind[i]...)
	}
	p.steps = ordered
	last = lastReads(p.steps)
	for i, s := range p.steps {
		if s.grad < 0 {
			continue
		}
		g, needed := &p.grads[s.grad], last[c.leaves[s.grad]]
		g.step = i
		if g.own = last[s.out] > i || needed > i; g.own {
			at := max(i, needed)
			p.steps[at].ready = append(p.steps[at].ready, s.grad)
		}
	}
}

// lastReads gives the last step that reads a slot, for slots that any does.
func lastReads(steps []step) map[int]int {
	last := map[int]int{}
	for i, s := range steps {
		for _, in := range s.in {
			last[in] = i
		}
	}
	return last
}
