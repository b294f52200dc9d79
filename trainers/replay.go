package trainers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/model"
)

// Replay repeats a run in this process from its order log (Config.OrderLog), bit for bit: workers make the calls that they
// made, in the order in which the server took them. cfg must be the run's: the same algorithm, data, seeds and, for a run
// that went on from a snapshot, From. Where its workers ran does not matter; each life of a worker starts with a new
// replica and optimizer. Launch and Oversight, beside its limit of steps, are not used; Observer is told of the ends of epochs,
// with their numbers and centres, and of nothing else.
//
// The result has the parameters and the snapshot of the run's end. A replay that differs from the log is an error of kind
// changed, which says where.
func Replay(ctx context.Context, cfg Config, log io.Reader) (Result, error) {
	start := time.Now()
	cfg.Launch, cfg.OrderLog, cfg.Oversight = nil, nil, Oversight{Limits: Limits{Steps: cfg.Limits.Steps}}
	if err := cfg.check(); err != nil {
		return Result{}, err
	}
	orders, err := readOrders(log)
	if err != nil {
		return Result{}, err
	}
	shards, err := cfg.Feed.Shards(ctx)
	if err != nil {
		return Result{}, err
	}
	first, err := cfg.Replica(0)
	if err != nil {
		return Result{}, err
	}
	r := &replay{cfg: cfg, log: orders.all, first: first, own: map[ps.Worker][]int{}, lives: map[ps.Worker]*life{}}
	r.moved = sync.NewCond(&r.mu)
	for i, o := range orders.all {
		if o.kind != orderWithdraw { // that is not a worker's own
			r.own[o.worker] = append(r.own[o.worker], i)
		}
	}
	if r.srv, err = cfg.server(first.Params(), shards, r); err != nil {
		return Result{}, err
	}
	if err := r.run(ctx); err != nil {
		if ctx.Err() != nil { // what workers came to that were cut off means nothing
			err = ctx.Err()
		}
		return Result{}, err
	}
	s := r.srv.Snapshot()
	result := Result{Params: s.Centre, Snapshot: s, Interrupted: s.Epoch < cfg.Epochs, Samples: s.Stats.Samples, Seconds: time.Since(start).Seconds()}
	for _, l := range r.ended {
		result.Workers = append(result.Workers, l.stats)
	}
	slices.SortStableFunc(result.Workers, func(a, b WorkerStats) int { return int(a.ID) - int(b.ID) })
	if s.Version != orders.version || !bytes.Equal(digest(s.Centre), orders.digest) {
		return result, differs("the replay made all calls of the log, but ends at another centre (version %d, the run had %d)", s.Version, orders.version)
	}
	return result, nil
}

func differs(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf(format, args...),
		Hint: "replay with the job, the data, the kernel and the build that the run had"}
}

// replay is the state of Replay. It is the server's observer as well: when the server has taken the call whose turn it was,
// the next one may come.
type replay struct {
	cfg   Config
	log   []order
	own   map[ps.Worker][]int // records of each worker, by their number
	srv   *ps.Server
	first model.Replica // of the first life of worker 0

	mu    sync.Mutex
	moved *sync.Cond
	at    int // the record whose turn it is
	err   error
	lives map[ps.Worker]*life
	ended []*life
}

// life is one life of a worker.
type life struct {
	r           *replay
	worker      ps.Worker
	incarnation uint64
	next        int // index into own: the worker's next call
	stop        context.CancelFunc
	takeBack    context.CancelFunc // of the call that is going on
	took        bool               // that call has been taken
	landed      chan landing
	stats       WorkerStats
}

var (
	_ ps.Recorder = (*replay)(nil)
	_ Server      = (*life)(nil)
	_ sender      = (*life)(nil)
)

// errOver ends a worker that the log has no further call of.
var errOver = errors.New("this life of the worker ended here")

func (r *replay) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.fail(ctx.Err()) })
	defer stop()
	var all sync.WaitGroup
	for w := range r.own {
		if w >= 0 {
			all.Go(func() { r.worker(ctx, w) })
		}
	}
	r.conduct()
	all.Wait()
	return r.err
}

