package trainers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/model"
)

// SimConfig is a run in virtual time: the real algorithm, engine, models and data, in one process, with as many workers as
// are wanted. What takes time is said here and not measured, and calls reach the server in the order of their virtual
// times, so that equal configurations give equal bits.
type SimConfig struct {
	// Config is the run. Launch, MinWorkers, Observer, OrderLog and From are not used.
	Config
	// Worker says how each of Workers + Extra workers is; nil: each takes a second for a step.
	Worker func(w ps.Worker) SimWorker
	Extra  int // workers beyond the expected ones, which join later
	// Latency is the time that an exchange spends on the way, both ways together, in seconds.
	Latency float64
	// Service is the time that one server would take for an exchange; Servers share it, and it waits for those before it.
	Service float64
	Servers int     // 0 means 1
	Lease   float64 // how long a killed worker is waited for
	Until   float64 // when the run is stopped; 0 lets it end by itself
	// Committed is called after every acknowledged commit, one at a time; it may be nil.
	Committed func(SimCommit)
}

// SimWorker is a worker in virtual time.
type SimWorker struct {
	Step     float64 // seconds of one local step
	Joins    float64 // when it joins
	Dies     float64 // when it is killed, losing its open window; 0: never
	PauseAt  float64 // when it stands still, once,
	PauseFor float64 // and for how long
}

// SimCommit is a commit at its virtual time.
type SimCommit struct {
	Seconds float64
	Commit  ps.Commit // without its delta
	Ack     ps.Ack
	// Centre copies the centre as it is after the commit.
	Centre func(dst []float32)
}

// SimResult is what came out of a simulated run.
type SimResult struct {
	Params    []float32
	Seconds   float64       // virtual, until the last worker left
	Complete  bool          // all data was worked through
	Stats     ps.Stats      // of the server
	Workers   []WorkerStats // by worker; times are virtual
	Staleness []int64       // commits by staleness
	Lost      []Lost
}

// Fairness is Jain's index of the workers' commits (Jain, Chiu, Hawe 1984): 1 when all made as many, 1/n when one made
// them all.
func (r SimResult) Fairness() float64 {
	var sum, squares float64
	for _, w := range r.Workers {
		sum += float64(w.Commits)
		squares += float64(w.Commits) * float64(w.Commits)
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(r.Workers)) * squares)
}

var errKilled = errors.New("killed")

// Simulate runs a training in virtual time. Errors that would end a real run at once end it, with what was reached in the
// result: among them the divergence of more workers than are left.
func Simulate(ctx context.Context, cfg SimConfig) (SimResult, error) {
	if err := cfg.check(); err != nil {
		return SimResult{}, err
	}
	shards, err := cfg.Feed.Shards(ctx)
	if err != nil {
		return SimResult{}, err
	}
	s := &sim{cfg: cfg, share: cfg.Service / float64(max(1, cfg.Servers))}
	if s.cfg.Worker == nil {
		s.cfg.Worker = func(ps.Worker) SimWorker { return SimWorker{Step: 1} }
	}
	for w := range ps.Worker(cfg.Workers + cfg.Extra) {
		replica, err := cfg.Replica(w)
		if err != nil {
			return SimResult{}, err
		}
		s.workers = append(s.workers, &simWorker{sim: s, id: w, is: s.cfg.Worker(w), Replica: replica, woken: make(chan simAnswer, 1)})
	}
	if s.core, err = cfg.core(s.workers[0].Params(), shards); err != nil {
		return SimResult{}, err
	}
	return s.run(ctx)
}

// sim is the state of a simulated run. Workers compute in goroutines of their own; calls of the core are made by whoever
// notices that nobody computes any more, under the lock, in the order of virtual times.
type sim struct {
	cfg     SimConfig
	share   float64 // of a server's time for one exchange
	workers []*simWorker

	mu      sync.Mutex
	core    *ps.Core
	running int       // workers that compute
	living  int       // workers that have not ended
	queue   []simCall // calls on their way to the server, at most one a worker
	now     float64
	free    float64 // when the server has time for the next exchange
	stopped bool
	result  SimResult
	err     error

	diverged int // workers
}

type simKind uint8

const (
	simJoin simKind = iota
	simExchange
	simNext
	simLeave
)

// simCall is a call of a worker.
type simCall struct {
	w      *simWorker
	kind   simKind
	at     float64 // when it reaches the server
	commit ps.Commit
	dst    []float32
	why    string
	flying bool // nobody waits for it yet
}

// simAnswer is what a call came to.
type simAnswer struct {
	at          float64 // when it reaches the worker
	ack         ps.Ack
	unit        ps.Unit
	turn        ps.Turn
	incarnation uint64
	err         error
}

