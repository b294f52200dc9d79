package ps

import "fmt"

// Commit takes a push, or a pull when c.Seq is 0, and fills dst with the reply. A commit that is
// not a repeat takes back whatever call of the same worker is still deferred, because a worker makes one call at a time;
// a repeat or a pull does not, because it may be a message that was long on its way.
//
// dst may be c.Delta itself, whole: the reply then takes the place of the delta. They may not overlap otherwise.
//
// deferred says that the commit waits for its round: dst is filled, and dst and c.Delta may be used again, only when
// Answers has handed out the answer (with an error: they are not touched any more). Everything else is answered at
// once. An error means that nothing was changed.
func (c *Core) Commit(cm Commit, dst []float32) (ack Ack, deferred bool, err error) {
	return c.commit(cm, dst, check(cm.Delta))
}

// Decide is Commit for one whose delta is at the data servers: c.Delta is empty and not nil in its place. rejected says what was
// found wrong with it there.
func (c *Core) Decide(cm Commit, rejected string) (ack Ack, deferred bool, err error) {
	return c.commit(cm, nil, rejected)
}

// check says why a delta cannot be applied, or nothing. It reads no state that changes, so the shell runs it before
// it takes the lock.
func check(delta []float32) string {
	if i := unfit(delta); i >= 0 {
		return whyRejected(i)
	}
	return ""
}

func whyRejected(element int) string {
	return fmt.Sprintf("delta has NaN, infinity or more than %.2g at element %d", float64(MaxDelta), element)
}

func (c *Core) commit(cm Commit, dst []float32, rejected string) (ack Ack, deferred bool, err error) {
	m, err := c.member(cm.Worker, cm.Incarnation)
	if err != nil {
		return Ack{}, false, err
	}
	if err := c.valid(m, &cm, len(dst)); err != nil {
		return Ack{}, false, err
	}
	switch {
	case cm.Seq == 0:
		c.give(m, dst)
		ack := Ack{Version: c.version, Rate: c.steering.Rate, Stop: c.over(), Decree: m.at}
		return ack, false, c.settled()
	case cm.Seq == m.seq:
		return c.repeat(m, dst), false, nil
	}
	c.abandon(m)
	if c.mode == Rounds || c.ahead(m, &cm) {
		cm.Staleness = c.version - cm.Base
		m.pending, m.commit, m.dst, m.rejected = true, cm, dst, rejected
		c.settle()
		return Ack{}, true, nil
	}
	ack = c.push(m, cm, dst, rejected)
	return ack, false, c.settled()
}

// settled is settle for a call that is answered at once, and gives the error that a data server's loss makes of the answer.
func (c *Core) settled() error {
	failed := c.failed
	c.settle()
	if failed != nil && c.paused {
		return c.aborted
	}
	return failed
}

// push applies an asynchronous commit and fills dst with the reply.
func (c *Core) push(m *member, cm Commit, dst []float32, rejected string) Ack {
	cm.Staleness = c.version - cm.Base
	cm.Scale, cm.Peers, cm.Rate = c.policy.staleness.Scale(cm.Staleness), c.peers(), c.steering.Rate
	if rejected == "" && cm.Delta != nil && cm.Scale > 0 {
		c.apply(cm, m, dst)
		c.keep(m, dst)
	} else {
		copy(dst, c.centre)
		m.plain = true
		c.read(m)
	}
	c.remember(m)
	before := c.work.first
	c.book(m, &cm, rejected)
	c.gather()
	ack := c.acknowledge(m, &cm, rejected)
	c.end(before)
	return ack
}

// valid refuses what a correct worker does not send.
func (c *Core) valid(m *member, cm *Commit, dst int) error {
	n := len(c.centre)
	switch {
	case dst != n:
		return wrongLength(m.id, "the reply buffer", dst, n)
	case cm.Seq == 0 && (cm.Delta != nil || len(cm.Positions) > 0):
		return protocol(m.id, "a pull (sequence 0) carries a delta or positions")
	case cm.Seq == 0:
		return nil
	case cm.Delta != nil && len(cm.Delta) != n:
		return wrongLength(m.id, "the delta", len(cm.Delta), n)
	case cm.Seq == m.seq:
		return nil
	case cm.Seq != m.seq+1:
		return protocol(m.id, "commit %d does not follow commit %d", cm.Seq, m.seq)
	case cm.Base > c.version:
		return protocol(m.id, "commit %d starts from version %d, the server is at %d", cm.Seq, cm.Base, c.version)
	case cm.Steps < 0 || cm.Samples < 0:
		return protocol(m.id, "commit %d has %d steps and %d samples", cm.Seq, cm.Steps, cm.Samples)
	}
	for i, p := range cm.Positions {
		if !c.work.heldBy(p.Unit, m.id) {
			return protocol(m.id, "commit %d moves in unit %d, which this worker does not hold", cm.Seq, p.Unit)
		}
		for _, q := range cm.Positions[:i] {
			if q.Unit == p.Unit {
				return protocol(m.id, "commit %d names unit %d twice", cm.Seq, p.Unit)
			}
		}
	}
	return nil
}

