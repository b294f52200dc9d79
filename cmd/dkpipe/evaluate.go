package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
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

// evaluateOptions are what evaluate is asked for.
type evaluateOptions struct {
	model, data, split string
	metrics            []string
	types              map[string]string
	remote             string
}

func (a *app) evaluateCommand() *cobra.Command {
	var o evaluateOptions
	c := &cobra.Command{
		Use:   "evaluate --model MODEL --data DATASET",
		Short: "Measure a published model on a prepared dataset, or on raw rows",
		Long: "Measures a model on a split of a dataset that was prepared by the same fitted transformers. MODEL and DATASET are\n" +
			"roots (LATEST is taken) or single versions. An ensemble is measured as it predicts; one that lists, by the mean. Raw rows, with the columns that the targets are made of, are run through\n" +
			"the model's own transformers first: a file or glob of .csv, .parquet, .arrow or .jsonl; table:NAME or sql:QUERY.",
		Example: "  dkpipe evaluate --model out/model --data out/dataset\n" +
			"  dkpipe evaluate --model out/model/v000001 --data out/dataset --split train --json\n" +
			"  dkpipe evaluate --model out/model --data 'new/*.csv'",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.model == "" || o.data == "" {
				return usage("dkpipe evaluate --model out/model --data out/dataset", "evaluate needs --model and --data")
			}
			if !slices.Contains(splits, o.split) {
				hint := "known: " + strings.Join(splits, ", ")
				if near := spec.Nearest(o.split, splits); near != "" {
					hint = "did you mean " + near + "? " + hint
				}
				return usage(hint, "--split %s: there is no such split", o.split)
			}
			if isRaw(o.data) && c.Flags().Changed("split") {
				return usage("leave it out: all raw rows are measured", "--split is for prepared datasets, and --data %s is raw rows", o.data)
			}
			j, err := a.commandJob("evaluate")
			if err != nil {
				return err
			}
			return j.finish(c.Context(), j.runEvaluate(c.Context(), o))
		},
	}
	c.Flags().StringVar(&o.model, "model", "", "the model: a root or one version, `URI`")
	c.Flags().StringVar(&o.data, "data", "", "the dataset: a root or one version; or raw rows, `URI`")
	c.Flags().StringVar(&o.split, "split", "test", "which rows of a dataset: train, validation or test")
	c.Flags().StringSliceVar(&o.metrics, "metrics", nil, "what to measure beside the loss (default: as in training)")
	c.Flags().StringToStringVar(&o.types, "types", nil, "types of columns of raw CSV and JSON files, `NAME=TYPE`: bool, int64, float64 or string")
	c.Flags().Lookup("types").DefValue = "" // and not []
	c.Flags().StringVar(&o.remote, "spark-remote", "", "the Spark Connect server for table: and sql:, sc://`HOST:PORT` (default: SPARK_REMOTE)")
	return c
}

// splits are the parts that a dataset can have.
var splits = []string{"train", "validation", "test"}

// commandJob is a job without a spec.
func (a *app) commandJob(command string) (*job, error) {
	events, err := a.openEvents()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &job{app: a, spec: &spec.Spec{}, flags: &specFlags{}, stores: a.newStores(), events: events, bars: a.newProgress(),
		id: now.UTC().Format("20060102T150405Z-") + publish.OwnerTag(), started: now, report: &report{Command: command, Status: "ok"}}, nil
}

// looseJob is commandJob for commands that do their work also where events cannot be written.
func (a *app) looseJob(command string) *job {
	j, err := a.commandJob(command)
	if err != nil {
		a.log.Warn("events", "error", err)
		quiet := *a
		quiet.events = ""
		j, _ = quiet.commandJob(command) // without events nothing can go wrong
		j.app = a
	}
	return j
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
	at, warning := p, ""
	if err == nil {
		at, warning = p.join(latest.Version.String()), latest.Warning
		if _, err := p.fs.Stat(ctx, at.join(marker).path); err == nil {
			return at, warning, nil
		}
	}
	if info, err := p.fs.Stat(ctx, p.path); err == nil && !info.Dir {
		return place{}, "", usage(hint+"; files of models are for dkpipe model inspect, convert and diff, and for model: {keras: FILE} in a spec",
			"%s is a file, and not the folder of a dataset or a model", p)
	}
	if other := otherThing(ctx, at, marker); other != "" {
		return place{}, "", usage(hint, "%s is %s", p, other)
	}
	if err != nil {
		return place{}, "", withHint(err, hint)
	}
	return at, warning, nil // whoever reads the marker says what is wrong with it
}

