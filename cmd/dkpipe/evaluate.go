package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
)

func (a *app) evaluateCommand() *cobra.Command {
	var modelURI, dataURI, split string
	var metrics []string
	c := &cobra.Command{
		Use:     "evaluate --model MODEL --data DATASET",
		Short:   "Measure a published model on a prepared dataset",
		Long:    "Measures a model on a split of a dataset that was prepared by the same fitted transformers. MODEL and DATASET are\nroots (LATEST is taken) or single versions.",
		Example: "  dkpipe evaluate --model out/model --data out/dataset\n  dkpipe evaluate --model out/model/v000001 --data out/dataset --split train --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if modelURI == "" || dataURI == "" {
				return &pipeline.Error{Kind: pipeline.Usage, Message: "evaluate needs --model and --data", Hint: "dkpipe evaluate --model out/model --data out/dataset"}
			}
			j := a.looseJob("evaluate")
			return j.finish(c.Context(), j.runEvaluate(c.Context(), modelURI, dataURI, split, metrics))
		},
	}
	c.Flags().StringVar(&modelURI, "model", "", "the model: a root or one version, `URI`")
	c.Flags().StringVar(&dataURI, "data", "", "the dataset: a root or one version, `URI`")
	c.Flags().StringVar(&split, "split", "test", "which rows: train, validation or test")
	c.Flags().StringSliceVar(&metrics, "metrics", nil, "what to measure beside the loss (default: as in training)")
	return c
}

// looseJob is a job without a spec.
func (a *app) looseJob(command string) *job {
	events, err := a.openEvents()
	if err != nil {
		a.log.Warn("events", "error", err)
	}
	return &job{app: a, spec: &spec.Spec{}, flags: &specFlags{}, stores: a.newStores(), events: events, bars: a.newProgress(),
		started: time.Now(), report: &report{Command: command, Status: "ok"}}
}

// openVersion finds a version below a root or takes the URI of one version as it is.
func openVersion(ctx context.Context, stores *hdfsio.Stores, uri, marker, hint string) (place, string, error) {
	p, err := openPlace(ctx, stores, uri)
	if err != nil {
		return place{}, "", err
	}
	if _, err := p.fs.Stat(ctx, p.join(marker).path); err == nil {
		return p, "", nil
	}
	latest, err := publish.Latest(ctx, p.fs, p.path)
	if err != nil {
		return place{}, "", withHint(err, hint)
	}
	return p.join(latest.Version.String()), latest.Warning, nil
}

// openBundle loads a model.
func (j *job) openBundle(ctx context.Context, uri string) (*bundle.Bundle, place, error) {
	p, warning, err := openVersion(ctx, j.stores, uri, bundle.Name, "make a model with: dkpipe run -f job.yaml")
	if err != nil {
		return nil, place{}, err
	}
	if warning != "" {
		j.report.Warnings = append(j.report.Warnings, warning)
	}
	index, err := hdfsio.ReadFile(ctx, p.fs, p.join(bundle.Name).path, 64<<20)
	if err != nil {
		return nil, place{}, err
	}
	if err := checkMarker(ctx, p, bundle.Name, index); err != nil {
		return nil, place{}, err
	}
	b, err := bundle.Load(ctx, bundleFolder{folder{p}}, p.String())
	return b, p, err
}

// bundleFolder opens a bundle's files for package bundle, which declares its own small opener.
type bundleFolder struct{ folder }

func (f bundleFolder) Open(ctx context.Context, name string) (bundle.Blob, error) {
	return f.folder.Open(ctx, name)
}

func (j *job) runEvaluate(ctx context.Context, modelURI, dataURI, split string, metrics []string) error {
	b, where, err := j.openBundle(ctx, modelURI)
	if err != nil {
		return err
	}
	at, warning, err := openVersion(ctx, j.stores, dataURI, dataset.ManifestName, "make a dataset with: dkpipe preprocess -f job.yaml")
	if err != nil {
		return err
	}
	if warning != "" {
		j.report.Warnings = append(j.report.Warnings, warning)
	}
	p, err := readDataset(ctx, at)
	if err != nil {
		return err
	}
	if p.manifest.TransformSHA256 != b.TransformSHA256 {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s was prepared by other fitted transformers than %s", at, where),
			Hint: "evaluate on the dataset that the model was trained on, " + b.Info.Dataset + ", or use predict on the raw data"}
	}
	j.describe(p)
	j.report.Shards, j.report.Model = 0, where.String()
	j.report.Rows = map[string]int64{split: p.rows(split)}
	if len(metrics) == 0 {
		metrics = b.Info.MetricNames
	}
	e, err := evaluateSplit(ctx, evalJob{data: p, split: split, definition: b.Model, params: b.Params, state: b.State,
		train: spec.Train{BatchSize: 256, Kernel: "auto", Loss: b.Info.Loss, Metrics: metrics}})
	if err != nil {
		return err
	}
	j.report.Metrics = map[string]trainers.Metrics{split: e.Metrics}
	return nil
}

// evalJob is one split to be measured.
type evalJob struct {
	data          prepared
	split         string
	definition    *model.Definition
	params, state []float32
	train         spec.Train // batch size, kernel, loss, metrics
}

// scanBudget is the memory for reading ahead in a single pass, in which nothing is worth keeping. It must hold a row
// group: ours are 256 KiB, Spark's some MiB.
func scanBudget(m *dataset.Manifest) int64 {
	for _, c := range m.Columns {
		if c.Role != dataset.RoleKeep && c.Encoding != dataset.EncodingF32LE {
			return 64 << 20
		}
	}
	return 1 << 20
}

// evaluateSplit runs a split through as many replicas as there are cores.
func evaluateSplit(ctx context.Context, e evalJob) (trainers.Evaluation, error) {
	if e.data.rows(e.split) == 0 && e.data.rows() > 0 {
		return trainers.Evaluation{}, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("%s has no %s rows", e.data.folder, e.split),
			Hint: "choose another --split"}
	}
	feed, err := e.data.feed(ctx, dataset.FeedOptions{Split: e.split, BatchSize: e.train.BatchSize, BudgetBytes: scanBudget(e.data.manifest)})
	if err != nil {
		return trainers.Evaluation{}, err
	}
	shards, err := feed.Shards(ctx)
	if err != nil {
		return trainers.Evaluation{}, err
	}
	inference := e.train
	inference.Loss = ""
	cfg := trainers.EvalConfig{Feed: feed, Params: e.params, State: e.state, Loss: e.train.Loss, Metrics: e.train.Metrics}
	for range min(runtime.GOMAXPROCS(0), max(1, len(shards))) {
		r, err := buildReplica(e.definition, inference, 0)
		if err != nil {
			return trainers.Evaluation{}, err
		}
		cfg.Replicas, cfg.Widths = append(cfg.Replicas, r), r.OutputWidths()
	}
	measured, err := trainers.Evaluate(ctx, cfg)
	return measured, e.data.inDataset(err)
}
