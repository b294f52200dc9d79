package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
)

// anyLocalPort is where a run awaits workers when nothing is said.
const anyLocalPort = "127.0.0.1:0"

// defaultJoin is how long a run waits for workers that somebody else starts.
const defaultJoin = 5 * time.Minute

// lookEvery is how often a run looks who has joined it.
const lookEvery = 100 * time.Millisecond

// gathering is a run whose workers come from elsewhere, whenever they do: any number of them may join and leave while it
// goes on. It ends when its work is done, or when too few workers were there for too long.
type gathering struct {
	*door
	job    *job
	at     string        // the address that workers are told
	want   int           // workers that the run expects
	least  int           // that it needs
	wait   time.Duration // how long it does without
	invite func()        // tells the world that the run is ready; may be nil

	begin  sync.Once
	end    chan struct{} // closed by close
	watch  sync.WaitGroup
	mu     sync.Mutex
	cause  error
	failed chan struct{} // closed when cause is set
}

// launchJoin makes cfg wait for workers that somebody starts, and says how. The caller calls stop in the end.
func (j *job) launchJoin(_ context.Context, p prepared, cfg *trainers.Config) (stop func(), err error) {
	g, err := j.gather(p, cfg)
	if err != nil {
		return nil, err
	}
	shown, err := j.showTicket(g.ticket)
	if err != nil {
		g.close()
		return nil, err
	}
	g.invite = func() {
		command := fmt.Sprintf("%s=%s %s worker --connect %s", ticketVariable, shown, program(), g.at)
		fmt.Fprintf(j.app.stderr, "waiting for %d workers (at least %d, within %v); this command is one of them, as often and wherever it is run:\n  %s\n",
			g.want, g.least, g.wait, command)
	}
	cfg.Launch = g.launch
	return g.close, nil
}

// gather opens the socket for workers from elsewhere. Where other machines can reach it, connections are encrypted.
func (j *job) gather(p prepared, cfg *trainers.Config) (_ *gathering, err error) {
	t := j.spec.Train
	address := t.Listen
	if address == "" {
		address = anyLocalPort
	}
	blob, err := j.workerBlob(p, "")
	if err != nil {
		return nil, err
	}
	l, err := psrpc.ListenAnywhere(address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	at, err := psrpc.Advertised(l.Addr(), t.Advertise)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	ticket, identity, err := j.app.admission(ok && !tcp.IP.IsLoopback() || t.Advertise != "" || slices.ContainsFunc(t.Servers.At, elsewhere))
	if err != nil {
		return nil, err
	}
	wait := time.Duration(t.JoinSeconds) * time.Second
	if wait == 0 {
		wait = defaultJoin
	}
	d := newDoor(l, ticket, blob)
	d.identity = identity
	if err := j.spread(d, cfg, besides(address, t.Advertise)); err != nil {
		return nil, err
	}
	return &gathering{door: d, job: j, at: at, want: t.Workers, least: max(1, t.MinWorkers), wait: wait,
		end: make(chan struct{}), failed: make(chan struct{})}, nil
}

// showTicket says what to write behind DKPIPE_TICKET= in a shell. The ticket itself is shown to nobody but a person: what
// is not a terminal may be a log, and gets the name of a file.
func (j *job) showTicket(t psrpc.Ticket) (string, error) {
	switch {
	case j.app.env(ticketVariable) != "":
		return "\"$" + ticketVariable + "\"", nil
	case j.app.tty:
		return t.Text(), nil
	}
	dir, err := j.folder()
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "ticket")
	if err := os.WriteFile(name, []byte(t.Text()+"\n"), 0o600); err != nil {
		return "", err
	}
	return "$(cat " + name + ")", nil
}

// launch is a trainers.Config.Launch. It stands for one expected worker: which ones come, and how often, is not its
// business, so it lasts until the run is over.
func (g *gathering) launch(ctx context.Context, srv *ps.Server, _ ps.Worker) error {
	if err := g.open(srv); err != nil {
		return err
	}
	g.begin.Do(func() {
		g.job.events.add("listening", map[string]any{"address": g.at, "workers": g.want, "min_workers": g.least})
		if g.invite != nil {
			g.invite()
		}
		g.watch.Go(func() { g.look(srv) })
	})
	select {
	case <-srv.Finished():
		g.parting(srv)
		return nil
	case <-g.failed:
		return g.cause
	case <-ctx.Done():
	}
	t := time.NewTimer(stopGrace) // for the workers to commit what they have
	defer t.Stop()
	select {
	case <-srv.Finished():
	case <-g.failed:
	case <-t.C:
	}
	return nil
}

// parting gives the workers of a run that is complete the time to hear of it and to leave.
func (g *gathering) parting(srv *ps.Server) {
	tick := time.NewTicker(lookEvery / 5)
	defer tick.Stop()
	late := time.NewTimer(leaveGrace)
	defer late.Stop()
	for len(srv.Progress().Joined) > 0 {
		select {
		case <-tick.C:
		case <-late.C:
			return
		}
	}
}

// look tells who comes and goes, and gives the run up when too few were there for too long.
func (g *gathering) look(srv *ps.Server) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var in []ps.Worker
	begun := time.Now()
	since := begun // there were not enough workers
	waited := false
	for {
		select {
		case <-g.end:
			return
		case <-srv.Finished():
			return
		case <-g.failed:
			return
		case <-tick.C:
		}
		now := srv.Progress().Joined
		for _, w := range now {
			if !slices.Contains(in, w) {
				g.job.app.log.Info("a worker has joined", "worker", w, "workers", len(now), "expected", g.want)
				g.job.events.add("worker_joined", map[string]any{"worker": w, "workers": len(now)})
			}
		}
		for _, w := range in {
			if !slices.Contains(now, w) {
				g.job.app.log.Info("a worker has left", "worker", w, "workers", len(now), "expected", g.want)
				g.job.events.add("worker_left", map[string]any{"worker": w, "workers": len(now)})
			}
		}
		in = append(in[:0], now...)
		if len(in) >= g.least {
			if since = time.Now(); !waited && since.Sub(begun) > g.wait {
				waited = true
				g.missing(srv)
			}
		} else if time.Since(since) > g.wait {
			g.fail(&pipeline.Error{Kind: pipeline.Timeout, Message: fmt.Sprintf("%d of the %d workers that the run needs were there for %v", len(in), g.least, g.wait),
				Hint: "start workers with the command that the run has printed, or give them more time with train.join_seconds"})
		}
	}
}

// missing gives up the workers that have never come, so that rounds do not wait for them any more. One of them may still join.
func (g *gathering) missing(srv *ps.Server) {
	for w := range g.want {
		if srv.Leave(ps.Worker(w), 0, "it never came") == nil { // an error: it came
			g.job.app.log.Warn("a worker never came; the run goes on without it", "worker", w, "waited", g.wait)
			g.job.events.add("worker_missing", map[string]any{"worker": w, "waited": seconds(g.wait)})
		}
	}
}

// fail ends the run with an error. The first one counts.
func (g *gathering) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cause == nil {
		g.cause = err
		close(g.failed)
	}
}

// close ends everything that the gathering has started.
func (g *gathering) close() {
	close(g.end)
	g.watch.Wait()
	g.door.close()
}