// otherThing says what a version is that is not what its marker would make it; empty when it is nothing else.
func otherThing(ctx context.Context, at place, marker string) string {
	for name, what := range map[string]string{bundle.Name: "a model, and no dataset", dataset.ManifestName: "a dataset, and no model"} {
		if _, err := at.fs.Stat(ctx, at.join(name).path); err == nil && name != marker {
			return what
		}
	}
	return ""
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

func (j *job) runEvaluate(ctx context.Context, o evaluateOptions) error {
	b, where, err := j.openBundle(ctx, o.model)
	if err != nil {
		return err
	}
	metrics := o.metrics
	if len(metrics) == 0 {
		metrics = b.Info.MetricNames
	}
	if isRaw(o.data) {
		return j.evaluateRaw(ctx, o, b, where, metrics)
	}
	if len(o.types) > 0 {
		return usage("leave it out", "--types is for raw CSV and JSON files, and --data %s is a dataset", o.data)
	}
	p, err := j.openToRead(ctx, o.data)
	if err != nil {
		return err
	}
	unpin, err := j.pin(ctx, p)
	if err != nil {
		return err
	}
	defer unpin()
	if p.manifest.TransformSHA256 != b.TransformSHA256 {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s was prepared by other fitted transformers than %s", p.folder, where),
			Hint: "evaluate on the dataset that the model was trained on, " + b.Info.Dataset + ", or on the raw rows: --data 'new/*.csv'"}
	}
	j.describe(p)
	j.report.Shards, j.report.Model = 0, where.String()
	j.report.Rows = map[string]int64{o.split: p.rows(o.split)}
	e, err := evaluateSplit(ctx, evalJob{data: p, split: o.split, definition: b.Model, params: b.Params, state: b.State, ensemble: b.Ensemble,
		losses: bundleLosses(b), train: spec.Train{BatchSize: 256, Kernel: j.app.kernel("auto"), Metrics: metrics}})
	if err != nil {
		return err
	}
	j.report.measured(o.split, e)
	return nil
}

// openToRead opens a dataset, a root or one version, for reading: what is removed meanwhile is an error that says so.
func (j *job) openToRead(ctx context.Context, uri string) (prepared, error) {
	at, warning, err := openVersion(ctx, j.stores, uri, dataset.ManifestName, "make a dataset with: dkpipe preprocess -f job.yaml")
	if err != nil {
		return prepared{}, err
	}
	if warning != "" {
		j.report.Warnings = append(j.report.Warnings, warning)
	}
	return readDataset(ctx, at)
}

// evalJob is one split to be measured.
type evalJob struct {
	data          prepared
	split         string
	definition    *model.Definition
	losses        []model.Loss // one an output
	params, state []float32
	ensemble      *bundle.Ensemble // nil for a single model
	train         spec.Train       // batch size, kernel, metrics
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
		has := slices.DeleteFunc(slices.Clone(splits), func(s string) bool { return e.data.rows(s) == 0 })
		return trainers.Evaluation{}, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("%s has no %s rows", e.data.folder, e.split),
			Hint: "choose another --split; it has rows of " + strings.Join(has, ", ")}
	}
	feed, err := e.data.feed(ctx, dataset.FeedOptions{Split: e.split, BatchSize: e.train.BatchSize, BudgetBytes: scanBudget(e.data.manifest)})
	if err != nil {
		return trainers.Evaluation{}, err
	}
	shards, err := feed.Shards(ctx)
	if err != nil {
		return trainers.Evaluation{}, err
	}
	cfg := trainers.EvalConfig{Feed: feed, Shapes: outputShapes(e.definition), Losses: e.losses, Metrics: e.train.Metrics}
	if cfg.Replicas, err = e.replicas(len(shards)); err != nil {
		return trainers.Evaluation{}, err
	}
	measured, err := trainers.Evaluate(ctx, cfg)
	return measured, e.data.inDataset(err)
}

// replicas are one for each core, or for each shard where there are fewer, which then works on several cores. They have
// one copy of the parameters together.
func (e evalJob) replicas(shards int) ([]model.Replica, error) {
	cores := runtime.GOMAXPROCS(0)
	replicas := make([]model.Replica, min(cores, max(1, shards)))
	each := cores / len(replicas)
	nets, err := networksOf(e.definition, e.ensemble, e.params, e.state, e.train)
	if err != nil {
		return nil, err
	}
	for i := range replicas {
		own := make([]*model.Network, len(nets))
		for k, n := range nets {
			own[k] = n.Sibling()
		}
		if replicas[i], err = together(own, e.ensemble, measuredBy(e.ensemble), each); err != nil {
			return nil, err
		}
	}
	return replicas, nil
}

// outputShapes gives the shape of one row of every output.
func outputShapes(d *model.Definition) [][]int {
	var shapes [][]int
	all := d.Shapes()
	for _, name := range d.Outputs {
		shapes = append(shapes, all[name])
	}
	return shapes
}

// bundleLosses gives the loss of every output of a published model.
func bundleLosses(b *bundle.Bundle) []model.Loss {
	if len(b.Info.Losses) == len(b.Model.Outputs) {
		return b.Info.Losses
	}
	losses := make([]model.Loss, len(b.Model.Outputs)) // of a bundle from before there were several
	for i := range losses {
		losses[i].Name = b.Info.Loss
	}
	return losses
}

// lossNames writes losses for people: one name if they are all the same.
func lossNames(losses []model.Loss) string {
	var names []string
	for _, l := range losses {
		if len(names) == 0 || names[len(names)-1] != l.Name {
			names = append(names, l.Name)
		}
	}
	return strings.Join(names, ", ")
}
