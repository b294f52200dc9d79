package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/spec"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

func (a *app) trainCommand() *cobra.Command {
	var flags specFlags
	var look watchFlags
	c := &cobra.Command{
		Use:   "train -f SPEC",
		Short: "Train a model on the newest dataset and publish it",
		Long: "Trains the model of a spec on the newest dataset and publishes it. While it trains, the model is measured on the\n" +
			"validation rows, if there are any; train.early_stopping, train.target, train.max_steps and train.max_seconds end it.\n" +
			"With train.checkpoint, --resume goes on where a run was interrupted or killed, also with another number of workers:\n" +
			"what was acknowledged is not trained on again. Optimizers of workers begin with empty moments, as after the loss of\n" +
			"a worker.",
		Example: "  dkpipe train -f job.yaml\n  dkpipe train -f job.yaml --set train.workers=4,train.launch=process\n" +
			"  dkpipe train -f job.yaml --resume --report run.html",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			j, err := a.newJob("train", &flags, spec.ForTrain)
			if err != nil {
				return err
			}
			j.training.flags = look
			return j.finish(c.Context(), j.runTrain(c.Context()))
		},
	}
	flags.register(c)
	flags.registerForce(c)
	look.register(c)
	look.registerResume(c)
	flags.registerLaunch(c)
	flags.registerRecord(c)
	return c
}

func (j *job) runTrain(ctx context.Context) error {
	return j.withModelLock(ctx, func(ctx context.Context, root place, lock *publish.Lock) error {
		if err := j.checkTraining(ctx); err != nil {
			return err
		}
		if j.spec.Dataset.Live {
			if j.training.flags.resume {
				return usage("train without --resume, or write files with dataset.live: false", "--resume: the rows of dataset.live are gone with the run that streamed them")
			}
			p, err := j.prepareLive(ctx, lock)
			if err != nil {
				return err
			}
			return j.trainAndPublish(ctx, root, lock, p)
		}
		data, err := openPlace(ctx, j.stores, j.spec.Dataset.Path)
		if err != nil {
			return err
		}
		version, err := j.versionToTrain(ctx, data)
		if err != nil {
			return err
		}
		p, warnings, err := openDataset(ctx, data, version)
		j.report.Warnings = append(j.report.Warnings, warnings...)
		if err != nil {
			return err
		}
		return j.trainAndPublish(ctx, root, lock, p)
	})
}

// withModelLock holds the lock of the model's root during do, unless the slot is done already.
func (j *job) withModelLock(ctx context.Context, do func(ctx context.Context, root place, lock *publish.Lock) error) error {
	root, err := openPlace(ctx, j.stores, j.spec.Output.Path)
	if err != nil {
		return err
	}
	return j.underLock(ctx, root, func(ctx context.Context, lock *publish.Lock) error {
		done, ok, err := j.slotDone(ctx, lock, j.spec.Output.KeepVersions)
		if err != nil {
			return err
		}
		if ok {
			j.report.Skipped = true
			j.report.Model = root.join(done.Version.String()).String()
			return nil
		}
		defer j.giveBack(ctx, lock)
		return do(ctx, root, lock)
	})
}

// trained is a model with what was measured on it.
type trained struct {
	definition *model.Definition
	losses     []model.Loss // one an output
	result     trainers.Result
	ensemble   *bundle.Ensemble // nil for a single model, which is the result
	ids        []int            // numbers of the ensemble's members
	layout     []model.ParamSpec
	metrics    map[string]trainers.Evaluation // by split
}

