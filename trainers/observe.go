package trainers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
)

// Observer is told how a run goes. Its methods are called one at a time, some of them while the parameter server
// waits: they must be quick and must not call the server.
type Observer interface {
	// Progress is called after every applied commit.
	Progress(p Progress)
	// EpochDone is called when an epoch and all before it are complete. centre is the centre at that moment and is
	// only valid during the call.
	EpochDone(e Epoch, centre []float32)
	// WorkerLost is called when a worker ended with an error and the run may go on without it.
	WorkerLost(w ps.Worker, err error)
}

// Progress is how far a run has come.
type Progress struct {
	Worker    ps.Worker   // whose commit it was
	Epoch     int         // that its window began in, from 1
	Loss      float64     // mean over its window
	Staleness uint64      // of the commit
	Commits   int64       // of all workers
	Samples   int64       // acknowledged, all epochs together
	Of        int64       // samples of the whole run
	Seconds   float64     // since the start, the time before a resume included
	Steps     int64       // of all workers, likewise
	Done      WorkerStats // what this worker did in this life of the run so far; without StalenessMean
}

// Epoch is one line of a run's history. A window that reaches over the end of an epoch gives its loss and its commit
// to the epoch it began in; samples are counted where they belong.
type Epoch struct {
	Epoch         int     `json:"epoch"`   // from 1
	Loss          Number  `json:"loss"`    // mean over the samples while training, before each step
	Samples       int64   `json:"samples"` // acknowledged
	Commits       int64   `json:"commits"`
	StalenessMean float64 `json:"staleness_mean"`
	Seconds       float64 `json:"seconds"`           // since the epoch before was complete
	Partial       bool    `json:"partial,omitempty"` // the run ended before this epoch did

	Steps        int64         `json:"steps,omitempty"`
	CommitsPerS  float64       `json:"commits_per_s,omitempty"`
	ExchangedMiB float64       `json:"exchanged_mib,omitempty"` // of parameters, both ways, as float32
	WireMiB      float64       `json:"wire_mib,omitempty"`      // what went over sockets for that, both ways
	Staleness    Staleness     `json:"staleness,omitempty"`
	Workers      []WorkerEpoch `json:"workers,omitempty"`
	Validation   Metrics       `json:"validation,omitempty"`    // of the centre at the end of the epoch
	Unmeasured   bool          `json:"unmeasured,omitempty"`    // there was no room for another centre that waits to be validated
	LearningRate float64       `json:"learning_rate,omitempty"` // in it, as the coordinator had it when the epoch was complete; only with Plateau
}

// watch follows a run from inside the parameter server: it is the ps.Observer that keeps the books of Train.
type watch struct {
	mu       sync.Mutex
	observer Observer // may be nil
	shards   int
	epochs   int
	of       int64
	start    time.Time
	epochEnd time.Time // of the last complete epoch

	rows     map[int]int64 // acknowledged rows of units that are begun and not done
	samples  int64
	commits  int64
	steps    int64
	params   int       // of the model
	past     float64   // seconds before a resume
	overseer *overseer // nil: nobody
	kept     *mark     // what Rewound goes back to

	voidSamples, voidCommits int64 // by Rewound
	open                     map[int]*tally
	history                  []Epoch
	workers                  map[ps.Worker]*books // those expected, and whoever else joined
}

var _ ps.Rewinder = (*watch)(nil)

// books are what one worker did and is.
type books struct {
	WorkerStats
	stale       float64 // sum over commits
	incarnation uint64  // of its last life
	in          bool    // that life has not left
}

// tally is an epoch that is not complete.
type tally struct {
	lossSum, stale   float64
	weight           int64 // samples behind lossSum
	samples, commits int64

	steps     int64
	wire      int64 // bytes
	staleness Staleness
	workers   map[ps.Worker]*WorkerEpoch
}

func newWatch(cfg Config, shards []pipeline.Shard) *watch {
	w := &watch{observer: cfg.Observer, shards: len(shards), epochs: cfg.Epochs, start: time.Now(), rows: map[int]int64{},
		open: map[int]*tally{}, workers: map[ps.Worker]*books{}}
	w.epochEnd = w.start
	w.overseer = newOverseer(cfg, w)
	w.resume(cfg.Past)
	var rows int64
	for _, s := range shards {
		rows += s.Rows
	}
	w.of = rows * int64(cfg.Epochs)
	for i := range cfg.Workers {
		w.worker(ps.Worker(i))
	}
	if from := cfg.From; from != nil {
		w.samples = rows * int64(from.Epoch)
		for _, u := range from.Units {
			if u.Done {
				w.samples += shards[u.ID%len(shards)].Rows
			} else if c, err := pipeline.ParseCursor(u.Cursor); err == nil {
				w.samples += c.Row
				w.rows[u.ID] = c.Row
			}
		}
	}
	return w
}

