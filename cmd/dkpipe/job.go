package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
)

// job is one run of a spec: what its stages share. The commands run, preprocess and train are different choices of
// stages.
type job struct {
	app     *app
	spec    *spec.Spec
	flags   *specFlags
	stores  *hdfsio.Stores
	events  *eventLog
	bars    *progress
	report  *report
	session *sparkconn.Session // nil until a Spark server is needed
	id      string             // names the run in manifests and bundles
	started time.Time
}

// newJob opens what a job needs before it does anything.
func (a *app) newJob(command string, flags *specFlags, need spec.Section) (*job, error) {
	s, err := flags.read(a, need)
	if err != nil {
		return nil, err
	}
	if s.Dataset.Path != "" && s.Dataset.Path == s.Output.Path {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: s.File + ": dataset.path and output.path are the same, " + s.Output.Path,
			Hint: "give datasets and models folders of their own"}
	}
	events, err := a.openEvents()
	if err != nil {
		return nil, err
	}
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	now := time.Now()
	return &job{app: a, spec: s, flags: flags, stores: a.newStores(), events: events, bars: a.newProgress(), started: now,
		id: now.UTC().Format("20060102T150405Z-") + hex.EncodeToString(id[:]), report: &report{Command: command, Status: "ok"}}, nil
}

