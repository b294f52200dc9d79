package trainers

import (
	"sync"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// optimizerRule is a server's half that takes a step of an optimizer with what is committed as the gradient. The state of
// the optimizer lies in the slots, one for each of its own; the number of steps is the number of commits before. So the
// rule is pure although an optimizer is not: one is filled with the state, used and emptied again, block by block.
type optimizerRule struct {
	make  func(params int) (optim.Optimizer, error)
	slots int
	idle  *optimizers
}

// optimizers are those that are not in use, by the number of parameters that they were made for.
type optimizers struct {
	mu sync.Mutex
	by map[int][]stateful
}

// stateful is an optimizer and the views of its state.
type stateful struct {
	optim.Optimizer
	state [][]float32
}

var _ ps.CentreRule = optimizerRule{}

// newOptimizerRule refuses an optimizer that cannot work block by block: one that clips by the norm of a whole vector.
func newOptimizerRule(make func(params int) (optim.Optimizer, error)) (ps.Rule, error) {
	o, err := make(1)
	if err != nil {
		return nil, err
	}
	if err := blockwise(make); err != nil {
		return nil, err
	}
	return optimizerRule{make: make, slots: max(0, len(o.Slots())-1), idle: &optimizers{by: map[int][]stateful{}}}, nil
}

// blockwise compares a step over two elements with two steps over one each.
func blockwise(make func(params int) (optim.Optimizer, error)) error {
	whole, err := make(2)
	if err != nil {
		return err
	}
	both := []float32{0, 0}
	whole.Apply(both, []float32{3e4, 4e4})
	for i, g := range []float32{3e4, 4e4} {
		part, err := make(1)
		if err != nil {
			return err
		}
		alone := []float32{0}
		if part.Apply(alone, []float32{g}); alone[0] != both[i] {
			return &pipeline.Error{Kind: pipeline.BadSpec, Message: "the server takes steps of the optimizer block by block, and this optimizer clips by the norm of more than that",
				Hint: "use clipvalue in the place of clipnorm and global_clipnorm"}
		}
	}
	return nil
}

func (r optimizerRule) Slots() int { return r.slots }

func (optimizerRule) RepliesCentre() bool { return true }

func (r optimizerRule) Apply(centre, slots, delta, reply []float32, c ps.Commit) {
	taken := c.Base + c.Staleness // commits before this one
	if o := r.take(len(centre), taken == 0); o.Optimizer != nil {
		if taken > 0 {
			move(o.state, slots, len(centre), taken, false)
		}
		if s, ok := o.Optimizer.(Scaler); ok {
			s.Scale(scaleOf(c.Rate))
		}
		o.Apply(centre, delta)
		move(o.state, slots, len(centre), taken, true)
		r.idle.put(o, len(centre), taken == 0)
	}
	copy(reply, centre)
}

// take gives an optimizer for n parameters: a new one when its first state is wanted.
func (r optimizerRule) take(n int, fresh bool) stateful {
	r.idle.mu.Lock()
	defer r.idle.mu.Unlock()
	if list := r.idle.by[n]; !fresh && len(list) > 0 {
		r.idle.by[n] = list[:len(list)-1]
		return list[len(list)-1]
	}
	o, err := r.make(n)
	if err != nil {
		return stateful{} // it was made for 1 and for 2 parameters before; a rule has no way to tell
	}
	return stateful{o, o.Slots()}
}

// put keeps an optimizer for the next block. The first commit makes one for every block, and only one of them is kept.
func (p *optimizers) put(o stateful, n int, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if list := p.by[n]; !fresh || len(list) == 0 {
		p.by[n] = append(list, o)
	}
}

// move copies an optimizer's state to the slots of a block, or back. The first part of the state is the number of steps, in
// two digits to the base 2^24, and is known; a part that is shorter than the block lies at the beginning of its slot.
func move(state [][]float32, slots []float32, n int, taken uint64, save bool) {
	if len(state) == 0 {
		return
	}
	if !save {
		state[0][0], state[0][1] = float32(taken&(1<<24-1)), float32(taken>>24)
	}
	for i, s := range state[1:] {
		slot := slots[i*n : (i+1)*n]
		if save {
			copy(slot, s)
		} else {
			copy(s, slot)
		}
	}
}