// conduct does what no worker does: it stops the run and ends lives when it is their turn, and it notices when nothing can
// go on any more.
func (r *replay) conduct() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && r.at < len(r.log) {
		at, o := r.at, r.log[r.at]
		l := r.lives[o.worker]
		switch {
		case o.kind == orderStop:
			r.outside(r.srv.Stop)
		case o.kind == orderSteer:
			r.outside(func() { r.srv.Steer(o.steering) })
		case o.kind == orderLeave:
			var incarnation uint64
			if l != nil {
				incarnation = l.incarnation
			}
			r.outside(func() {
				if err := r.srv.Leave(o.worker, incarnation, "replayed"); err != nil {
					r.fail(err)
				}
			})
		case l != nil && l.took && o.kind != orderWithdraw: // its last call has no answer yet
			waiting := 0
			r.outside(func() { waiting = r.srv.Progress().Waiting })
			if r.at == at && r.err == nil {
				if l.took && r.calling() <= waiting {
					r.err = differs("record %d of the log is %v, in the replay that worker's call before still waits", at, o)
				} else {
					r.moved.Wait()
				}
			}
		default:
			r.moved.Wait()
		}
	}
	if r.err != nil {
		r.moved.Broadcast()
		err := aborted(r.err)
		r.outside(func() { r.srv.Abort(err) })
	}
}

// outside does something that takes the server's lock, which is taken before r's own.
func (r *replay) outside(do func()) {
	r.mu.Unlock()
	defer r.mu.Lock()
	do()
}

// calling counts the workers whose call was taken and has not come back.
func (r *replay) calling() int {
	n := 0
	for _, l := range r.lives {
		if l.took {
			n++
		}
	}
	return n
}

// worker lives the lives of one worker, one after the other.
func (r *replay) worker(ctx context.Context, w ps.Worker) {
	for i, record := range r.own[w] {
		if r.log[record].kind != orderJoin {
			continue
		}
		if err := r.live(ctx, w, i, record); err != nil {
			r.fail(err)
			return
		}
	}
}

func (r *replay) live(parent context.Context, w ps.Worker, i, record int) error {
	if err := r.turn(record); err != nil {
		return nil // it is known
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	l := &life{r: r, worker: w, next: i + 1, stop: cancel, landed: make(chan landing, 1)}
	r.mu.Lock()
	replica := r.first
	if w == 0 {
		r.first = nil
	} else {
		replica = nil
	}
	r.lives[w] = l
	r.mu.Unlock()
	var err error
	if l.incarnation, err = r.srv.Join(w); err != nil {
		return err
	}
	if replica == nil {
		if replica, err = r.cfg.Replica(w); err != nil {
			return err
		}
	}
	opt, err := r.cfg.Optimizer(len(replica.Params()))
	if err != nil {
		return err
	}
	l.stats, err = Work(ctx, WorkerConfig{Algorithm: r.cfg.Algorithm, Server: l, Worker: w, Incarnation: l.incarnation, Workers: r.cfg.Workers,
		Window: r.cfg.Window, Feed: r.cfg.Feed, Replica: replica, Optimizer: opt, MaxRejects: r.cfg.MaxRejects, Grace: time.Hour, full: l.full})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, l)
	o, more := l.peek()
	switch {
	case r.err != nil || !more: // it made all its calls; if it diverged then, it did in the run
		return nil
	case err != nil && !errors.Is(err, errOver) && !errors.Is(err, ps.ErrFenced) && ctx.Err() == nil:
		return err // a call that waited when the life was ended gets ErrFenced, as it did in the run
	}
	return differs("worker %d ended, the log has %v next", w, o)
}

// peek gives the next record of a life, if it is a call of it.
func (l *life) peek() (order, bool) {
	own := l.r.own[l.worker]
	if l.next == len(own) {
		return order{}, false
	}
	o := l.r.log[own[l.next]]
	return o, o.kind != orderLeave && o.kind != orderJoin
}

// full ends a window where it ended in the run.
func (l *life) full(steps int) bool {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	o, ok := l.peek()
	return ok && o.kind == orderCommit && o.steps == steps
}

// claim takes the next record of a life for a call.
func (l *life) claim(kind uint8) (int, error) {
	r := l.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	o, ok := l.peek()
	if !ok {
		return 0, errOver
	}
	record := r.own[l.worker][l.next]
	if o.kind != kind {
		return 0, differs("record %d of the log is %v, the replay comes to %v", record, o, order{kind: kind, worker: l.worker})
	}
	l.next++
	return record, nil
}

// turn waits until it is a record's turn.
func (r *replay) turn(record int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && r.at != record {
		r.moved.Wait()
	}
	return r.err
}

