package trainertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// Case is an algorithm and the settings under which it is to find the minimum of a linear least-squares problem with
// 4 inputs, 2 outputs and 240 rows in 6 shards and batches of 8, so 30 steps an epoch for all workers together.
type Case struct {
	Algorithm trainers.Algorithm
	Workers   []int                              // how many workers to try; nil: 1, 2 and 4
	Window    int                                // 0: the algorithm's default
	Rate      float32                            // learning rate; 0 means 0.1
	Epochs    int                                // 0 means 40
	Optimizer func(int) (optim.Optimizer, error) // nil: Descent with Rate
	Tolerance float64                            // of every parameter at the end; 0 means 0.001
	Timed     bool                               // windows depend on time: runs do not repeat themselves
}

const (
	inputs, outputs = 4, 2
	rows, shards    = 240, 6
	batch           = 8
)

// Run is the suite that every algorithm must pass: its halves conform (Conform), it converges to the known minimum through
// the real server with several numbers of workers, counts every sample once, also those of windows that ended early, keeps
// numbers that are not finite out of the centre, repeats itself bit for bit where it promises to, goes on from where it was
// stopped, and survives the death of a worker.
func Run(t *testing.T, c Case) {
	if c.Workers == nil {
		c.Workers = []int{1, 2, 4}
	}
	if c.Rate == 0 {
		c.Rate = 0.1
	}
	if c.Epochs == 0 {
		c.Epochs = 40
	}
	if c.Tolerance == 0 {
		c.Tolerance = 1e-3
	}
	most := slices.Max(c.Workers)
	Conform(t, c.Algorithm)
	t.Run("windows that end early are acknowledged", func(t *testing.T) { c.partial(t, most) })
	t.Run("numbers that are not finite do not reach the centre", func(t *testing.T) { c.poisoned(t, most) })
	for _, n := range c.Workers {
		t.Run(fmt.Sprintf("converges with %d workers", n), func(t *testing.T) { c.converges(t, n) })
	}
	if !c.Timed {
		t.Run("one worker repeats bit for bit", func(t *testing.T) { c.repeats(t, 1) })
	}
	if c.Algorithm.Mode() == ps.Rounds && !c.Timed {
		t.Run(fmt.Sprintf("%d workers in rounds repeat bit for bit", most), func(t *testing.T) { c.repeats(t, most) })
	}
	t.Run("stops and resumes at cursors", func(t *testing.T) { c.resumes(t, most) })
	if most > 1 {
		t.Run("a lost worker does not lose the run", func(t *testing.T) { c.survives(t, most) })
	}
}

// config makes the run and the parameters that it must find.
func (c Case) config(n int) (cfg trainers.Config, feed *Feed, minimum []float32) {
	feed, minimum = Linear(rows, inputs, outputs, 7)
	feed.NumShards, feed.BatchSize = shards, batch
	opt := c.Optimizer
	if opt == nil {
		opt = func(int) (optim.Optimizer, error) { return Descent{c.Rate}, nil }
	}
	cfg = trainers.Config{
		Algorithm: c.Algorithm, Workers: n, Window: c.Window, Epochs: c.Epochs, Feed: feed, Optimizer: opt,
		Replica: func(w ps.Worker) (model.Replica, error) {
			m := NewLinear(inputs, outputs, uint64(w))
			if w%2 == 0 {
				return inPieces{m}, nil // both ways to take a step, in one run
			}
			return m, nil
		},
	}
	if p, ok := c.Algorithm.(trainers.Configured); n > 1 && c.Algorithm.Mode() == ps.Async && !(ok && p.Settings().Bound > 0) {
		// A bound keeps workers together itself; two that do it by different books would wait for each other.
		cfg.Launch = newPace().launch(cfg)
	}
	return cfg, feed, minimum
}

// complete checks a run that was to finish: the minimum is found and every sample counted once.
func (c Case) complete(t *testing.T, r trainers.Result, minimum []float32) {
	t.Helper()
	if err := near(r.Params, minimum, c.Tolerance); err != nil {
		t.Errorf("the run ended at %v, the minimum is at %v: %v", r.Params, minimum, err)
	}
	if r.Interrupted {
		t.Error("a complete run says it was interrupted")
	}
	if want := int64(rows * c.Epochs); r.Samples != want {
		t.Errorf("%d samples acknowledged, want %d", r.Samples, want)
	}
}

