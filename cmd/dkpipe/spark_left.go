package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/sparkconn"

	"github.com/google/uuid"
)

// What a run has in Spark outlives a run that is killed: Spark works on for minutes, and the next run would wait behind
// it; the rows of a live run stay until Spark is told to drop them, longer than any session. So a run leaves a note with
// its lock before Spark has anything to do, and the next one that holds the lock ends what the dead one began.

// leftWork is one entry of the note: queries, or rows that Spark keeps.
type leftWork struct {
	sparkconn.Work
	Rows *leftRows `json:"rows,omitempty"`
}

// leftRows says where the rows of a live run lie in Spark, and what they are made of.
type leftRows struct {
	Table   string           `json:"table"`
	Source  pipeline.Source  `json:"source"`
	Fitted  []expr.Fitted    `json:"fitted"`
	Columns pipeline.Columns `json:"columns"`
	Split   pipeline.Split   `json:"split"`
	Shards  int              `json:"shards"`
}

func (l leftRows) plan() pipeline.Plan {
	return pipeline.Plan{Source: l.Source, Fitted: l.Fitted, Steps: make([]expr.Step, len(l.Fitted)), Columns: l.Columns, Split: l.Split, Shards: l.Shards}
}

// leave writes the note anew; without entries there is none.
func leave(ctx context.Context, lock *publish.Lock, all []leftWork) error {
	if len(all) == 0 {
		return lock.Leave(ctx, nil)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return lock.Leave(ctx, text)
}

// endLeft ends what runs have left in Spark that died. What is on another server, or cannot be ended now, remains for the
// note of this run.
func (j *job) endLeft(ctx context.Context, spark sparkconn.Engine, lock *publish.Lock) (remain []leftWork, err error) {
	text, err := lock.Left(ctx)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	var found []leftWork
	if err := json.Unmarshal(text, &found); err != nil {
		j.app.log.Warn("what a run that died has left cannot be read", "error", err)
	}
	for _, l := range found {
		if l.Remote == j.session.Remote() {
			what := "what Spark still did for a run that died was interrupted"
			if l.Rows == nil {
				err = j.session.End(ctx, l.Work)
			} else {
				what = "Spark has the memory back that a run held which died"
				err = spark.Reclaim(ctx, l.Rows.plan(), l.Work, l.Rows.Table)
			}
			if err == nil {
				j.app.log.Info(what, "session", l.Session)
				continue
			}
			if ctx.Err() != nil {
				return nil, err
			}
			j.app.log.Warn("what a run that died has in Spark could not be ended; the next run tries again", "session", l.Session, "error", err)
		}
		remain = append(remain, l)
	}
	return remain, nil
}

// working lets do use the engine: where that is Spark, with a note for the next run beside the lock, after having ended
// the work of runs that died, and watched.
func (j *job) working(ctx context.Context, lock *publish.Lock, engine pipeline.Engine, do func(context.Context, pipeline.Engine) error) error {
	spark, ok := engine.(sparkconn.Engine)
	if !ok {
		return do(ctx, engine)
	}
	others, err := j.endLeft(ctx, spark, lock)
	if err != nil {
		return err
	}
	spark.Tag = "dkpipe-" + j.id
	if err := leave(ctx, lock, append(others, leftWork{Work: spark.Work()})); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := leave(ctx, lock, others); err != nil {
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

// note writes down with the model's lock what rows this run is about to keep in Spark, and gives them their name, after
// having given back those of runs that died.
func (j *job) note(ctx context.Context, spark sparkconn.Engine, plan pipeline.Plan, model *publish.Lock) (table string, err error) {
	if j.left, err = j.endLeft(ctx, spark, model); err != nil {
		return "", err
	}
	rows := &leftRows{Table: "dkpipe_live_" + strings.ReplaceAll(uuid.NewString(), "-", ""),
		Source: plan.Source, Fitted: plan.Fitted, Columns: plan.Columns, Split: plan.Split, Shards: plan.Shards}
	j.left = append(j.left, leftWork{Work: sparkconn.Engine{Session: j.session}.Work(), Rows: rows})
	return rows.Table, leave(ctx, model, j.left)
}

// giveBack drops the rows of this run, if it has made any, and then the note about them.
func (j *job) giveBack(ctx context.Context, model *publish.Lock) {
	n := len(j.left) - 1
	if n < 0 || j.session == nil || j.left[n].Session != j.session.ID() {
		return
	}
	if j.live != nil {
		if err := j.live.close(ctx); err != nil {
			j.app.log.Warn("giving back the live dataset; the next live run does it", "error", err)
			return
		}
		j.live = nil
	}
	j.left = j.left[:n]
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := leave(ctx, model, j.left); err != nil {
		j.app.log.Warn("the note about the live dataset could not be removed", "error", err)
	}
}
