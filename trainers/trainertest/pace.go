package trainertest

import (
	"context"
	"sync"

	"dkpipe/ps"
	"dkpipe/trainers"
)

// pace keeps workers at equal speed, in commits, whatever the scheduler does. Bounds on asynchronous methods assume
// that: steps of a test take a microsecond, so a worker that loses its processor for a moment would otherwise come back
// with a delta that is hundreds of versions old.
type pace struct {
	mu      sync.Mutex
	moved   *sync.Cond
	commits map[ps.Worker]int // of workers that are computing, or about to commit
}

func newPace() *pace {
	p := &pace{commits: map[ps.Worker]int{}}
	p.moved = sync.NewCond(&p.mu)
	return p
}

// launch runs a worker in this process at the pace of the others.
func (p *pace) launch(cfg trainers.Config) func(context.Context, *ps.Server, ps.Worker) error {
	return func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		replica, err := cfg.Replica(w)
		if err != nil {
			return err
		}
		opt, err := cfg.Optimizer(len(replica.Params()))
		if err != nil {
			return err
		}
		incarnation, err := srv.Join(w)
		if err != nil {
			return err
		}
		p.enter(w)
		defer p.leave(w)
		_, err = trainers.Work(ctx, trainers.WorkerConfig{
			Algorithm: cfg.Algorithm, Server: &paced{p, srv}, Worker: w, Incarnation: incarnation, Workers: cfg.Workers,
			Window: cfg.Window, Feed: cfg.Feed, Replica: replica, Optimizer: opt,
		})
		return err
	}
}

func (p *pace) slowest() int {
	least := -1
	for _, n := range p.commits {
		if least < 0 || n < least {
			least = n
		}
	}
	return max(least, 0)
}

// enter makes the others wait for w, which starts level with the slowest.
func (p *pace) enter(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits[w] = p.slowest()
}

func (p *pace) leave(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.commits, w)
	p.moved.Broadcast()
}

// wait lets w commit when no other is behind it.
func (p *pace) wait(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.commits[w] > p.slowest() {
		p.moved.Wait()
	}
}

func (p *pace) committed(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits[w]++
	p.moved.Broadcast()
}

// paced is a server that is used at the pace of the others.
type paced struct {
	pace *pace
	srv  *ps.Server
}

var _ trainers.Server = (*paced)(nil)

func (s *paced) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	s.pace.wait(c.Worker)
	ack, err := s.srv.Exchange(ctx, c, dst)
	s.pace.committed(c.Worker)
	return ack, err
}

func (s *paced) Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error) {
	s.pace.leave(w) // it may wait for the others here
	defer s.pace.enter(w)
	return s.srv.Next(ctx, w, incarnation)
}
