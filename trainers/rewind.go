package trainers

import (
	"maps"
	"slices"
	"time"

	"dkpipe/ps"
)

// mark is what the books of a run were at one moment.
type mark struct {
	rows           map[int]int64
	samples        int64
	commits, steps int64
	epochEnd       time.Time
	open           map[int]*tally
	history        []Epoch
	workers        map[ps.Worker]books
}

// mark copies the books. It is called with the server's lock held, like the methods of ps.Observer.
func (w *watch) mark() *mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &mark{rows: maps.Clone(w.rows), samples: w.samples, commits: w.commits, steps: w.steps, epochEnd: w.epochEnd,
		open: cloneOpen(w.open), history: slices.Clone(w.history), workers: map[ps.Worker]books{}}
	for id, b := range w.workers {
		m.workers[id] = *b
	}
	return m
}

func cloneOpen(open map[int]*tally) map[int]*tally {
	out := map[int]*tally{}
	for epoch, t := range open {
		c := *t
		c.staleness, c.workers = slices.Clone(t.staleness), nil
		for id, e := range t.workers {
			to := c.worker(id)
			*to = *e
			to.Staleness = slices.Clone(e.Staleness)
		}
		out[epoch] = &c
	}
	return out
}

// keep notes what Rewound is to go back to.
func (w *watch) keep(m *mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = m
}

// Rewound implements ps.Rewinder. The time that was spent stays spent; nobody has joined.
func (w *watch) Rewound(to *ps.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.kept
	if m == nil {
		return
	}
	w.voidSamples, w.voidCommits = w.samples-m.samples, w.commits-m.commits
	w.rows, w.samples, w.commits, w.steps, w.epochEnd = maps.Clone(m.rows), m.samples, m.commits, m.steps, m.epochEnd
	w.open, w.history = cloneOpen(m.open), slices.Clone(m.history)
	for id, b := range w.workers {
		before := m.workers[id]
		b.Samples, b.Steps, b.Commits, b.Rejected, b.Dropped, b.stale = before.Samples, before.Steps, before.Commits, before.Rejected, before.Dropped, before.stale
		b.incarnation, b.in = 0, false
	}
	w.overseer.rewound(w.steps, to.Epoch)
}

// voided says how much was lost when the books were taken back the last time, and how many samples stand.
func (w *watch) voided() (samples, commits, kept int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.voidSamples, w.voidCommits, w.kept.samples
}

// since says how much was committed since a mark.
func (w *watch) since(m *mark) (samples, commits int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.samples - m.samples, w.commits - m.commits
}

// tell calls an observer that wants to know of data servers.
func (w *watch) tell(f func(Recovered)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o, ok := w.observer.(Recovered); ok {
		f(o)
	}
}
