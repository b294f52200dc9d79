package trainers

import (
	"maps"
	"slices"
	"time"

	"dkpipe/ps"
)

// StalenessBuckets is the length of a full histogram of staleness.
const StalenessBuckets = 65

// Staleness counts commits by their staleness: element s those that met s others, the last possible one (64) also those
// that met more. Zeros at the end are left out.
type Staleness []int64

// add counts n commits.
func (h *Staleness) add(staleness uint64, n int64) {
	i := int(min(staleness, StalenessBuckets-1))
	for len(*h) <= i {
		*h = append(*h, 0)
	}
	(*h)[i] += n
}

// Merge adds another histogram.
func (h *Staleness) Merge(other Staleness) {
	for s, n := range other {
		if n > 0 {
			h.add(uint64(s), n)
		}
	}
}

// WorkerEpoch is what one worker did in an epoch. Its times are those between its commits: what of an epoch's seconds is
// in none of them was spent before its first commit, after its last, or outside the loop of training.
type WorkerEpoch struct {
	ID        ps.Worker `json:"id"`
	Loss      Number    `json:"loss"`
	Samples   int64     `json:"samples"`
	Steps     int64     `json:"steps"`
	Commits   int64     `json:"commits"`
	Staleness Staleness `json:"staleness,omitempty"`
	ComputeS  float64   `json:"compute_s"`
	WaitS     float64   `json:"wait_s"` // for the server: exchanges and rounds
	FeedS     float64   `json:"feed_s"` // for data

	lossSum float64
}

// worker finds a worker's part of an open epoch.
func (t *tally) worker(id ps.Worker) *WorkerEpoch {
	if t.workers == nil {
		t.workers = map[ps.Worker]*WorkerEpoch{}
	}
	w := t.workers[id]
	if w == nil {
		w = &WorkerEpoch{ID: id}
		t.workers[id] = w
	}
	return w
}

// spent counts where a worker's time went.
func (t *tally) spent(c ps.Commit) {
	w := t.worker(c.Worker)
	w.ComputeS += c.Report.ComputeS
	w.WaitS += c.Report.WaitS
	w.FeedS += c.Report.FeedS
	t.wire += c.Report.Wire.Sent + c.Report.Wire.Received
}

// applied counts a commit whose delta became part of the centre.
func (t *tally) applied(c ps.Commit, staleness uint64) {
	w := t.worker(c.Worker)
	w.lossSum += c.Report.Loss * float64(c.Samples)
	w.Samples += c.Samples
	w.Steps += int64(c.Steps)
	w.Commits++
	w.Staleness.add(staleness, 1)
	t.steps += int64(c.Steps)
	t.staleness.add(staleness, 1)
}

// books copies the parts of all workers, by number.
func (t *tally) books() []WorkerEpoch {
	var all []WorkerEpoch
	for _, id := range slices.Sorted(maps.Keys(t.workers)) {
		w := *t.workers[id]
		w.Loss = Number(w.lossSum / float64(w.Samples))
		w.Staleness = slices.Clone(w.Staleness) // the epoch may go on
		all = append(all, w)
	}
	return all
}

// Validated is an extra power of an Observer that wants to know what validation measured. It is called like its other
// methods.
type Validated interface {
	// Validated is called with a complete epoch whose Validation is set, some time after its EpochDone.
	Validated(e Epoch)
}

// validated puts a measurement into the history and tells the observer. It does not for an epoch that is open again.
func (w *watch) validated(epoch int, m Metrics) (Epoch, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.history, func(e Epoch) bool { return e.Epoch == epoch })
	if i < 0 {
		return Epoch{}, false
	}
	w.history[i].Validation = m
	if o, ok := w.observer.(Validated); ok {
		o.Validated(w.history[i])
	}
	return w.history[i], true
}

// paced tells the observer of a new learning rate.
func (w *watch) paced(epoch int, rate float64, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o, ok := w.observer.(Paced); ok {
		o.Paced(epoch, rate, text)
	}
}

// line makes the line of history of an open epoch.
func (w *watch) line(epoch int, now time.Time) Epoch {
	t := w.tally(epoch)
	e := Epoch{Epoch: epoch + 1, Loss: Number(t.lossSum / float64(t.weight)), Samples: t.samples, Commits: t.commits,
		Seconds: now.Sub(w.epochEnd).Seconds(), Steps: t.steps, Staleness: slices.Clone(t.staleness), Workers: t.books(),
		ExchangedMiB: float64(t.commits) * 8 * float64(w.params) / (1 << 20), WireMiB: float64(t.wire) / (1 << 20)}
	e.LearningRate = w.overseer.rate()
	if t.commits > 0 {
		e.StalenessMean = t.stale / float64(t.commits)
	}
	if e.Seconds > 0 {
		e.CommitsPerS = float64(t.commits) / e.Seconds
	}
	return e
}

// sofar copies the lines of history: complete epochs, and then those that are begun as they are now. It also gives the
// steps that were taken.
func (w *watch) sofar() ([]Epoch, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines, now := slices.Clone(w.history), time.Now()
	for _, epoch := range slices.Sorted(maps.Keys(w.open)) {
		e := w.line(epoch, now)
		e.Partial = true
		lines = append(lines, e)
	}
	return lines, w.steps
}

// resume takes over what was known of a run when its checkpoint was made.
func (w *watch) resume(p *Past) {
	if p == nil {
		return
	}
	w.past, w.steps = p.Seconds, p.Steps
	for _, e := range p.Epochs {
		if e.Epoch < 1 || e.Epoch > w.epochs {
			continue // of a run with more epochs
		}
		w.commits += e.Commits
		if !e.Partial {
			w.history = append(w.history, e)
			continue
		}
		w.epochEnd = w.start.Add(-time.Duration(e.Seconds * float64(time.Second)))
		t := w.tally(e.Epoch - 1)
		t.samples, t.commits, t.steps, t.stale = e.Samples, e.Commits, e.Steps, e.StalenessMean*float64(e.Commits)
		t.wire = int64(e.WireMiB * (1 << 20))
		t.staleness.Merge(e.Staleness)
		for _, b := range e.Workers {
			to := t.worker(b.ID)
			*to = b
			to.Staleness = slices.Clone(b.Staleness)
			if b.Samples > 0 {
				to.lossSum = float64(b.Loss) * float64(b.Samples)
			}
			t.lossSum += to.lossSum
			t.weight += b.Samples
		}
	}
}
