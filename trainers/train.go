package trainers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// Config is a run. Algorithm, Workers, Epochs, Feed and Replica must be set, and Optimizer unless Launch is.
type Config struct {
	Algorithm Algorithm
	Workers   int
	Window    int // local steps between two commits; 0: the algorithm's default
	Epochs    int
	Feed      pipeline.Feed
	// Replica makes the model of one worker. Equal seeds of their parameters are not needed: the centre starts as the
	// parameters of worker 0's replica, and every worker starts from the centre.
	Replica func(w ps.Worker) (model.Replica, error)
	// Optimizer makes one worker's optimizer for a number of parameters.
	Optimizer func(params int) (optim.Optimizer, error)
	// ServerOptimizer makes the optimizer of an OnServer algorithm's rule, which counts its steps by itself, also after a
	// resume; nil: as Optimizer.
	ServerOptimizer func(params int) (optim.Optimizer, error)
	// Launch runs one worker to its end; nil: in a goroutine, with Replica and Optimizer. It may run the worker
	// anywhere, and starts it again if it wants to; it returns when the worker is gone for good. When ctx is
	// cancelled, the worker is to commit what it has and end.
	Launch func(ctx context.Context, srv *ps.Server, w ps.Worker) error
	// MinWorkers is how many workers must be left for the run to go on; 0 means 1.
	MinWorkers int
	MaxRejects int           // see WorkerConfig
	Grace      time.Duration // see WorkerConfig
	Observer   Observer      // may be nil
	From       *ps.Snapshot  // state of an interrupted run to go on from, or nil
	Oversight                // validation, limits and checkpoints
	// Servers hold the parameters in the place of this process; nil: they are here. Launch must be set, and connect workers to
	// them. When one is lost, the run goes back to the last copy of its state and goes on from there.
	Servers DataServers
	// KeepEvery is the time between two such copies, in this process's memory; 0 means 10 s. Each checkpoint is one, too.
	KeepEvery time.Duration
	// OrderLog, when it is not nil, gets what Replay needs to repeat the run bit for bit, some bytes for each exchange.
	OrderLog io.Writer
}

// Result is what came out of a run.
type Result struct {
	Params      []float32     // the centre
	State       []float32     // of the replica, for the centre: batch-norm statistics and the like, never merged from workers but computed for Params at the end; may be empty
	Interrupted bool          // the run was asked to stop before it was complete
	Ended       Ending        // why the run ended
	Samples     int64         // acknowledged, those before From included
	Seconds     float64       // wall clock
	Workers     []WorkerStats // by worker
	Lost        []Lost        // workers that ended with an error while the run went on
	History     []Epoch       // complete epochs, and then those that were begun
	Snapshot    *ps.Snapshot  // for Config.From
	Recoveries  []Recovery    // data servers that were lost
	OrderLogErr error         // of writing Config.OrderLog, which is not whole then; the run is not affected
}

// Lost is a worker that was given up.
type Lost struct {
	Worker ps.Worker
	Err    error
}

