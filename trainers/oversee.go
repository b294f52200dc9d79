package trainers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
)

// pendingBytes bounds the copies of centres that wait to be measured. When more would be needed, an epoch is not
// measured.
const pendingBytes = 512 << 20

// overseer does what Oversight asks for. Its goroutines run between start and finish.
type overseer struct {
	Oversight
	srv     *ps.Server
	guard   *guard // nil without data servers
	watch   *watch
	epochs  int
	plateau *plateau  // nil without; its state is under mu
	begun   time.Time // moved back by the time before a resume
	done    chan struct{}
	wait    sync.WaitGroup
	latest  int           // epoch that was decided about; only validate's
	measure chan struct{} // has room for one: pending is not empty
	tick    chan struct{} // has room for one: steps reached a mark

	mu       sync.Mutex
	pending  []*centreOf
	measured *centreOf // is being measured, and nothing was decided about it
	idle     bool      // what is measured now would change nothing
	spare    [][]float32
	room     int  // bytes that pending may take
	full     bool // the run has done its steps: the server has stopped it
	steps    int64
	mark     int64 // steps at which the next checkpoint is due
	decided  bool
	ending   Ending
	err      error
	best     float64
	worse    int
	result   *centreOf // what the run is to give; nil: the one at the end
	complete bool      // all epochs were worked through
}

// centreOf is a copy of the centre at the end of an epoch.
type centreOf struct {
	epoch  Epoch
	centre []float32
	shared bool // with a checkpoint: its memory is not used again
}

// newOverseer makes who looks after a run, nil if nobody has to.
func newOverseer(cfg Config, w *watch) *overseer {
	if cfg.Validation == nil && cfg.Checkpoint == nil && cfg.Limits == (Limits{}) {
		return nil
	}
	o := &overseer{Oversight: cfg.Oversight, watch: w, epochs: cfg.Epochs, plateau: newPlateau(cfg), begun: w.start, done: make(chan struct{}),
		measure: make(chan struct{}, 1), tick: make(chan struct{}, 1), room: pendingBytes}
	if e := o.early(); e != nil {
		o.best = e.worst()
	}
	if p := cfg.Past; p != nil {
		o.begun = o.begun.Add(-time.Duration(p.Seconds * float64(time.Second)))
		o.steps, o.worse = p.Steps, p.Worse
		if p.Best != nil && o.early() != nil {
			o.best = *p.Best
			if len(p.BestCentre) > 0 {
				o.result = &centreOf{epoch: Epoch{Epoch: p.BestEpoch}, centre: p.BestCentre, shared: true}
			}
		}
		for _, w := range p.Waiting {
			if o.Validation != nil && w.Epoch <= o.epochs {
				o.pending = append(o.pending, &centreOf{epoch: Epoch{Epoch: w.Epoch}, centre: w.Centre, shared: true})
				notify(o.measure)
			}
		}
	}
	o.full = o.Limits.Steps > 0 && o.steps >= o.Limits.Steps
	if c := o.Checkpoint; c != nil && c.EverySteps > 0 {
		o.mark = o.steps + c.EverySteps
	}
	return o
}

func (o *overseer) early() *EarlyStopping {
	if o.Validation == nil {
		return nil
	}
	return o.Validation.EarlyStopping
}

// start lets the overseer look after a server until finish.
func (o *overseer) start(ctx context.Context, srv *ps.Server, g *guard) {
	if o == nil {
		return
	}
	o.srv, o.guard = srv, g
	if o.Validation != nil {
		o.wait.Go(func() { o.validate(ctx) })
	}
	if o.Checkpoint != nil || o.Limits.Time > 0 {
		o.wait.Go(func() { o.keepTime(ctx) })
	}
}

