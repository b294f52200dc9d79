package hdfs

import (
	"io"
	"sync"
	"time"
)

// shelf keeps connections that nobody uses for a short while, by the address they lead to. It closes those that lie
// too long, so that an idle program holds no sockets.
type shelf[T io.Closer] struct {
	keep time.Duration // how long one may lie
	most int           // how many for one key

	mu     sync.Mutex
	items  map[string][]shelved[T]
	timer  *time.Timer
	closed bool
}

type shelved[T io.Closer] struct {
	item  T
	since time.Time
}

// take gives the one that was used last.
func (s *shelf[T]) take(key string) (item T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.items[key]
	if len(list) == 0 || time.Since(list[len(list)-1].since) > s.keep {
		return item, false // the timer closes what is too old
	}
	last := list[len(list)-1]
	list[len(list)-1] = shelved[T]{}
	s.items[key] = list[:len(list)-1]
	return last.item, true
}

// put lays one on the shelf, or closes it when there is no room.
func (s *shelf[T]) put(key string, item T) {
	s.mu.Lock()
	if s.closed || len(s.items[key]) >= s.most {
		s.mu.Unlock()
		item.Close()
		return
	}
	if s.items == nil {
		s.items = make(map[string][]shelved[T])
	}
	s.items[key] = append(s.items[key], shelved[T]{item, time.Now()})
	if s.timer == nil {
		s.timer = time.AfterFunc(s.keep, s.sweep)
	}
	s.mu.Unlock()
}

// sweep closes what lies too long. It runs on the timer, which it sets anew while something is left.
func (s *shelf[T]) sweep() {
	var old []T
	s.mu.Lock()
	left := false
	for key, list := range s.items {
		n := 0
		for n < len(list) && time.Since(list[n].since) > s.keep {
			old = append(old, list[n].item)
			n++
		}
		if s.items[key] = append(list[:0:0], list[n:]...); len(s.items[key]) == 0 {
			delete(s.items, key)
		} else {
			left = true
		}
	}
	switch {
	case left && !s.closed:
		s.timer.Reset(s.keep/2 + time.Millisecond)
	default:
		s.timer = nil
	}
	s.mu.Unlock()
	for _, item := range old {
		item.Close()
	}
}

// clear closes everything that lies under a key.
func (s *shelf[T]) clear(key string) {
	s.mu.Lock()
	list := s.items[key]
	delete(s.items, key)
	s.mu.Unlock()
	for _, l := range list {
		l.item.Close()
	}
}

// Close closes everything, now and what is put later.
func (s *shelf[T]) Close() error {
	s.mu.Lock()
	items := s.items
	s.items, s.closed = nil, true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	for _, list := range items {
		for _, l := range list {
			l.item.Close()
		}
	}
	return nil
}
