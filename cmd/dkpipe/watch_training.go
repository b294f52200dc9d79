package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/trainers"
)

// training is what a command that trains keeps beside its job.
type training struct {
	flags  watchFlags
	watch  *trainWatch      // nil before training
	kept   *checkpoints     // nil unless the spec asks for them
	from   *resumed         // nil unless the run goes on from a checkpoint
	steps  float64          // that each worker did before the checkpoint
	copies int              // how often every row is trained on in an epoch; 0: once
	result *trainers.Result // nil before the end

	servers *dataServers // nil: none
}

// register adds the flags of all commands that train.
func (f *watchFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.report, "report", "", "write a page about the training, with plots, to `FILE.html`")
	c.Flags().StringVar(&f.tensorboard, "tensorboard", "", "write event files for TensorBoard below `DIR`")
	c.Flags().StringVar(&f.metrics, "metrics-listen", "", "serve metrics for Prometheus at http://`HOST:PORT`/metrics while training")
	_ = c.MarkFlagFilename("report", "html")
	_ = c.MarkFlagDirname("tensorboard")
}

func (f *watchFlags) registerResume(c *cobra.Command) {
	c.Flags().BoolVar(&f.resume, "resume", false, "go on from the newest checkpoint, if there is one of a run that is not complete")
}

// versionToTrain is the dataset version that a run trains on: the newest, which the empty name stands for, or the one of
// the checkpoint that it goes on from.
func (j *job) versionToTrain(ctx context.Context, data place) (string, error) {
	if !j.training.flags.resume {
		return "", nil
	}
	from, err := j.findCheckpoint(ctx)
	if err != nil || from == nil {
		return "", err
	}
	j.training.from = from
	if version := path.Base(from.index.Job.Dataset); data.join(version).String() == from.index.Job.Dataset {
		return version, nil
	}
	return "", nil // of another dataset: restore says so
}

// lookAfter gets everything ready that goes on beside the workers.
func (j *job) lookAfter(ctx context.Context, p prepared, m startModel, cfg *trainers.Config) error {
	if err := j.oversee(ctx, p, m, cfg); err != nil {
		return err
	}
	if j.training.from != nil {
		if err := j.training.from.restore(ctx, j, p, m, cfg); err != nil {
			return err
		}
	}
	kept, err := j.openCheckpoints(ctx, p, m)
	if err != nil {
		return err
	}
	j.training.kept = kept
	kept.oversee(cfg)
	return j.startWatch(ctx, cfg)
}

// startWatch lets people, and those who listen, see a run.
func (j *job) startWatch(ctx context.Context, cfg *trainers.Config) error {
	w := j.newTrainWatch(cfg)
	if cfg.Past != nil {
		w.lines = append(w.lines, cfg.Past.Epochs...)
	}
	cfg.Observer, j.training.watch = w, w
	if err := j.openListeners(ctx, w); err != nil {
		w.close(false)
		return err
	}
	return nil
}

// closeCheckpoints gives the folder of checkpoints back.
func (j *job) closeCheckpoints(ctx context.Context) { j.training.kept.close(ctx) }

// reportEnd says why training ended.
func (j *job) reportEnd(r trainers.Result) {
	if e := r.OrderLogErr; e != nil {
		warning := "--record: " + e.Error() + "; the run cannot be repeated by dkpipe replay"
		j.report.Warnings = append(j.report.Warnings, warning)
		j.app.log.Warn(warning)
	}
	if r.Ended.Reason == "" {
		return
	}
	unmeasured := 0
	for _, e := range r.History {
		if e.Unmeasured {
			unmeasured++
		}
	}
	if unmeasured > 0 {
		w := fmt.Sprintf("%d epochs were not validated, because measuring takes longer than an epoch; set train.validate: {every: N}", unmeasured)
		j.report.Warnings = append(j.report.Warnings, w)
		j.app.log.Warn(w)
	}
	e := r.Ended
	j.report.Ended = &e
	j.events.add("ended", map[string]any{"reason": e.Reason, "text": e.Text, "epoch": e.Epoch, "samples": r.Samples, "seconds": seconds(time.Duration(r.Seconds * float64(time.Second)))})
	if e.Text != "" {
		j.app.log.Info("training ended: "+e.Text, "reason", e.Reason)
	}
}

// openListeners starts what was asked for by flags. Who listens is closed with the watch.
func (j *job) openListeners(ctx context.Context, w *trainWatch) error {
	if name := j.training.flags.report; name != "" { // rather now than after hours
		if info, err := os.Stat(filepath.Dir(name)); err != nil || !info.IsDir() {
			return usage("make the folder first", "--report %s: there is no folder %s", name, filepath.Dir(name))
		}
	}
	if dir := j.training.flags.tensorboard; dir != "" {
		t, err := j.openTensorBoard(dir)
		if err != nil {
			return err
		}
		w.hear.add(t)
	}
	if address := j.training.flags.metrics; address != "" {
		m, err := j.openMetrics(ctx, address, w)
		if err != nil {
			return err
		}
		w.hear.add(m)
	}
	return nil
}
