package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
)

// job is one run of a spec: what its stages share. The commands run, preprocess and train are different choices of
// stages.
type job struct {
	app       *app
	spec      *spec.Spec
	flags     *specFlags
	stores    *hdfsio.Stores
	events    *eventLog
	bars      *progress
	report    *report
	session   *sparkconn.Session // nil until a Spark server is needed
	sparkUser string             // whom HDFS takes Spark for, when that is another user than dkpipe
	live      *liveRows          // nil unless this run keeps its rows in Spark
	left      []leftWork         // what the next run has to give back in this one's place
	temp      *runFolder         // nil until local files are needed
	id        string             // names the run in manifests and bundles
	started   time.Time

	training training // of commands that train
}

// newJob opens what a job needs before it does anything.
func (a *app) newJob(command string, flags *specFlags, need spec.Section) (*job, error) {
	s, err := flags.read(a, need)
	if err != nil {
		return nil, err
	}
	if err := checkRoots(s); err != nil {
		return nil, err
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

// checkRoots refuses one folder for two things: each has a lock of its own.
func checkRoots(s *spec.Spec) error {
	roots := []struct{ field, path string }{{"dataset.path", s.Dataset.Path}, {"output.path", s.Output.Path}}
	if c := s.Train.Checkpoint; c != nil {
		roots = append(roots, struct{ field, path string }{"train.checkpoint.path", c.Path})
	}
	seen := map[hdfsio.URI]string{}
	for _, r := range roots {
		if r.path == "" {
			continue
		}
		u, err := hdfsio.Parse(r.path)
		if err != nil {
			return err
		}
		if u.Scheme == hdfsio.SchemeFile {
			if u.Path, err = filepath.Abs(u.Path); err != nil {
				return err
			}
		}
		if other := seen[u]; other != "" {
			return &pipeline.Error{Kind: pipeline.BadSpec, Message: s.File + ": " + other + " and " + r.field + " are the same, " + r.path,
				Hint: "give datasets, models and checkpoints folders of their own"}
		}
		seen[u] = r.field
	}
	return nil
}

// finish ends a job: the report is printed whatever happened, and the error carries the exit code.
func (j *job) finish(ctx context.Context, err error) error {
	j.bars.wait()
	j.report.Seconds, j.report.PeakMiB = seconds(time.Since(j.started)), peakMemory()
	if err != nil {
		f := failed(ctx, j.inSource(err))
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
	if j.live != nil {
		if err := j.live.close(ctx); err != nil {
			j.app.log.Warn("giving back the live dataset", "error", err)
		}
	}
	if j.session != nil {
		if err := j.session.Close(); err != nil {
			j.app.log.Warn("closing the Spark session", "error", err)
		}
	}
	if err := j.stores.Close(); err != nil {
		j.app.log.Warn("closing stores", "error", err)
	}
	if j.temp != nil {
		if err := j.temp.close(); err != nil {
			j.app.log.Warn("removing temporary files", "error", err)
		}
	}
	return j.app.say(j.report)
}

// folder gives the run's folder for local files; finish removes it.
func (j *job) folder() (string, error) {
	if j.temp == nil {
		temp, err := j.app.newRunFolder()
		if err != nil {
			return "", err
		}
		j.temp = temp
	}
	return j.temp.dir, nil
}

// lock takes the right to publish in a root.
func (j *job) lock(ctx context.Context, root place) (*publish.Lock, error) {
	return publish.Acquire(ctx, root.fs, root.path, publish.Options{At: j.app.at})
}

// underLock does something while this run holds the lock of a root. Its context ends when the lock is lost, because
// nothing that is done from then on can be published.
func (j *job) underLock(ctx context.Context, root place, do func(ctx context.Context, lock *publish.Lock) error) error {
	lock, err := j.lock(ctx, root)
	if err != nil {
		return err
	}
	defer j.release(ctx, lock)
	held, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-lock.Lost():
			cancel()
		case <-held.Done():
		}
	})
	err = do(held, lock)
	cancel()
	watcher.Wait()
	if err == nil {
		return nil
	}
	select {
	case <-lock.Lost():
		return lock.Check(context.WithoutCancel(ctx)) // the cause; err is its consequence
	default:
		return err
	}
}

// abort gives a stage up after an error, which stays the error. A stage that cannot be removed is garbage for the next run.
func (j *job) abort(ctx context.Context, stage *publish.Stage) {
	if err := stage.Abort(context.WithoutCancel(ctx)); err != nil {
		j.app.log.Warn("the unfinished version could not be removed; the next run does it", "error", err)
	}
}

// release gives a lock back; what cannot be given back goes stale by itself.
func (j *job) release(ctx context.Context, l *publish.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := l.Release(ctx); err != nil {
		j.app.log.Warn("releasing the lock", "error", err)
	}
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
		if j.session, err = j.app.dialSpark(ctx, j.spec.Spark, sparkconn.Options{}); err != nil {
			return plan, nil, err
		}
	}
	return plan, sparkconn.Engine{Session: j.session}, nil
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

// retain removes old versions. The new one is published, whether that succeeds or not.
func (j *job) retain(ctx context.Context, lock *publish.Lock, keep int) {
	if _, err := lock.Retain(ctx, keep); err != nil {
		j.leftBehind(ctx, err)
	}
}

// leftBehind reports what could not be removed, such as another user's. The next run tries again.
func (j *job) leftBehind(ctx context.Context, err error) {
	f := failed(ctx, err)
	text := "something that is not needed any more could not be removed: " + f.Message
	var e *hdfsio.Error
	if errors.As(err, &e) && e.Kind == hdfsio.KindDenied {
		at, _, _ := strings.Cut(e.Path, " to ") // of a rename
		command := "rm -r "
		if strings.Contains(at, "://") {
			command = "hdfs dfs -rm -r -skipTrash "
		}
		text += "; its owner's next run removes it, or, as that user or the superuser: " + command + at
	}
	j.report.Warnings = append(j.report.Warnings, text)
}

// slotDone tells whether the slot of this run was done in a root. --force asks for it again.
func (j *job) slotDone(ctx context.Context, lock *publish.Lock, keep int) (publish.Slot, bool, error) {
	if j.flags.slot == "" || j.flags.force {
		return publish.Slot{}, false, nil
	}
	done, state, err := lock.FinishSlot(ctx, j.flags.slot)
	if err != nil || state != publish.Done {
		return publish.Slot{}, false, err
	}
	// A run that makes no version tidies up behind the one that did.
	if _, err := lock.Collect(ctx); err != nil {
		j.leftBehind(ctx, err)
	}
	j.retain(ctx, lock, keep)
	if done.SpecSHA256 != j.spec.SHA256 {
		j.report.Warnings = append(j.report.Warnings,
			fmt.Sprintf("slot %s was done with another spec (%s); --force does it again with this one", j.flags.slot, done.Version))
	}
	return done, true, nil
}

// engineName says in manifests what prepared the data.
func (j *job) engineName() string {
	if j.session == nil {
		return "local"
	}
	return "spark " + j.session.Version()
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
