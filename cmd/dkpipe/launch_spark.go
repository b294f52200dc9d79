package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"dkpipe/pipeline"
	"dkpipe/sparkconn"
	"dkpipe/trainers"
)

// executorPatience is how long a worker in an executor tries to reach its coordinator: when that is gone, the worker holds
// a slot of the cluster for nothing.
const executorPatience = "10s"

// launchSpark makes cfg run its workers in Spark's executors: this program again, sent along, one in each task of a job
// that lasts as long as the training. The caller calls stop in the end.
func (j *job) launchSpark(ctx context.Context, p prepared, cfg *trainers.Config) (stop func(), err error) {
	j.app.log.Warn("workers in Spark's executors are experimental: the cluster must allow TRANSFORM")
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	session, err := j.app.dialSpark(ctx, j.spec.Spark, sparkconn.Options{Conf: sparkconn.LaunchConf()})
	if err != nil {
		return nil, err
	}
	closeSession := func() {
		if err := session.Close(); err != nil {
			j.app.log.Warn("closing the session of the workers", "error", err)
		}
	}
	g, err := j.gather(p, cfg)
	if err != nil {
		closeSession()
		return nil, err
	}
	installed, err := session.Install(ctx, sparkconn.Program{Binary: binary,
		Args:  []string{"worker", "--connect", g.at, "--ticket-file", "{file:ticket}", "--stdin", "--stay", "--patience", executorPatience},
		Files: map[string][]byte{"ticket": []byte(g.ticket.Text())}})
	if err != nil {
		g.close()
		closeSession()
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var launched sync.WaitGroup
	g.invite = func() {
		tag := "dkpipe-workers-" + j.id
		j.events.add("launched", map[string]any{"tag": tag, "session": session.ID()})
		launched.Go(func() {
			if err := installed.Launch(running, tag, cfg.Workers); err != nil {
				g.fail(jobEnded(err))
			}
		})
	}
	cfg.Launch = g.launch
	return func() {
		g.close()
		cancel()
		launched.Wait()
		closeSession()
	}, nil
}

// jobEnded is the error of a run whose workers went with their job on Spark. Who stopped the job did not stop this run.
func jobEnded(err error) error {
	kind := pipelineKind(err)
	if kind == pipeline.Interrupted {
		kind = pipeline.Unreachable
	}
	e := &pipeline.Error{Kind: kind, Message: "the job that holds the workers in Spark's executors has ended", Err: err}
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) {
		e.Hint = h.ErrorHint()
	}
	return e
}
