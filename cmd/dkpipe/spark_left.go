package main

import (
	"context"
	"encoding/json"
	"time"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/sparkconn"
)

// Spark goes on for minutes with what a run has asked for that was killed, and the next run would wait behind it. So a
// run leaves a note with the lock of its dataset before Spark has anything to do, and the next one that holds the lock
// ends what the dead one began.

// working lets do use the engine: where that is Spark, with a note for the next run beside the lock, after having ended
// the work of runs that died, and watched.
func (j *job) working(ctx context.Context, lock *publish.Lock, engine pipeline.Engine, do func(context.Context, pipeline.Engine) error) error {
	spark, ok := engine.(sparkconn.Engine)
	if !ok {
		return do(ctx, engine)
	}
	others, err := j.endLeft(ctx, lock)
	if err != nil {
		return err
	}
	spark.Tag = "dkpipe-" + j.id
	if err := leaveWork(ctx, lock, append(others, spark.Work())); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := leaveWork(ctx, lock, others); err != nil {
			j.app.log.Warn("the note about the work of Spark could not be removed; the next run does it", "error", err)
		}
	}()
	if !j.bars.drawn() {
		w := newSparkWatch(j.app.log)
		defer w.close()
		ctx = sparkconn.WithWatch(ctx, w.set)
	}
	return do(ctx, spark)
}

// endLeft ends what runs have left in Spark that died, and gives the work that could not be ended now.
func (j *job) endLeft(ctx context.Context, lock *publish.Lock) (remain []sparkconn.Work, err error) {
	text, err := lock.Left(ctx)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	var found []sparkconn.Work
	if err := json.Unmarshal(text, &found); err != nil {
		j.app.log.Warn("what a run that died has left cannot be read", "error", err)
	}
	for _, w := range found {
		if w.Remote == j.session.Remote() {
			err := j.session.End(ctx, w)
			if err == nil {
				j.app.log.Info("what Spark still did for a run that died was interrupted", "session", w.Session, "tag", w.Tag)
				continue
			}
			if ctx.Err() != nil {
				return nil, err
			}
			j.app.log.Warn("what Spark does for a run that died could not be interrupted; the next run tries again", "session", w.Session, "error", err)
		}
		remain = append(remain, w)
	}
	return remain, nil
}

func leaveWork(ctx context.Context, lock *publish.Lock, work []sparkconn.Work) error {
	if len(work) == 0 {
		return lock.Leave(ctx, nil)
	}
	text, err := json.Marshal(work)
	if err != nil {
		return err
	}
	return lock.Leave(ctx, text)
}
