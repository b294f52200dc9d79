package pstest

import "dkpipe/ps"

// Add adds every delta to the centre: c = c + d.
type Add struct{}

var _ ps.CentreRule = Add{}

// Slots is 0.
func (Add) Slots() int { return 0 }

// RepliesCentre is true.
func (Add) RepliesCentre() bool { return true }

// Apply adds.
func (Add) Apply(centre, _, delta, reply []float32, _ ps.Commit) {
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		c := centre[i] + d
		centre[i] = c
		reply[i] = c
	}
}

// Set makes the delta the centre: in rounds, the mean of what the members send.
type Set struct{}

var _ ps.CentreRule = Set{}

// Slots is 0.
func (Set) Slots() int { return 0 }

// RepliesCentre is true.
func (Set) RepliesCentre() bool { return true }

// Apply copies.
func (Set) Apply(centre, _, delta, reply []float32, _ ps.Commit) {
	copy(centre, delta)
	copy(reply, delta)
}

// Look adds every delta to the centre and notes in its three slots what the core told it beside the vectors: what the worker
// started from, the number of peers, and the staleness.
type Look struct{}

var (
	_ ps.CentreRule = Look{}
	_ ps.BaseRule   = Look{}
)

// Slots is 3.
func (Look) Slots() int { return 3 }

// RepliesCentre is true.
func (Look) RepliesCentre() bool { return true }

// UsesBase is true.
func (Look) UsesBase() bool { return true }

// Apply adds and notes.
func (Look) Apply(centre, slots, delta, reply []float32, c ps.Commit) {
	n := len(centre)
	for i, d := range delta {
		centre[i] += d
		reply[i] = centre[i]
		slots[i], slots[n+i], slots[2*n+i] = c.From[i], float32(c.Peers), float32(c.Staleness)
	}
}

// Elastic takes a worker's parameters x and moves the centre by e = Alpha (x - c); the reply is e. It also counts the
// commits in its one slot.
type Elastic struct{ Alpha float32 }

// Slots is 1.
func (Elastic) Slots() int { return 1 }

// Apply moves.
func (r Elastic) Apply(centre, slots, delta, reply []float32, _ ps.Commit) {
	for i, x := range delta {
		e := r.Alpha * (x - centre[i])
		centre[i] += e
		reply[i] = e
		slots[i]++
	}
}
