package main

import (
	"errors"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/transformers"
)

// This file is the only place where names in a spec become types.

// buildSteps makes the transformers of a spec. All that is wrong with them is reported at once.
func buildSteps(items []spec.Item) ([]expr.Step, error) {
	var steps []expr.Step
	var errs []error
	for _, it := range items {
		step, err := transformers.New(it.Name, it.Decode)
		if err != nil {
			errs = append(errs, located(it, err))
			continue
		}
		steps = append(steps, step)
	}
	if err := spec.Join(errs...); err != nil {
		return nil, err
	}
	return steps, nil
}

// located puts an item's place before an error that has none.
func located(it spec.Item, err error) error {
	var placed *spec.Error
	if errors.As(err, &placed) {
		return err
	}
	hint := ""
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) {
		hint = h.ErrorHint()
	}
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) && k.ErrorKind() != string(pipeline.BadSpec) {
		return &pipeline.Error{Kind: pipeline.Kind(k.ErrorKind()), Message: it.Pos.String() + ": " + err.Error(), Hint: hint}
	}
	return it.Fail("", hint, "%s", err.Error())
}

// buildPlan makes the preprocessing plan of a spec; files are the source's, globs resolved.
func buildPlan(s *spec.Spec, files []string) (pipeline.Plan, error) {
	steps, err := buildSteps(s.Transform)
	if err != nil {
		return pipeline.Plan{}, err
	}
	format, _ := sourceOf(s)
	p := pipeline.Plan{
		Source:  pipeline.Source{Format: format, Files: files, Text: s.Source.Table + s.Source.SQL, Types: s.Source.Types},
		Expect:  pipeline.Expect{MinRows: s.Expect.MinRows, MaxNull: s.Expect.MaxNull, Labels: s.Expect.Labels},
		Steps:   steps,
		Columns: pipeline.Columns{X: s.Columns.X, Y: s.Columns.Y, Weight: s.Columns.Weight, Keep: s.Columns.Keep},
		Split:   pipeline.Split{Key: s.Split.Key, Seed: s.Split.Seed},
		Shards:  s.Dataset.Shards,
	}
	for _, part := range []pipeline.Part{{Name: "train", Fraction: s.Split.Train}, {Name: "validation", Fraction: s.Split.Validation}, {Name: "test", Fraction: s.Split.Test}} {
		if part.Fraction > 0 {
			p.Split.Parts = append(p.Split.Parts, part)
		}
	}
	return p, nil
}

// sourceOf gives the one format that the spec sets, and its paths when it is made of files.
func sourceOf(s *spec.Spec) (pipeline.Format, []string) {
	switch src := s.Source; {
	case src.CSV != nil:
		return pipeline.CSV, src.CSV
	case src.Parquet != nil:
		return pipeline.Parquet, src.Parquet
	case src.Arrow != nil:
		return pipeline.Arrow, src.Arrow
	case src.JSON != nil:
		return pipeline.JSON, src.JSON
	case src.IDX != nil:
		return pipeline.IDX, src.IDX
	case src.Table != "":
		return pipeline.Table, nil
	default:
		return pipeline.SQL, nil
	}
}

// buildAlgorithm makes the training method.
func buildAlgorithm(it spec.Item) (trainers.Algorithm, error) {
	alg, err := trainers.New(it.Name, it.Decode)
	if err != nil {
		return nil, located(it, err)
	}
	return alg, nil
}

// buildOptimizer makes a worker's own optimizer for the tensors of a model.
func buildOptimizer(t spec.Train, layout []model.ParamSpec) (optim.Optimizer, error) {
	set, err := kernel.Select(t.Kernel)
	if err != nil {
		return nil, placed(t.Pos, err)
	}
	lengths := make([]int, len(layout))
	for i, p := range layout {
		lengths[i] = p.Len
	}
	it := t.Optimizer
	opt, err := optim.New(it.Name, optim.WithKernel(set, it.Decode), lengths...)
	if err != nil {
		return nil, located(it, err)
	}
	return opt, nil
}

// placed puts a place before an error that has none, and keeps kind and hint.
func placed(pos spec.Pos, err error) error {
	var already *spec.Error
	if errors.As(err, &already) {
		return err
	}
	e := &pipeline.Error{Kind: pipeline.BadSpec, Message: pos.String() + ": " + err.Error()}
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		e.Kind = pipeline.Kind(k.ErrorKind())
	}
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) {
		e.Hint = h.ErrorHint()
	}
	return e
}
