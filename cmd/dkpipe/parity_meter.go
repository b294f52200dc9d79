package main

import (
	"sync/atomic"
	"time"

	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
)

// timeShares say what workers spend their time on: parts of the time between their first step and their end, mean over the
// workers.
type timeShares struct {
	Feed    float64 `json:"feed"`
	Compute float64 `json:"compute"`
	Link    float64 `json:"link"`
	Server  float64 `json:"server"`
	Peers   float64 `json:"peers"` // waiting for other workers, where a trainer works in rounds
}

// sharesOf splits the waiting of workers. While they wait for the parameter server it works, for them or for another one
// that came first, or commits and replies are under way: so the server's part is as much of the wait as it was busy, and the
// rest is the link's. Workers that are not remote have no link: what is left they spend on taking turns at the server. In
// rounds, the worker that waits least waits for nobody else.
func sharesOf(r trainers.Result, busy float64, rounds, remote bool) timeShares {
	var s timeShares
	n, wait, least := 0.0, 0.0, 0.0
	for _, w := range r.Workers {
		if w.Steps == 0 {
			continue
		}
		s.Feed += w.FeedS
		s.Compute += w.ComputeS
		wait += w.WaitS
		if n == 0 || w.WaitS < least {
			least = w.WaitS
		}
		n++
	}
	whole := s.Feed + s.Compute + wait
	if whole <= 0 {
		return s
	}
	s.Feed, s.Compute, wait = s.Feed/whole, s.Compute/whole, wait/whole
	own := wait
	if rounds {
		own = n * least / whole
	}
	s.Server = min(own, n*busy/whole)
	switch {
	case remote:
		s.Link = own - s.Server
	case !rounds:
		s.Server = own
	}
	s.Peers = wait - s.Server - s.Link
	return s
}

// bottleneck names the greatest share. Waiting for others in rounds is waiting for their computing.
func (s timeShares) bottleneck() string {
	name, most := "compute", s.Compute+s.Peers
	for _, c := range []struct {
		name  string
		share float64
	}{{"feed", s.Feed}, {"link", s.Link}, {"server", s.Server}} {
		if c.share > most {
			name, most = c.name, c.share
		}
	}
	return name
}

// pace measures how fast workers are once all of them are at work: starting processes is not what parity compares.
type pace struct {
	workers int
	seen    map[ps.Worker]bool
	from    trainers.Progress
	last    trainers.Progress
}

// Progress implements trainers.Observer.
func (p *pace) Progress(x trainers.Progress) {
	if len(p.seen) < p.workers {
		p.seen[x.Worker] = true
		p.from = x
	}
	p.last = x
}

// EpochDone implements trainers.Observer.
func (p *pace) EpochDone(trainers.Epoch, []float32) {}

// WorkerLost implements trainers.Observer.
func (p *pace) WorkerLost(ps.Worker, error) {}

// rate is samples per second: of the whole run, where it was over before all were at work.
func (p *pace) rate(r trainers.Result) float64 {
	if samples, seconds := p.last.Samples-p.from.Samples, p.last.Seconds-p.from.Seconds; len(p.seen) == p.workers && 2*samples > r.Samples && seconds > 0 {
		return float64(samples) / seconds
	}
	return float64(r.Samples) / max(r.Seconds, 1e-9)
}

// meteredAlgorithm is an algorithm whose server half is timed.
type meteredAlgorithm struct {
	trainers.Algorithm
	nanos atomic.Int64
}

var (
	_ trainers.Configured = (*meteredAlgorithm)(nil)
	_ trainers.Checker    = (*meteredAlgorithm)(nil)
	_ trainers.OnServer   = (*meteredAlgorithm)(nil)
)

// busy is how long the server has worked, in seconds.
func (m *meteredAlgorithm) busy() float64 { return time.Duration(m.nanos.Load()).Seconds() }

// Rule implements trainers.Algorithm.
func (m *meteredAlgorithm) Rule(workers int) ps.Rule {
	return &meteredRule{m.Algorithm.Rule(workers), &m.nanos}
}

// ServerRule implements trainers.OnServer.
func (m *meteredAlgorithm) ServerRule(workers int, optimizer func(params int) (optim.Optimizer, error)) (ps.Rule, error) {
	r, err := trainers.Rule(m.Algorithm, workers, optimizer)
	if err != nil {
		return nil, err
	}
	return &meteredRule{r, &m.nanos}, nil
}

// Settings implements trainers.Configured.
func (m *meteredAlgorithm) Settings() trainers.Policy {
	if c, ok := m.Algorithm.(trainers.Configured); ok {
		return c.Settings()
	}
	return trainers.Policy{}
}

// Check implements trainers.Checker.
func (m *meteredAlgorithm) Check(workers, window int) ([]string, error) {
	if c, ok := m.Algorithm.(trainers.Checker); ok {
		return c.Check(workers, window)
	}
	return nil, nil
}

// meteredRule is a rule that is timed.
type meteredRule struct {
	ps.Rule
	nanos *atomic.Int64
}

var (
	_ ps.BaseRule   = (*meteredRule)(nil)
	_ ps.CentreRule = (*meteredRule)(nil)
)

// Apply implements ps.Rule.
func (m *meteredRule) Apply(centre, slots, delta, reply []float32, c ps.Commit) {
	start := time.Now()
	m.Rule.Apply(centre, slots, delta, reply, c)
	m.nanos.Add(int64(time.Since(start)))
}

// UsesBase implements ps.BaseRule.
func (m *meteredRule) UsesBase() bool {
	r, ok := m.Rule.(ps.BaseRule)
	return ok && r.UsesBase()
}

// RepliesCentre implements ps.CentreRule.
func (m *meteredRule) RepliesCentre() bool {
	r, ok := m.Rule.(ps.CentreRule)
	return ok && r.RepliesCentre()
}