// finish ends a job: the report is printed whatever happened, and the error carries the exit code.
func (j *job) finish(ctx context.Context, err error) error {
	j.bars.wait()
	j.report.Seconds, j.report.PeakMiB = seconds(time.Since(j.started)), peakMemory()
	if err != nil {
		f := failed(ctx, err)
		j.report.Status, j.report.Error = "failed", &f
		if f.Kind == pipeline.Interrupted {
			j.report.Status = "interrupted"
		}
		j.events.add("failed", map[string]any{"kind": f.Kind, "message": f.Message})
	} else {
		j.events.add("done", map[string]any{"dataset": j.report.Dataset, "model": j.report.Model, "skipped": j.report.Skipped})
	}
	if err := j.events.close(); err != nil {
		j.report.Warnings = append(j.report.Warnings, "events: "+err.Error())
	}
	if j.session != nil {
		if err := j.session.Close(); err != nil {
			j.app.log.Warn("closing the Spark session", "error", err)
		}
	}
	if err := j.stores.Close(); err != nil {
		j.app.log.Warn("closing stores", "error", err)
	}
	return j.app.say(j.report)
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

// lock takes the right to publish in a root.
func (j *job) lock(ctx context.Context, root place) (*publish.Lock, error) {
	return publish.Acquire(ctx, root.fs, root.path, publish.Options{At: j.app.at})
}

// release gives a lock back; what cannot be given back goes stale by itself.
func (j *job) release(ctx context.Context, l *publish.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := l.Release(ctx); err != nil {
		j.app.log.Warn("releasing the lock", "error", err)
	}
}

// prepared is a published dataset version.
type prepared struct {
	folder   folder // of the version
	manifest *dataset.Manifest
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
func (j *job) preprocess(ctx context.Context) (prepared, bool, error) {
	root, err := openPlace(ctx, j.stores, j.spec.Dataset.Path)
	if err != nil {
		return prepared{}, false, err
	}
	plan, engine, err := j.plan(ctx, true)
	if err != nil {
		return prepared{}, false, err
	}
	lock, err := j.lock(ctx, root)
	if err != nil {
		return prepared{}, false, err
	}
	defer j.release(ctx, lock)
	if done, ok, err := j.slotDone(ctx, lock); err != nil || ok {
		if err != nil {
			return prepared{}, false, err
		}
		p, _, err := openDataset(ctx, root, done.Version.String())
		return p, true, err
	}
	j.events.add("preprocess", map[string]any{"source": plan.Source.Files, "dataset": root.String()})
	plan, err = engine.Fit(ctx, plan)
	if err != nil {
		return prepared{}, false, err
	}
	j.app.crash("fitted")
	p, err := j.writeDataset(ctx, root, lock, engine, plan)
	return p, false, err
}

// plan resolves the source and makes the plan and its engine. connect says whether a Spark server is asked; without, the
// engine can explain and nothing else.
func (j *job) plan(ctx context.Context, connect bool) (pipeline.Plan, pipeline.Engine, error) {
	_, paths := sourceOf(j.spec)
	if j.spec.Spark.Remote == "" {
		files, err := expand(ctx, j.stores, paths)
		if err != nil {
			return pipeline.Plan{}, nil, err
		}
		plan, err := buildPlan(j.spec, files)
		return plan, &local.Engine{Open: anywhere{j.stores}}, err
	}
	plan, err := buildPlan(j.spec, paths) // Spark reads folders and globs itself
	if err != nil || !connect {
		return plan, sparkconn.Engine{}, err
	}
	if j.session == nil {
		if j.session, err = sparkconn.Dial(ctx, j.spec.Spark.Remote, sparkconn.Options{}); err != nil {
			return plan, nil, err
		}
	}
	return plan, sparkconn.Engine{Session: j.session}, nil
}

// stageFor says where an engine writes, and lets Spark's files become part of the stage.
func stageFor(engine pipeline.Engine, root place, stage *publish.Stage) (pipeline.Engine, string, error) {
	e, ok := engine.(sparkconn.Engine)
	if !ok {
		return engine, stage.Path(), nil
	}
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

// writeDataset runs a fitted plan into a stage and publishes it.
func (j *job) writeDataset(ctx context.Context, root place, lock *publish.Lock, engine pipeline.Engine, plan pipeline.Plan) (p prepared, err error) {
	stage, err := lock.Stage(ctx)
	if err != nil {
		return p, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stage.Abort(context.WithoutCancel(ctx)))
		}
	}()
	b := j.bars.start("preprocess", 0)
	defer func() { b.done(err == nil, fmt.Sprintf("%s rows", thousands(j.rowsOf(p)))) }()
	writer, err := dataset.NewWriter(creator(stage.Create), dataset.WriterOptions{Parts: partNames(plan), Shards: plan.Shards, BudgetBytes: sortBudget, GroupBytes: 256 << 10,
		Progress: func(rows, total int64) { b.set(rows, total, thousands(rows)+" rows written") }})
	if err != nil {
		return p, err
	}
	defer writer.Close()
	engine, uri, err := stageFor(engine, root, stage)
	if err != nil {
		return p, err
	}
	written, err := engine.Write(ctx, plan, pipeline.Stage{URI: uri, Sink: writer,
		Progress: func(rows, total int64) { b.set(rows, total, thousands(rows)+" rows read") }})
	if err != nil {
		return p, err
	}
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
	if _, err = lock.Retain(ctx, j.spec.Dataset.KeepVersions); err != nil {
		return p, err
	}
	j.report.Dropped = written.Skipped
	p, _, err = openDataset(ctx, root, version.String())
	return p, err
}

func (j *job) rowsOf(p prepared) int64 {
	if p.manifest == nil {
		return 0
	}
	var n int64
	for _, s := range p.manifest.Shards {
		n += s.Rows
	}
	return n
}

// point makes a version the one that readers get, and marks the slot done.
func (j *job) point(ctx context.Context, lock *publish.Lock, version publish.Version) error {
	if slot := j.flags.slot; slot != "" {
		if err := lock.RecordSlot(ctx, publish.Slot{Slot: slot, Version: version, Run: j.id, SpecSHA256: j.spec.SHA256}); err != nil {
			return err
		}
	}
	return lock.MoveLatest(ctx, version)
}

// slotDone tells whether the slot of this run was done in a root. --force asks for it again.
func (j *job) slotDone(ctx context.Context, lock *publish.Lock) (publish.Slot, bool, error) {
	if j.flags.slot == "" || j.flags.force {
		return publish.Slot{}, false, nil
	}
	done, state, err := lock.FinishSlot(ctx, j.flags.slot)
	if err != nil || state != publish.Done {
		return publish.Slot{}, false, err
	}
	if _, err := lock.Collect(ctx); err != nil { // a run that makes no version collects what the one before left
		return publish.Slot{}, false, err
	}
	if done.SpecSHA256 != j.spec.SHA256 {
		j.report.Warnings = append(j.report.Warnings,
			fmt.Sprintf("slot %s was done with another spec (%s); --force does it again with this one", j.flags.slot, done.Version))
	}
	return done, true, nil
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

// engineName says in manifests what prepared the data.
func (j *job) engineName() string {
	if j.session == nil {
		return "local"
	}
	return "spark " + j.session.Version()
}

// describe fills the report's lines about a dataset.
func (j *job) describe(p prepared) {
	m := p.manifest
	j.report.Dataset = p.folder.String()
	j.report.Rows = map[string]int64{}
	for _, s := range m.Shards {
		j.report.Rows[s.Split] += s.Rows
		j.report.Shards++
	}
}

func partNames(p pipeline.Plan) []string {
	var names []string
	for _, part := range p.Split.Parts {
		names = append(names, part.Name)
	}
	return names
}

// hinted is an error with a next step that only its caller knows.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error     { return h.error }
func (h hinted) ErrorHint() string { return h.hint }

// withHint gives an error that has no hint of its own a next step.
func withHint(err error, hint string) error {
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) && h.ErrorHint() != "" {
		return err
	}
	return hinted{err, hint}
}