// trainAndPublish trains on a dataset version, evaluates, asks the gate, and publishes.
func (j *job) trainAndPublish(ctx context.Context, root place, lock *publish.Lock, p prepared) (err error) {
	j.describe(p)
	unpin, err := j.pin(ctx, p)
	if err != nil {
		return err
	}
	defer unpin()
	defer func() { j.writeReport(ctx, p, err) }()
	defer j.closeCheckpoints(ctx)
	t, err := j.train(ctx, p)
	if t != nil && err != nil {
		return j.keep(ctx, root, lock, p, t, err)
	}
	if err != nil {
		return err
	}
	j.app.crash("trained")
	// The model is worth keeping, whether training was interrupted or is complete: from here on, being asked to stop
	// leaves a time limit to finish in.
	save, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(saveGrace, cancel) })()
	if err := j.evaluateAll(save, p, t); err != nil {
		return err
	}
	gateErr := j.gate(save, root, t)
	if gateErr != nil && pipelineKind(gateErr) != pipeline.Gate {
		return gateErr
	}
	version, err := j.publishModel(save, lock, p, t)
	if err != nil {
		return err
	}
	j.report.Model = root.join(version.String()).String()
	switch {
	case t.result.Interrupted:
		j.retain(save, lock, j.spec.Output.KeepVersions)
		return &pipeline.Error{Kind: pipeline.Interrupted, Message: fmt.Sprintf("interrupted after %s of %s samples; what was learned is in %s",
			thousands(t.result.Samples), thousands(j.samplesOf(p)), j.report.Model), Hint: "LATEST was not moved; run the same command again for a whole run"}
	case gateErr != nil:
		j.training.kept.complete(save)
		j.retain(save, lock, j.spec.Output.KeepVersions)
		return hinted{gateErr, "the version is kept and LATEST was not moved; look at it with: dkpipe model inspect " + j.report.Model}
	}
	if err := j.point(save, lock, version); err != nil {
		return err
	}
	j.report.latest = true
	j.training.kept.complete(save) // not before: who is killed until now has something to go on from
	j.nextSteps(root)
	j.retain(save, lock, j.spec.Output.KeepVersions)
	return nil
}

// keep publishes, beside LATEST, what a run had learned when it failed. The run's error stays the error.
func (j *job) keep(ctx context.Context, root place, lock *publish.Lock, p prepared, t *trained, failure error) error {
	save, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveGrace)
	defer cancel()
	t.result.Interrupted = true
	version, err := j.publishModel(save, lock, p, t)
	if err != nil {
		j.app.log.Warn("what was learned could not be kept", "error", err)
		return failure
	}
	j.report.Model = root.join(version.String()).String()
	j.retain(save, lock, j.spec.Output.KeepVersions)
	hint := fmt.Sprintf("what was learned from %s of %s samples is in %s; LATEST was not moved", thousands(t.result.Samples), thousands(j.samplesOf(p)), j.report.Model)
	if more := failed(ctx, failure).Hint; more != "" {
		hint = more + "; " + hint
	}
	return hinted{failure, hint}
}

// blameless tells whether an error says nothing against what was learned before: the workers or the way to them failed,
// and not the data, the settings or the arithmetic.
func blameless(err error) bool {
	switch pipelineKind(err) {
	case pipeline.Internal, pipeline.Unreachable, pipeline.Timeout, pipeline.NoSpace:
		return true
	}
	return false
}

// saveGrace is how long a run may take to publish what it has learned after it was asked to stop.
const saveGrace = 30 * time.Second

func (j *job) samplesOf(p prepared) int64 {
	return p.rows("train") * int64(j.spec.Train.Epochs) * int64(max(1, j.training.copies))
}

// trainingParts makes what every worker of the run needs, in this process or another.
func (j *job) trainingParts(ctx context.Context, p prepared) (trainers.Config, startModel, error) {
	t := j.spec.Train
	var cfg trainers.Config
	alg, err := buildAlgorithm(t.Trainer)
	if err != nil {
		return cfg, startModel{}, err
	}
	m, err := buildModel(ctx, j.stores, j.spec, p.manifest.Columns)
	if err != nil {
		return cfg, m, err
	}
	feed, err := p.feed(ctx, dataset.FeedOptions{Split: "train", BatchSize: t.BatchSize, Shuffle: true,
		Seed: t.Seed, BudgetBytes: int64(t.FeedBudgetMB) << 20})
	if err != nil {
		return cfg, m, err
	}
	_, members := alg.(trainers.Ensemble)
	return trainers.Config{
		Algorithm: alg, Workers: t.Workers, Window: t.Window, Epochs: t.Epochs, Feed: feed,
		Replica: func(w ps.Worker) (model.Replica, error) {
			seed, own := t.Seed, uint64(w)<<32
			if members {
				seed, own = t.Seed+int64(w), 0
			}
			n, err := buildReplica(m.def, m.losses, t, uint64(seed)+own)
			if err == nil {
				m.start(n, seed)
			}
			return n, err
		},
		Optimizer: func(params int) (optim.Optimizer, error) {
			layout, err := m.def.Layout()
			if err != nil {
				return nil, err
			}
			if parameters(layout) != params { // one, to see whether the settings are right
				layout = oneBlock(params)
			}
			return optimizerAt(j.training.steps, t, layout)
		},
		ServerOptimizer: func(params int) (optim.Optimizer, error) { return buildOptimizer(t, oneBlock(params)) },
	}, m, nil
}

