package kernel

import "sync"

// scratch is the memory that one call on images works in. It grows to what the largest call needed.
type scratch struct {
	columns []float32 // windows laid out as rows
	filters []float32
	image   []float32 // with padding
}

// grow gives n floats of a buffer, whatever they held.
func grow(b *[]float32, n int) []float32 {
	if cap(*b) < n {
		*b = make([]float32, n)
	}
	return (*b)[:n]
}

// scratches keeps as many as there ever were calls at the same time, so that calls do not allocate.
type scratches struct {
	mu   sync.Mutex
	free []*scratch
}

func (s *scratches) acquire() *scratch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return new(scratch)
}

func (s *scratches) release(b *scratch) {
	s.mu.Lock()
	s.free = append(s.free, b)
	s.mu.Unlock()
}