// finish waits until everything is measured, unless the run failed or was interrupted, and fills in what is known.
func (o *overseer) finish(ctx context.Context, r *Result, err error) error {
	r.Ended = Ending{Reason: EndComplete}
	switch {
	case err != nil:
		r.Ended = Ending{Reason: EndFailed}
	case r.Interrupted:
		r.Ended = Ending{Reason: EndInterrupted}
	}
	if o == nil {
		return err
	}
	o.mu.Lock()
	o.complete = err == nil && r.Snapshot.Epoch >= o.epochs
	full := err == nil && !o.complete && o.full // what was complete before may end the run all the same: in the order of epochs
	if !o.complete && !full {
		o.idle = true
	}
	o.mu.Unlock()
	close(o.done)
	o.wait.Wait()
	if o.Checkpoint != nil && (r.Interrupted && !o.decided && !full || err != nil && kindOf(err) != pipeline.Diverged) {
		o.checkpoint(context.WithoutCancel(ctx)) // everything that was acknowledged: nothing has to be done again
	}
	if err != nil {
		return err
	}
	if o.err != nil {
		r.Ended = Ending{Reason: EndFailed}
		return o.err
	}
	if full && !o.decided {
		o.decided, o.ending = true, Ending{Reason: EndSteps, Text: fmt.Sprintf("the limit of %d steps was reached", o.Limits.Steps)}
	}
	if o.decided {
		r.Ended, r.Interrupted = o.ending, false
	}
	if o.result != nil && !r.Interrupted {
		r.Params, r.Ended.Epoch = o.result.centre, o.result.epoch.Epoch
	}
	return nil
}

// stopping says whether the overseer has ended the run.
func (o *overseer) stopping() bool {
	if o == nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.decided || o.full || o.err != nil
}

// end ends the run. The first reason counts.
func (o *overseer) end(e Ending, err error) {
	o.mu.Lock()
	first := !o.decided && o.err == nil
	if first {
		o.decided, o.ending, o.err = err == nil, e, err
	}
	o.mu.Unlock()
	if first {
		o.srv.Stop()
	}
}

// epochDone takes a copy of the centre when it is to be measured. It says whether there was no room for that. It is called with
// the server's lock held.
func (o *overseer) epochDone(e Epoch, centre []float32) (skipped bool) {
	if o == nil || o.Validation == nil || e.Epoch%max(1, o.Validation.Every) != 0 && e.Epoch != o.epochs {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.decided {
		return false
	}
	if len(o.pending) > 0 && (len(o.pending)+1)*4*len(centre) > o.room && e.Epoch != o.epochs && o.plateau == nil { // a plateau lets few wait, and none out
		return true
	}
	var to []float32
	if n := len(o.spare); n > 0 {
		to, o.spare = o.spare[n-1], o.spare[:n-1]
	}
	o.pending = append(o.pending, &centreOf{epoch: e, centre: append(to[:0], centre...)})
	notify(o.measure)
	return false
}

// stepped counts steps. It is called with the server's lock held.
func (o *overseer) stepped(steps int) {
	if o == nil {
		return
	}
	o.mu.Lock()
	o.steps += int64(steps)
	due := o.mark > 0 && o.steps >= o.mark
	o.full = o.Limits.Steps > 0 && o.steps >= o.Limits.Steps
	o.mu.Unlock()
	if due {
		notify(o.tick)
	}
}

// rewound takes the overseer back to when so many steps and epochs were done.
func (o *overseer) rewound(steps int64, epochs int) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.steps, o.full = steps, o.Limits.Steps > 0 && steps >= o.Limits.Steps
	if o.mark > 0 {
		o.mark = steps + o.Checkpoint.EverySteps
	}
	o.pending = slices.DeleteFunc(o.pending, func(c *centreOf) bool { return c.epoch.Epoch > epochs })
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// validate measures centres as they come.
func (o *overseer) validate(ctx context.Context) {
	for {
		c, ok := o.take()
		if !ok {
			select {
			case <-o.measure:
				continue
			case <-o.done:
			}
			if c, ok = o.take(); !ok {
				return
			}
		}
		m, err := o.Validation.Evaluate(ctx, c.centre)
		if err != nil {
			if ctx.Err() == nil {
				o.end(Ending{}, fmt.Errorf("validation of epoch %d: %w", c.epoch.Epoch, err))
			}
			return
		}
		// An epoch that was done again after a data server was lost is in the history as it is now; what was decided stands.
		if e, ok := o.watch.validated(c.epoch.Epoch, m); ok && e.Epoch > o.latest {
			o.latest = e.Epoch
			o.decide(c, e)
		} else {
			o.forget()
		}
	}
}

// take gives the earliest centre that waits.
func (o *overseer) take() (*centreOf, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.decided || o.idle || o.err != nil || len(o.pending) == 0 {
		return nil, false
	}
	c := o.pending[0]
	o.pending, o.measured = slices.Delete(o.pending, 0, 1), c
	return c, true
}

// forget is for a measured centre about which there is nothing to decide.
func (o *overseer) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.measured = nil
}

