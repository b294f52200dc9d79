package kernel

import "testing"

// fences places each operand flush with the end of its memory, or with its start.
type fences struct {
	of    map[string]*fence
	front bool
}

func newFences(t *testing.T, n int) *fences {
	return &fences{of: map[string]*fence{"A": newFence(t, n), "B": newFence(t, n), "C": newFence(t, n)}}
}

const canary = 12345

// place also fills the memory on the open side, for intact to look at.
func (f *fences) place(operand string, n int) []float32 {
	room := f.of[operand].room
	near := room[:min(len(room), n+1000)]
	if !f.front {
		near = room[max(0, len(room)-n-1000):]
	}
	for i := range near {
		near[i] = canary
	}
	if f.front {
		return near[:n:n]
	}
	return near[len(near)-n:]
}

func (f *fences) intact(operand string, n int) bool {
	room := f.of[operand].room
	open := room[n:min(len(room), n+1000)]
	if !f.front {
		open = room[max(0, len(room)-n-1000) : len(room)-n]
	}
	for _, v := range open {
		if v != canary {
			return false
		}
	}
	return true
}
