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

// WorkerConfig is what one worker needs. Feed and Server may be shared with other workers, Replica and Optimizer
// may not.
type WorkerConfig struct {
	Algorithm   Algorithm
	Server      Server
	Worker      ps.Worker
	Incarnation uint64 // of this life of the worker; the server fences older ones off
	Workers     int    // of the whole run; 0 means 1
	Window      int    // local steps between two commits; 0: the algorithm's default
	Feed        pipeline.Feed
	Replica     model.Replica
	Optimizer   optim.Optimizer
	MaxRejects  int           // rejected commits in a row that count as divergence; 0 means 3
	Grace       time.Duration // for the last commit after the run was asked to stop; 0 means 10 seconds

	clock func() time.Time     // of a simulated worker; nil: the real one
	full  func(steps int) bool // of a replayed worker: ends windows where they ended; nil: as configured
}

// WorkerStats says what one worker did. Samples are those of acknowledged commits.
type WorkerStats struct {
	ID            ps.Worker `json:"id"`
	Samples       int64     `json:"samples"`
	Steps         int64     `json:"steps"`
	Commits       int64     `json:"commits"`
	Rejected      int64     `json:"rejected,omitempty"`
	Dropped       int64     `json:"dropped,omitempty"` // commits that were too stale
	StalenessMean float64   `json:"staleness_mean"`
	ComputeS      float64   `json:"compute_s"`
	WaitS         float64   `json:"wait_s"` // for the server, with nothing else to do
	FeedS         float64   `json:"feed_s"`
	// ExchangeS is how long exchanges took, also those that went on while the worker computed. Only Work tells.
	ExchangeS float64 `json:"exchange_s,omitempty"`
	// What its commits were on the wire, as the server's books have it; zero where nothing left the process.
	SentBytes     int64   `json:"sent_bytes,omitempty"`     // of deltas
	ReceivedBytes int64   `json:"received_bytes,omitempty"` // of replies to them
	Codec         string  `json:"codec,omitempty"`          // of the last delta
	LinkMiBPerS   float64 `json:"link_mib_per_s,omitempty"` // as measured where the codec was chosen by it
}

func (s *WorkerStats) wire(w ps.Wire) {
	s.SentBytes += w.Sent
	s.ReceivedBytes += w.Received
	if w.Codec != "" {
		s.Codec, s.LinkMiBPerS = w.Codec, w.Link/(1<<20)
	}
}

const defaultGrace = 10 * time.Second

// Work is one worker's part of a run: it takes units of data from the server, trains on them and commits, until the
// server says that the run is over. It returns with everything it started ended, and allocates nothing per step.
//
// Cancelling ctx drains the worker: it finishes the step it is in, commits the open window with its true number of
// steps, and returns without an error. An error loses the open window only; its data is still the server's to hand
// out. A loss that is not finite, and MaxRejects rejected commits in a row, are errors of kind diverged.
func Work(ctx context.Context, cfg WorkerConfig) (WorkerStats, error) {
	w, err := newWorker(cfg)
	if err != nil {
		return WorkerStats{ID: cfg.Worker}, err
	}
	if w.ahead != nil {
		stop := w.ahead.start(ctx, cfg.Server)
		defer stop()
	}
	shards, err := cfg.Feed.Shards(ctx)
	if err == nil {
		err = w.pull(ctx)
	}
	if err == nil {
		err = w.units(ctx, shards)
	}
	if w.open.reader != nil {
		err = errors.Join(err, w.closeReader())
	}
	if err != nil && ctx.Err() != nil && !isPermanent(err) {
		err = w.drain(ctx)
	}
	return w.stats(), err
}

