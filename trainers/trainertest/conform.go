package trainertest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
)

// Conform checks what both halves of an algorithm must keep, whatever they compute: the rule is pure, works on any blocks
// of the vector with the slots that it asks for, and replies the centre if it says so; the worker's half is determined by
// what it was given. Run includes it.
func Conform(t *testing.T, a trainers.Algorithm) {
	t.Run("the rule is pure", func(t *testing.T) { pure(t, a) })
	t.Run("blocks may be cut anywhere", func(t *testing.T) { cut(t, a) })
	t.Run("the rule may be used from several goroutines", func(t *testing.T) { shared(t, a) })
	t.Run("finite commits leave a finite centre", func(t *testing.T) { finite(t, a) })
	t.Run("the worker's half repeats itself", func(t *testing.T) { repeatable(t, a) })
	t.Run("pieces make the same step, in place too", func(t *testing.T) { piecewise(t, a) })
	t.Run("neither half allocates", func(t *testing.T) { frugal(t, a) })
}

const ruleWorkers = 3

// makeRule makes the server's half, with plain descent for an algorithm whose optimizer is there.
func makeRule(t *testing.T, a trainers.Algorithm) ps.Rule {
	t.Helper()
	rule, err := trainers.Rule(a, ruleWorkers, func(int) (optim.Optimizer, error) { return Descent{0.1}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if n := rule.Slots(); n < 0 || n != rule.Slots() {
		t.Fatalf("the rule has %d slots, or %d", n, rule.Slots())
	}
	return rule
}

// block is what a rule is given.
type block struct {
	centre, slots, delta, reply, from []float32
}

// newBlock makes a block of n parameters with state that a rule may have made: the slots are those after some commits.
func newBlock(rule ps.Rule, rnd *rand.Rand, n int) *block {
	b := &block{make([]float32, n), make([]float32, rule.Slots()*n), make([]float32, n), make([]float32, n), make([]float32, n)}
	fill(rnd, b.centre)
	for i := range 5 {
		fill(rnd, b.delta)
		fill(rnd, b.from)
		b.apply(rule, commit(i))
	}
	fill(rnd, b.delta)
	fill(rnd, b.from)
	return b
}

func fill(rnd *rand.Rand, x []float32) {
	for i := range x {
		x[i] = float32(rnd.NormFloat64())
	}
}

// commit is the i-th commit of a run.
func commit(i int) ps.Commit {
	late := uint64(min(i, i%ruleWorkers))
	return ps.Commit{Worker: ps.Worker(i % ruleWorkers), Incarnation: 1, Seq: uint64(i/ruleWorkers + 1), Base: uint64(i) - late,
		Staleness: late, Steps: 1 + i%4, Samples: 8, Scale: 1, Peers: ruleWorkers}
}

func (b *block) apply(rule ps.Rule, c ps.Commit) {
	c.Delta, c.From = b.delta, b.from
	rule.Apply(b.centre, b.slots, b.delta, b.reply, c)
}

func (b *block) clone() *block {
	return &block{slices.Clone(b.centre), slices.Clone(b.slots), slices.Clone(b.delta), slices.Clone(b.reply), slices.Clone(b.from)}
}

// part is the elements from lo to hi of a block with slots one after the other.
func (b *block) part(lo, hi int) *block {
	n := len(b.centre)
	p := &block{centre: b.centre[lo:hi:hi], delta: b.delta[lo:hi:hi], reply: b.reply[lo:hi:hi], from: b.from[lo:hi:hi]}
	for s := 0; s+n <= len(b.slots); s += n {
		p.slots = append(p.slots, b.slots[s+lo:s+hi]...)
	}
	return p
}

func bitEqual(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func (b *block) equal(o *block) error {
	for _, v := range []struct {
		name string
		a, b []float32
	}{{"centre", b.centre, o.centre}, {"slots", b.slots, o.slots}, {"delta", b.delta, o.delta}, {"reply", b.reply, o.reply}, {"base", b.from, o.from}} {
		if !bitEqual(v.a, v.b) {
			return fmt.Errorf("%s is %v and %v", v.name, v.a, v.b)
		}
	}
	return nil
}

// pure applies a rule twice to the same, the second time after it did something else and with rubbish in reply.
func pure(t *testing.T, a trainers.Algorithm) {
	rule := makeRule(t, a)
	rnd := rand.New(rand.NewPCG(1, 1))
	b := newBlock(rule, rnd, 7)
	first, second := b.clone(), b.clone()
	c := commit(5)
	first.apply(rule, c)
	newBlock(rule, rnd, 7).apply(rule, commit(11))
	fill(rnd, second.reply)
	second.apply(rule, c)
	if err := first.equal(second); err != nil {
		t.Errorf("the same commit to the same state gives two results: %v", err)
	}
	if !bitEqual(first.delta, b.delta) || !bitEqual(first.from, b.from) {
		t.Error("the rule changed what it was only given to read")
	}
	if r, ok := rule.(ps.CentreRule); ok && r.RepliesCentre() && !bitEqual(first.reply, first.centre) {
		t.Errorf("the rule says that it replies the centre %v, and replies %v", first.centre, first.reply)
	}
}

// cut applies a rule to a whole vector and to its parts.
func cut(t *testing.T, a trainers.Algorithm) {
	rule := makeRule(t, a)
	const n = 11
	for _, size := range []int{1, 2, 3, 5, 10} {
		rnd := rand.New(rand.NewPCG(2, uint64(size)))
		whole := newBlock(rule, rnd, n)
		c := commit(7)
		var parts []*block
		for lo := 0; lo < n; lo += size {
			p := whole.clone().part(lo, min(lo+size, n))
			p.apply(rule, c)
			parts = append(parts, p)
		}
		whole.apply(rule, c)
		for i, p := range parts {
			lo := i * size
			if err := whole.part(lo, lo+len(p.centre)).equal(p); err != nil {
				t.Errorf("blocks of %d: the elements from %d on: %v", size, lo, err)
			}
		}
	}
}

// shared applies a rule to several blocks at once; the race detector looks on.
func shared(t *testing.T, a trainers.Algorithm) {
	rule := makeRule(t, a)
	rnd := rand.New(rand.NewPCG(3, 1))
	var wg sync.WaitGroup
	var blocks, alone []*block
	for range 4 {
		b := newBlock(rule, rnd, 9)
		blocks, alone = append(blocks, b), append(alone, b.clone())
	}
	for _, b := range blocks {
		wg.Go(func() {
			for i := range 20 {
				b.apply(rule, commit(5+i))
			}
		})
	}
	wg.Wait()
	for k, b := range alone {
		for i := range 20 {
			b.apply(rule, commit(5+i))
		}
		if err := b.equal(blocks[k]); err != nil {
			t.Errorf("block %d alone and beside others: %v", k, err)
		}
	}
}

// finite commits numbers of all usual sizes, zeros among them.
func finite(t *testing.T, a trainers.Algorithm) {
	rule := makeRule(t, a)
	rnd := rand.New(rand.NewPCG(4, 1))
	const n = 16
	b := &block{make([]float32, n), make([]float32, rule.Slots()*n), make([]float32, n), make([]float32, n), make([]float32, n)}
	for i := range 50 {
		for j := range b.delta {
			b.delta[j] = float32(rnd.NormFloat64() * math.Pow(10, float64(j%8-6)))
			if (i+j)%5 == 0 {
				b.delta[j] = 0
			}
		}
		copy(b.from, b.centre)
		b.apply(rule, commit(i))
		for j := range b.centre {
			if c, r := b.centre[j], b.reply[j]; c-c != 0 || r-r != 0 {
				t.Fatalf("commit %d, delta %g: the centre is %v, the reply %v", i+1, b.delta[j], c, r)
			}
		}
	}
}

// repeatable drives two of the worker's halves through the same windows.
func repeatable(t *testing.T, a trainers.Algorithm) {
	const n = 6
	run := func() (trace []float32) {
		rnd := rand.New(rand.NewPCG(5, 1))
		local := a.Local(ruleWorkers, Descent{0.1})
		x, base, delta, grads := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		fill(rnd, base)
		copy(x, base)
		for _, steps := range []int{1, 4, 2, 1, 7} {
			for range steps {
				fill(rnd, grads)
				kept := slices.Clone(grads)
				local.Step(x, grads)
				if !bitEqual(grads, kept) {
					t.Fatal("Step changed the gradient")
				}
			}
			local.Delta(delta, x, base, steps)
			fill(rnd, base) // the reply
			local.Adopt(x, base)
			trace = append(append(append(trace, delta...), x...), base...)
		}
		return trace
	}
	first := run()
	for i, v := range first {
		if v-v != 0 {
			t.Fatalf("element %d of the trace is %v", i, v)
		}
	}
	if !bitEqual(first, run()) {
		t.Error("two halves that were given the same differ")
	}
}

// piecewise drives the worker's half as the engine does with a replica that has no vector for the gradient, beside one that
// takes whole steps.
func piecewise(t *testing.T, a trainers.Algorithm) {
	const n = 11
	whole := a.Local(ruleWorkers, Descent{0.1})
	local, ok := a.Local(ruleWorkers, Descent{0.1}).(trainers.Piecewise)
	if !ok {
		return
	}
	rnd := rand.New(rand.NewPCG(8, 1))
	x, base, delta, grads, reply := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	fill(rnd, base)
	copy(x, base)
	px, pbase := slices.Clone(x), slices.Clone(base)
	pdelta := px
	_, adds := local.(trainers.Adder)
	if adds {
		pdelta = pbase
	}
	mover := local.Pieces(pdelta)
	if mover == nil {
		t.Fatal("no pieces of an optimizer that can do them")
	}
	for window, steps := range []int{1, 4, 2, 1, 7} {
		for range steps {
			fill(rnd, grads)
			whole.Step(x, grads)
			mover.Begin()
			for at := n; at > 0; at -= 3 { // the last layer's comes first
				from := max(0, at-3)
				mover.Update(from, px[from:at], grads[from:at])
			}
		}
		whole.Delta(delta, x, base, steps)
		local.Delta(pdelta, px, pbase, steps)
		if !bitEqual(delta, pdelta) {
			t.Fatalf("window %d: in place the delta is %v, else %v", window+1, pdelta, delta)
		}
		fill(rnd, reply)
		copy(base, reply)
		whole.Adopt(x, base)
		copy(pbase, reply)
		if adds {
			copy(px, reply)
		} else {
			local.Adopt(px, pbase)
		}
		if !bitEqual(x, px) || !bitEqual(base, pbase) {
			t.Fatalf("window %d: in pieces the worker goes on from %v and %v, else from %v and %v", window+1, px, pbase, x, base)
		}
	}
}

// frugal counts allocations in the steady state.
func frugal(t *testing.T, a trainers.Algorithm) {
	rule := makeRule(t, a)
	b := newBlock(rule, rand.New(rand.NewPCG(6, 1)), 64)
	c := commit(8)
	if got := testing.AllocsPerRun(50, func() { b.apply(rule, c) }); got != 0 {
		t.Errorf("the rule allocates %v times a block", got)
	}
	local := a.Local(ruleWorkers, Descent{0.1})
	x, base, delta, grads := make([]float32, 64), make([]float32, 64), make([]float32, 64), make([]float32, 64)
	window := func() {
		local.Step(x, grads)
		local.Step(x, grads)
		local.Delta(delta, x, base, 2)
		local.Adopt(x, base)
	}
	window()
	if got := testing.AllocsPerRun(50, window); got != 0 {
		t.Errorf("the worker's half allocates %v times a window", got)
	}
}
