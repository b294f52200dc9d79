package ps

// closeRound applies the open round if nobody that belongs to it is missing, and answers its members. It says whether
// it did.
//
// A member belongs to the round unless it waits in Next, was told that the run is over, or left. A member that has its
// reply but has not asked for more work yet does belong: whether it takes part must not depend on how quickly it asks.
func (c *Core) closeRound() bool {
	if c.mode != Rounds {
		return false
	}
	any := false
	for _, m := range c.members {
		switch {
		case m.pending:
			any = true
		case m.state == busy, m.state == expected && !c.stopped:
			return false
		}
	}
	if !any {
		return false
	}
	c.applyRound()
	before := c.work.first
	for _, m := range c.members {
		if m.pending {
			c.book(m, &m.commit, m.rejected)
		}
	}
	for _, m := range c.members {
		if m.pending {
			ack := c.acknowledge(m, &m.commit, m.rejected)
			c.answers = append(c.answers, Answer{Worker: m.id, Incarnation: m.incarnation, Ack: ack})
			m.drop()
		}
	}
	c.end(before)
	return true
}

// counts says whether the delta of a member is part of the round's mean. One of no steps is not: a worker that only
// reports the end of its data must not make the others' step smaller.
func (m *member) counts() bool {
	return m.pending && m.rejected == "" && m.commit.Delta != nil && m.commit.Steps > 0
}

// applyRound applies the mean of the round as one commit and fills the reply buffers of all its members.
func (c *Core) applyRound() {
	mean := Commit{Worker: -1}
	members := 0
	for _, m := range c.members {
		if m.counts() {
			members++
			mean.Samples += m.commit.Samples
			mean.Steps = max(mean.Steps, m.commit.Steps)
			mean.Staleness = max(mean.Staleness, m.commit.Staleness)
		}
	}
	if members > 0 {
		mean.Base = c.version - mean.Staleness
		n, k := len(c.centre), c.rule.Slots()
		for lo := 0; lo < n; lo += c.block {
			hi := min(lo+c.block, n)
			delta, reply := c.mean[:hi-lo:hi-lo], c.reply[:hi-lo:hi-lo]
			c.meanOf(delta, lo, members)
			c.rule.Apply(c.centre[lo:hi:hi], c.slots[k*lo:k*hi:k*hi], delta, reply, mean)
			for _, m := range c.members {
				if m.counts() {
					copy(m.dst[lo:hi], reply)
				}
			}
		}
		c.version++
	}
	for _, m := range c.members {
		switch {
		case m.counts():
			c.keep(m, m.dst)
		case m.pending:
			copy(m.dst, c.centre)
			m.plain = true
		}
	}
}

// meanOf fills dst with the mean of the members' deltas from element lo on: summed in the order of worker numbers,
// one addition after the other, so that the bits do not depend on who came first.
func (c *Core) meanOf(dst []float32, lo, members int) {
	first := true
	for _, m := range c.members {
		if !m.counts() {
			continue
		}
		delta := m.commit.Delta[lo : lo+len(dst)]
		if first {
			copy(dst, delta)
			first = false
			continue
		}
		for i, d := range delta {
			dst[i] += d
		}
	}
	if members > 1 {
		scale := 1 / float32(members)
		for i := range dst {
			dst[i] *= scale
		}
	}
}
