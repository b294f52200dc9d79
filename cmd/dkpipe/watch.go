package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dkpipe/ps"
	"dkpipe/trainers"
)

// watchFlags are the flags of commands that train, for those who want to look on.
type watchFlags struct {
	report      string // HTML page
	tensorboard string // folder
	metrics     string // address
	resume      bool
}

// showEvery is the time between two looks at a run that goes on: on the terminal, in --events, in the curves.
const showEvery = 250 * time.Millisecond

// maxBars is how many workers have a bar of their own on a terminal.
const maxBars = 16

// trainWatch shows a run while it goes on, and notes its curves. It is a trainers.Observer: its methods are called one at
// a time, and the parameter server waits for them, so all that takes time is done by listeners in a goroutine of theirs.
type trainWatch struct {
	job     *job
	all     *bar
	bars    []*bar // by worker; nil beyond maxBars and for one worker alone
	shown   time.Time
	workers int
	hear    *listeners
	started time.Time
	over    bool

	mu    sync.Mutex
	curve curve
	done  []trainers.WorkerStats // by worker: those that have committed
	stale trainers.Staleness
	last  trainers.Progress
	loss  float64 // smoothed
	lines []trainers.Epoch
	codec map[ps.Worker]string // by worker: what was chosen, with codec auto
}

// newTrainWatch begins to watch a run.
func (j *job) newTrainWatch(cfg *trainers.Config) *trainWatch {
	workers, name := cfg.Workers, "worker"
	if e, ok := cfg.Algorithm.(trainers.Ensemble); ok {
		workers, name = e.Members, "member"
	}
	w := &trainWatch{job: j, workers: workers, all: j.bars.start("train", 0), hear: newListeners()}
	for i := 0; workers > 1 && i < min(workers, maxBars); i++ {
		w.bars = append(w.bars, j.bars.start(fmt.Sprintf("  %s %d", name, i), 0))
	}
	return w
}

// begin is the start of training.
func (w *trainWatch) begin() { w.started = time.Now() }

// close ends the bars and waits for listeners. It is safe to call twice.
func (w *trainWatch) close(complete bool) {
	if w.over {
		return
	}
	w.over = true
	for _, b := range append(w.bars, w.all) {
		b.done(complete, "")
	}
	w.hear.close()
}

// Progress implements trainers.Observer.
func (w *trainWatch) Progress(p trainers.Progress) {
	w.mu.Lock()
	w.note(p)
	loss := w.loss
	w.curve.add(p.Seconds, loss, p.Samples, w.done)
	w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.shown) < showEvery && p.Samples < p.Of {
		return
	}
	w.shown = now
	rate := float64(p.Samples) / max(p.Seconds, 1e-9)
	w.mu.Lock()
	line := w.curve.sparkline(16)
	w.mu.Unlock()
	w.all.set(p.Samples, p.Of, fmt.Sprintf("epoch %d  loss %.4g %s %s samples/s", p.Epoch, loss, line, thousands(int64(rate))))
	w.showWorkers(p)
	w.job.events.add("progress", map[string]any{"worker": p.Worker, "epoch": p.Epoch, "loss": trainers.Number(p.Loss), "samples": p.Samples, "of": p.Of,
		"commits": p.Commits, "steps": p.Steps, "staleness": p.Staleness, "samples_per_s": trainers.Number(rate)})
	w.hear.tell(func(l listener) { l.progress(p, loss) })
}

// note keeps what is cheap to keep of every commit.
func (w *trainWatch) note(p trainers.Progress) {
	for len(w.done) <= int(p.Worker) && p.Worker >= 0 && p.Worker < 1<<16 {
		w.done = append(w.done, trainers.WorkerStats{ID: ps.Worker(len(w.done))})
	}
	if int(p.Worker) < len(w.done) && p.Worker >= 0 {
		w.done[p.Worker] = p.Done
	}
	if w.last.Commits == 0 {
		w.loss = p.Loss
	}
	w.loss += 0.1 * (p.Loss - w.loss)
	w.last = p
	w.chosen(p.Done)
	for len(w.stale) <= int(min(p.Staleness, trainers.StalenessBuckets-1)) {
		w.stale = append(w.stale, 0)
	}
	w.stale[min(p.Staleness, trainers.StalenessBuckets-1)]++
}

// showWorkers moves the bars of the workers: how much of an equal share each has done, and where its time goes.
func (w *trainWatch) showWorkers(p trainers.Progress) {
	for i, b := range w.bars {
		if i >= len(w.done) {
			return
		}
		d := w.done[i]
		busy := max(d.ComputeS+d.WaitS+d.FeedS, 1e-9)
		b.set(d.Samples, max(p.Of/int64(w.workers), d.Samples+1), fmt.Sprintf("%s commits  compute %.0f %%  wait %.0f %%  data %.0f %%",
			thousands(d.Commits), 100*d.ComputeS/busy, 100*d.WaitS/busy, 100*d.FeedS/busy))
	}
}

