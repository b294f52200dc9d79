package ps

import (
	"fmt"
	"slices"
)

// Snapshot is everything that a server needs to go on after its process died, as plain data.
//
// It holds no members. Whoever was in when it was taken has to join again, and Generation sees to it that no earlier
// incarnation is taken for a new one: this is all of the table against repeats that has to survive. A commit that was
// in the snapshot but whose ack was lost is in the parameters and in the positions; one that came after the snapshot is
// in neither.
type Snapshot struct {
	Generation uint32
	Version    uint64
	Centre     []float32
	Slots      []float32 // block by block, the slots of a block together: depends on Block
	Block      int
	Shards     int
	Epochs     int
	Epoch      int            // epochs before it are complete
	Units      []UnitSnapshot // of the epochs from Epoch on: those that were begun or done, by ID
	Stats      Stats
}

// UnitSnapshot is how far one unit has come by applied commits.
type UnitSnapshot struct {
	ID     int
	Cursor []byte // nil: at the beginning
	Done   bool
}

// Snapshot copies the state. Commits that wait for their round are not in it. It has no Centre when a data server that it is
// to come from is lost; the run is aborted then, or suspended (Server.Guard).
func (c *Core) Snapshot() *Snapshot {
	s, wait := c.snapshot()
	if err := wait(); err != nil {
		c.lose(c.tried(), err)
		s.Centre, s.Slots = nil, nil
	}
	return s
}

// snapshot is Snapshot in two parts: with data servers, the vectors are filled when wait returns, which needs no lock.
func (c *Core) snapshot() (s *Snapshot, wait func() error) {
	s = &Snapshot{
		Generation: c.gen, Version: c.version, Centre: slices.Clone(c.centre), Slots: slices.Clone(c.slots), Block: c.block,
		Shards: c.work.shards, Epochs: c.work.epochs, Epoch: c.work.first, Stats: c.stats,
	}
	for i, ep := range c.work.open {
		for shard, u := range ep.units {
			if u.state == done || len(u.cursor) > 0 {
				s.Units = append(s.Units, UnitSnapshot{ID: (c.work.first+i)*c.work.shards + shard,
					Cursor: append([]byte(nil), u.cursor...), Done: u.state == done})
			}
		}
	}
	if c.plane != nil && c.finalAt(c.version) {
		s.Centre, s.Slots = slices.Clone(c.final.centre), slices.Clone(c.final.slots)
	} else if err := c.failed; c.plane != nil && err != nil { // not all data servers are at this version
		return s, func() error { return err }
	} else if c.plane != nil {
		s.Centre, s.Slots = make([]float32, c.size), make([]float32, c.plane.slots*c.size)
		return s, c.plane.save(c.version, s.Centre, s.Slots)
	}
	return s, func() error { return nil }
}

// lose makes the loss of a data server known, unless the run has begun to go back since.
func (c *Core) lose(tried uint64, err error) {
	if c.failed == nil && c.tried() == tried {
		c.failed = err
		c.settle()
	}
}

// Restore puts a snapshot into a core that nobody has joined yet. The core must have been made with the same number of
// parameters, shards and epochs, the same block and a rule of as many slots, and with a greater generation. It keeps no
// reference to s.
func (c *Core) Restore(s *Snapshot) error {
	if err := c.fits(s); err != nil {
		return err
	}
	w := work{workers: c.work.workers, shards: s.Shards, epochs: s.Epochs, first: s.Epoch}
	for _, u := range s.Units {
		ep := w.epoch(u.ID / w.shards)
		to := &ep.units[u.ID%w.shards]
		to.cursor = append([]byte(nil), u.Cursor...)
		if u.Done && to.state != done {
			to.state = done
			ep.free--
			ep.done++
		}
	}
	w.advance()
	c.work = w
	copy(c.centre, s.Centre)
	copy(c.slots, s.Slots)
	c.version, c.stats = s.Version, s.Stats
	c.limit()
	return nil
}

