package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
)

// oversee fills in what goes on beside the workers of a run: validation, and what ends it.
func (j *job) oversee(ctx context.Context, p prepared, m startModel, cfg *trainers.Config) error {
	t := j.spec.Train
	cfg.Limits = trainers.Limits{Steps: t.MaxSteps, Time: time.Duration(t.MaxSeconds * float64(time.Second))}
	v := &trainers.Validation{}
	if t.Validate != nil {
		v.Every = t.Validate.Every
	}
	if e := t.EarlyStopping; e != nil {
		v.EarlyStopping = &trainers.EarlyStopping{Monitor: e.Monitor, Patience: e.Patience, MinDelta: e.MinDelta, Mode: e.Mode, RestoreBest: e.RestoreBest}
	}
	if g := t.Target; g != nil {
		v.Target = &trainers.Target{Metric: g.Metric, AtLeast: g.AtLeast, AtMost: g.AtMost}
	}
	if r := t.ReduceOnPlateau; r != nil {
		v.Plateau = &trainers.Plateau{Monitor: r.Monitor, Mode: r.Mode, Factor: r.Factor, Patience: r.Patience, MinDelta: *r.MinDelta, Cooldown: r.Cooldown,
			MinRate: r.MinRate, Initial: constantRate(t)}
	}
	rows := p.rows("validation") > 0
	watched := v.EarlyStopping != nil || v.Target != nil || v.Plateau != nil
	if !rows && !watched {
		return nil
	}
	if err := v.Check(t.Metrics); err != nil {
		return placed(t.Pos, err)
	}
	if !rows && (v.EarlyStopping != nil && v.EarlyStopping.Monitor != "loss" || v.Target != nil && v.Target.Metric != "loss" ||
		v.Plateau != nil && v.Plateau.Monitor != "loss") {
		return &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("%s has no validation rows to watch", p.folder),
			Hint: "prepare it again with a validation share: split: {key: id, train: 0.8, validation: 0.1, test: 0.1}"}
	}
	v.Evaluate = func(context.Context, []float32) (trainers.Metrics, error) { return trainers.Metrics{}, nil }
	if rows {
		e, err := j.newValidator(ctx, p, m, cfg.Feed)
		if err != nil {
			return err
		}
		v.Evaluate = e.measure
	}
	cfg.Validation = v
	return nil
}

// constantRate is the learning rate of the job's optimizer; 0 when it is a schedule.
func constantRate(t spec.Train) float64 {
	opt, err := buildOptimizer(t, nil)
	if err != nil {
		return 0 // it was reported before
	}
	if o, ok := opt.(interface{ ConstantRate() (float64, bool) }); ok {
		if rate, constant := o.ConstantRate(); constant {
			return rate
		}
	}
	return 0
}

// validator measures centres on the validation rows, with one replica: the other cores belong to the workers.
type validator struct {
	data     prepared
	training pipeline.Feed
	cfg      trainers.EvalConfig
	noted    sync.Once
	job      *job
}

func (j *job) newValidator(ctx context.Context, p prepared, m startModel, training pipeline.Feed) (*validator, error) {
	t := j.spec.Train
	feed, err := p.feed(ctx, dataset.FeedOptions{Split: "validation", BatchSize: t.BatchSize, BudgetBytes: scanBudget(p.manifest)})
	if err != nil {
		return nil, err
	}
	r, err := buildReplica(m.def, nil, t, 0)
	if err != nil {
		return nil, err
	}
	m.start(r, t.Seed) // the weights of frozen layers
	return &validator{data: p, training: training, job: j, cfg: trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{r},
		Shapes: outputShapes(m.def), Losses: m.losses, Metrics: t.Metrics}}, nil
}

// measure is a trainers.Validation.Evaluate.
func (v *validator) measure(ctx context.Context, centre []float32) (trainers.Metrics, error) {
	r := v.cfg.Replicas[0]
	copy(r.Params(), centre)
	if err := trainers.GatherState(ctx, r, v.training); err != nil {
		return nil, v.data.inDataset(err)
	}
	e, err := trainers.Evaluate(ctx, v.cfg)
	if err != nil {
		return nil, v.data.inDataset(err)
	}
	v.noted.Do(func() {
		for _, note := range e.Notes {
			v.job.app.log.Warn("validation " + note)
		}
	})
	return e.Metrics, nil
}