// oneBlock is what a server knows of the layout of its parameters.
func oneBlock(params int) []model.ParamSpec {
	return []model.ParamSpec{{Name: "block", Shape: []int{params}, Len: params}}
}

// optimizerAt makes an optimizer whose schedules go on where so many steps were done.
func optimizerAt(steps float64, t spec.Train, layout []model.ParamSpec) (optim.Optimizer, error) {
	t.Optimizer.Decode = optim.StartingAt(steps, t.Optimizer.Decode)
	return buildOptimizer(t, layout)
}

// train runs the training of the spec. With an error it may still give what was learned before.
func (j *job) train(ctx context.Context, p prepared) (*trained, error) {
	cfg, m, err := j.trainingParts(ctx, p)
	if err != nil {
		return nil, err
	}
	// Everything that can be wrong with the optimizer is wrong for one parameter, too.
	if _, err := cfg.Optimizer(1); err != nil {
		return nil, err
	}
	for _, w := range slices.Concat(trainers.Lint(cfg), j.longWindow(p), m.def.LossWarnings(m.losses), m.otherwise(j.spec)) {
		j.report.Warnings = append(j.report.Warnings, w)
		j.app.log.Warn(w)
	}
	if e, ok := cfg.Algorithm.(trainers.Ensemble); ok {
		if e.Data != "split" {
			j.training.copies = e.Members
		}
		return j.trainEnsemble(ctx, p, e, cfg, m)
	}
	if err := j.lookAfter(ctx, p, m, &cfg); err != nil {
		return nil, err
	}
	defer j.training.watch.close(false) // where it does not come to training
	stop, err := j.launchWorkers(ctx, p, &cfg)
	if err != nil {
		return nil, err
	}
	defer stop()
	j.training.watch.begin()
	result, err := trainers.Train(ctx, cfg)
	j.training.watch.close(err == nil && !result.Interrupted)
	j.training.result = &result
	j.reportWorkers(result)
	j.reportServers(result)
	j.reportEnd(result)
	if err != nil && (result.Samples == 0 || !blameless(err)) {
		return nil, p.inDataset(err)
	}
	layout, layoutErr := m.def.Layout()
	if layoutErr != nil {
		return nil, layoutErr
	}
	t := &trained{definition: m.def, losses: m.losses, result: result, layout: layout}
	if state, _ := m.def.StateLayout(); err != nil && len(state) > 0 {
		return nil, p.inDataset(err) // the state is computed when a run is complete
	}
	j.report.Epochs = result.Snapshot.Epoch
	return t, p.inDataset(err)
}

// longWindow warns when a worker would commit less than once an epoch.
func (j *job) longWindow(p prepared) []string {
	t := j.spec.Train
	steps := int(p.rows("train")) / max(1, t.BatchSize*t.Workers)
	if t.Window <= max(1, steps) || slices.Contains([]string{"single", "averaging", "ensemble"}, t.Trainer.Name) {
		return nil
	}
	return []string{fmt.Sprintf("train.window is %d, and a worker has about %d steps in an epoch: it commits less than once an epoch; set it to %d or less",
		t.Window, steps, max(1, steps/4))}
}

func (j *job) reportWorkers(r trainers.Result) {
	lost := map[ps.Worker]string{}
	for _, l := range r.Lost {
		lost[l.Worker] = l.Err.Error()
	}
	for _, w := range r.Workers {
		j.report.Workers = append(j.report.Workers, workerReport{ID: int(w.ID), Samples: w.Samples, Steps: w.Steps, Commits: w.Commits,
			StalenessMean: w.StalenessMean, ComputeS: w.ComputeS, WaitS: w.WaitS, Lost: lost[w.ID],
			SentBytes: w.SentBytes, ReceivedBytes: w.ReceivedBytes, Codec: w.Codec, LinkMiBPerS: w.LinkMiBPerS})
	}
}

