package pstest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"dkpipe/ps"
)

// Sim describes one simulated run of a small core. The zero value of a field leaves that out.
type Sim struct {
	Seed    uint64
	Mode    ps.Mode
	Rule    ps.Rule // nil: Add
	Workers int
	Extra   int // workers beyond the expected ones
	Shards  int
	Epochs  int
	Rows    int // samples of the longest shard; shard s has Rows - s mod 3, at least 0
	Window  int // steps between commits; 0: a worker commits when it is told to flush
	// Quorum, Bound, Staleness, WarmUp and Sharing are as in ps.Options.
	Quorum    int
	Bound     int
	Staleness ps.Staleness
	WarmUp    int64
	Sharing   bool
	Params    int
	// Servers spreads the parameters over that many data servers; 0 keeps them at the coordinator.
	Servers int
	// Faults is how many kills, pauses, cut calls and repeats are thrown in at most. With 0 the seed only decides in
	// which order things happen.
	Faults int
	// Script is what happens at known moments, beside that.
	Script []Fault
	// StopAfter stops the run after that many acknowledged commits; 0 lets it end by itself.
	StopAfter int
}

// Outcome is what a simulated run came to.
type Outcome struct {
	Centre  []float32
	Version uint64
	Commits int
	Stats   ps.Stats
	Joins   []int // how often each worker joined
	Struck  int   // faults of the script that happened
}

// Simulate runs workers against a core in one goroutine, in an order that the seed decides, with messages that may be
// lost, repeated and reordered, and workers that may be killed, paused, expired and rejoin; the server itself may crash and come back from a snapshot. It gives an error unless
//
//   - the run ends,
//   - the centre is, bit for bit, the fold of the acknowledged commits in the order of their acks,
//   - every ack that reached a worker belongs to exactly one commit of the fold,
//   - every sample of every epoch is in exactly one acknowledged commit (in at most one after a stop).
func Simulate(o Sim) (Outcome, error) {
	s, err := newSim(o)
	if err != nil {
		return Outcome{}, err
	}
	limit := 4000 + 400*(o.Epochs*o.Shards*(o.Rows+2)+o.Faults+10*len(o.Script))*(o.Workers+o.Extra)
	for range limit {
		over, err := s.step()
		if err != nil {
			return Outcome{}, fmt.Errorf("%+v: %w", o, err)
		}
		if over {
			out, err := s.check()
			if err != nil {
				return Outcome{}, fmt.Errorf("%+v: %w", o, err)
			}
			return out, nil
		}
	}
	return Outcome{}, fmt.Errorf("%+v: no end after %d events: %s", o, limit, s.describe())
}

type call struct {
	w      *simWorker
	commit ps.Commit // when ask is 0
	ask    uint64
	life   uint64
	dst    []float32
	shard  sharded // with data servers
}

type reply struct {
	call
	ack  ps.Ack
	unit ps.Unit
	turn ps.Turn
	err  error
}

type sim struct {
	Sim
	rng      *rand.Rand
	core     *ps.Core
	initial  []float32
	workers  []*simWorker
	calls    []call
	replies  []reply
	deferred map[ps.Worker]call // the newest deferred call of each worker, on the server's side
	lives    map[ps.Worker]uint64
	log      []booked
	acked    map[string]bool
	faults   int
	stopped  bool
	crashes  uint32
	saved    *ps.Snapshot
	savedLog int               // length of the log when it was taken
	made     map[ps.Worker]int // commits that each worker was about to send, for the script
	joins    map[ps.Worker]int
	struck   int
	stores   []*ps.Store
	part     *ps.Partition
	conns    uint64 // connections of workers to data servers so far
}

// booked is one acknowledged commit.
type booked struct {
	commit ps.Commit
	ack    ps.Ack
	name   string
	data   []sample
	in     int // members when it was acknowledged
}

type sample struct{ unit, row int }

func newSim(o Sim) (*sim, error) {
	s := &sim{Sim: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), deferred: map[ps.Worker]call{}, lives: map[ps.Worker]uint64{},
		acked: map[string]bool{}, faults: o.Faults, made: map[ps.Worker]int{}, joins: map[ps.Worker]int{}}
	if s.Rule == nil {
		s.Rule = Add{}
	}
	s.initial = make([]float32, max(o.Params, 1))
	for i := range s.initial {
		s.initial[i] = float32(i) / 7
	}
	var err error
	s.core, err = ps.NewCore(s.initial, s.Rule, s.options())
	if err == nil {
		err = s.spread()
	}
	if err == nil && o.scripted(Crash) {
		s.saved = s.core.Snapshot() // a run keeps a checkpoint before its first step
	}
	for w := range o.Workers + o.Extra {
		s.workers = append(s.workers, &simWorker{id: ps.Worker(w), sim: s})
		if w >= o.Workers && o.scripted(Arrive) {
			s.workers[w].state = out // until it is called
		}
	}
	return s, err
}

func (s *sim) options() ps.Options {
	return ps.Options{Mode: s.Mode, Workers: s.Workers, Shards: s.Shards, Epochs: s.Epochs, Block: 3, Generation: s.crashes,
		Quorum: s.Quorum, Bound: s.Bound, Staleness: s.Staleness, WarmUp: s.WarmUp, Sharing: s.Sharing}
}

