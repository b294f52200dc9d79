package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/sparkconn"
)

// liveRows are the rows of a dataset that stay in Spark for the time of one run and reach the workers as streams.
type liveRows struct {
	sparkconn.Live
	session *sparkconn.Session
	dir     string // for local copies of shards
	own     bool   // this process made them, and drops them in the end
	feeds   map[string]*sparkconn.Feed
}

// feed gives the feed of a split. There is one for a split, whatever it is used for, so that a shard is streamed once: an
// evaluation does not depend on the order of the rows.
func (l *liveRows) feed(ctx context.Context, opt dataset.FeedOptions) (pipeline.Feed, error) {
	if f := l.feeds[opt.Split]; f != nil {
		return f, nil
	}
	f, err := sparkconn.OpenLive(ctx, l.session, l.Live, sparkconn.FeedOptions{Split: opt.Split, BatchSize: opt.BatchSize, Shuffle: opt.Shuffle, Seed: opt.Seed, Dir: l.dir})
	if err != nil {
		return nil, err
	}
	if l.feeds == nil {
		l.feeds = map[string]*sparkconn.Feed{}
	}
	l.feeds[opt.Split] = f
	return f, nil
}

// close removes the local copies and, where the rows were made, gives Spark its memory back.
func (l *liveRows) close(ctx context.Context) error {
	var errs []error
	for _, f := range l.feeds {
		errs = append(errs, f.Close())
	}
	if l.own {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		errs = append(errs, l.Drop(ctx, l.session))
	}
	return errors.Join(errs...)
}

// prepareLive runs the plan of the spec and keeps the rows in Spark. What is published is the manifest alone: it says what
// the model was trained on and how the data was transformed, and has no shards.
//
// model is the lock that the run holds to its end: beside it lies the note by which the next run gives Spark its memory
// back, should this one die.
func (j *job) prepareLive(ctx context.Context, model *publish.Lock) (prepared, error) {
	root, err := openPlace(ctx, j.stores, j.spec.Dataset.Path)
	if err != nil {
		return prepared{}, err
	}
	plan, engine, err := j.plan(ctx, true)
	if err != nil {
		return prepared{}, err
	}
	if _, ok := engine.(sparkconn.Engine); !ok {
		return prepared{}, &pipeline.Error{Kind: pipeline.BadSpec, Message: j.spec.File + ": dataset.live streams out of Spark, and spark.remote is not set",
			Hint: "set spark.remote, or write live: false"}
	}
	var p prepared
	err = j.underLock(ctx, root, func(ctx context.Context, lock *publish.Lock) error {
		return j.working(ctx, lock, engine, func(ctx context.Context, engine pipeline.Engine) error {
			spark := engine.(sparkconn.Engine)
			j.events.add("preprocess", map[string]any{"source": plan.Source.Files, "dataset": root.String(), "live": true})
			if plan, err = engine.Fit(ctx, plan); err != nil {
				return sourceRefusal(plan.Source, err)
			}
			b := j.bars.start("preprocess", 0)
			spark.Progress = sparkProgress(b)
			live, err := j.materialize(ctx, spark, plan, model)
			if err != nil {
				b.done(false, "")
				return err
			}
			p, err = j.publishDataset(ctx, root, lock, plan, func(*publish.Stage) (pipeline.Written, error) {
				return pipeline.Written{Columns: live.Columns, Skipped: live.Skipped}, nil
			})
			p.live = j.live
			b.done(err == nil, thousands(p.rows())+" rows in Spark")
			return err
		})
	})
	return p, err
}

// materialize makes the rows; giveBack gives back what they take.
func (j *job) materialize(ctx context.Context, spark sparkconn.Engine, plan pipeline.Plan, model *publish.Lock) (sparkconn.Live, error) {
	dir, err := j.folder()
	if err != nil {
		return sparkconn.Live{}, err
	}
	if spark.LiveTable, err = j.note(ctx, spark, plan, model); err != nil {
		return sparkconn.Live{}, err
	}
	live, err := spark.Materialize(ctx, plan, 0)
	if err == nil {
		j.live = &liveRows{Live: live, session: j.session, dir: dir, own: true}
	}
	return live, err
}

// shareSession is the address of a session of its own, for another process that is to share it.
func shareSession(remote, session string) string {
	if strings.Contains(remote, "session_id=") {
		return remote // it was given, and is the one
	}
	if rest, _ := strings.CutPrefix(remote, "sc://"); !strings.Contains(rest, "/") {
		remote += "/"
	}
	return strings.TrimRight(remote, ";") + ";session_id=" + session
}

// joinLive opens, in a worker process, the live rows that the coordinator of the run has made.
func (j *job) joinLive(ctx context.Context, live sparkconn.Live, dir string) (err error) {
	shared := j.spec.Spark
	shared.Remote = shareSession(shared.Remote, live.Session)
	if j.session, err = j.app.dialSpark(ctx, shared, sparkconn.Options{}); err != nil {
		return err
	}
	j.live = &liveRows{Live: live, session: j.session, dir: dir}
	return nil
}