// worker is the state of Work.
type worker struct {
	cfg    WorkerConfig
	local  Local
	due    Due    // nil unless the algorithm decides when a window ends
	ahead  *ahead // nil unless exchanges overlap with windows
	window int
	every  float64 // seconds of a window; 0: it has a number of steps

	// x is a view of the replica's parameters. A worker has as few other vectors as it can: see vectors.
	x, base, delta []float32
	centred        bool                          // replies are the centre, and go to x
	mover          Mover                         // nil: the gradient comes whole
	descend        model.Descender               // the replica, with a mover
	move           func(at int, grads []float32) // of the mover

	version uint64 // of the centre that the open window started from
	under   uint64 // of the centre in base: newer when the window was rebased
	seq     uint64

	open       unit      // the unit being read, when held is true
	held       bool      // open belongs to positions
	steps      int       // of the open window
	samples    int64     // of the open window
	lossSum    float64   // over the samples of the open window
	epoch      int       // of the open window's first sample
	began      time.Time // of the open window
	positions  []ps.Position
	cursors    []byte    // wire forms of the cursors in positions
	sent       ps.Commit // the last commit
	unanswered bool      // sent has no reply yet
	rejects    int       // in a row
	rate       float64   // that learning rates are multiplied by; 0: as they are
	stopped    bool

	spent    seconds // of the open window
	total    WorkerStats
	stale    float64 // sum over commits
	exchange time.Duration
	allStep  int64 // steps of this life, also those of lost windows
}

// unit is a unit of data that is being worked through.
type unit struct {
	ps.Unit
	reader pipeline.BatchReader
	cursor pipeline.Cursor // after the last step
}

// seconds are where the time of a window went.
type seconds struct{ compute, wait, feed time.Duration }

func newWorker(cfg WorkerConfig) (*worker, error) {
	if cfg.Algorithm == nil || cfg.Server == nil || cfg.Feed == nil || cfg.Replica == nil || cfg.Optimizer == nil {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf(
			"worker %d lacks an algorithm, a server, a feed, a replica or an optimizer", cfg.Worker)}
	}
	cfg.Workers = max(1, cfg.Workers)
	policy := policyOf(cfg.Algorithm)
	if err := policy.check(cfg.Algorithm, cfg.Workers, cfg.Window); err != nil {
		return nil, err
	}
	cfg.Window = windowOf(cfg.Algorithm, cfg.Workers, cfg.Window)
	if cfg.MaxRejects == 0 {
		cfg.MaxRejects = 3
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.clock == nil {
		cfg.clock = time.Now
	}
	n := len(cfg.Replica.Params())
	w := &worker{
		cfg: cfg, local: cfg.Algorithm.Local(cfg.Workers, cfg.Optimizer), window: cfg.Window,
		x: cfg.Replica.Params(), base: make([]float32, n),
		total: WorkerStats{ID: cfg.Worker}, every: policy.Every.Seconds,
	}
	w.due, _ = w.local.(Due)
	if policy.Overlap { // steps go on while a delta is on its way
		w.ahead = &ahead{reply: make([]float32, n)}
		w.delta = make([]float32, n)
	}
	return w, w.vectors()
}

// vectors decides how gradients come, and so where deltas and replies are. Where they come in pieces, the delta takes the place
// of the base and the reply that of the parameters, or the delta is the parameters and the reply takes the place of the base,
// which an elastic difference is not taken to. Else the delta takes the place of the gradient, which nobody needs between two
// windows. A delta that is on its way while steps go on has a vector of its own.
func (w *worker) vectors() error {
	if w.inPieces() {
		return nil
	}
	grads := w.cfg.Replica.Grads()
	if len(grads) != len(w.x) {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the replica of worker %d has %d parameters and a gradient of %d", w.cfg.Worker, len(w.x), len(grads))}
	}
	if w.delta == nil {
		w.delta = grads
	}
	return nil
}

// pull starts from the centre.
func (w *worker) pull(ctx context.Context) error {
	start := w.cfg.clock()
	ack, err := w.cfg.Server.Exchange(ctx, ps.Commit{Worker: w.cfg.Worker, Incarnation: w.cfg.Incarnation}, w.base)
	w.waited(start)
	if err != nil {
		return err
	}
	copy(w.x, w.base)
	w.version, w.under, w.stopped = ack.Version, ack.Version, ack.Stop
	return w.pace(ack.Rate)
}

