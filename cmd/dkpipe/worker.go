package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/sparkconn"
	"dkpipe/trainers"
)

// workerFlags say which run a worker joins, and how long it lives.
type workerFlags struct {
	address    string
	number     int
	ticketFile string
	patience   time.Duration
	stdin      bool
	stay       bool
}

func (a *app) workerCommand() *cobra.Command {
	var f workerFlags
	c := &cobra.Command{
		Use:   "worker --connect ADDRESS",
		Short: "Be one worker of a run that goes on elsewhere",
		Long: "Joins the parameter server at ADDRESS, gets the job from it, and trains until the run is over. It may come late, and\n" +
			"leave early: what it has not committed is done by others. Data and model files are read by the names that the\n" +
			"coordinator has for them, so keep them where every worker can read.\n\n" +
			"The ticket of the run is read from the environment variable " + ticketVariable + " or from a file, never from the command\n" +
			"line, which other users of a machine can see. Runs with launch: process or spark start their workers themselves; one\n" +
			"with launch: join prints the command to start them with.",
		Example: "  " + ticketVariable + "=… dkpipe worker --connect 127.0.0.1:7070\n  dkpipe worker --connect unix:/run/dkpipe/ps.sock --ticket-file ticket",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.address == "" {
				return usage("a run that is started with --launch join prints the command", "worker needs --connect")
			}
			stats, err := a.runWorker(c.Context(), os.Stdin, f)
			if err != nil && f.stay {
				return a.lastWords(c.Context(), err)
			}
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(map[string]any{"command": "worker", "status": "ok", "worker": stats, "peak_mib": peakMemory()})
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.address, "connect", "", "the parameter server, `ADDRESS` such as 127.0.0.1:7070 or unix:/path")
	c.Flags().IntVar(&f.number, "worker", -1, "which worker to be; -1 takes the lowest free number")
	c.Flags().StringVar(&f.ticketFile, "ticket-file", "", "the `FILE` that holds the ticket, instead of "+ticketVariable)
	c.Flags().DurationVar(&f.patience, "patience", 30*time.Second, "how long to try while the server cannot be reached")
	c.Flags().BoolVar(&f.stdin, "stdin", false, "end when standard input does")
	c.Flags().BoolVar(&f.stay, "stay", false, "with --stdin: and not before")
	c.AddCommand(a.ticketCommand())
	return c
}

// lastWords says why a worker in an executor fails, and waits until Spark has heard it.
func (a *app) lastWords(ctx context.Context, err error) error {
	f := failed(ctx, err)
	a.sayFailure("worker", f)
	select {
	case <-time.After(sparkconn.Linger):
	case <-ctx.Done():
	}
	return &saidError{kind: f.Kind}
}

// lastCommit is how long a worker whose starter has gone may take to commit what it has.
const lastCommit = time.Second

// runWorker takes part in a run until it is over or, if that is asked for, stdin ends.
func (a *app) runWorker(ctx context.Context, stdin io.Reader, f workerFlags) (trainers.WorkerStats, error) {
	none := trainers.WorkerStats{ID: ps.Worker(f.number)}
	ticket, err := a.readTicket(f.ticketFile)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orphaned := make(chan struct{}) // closed when stdin has ended, if that is of any interest
	if f.stdin {
		go func() { // ends with the process at the latest: a read of stdin cannot be interrupted
			_, _ = io.Copy(io.Discard, stdin)
			close(orphaned)
			cancel()
		}()
	}
	if f.stay {
		if err := answers(ctx, f.address); err != nil {
			return none, err
		}
	}
	client, err := psrpc.Join(ctx, psrpc.ClientOptions{Address: f.address, Ticket: ticket, Worker: ps.Worker(f.number), Retry: f.patience})
	if err != nil {
		return none, err
	}
	stats, err := a.workFor(ctx, client, orphaned)
	if err == nil && f.stdin && f.stay {
		<-ctx.Done()
	}
	return stats, err
}