// EpochDone implements trainers.Observer.
func (w *trainWatch) EpochDone(e trainers.Epoch, _ []float32) {
	w.mu.Lock()
	w.lines = slices.DeleteFunc(w.lines, func(l trainers.Epoch) bool { return l.Epoch >= e.Epoch }) // before the run went back
	w.lines = append(w.lines, e)
	w.mu.Unlock()
	w.job.events.add("epoch", map[string]any{"epoch": e.Epoch, "loss": e.Loss, "samples": e.Samples, "seconds": e.Seconds, "staleness_mean": e.StalenessMean,
		"steps": e.Steps, "commits": e.Commits, "commits_per_s": e.CommitsPerS, "exchanged_mib": e.ExchangedMiB, "wire_mib": e.WireMiB, "staleness": e.Staleness, "workers": e.Workers})
	w.hear.must(func(l listener) { l.epoch(e) })
	w.job.app.crash(fmt.Sprintf("epoch %d", e.Epoch))
}

// Validated implements trainers.Validated.
func (w *trainWatch) Validated(e trainers.Epoch) {
	w.mu.Lock()
	for i := range w.lines {
		if w.lines[i].Epoch == e.Epoch {
			w.lines[i] = e
		}
	}
	w.mu.Unlock()
	w.job.events.add("validation", map[string]any{"epoch": e.Epoch, "metrics": e.Validation})
	w.hear.must(func(l listener) { l.validated(e) })
}

// Paced implements trainers.Paced.
func (w *trainWatch) Paced(epoch int, rate float64, text string) {
	w.job.app.log.Info(text)
	w.job.events.add("learning_rate", map[string]any{"epoch": epoch, "learning_rate": rate, "text": text})
}

// WorkerLost implements trainers.Observer.
func (w *trainWatch) WorkerLost(id ps.Worker, err error) {
	w.job.app.log.Warn("a worker was lost; the others finish its data", "worker", id, "error", err)
	w.job.events.add("worker_lost", map[string]any{"worker": id, "error": err.Error()})
}

// listener is told of a run by a goroutine that nobody waits for.
type listener interface {
	progress(p trainers.Progress, loss float64)
	epoch(e trainers.Epoch)
	validated(e trainers.Epoch)
	close()
}

// listeners hands on what happens. Progress is left out when they cannot keep up; epochs wait in a list.
type listeners struct {
	list []listener // not changed once the run goes on

	mu     sync.Mutex
	queue  []func(listener)
	wake   chan struct{}
	closed bool
	ended  sync.WaitGroup
}

func newListeners() *listeners {
	l := &listeners{wake: make(chan struct{}, 1)}
	return l
}

// add takes in a listener, before the run begins.
func (l *listeners) add(n listener) {
	if len(l.list) == 0 {
		l.ended.Go(l.loop)
	}
	l.list = append(l.list, n)
}

// maxQueue is how many messages may wait before progress is left out.
const maxQueue = 64

func (l *listeners) tell(f func(listener)) { l.push(f, maxQueue) }
func (l *listeners) must(f func(listener)) { l.push(f, 1<<30) }

func (l *listeners) push(f func(listener), limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == 0 || l.closed || len(l.queue) >= limit {
		return
	}
	l.queue = append(l.queue, f)
	l.signal()
}

func (l *listeners) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *listeners) loop() {
	for {
		<-l.wake
		l.mu.Lock()
		queue, closed := l.queue, l.closed
		l.queue = nil
		l.mu.Unlock()
		for _, f := range queue {
			for _, n := range l.list {
				f(n)
			}
		}
		if closed {
			return
		}
	}
}

// close hands on what waits, and ends the listeners.
func (l *listeners) close() {
	l.mu.Lock()
	l.closed = true
	l.signal()
	l.mu.Unlock()
	l.ended.Wait()
	for _, n := range l.list {
		n.close()
	}
	l.list = nil
}

// curve is a run over time, in a bounded number of points. It begins dense; each time that it is full, every second point
// goes, and later ones are twice as far apart.
type curve struct {
	points []point
	gap    float64 // seconds between two points; 0 means firstGap
}

const firstGap = 0.02

// point is a run at one moment.
type point struct {
	Seconds float64
	Loss    float64
	Samples int64
	Workers []int64 // samples of each
}

const maxPoints = 400

// add takes in a point, unless the last one is nearer than the gap.
func (c *curve) add(seconds, loss float64, samples int64, done []trainers.WorkerStats) {
	c.gap = max(c.gap, firstGap)
	if n := len(c.points); n > 0 && seconds-c.points[n-1].Seconds < c.gap {
		return
	}
	p := point{Seconds: seconds, Loss: loss, Samples: samples}
	for _, d := range done {
		p.Workers = append(p.Workers, d.Samples)
	}
	c.points = append(c.points, p)
	if len(c.points) < maxPoints {
		return
	}
	for i := range maxPoints / 2 {
		c.points[i] = c.points[2*i+1]
	}
	c.points = c.points[:maxPoints/2]
	c.gap *= 2
}

// sparkline draws the loss in one line of text.
func (c *curve) sparkline(width int) string {
	n := len(c.points)
	if n < 2 {
		return ""
	}
	width = min(width, n)
	values := make([]float64, width)
	low, high := c.points[0].Loss, c.points[0].Loss
	for i := range values {
		values[i] = c.points[(i+1)*n/width-1].Loss
		low, high = min(low, values[i]), max(high, values[i])
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		i := 0
		if high > low {
			i = int((v - low) / (high - low) * float64(len(levels)-1))
		}
		b.WriteRune(levels[min(max(i, 0), len(levels)-1)])
	}
	return b.String()
}
