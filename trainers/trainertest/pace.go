package trainertest

import (
	"context"
	"runtime"
	"sync"

	"dkpipe/ps"
	"dkpipe/trainers"
)

// pace keeps workers at equal speed, in commits, whatever the scheduler does. Bounds on asynchronous methods assume
// that: steps of a test take a microsecond, so a worker that loses its processor for a moment would otherwise come back
// with a delta that is hundreds of versions old.
type pace struct {
	mu      sync.Mutex
	commits map[ps.Worker]int  // of workers that are at work
	asking  map[ps.Worker]bool // those of them that are in Next
}

func newPace() *pace { return &pace{commits: map[ps.Worker]int{}, asking: map[ps.Worker]bool{}} }

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

// slowest is the least number of commits of the others.
func (p *pace) slowest(w ps.Worker, asking bool) (least int, any bool) {
	for o, n := range p.commits {
		if o != w && (asking || !p.asking[o]) && (!any || n < least) {
			least, any = n, true
		}
	}
	return least, any
}

// enter makes the others wait for w, which starts level with the slowest.
func (p *pace) enter(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits[w], _ = p.slowest(w, true)
}

func (p *pace) leave(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.commits, w)
}

// wait lets w commit when no other is behind it. Those in Next count unless they wait there for somebody's data.
func (p *pace) wait(w ps.Worker, srv *ps.Server) {
	for !p.may(w, srv.Progress().Waiting) {
		runtime.Gosched()
	}
}

func (p *pace) may(w ps.Worker, waiting int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	least, any := p.slowest(w, waiting < len(p.asking))
	return !any || p.commits[w] <= least
}

func (p *pace) committed(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits[w]++
}

func (p *pace) asks(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking[w] = true
}

// answered lets w go on, level with the others if they went on without it.
func (p *pace) answered(w ps.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asking, w)
	if least, any := p.slowest(w, true); any && least > p.commits[w]+1 {
		p.commits[w] = least
	}
}

// paced is a server that is used at the pace of the others.
type paced struct {
	pace *pace
	srv  *ps.Server
}

var _ trainers.Server = (*paced)(nil)

func (s *paced) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	if c.Seq > 0 {
		s.pace.wait(c.Worker, s.srv)
		defer s.pace.committed(c.Worker)
	}
	return s.srv.Exchange(ctx, c, dst)
}

func (s *paced) Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error) {
	s.pace.asks(w)
	defer s.pace.answered(w)
	return s.srv.Next(ctx, w, incarnation)
}
