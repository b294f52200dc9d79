package pstest

import (
	"errors"
	"fmt"

	"dkpipe/ps"
)

// Fault is something that happens to a simulated run at a moment that is known: when Worker is about to send its Commit-th
// commit, counted from 1 over all its lives.
type Fault struct {
	Worker ps.Worker
	Commit int
	What   What
}

// What happens.
type What uint8

const (
	// Kill ends the worker's process for good, with its open window.
	Kill What = iota + 1
	// Return ends it, and another one with its number comes some time later.
	Return
	// Pause stops it until its lease has run out; then it goes on and does not know.
	Pause
	// Slow stops it for a while, but it is heard of.
	Slow
	// Lose loses the commit on its way.
	Lose
	// LoseReply loses the answer to it.
	LoseReply
	// Twice delivers it twice.
	Twice
	// Late delivers it a second time when the worker has gone on to the next one.
	Late
	// Cut lets nothing through between the worker and the servers until its lease has run out.
	Cut
	// Poison spoils an element of the delta.
	Poison
	// Save keeps a checkpoint.
	Save
	// Crash ends the process of the server, or of one of the data servers; it goes on from the checkpoint.
	Crash
	// Fewer and More stop the run in order and go on with one data server less, or one more.
	Fewer
	More
	// Arrive lets an extra worker come, which until then stays away.
	Arrive
	// Depart lets the worker leave in order after this commit.
	Depart
	// Halt stops the run in order.
	Halt
)

// scripted says whether something is in the script.
func (o Sim) scripted(w What) bool {
	for _, f := range o.Script {
		if f.What == w {
			return true
		}
	}
	return false
}

// strike lets the faults of a moment happen. It says whether the commit is still sent.
func (w *simWorker) strike() (send bool, err error) {
	s := w.sim
	s.made[w.id]++
	send = true
	for _, f := range s.Script {
		if f.Worker != w.id || f.Commit != s.made[w.id] {
			continue
		}
		s.struck++
		on, err := w.suffer(f.What)
		if err != nil {
			return false, err
		}
		send = send && on
	}
	return send, nil
}

// suffer lets one fault happen to a worker that is about to commit.
func (w *simWorker) suffer(what What) (send bool, err error) {
	s := w.sim
	switch what {
	case Kill, Return:
		*w = simWorker{id: w.id, sim: s, state: dead, never: what == Kill}
		return false, nil
	case Pause:
		w.paused, w.frozen = 1, true
		return false, nil
	case Slow:
		w.paused, w.heard = 60, true
		return false, nil
	case Cut:
		w.cut = true
	case Poison:
		w.poison = true
	case Lose, LoseReply, Twice, Late:
		w.message = what
	case Save:
		s.saved, s.savedLog = s.core.Snapshot(), len(s.log)
	case Crash:
		return true, s.crash()
	case Fewer, More:
		n := s.Servers + 1
		if what == Fewer {
			n = s.Servers - 1
		}
		return true, s.reshard(n)
	case Arrive:
		for _, o := range s.workers[s.Workers:] {
			if o.state == out {
				o.state = absent
			}
		}
	case Depart:
		w.over = true
	case Halt:
		s.stopped = true
		s.core.Stop()
		return true, s.deliver()
	default:
		return false, fmt.Errorf("no fault has the number %d", what)
	}
	return true, nil
}

// sent lets happen to a message what the script says, when it has just been sent.
func (w *simWorker) sent() {
	s := w.sim
	if w.late != nil {
		s.calls = append(s.calls, w.late...)
		w.late = nil
	}
	fresh := func(yield func(call)) {
		for _, c := range s.calls {
			if c.w == w && c.life == w.life && c.commit.Seq == w.seq && c.ask == 0 {
				yield(c)
			}
		}
	}
	switch w.message {
	case Lose:
		w.lose()
	case LoseReply:
		w.deaf = true
	case Twice:
		w.repeat()
	case Late:
		fresh(func(c call) { w.late = append(w.late, c) })
	}
	w.message = 0
}

// lose drops everything of a worker that is on its way to servers.
func (w *simWorker) lose() {
	kept := w.sim.calls[:0]
	for _, c := range w.sim.calls {
		if c.w != w {
			kept = append(kept, c)
		}
	}
	w.sim.calls = kept
}

// reshard goes on with another number of data servers, from a checkpoint that is made now: nothing is lost, and everybody joins
// the new table.
func (s *sim) reshard(n int) error {
	s.crashes++
	saved := s.core.Snapshot()
	s.Servers, s.stores, s.part = n, nil, nil
	core, err := ps.NewCore(make([]float32, len(s.initial)), s.Rule, s.options())
	if err != nil {
		return err
	}
	if err := core.Restore(saved); err != nil {
		return err
	}
	s.core, s.replies = core, nil
	clear(s.deferred)
	if err := s.spread(); err != nil {
		return err
	}
	return s.giveUpWhoLeft()
}

// giveUpWhoLeft tells a new core of workers that had left the one before.
func (s *sim) giveUpWhoLeft() error {
	for _, w := range s.workers {
		if (w.state == out || w.never) && int(w.id) < s.Workers {
			if err := s.core.Leave(w.id, 0, "had left before"); err != nil && !errors.Is(err, ps.ErrFenced) {
				return err
			}
		}
	}
	return s.deliver()
}