func (c Case) converges(t *testing.T, n int) {
	cfg, _, minimum := c.config(n)
	seen := &witness{}
	cfg.Observer = seen
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.complete(t, r, minimum)
	var samples int64
	for i, w := range r.Workers {
		samples += w.Samples
		if w.ID != ps.Worker(i) || w.Rejected != 0 {
			t.Errorf("worker %d: %+v", i, w)
		}
	}
	if samples != r.Samples || len(r.Workers) != n {
		t.Errorf("%d workers count %d samples, the run counts %d", len(r.Workers), samples, r.Samples)
	}
	if len(r.History) != c.Epochs {
		t.Fatalf("history has %d epochs, want %d", len(r.History), c.Epochs)
	}
	for i, e := range r.History {
		if e.Epoch != i+1 || e.Samples != rows || e.Partial {
			t.Errorf("history line %d: %+v, want %d samples", i+1, e, rows)
		}
	}
	if first, last := r.History[0].Loss, r.History[c.Epochs-1].Loss; !(last < first/100) {
		t.Errorf("the loss went from %v to %v", first, last)
	}
	if seen.epochs != c.Epochs || seen.last.Samples != r.Samples || seen.last.Of != r.Samples {
		t.Errorf("the observer saw %d epochs and at last %+v", seen.epochs, seen.last)
	}
}

// partial has windows that the data is no multiple of.
func (c Case) partial(t *testing.T, n int) {
	c.Epochs = 3
	cfg, _, _ := c.config(n)
	if c.Algorithm.Window(n) > 0 {
		cfg.Window = 7
	}
	if cfg.Launch != nil {
		cfg.Launch = newPace().launch(cfg)
	}
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var steps, commits int64
	for _, w := range r.Workers {
		steps += w.Steps
		commits += w.Commits
	}
	if want := int64(rows * c.Epochs); r.Samples != want || steps != want/batch {
		t.Errorf("%d samples in %d steps are acknowledged, want %d in %d", r.Samples, steps, want, want/batch)
	}
	if cfg.Window > 0 && commits*int64(cfg.Window) == steps {
		t.Errorf("%d steps make %d windows of %d: none ended early", steps, commits, cfg.Window)
	}
}

// inPieces is a model that hands its gradient on in pieces of three.
type inPieces struct{ *Model }

var _ model.Descender = inPieces{}

func (m inPieces) Descend(b *pipeline.Batch, _ bool, update func(at int, grads []float32)) (float32, error) {
	loss, err := m.Step(b)
	if err != nil || loss-loss != 0 {
		return loss, err
	}
	for at := 0; at < len(m.grads); at += 3 {
		update(at, m.grads[at:min(at+3, len(m.grads))])
	}
	return loss, nil
}

// poison spoils one gradient of a model.
type poison struct {
	*Model
	at    int // the step; counted down
	spoil *sync.Once
}

func (p *poison) Step(b *pipeline.Batch) (float32, error) {
	loss, err := p.Model.Step(b)
	if p.at--; p.at < 0 {
		p.spoil.Do(func() { p.Grads()[1] = float32(math.NaN()) })
	}
	return loss, err
}

// poisoned spoils one gradient of the run. The server refuses the commit that it ends up in, and the worker goes on from the
// centre; only when it takes another step before it commits, its loss ends the worker, and the others do its data.
func (c Case) poisoned(t *testing.T, n int) {
	cfg, _, minimum := c.config(n)
	if c.Algorithm.Window(n) > 0 {
		cfg.Window = 1
	}
	var spoil sync.Once
	cfg.Replica = func(w ps.Worker) (model.Replica, error) {
		return &poison{NewLinear(inputs, outputs, uint64(w)), 5, &spoil}, nil
	}
	if cfg.Launch != nil {
		cfg.Launch = newPace().launch(cfg)
	}
	r, err := trainers.Train(t.Context(), cfg)
	for _, v := range r.Params {
		if v-v != 0 {
			t.Fatalf("the centre is %v", r.Params)
		}
	}
	last := err
	if err == nil && len(r.Lost) == 1 {
		last = r.Lost[0].Err
	}
	var kind interface{ ErrorKind() string }
	switch {
	case errors.As(last, &kind) && kind.ErrorKind() == string(pipeline.Diverged) && cfg.Window == 0:
		return
	case err != nil:
		t.Fatal(err)
	}
	var rejected int64
	for _, w := range r.Workers {
		rejected += w.Rejected
	}
	if rejected != 1 {
		t.Errorf("%d commits were rejected, one had NaN", rejected)
	}
	if err := near(r.Params, minimum, 10*c.Tolerance); err != nil && !c.windowed() {
		t.Errorf("the run ended at %v, the minimum is at %v: %v", r.Params, minimum, err)
	}
}