// call makes one call of a worker when it is its turn, and again when the log says that it was taken back and repeated.
func (l *life) call(ctx context.Context, kind uint8, do func(context.Context) error) error {
	record, err := l.claim(kind)
	if err != nil {
		return err
	}
	return l.at(ctx, record, kind, do)
}

func (l *life) at(ctx context.Context, record int, kind uint8, do func(context.Context) error) error {
	r := l.r
	for {
		if err := r.turn(record); err != nil {
			return err
		}
		once, cancel := context.WithCancel(ctx)
		r.mu.Lock()
		l.takeBack = cancel
		r.mu.Unlock()
		err := do(once)
		r.mu.Lock()
		taken := once.Err() != nil && ctx.Err() == nil
		l.takeBack, l.took = nil, false
		r.moved.Broadcast()
		cancel()
		o, more := l.peek()
		if !more && r.err == nil && kind != orderNext { // it ended after this one; of Next it knows by the answer
			l.stop()
		}
		r.mu.Unlock()
		if !taken {
			return err
		}
		if !more || o.kind != kind { // the run was stopped while it waited
			l.stop()
			return err
		}
		if record, err = l.claim(kind); err != nil {
			return err
		}
	}
}

// Exchange implements Server.
func (l *life) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ack ps.Ack, err error) {
	err = l.call(ctx, exchangeKind(c), func(ctx context.Context) (err error) {
		ack, err = l.r.srv.Exchange(ctx, c, dst)
		return err
	})
	return ack, err
}

func exchangeKind(c ps.Commit) uint8 {
	if c.Seq == 0 {
		return orderPull
	}
	return orderCommit
}

// Next implements Server.
func (l *life) Next(ctx context.Context, w ps.Worker, incarnation uint64) (u ps.Unit, turn ps.Turn, err error) {
	err = l.call(ctx, orderNext, func(ctx context.Context) (err error) {
		u, turn, err = l.r.srv.Next(ctx, w, incarnation)
		return err
	})
	return u, turn, err
}

// fly implements sender. The record is claimed at once, because it is the worker's next whenever it gets its turn.
func (l *life) fly(c ps.Commit, dst []float32) {
	record, err := l.claim(exchangeKind(c))
	if err != nil {
		l.landed <- landing{err: err}
		return
	}
	go func() { // land waits for it
		var ack ps.Ack
		err := l.at(context.Background(), record, exchangeKind(c), func(ctx context.Context) (err error) {
			ack, err = l.r.srv.Exchange(ctx, c, dst)
			return err
		})
		l.landed <- landing{ack: ack, err: err}
	}()
}

// land implements sender.
func (l *life) land() landing { return <-l.landed }

// fail ends the replay.
func (r *replay) fail(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.moved.Broadcast()
	r.mu.Unlock()
	r.srv.Abort(aborted(err))
}

// advance compares what the server took with the log, and lets the next call come. It is called under the server's lock.
func (r *replay) advance(o order) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
	case r.at == len(r.log):
		r.err = differs("the log ends, the replay comes to %v", o)
	case r.log[r.at] != o:
		r.err = differs("record %d of the log is %v, the replay comes to %v", r.at, r.log[r.at], o)
	default:
		if l := r.lives[o.worker]; l != nil && l.takeBack != nil {
			l.took = true
		}
		r.at++
		if r.at < len(r.log) && r.log[r.at].kind == orderWithdraw {
			if l := r.lives[r.log[r.at].worker]; l != nil && l.takeBack != nil {
				l.takeBack()
			}
		}
	}
	r.moved.Broadcast()
}

// Took implements ps.Recorder.
func (r *replay) Took(c ps.Call) {
	r.advance(order{kind: orderKind(c.Kind), worker: c.Worker, steps: c.Steps, staleness: c.Staleness, steering: c.Steering})
}

// Membership implements ps.Observer.
func (r *replay) Membership(w ps.Worker, _ uint64, joined bool, _ string) {
	o := order{kind: orderLeave, worker: w}
	if joined {
		o.kind = orderJoin
	}
	r.advance(o)
}

// Committed implements ps.Observer.
func (r *replay) Committed(ps.Commit, ps.Ack) {}

// EpochDone implements ps.Observer.
func (r *replay) EpochDone(epoch int, _ uint64, centre []float32) {
	if r.cfg.Observer != nil {
		r.cfg.Observer.EpochDone(Epoch{Epoch: epoch + 1}, centre)
	}
}