func (s *sim) rows(unit int) int { return max(0, s.Rows-(unit%s.Shards)%3) }

func (s *sim) chance(percent int) bool { return s.rng.IntN(100) < percent }

func (s *sim) fault(percent int) bool {
	if s.faults == 0 || !s.chance(percent) {
		return false
	}
	s.faults--
	return true
}

// step lets one thing happen and says whether the run is over.
func (s *sim) step() (bool, error) {
	over := s.core.Complete() || s.stopped
	for _, w := range s.workers {
		over = over && (w.state == out || w.state == dead)
	}
	if over {
		return true, nil
	}
	if s.StopAfter > 0 && len(s.log) >= s.StopAfter && !s.stopped {
		s.stopped = true
		s.core.Stop()
		return false, s.deliver()
	}
	switch n := s.rng.IntN(10); {
	case n < 4:
		return false, s.workers[s.rng.IntN(len(s.workers))].act()
	case n < 7 && len(s.calls) > 0:
		i := s.rng.IntN(len(s.calls))
		c := s.calls[i]
		if !s.fault(5) { // else it will arrive again
			s.calls = slices.Delete(s.calls, i, i+1)
		}
		if c.w.cut && c.life == c.w.life {
			return false, nil
		}
		return false, s.serve(c)
	case n < 9 && len(s.replies) > 0:
		i := s.rng.IntN(len(s.replies))
		r := s.replies[i]
		if !s.fault(5) {
			s.replies = slices.Delete(s.replies, i, i+1)
		}
		if s.fault(5) || r.w.cut {
			return false, nil // lost
		}
		return false, r.w.receive(r)
	default:
		return false, s.disturb()
	}
}

// disturb is what happens to workers from outside.
func (s *sim) disturb() error {
	w := s.workers[s.rng.IntN(len(s.workers))]
	switch n := s.rng.IntN(8); {
	case n == 0 && s.fault(30) && w.state == running:
		*w = simWorker{id: w.id, sim: s, state: dead} // its messages are still on the way
	case n == 1 && s.fault(30) && w.state == running:
		w.paused = 5 + s.rng.IntN(100)
	case n == 2 && s.fault(50): // its connection is cut: a call that waits is taken back
		if _, ok := s.deferred[w.id]; ok {
			delete(s.deferred, w.id)
			s.core.Withdraw(w.id, s.lives[w.id])
			return s.deliver()
		}
	case n == 3 && (w.state == dead || w.cut || w.paused > 0 && !w.heard) && s.lives[w.id] != 0 && s.chance(30): // its lease ends
		err := s.core.Leave(w.id, s.lives[w.id], "lease")
		w.frozen, w.cut = false, false
		if err != nil && !errors.Is(err, ps.ErrFenced) {
			return err
		}
		return s.deliver()
	case n == 4 && w.state == dead && !w.never && s.chance(20):
		return w.join()
	case n == 5 && s.Faults > 0 && w.state == absent && int(w.id) > 0 && int(w.id) < s.Workers && s.chance(5):
		// It never came. Worker 0 always comes, so that somebody lives.
		if err := s.core.Leave(w.id, 0, "never came"); err == nil {
			w.state = out
			if s.chance(50) {
				w.state = absent // given up, and comes after all
			}
		}
		return s.deliver()
	case n == 6 && s.Faults > 0 && s.chance(20):
		s.saved, s.savedLog = s.core.Snapshot(), len(s.log)
	case n == 7 && s.saved != nil && !s.stopped && !s.core.Complete() && s.fault(20):
		return s.crash()
	}
	return nil
}

// crash ends the server's process and starts it again from its last snapshot: what was acknowledged since is lost, and
// nothing else.
func (s *sim) crash() error {
	s.crashes++
	core, err := s.back()
	if err != nil {
		return err
	}
	for _, b := range s.log[s.savedLog:] {
		delete(s.acked, b.name)
	}
	s.core, s.log, s.replies = core, s.log[:s.savedLog], nil // replies on their way die with the connections
	clear(s.deferred)
	return s.giveUpWhoLeft()
}

// back is the server as it goes on from the snapshot: a new one, or with data servers the same.
func (s *sim) back() (*ps.Core, error) {
	if len(s.stores) > 0 {
		err := s.core.Rollback(s.saved)
		s.core.Answers() // they die with the connections, too
		return s.core, err
	}
	core, err := ps.NewCore(make([]float32, len(s.initial)), s.Rule, s.options())
	if err != nil {
		return nil, err
	}
	return core, core.Restore(s.saved)
}

