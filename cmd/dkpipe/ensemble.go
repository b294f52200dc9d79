package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
)

// checkEnsemble refuses what an ensemble cannot do, each with what to do instead.
func (j *job) checkEnsemble(e trainers.Ensemble) error {
	t := j.spec.Train
	refused := func(hint, format string, args ...any) error {
		return placed(t.Pos, &pipeline.Error{Kind: pipeline.Unsupported, Message: "trainer ensemble: " + fmt.Sprintf(format, args...), Hint: hint})
	}
	alone := fmt.Sprintf("or train a member by itself: member k of an ensemble is what trainer single gives with train.seed %d + k", t.Seed)
	switch {
	case t.Launch != "in-process":
		return refused("leave launch out; train.workers is how many members are trained at a time; "+alone, "its members are trained in this process, not with launch: %s", t.Launch)
	case j.training.flags.resume:
		return refused("train without --resume; "+alone+", which keeps checkpoints", "it cannot go on from a checkpoint")
	case t.Checkpoint != nil:
		return refused("leave train.checkpoint out; "+alone+", which keeps checkpoints", "it keeps no checkpoints")
	case j.flags.recordFolder() != "":
		return refused("train without --record: each member is trained by one worker, so the same spec gives the same bits again", "there is no order of commits to record")
	case j.spec.Dataset.Live:
		return refused("write dataset.live: false", "its members read the rows at different times, and dataset.live streams them once")
	}
	if e.Data == "split" && j.report.Command == "run" && j.spec.Dataset.Shards < e.Members {
		return placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer ensemble: data: split gives each of %d members shards of its own, and there are %d", e.Members, j.spec.Dataset.Shards),
			Hint: fmt.Sprintf("write dataset: {shards: %d}, or data: all", e.Members)})
	}
	if e.Combine != trainers.Vote {
		return nil
	}
	for _, it := range t.Loss {
		l, _, err := buildLoss(it)
		if err != nil {
			return err
		}
		if name := model.CanonicalLoss(l.Name); l.FromLogits || !slices.Contains([]string{"binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy",
			"categorical_hinge", "kl_divergence"}, name) {
			what := name
			if l.FromLogits {
				what += " from_logits"
			}
			return placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: "trainer ensemble: combine: vote counts classes, and a model trained with " + what + " gives other numbers",
				Hint: "use combine: mean"})
		}
	}
	return nil
}

// trainEnsemble trains the members of an ensemble. cfg is that of the run as trainingParts gives it.
func (j *job) trainEnsemble(ctx context.Context, p prepared, e trainers.Ensemble, cfg trainers.Config, m startModel) (*trained, error) {
	if m.params != nil && e.Data != "split" && e.Members > 1 {
		return nil, placed(j.spec.Model.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: "trainer ensemble: all members would start with the weights of " + j.spec.Model.Keras + " and see the same data",
			Hint: "name a definition without weights (Keras JSON), or set the trainer's data to split"})
	}
	cfg.Observer = nil
	if err := j.startWatch(ctx, &cfg); err != nil {
		return nil, err
	}
	defer j.training.watch.close(false) // where it does not come to training
	j.training.watch.begin()
	result, err := trainers.TrainEnsemble(ctx, e, cfg, func(k int, c *trainers.Config) error { return j.member(ctx, p, e, m, k, c) })
	run := result.Run()
	j.training.watch.close(err == nil && !result.Interrupted)
	j.training.result = &run
	j.reportWorkers(run)
	j.reportEnd(run)
	t := &trained{definition: m.def, losses: m.losses, result: run, ensemble: &bundle.Ensemble{Combine: string(e.How())}}
	var layoutErr error
	if t.layout, layoutErr = m.def.Layout(); layoutErr != nil {
		return nil, layoutErr
	}
	state, _ := m.def.StateLayout()
	for k, r := range result.Members {
		if r.Samples == 0 || len(state) > 0 && len(r.State) == 0 { // not begun; or it failed before its state was computed
			continue
		}
		t.ensemble.Members = append(t.ensemble.Members, bundle.Member{Params: r.Params, State: r.State,
			Info: bundle.MemberInfo{Seed: j.spec.Train.Seed + int64(k), Samples: r.Samples, Epochs: complete(r.History), Ended: r.Ended.Reason}})
		t.ids = append(t.ids, k)
	}
	j.report.Epochs = complete(run.History)
	j.report.Ensemble = string(e.How())
	if n := len(t.ensemble.Members); n == 0 || err != nil && !blameless(err) {
		if err == nil {
			err = ctx.Err() // it was stopped before anything was learned
		}
		return nil, p.inDataset(err)
	} else if n < e.Members {
		j.report.Warnings = append(j.report.Warnings, fmt.Sprintf("%d of the %d members had begun; the model is made of them", n, e.Members))
	}
	return t, p.inDataset(err)
}