// answers finds out at once whether a coordinator is gone that has started this worker: it listened before. A cluster that
// starts lost workers again and again has its slots back sooner.
func answers(ctx context.Context, address string) error {
	network, addr := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, addr = "unix", path
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return &pipeline.Error{Kind: pipeline.Unreachable, Message: "the coordinator of the run at " + address + " is gone, or out of reach of this machine", Err: err,
			Hint: "give an address that workers reach: train.listen, train.advertise"}
	}
	return c.Close()
}

// workFor does a worker's part and leaves the run.
func (a *app) workFor(ctx context.Context, client *psrpc.Client, orphaned <-chan struct{}) (trainers.WorkerStats, error) {
	defer client.Close()
	over := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { // whoever started this worker is gone, and perhaps the server with it: there is no use in trying for long
		select {
		case <-orphaned:
		case <-over:
			return
		}
		t := time.NewTimer(lastCommit)
		defer t.Stop()
		select {
		case <-t.C:
			_ = client.Close()
		case <-over:
		}
	})
	defer watcher.Wait()
	defer close(over)
	j, life, err := a.workerLife(ctx, client)
	if err != nil {
		return trainers.WorkerStats{ID: client.Worker()}, err
	}
	stats, err := trainers.Stay(ctx, life)
	return stats, errors.Join(err, j.closeWorker(ctx))
}

// closeWorker gives back what workerLife opened.
func (j *job) closeWorker(ctx context.Context) error {
	var errs []error
	if j.live != nil {
		errs = append(errs, j.live.close(ctx), j.session.Close())
	}
	return errors.Join(append(errs, j.stores.Close())...)
}

// newLife makes what one life of a worker needs.
type newLife func(context.Context) (trainers.WorkerConfig, error)

// workerLife opens the job that a worker was given. The caller closes it.
func (a *app) workerLife(ctx context.Context, client *psrpc.Client) (*job, newLife, error) {
	var wj workerJob
	if err := json.Unmarshal(client.Job(), &wj); err != nil {
		return nil, nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: "the job of the run", Err: err}
	}
	s, err := wj.read(a)
	if err != nil {
		return nil, nil, err
	}
	j := &job{app: a, spec: s, flags: &specFlags{}, stores: a.newStores()}
	life, err := j.workerParts(ctx, wj, client)
	if err != nil {
		return nil, nil, errors.Join(err, j.closeWorker(ctx))
	}
	return j, life, nil
}

// workerParts gives the lives of a worker: the first is the one that the client has joined with, and after a worker was given
// up, because it was stopped or out of reach for too long, it joins again.
func (j *job) workerParts(ctx context.Context, wj workerJob, client *psrpc.Client) (newLife, error) {
	j.training.steps = wj.Steps
	at, err := openPlace(ctx, j.stores, wj.Dataset)
	if err != nil {
		return nil, err
	}
	p, err := readDataset(ctx, at)
	if err != nil {
		return nil, err
	}
	if wj.Live != nil {
		if err := j.joinLive(ctx, *wj.Live, wj.Dir); err != nil {
			return nil, err
		}
		p.live = j.live
	}
	cfg, _, err := j.trainingParts(ctx, p)
	if err != nil {
		return nil, err
	}
	lives := 0
	return func(ctx context.Context) (trainers.WorkerConfig, error) {
		var none trainers.WorkerConfig
		if lives++; lives > 1 {
			if err := client.Rejoin(ctx); err != nil {
				return none, err
			}
			j.app.log.Warn("this worker had been given up and joins again", "worker", client.Worker())
		}
		replica, err := cfg.Replica(client.Worker())
		if err != nil {
			return none, err
		}
		opt, err := cfg.Optimizer(len(replica.Params()))
		if err != nil {
			return none, err
		}
		return trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: client, Worker: client.Worker(), Incarnation: client.Incarnation(),
			Workers: cfg.Workers, Window: cfg.Window, Feed: cfg.Feed, Replica: replica, Optimizer: opt}, nil
	}, nil
}