// Train runs a whole training and waits for everything that it started.
//
// A worker that ends with an error is given up: its data goes back to the others from its last acknowledged commit on,
// and the run goes on as long as MinWorkers are left; Result.Lost names it. Errors that would meet every worker (kinds
// usage, spec, unsupported, changed, corrupt) end the run at once. A worker that diverged is given up like any other, because
// its numbers were kept out of the centre and the others may be well; when more have diverged than are left, the run has.
// Cancelling ctx lets workers commit what they have and ends the run without an error; Result.Interrupted says so, and
// Snapshot continues it.
// With an error, Result still holds what was reached.
func Train(ctx context.Context, cfg Config) (Result, error) {
	if err := cfg.check(); err != nil {
		return Result{}, err
	}
	shards, err := cfg.Feed.Shards(ctx)
	if err != nil {
		return Result{}, err
	}
	var rows int64
	for _, s := range shards {
		rows += s.Rows
	}
	if rows == 0 {
		return Result{}, &pipeline.Error{Kind: pipeline.Data, Message: "the training split has no rows", Hint: "look at source and split of the job"}
	}
	first, err := cfg.Replica(0)
	if err != nil {
		return Result{}, err
	}
	watch := newWatch(cfg, shards)
	var observer ps.Observer = watch
	var log *orderLog
	if cfg.OrderLog != nil {
		log = newOrderLog(cfg.OrderLog, watch)
		observer = log
	}
	srv, err := cfg.server(first.Params(), shards, observer)
	if err != nil {
		return Result{}, err
	}
	watch.params = srv.Len()
	guard, err := newGuard(ctx, cfg, srv, watch)
	if err != nil {
		return Result{}, err
	}
	r := &run{cfg: cfg, srv: srv, watch: watch, first: first}
	if s, ok := watch.overseer.steering(cfg); ok {
		srv.Steer(s)
	}
	watch.overseer.start(ctx, srv, guard)
	err = guard.stop(r.workers(ctx))
	result := Result{Lost: r.lost, Snapshot: guard.end(srv.Snapshot())}
	result.Recoveries = guard.found()
	result.Params = result.Snapshot.Centre
	result.Interrupted = err == nil && result.Snapshot.Epoch < cfg.Epochs
	if err == nil {
		result.OrderLogErr = log.finish(result.Snapshot.Version, result.Snapshot.Centre)
	}
	err = watch.overseer.finish(ctx, &result, err)
	if err == nil {
		result.State, err = r.state(ctx, result.Params, result.Ended.Epoch > 0)
	}
	watch.finish(&result)
	return result, err
}

// server makes the parameter server of a run.
func (cfg Config) server(params []float32, shards []pipeline.Shard, obs ps.Observer) (*ps.Server, error) {
	core, err := cfg.core(params, shards)
	if err != nil {
		return nil, err
	}
	return ps.NewServer(core, obs), nil
}

// core makes the core of a run's parameter server.
func (cfg Config) core(params []float32, shards []pipeline.Shard) (*ps.Core, error) {
	var rows int64
	for _, s := range shards {
		rows += s.Rows
	}
	o := policyOf(cfg.Algorithm).server(cfg.Algorithm, cfg.Workers, cfg.window(), rows*int64(cfg.Epochs))
	o.Shards, o.Epochs, o.Steps, o.Block = len(shards), cfg.Epochs, cfg.Limits.Steps, blockOf(len(params))
	if cfg.From != nil {
		// A server that goes back counts up from its snapshot's generation without keeping that anywhere, and one more life of it
		// may start from the same snapshot. The clock keeps the two apart.
		o.Generation, o.Block = max(cfg.From.Generation+1, uint32(time.Now().Unix())), cfg.From.Block
	}
	optimizer := cfg.ServerOptimizer
	if optimizer == nil {
		optimizer = cfg.Optimizer
	}
	rule, err := Rule(cfg.Algorithm, cfg.Workers, optimizer)
	if err != nil {
		return nil, err
	}
	core, err := ps.NewCore(params, rule, o)
	if err != nil {
		return nil, err
	}
	if cfg.From != nil {
		if err := core.Restore(cfg.From); err != nil {
			return nil, err
		}
	}
	return core, nil
}

// blockOf is the number of parameters in a block. A model that is not large has smaller ones than usual, about sixteen, so that
// several data servers have something to hold; how many there are may not matter, so that a run can go on with more or fewer.
func blockOf(params int) int {
	const blocks, least = 16, 64
	n := (params + blocks - 1) / blocks
	return min(max((n+least-1)/least*least, least), ps.DefaultBlock)
}

var _ Server = (*ps.Server)(nil)

// aborted is what workers get from the server when the run has ended with an error: what happened, and to whom.
func aborted(cause error) error {
	e := &pipeline.Error{Kind: kindOf(cause), Message: "the run was aborted", Err: cause}
	if e.Kind == "" {
		e.Kind = pipeline.Internal
	}
	var h interface{ ErrorHint() string }
	if errors.As(cause, &h) {
		e.Hint = h.ErrorHint()
	}
	return e
}

// run is the state of Train while workers are at work.
type run struct {
	cfg   Config
	srv   *ps.Server
	watch *watch
	first model.Replica // becomes the first in-process worker's
	lost  []Lost

	diverged int // workers among the lost
}

// ended says that a worker is gone for good.
type ended struct {
	worker ps.Worker
	err    error
}

