package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/sparkconn"
)

// prepared is a published dataset version: files in its folder or, for the time of a run, rows that stay in Spark.
type prepared struct {
	folder   folder // of the version
	manifest *dataset.Manifest
	live     *liveRows // nil: files
}

// shards lists what the rows are cut into.
func (p prepared) shards() []pipeline.ShardInfo {
	switch {
	case p.live != nil:
		return p.live.Shards
	case p.manifest != nil:
		return p.manifest.Shards
	}
	return nil
}

// rows counts the rows of the given splits; without any, all.
func (p prepared) rows(splits ...string) int64 {
	var n int64
	for _, s := range p.shards() {
		if len(splits) == 0 || slices.Contains(splits, s.Split) {
			n += s.Rows
		}
	}
	return n
}

// feed gives the rows of a split.
func (p prepared) feed(ctx context.Context, opt dataset.FeedOptions) (pipeline.Feed, error) {
	if p.live != nil {
		return p.live.feed(ctx, opt)
	}
	if len(p.manifest.Shards) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: p.folder.String() + " has no rows: they were streamed out of Spark by the run that made it (dataset.live)",
			Hint: "prepare files with: dkpipe preprocess -f job.yaml --set dataset.live=false"}
	}
	return dataset.NewFeed(p.folder, p.manifest, opt)
}

// openDataset reads the manifest of a version; an empty version means LATEST.
func openDataset(ctx context.Context, root place, version string) (prepared, []string, error) {
	var warnings []string
	if version == "" {
		latest, err := publish.Latest(ctx, root.fs, root.path)
		if err != nil {
			return prepared{}, nil, withHint(err, "make a dataset with: dkpipe preprocess -f job.yaml")
		}
		if latest.Warning != "" {
			warnings = append(warnings, latest.Warning)
		}
		version = latest.Version.String()
	}
	p, err := readDataset(ctx, root.join(version))
	return p, warnings, err
}

// pin keeps a version from being removed by runs that make newer ones, until the function that it gives is called. Where
// this user may not write beside the version, it is read without.
func (j *job) pin(ctx context.Context, p prepared) (func(), error) {
	nothing := func() {}
	v, err := publish.ParseVersion(p.folder.uri.Base())
	if p.live != nil || err != nil {
		return nothing, nil
	}
	pin, err := publish.PinVersion(ctx, p.folder.fs, path.Dir(p.folder.path), v, publish.Options{At: j.app.at})
	switch {
	case hdfsio.KindOf(err) == hdfsio.KindDenied:
		j.app.log.Info("the dataset cannot be pinned: it may be removed while it is read", "error", err)
		return nothing, nil
	case err != nil:
		return nothing, err
	}
	return func() {
		if err := pin.Release(ctx); err != nil {
			j.app.log.Warn("releasing the pin of the dataset", "error", err)
		}
	}, nil
}

// inDataset says which dataset an error about a shard is about; shards are named relative to it.
func (p prepared) inDataset(err error) error {
	switch pipelineKind(err) {
	case pipeline.Corrupt, pipeline.Changed:
		return hinted{fmt.Errorf("%s: %w", p.folder, err), failed(context.Background(), err).Hint}
	}
	return err
}

// readDataset reads the manifest of one version.
func readDataset(ctx context.Context, at place) (prepared, error) {
	if v, err := publish.ParseVersion(at.uri.Base()); err == nil {
		at.fs = publish.Reading(at.fs, path.Dir(at.path), v) // what is removed meanwhile is an error that says so
	}
	name := at.join(dataset.ManifestName)
	b, err := hdfsio.ReadFile(ctx, name.fs, name.path, dataset.MaxManifestBytes)
	if err != nil {
		return prepared{}, err
	}
	if err := checkMarker(ctx, at, dataset.ManifestName, b); err != nil {
		return prepared{}, err
	}
	m, err := dataset.Decode(name.String(), b)
	if err != nil {
		return prepared{}, err
	}
	return prepared{folder: folder{at}, manifest: m}, nil
}

