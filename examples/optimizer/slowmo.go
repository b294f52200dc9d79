package main

import (
	"dkpipe/ps"
	"dkpipe/trainers"
)

// SlowMo is slow momentum over the rounds of local SGD (Wang et al., ICLR 2020, arXiv 1910.00643, algorithm 1):
//
//	u = Beta u + mean(x_i - c),   c = c + Alpha u
//
// where the paper divides by the local learning rate and multiplies by it again. Its workers are local SGD's.
type SlowMo struct {
	trainers.LocalSGD
	Alpha, Beta float32
}

// Name is what messages call it.
func (SlowMo) Name() string { return "slowmo" }

// Rule makes the server's half.
func (s SlowMo) Rule(int) ps.Rule { return slow{s.Alpha, s.Beta} }

type slow struct{ alpha, beta float32 }

// Slots: u.
func (slow) Slots() int { return 1 }

// RepliesCentre lets the server answer a repeated commit with the centre.
func (slow) RepliesCentre() bool { return true }

// Apply takes the mean of a round.
func (s slow) Apply(centre, u, delta, reply []float32, _ ps.Commit) {
	for i, d := range delta {
		u[i] = s.beta*u[i] + d
		centre[i] += s.alpha * u[i]
		reply[i] = centre[i]
	}
}
