package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dkpipe/sparkconn"
)

// sparkWatch logs what Spark is doing while a run waits for it, where no bar shows it.
type sparkWatch struct {
	log  *slog.Logger
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	now   sparkconn.Activity
	since time.Time
}

// watchEvery is the time between two lines.
const watchEvery = 30 * time.Second

func newSparkWatch(log *slog.Logger) *sparkWatch {
	w := &sparkWatch{log: log, stop: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.say()
			case <-w.stop:
				return
			}
		}
	})
	return w
}

// set takes what Spark does now.
func (w *sparkWatch) set(a sparkconn.Activity) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.What != w.now.What || a.Progress == (sparkconn.Progress{}) {
		w.since = time.Now()
	}
	w.now = a
}

// say logs one line.
func (w *sparkWatch) say() {
	w.mu.Lock()
	now, since := w.now, w.since
	w.mu.Unlock()
	if now.What == "" {
		return
	}
	text := "no task yet: Spark plans, or is busy with other work"
	if now.Progress.Of > 0 {
		text = now.Progress.String()
	}
	w.log.Info(fmt.Sprintf("waiting for Spark: %s, %s", now.What, text), "seconds", int(time.Since(since).Seconds()))
}

func (w *sparkWatch) close() {
	close(w.stop)
	w.done.Wait()
}
