package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
)

func (a *app) workerCommand() *cobra.Command {
	var address string
	var number int
	c := &cobra.Command{
		Use:   "worker --connect ADDRESS",
		Short: "Be one worker of a run that goes on elsewhere",
		Long: "Joins the parameter server at ADDRESS, gets the job from it, and trains until the run is over. The ticket of the run is\n" +
			"read from the environment variable " + ticketVariable + ". The command that starts a run with launch: process starts its\n" +
			"workers itself; a worker ends when its standard input does.",
		Example: "  " + ticketVariable + "=… dkpipe worker --connect unix:/run/dkpipe/ps.sock",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if address == "" {
				return usage("a run that is started with train.launch=process starts its workers itself", "worker needs --connect")
			}
			stats, err := a.runWorker(c.Context(), os.Stdin, address, ps.Worker(number))
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(map[string]any{"command": "worker", "status": "ok", "worker": stats})
			}
			return nil
		},
	}
	c.Flags().StringVar(&address, "connect", "", "the parameter server, `ADDRESS` such as 127.0.0.1:7070 or unix:/path")
	c.Flags().IntVar(&number, "worker", -1, "which worker to be; -1 takes the lowest free number")
	return c
}

// runWorker takes part in a run until it is over or stdin ends.
func (a *app) runWorker(ctx context.Context, stdin io.Reader, address string, w ps.Worker) (trainers.WorkerStats, error) {
	ticket, err := psrpc.ParseTicket(a.env(ticketVariable))
	if err != nil {
		return trainers.WorkerStats{}, usage("the coordinator of the run hands it to its workers", "%s: %v", ticketVariable, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orphaned := make(chan struct{})
	go func() { // ends with the process at the latest: a read of stdin cannot be interrupted
		_, _ = io.Copy(io.Discard, stdin)
		close(orphaned)
		cancel()
	}()
	client, err := psrpc.Join(ctx, psrpc.ClientOptions{Address: address, Ticket: ticket, Worker: w})
	if err != nil {
		return trainers.WorkerStats{}, err
	}
	defer client.Close()
	over := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { // whoever started this worker is gone, and the server with it: a last commit has nowhere to go
		select {
		case <-orphaned:
			_ = client.Close()
		case <-over:
		}
	})
	defer watcher.Wait()
	defer close(over)
	j, cfg, err := a.workerConfig(ctx, client)
	if err != nil {
		return trainers.WorkerStats{}, err
	}
	stats, err := trainers.Work(ctx, cfg)
	return stats, errors.Join(err, j.closeWorker(ctx))
}

// closeWorker gives back what workerConfig opened.
func (j *job) closeWorker(ctx context.Context) error {
	var errs []error
	if j.live != nil {
		errs = append(errs, j.live.close(ctx), j.session.Close())
	}
	return errors.Join(append(errs, j.stores.Close())...)
}

// workerConfig makes a worker's parts of the job that it was given. The caller closes the job.
func (a *app) workerConfig(ctx context.Context, client *psrpc.Client) (*job, trainers.WorkerConfig, error) {
	var none trainers.WorkerConfig
	var wj workerJob
	if err := json.Unmarshal(client.Job(), &wj); err != nil {
		return nil, none, &pipeline.Error{Kind: pipeline.Corrupt, Message: "the job of the run", Err: err}
	}
	s, err := spec.Read(wj.File, wj.Spec, spec.Options{Params: wj.Params, Set: wj.Set, Slot: wj.Slot, Env: a.env, Need: spec.ForTrain})
	if err != nil {
		return nil, none, err
	}
	j := &job{app: a, spec: s, flags: &specFlags{}, stores: a.newStores()}
	cfg, err := j.workerParts(ctx, wj, client)
	if err != nil {
		return nil, none, errors.Join(err, j.closeWorker(ctx))
	}
	return j, cfg, nil
}

func (j *job) workerParts(ctx context.Context, wj workerJob, client *psrpc.Client) (trainers.WorkerConfig, error) {
	var none trainers.WorkerConfig
	at, err := openPlace(ctx, j.stores, wj.Dataset)
	if err != nil {
		return none, err
	}
	p, err := readDataset(ctx, at)
	if err != nil {
		return none, err
	}
	if wj.Live != nil {
		if err := j.joinLive(ctx, *wj.Live, wj.Dir); err != nil {
			return none, err
		}
		p.live = j.live
	}
	cfg, _, err := j.trainingParts(ctx, p)
	if err != nil {
		return none, err
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
}