// simWorker is a worker's replica, clock and connection. Its clock is the worker's own while it computes, and the
// scheduler's while it waits.
type simWorker struct {
	model.Replica
	sim      *sim
	id       ps.Worker
	is       SimWorker
	clock    float64
	life     uint64
	paused   bool
	deferred *simCall // the call that the core has not answered yet
	woken    chan simAnswer

	flying  bool       // a commit is on its way and nobody waits for it
	landed  *simAnswer // its answer
	flown   float64    // when it was sent
	stats   WorkerStats
	waiting bool // for the landing
}

var (
	_ Server = (*simWorker)(nil)
	_ sender = (*simWorker)(nil)
)

func (s *sim) run(ctx context.Context) (SimResult, error) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fail(ctx.Err())
	})
	defer stop()
	var all sync.WaitGroup
	s.running, s.living = len(s.workers), len(s.workers)
	for _, w := range s.workers {
		all.Go(func() { w.work(ctx) })
	}
	all.Wait()
	if s.err == nil {
		s.err = ctx.Err() // workers that hear of it end in order
	}
	r := s.result
	r.Params = make([]float32, s.core.Len())
	if _, err := s.core.Centre(r.Params); err != nil && s.err == nil {
		s.err = err
	}
	r.Stats, r.Complete = s.core.Stats(), s.core.Complete()
	for _, w := range s.workers {
		w.stats.ID = w.id
		r.Workers = append(r.Workers, w.stats)
		r.Seconds = max(r.Seconds, w.clock)
	}
	return r, s.err
}

// work is a worker's life.
func (w *simWorker) work(ctx context.Context) {
	w.clock = w.is.Joins
	joined := w.call(simCall{kind: simJoin, at: w.clock})
	w.life = joined.incarnation
	err := joined.err
	if err == nil {
		err = w.train(ctx)
	}
	if w.flying { // it was killed: what it sent arrives all the same
		w.land()
	}
	leave := simCall{kind: simLeave, at: w.clock, why: "done"}
	if err != nil {
		leave.why = err.Error()
		leave.at += w.sim.cfg.Lease
	}
	w.call(leave)
	w.sim.ended(w, err)
}

func (w *simWorker) train(ctx context.Context) error {
	c := w.sim.cfg
	opt, err := c.Optimizer(len(w.Params()))
	if err != nil {
		return err
	}
	w.stats, err = Work(ctx, WorkerConfig{Algorithm: c.Algorithm, Server: w, Worker: w.id, Incarnation: w.life, Workers: c.Workers,
		Window: c.Window, Feed: c.Feed, Replica: w.replica(), Optimizer: opt, MaxRejects: c.MaxRejects,
		clock: func() time.Time { return time.Unix(0, int64(w.clock*1e9)) }})
	return err
}

// replica gives what is trained: a replica whose steps take virtual time.
func (w *simWorker) replica() model.Replica {
	if d, ok := w.Replica.(model.Descender); ok {
		return simDescender{w, d}
	}
	return w
}

// Step implements model.Replica.
func (w *simWorker) Step(b *pipeline.Batch) (float32, error) {
	if err := w.tick(); err != nil {
		return 0, err
	}
	return w.Replica.Step(b)
}

// simDescender is a simWorker with a replica that is a model.Descender.
type simDescender struct {
	*simWorker
	d model.Descender
}

// Descend implements model.Descender.
func (s simDescender) Descend(b *pipeline.Batch, lazy bool, update func(at int, grads []float32)) (float32, error) {
	if err := s.tick(); err != nil {
		return 0, err
	}
	return s.d.Descend(b, lazy, update)
}

// tick lets the time of a step pass.
func (w *simWorker) tick() error {
	w.clock += w.is.Step
	if w.is.PauseFor > 0 && !w.paused && w.clock >= w.is.PauseAt {
		w.paused = true
		w.clock += w.is.PauseFor
	}
	if w.is.Dies > 0 && w.clock >= w.is.Dies {
		return errKilled
	}
	return nil
}

// Exchange implements Server.
func (w *simWorker) Exchange(_ context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	a := w.call(simCall{kind: simExchange, at: w.clock + w.sim.cfg.Latency/2, commit: c, dst: dst})
	return a.ack, a.err
}

// Next implements Server.
func (w *simWorker) Next(context.Context, ps.Worker, uint64) (ps.Unit, ps.Turn, error) {
	a := w.call(simCall{kind: simNext, at: w.clock})
	return a.unit, a.turn, a.err
}

// call makes a call and waits for its answer.
func (w *simWorker) call(c simCall) simAnswer {
	s := w.sim
	c.w = w
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.running--
	s.schedule()
	s.mu.Unlock()
	a := <-w.woken
	w.clock = max(w.clock, a.at)
	return a
}