// preprocess runs the plan of the spec into a new dataset version, or finds that the slot has one already.
//
// The version that a slot was done with may be retired since: that is no matter, unless its rows are needed.
func (j *job) preprocess(ctx context.Context, needed bool) (prepared, bool, error) {
	if j.spec.Dataset.Live {
		return prepared{}, false, &pipeline.Error{Kind: pipeline.BadSpec, Message: j.spec.File + ": dataset.live keeps the rows in Spark, and only for the time of a run that trains on them",
			Hint: "use dkpipe run, or write files with --set dataset.live=false"}
	}
	root, err := openPlace(ctx, j.stores, j.spec.Dataset.Path)
	if err != nil {
		return prepared{}, false, err
	}
	plan, engine, err := j.plan(ctx, true)
	if err != nil {
		return prepared{}, false, err
	}
	var p prepared
	skipped := false
	err = j.underLock(ctx, root, func(ctx context.Context, lock *publish.Lock) error {
		done, ok, err := j.slotDone(ctx, lock, j.spec.Dataset.KeepVersions)
		if err != nil {
			return err
		}
		if ok {
			p, _, err = openDataset(ctx, root, done.Version.String())
			if retired := errors.Is(err, fs.ErrNotExist); !retired || !needed {
				if retired {
					j.report.Warnings = append(j.report.Warnings, fmt.Sprintf("slot %s was done with %s, which was removed since", j.flags.slot, root.join(done.Version.String())))
					err = nil
				}
				skipped = true
				return err
			}
		}
		return j.working(ctx, lock, engine, func(ctx context.Context, engine pipeline.Engine) error {
			if err := j.checkRights(ctx, root, lock, engine, plan.Source); err != nil {
				return err
			}
			j.events.add("preprocess", map[string]any{"source": plan.Source.Files, "dataset": root.String()})
			if plan, err = engine.Fit(ctx, plan); err != nil {
				return sourceRefusal(plan.Source, err)
			}
			j.app.crash("fitted")
			p, err = j.writeDataset(ctx, root, lock, engine, plan)
			return err
		})
	})
	return p, skipped, err
}

// sparkProgress moves a bar by what Spark tells while it works.
func sparkProgress(b *bar) func(sparkconn.Progress) {
	return func(p sparkconn.Progress) { b.set(p.Tasks, p.Of, p.String()) }
}

// stageFor says where an engine writes, and lets Spark's files become part of the stage.
func stageFor(engine pipeline.Engine, root place, stage *publish.Stage, b *bar) (pipeline.Engine, string, error) {
	e, ok := engine.(sparkconn.Engine)
	if !ok {
		return engine, stage.Path(), nil
	}
	e.Progress = sparkProgress(b)
	e.Adopt = func(ctx context.Context, name string) (int64, string, error) {
		f, err := stage.Adopt(ctx, name)
		return f.Bytes, f.SHA256, err
	}
	u := root.uri
	u.Path = stage.Path()
	if u.Local() {
		abs, err := filepath.Abs(u.Path)
		if err != nil {
			return nil, "", err
		}
		u.Path = abs
	}
	return e, u.String(), nil
}

// sortBudget is the memory for sorting rows into shards; more rows wait as sorted runs on local disk.
const sortBudget = 4 << 20