func (c *Core) fits(s *Snapshot) error {
	bad := func(what string, got, want int) error {
		return &Error{Kind: "corrupt", Message: fmt.Sprintf("snapshot of the parameter server has %s %d, the run has %d", what, got, want),
			Hint: "restore it into the run that it was made by"}
	}
	block := s.Block
	if block > len(s.Centre) {
		block = max(len(s.Centre), 1)
	}
	switch {
	case len(c.Joined()) > 0 || c.lives != uint64(c.gen)<<32:
		return &Error{Kind: "internal", Message: "parameter server: a snapshot is restored before anybody joins"}
	case len(s.Centre) != len(c.centre):
		return bad("parameters", len(s.Centre), len(c.centre))
	case len(s.Slots) != len(c.slots):
		return bad("state elements", len(s.Slots), len(c.slots))
	case block != c.block:
		return bad("blocks of", s.Block, c.block)
	case s.Shards != c.work.shards:
		return bad("shards", s.Shards, c.work.shards)
	case s.Epochs != c.work.epochs:
		return bad("epochs", s.Epochs, c.work.epochs)
	case s.Epoch < 0 || s.Epoch > s.Epochs:
		return bad("epoch", s.Epoch, s.Epochs)
	case s.Generation >= c.gen:
		return bad("generation", int(s.Generation), int(c.gen))
	}
	if i := nonFinite(s.Centre); i >= 0 {
		return &Error{Kind: "diverged", Message: fmt.Sprintf("snapshot of the parameter server has %g as parameter %d", s.Centre[i], i),
			Hint: "go on from an earlier one"}
	}
	for _, u := range s.Units {
		if s.Shards == 0 || u.ID < s.Epoch*s.Shards || u.ID >= s.Epochs*s.Shards {
			return bad("unit", u.ID, s.Shards*s.Epochs)
		}
	}
	return nil
}

// Spread moves the parameters to data servers. It is called before anybody joins, after a Restore if there is one. From then
// on the core only decides: commits come with an empty delta, replies are empty, and the workers get both from the data
// servers (Sharded).
func (c *Core) Spread(keepers []Keeper) error {
	if len(c.Joined()) > 0 || c.lives != uint64(c.gen)<<32 || c.plane != nil {
		return &Error{Kind: "internal", Message: "parameter server: the parameters are spread once, before anybody joins"}
	}
	p, err := newPlane(c, keepers)
	if err != nil {
		return err
	}
	p.tried.Store(uint64(c.gen)) // an epoch is greater than those of the lives before
	if err := p.load(c.version, c.centre, c.slots); err != nil {
		return err
	}
	c.plane, c.centre, c.slots = p, nil, nil
	return nil
}

// Rollback goes back to a snapshot of this run while it goes on, because what came after it was lost with a data server: all
// workers are fenced off and join again, and nobody who had left in order is waited for. It ends an abort.
func (c *Core) Rollback(s *Snapshot) error {
	o := c.opts
	c.gen++ // with every attempt: data servers that took one that failed over do not take the same epoch again
	o.Generation = c.gen
	back, err := NewCore(make([]float32, c.size), c.rule, o)
	if err != nil {
		return err
	}
	if err := back.Restore(s); err != nil {
		return err
	}
	if c.plane != nil {
		if err := c.plane.load(back.version, back.centre, back.slots); err != nil {
			return err
		}
		back.plane, back.centre, back.slots = c.plane, nil, nil
	}
	back.answers, back.log, back.ends, back.steering = c.answers, c.log, c.ends, c.steering
	if c.stopped && !c.full { // else it did not have its steps when the snapshot was taken
		back.stopped = true
	}
	for _, m := range c.members {
		if m.waits() {
			back.answers = append(back.answers, Answer{Worker: m.id, Incarnation: m.incarnation, Next: m.state == parked,
				Err: fenced(m.id, m.incarnation, "the server went back to a checkpoint")})
		}
		if int(m.id) < len(back.members) && (m.state == gone || m.state == over) {
			back.members[m.id].state, back.members[m.id].why = gone, "the server went back to a checkpoint"
		}
	}
	*c = *back
	return nil
}