// serve lets a call arrive at the core.
func (s *sim) serve(c call) error {
	r := reply{call: c}
	wait := false
	if c.shard.kind != whole {
		r.err = s.serveShard(&r)
		s.replies = append(s.replies, r)
		return nil
	}
	if c.ask > 0 {
		r.unit, r.turn, r.err = s.core.Next(c.w.id, c.life, c.ask)
		wait = r.err == nil && r.turn == ps.Wait
	} else {
		r.ack, wait, r.err = s.commit(c)
		if r.err == nil && !wait && !r.ack.Duplicate && c.commit.Seq > 0 {
			s.book(c.commit, r.ack)
		}
	}
	if r.err == nil && c.commit.Seq > 0 && !r.ack.Duplicate {
		delete(s.deferred, c.w.id) // a newer call takes the place of an older one
	}
	if wait {
		s.deferred[c.w.id] = c
	} else {
		s.replies = append(s.replies, r)
	}
	return s.deliver()
}

// deliver takes the answers that became ready.
func (s *sim) deliver() error {
	for _, a := range s.core.Answers() {
		c, ok := s.deferred[a.Worker]
		if !ok {
			return fmt.Errorf("answer %+v to nobody", a)
		}
		delete(s.deferred, a.Worker)
		if a.Err == nil && (c.life != a.Incarnation || a.Next != (c.ask > 0)) {
			return fmt.Errorf("answer %+v to call %+v", a, c)
		}
		s.replies = append(s.replies, reply{call: c, ack: a.Ack, unit: a.Unit, turn: a.Turn, err: a.Err})
		if a.Err == nil && !a.Next {
			s.book(c.commit, a.Ack)
		}
	}
	return nil
}

func name(c ps.Commit) string { return fmt.Sprintf("%d/%d/%d", c.Worker, c.Incarnation, c.Seq) }

func (s *sim) book(c ps.Commit, a ps.Ack) {
	b := booked{commit: c, ack: a, name: name(c), in: len(s.core.Joined())}
	b.commit.Delta = slices.Clone(c.Delta)
	b.data = decodeSamples(c.Report.Metrics)
	s.log = append(s.log, b)
}

// check compares the end of the run with the log.
func (s *sim) check() (Outcome, error) {
	centre := slices.Clone(s.initial)
	got := make([]float32, len(centre))
	version, err := s.core.Centre(got)
	if err != nil {
		return Outcome{}, err
	}
	names := map[string]bool{}
	count := map[sample]int{}
	for _, b := range s.log {
		if names[b.name] {
			return Outcome{}, fmt.Errorf("commit %s was acknowledged twice as new", b.name)
		}
		names[b.name] = true
		for _, d := range b.data {
			count[d]++
		}
	}
	for n := range s.acked {
		if !names[n] {
			return Outcome{}, fmt.Errorf("commit %s was acknowledged to its worker and is lost", n)
		}
	}
	for u := range s.Epochs * s.Shards {
		for r := range s.rows(u) {
			if n := count[sample{u, r}]; n > 1 || n == 0 && !s.stopped {
				return Outcome{}, fmt.Errorf("row %d of unit %d was counted %d times", r, u, n)
			}
		}
	}
	s.fold(centre)
	for i := range centre {
		if math.Float32bits(centre[i]) != math.Float32bits(got[i]) {
			return Outcome{}, fmt.Errorf("centre[%d] is %v, the fold of the log %v", i, got[i], centre[i])
		}
	}
	out := Outcome{Centre: got, Version: version, Commits: len(s.log), Stats: s.core.Stats(), Struck: s.struck}
	for _, w := range s.workers {
		out.Joins = append(out.Joins, s.joins[w.id])
	}
	return out, nil
}

// fold applies the log to centre: the obvious way, over the whole vector.
func (s *sim) fold(centre []float32) {
	reply := make([]float32, len(centre))
	slots := make([]float32, s.Rule.Slots()*len(centre))
	for i := 0; i < len(s.log); {
		j := i + 1
		if s.Mode == ps.Rounds {
			for j < len(s.log) && s.log[j].ack.Version == s.log[i].ack.Version {
				j++
			}
		}
		group := slices.Clone(s.log[i:j])
		slices.SortStableFunc(group, func(a, b booked) int { return int(a.commit.Worker) - int(b.commit.Worker) })
		group = slices.DeleteFunc(group, func(b booked) bool {
			return b.ack.Rejected != "" || b.ack.Dropped || b.commit.Delta == nil || s.Mode == ps.Rounds && b.commit.Steps == 0
		})
		if len(group) > 0 {
			share := max(len(group), min(s.Quorum, group[0].in))
			delta := make([]float32, len(centre))
			for g, b := range group {
				by := s.Staleness.Scale(b.ack.Staleness)
				for k, d := range b.commit.Delta {
					if g == 0 {
						delta[k] = d * by
					} else {
						delta[k] += d * by
					}
				}
			}
			if share > 1 {
				for k := range delta {
					delta[k] *= 1 / float32(share)
				}
			}
			s.Rule.Apply(centre, slots, delta, reply, group[0].commit)
		}
		i = j
	}
}

func (s *sim) describe() string {
	text := fmt.Sprintf("epochs complete %d, commits %d, calls %d, replies %d, deferred %d", s.core.Epochs(), len(s.log), len(s.calls), len(s.replies), len(s.deferred))
	for _, w := range s.workers {
		text += fmt.Sprintf("; worker %d state %d life %d seq %d units %d waiting %v", w.id, w.state, w.life, w.seq, len(w.done), w.waiting)
	}
	return text
}