// units works through what the server hands out.
func (w *worker) units(ctx context.Context, shards []pipeline.Shard) error {
	for !w.stopped {
		if err := w.land(); err != nil { // a worker makes one call at a time
			return err
		}
		if w.stopped {
			break
		}
		if w.cutHere() {
			if err := w.commit(ctx); err != nil {
				return err
			}
			continue
		}
		start := w.cfg.clock()
		u, turn, err := w.cfg.Server.Next(ctx, w.cfg.Worker, w.cfg.Incarnation)
		w.waited(start)
		if err != nil {
			return err
		}
		switch turn {
		case ps.Work:
			if err = w.pace(u.Rate); err == nil && u.Pull {
				err = w.pull(ctx)
			}
			if err == nil {
				err = w.unit(ctx, u, shards)
			}
		case ps.Flush:
			err = w.commit(ctx)
		default:
			w.stopped = true
		}
		if err != nil {
			return err
		}
	}
	if err := w.land(); err != nil {
		return err
	}
	if w.steps > 0 || len(w.positions) > 0 {
		return w.commit(ctx)
	}
	return nil
}

// waited notes the time since start as spent waiting for the server.
func (w *worker) waited(start time.Time) { w.spent.wait += w.cfg.clock().Sub(start) }

// unit works through one unit. It reads one batch ahead of the decision to commit, so the commit that contains the
// last sample of a unit also says that the unit is done.
func (w *worker) unit(ctx context.Context, u ps.Unit, shards []pipeline.Shard) error {
	if u.Shard < 0 || u.Shard >= len(shards) {
		return &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("the server hands out shard %d, the dataset has %d", u.Shard, len(shards)),
			Hint: "give every worker the dataset version that the run was started with"}
	}
	cursor := pipeline.Cursor{Epoch: u.Epoch}
	if u.Cursor != nil {
		var err error
		if cursor, err = pipeline.ParseCursor(u.Cursor); err != nil {
			return &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("unit %d", u.ID), Err: err}
		}
	}
	if w.cutHere() {
		return w.commit(ctx)
	}
	start := w.cfg.clock()
	reader, err := w.cfg.Feed.Open(ctx, shards[u.Shard], cursor)
	if err != nil {
		return err
	}
	w.open = unit{Unit: u, reader: reader, cursor: cursor}
	w.held = true
	b, err := reader.Next()
	now := w.cfg.clock()
	w.spent.feed += now.Sub(start)
	for err == nil {
		if err := w.step(b); err != nil {
			return err
		}
		w.open.cursor = reader.Cursor()
		stepped := w.cfg.clock()
		w.spent.compute += stepped.Sub(now)
		b, err = reader.Next()
		now = w.cfg.clock()
		w.spent.feed += now.Sub(stepped)
		if w.full(now) && (err == nil || err == io.EOF) {
			if err == io.EOF {
				if err := w.finish(); err != nil {
					return err
				}
			}
			if err := w.endWindow(ctx); err != nil || w.stopped || !w.held {
				return err
			}
			now = w.cfg.clock()
		}
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	if err != io.EOF {
		return err
	}
	return w.finish()
}

// step trains on one batch.
func (w *worker) step(b *pipeline.Batch) error {
	if w.steps == 0 {
		w.epoch, w.began = w.open.Epoch, w.cfg.clock()
	}
	loss, err := w.gradient(b)
	if err != nil {
		return err
	}
	w.allStep++
	if loss-loss != 0 { // NaN or infinite
		return w.diverged(fmt.Sprintf("the loss is %v", loss))
	}
	if w.mover == nil {
		w.local.Step(w.x, w.cfg.Replica.Grads())
	}
	w.steps++
	w.samples += int64(b.Rows)
	w.lossSum += float64(loss) * float64(b.Rows)
	return nil
}

