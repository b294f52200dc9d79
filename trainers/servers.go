package trainers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
)

// DataServers are processes that hold the parameters of a run; see ps.Server.Spread.
type DataServers interface {
	// Open gives the way to each of them, in order. lost may be called by any goroutine when one has gone, or has not any
	// more what it should have; its keeper must give errors by then, and not wait.
	Open(ctx context.Context, lost func(server int, err error)) ([]ps.Keeper, error)
	// Replace gives the way to an empty server in the place of a lost one, after it has ended that one: lost is not called for
	// it any more. Workers reach it at the same address.
	Replace(ctx context.Context, server int) (ps.Keeper, error)
}

// Recovery is a data server that was lost, and what the run has lost with it.
type Recovery struct {
	Server  int     `json:"server"`
	Cause   string  `json:"cause"`
	Samples int64   `json:"samples"` // that were acknowledged, and had to be trained on again
	Commits int64   `json:"commits"`
	Kept    int64   `json:"kept"`    // samples that were acknowledged and stand
	Seconds float64 `json:"seconds"` // until the run went on
}

// Recovered is an extra power of an Observer that wants to know of data servers that are lost. It is called like its other
// methods.
type Recovered interface {
	// ServerLost is called when the run begins to wait for another one.
	ServerLost(server int, err error)
	// WentBack is called when it goes on.
	WentBack(r Recovery)
}

// DefaultKeep is the time between two copies of the state of a run with data servers.
const DefaultKeep = 10 * time.Second

// maxLosses is how often a data server may be lost before anything was committed since the last time.
const maxLosses = 3

// guard keeps copies of a run's state and takes the run back to the last one when a data server is lost. A nil guard belongs
// to a run without data servers.
type guard struct {
	cfg    Config
	srv    *ps.Server
	watch  *watch
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // has room for one: lost is not empty

	mu    sync.Mutex
	lost  map[int]error
	last  *ps.Snapshot
	books *mark // of last
	all   []Recovery
	fatal error
}

// newGuard spreads the parameters of a run, if that is asked for.
func newGuard(ctx context.Context, cfg Config, srv *ps.Server, w *watch) (*guard, error) {
	if cfg.Servers == nil {
		return nil, nil
	}
	if cfg.KeepEvery <= 0 {
		cfg.KeepEvery = DefaultKeep
	}
	g := &guard{cfg: cfg, srv: srv, watch: w, wake: make(chan struct{}, 1), lost: map[int]error{}}
	g.snapshot(srv, w, nil)
	srv.Guard(g.note)
	keepers, err := cfg.Servers.Open(ctx, srv.Lose)
	if err != nil {
		return nil, err
	}
	if _, err := srv.Spread(keepers); err != nil {
		return nil, err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	g.cancel = end
	g.done.Go(func() { g.run(running) })
	return g, nil
}

// note is told of losses by the server.
func (g *guard) note(server int, err error) {
	g.mu.Lock()
	if g.lost[server] == nil {
		g.lost[server] = err
	}
	g.mu.Unlock()
	notify(g.wake)
}

// snapshot copies the state of a run, with a look at what belongs to it; nil when a data server is lost. The run goes back to
// the newest copy.
func (g *guard) snapshot(srv *ps.Server, w *watch, look func()) *ps.Snapshot {
	var m *mark
	s := srv.SnapshotWith(func() {
		if look != nil {
			look()
		}
		if g != nil {
			m = w.mark()
		}
	})
	switch {
	case s.Centre == nil:
		return nil
	case g == nil:
		return s
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil || s.Version >= g.last.Version {
		g.last, g.books = s, m
	}
	return s
}

func (g *guard) run(ctx context.Context) {
	beat := time.NewTicker(g.cfg.KeepEvery)
	defer beat.Stop()
	for losses := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			g.snapshot(g.srv, g.watch, nil)
		case <-g.wake:
			if losses++; g.srv.Progress().Version > g.newest().Version {
				losses = 1
			}
			if err := g.recover(ctx, losses); err != nil {
				if ctx.Err() == nil {
					g.give(err)
				}
				return
			}
		}
	}
}

// give ends the run.
func (g *guard) give(err error) {
	g.mu.Lock()
	g.fatal = err
	g.mu.Unlock()
	g.srv.Abort(err)
}

// take gives the servers that are lost.
func (g *guard) take() map[int]error {
	g.mu.Lock()
	defer g.mu.Unlock()
	lost := g.lost
	g.lost = map[int]error{}
	return lost
}

// forget drops what was said about the server before the present one.
func (g *guard) forget(server int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.lost, server)
}

// recover replaces what is lost and takes the run back.
func (g *guard) recover(ctx context.Context, losses int) error {
	start := time.Now()
	var found []Recovery
	var failed error
	tries := map[int]int{}
	for lost := g.take(); len(lost) > 0; lost = g.take() {
		for _, i := range slices.Sorted(maps.Keys(lost)) {
			if tries[i]++; max(losses, tries[i]) > maxLosses {
				return &pipeline.Error{Kind: pipeline.Unreachable, Message: fmt.Sprintf("data server %d was lost %d times before anything was committed", i, maxLosses+1), Err: lost[i],
					Hint: "see why it ends; the run can go on with --resume when it keeps checkpoints"}
			}
			g.watch.tell(func(o Recovered) { o.ServerLost(i, lost[i]) })
			found = append(found, Recovery{Server: i, Cause: lost[i].Error()})
			k, err := g.cfg.Servers.Replace(ctx, i)
			if err != nil {
				return err
			}
			g.forget(i)
			if err := g.srv.Swap(i, k); err != nil {
				return err
			}
		}
		failed = g.srv.Rollback(g.newest()) // fails when another one is lost, which is told, too
	}
	if failed != nil || len(found) == 0 {
		return failed
	}
	samples, commits, kept := g.watch.voided()
	for i := range found {
		found[i].Samples, found[i].Commits, found[i].Kept, found[i].Seconds = samples, commits, kept, time.Since(start).Seconds()
		g.watch.tell(func(o Recovered) { o.WentBack(found[i]) })
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, found...)
	return nil
}

// stop ends the guard when the workers have ended, and gives the error that the run ends with.
func (g *guard) stop(err error) error {
	if g == nil {
		return err
	}
	g.cancel()
	g.done.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fatal != nil {
		return g.fatal
	}
	return err
}

// end gives the state that a run has ended with: the last copy of it when a data server was lost at the very end.
func (g *guard) end(s *ps.Snapshot) *ps.Snapshot {
	if g == nil || s.Centre != nil {
		return s
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range slices.Sorted(maps.Keys(g.lost)) {
		samples, commits := g.watch.since(g.books)
		g.all = append(g.all, Recovery{Server: i, Cause: g.lost[i].Error(), Samples: samples, Commits: commits})
	}
	return g.last
}

// newest gives the state to go back to, and tells the watch which one it is.
func (g *guard) newest() *ps.Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watch.keep(g.books)
	return g.last
}

// found gives what was lost.
func (g *guard) found() []Recovery {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}
