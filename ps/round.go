package ps

// closeRound applies the open round if nobody that belongs to it is missing, or the quorum is there, and answers its
// members. It says whether it did.
//
// A member belongs to the round unless it waits in Next, was told that the run is over, or left. A member that has its
// reply but has not asked for more work yet does belong: whether it takes part must not depend on how quickly it asks. One
// that joined while the round was open belongs to the next one.
func (c *Core) closeRound() bool {
	if c.mode != Rounds {
		return false
	}
	there, missing := 0, 0
	for _, m := range c.members {
		switch {
		case m.pending:
			there++
		case m.state == busy && !m.late, m.state == expected && !c.stopped:
			missing++
		}
	}
	if there == 0 || missing > 0 && (c.policy.quorum == 0 || there < c.policy.quorum) {
		return false
	}
	for _, m := range c.members {
		m.late, m.missed = false, m.missed || m.late
	}
	c.applyRound()
	before := c.work.first
	for _, m := range c.members {
		if m.pending {
			c.book(m, &m.commit, m.rejected)
		}
	}
	c.gather()
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

// open says whether the present round has members that are at work: who joins now comes to the next one.
func (c *Core) open() bool {
	for _, m := range c.members {
		if m.working() && !m.late {
			return true
		}
	}
	return false
}

// counts says whether the delta of a member is part of the round's mean. One of no steps is not: a worker that only
// reports the end of its data must not make the others' step smaller.
func (m *member) counts() bool {
	return m.pending && m.rejected == "" && m.commit.Delta != nil && m.commit.Steps > 0 && m.commit.Scale > 0
}

// applyRound applies the mean of the round as one commit and fills the reply buffers of all its members.
func (c *Core) applyRound() {
	mean := Commit{Worker: -1, Scale: 1, Peers: c.peers(), Rate: c.steering.Rate}
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
		c.version++
		c.step(mean, c.share(members))
	}
	for _, m := range c.members {
		switch {
		case m.counts():
			c.keep(m, m.dst)
		case m.pending:
			copy(m.dst, c.centre)
			m.plain = true
			c.read(m)
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

// step applies the mean of the members' deltas, here or at the data servers.
func (c *Core) step(mean Commit, share int) {
	if c.plane != nil {
		d := Decree{Mean: true, Share: share, Commit: mean}
		for _, m := range c.members {
			if m.counts() {
				d.Parts = append(d.Parts, m.part(&m.commit))
			}
		}
		at := c.decree(d)
		for _, m := range c.members {
			if m.counts() {
				m.at = at
			}
		}
		return
	}
	c.deltas = c.deltas[:0]
	for _, m := range c.members {
		if m.counts() {
			c.deltas = append(c.deltas, contribution{delta: m.commit.Delta, scale: m.commit.Scale, reply: m.dst})
		}
	}
	c.applier.mean(c.centre, c.slots, c.deltas, share, mean)
	clear(c.deltas) // they belong to the workers
}
