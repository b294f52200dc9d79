package ps

// closeRound applies the open round if nobody that belongs to it is missing, or the quorum is there, and answers its
// members. It says whether it did.
//
// A member belongs to the round unless it waits in Next, was told that the run is over, or left. A member that has its
// reply but has not asked for more work yet does belong: whether it takes part must not depend on how quickly it asks.
func (c *Core) closeRound() bool {
	if c.mode != Rounds {
		return false
	}
	there, missing := 0, 0
	for _, m := range c.members {
		switch {
		case m.pending:
			there++
		case m.state == busy, m.state == expected && !c.stopped:
			missing++
		}
	}
	if there == 0 || missing > 0 && (c.policy.quorum == 0 || there < c.policy.quorum) {
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
	return m.pending && m.rejected == "" && m.commit.Delta != nil && m.commit.Steps > 0 && m.commit.Scale > 0
}

// applyRound applies the mean of the round as one commit and fills the reply buffers of all its members.
func (c *Core) applyRound() {
	mean := Commit{Worker: -1, Scale: 1, Peers: c.peers()}
	members := 0
	for _, m := range c.members {
		if !m.pending {
			continue
		}
		m.commit.Scale, m.commit.Peers = c.policy.staleness.Scale(m.commit.Staleness), mean.Peers
		if m.counts() {
			members++
			mean.Samples += m.commit.Samples
			mean.Steps = max(mean.Steps, m.commit.Steps)
			mean.Staleness = max(mean.Staleness, m.commit.Staleness)
		}
	}
	if members > 0 {
		mean.Base = c.version - mean.Staleness
		n, k, share := len(c.centre), c.rule.Slots(), c.share(members)
		for lo := 0; lo < n; lo += c.block {
			hi := min(lo+c.block, n)
			delta, reply := c.mean[:hi-lo:hi-lo], c.reply[:hi-lo:hi-lo]
			c.meanOf(delta, lo, share)
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

// share is what the sum of a round's deltas is divided by: the number of its members. With a quorum it is at least that,
// as far as there are as many workers, so that the delta of one who came late does not weigh more than it would have.
func (c *Core) share(members int) int {
	if members >= c.policy.quorum {
		return members
	}
	in := 0
	for _, m := range c.members {
		if m.in() {
			in++
		}
	}
	return max(members, min(c.policy.quorum, in))
}

// meanOf fills dst with the members' deltas from element lo on, divided by share: summed in the order of worker numbers,
// one addition after the other, so that the bits do not depend on who came first.
func (c *Core) meanOf(dst []float32, lo, share int) {
	first := true
	for _, m := range c.members {
		if !m.counts() {
			continue
		}
		delta := m.commit.Delta[lo : lo+len(dst)]
		if s := m.commit.Scale; s != 1 {
			scale(c.scaled[:len(dst)], delta, s)
			delta = c.scaled[:len(dst)]
		}
		if first {
			copy(dst, delta)
			first = false
			continue
		}
		for i, d := range delta {
			dst[i] += d
		}
	}
	if share > 1 {
		scale(dst, dst, 1/float32(share))
	}
}