// inPieces says whether gradients come in pieces.
func (w *worker) inPieces() bool {
	d, descends := w.cfg.Replica.(model.Descender)
	p, ok := w.local.(Piecewise)
	if !ok || !descends {
		return false
	}
	_, adds := w.local.(Adder)
	delta, centred := w.delta, false
	switch {
	case delta != nil:
	case adds:
		delta, centred = w.base, true
	default:
		delta = w.x
	}
	m := p.Pieces(delta)
	if m == nil {
		return false
	}
	w.delta, w.centred, w.descend, w.mover = delta, centred, d, m
	w.move = func(at int, grads []float32) { m.Update(at, w.x[at:at+len(grads)], grads) }
	return true
}

// gradient computes the gradient of a batch; where it comes in pieces the step is taken on the way.
func (w *worker) gradient(b *pipeline.Batch) (loss float32, err error) {
	if w.mover == nil {
		return w.cfg.Replica.Step(b)
	}
	w.mover.Begin()
	return w.descend.Descend(b, w.mover.Lazy(), w.move)
}

// full reports whether the open window ends here.
func (w *worker) full(now time.Time) bool {
	switch {
	case w.cfg.full != nil:
		return w.cfg.full(w.steps)
	case w.due != nil:
		return w.due.Due(w.steps, now.Sub(w.began).Seconds())
	case w.every > 0:
		return w.steps > 0 && now.Sub(w.began).Seconds() >= w.every
	}
	return w.window > 0 && w.steps >= w.window
}

// cutHere says whether a replayed worker commits between two units: in the run it was asked to stop there, before the first
// batch of the second.
func (w *worker) cutHere() bool {
	return w.cfg.full != nil && (w.steps > 0 || len(w.positions) > 0) && w.cfg.full(w.steps)
}

// finish notes that the open unit is done.
func (w *worker) finish() error {
	w.note(true)
	w.held = false
	return w.closeReader()
}

// note appends the open unit's position to those of the next commit. A unit that is done has its cursor too, so that
// who watches commits can count rows.
func (w *worker) note(done bool) {
	from := len(w.cursors)
	w.cursors = w.open.cursor.Append(w.cursors)
	w.positions = append(w.positions, ps.Position{Unit: w.open.ID, Cursor: w.cursors[from:], Done: done})
}

func (w *worker) closeReader() error {
	r := w.open.reader
	w.open.reader = nil
	return r.Close()
}

// endWindow ends a window in the middle of the run.
func (w *worker) endWindow(ctx context.Context) error {
	if w.ahead == nil {
		return w.commit(ctx)
	}
	return w.commitAhead(ctx)
}

// commit pushes the open window and goes on from the reply.
func (w *worker) commit(ctx context.Context) error {
	w.seal()
	if w.ahead != nil {
		w.ahead.flown = false
	}
	return w.send(ctx)
}

// seal makes the commit of the open window and opens the next one.
func (w *worker) seal() {
	var delta []float32 // of a commit without steps: none
	if w.steps > 0 {
		delta = w.delta
		w.local.Delta(delta, w.x, w.base, w.steps)
	}
	if w.held {
		w.note(false)
	}
	w.seq++
	w.sent = ps.Commit{
		Worker: w.cfg.Worker, Incarnation: w.cfg.Incarnation, Seq: w.seq, Base: w.version,
		Steps: w.steps, Samples: w.samples, Positions: w.positions, Delta: delta,
		Report: ps.Report{Epoch: w.epoch, Loss: w.lossSum / float64(max(1, w.samples)), ComputeS: w.spent.compute.Seconds(),
			WaitS: w.spent.wait.Seconds(), FeedS: w.spent.feed.Seconds()},
	}
	w.account()
	w.steps, w.samples, w.lossSum = 0, 0, 0
	w.positions, w.cursors = w.positions[:0], w.cursors[:0] // sent keeps them until it is answered
	w.unanswered = true
}

