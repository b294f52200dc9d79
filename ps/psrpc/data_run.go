package psrpc

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"time"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

// lookEvery is how often a data server looks whether it was spoken to. Its coordinator speaks every pingEvery.
const lookEvery = time.Second

// taken is how many looks without a word it takes before another run may have the data server.
const taken = 10

// Wait waits until the coordinator says that its run is over, and gives an error when the coordinator, having loaded the server,
// says nothing for longer than patience. Time in which this process did not run does not count.
func (s *DataServer) Wait(ctx context.Context, patience time.Duration) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if quiet := s.look(); quiet > patience {
			return &ps.Error{Kind: "unreachable", Message: fmt.Sprintf("the coordinator of the run has said nothing for %v", quiet),
				Hint: "start the data server again for another run"}
		}
	}
}

// look counts how long the coordinator has been quiet; it has to be called every lookEvery.
func (s *DataServer) look() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet++; s.heard || s.talks > 0 || s.run == nil {
		s.quiet = 0
	}
	s.heard = false
	return time.Duration(s.quiet) * lookEvery
}

// listen notes that an order is being received or answered, until the function that it gives is called.
func (s *DataServer) listen() (done func()) {
	count := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.talks += n
	}
	count(1)
	return func() { count(-1) }
}

// Loaded says how many parameters the server holds.
func (s *DataServer) Loaded() int {
	store, _ := s.current()
	if store == nil {
		return 0
	}
	n, _ := store.Size()
	return n
}

// finish ends the run that the server belongs to.
func (s *DataServer) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = nil
	if !s.over {
		s.over = true
		close(s.ended)
	}
}

// current gives the store, and whose it is.
func (s *DataServer) current() (*ps.Store, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store, s.run
}

func (s *DataServer) width() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots
}

// empty makes a new store.
func (s *DataServer) empty(rule ps.Rule) error {
	store, err := ps.NewStore(rule)
	if err != nil {
		return err
	}
	s.store, s.slots, s.load = store, rule.Slots(), nil
	return nil
}

// belongs gives the store that an order is for. Workers have the same ticket as the coordinator, but they do not know the name of
// its run, without which nobody is heeded while it is at work. A run gets a new one with its first load, unless another run is at work.
func (s *DataServer) belongs(o *pspb.Order) (*ps.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(o.Run) > 64:
		return nil, malformed("the name of a run of %d bytes", len(o.Run))
	case subtle.ConstantTimeCompare(o.Run, s.run) == 1: // both may be empty
	case s.run != nil && s.quiet < taken:
		return nil, &ps.Error{Kind: "busy", Message: "the data server belongs to another run", Hint: "give each run data servers of its own, or wait for the end of that run"}
	case o.Load == nil && o.Epoch != 0:
		return nil, &ps.Error{Kind: "timeout", Message: "the data server was started again and has nothing of this run", Err: ps.ErrFenced}
	case o.Load == nil:
		return nil, nil
	default:
		rule, err := s.rule, error(nil)
		if s.opts.Rule != nil {
			rule, err = s.opts.Rule(o.Job)
		}
		if err == nil {
			err = s.empty(rule)
		}
		if err != nil {
			return nil, err
		}
		s.run = bytes.Clone(o.Run)
	}
	s.heard = true
	return s.store, nil
}
