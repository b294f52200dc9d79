package pstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"dkpipe/ps"
)

type simState uint8

const (
	absent simState = iota // has not joined yet
	running
	dead // killed; may rejoin
	out  // left in order, or will never come
)

// simWorker is a worker as a state machine. It works like a trainer's: pull, ask, compute, commit every window, flush.
type simWorker struct {
	id     ps.Worker
	sim    *sim
	state  simState
	paused int
	life   uint64
	pulled bool
	seq    uint64
	ask    uint64
	base   uint64
	x      []float32 // the centre that the window started from

	open   bool
	unit   ps.Unit
	row    int
	done   []int // units that are worked through and not yet committed
	window []sample
	steps  int
	flush  bool
	over   bool

	never  bool // it is dead and does not come back
	frozen bool // paused until its lease has run out
	heard  bool // its pause does not end its lease
	cut    bool // nothing comes through
	poison bool // its next delta is spoilt
	deaf   bool // the next reply to it is lost
	// message is what happens to its next message, and late what is still to arrive of one before.
	message What
	late    []call

	waiting bool
	call    call
	shard   progress // of the call, with data servers
}

func (w *simWorker) join() error {
	life, err := w.sim.core.Join(w.id)
	if err != nil {
		return err
	}
	*w = simWorker{id: w.id, sim: w.sim, state: running, life: life}
	w.sim.lives[w.id] = life
	w.sim.joins[w.id]++
	w.joined()
	return w.sim.deliver()
}

// act does the worker's next thing.
func (w *simWorker) act() error {
	s := w.sim
	switch {
	case w.paused > 0:
		if !w.frozen {
			w.paused--
			w.heard = w.heard && w.paused > 0
		}
	case w.state == absent:
		return w.join()
	case w.state != running:
	case w.waiting:
		if s.chance(3) { // a reply may be lost: say it again
			w.repeat()
		}
	case !w.pulled:
		w.send(call{commit: ps.Commit{Worker: w.id, Incarnation: w.life}})
	case w.over && w.steps == 0 && len(w.done) == 0:
		w.state = out
		if err := s.core.Leave(w.id, w.life, "done"); err != nil && !errors.Is(err, ps.ErrFenced) {
			return err
		}
		return s.deliver()
	case w.over || w.flush || s.Window > 0 && w.steps >= s.Window:
		return w.commit()
	case w.open && w.row < s.rows(w.unit.ID):
		w.window = append(w.window, sample{w.unit.ID, w.row})
		w.row++
		w.steps++
	case w.open:
		w.open = false
		w.done = append(w.done, w.unit.ID)
	default:
		w.ask++
		w.send(call{ask: w.ask})
	}
	return nil
}

func (w *simWorker) send(c call) {
	c.w, c.life = w, w.life
	w.waiting, w.call = true, c
	w.begin()
	w.repeat()
}

// again is the call with a reply buffer of its own: two deliveries of one call do not share memory.
func (w *simWorker) again() call {
	c := w.call
	c.dst = make([]float32, len(w.sim.initial))
	return c
}

func (w *simWorker) commit() error {
	s := w.sim
	if send, err := w.strike(); !send || err != nil {
		return err
	}
	w.seq++
	c := ps.Commit{Worker: w.id, Incarnation: w.life, Seq: w.seq, Base: w.base, Steps: w.steps, Samples: int64(len(w.window)),
		Report: ps.Report{Metrics: encodeSamples(w.window)}}
	for _, u := range w.done {
		c.Positions = append(c.Positions, ps.Position{Unit: u, Done: true})
	}
	if w.open {
		c.Positions = append(c.Positions, ps.Position{Unit: w.unit.ID, Cursor: binary.AppendUvarint(nil, uint64(w.row))})
	}
	if w.steps > 0 {
		c.Delta = w.delta()
		if w.poison || s.fault(3) {
			w.poison = false
			c.Delta[s.rng.IntN(len(c.Delta))] = float32(math.NaN())
		}
	}
	w.window, w.steps, w.done, w.flush = nil, 0, nil, false
	w.send(call{commit: c})
	w.sent()
	return nil
}

// delta is what a trainer would make of the window: it depends on the samples and on the centre they started from, and
// its bits on every rounding on the way.
func (w *simWorker) delta() []float32 {
	d := make([]float32, len(w.x))
	for j := range d {
		x := w.x[j]
		for _, p := range w.window {
			target := float32((p.unit*31+p.row*7+j*3)%17) / 13
			x -= 0.1 * (x - target)
		}
		d[j] = x - w.x[j]
	}
	return d
}

// receive takes a reply; one that the worker does not wait for is dropped.
func (w *simWorker) receive(r reply) error {
	s := w.sim
	if w.state != running || !w.waiting || r.life != w.life || r.ask != w.call.ask || r.commit.Seq != w.call.commit.Seq || !w.expects(r) {
		return nil
	}
	if w.deaf && r.ask == 0 && r.shard.kind != stage {
		w.deaf = false
		return nil
	}
	if r.err != nil {
		switch {
		case errors.Is(r.err, ps.ErrFenced):
			return w.join()
		case errors.Is(r.err, ps.ErrProtocol) && (s.Faults > 0 || len(s.Script) > 0), errors.Is(r.err, ps.ErrSuperseded) && r.shard.kind == stage:
			return nil // an old message that arrived late; the present one is answered apart
		case errors.Is(r.err, ps.ErrSuperseded) && r.shard.kind == fetch:
			w.shard.kind, w.shard.left = whole, 0 // another reply took its place: ask for one more
			w.repeat()
			return nil
		}
		return fmt.Errorf("worker %d: %w", w.id, r.err)
	}
	if !w.advance(&r) {
		return nil
	}
	w.waiting = false
	if r.ask > 0 {
		return w.turn(r)
	}
	if r.commit.Seq > 0 {
		s.acked[name(r.commit)] = true
	}
	w.pulled, w.base = true, r.ack.Version
	w.over = w.over || r.ack.Stop
	w.x = r.dst
	return nil
}

func (w *simWorker) turn(r reply) error {
	switch r.turn {
	case ps.Work:
		w.open, w.unit, w.row = true, r.unit, 0
		if r.unit.Cursor != nil {
			n, k := binary.Uvarint(r.unit.Cursor)
			if k <= 0 {
				return fmt.Errorf("cursor %x", r.unit.Cursor)
			}
			w.row = int(n)
		}
		if r.unit.Pull {
			w.pulled = false
		} else if w.sim.Mode == ps.Rounds && w.sim.Quorum == 0 && w.steps == 0 && w.base != w.sim.core.Version() {
			return fmt.Errorf("worker %d starts from version %d, the round is at %d", w.id, w.base, w.sim.core.Version())
		}
	case ps.Flush:
		w.flush = true
	case ps.Done:
		w.over, w.open = true, false
	default:
		return fmt.Errorf("turn %d", r.turn)
	}
	return nil
}

// encodeSamples hides the samples of a window in its report, which the core passes on as it is.
func encodeSamples(in []sample) []float64 {
	var out []float64
	for _, p := range in {
		out = append(out, float64(p.unit), float64(p.row))
	}
	return out
}

func decodeSamples(in []float64) []sample {
	var out []sample
	for i := 0; i+1 < len(in); i += 2 {
		out = append(out, sample{int(in[i]), int(in[i+1])})
	}
	return out
}
