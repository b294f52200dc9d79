package ps

import (
	"fmt"
	"math"
)

// Staleness says what becomes of a delta that comes late: tau versions went by since the centre that it started from. It
// is for rules whose commits are added to the centre; a rule that takes whole vectors has no use for it. The zero value
// applies every delta as it is.
type Staleness struct {
	// Power scales a delta by (1+tau)^-Power: 1 divides by the number of updates that it met (Zhang et al., IJCAI 2016,
	// arXiv 1511.05950), 0.5 is the damping of FedBuff (Nguyen et al., AISTATS 2022). 0 does not scale.
	Power float64
	// Drop leaves out deltas with tau >= Drop (Maranjyan et al., ICML 2025, arXiv 2501.16168: Ringmaster ASGD). 0 keeps all.
	Drop uint64
}

// Scale is what a delta of that staleness is multiplied by; 0 when it is dropped.
func (s Staleness) Scale(tau uint64) float32 {
	switch {
	case s.Drop > 0 && tau >= s.Drop:
		return 0
	case s.Power == 0 || tau == 0:
		return 1
	}
	return float32(math.Pow(1+float64(tau), -s.Power))
}

// policy is what Options say about who may go on when, and about late deltas.
type policy struct {
	quorum    int
	bound     uint64
	staleness Staleness
	warmUp    int64
	window    int
	sharing   bool
}

// check refuses options that make no sense.
func (o Options) check(rule Rule) error {
	spec := func(format string, args ...any) error {
		return &Error{Kind: "spec", Message: "parameter server: " + fmt.Sprintf(format, args...)}
	}
	based, _ := rule.(BaseRule)
	switch {
	case rule == nil:
		return &Error{Kind: "internal", Message: "parameter server: no rule"}
	case o.Mode != Async && o.Mode != Rounds:
		return &Error{Kind: "internal", Message: fmt.Sprintf("parameter server: mode %d is not known", o.Mode)}
	case o.Mode == Rounds && based != nil && based.UsesBase():
		return &Error{Kind: "internal", Message: fmt.Sprintf("parameter server: rule %T looks at each worker's base, a round has none", rule)}
	case o.Workers < 0 || o.Shards < 0 || o.Epochs < 0 || o.Block < 0 || o.Steps < 0:
		return spec("workers %d, shards %d, epochs %d, block %d and steps %d may not be negative", o.Workers, o.Shards, o.Epochs, o.Block, o.Steps)
	case o.Shards > 0 && o.Epochs == 0:
		return &Error{Kind: "spec", Message: fmt.Sprintf("parameter server: %d shards but no epochs", o.Shards),
			Hint: "set the number of epochs"}
	case o.Quorum < 0 || o.Bound < 0 || o.WarmUp < 0 || o.Window < 0 || !(o.Staleness.Power >= 0) || math.IsInf(o.Staleness.Power, 1):
		return spec("quorum %d, bound %d, warm-up %d, window %d and power of staleness %g may not be negative", o.Quorum, o.Bound, o.WarmUp,
			o.Window, o.Staleness.Power)
	case o.Quorum > 0 && (o.Mode != Rounds || o.Quorum > max(1, o.Workers)):
		return spec("a quorum of %d needs rounds of that many workers or more, not mode %d with %d", o.Quorum, o.Mode, max(1, o.Workers))
	case o.Bound > 0 && o.Mode != Async:
		return spec("rounds do not take a bound of %d: nobody is ahead in them", o.Bound)
	}
	return nil
}

// working says whether others may have to wait for m: it has a window open, or one that waits to be taken.
func (m *member) working() bool { return m.state == busy }

// slowest is the least clock of the members at work beside m, or m's own when it is alone.
func (c *Core) slowest(m *member) uint64 {
	least, any := m.clock, false
	for _, o := range c.members {
		if o != m && o.working() && (!any || o.clock < least) {
			least, any = o.clock, true
		}
	}
	return least
}

// ahead says whether a commit of m has to wait for slower workers. The slowest never has to.
func (c *Core) ahead(m *member, cm *Commit) bool {
	if c.policy.bound == 0 || c.mode != Async || c.stopped || cm.Delta == nil {
		return false
	}
	return m.clock+1 > c.slowest(m)+c.policy.bound
}

// admit takes the commits that have waited for slower workers and need not any more, in worker order. It says whether
// there were any.
func (c *Core) admit() bool {
	if c.mode != Async || c.policy.bound == 0 {
		return false
	}
	any := false
	for _, m := range c.members {
		if !m.pending || c.ahead(m, &m.commit) {
			continue
		}
		ack := c.push(m, m.commit, m.dst, m.rejected)
		c.answers = append(c.answers, Answer{Worker: m.id, Incarnation: m.incarnation, Ack: ack})
		m.drop()
		any = true
	}
	return any
}

// catchUp lets a member that did not work for a while, and was not waited for, go on level with the slowest.
func (c *Core) catchUp(m *member) {
	if c.policy.bound > 0 {
		m.clock = max(m.clock, c.slowest(m))
	}
}

// heldBack says whether m gets no work yet, because another worker warms up.
func (c *Core) heldBack(m *member) bool {
	if !c.warming() {
		return false
	}
	for _, o := range c.members {
		if o.state == expected || o.in() {
			return o != m
		}
	}
	return false
}

func (c *Core) warming() bool { return c.stats.Samples < c.policy.warmUp }

// peers counts the workers that share the run. Who left in order at its end still counts, so that the last ones' commits
// do not weigh more than the first ones' did.
func (c *Core) peers() int {
	n := 0
	for _, m := range c.members {
		if m.state == expected || m.in() || m.finished {
			n++
		}
	}
	return n
}

// assign measures m by its report and gives its next window; 0 when the core does not assign any.
func (c *Core) assign(m *member, cm *Commit) int {
	if c.policy.window == 0 {
		return 0
	}
	const fresh = 0.3                                                                                // weight of the newest window in the mean
	if s := float64(cm.Steps) / (cm.Report.ComputeS + cm.Report.FeedS); s > 0 && !math.IsInf(s, 1) { // it comes from outside
		if m.speed == 0 {
			m.speed = s
		}
		m.speed += fresh * (s - m.speed)
	}
	if m.speed == 0 {
		return c.policy.window
	}
	fastest := m.speed
	for _, o := range c.members {
		if o.in() {
			fastest = max(fastest, o.speed)
		}
	}
	const slack = 0.01 // speeds are measured: half of the fastest may be a little less
	return max(1, int(float64(c.policy.window)*(m.speed/fastest)+slack))
}

// remember keeps the centre that m gets, for a rule that looks back at it.
func (c *Core) remember(m *member) {
	if c.based {
		if m.from == nil {
			m.from = make([]float32, len(c.centre))
		}
		copy(m.from, c.centre)
	}
}
