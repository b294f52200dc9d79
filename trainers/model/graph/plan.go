package graph

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"
)

// Plan is a compiled graph: operations in running order with their buffers. It belongs to one goroutine.
type Plan struct {
	rows     int
	steps    []step
	values   [][]float32 // by slot: leaves and results
	inputs   []int       // slots of the inputs, in the order of the Input calls
	outputs  []int
	loss     int // slot, or -1
	grads    []gradient
	backward int       // the first step that computes gradients
	scratch  []float32 // of Descend
	frame    frame
	seen     int64 // what frame.seen points to
	floats   int   // of all buffers
}

// step is one operation: values[out] = op(values[in...]).
type step struct {
	op  op
	in  []int
	out int
	buf [][]float32 // arguments of the call, refilled at every run

	grad  int   // which gradient this is, or -1
	ready []int // gradients whose parameter nobody reads any more, and that have a buffer of their own
}

// Run computes a plan without gradients for a batch of rows rows, at most Config.Rows. inputs are in the order of the Input
// calls and hold rows × width floats each; they are read in place. step seeds what is random. Run does not allocate.
// An error, always a *RowError, names a row with a value that an operation cannot take, such as an id that an
// embedding does not have; the run has stopped there.
func (p *Plan) Run(rows int, step uint64, inputs [][]float32) error {
	p.frame = frame{rows: rows, step: step}
	return p.run(inputs)
}

// Gather runs a Statistics plan over one batch of several, which together have the statistics that the state becomes;
// seen is the number of rows of those before.
func (p *Plan) Gather(rows int, step uint64, seen int64, inputs [][]float32) error {
	p.seen = seen
	p.frame = frame{rows: rows, step: step, seen: &p.seen}
	return p.run(inputs)
}

func (p *Plan) run(inputs [][]float32) error {
	for i, slot := range p.inputs {
		p.values[slot] = inputs[i]
	}
	for i := range p.steps {
		s := &p.steps[i]
		p.exec(s, p.values[s.out])
		if p.frame.err != nil {
			return p.frame.err
		}
	}
	return nil
}

// load gives a step its arguments.
func (p *Plan) load(s *step) {
	for j, slot := range s.in {
		s.buf[j] = p.values[slot]
	}
}

func (p *Plan) exec(s *step, out []float32) {
	p.load(s)
	s.op.run(&p.frame, s.buf, out)
}

// Output is the i-th output of the last run; its first rows × width floats are valid until the next one.
func (p *Plan) Output(i int) []float32 { return p.values[p.outputs[i]] }

// Loss is the loss of the last run of a Training plan.
func (p *Plan) Loss() float32 { return p.values[p.loss][0] }

// compiler collects what the roots need, operands first.
type compiler struct {
	b      *Builder
	p      *Plan
	slots  map[*gorgonia.Node]int
	bind   map[*gorgonia.Node][]float32 // where a result must lie
	grads  map[*gorgonia.Node]int       // which gradient a result is
	leaves []int                        // the slot of every parameter that has a gradient
	need   map[int]int                  // floats of the slots that are still to get a buffer
}

// compile orders what is needed for outputs, loss and gradients. Nodes that no root needs are left out: gorgonia
// differentiates more than is asked for.
func (b *Builder) compile(outputs []Node, loss Node, grads gorgonia.Nodes) (*Plan, error) {
	c := compiler{b: b, p: &Plan{rows: b.cfg.Rows, loss: -1}, slots: map[*gorgonia.Node]int{}, bind: map[*gorgonia.Node][]float32{}, grads: map[*gorgonia.Node]int{}, need: map[int]int{}}
	for i, g := range grads {
		p := b.params[i]
		if _, twice := c.grads[g]; twice || g.Op() == nil {
			return nil, fmt.Errorf("the gradient of parameter %d at %d is not computed by an operation of its own", i, p.off)
		}
		c.grads[g] = i
		c.p.grads = append(c.p.grads, gradient{off: p.off, len: p.len})
	}
	for _, e := range b.effects {
		c.bind[e.node] = e.state
	}
	for _, n := range b.inputs {
		c.p.inputs = append(c.p.inputs, c.slot(n, nil))
	}
	for _, o := range outputs {
		s, err := c.visit(o.n)
		if err != nil {
			return nil, err
		}
		c.p.outputs = append(c.p.outputs, s)
	}
	if !loss.Zero() {
		s, err := c.visit(loss.n)
		if err != nil {
			return nil, err
		}
		c.p.loss = s
	}
	for _, e := range b.effects {
		if _, err := c.visit(e.node); err != nil {
			return nil, err
		}
	}
	c.p.backward = len(c.p.steps)
	// Backwards, so that what a layer's gradients share is used while it is in the cache.
	for i := len(grads) - 1; i >= 0; i-- {
		if _, err := c.visit(grads[i]); err != nil {
			return nil, err
		}
	}
	for i := range grads {
		c.leaves = append(c.leaves, c.slots[b.params[i].node])
	}
	c.arrange()
	c.place()
	return c.p, nil
}