// windowed says that a window of one step is another method, or none.
func (c Case) windowed() bool { return c.Algorithm.Window(1) != 1 }

// repeats runs twice, the second time with the scheduler stirred, and compares bits.
func (c Case) repeats(t *testing.T, n int) {
	var first []float32
	for i := range 2 {
		cfg, feed, _ := c.config(n)
		if i > 0 {
			var calls atomic.Int64
			feed.Fault = func(_ context.Context, shard int, _ pipeline.Cursor) error {
				for range int64(shard) * (calls.Add(1) % 5) {
					runtime.Gosched()
				}
				return nil
			}
		}
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = r.Params
		} else if !slices.Equal(first, r.Params) {
			t.Errorf("two runs differ:\n%v\n%v", first, r.Params)
		}
	}
}

// resumes stops a run in the middle of an epoch and goes on from its snapshot until it is complete.
func (c Case) resumes(t *testing.T, n int) {
	cfg, feed, minimum := c.config(n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := int64(c.Epochs/2*rows + rows/2)
	var delivered atomic.Int64
	feed.Fault = func(context.Context, int, pipeline.Cursor) error {
		if delivered.Add(batch) == stop/batch*batch {
			cancel()
		}
		return nil
	}
	r, err := trainers.Train(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Samples == 0 || r.Samples >= int64(rows*c.Epochs) {
		t.Fatalf("the run was stopped, but interrupted is %v after %d samples", r.Interrupted, r.Samples)
	}
	if got, want := r.Samples, delivered.Load(); got > want {
		t.Errorf("%d samples acknowledged, at most %d were delivered", got, want)
	}
	var twice atomic.Bool
	feed.Fault = resumedFrom(r.Snapshot, &twice)
	cfg.From = r.Snapshot
	before := r.Samples
	if r, err = trainers.Train(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	c.complete(t, r, minimum)
	if twice.Load() {
		t.Error("a batch that was acknowledged before the stop was delivered again")
	}
	var after int64
	for _, w := range r.Workers {
		after += w.Samples
	}
	if before+after != r.Samples {
		t.Errorf("%d samples before the stop and %d after it make %d", before, after, r.Samples)
	}
}

// resumedFrom notices deliveries of what a snapshot says is done.
func resumedFrom(s *ps.Snapshot, twice *atomic.Bool) func(context.Context, int, pipeline.Cursor) error {
	first := map[int]int64{} // unit -> row
	for _, u := range s.Units {
		c, err := pipeline.ParseCursor(u.Cursor)
		if first[u.ID] = c.Row; u.Done || err != nil {
			first[u.ID] = rows
		}
	}
	return func(_ context.Context, shard int, at pipeline.Cursor) error {
		if at.Epoch < s.Epoch || at.Row < first[at.Epoch*s.Shards+shard] {
			twice.Store(true)
		}
		return nil
	}
}

// survives breaks the data of one worker once, in the middle of a run.
func (c Case) survives(t *testing.T, n int) {
	cfg, feed, minimum := c.config(n)
	broken := errors.New("the disk is on fire")
	var once sync.Once
	feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) (err error) {
		if at.Epoch == 1 && at.Row == 2*batch {
			once.Do(func() { err = broken })
		}
		return err
	}
	seen := &witness{}
	cfg.Observer = seen
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.complete(t, r, minimum)
	if len(r.Lost) != 1 || !errors.Is(r.Lost[0].Err, broken) || seen.lost != 1 {
		t.Errorf("one worker was killed; the result names %v, the observer saw %d", r.Lost, seen.lost)
	}
}

// witness is an observer that remembers.
type witness struct {
	last         trainers.Progress
	epochs, lost int
}

func (w *witness) Progress(p trainers.Progress)        { w.last = p }
func (w *witness) EpochDone(trainers.Epoch, []float32) { w.epochs++ }
func (w *witness) WorkerLost(ps.Worker, error)         { w.lost++ }