// decide looks what a measurement means for the run.
func (o *overseer) decide(c *centreOf, e Epoch) {
	var ending Ending
	o.mu.Lock()
	c.epoch, o.measured = e, nil
	free := c
	take := func() { // c is the run's result
		if free == c {
			free, o.result = o.result, c
		}
	}
	if s := o.early(); s != nil {
		if v := e.value(s.monitor()); s.better(v, o.best) {
			o.best, o.worse = v, 0
			if s.RestoreBest {
				take()
			}
		} else if o.worse++; o.worse >= s.Patience {
			ending = Ending{Reason: EndEarlyStopping, Text: fmt.Sprintf("%s did not get better than %.6g in %d measurements up to epoch %d",
				s.monitor(), o.best, o.worse, e.Epoch)}
			if !s.RestoreBest { // not where the workers were by the time that it was measured, which is up to chance
				take()
			}
		}
	}
	if t := o.Validation.Target; t != nil {
		if v := e.value(t.Metric); t.reached(v) {
			ending = Ending{Reason: EndTarget, Text: fmt.Sprintf("%s reached %.6g in epoch %d", t.Metric, v, e.Epoch)}
			take()
		}
	}
	if free != nil && !free.shared {
		o.spare = append(o.spare, free.centre)
	}
	var tell func()
	if ending.Reason == "" {
		tell = o.reduce(e)
	}
	o.mu.Unlock()
	switch {
	case ending.Reason != "":
		o.end(ending, nil)
	case tell != nil:
		tell()
	}
}

// keepTime watches the limit of time and keeps checkpoints.
func (o *overseer) keepTime(ctx context.Context) {
	var limit, beat <-chan time.Time
	if o.Limits.Time > 0 {
		t := time.NewTimer(time.Until(o.begun.Add(o.Limits.Time)))
		defer t.Stop()
		limit = t.C
	}
	if o.Checkpoint != nil && o.Checkpoint.Every > 0 {
		t := time.NewTicker(o.Checkpoint.Every)
		defer t.Stop()
		beat = t.C
	}
	for {
		select {
		case <-o.done:
			return
		case <-limit:
			o.end(Ending{Reason: EndSeconds, Text: fmt.Sprintf("the limit of %v was reached", o.Limits.Time)}, nil)
		case <-beat:
			o.checkpoint(ctx)
		case <-o.tick:
			o.reached(ctx)
		}
	}
}

// reached keeps a checkpoint when enough steps were done.
func (o *overseer) reached(ctx context.Context) {
	o.mu.Lock()
	steps, due := o.steps, false
	for c := o.Checkpoint; o.mark > 0 && o.mark <= steps; due = true {
		o.mark += c.EverySteps
	}
	o.mu.Unlock()
	if due {
		o.checkpoint(ctx)
	}
}

// checkpoint saves the run as it is at this moment: the server's state, the books and what was decided are looked at together,
// while nothing is committed.
func (o *overseer) checkpoint(ctx context.Context) {
	p := &Past{}
	s := o.guard.snapshot(o.srv, o.watch, func() {
		p.Epochs, p.Steps = o.watch.sofar()
		o.decisions(p)
	})
	if s == nil {
		return // a data server is lost; the run goes back, or ends
	}
	p.Seconds = time.Since(o.begun).Seconds()
	o.Checkpoint.Save(ctx, s, p)
}

// decisions notes what was decided so far, and the centres that wait. They are not copied: nobody changes them any more.
func (o *overseer) decisions(p *Past) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.early() != nil && o.best-o.best == 0 { // finite: something was measured
		best := o.best
		p.Best, p.Worse = &best, o.worse
		if o.result != nil {
			o.result.shared = true
			p.BestEpoch, p.BestCentre = o.result.epoch.Epoch, o.result.centre
		}
	}
	if o.plateau != nil {
		state := o.plateau.state
		p.Plateau = &state
	}
	wait := o.pending
	if o.measured != nil {
		wait = append([]*centreOf{o.measured}, wait...)
	}
	for _, c := range wait {
		c.shared = true
		p.Waiting = append(p.Waiting, Waiting{Epoch: c.epoch.Epoch, Centre: c.centre})
	}
}
