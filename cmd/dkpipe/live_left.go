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

// Spark keeps the rows of a live run until it is told to drop them: they outlive the run and its session. A run that is
// killed cannot do that, so it leaves a note with the lock of its model, and the next live run that holds the lock does.

// leftRows says where rows lie in Spark, and what they are made of.
type leftRows struct {
	sparkconn.Work
	Table string `json:"table"`

	Source  pipeline.Source  `json:"source"`
	Fitted  []expr.Fitted    `json:"fitted"`
	Columns pipeline.Columns `json:"columns"`
	Split   pipeline.Split   `json:"split"`
	Shards  int              `json:"shards"`
}

func (l leftRows) plan() pipeline.Plan {
	return pipeline.Plan{Source: l.Source, Fitted: l.Fitted, Steps: make([]expr.Step, len(l.Fitted)), Columns: l.Columns, Split: l.Split, Shards: l.Shards}
}

// note writes down what this run is about to make in Spark, and gives it its name.
func (j *job) note(ctx context.Context, plan pipeline.Plan, model *publish.Lock) (table string, err error) {
	l := leftRows{Work: sparkconn.Engine{Session: j.session}.Work(),
		Table:  "dkpipe_live_" + strings.ReplaceAll(uuid.NewString(), "-", ""),
		Source: plan.Source, Fitted: plan.Fitted, Columns: plan.Columns, Split: plan.Split, Shards: plan.Shards}
	j.left = append(j.left, l)
	return l.Table, j.leave(ctx, model)
}

func (j *job) leave(ctx context.Context, model *publish.Lock) error {
	if len(j.left) == 0 {
		return model.Leave(ctx, nil)
	}
	text, err := json.Marshal(j.left)
	if err != nil {
		return err
	}
	return model.Leave(ctx, text)
}

// takeOver gives back what runs have left that were killed. Rows on another server, or that cannot be given back now,
// stay in the note.
func (j *job) takeOver(ctx context.Context, spark sparkconn.Engine, model *publish.Lock) error {
	text, err := model.Left(ctx)
	if err != nil || len(text) == 0 {
		return err
	}
	var found []leftRows
	if err := json.Unmarshal(text, &found); err != nil {
		j.app.log.Warn("what a run that died has left cannot be read", "error", err)
	}
	for _, l := range found {
		if l.Remote == j.session.Remote() {
			err := spark.Reclaim(ctx, l.plan(), l.Work, l.Table)
			if err == nil {
				j.app.log.Info("Spark has the memory back that a run held which died", "table", l.Table)
				continue
			}
			if ctx.Err() != nil {
				return err
			}
			j.app.log.Warn("Spark could not be given back what a run held that died; the next live run tries again", "error", err)
		}
		j.left = append(j.left, l)
	}
	return nil
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
	if err := j.leave(ctx, model); err != nil {
		j.app.log.Warn("the note about the live dataset could not be removed", "error", err)
	}
}