// place gives every result a buffer. One that nobody reads any more goes to the next result that fits into it: a plan
// then needs about as much memory as is live at once, and works on what is still in the cache.
func (c *compiler) place() {
	last := lastReads(c.p.steps)
	for _, kept := range append(c.p.outputs, c.p.loss) { // read after the run
		last[kept] = len(c.p.steps)
	}
	var free [][]float32
	for i, s := range c.p.steps {
		if n, ok := c.need[s.out]; ok {
			c.p.values[s.out] = c.take(&free, n)
		}
		for k, in := range s.in {
			if _, ours := c.need[in]; ours && last[in] == i && !slices.Contains(s.in[:k], in) {
				free = append(free, c.p.values[in])
			}
		}
	}
}

// take gives n floats from the smallest free buffer that has them without wasting more than half, or a new one.
func (c *compiler) take(free *[][]float32, n int) []float32 {
	best := -1
	for i, b := range *free {
		if cap(b) >= n && cap(b) <= 2*n && (best < 0 || cap(b) < cap((*free)[best])) {
			best = i
		}
	}
	if best < 0 {
		c.p.floats += n
		return make([]float32, n)
	}
	b := (*free)[best][:n]
	*free = slices.Delete(*free, best, best+1)
	return b
}

func (c *compiler) slot(n *gorgonia.Node, value []float32) int {
	s := len(c.p.values)
	c.p.values = append(c.p.values, value)
	c.slots[n] = s
	return s
}

// visit gives the slot of n after planning everything that it is computed from.
func (c *compiler) visit(n *gorgonia.Node) (int, error) {
	if s, ok := c.slots[n]; ok {
		return s, nil
	}
	if n.Op() == nil {
		leaf, ok := c.b.leaves[n]
		if !ok {
			return 0, fmt.Errorf("the graph reads %v, which has no value", n)
		}
		return c.slot(n, leaf), nil
	}
	o, ok := n.Op().(op)
	if !ok {
		if o = c.foreign(n); o == nil {
			return 0, fmt.Errorf("the graph holds %v, an operation that the executor does not know", n.Op())
		}
	}
	st := step{op: o, grad: -1}
	children := c.b.g.From(n.ID())
	for children.Next() {
		s, err := c.visit(children.Node().(*gorgonia.Node))
		if err != nil {
			return 0, err
		}
		st.in = append(st.in, s)
	}
	st.buf = make([][]float32, len(st.in))
	st.out = c.slot(n, c.bind[n])
	if k, ok := c.grads[n]; ok {
		st.grad = k
	} else if c.p.values[st.out] == nil {
		c.need[st.out] = n.Shape().TotalSize()
	}
	c.p.steps = append(c.p.steps, st)
	return st.out, nil
}

// foreign translates what gorgonia itself puts into a differentiated graph: the sum of gradients of a value that has
// several readers.
func (c *compiler) foreign(n *gorgonia.Node) op {
	if s := n.Op().String(); s == "+ false" || s == "+ true" {
		return &addOp{meta{kind: "add", b: c.b}}
	}
	return nil
}

// Bytes is the size of the buffers for results, without parameters and gradients.
func (p *Plan) Bytes() int { return 4 * p.floats }

// Describe lists the operations in running order with the shapes of their results, for people.
func (p *Plan) Describe() []string {
	lines := make([]string, len(p.steps))
	for i, s := range p.steps {
		m := s.op.about()
		lines[i] = fmt.Sprintf("%d: %s %v from %v", s.out, m.kind, m.shape, s.in)
	}
	return lines
}