// member gives a member what it does not share with others: rows in an order of its own, and who looks after it.
func (j *job) member(ctx context.Context, p prepared, e trainers.Ensemble, m startModel, k int, c *trainers.Config) error {
	t := j.spec.Train
	feed, err := p.feed(ctx, dataset.FeedOptions{Split: "train", BatchSize: t.BatchSize, Shuffle: true, Seed: t.Seed + int64(k),
		BudgetBytes: int64(t.FeedBudgetMB) << 20 / int64(min(t.Workers, e.Members))})
	if err != nil {
		return err
	}
	c.Feed = e.Part(feed, k)
	return j.oversee(ctx, p, m, c)
}

// measureMembers measures each member by itself on the rows that a gate looks at.
func (j *job) measureMembers(ctx context.Context, p prepared, t *trained) error {
	split, ok := gateSplit(t.metrics)
	if !ok {
		return nil
	}
	for i := range t.ensemble.Members {
		m := &t.ensemble.Members[i]
		e, err := evaluateSplit(ctx, evalJob{data: p, split: split, train: j.spec.Train, losses: t.losses, definition: t.definition, params: m.Params, state: m.State})
		if err != nil {
			return err
		}
		if m.Info.Metrics, err = json.Marshal(map[string]trainers.Evaluation{split: e}); err != nil {
			return err
		}
		for w := range j.report.Workers {
			if r := &j.report.Workers[w]; r.ID == t.ids[i] {
				r.Metrics = e.Metrics
			}
		}
		j.events.add("evaluated", map[string]any{"split": split, "member": t.ids[i], "metrics": e.Metrics})
	}
	return nil
}

// networksOf makes the networks of a model with what they have learned: one for each member of an ensemble, or the one.
func networksOf(def *model.Definition, e *bundle.Ensemble, params, state []float32, t spec.Train) ([]*model.Network, error) {
	members := []bundle.Member{{Params: params, State: state}}
	if e != nil {
		members = e.Members
	}
	nets := make([]*model.Network, len(members))
	for i, m := range members {
		n, err := buildReplica(def, nil, t, 0)
		if err != nil {
			return nil, err
		}
		if len(m.Params) != len(n.Params()) || len(m.State) != len(n.State()) {
			return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("the model has %d parameters and %d of state, what was kept of it has %d and %d",
				len(n.Params()), len(n.State()), len(m.Params), len(m.State)), Hint: "look at it with: dkpipe data verify"}
		}
		copy(n.Params(), m.Params)
		copy(n.State(), m.State)
		nets[i] = n
	}
	return nets, nil
}

// together makes one replica of the networks of a model, each on so many cores. how is for those of an ensemble.
func together(nets []*model.Network, e *bundle.Ensemble, how trainers.Combine, cores int) (model.Replica, error) {
	members := make([]model.Replica, len(nets))
	for i, n := range nets {
		members[i] = n.Team(cores)
	}
	if e == nil {
		return members[0], nil
	}
	return trainers.NewCombined(how, members)
}

// measuredBy is how an ensemble predicts when it is measured, where there must be one prediction.
func measuredBy(e *bundle.Ensemble) trainers.Combine {
	if e == nil || e.Combine == string(trainers.List) {
		return trainers.Mean
	}
	return trainers.Combine(e.Combine)
}

// one gives a model that can be written as one: a member of an ensemble by its number or, with -1, the whole ensemble as a
// model of several branches.
func (m *modelSource) one(member int) (*modelSource, error) {
	if m.ensemble == nil {
		if member >= 0 {
			return nil, usage("leave it out", "--member %d: %s is a single model", member, m.at)
		}
		return m, nil
	}
	n := len(m.ensemble.Members)
	out := *m
	out.ensemble, out.config = nil, nil
	switch {
	case member >= n || member < -1:
		return nil, usage(fmt.Sprintf("members are numbered from 0 to %d", n-1), "--member %d: %s has %d members", member, m.at, n)
	case member >= 0:
		out.params, out.state = m.ensemble.Members[member].Params, m.ensemble.Members[member].State
		return &out, nil
	case m.ensemble.Combine == string(trainers.Vote) && n > 1:
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: m.at.String() + ": no layer counts the votes of an ensemble that combines by vote",
			Hint: "write one member: --member 0; or train with combine: mean or list, which become one file"}
	}
	out.def = m.def.Repeat(n, m.ensemble.Combine == string(trainers.Mean))
	out.params, out.state = nil, []float32{}
	for _, k := range m.ensemble.Members {
		out.params, out.state = append(out.params, k.Params...), append(out.state, k.State...)
	}
	return &out, nil
}

// memberSuffix names the columns of a member where an ensemble lists its predictions.
func memberSuffix(member int) string { return fmt.Sprintf("_%d", member) }

// describe says for people what an ensemble is.
func describe(e *bundle.Ensemble) string {
	how := map[string]string{"mean": "the mean of their outputs", "vote": "their votes", "list": "one column each"}[e.Combine]
	if how == "" {
		how = strings.TrimSpace(e.Combine)
	}
	return fmt.Sprintf("%d models, combined by %s: %s", len(e.Members), e.Combine, how)
}
