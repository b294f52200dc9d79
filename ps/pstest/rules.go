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
