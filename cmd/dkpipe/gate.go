package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
)

// gateSplit is the split that a gate looks at: the test rows, or else the validation rows.
func gateSplit(metrics map[string]trainers.Evaluation) (string, bool) {
	for _, split := range []string{"test", "validation"} {
		if _, ok := metrics[split]; ok {
			return split, true
		}
	}
	return "", false
}

// gate compares a trained model with the spec's gate. The error is of kind gate when the model is not
// good enough; who publishes the version adds where it is.
func (j *job) gate(ctx context.Context, root place, t *trained) error {
	g := j.spec.Gate
	if g == nil {
		return nil
	}
	split, ok := gateSplit(t.metrics)
	if !ok {
		return noGateRows(g)
	}
	got, ok := t.metrics[split].Metrics.Get(g.Metric)
	if !ok {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s: the metric %q is not measured", g.Pos, g.Metric),
			Hint: "name it in train.metrics, or take loss"}
	}
	broken := func(format string, args ...any) error {
		return &pipeline.Error{Kind: pipeline.Gate, Message: fmt.Sprintf("%s %s is %.4f, ", split, g.Metric, got) + fmt.Sprintf(format, args...)}
	}
	switch {
	case math.IsNaN(got):
		return broken("which no gate lets pass")
	case g.AtLeast != nil && got < *g.AtLeast:
		return broken("the gate asks for at least %g", *g.AtLeast)
	case g.AtMost != nil && got > *g.AtMost:
		return broken("the gate asks for at most %g", *g.AtMost)
	case g.NotBelowLatestBy == nil:
		return nil
	}
	before, latest, ok, err := latestMetric(ctx, root, split, g.Metric)
	if err != nil || latest == "" {
		return err
	}
	if !ok {
		j.report.Warnings = append(j.report.Warnings, fmt.Sprintf("%s: %s was published without %s %s, so the new model is not compared with it", g.Pos, latest, split, g.Metric))
		return nil
	}
	if got < before-*g.NotBelowLatestBy {
		return broken("LATEST has %.4f and the gate allows %g less", before, *g.NotBelowLatestBy)
	}
	return nil
}

// noGateRows says that there is nothing to measure a gate on.
func noGateRows(g *spec.Gate) error {
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: g.Pos.String() + ": there are no test or validation rows to measure " + g.Metric + " on",
		Hint: "give the split a test share: split: {key: id, train: 0.8, test: 0.2}"}
}

// checkGate finds what is wrong with a gate before anything is trained.
func checkGate(s *spec.Spec) error {
	g := s.Gate
	switch {
	case g == nil:
		return nil
	case s.Split.Test == 0 && s.Split.Validation == 0:
		return noGateRows(g)
	case g.NotBelowLatestBy != nil && trainers.LessIsBetter(g.Metric):
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s: not_below_latest_by is for metrics of which more is better, not for %s", g.Pos, g.Metric),
			Hint: "use at_most for it"}
	}
	return nil
}

// latestMetric reads a metric of the model that LATEST names, and the name of that version: empty when there is none yet.
// false: the metric was not measured for it.
func latestMetric(ctx context.Context, root place, split, metric string) (v float64, version string, ok bool, err error) {
	latest, err := publish.Latest(ctx, root.fs, root.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", false, nil
	}
	if err != nil {
		return 0, "", false, err
	}
	b, err := hdfsio.ReadFile(ctx, root.fs, path.Join(latest.Path, bundle.MetricsName), 1<<20)
	if err != nil {
		return 0, "", false, err
	}
	var metrics map[string]trainers.Evaluation
	if err := json.Unmarshal(b, &metrics); err != nil {
		return 0, "", false, &pipeline.Error{Kind: pipeline.Corrupt, Message: root.join(latest.Version.String(), bundle.MetricsName).String(), Err: err}
	}
	v, ok = metrics[split].Metrics.Get(metric)
	return v, latest.Version.String(), ok && !math.IsNaN(v), nil
}