// writeDataset runs a fitted plan into files and publishes them.
func (j *job) writeDataset(ctx context.Context, root place, lock *publish.Lock, engine pipeline.Engine, plan pipeline.Plan) (prepared, error) {
	b := j.bars.start("preprocess", 0)
	p, err := j.publishDataset(ctx, root, lock, plan, func(stage *publish.Stage) (pipeline.Written, error) {
		writer, err := dataset.NewWriter(creator(stage.Create), dataset.WriterOptions{Parts: partNames(plan), Shards: plan.Shards, BudgetBytes: sortBudget, GroupBytes: 256 << 10, Temp: j.folder,
			Progress: func(rows, total int64) { b.set(rows, total, thousands(rows)+" rows written") }})
		if err != nil {
			return pipeline.Written{}, err
		}
		defer writer.Close()
		if err := j.shareStage(ctx, root, stage.Path()); err != nil {
			return pipeline.Written{}, err
		}
		engine, uri, err := stageFor(engine, root, stage, b)
		if err != nil {
			return pipeline.Written{}, err
		}
		return engine.Write(ctx, plan, pipeline.Stage{URI: uri, Sink: writer,
			Progress: func(rows, total int64) { b.set(rows, total, thousands(rows)+" rows read") }})
	})
	b.done(err == nil, thousands(p.rows())+" rows")
	return p, err
}

// publishDataset makes a version of what write leaves in a stage, and points LATEST to it.
func (j *job) publishDataset(ctx context.Context, root place, lock *publish.Lock, plan pipeline.Plan, write func(*publish.Stage) (pipeline.Written, error)) (p prepared, err error) {
	stage, err := lock.Stage(ctx)
	if err != nil {
		return p, err
	}
	defer func() {
		if err != nil {
			j.abort(ctx, stage)
		}
	}()
	written, err := write(stage)
	if err != nil {
		return p, err
	}
	j.report.Dropped = written.Skipped
	j.app.crash("shards written")
	version, err := stage.Publish(ctx, func(v publish.Version) error {
		m, err := j.manifest(plan, written, v)
		if err != nil {
			return err
		}
		return stage.WriteFile(ctx, dataset.ManifestName, m)
	})
	if err != nil {
		return p, err
	}
	if err = j.point(ctx, lock, version); err != nil {
		return p, err
	}
	j.retain(ctx, lock, j.spec.Dataset.KeepVersions)
	p, _, err = openDataset(ctx, root, version.String())
	return p, err
}

// manifest describes what was written.
func (j *job) manifest(plan pipeline.Plan, w pipeline.Written, v publish.Version) ([]byte, error) {
	transform, err := json.Marshal(plan.Fitted)
	if err != nil {
		return nil, err
	}
	m := dataset.Manifest{
		Version: int(v), Created: time.Now().UTC(), Run: j.id, Slot: j.flags.slot, Engine: j.engineName(), SpecSHA256: j.spec.SHA256,
		Source:  dataset.Source{Format: plan.Source.Format, Files: plan.Source.Files, Text: plan.Source.Text, Types: plan.Source.Types},
		Columns: w.Columns, Transform: transform, Shards: w.Shards,
		Split: dataset.Split{Key: plan.Split.Key, Seed: plan.Split.Seed, Parts: plan.Split.Parts},
	}
	return m.Encode()
}

// describe fills the report's lines about a dataset.
func (j *job) describe(p prepared) {
	if p.manifest == nil {
		return
	}
	j.report.Dataset = p.folder.String()
	j.report.Rows = map[string]int64{}
	for _, s := range p.shards() {
		j.report.Rows[s.Split] += s.Rows
		j.report.Shards++
	}
}

// checkMarker compares the file that describes a version with the hash that was published with it. A folder that is
// not a version of a root has none and is taken as it is.
func checkMarker(ctx context.Context, at place, name string, b []byte) error {
	v, err := publish.ParseVersion(at.uri.Base())
	if err != nil {
		return nil
	}
	contents, err := publish.Inspect(ctx, at.fs, path.Dir(at.path), v)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	for _, f := range contents.Files {
		if f.Path == name && f.SHA256 != hex.EncodeToString(sum[:]) {
			return &pipeline.Error{Kind: pipeline.Corrupt, Message: at.join(name).String() + " is not the file that was published",
				Hint: "look at the store, or take another version: dkpipe data verify " + at.String()}
		}
	}
	return nil
}