// Committed implements ps.Observer.
func (w *watch) Committed(c ps.Commit, a ps.Ack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	applied := a.Rejected == "" && !a.Dropped
	for _, p := range c.Positions {
		moved := w.move(p)
		if e := w.tally(p.Unit / max(1, w.shards)); applied {
			e.samples += moved
			w.samples += moved
		}
	}
	epoch := min(max(c.Report.Epoch, 0), w.epochs-1) // it comes from outside
	w.tally(epoch).spent(c)
	s := w.worker(c.Worker)
	s.ComputeS += c.Report.ComputeS
	s.WaitS += c.Report.WaitS
	s.FeedS += c.Report.FeedS
	s.wire(c.Report.Wire)
	switch {
	case a.Dropped:
		s.Dropped++
		return
	case !applied:
		s.Rejected++
		return
	case c.Steps == 0:
		return
	}
	s.Samples += c.Samples
	s.Steps += int64(c.Steps)
	s.Commits++
	s.stale += float64(a.Staleness)
	e := w.tally(epoch)
	e.applied(c, a.Staleness)
	w.steps += int64(c.Steps)
	w.overseer.stepped(c.Steps)
	e.lossSum += c.Report.Loss * float64(c.Samples)
	e.weight += c.Samples
	e.stale += float64(a.Staleness)
	e.commits++
	w.commits++
	if w.observer != nil {
		w.observer.Progress(Progress{Worker: c.Worker, Epoch: epoch + 1, Loss: c.Report.Loss, Staleness: a.Staleness,
			Commits: w.commits, Samples: w.samples, Of: w.of, Seconds: w.past + time.Since(w.start).Seconds(), Steps: w.steps, Done: s.WorkerStats})
	}
}

// move gives the number of rows by which a position went on.
func (w *watch) move(p ps.Position) int64 {
	before := w.rows[p.Unit]
	row := before
	if c, err := pipeline.ParseCursor(p.Cursor); err == nil {
		row = c.Row
	}
	if p.Done {
		delete(w.rows, p.Unit)
	} else {
		w.rows[p.Unit] = row
	}
	return row - before
}

func (w *watch) tally(epoch int) *tally {
	e := w.open[epoch]
	if e == nil {
		e = &tally{}
		w.open[epoch] = e
	}
	return e
}

// worker finds a worker's books; one that the run did not expect may have joined.
func (w *watch) worker(id ps.Worker) *books {
	b := w.workers[id]
	if b == nil {
		b = &books{WorkerStats: WorkerStats{ID: id}}
		w.workers[id] = b
	}
	return b
}

// Membership implements ps.Observer.
func (w *watch) Membership(id ps.Worker, incarnation uint64, joined bool, _ string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.worker(id); joined {
		b.incarnation, b.in = incarnation, true
	} else if b.incarnation == incarnation {
		b.in = false
	}
}

// life gives the incarnation of a worker, 0 if it never joined, and whether there is anything to leave.
func (w *watch) life(id ps.Worker) (incarnation uint64, in bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.worker(id)
	return b.incarnation, b.in || b.incarnation == 0
}

// EpochDone implements ps.Observer.
func (w *watch) EpochDone(epoch int, _ uint64, centre []float32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.close(epoch, time.Now())
	if w.overseer.epochDone(e, centre) {
		e.Unmeasured = true
		w.history[len(w.history)-1].Unmeasured = true
	}
	if w.observer != nil {
		w.observer.EpochDone(e, centre)
	}
}

// close moves an epoch from the open ones to the history.
func (w *watch) close(epoch int, now time.Time) Epoch {
	e := w.line(epoch, now)
	delete(w.open, epoch)
	w.epochEnd = now
	w.history = append(w.history, e)
	return e
}

// lost tells the observer of a lost worker.
func (w *watch) lost(id ps.Worker, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.observer != nil {
		w.observer.WorkerLost(id, err)
	}
}

// finish closes what is open and fills the books into r.
func (w *watch) finish(r *Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, epoch := range slices.Sorted(maps.Keys(w.open)) {
		if t := w.open[epoch]; t.commits > 0 || t.samples > 0 {
			w.close(epoch, now)
			w.history[len(w.history)-1].Partial = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.workers)) {
		b := w.workers[id]
		if b.Commits > 0 {
			b.StalenessMean = b.stale / float64(b.Commits)
		}
		r.Workers = append(r.Workers, b.WorkerStats)
	}
	r.History, r.Samples = w.history, w.samples
	r.Seconds = w.past + now.Sub(w.start).Seconds()
}
