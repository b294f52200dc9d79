package ps

// work is the queue of units. An epoch's units come into being when the first of them is asked for and are forgotten
// when the epoch and all before it are complete, so that memory does not grow with the number of epochs.
type work struct {
	workers int
	shards  int
	epochs  int
	first   int     // epochs before it are complete
	open    []epoch // open[i] is epoch first+i
}

type epoch struct {
	units []unit // by shard
	free  int
	done  int
}

type unit struct {
	state  unitState
	holder Worker
	cursor []byte
}

type unitState uint8

const (
	free unitState = iota
	held
	done
)

func (w *work) complete() bool { return w.shards > 0 && w.first == w.epochs }

// epoch gives the units of epoch e, which is not complete; it opens all epochs up to it.
func (w *work) epoch(e int) *epoch {
	for len(w.open) <= e-w.first {
		w.open = append(w.open, epoch{units: make([]unit, w.shards), free: w.shards})
	}
	return &w.open[e-w.first]
}

// unit finds a unit of an open epoch, or nil.
func (w *work) unit(id int) *unit {
	if w.shards == 0 || id < 0 {
		return nil
	}
	i := id/w.shards - w.first
	if i < 0 || i >= len(w.open) {
		return nil
	}
	return &w.open[i].units[id%w.shards]
}

func (w *work) heldBy(id int, by Worker) bool {
	u := w.unit(id)
	return u != nil && u.state == held && u.holder == by
}

// takeOwn hands out the first free unit of epoch e that by is the preferred worker of.
func (w *work) takeOwn(e int, by Worker) (Unit, bool) {
	ep := w.epoch(e)
	if ep.free == 0 || int(by) >= w.workers {
		return Unit{}, false
	}
	for s := int(by); s < w.shards; s += w.workers {
		if ep.units[s].state == free {
			return w.take(e, s, by), true
		}
	}
	return Unit{}, false
}

// takeOther hands out a free unit of epoch e whose preferred worker may says is not to be left alone with it. It goes
// from the last shard down, because the preferred worker comes from the first one up.
func (w *work) takeOther(e int, by Worker, may func(owner Worker) bool) (Unit, bool) {
	ep := w.epoch(e)
	if ep.free == 0 {
		return Unit{}, false
	}
	for s := w.shards - 1; s >= 0; s-- {
		if ep.units[s].state == free && may(Worker(s%w.workers)) {
			return w.take(e, s, by), true
		}
	}
	return Unit{}, false
}

func (w *work) take(e, s int, by Worker) Unit {
	ep := w.epoch(e)
	u := &ep.units[s]
	u.state, u.holder = held, by
	ep.free--
	return Unit{ID: e*w.shards + s, Epoch: e, Shard: s, Cursor: append([]byte(nil), u.cursor...)}
}

// giveBack frees a unit that is held. Its cursor stays where the last applied commit left it.
func (w *work) giveBack(id int) {
	w.unit(id).state = free
	w.open[id/w.shards-w.first].free++
}

// move takes over a position in a unit that is held, and forgets the epochs that become complete.
func (w *work) move(p Position) {
	u := w.unit(p.Unit)
	if !p.Done {
		u.cursor = append(u.cursor[:0], p.Cursor...)
		return
	}
	u.state, u.cursor = done, nil
	w.open[p.Unit/w.shards-w.first].done++
	w.advance()
}

// advance forgets the epochs that are complete together with all before them.
func (w *work) advance() {
	for len(w.open) > 0 && w.open[0].done == w.shards {
		w.open = append(w.open[:0], w.open[1:]...)
		w.first++
	}
}

// Next answers a worker that wants a unit of data, or defers the answer (Wait).
//
// While a worker warms up, the others wait. Asynchronous workers take the units of the earliest epoch that has free ones:
// first those that they are preferred for, in shard order, then others'. In rounds, only the earliest incomplete epoch is
// open, and of others' units only those of workers that are gone are taken, unless Options.Sharing is set. Who joined while
// a round was open waits for its end.
//
// No unit of an epoch is handed out that Steering does not let begin.
//
// ask numbers the calls of an incarnation 1, 2, 3, … so that a repeat gets the same answer and not a second unit;
// 0 does without.
func (c *Core) Next(w Worker, incarnation, ask uint64) (Unit, Turn, error) {
	m, err := c.member(w, incarnation)
	if err != nil {
		return Unit{}, Done, err
	}
	switch {
	case m.pending:
		return Unit{}, Done, protocol(w, "asks for work while its commit %d waits for the round", m.commit.Seq)
	case ask != 0 && ask == m.asked:
		u := m.lastUnit
		u.Cursor = append([]byte(nil), u.Cursor...)
		return u, m.lastTurn, nil
	case ask != 0 && ask != m.asked+1:
		return Unit{}, Done, protocol(w, "call %d of Next does not follow call %d", ask, m.asked)
	}
	m.asking = ask
	u, turn, err := c.grant(m)
	if err != nil {
		return Unit{}, Done, err
	}
	if turn == Wait {
		m.state = parked
	}
	c.settle()
	return u, turn, nil
}

// grant finds the answer to a Next; Wait if there is none yet.
func (c *Core) grant(m *member) (Unit, Turn, error) {
	u, turn := Unit{}, Wait
	if c.over() || c.work.shards == 0 {
		turn = Done
		m.state = over
	} else if got, ok := c.take(m); ok {
		u, turn = got, Work
		u.Rate = c.steering.Rate
		// With a quorum, rounds go on while a worker computes: only one that waited here has no window open.
		u.Pull = m.missed || m.seen != c.version+1 && (m.state == parked || c.mode == Rounds && c.policy.quorum == 0)
		m.late, m.missed = false, false
		if m.state == parked {
			c.catchUp(m)
		}
		m.held = append(m.held, u.ID)
		m.state = busy
	} else if len(m.held) > 0 {
		if m.flushed {
			return u, turn, protocol(m.id, "holds unit %d, was told to flush, and committed nothing since", m.held[0])
		}
		turn = Flush
		m.flushed = true
	}
	if turn != Wait && m.asking != 0 {
		m.asked, m.lastUnit, m.lastTurn = m.asking, u, turn
		m.lastUnit.Cursor = append([]byte(nil), u.Cursor...)
	}
	return u, turn, nil
}

func (c *Core) take(m *member) (Unit, bool) {
	if c.heldBack(m) || m.late && c.open() {
		return Unit{}, false
	}
	last := c.work.epochs - 1
	if c.mode == Rounds {
		last = c.work.first
	}
	if c.steering.Epochs > 0 {
		last = min(last, c.steering.Epochs-1)
	}
	for e := c.work.first; e <= last; e++ {
		if u, ok := c.work.takeOwn(e, m.id); ok {
			return u, true
		}
		if u, ok := c.work.takeOther(e, m.id, c.mayTake); ok {
			return u, true
		}
	}
	return Unit{}, false
}

func (c *Core) mayTake(owner Worker) bool {
	return c.mode == Async || c.policy.sharing || c.warming() || c.find(owner).state == gone
}

// release answers those who wait in Next and can be answered now. It says whether there were any.
func (c *Core) release() bool {
	any := false
	for _, m := range c.members {
		if m.state != parked {
			continue
		}
		u, turn, err := c.grant(m) // no error: a member that waits holds nothing
		if turn == Wait {
			continue
		}
		c.answers = append(c.answers, Answer{Worker: m.id, Incarnation: m.incarnation, Next: true, Unit: u, Turn: turn, Err: err})
		any = true
	}
	return any
}