// send exchanges the last commit for a reply. A commit that was not answered may be sent again as it is.
func (w *worker) send(ctx context.Context) error {
	start := w.cfg.clock()
	reply := w.base
	if w.centred {
		reply = w.x
	}
	ack, err := w.cfg.Server.Exchange(ctx, w.sent, reply)
	w.waited(start)
	w.exchange += w.cfg.clock().Sub(start)
	if err != nil {
		return err
	}
	w.version, w.under = ack.Version, ack.Version
	applied, err := w.answered(ack)
	switch {
	case w.centred:
		copy(w.base, w.x)
	case applied:
		w.local.Adopt(w.x, w.base)
	default:
		copy(w.x, w.base)
	}
	return err
}

// answered counts what the server made of the last commit, and says whether its delta was applied.
func (w *worker) answered(ack ps.Ack) (applied bool, err error) {
	w.unanswered = false
	w.stopped = w.stopped || ack.Stop
	if ack.Window > 0 {
		w.window = ack.Window
	}
	if err := w.pace(ack.Rate); err != nil {
		return false, err
	}
	if ack.Rejected != "" {
		w.total.Rejected++
		if r, ok := w.local.(Resetter); ok {
			r.Reset()
		}
		if w.rejects++; w.rejects >= w.cfg.MaxRejects {
			err = w.diverged(fmt.Sprintf("the server rejected %d commits in a row (%s)", w.rejects, ack.Rejected))
		}
		return false, err
	}
	w.rejects = 0
	switch {
	case w.sent.Delta == nil:
		return false, nil
	case ack.Dropped:
		w.total.Dropped++
		return false, nil
	}
	w.total.Commits++
	w.total.Steps += int64(w.sent.Steps)
	w.total.Samples += w.sent.Samples
	w.stale += float64(ack.Staleness)
	return true, nil
}

// drain commits what the worker still holds after ctx was cancelled. A run that was aborted refuses it at once.
func (w *worker) drain(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Grace)
	defer cancel()
	if w.unanswered {
		if err := w.again(last); err != nil {
			return err
		}
	}
	if w.steps == 0 && len(w.positions) == 0 {
		return nil
	}
	return w.commit(last)
}

// account adds the open window's times to the totals.
func (w *worker) account() {
	w.total.ComputeS += w.spent.compute.Seconds()
	w.total.WaitS += w.spent.wait.Seconds()
	w.total.FeedS += w.spent.feed.Seconds()
	w.spent = seconds{}
}

func (w *worker) stats() WorkerStats {
	w.account()
	w.total.ExchangeS = w.exchange.Seconds()
	if n := w.total.Commits; n > 0 {
		w.total.StalenessMean = w.stale / float64(n)
	}
	return w.total
}

// diverged makes the error of a run whose numbers are beyond saving.
func (w *worker) diverged(what string) error {
	hint := "lower the optimizer's learning_rate"
	if c, ok := w.cfg.Algorithm.(Checker); ok {
		if warnings, _ := c.Check(w.cfg.Workers, w.window); len(warnings) > 0 {
			hint += "; " + warnings[0]
		}
	}
	return &pipeline.Error{Kind: pipeline.Diverged, Hint: hint, Message: fmt.Sprintf(
		"%s, worker %d, epoch %d, step %d: %s", w.cfg.Algorithm.Name(), w.cfg.Worker, w.open.Epoch+1, w.allStep, what)}
}

// kindOf gives the kind that an error carries, or "".
func kindOf(err error) pipeline.Kind {
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		return pipeline.Kind(k.ErrorKind())
	}
	return ""
}

// isPermanent reports whether an error would meet every worker: there is no use in going on with the others.
func isPermanent(err error) bool {
	switch kindOf(err) {
	case pipeline.Usage, pipeline.BadSpec, pipeline.Unsupported, pipeline.Changed, pipeline.Corrupt, pipeline.Diverged:
		return true
	}
	return false
}