// evaluateAll measures the trained model on every split that has rows.
func (j *job) evaluateAll(ctx context.Context, p prepared, t *trained) error {
	t.metrics = map[string]trainers.Evaluation{}
	for _, split := range []string{"train", "validation", "test"} {
		if p.rows(split) == 0 {
			continue
		}
		e, err := evaluateSplit(ctx, evalJob{data: p, split: split, train: j.spec.Train, losses: t.losses, definition: t.definition, params: t.result.Params, state: t.result.State, ensemble: t.ensemble})
		if err != nil {
			return err
		}
		t.metrics[split] = e
		j.report.measured(split, e)
		j.events.add("evaluated", map[string]any{"split": split, "metrics": e.Metrics})
	}
	if t.ensemble != nil {
		return j.measureMembers(ctx, p, t)
	}
	return nil
}

// publishModel writes the bundle and makes it a version; LATEST does not move.
func (j *job) publishModel(ctx context.Context, lock *publish.Lock, p prepared, t *trained) (v publish.Version, err error) {
	stage, err := lock.Stage(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			j.abort(ctx, stage)
		}
	}()
	b, err := j.bundle(p, t)
	if err != nil {
		return 0, err
	}
	if err := bundle.Save(ctx, stageStore{stage}, b); err != nil {
		return 0, err
	}
	j.app.crash("bundle written")
	return stage.Publish(ctx, nil)
}

// bundle gathers everything that belongs to a model.
func (j *job) bundle(p prepared, t *trained) (*bundle.Bundle, error) {
	var fitted []expr.Fitted
	if err := json.Unmarshal(p.manifest.Transform, &fitted); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: p.folder.join(dataset.ManifestName).String() + ": transform", Err: err}
	}
	var history bytes.Buffer
	enc := json.NewEncoder(&history)
	for _, e := range t.result.History { // of an ensemble: its members are the workers
		if err := enc.Encode(e); err != nil {
			return nil, err
		}
	}
	metrics, err := json.Marshal(t.metrics)
	if err != nil {
		return nil, err
	}
	var x, y []string
	for _, c := range p.manifest.Columns {
		switch c.Role {
		case dataset.RoleX:
			x = append(x, c.Name)
		case dataset.RoleY:
			y = append(y, c.Name)
		}
	}
	status := "complete"
	if t.result.Interrupted {
		status = "interrupted"
	}
	return &bundle.Bundle{
		Model: t.definition, Layout: t.layout, Params: t.result.Params, State: t.result.State, Ensemble: t.ensemble,
		Transform: fitted, TransformSHA256: p.manifest.TransformSHA256, X: x, Y: y,
		Metrics: metrics, History: history.Bytes(), Spec: j.spec.Resolved(),
		Info: bundle.Info{Created: time.Now().UTC(), Run: j.id, Slot: j.flags.slot, Status: status, Trainer: j.spec.Train.Trainer.Name,
			Loss: lossNames(t.losses), Losses: t.losses, MetricNames: j.spec.Train.Metrics, SpecSHA256: j.spec.SHA256,
			DkpipeVersion: buildVersion(), Dataset: p.folder.String()},
	}, nil
}

func (j *job) nextSteps(root place) {
	model := root.String()
	if j.live == nil {
		j.report.next = append(j.report.next, fmt.Sprintf("%s evaluate --model %s --data %s", program(), model, j.spec.Dataset.Path))
	}
	j.report.next = append(j.report.next,
		fmt.Sprintf("%s predict --model %s --in %s --out predictions.csv", program(), model, firstOr(j.spec.Source.CSV, "FILE")),
		fmt.Sprintf("%s model inspect %s", program(), model))
}

func firstOr(list []string, otherwise string) string {
	if len(list) > 0 {
		return list[0]
	}
	return otherwise
}

func pipelineKind(err error) pipeline.Kind {
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		return pipeline.Kind(k.ErrorKind())
	}
	return pipeline.Internal
}

// stageStore lets a bundle write into a stage.
type stageStore struct{ *publish.Stage }

// Create implements bundle.Store.
func (s stageStore) Create(ctx context.Context, name string) (bundle.Output, error) {
	return s.Stage.Create(ctx, name)
}