// fly implements sender.
func (w *simWorker) fly(c ps.Commit, dst []float32) {
	s := w.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	w.flying, w.landed, w.flown = true, nil, w.clock
	s.queue = append(s.queue, simCall{w: w, kind: simExchange, at: w.clock + s.cfg.Latency/2, commit: c, dst: dst, flying: true})
}

// land implements sender.
func (w *simWorker) land() landing {
	s := w.sim
	s.mu.Lock()
	w.flying = false
	a := w.landed
	if a == nil {
		w.waiting = true
		s.running--
		s.schedule()
	}
	s.mu.Unlock()
	if a == nil {
		got := <-w.woken
		a = &got
	}
	w.clock = max(w.clock, a.at)
	return landing{a.ack, a.err, time.Duration((a.at - w.flown) * 1e9)}
}

// ended notes the end of a worker.
func (s *sim) ended(w *simWorker, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.living--
	if err != nil && s.err == nil {
		s.result.Lost = append(s.result.Lost, Lost{w.id, err})
		beyond := isPermanent(err)
		if kindOf(err) == pipeline.Diverged {
			s.diverged++
			beyond = !spared(s.diverged, s.living)
		}
		if beyond {
			s.fail(err)
		}
	}
	s.schedule()
}

// fail ends the run at once: all calls from now on get an error.
func (s *sim) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.core.Abort(aborted(err))
	s.deliver(s.now)
}

// schedule lets the next call reach the server, as long as nobody computes.
func (s *sim) schedule() {
	for s.running == 0 && len(s.queue) > 0 {
		first := 0
		for i, c := range s.queue {
			if f := s.queue[first]; c.at < f.at || c.at == f.at && c.w.id < f.w.id {
				first = i
			}
		}
		c := s.queue[first]
		s.queue = slices.Delete(s.queue, first, first+1)
		s.serve(c)
	}
}

// serve lets one call reach the core.
func (s *sim) serve(c simCall) {
	s.now = max(s.now, c.at)
	if s.cfg.Until > 0 && s.now >= s.cfg.Until && !s.stopped {
		s.stopped = true
		s.core.Stop()
		s.deliver(s.now)
	}
	at, waits := s.now, false
	var a simAnswer
	switch c.kind {
	case simJoin:
		a.incarnation, a.err = s.core.Join(c.w.id)
	case simNext:
		a.unit, a.turn, a.err = s.core.Next(c.w.id, c.w.life, 0)
		waits = a.err == nil && a.turn == ps.Wait
	case simExchange:
		at = max(s.now, s.free) + s.share
		s.free = at
		a.ack, waits, a.err = s.core.Commit(c.commit, c.dst)
	case simLeave:
		a.err = s.core.Leave(c.w.id, c.w.life, c.why)
	}
	if waits {
		c.w.deferred = &c
	} else {
		s.answer(c, a, at)
	}
	s.deliver(at)
}

// deliver takes the answers that the core has ready at a time.
func (s *sim) deliver(at float64) {
	for _, ready := range slices.Clone(s.core.Answers()) {
		w := s.workers[ready.Worker]
		if c := w.deferred; c != nil {
			w.deferred = nil
			s.answer(*c, simAnswer{ack: ready.Ack, unit: ready.Unit, turn: ready.Turn, err: ready.Err}, at)
		}
	}
}

// answer sends an answer on its way at a time.
func (s *sim) answer(c simCall, a simAnswer, at float64) {
	a.at = at
	if c.kind == simExchange {
		a.at += s.cfg.Latency / 2
		if a.err == nil && c.commit.Seq > 0 {
			s.count(c.commit, a.ack, at)
		}
	}
	w := c.w
	if c.flying && !w.waiting {
		w.landed = &a
		return
	}
	w.waiting = false
	s.running++
	w.woken <- a // has room: a worker waits for one answer
}

func (s *sim) count(c ps.Commit, a ps.Ack, at float64) {
	if c.Delta != nil && a.Rejected == "" && !a.Dropped {
		for uint64(len(s.result.Staleness)) <= a.Staleness {
			s.result.Staleness = append(s.result.Staleness, 0)
		}
		s.result.Staleness[a.Staleness]++
	}
	if s.cfg.Committed != nil {
		c.Delta = nil
		s.cfg.Committed(SimCommit{Seconds: at, Commit: c, Ack: a, Centre: func(dst []float32) {
			if _, err := s.core.Centre(dst); err != nil {
				s.fail(fmt.Errorf("the centre of a simulated run: %w", err))
			}
		}})
	}
}