// workers runs all workers to their ends.
func (r *run) workers(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	launch := r.cfg.Launch
	if launch == nil {
		launch = r.inProcess
	}
	ends := make(chan ended)
	for w := range r.cfg.Workers {
		go func() { ends <- ended{ps.Worker(w), launch(ctx, r.srv, ps.Worker(w))} }()
	}
	var fatal error
	stop := parent.Done()
	for live := r.cfg.Workers; live > 0; {
		select {
		case <-stop:
			stop = nil
			r.srv.Stop()
		case e := <-ends:
			live--
			r.leave(e)
			if fatal != nil {
				continue // how the others end has no meaning any more
			}
			if fatal = r.judge(parent, e, live); fatal != nil {
				abort := aborted(fatal)
				r.srv.Abort(abort)
				cancel(abort)
			}
		}
	}
	return fatal
}

// leave gives back what a worker that is gone still holds.
func (r *run) leave(e ended) {
	why := "it ended"
	if e.err != nil {
		why = e.err.Error()
	}
	if incarnation, in := r.watch.life(e.worker); in {
		_ = r.srv.Leave(e.worker, incarnation, why) // fails only if it has left in between, which is what is wanted
	}
}

// judge decides what the end of a worker means: nil to go on, or the error that the run ends with.
func (r *run) judge(parent context.Context, e ended, live int) error {
	p := r.srv.Progress()
	switch {
	case e.err == nil && (p.EpochDone == p.Epochs || parent.Err() != nil || r.watch.overseer.stopping()):
		return nil
	case parent.Err() != nil && errors.Is(e.err, parent.Err()):
		return nil
	case e.err != nil && kindOf(e.err) == pipeline.Diverged:
		if r.diverged++; !spared(r.diverged, live) || live < r.cfg.MinWorkers {
			return e.err
		}
	case e.err != nil && isPermanent(e.err):
		return e.err
	}
	if e.err != nil {
		r.lost = append(r.lost, Lost{e.worker, e.err})
		r.watch.lost(e.worker, e.err)
	}
	if p.EpochDone == p.Epochs || parent.Err() != nil || r.watch.overseer.stopping() || live >= max(1, r.cfg.MinWorkers) {
		return nil
	}
	if e.err != nil && r.cfg.Workers == 1 {
		return e.err
	}
	kind, hint := pipeline.Internal, ""
	if k := kindOf(e.err); k != "" {
		kind = k
	}
	var h interface{ ErrorHint() string }
	if errors.As(e.err, &h) {
		hint = h.ErrorHint()
	}
	return &pipeline.Error{Kind: kind, Hint: hint, Err: e.err, Message: fmt.Sprintf(
		"%d of %d workers left, the run needs %d: worker %d ended", live, r.cfg.Workers, max(1, r.cfg.MinWorkers), e.worker)}
}

// spared says whether a run goes on when one more worker has diverged and live are left. As long as those who have are not
// more, it may be the worker: its memory, its data, a window that went wrong. Otherwise it is the settings.
func spared(diverged, live int) bool { return diverged <= live }

// inProcess is the default Launch.
func (r *run) inProcess(ctx context.Context, srv *ps.Server, w ps.Worker) error {
	replica, err := r.replica(w)
	if err != nil {
		return err
	}
	opt, err := r.cfg.Optimizer(len(replica.Params()))
	if err != nil {
		return err
	}
	incarnation, err := srv.Join(w)
	if err != nil {
		return err
	}
	_, err = Work(ctx, WorkerConfig{Algorithm: r.cfg.Algorithm, Server: srv, Worker: w, Incarnation: incarnation,
		Workers: r.cfg.Workers, Window: r.cfg.Window, Feed: r.cfg.Feed, Replica: replica, Optimizer: opt,
		MaxRejects: r.cfg.MaxRejects, Grace: r.cfg.Grace})
	return err
}

func (r *run) replica(w ps.Worker) (model.Replica, error) {
	if w == 0 {
		return r.first, nil
	}
	replica, err := r.cfg.Replica(w)
	if err == nil && len(replica.Params()) != len(r.first.Params()) {
		err = &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the model of worker %d has %d parameters, that of worker 0 has %d",
			w, len(replica.Params()), len(r.first.Params()))}
	}
	return replica, err
}