// repeat answers a commit that was acknowledged before.
func (c *Core) repeat(m *member, dst []float32) Ack {
	ack := m.ack
	if c.centred || m.plain {
		c.give(m, dst)
		ack.Version, ack.Decree = c.version, m.at
	} else {
		copy(dst, m.kept)
	}
	c.stats.Duplicates++
	ack.Duplicate = true
	ack.Stop = c.over()
	return ack
}

// give replies with the centre as it is.
func (c *Core) give(m *member, dst []float32) {
	copy(dst, c.centre)
	c.read(m)
	if !m.waits() { // else its worker does not wait for this reply any more
		m.seen = c.version + 1
		c.remember(m)
	}
}

// apply runs the rule over all blocks, here or at the data servers.
func (c *Core) apply(cm Commit, m *member, reply []float32) {
	c.version++
	if c.plane != nil {
		m.at = c.decree(Decree{Commit: cm, Parts: []Part{m.part(&cm)}})
		return
	}
	c.applier.one(c.centre, c.slots, contribution{delta: cm.Delta, scale: cm.Scale, reply: reply}, m.from, cm)
}

func (m *member) part(cm *Commit) Part {
	return Part{Worker: m.id, Incarnation: m.incarnation, Seq: cm.Seq, Scale: cm.Scale}
}

// read lets the data servers reply to m with the centre as it is.
func (c *Core) read(m *member) {
	if c.plane != nil {
		m.at = c.decree(Decree{Read: true, Parts: []Part{m.part(&Commit{})}})
	}
}

// decree hands a step on to the data servers and gives its number.
func (c *Core) decree(d Decree) uint64 {
	c.plane.last++
	d.Number, d.Version = c.plane.last, c.version
	d.Commit.Delta, d.Commit.Positions, d.Commit.Report = nil, nil, Report{}
	if err := c.plane.apply(d); err != nil && c.failed == nil {
		c.failed = err // settle aborts the run
	}
	return d.Number
}

// scale fills dst with x times s.
func scale(dst, x []float32, s float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = v * s
	}
}

// keep remembers the reply for a repeat, if it cannot be made again.
func (c *Core) keep(m *member, reply []float32) {
	m.plain = false
	if c.centred {
		return
	}
	if m.kept == nil {
		m.kept = make([]float32, len(c.centre))
	}
	copy(m.kept, reply)
}

// book moves the positions of a commit that was applied or rejected, and counts it.
func (c *Core) book(m *member, cm *Commit, rejected string) {
	for _, p := range cm.Positions {
		c.work.move(p)
		if p.Done {
			m.release(p.Unit)
		}
	}
	c.stats.Commits++
	switch {
	case rejected != "":
		c.stats.Rejected++
		c.stats.RejectedSamples += cm.Samples
	case c.dropped(cm):
		c.stats.Dropped++
		c.stats.DroppedSamples += cm.Samples
	default:
		c.stats.Samples += cm.Samples
		c.stats.Steps += int64(cm.Steps)
		c.limit()
	}
}

// dropped says whether the delta of a booked commit came too late.
func (c *Core) dropped(cm *Commit) bool { return cm.Scale == 0 && cm.Delta != nil }

// acknowledge makes and remembers the ack of a booked commit. In a round all commits are booked before the first is
// acknowledged, so that all acks agree on whether the run is over.
func (c *Core) acknowledge(m *member, cm *Commit, rejected string) Ack {
	ack := Ack{Version: c.version, Staleness: cm.Staleness, Rejected: rejected, Dropped: rejected == "" && c.dropped(cm),
		Window: c.assign(m, cm), Rate: c.steering.Rate, Stop: c.over(), Decree: m.at}
	if cm.Delta != nil {
		m.clock++
	}
	m.seq, m.ack, m.flushed, m.seen = cm.Seq, ack, false, c.version+1
	if ack.Stop {
		m.state = over
	}
	if c.log != nil {
		c.log(*cm, ack)
	}
	return ack
}

// end reports the epochs that became complete since before was the first incomplete one.
func (c *Core) end(before int) {
	for e := before; e < c.work.first; e++ {
		if c.ends != nil {
			c.ends(e)
		}
	}
}

func (m *member) release(unit int) {
	for i, id := range m.held {
		if id == unit {
			last := len(m.held) - 1
			m.held[i] = m.held[last]
			m.held = m.held[:last]
			return
		}
	}
}
