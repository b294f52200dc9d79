package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
)

func (a *app) runCommand() *cobra.Command {
	var flags specFlags
	var look watchFlags
	c := &cobra.Command{
		Use:   "run -f SPEC",
		Short: "Do the whole job: preprocess, train, evaluate, publish",
		Long: "Does the whole job of a spec. Outputs appear in one step each; a run that ends early, however it ends, leaves\n" +
			"the last LATEST as it was. With --slot a job is done once for each slot, so cron may start it again at any time.\n\n" + exitCodesHelp,
		Example: "  dkpipe run -f examples/quickstart/job.yaml\n  dkpipe run -f job.yaml --slot \"$(date -u +%Y-%m-%dT%H)\" --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			j, err := a.newJob("run", &flags, spec.ForRun)
			if err != nil {
				return err
			}
			j.training.flags = look
			return j.finish(c.Context(), j.runAll(c.Context()))
		},
	}
	flags.register(c)
	flags.registerForce(c)
	look.register(c)
	flags.registerLaunch(c)
	flags.registerRecord(c)
	return c
}

// runAll takes the model's lock first and keeps it: of two runs of one job, the second ends before it has done anything.
func (j *job) runAll(ctx context.Context) error {
	return j.withModelLock(ctx, func(ctx context.Context, root place, lock *publish.Lock) error {
		// What is wrong with the training half of the spec is found before hours of preprocessing.
		if err := j.checkTraining(ctx); err != nil {
			return err
		}
		prepare := func(ctx context.Context) (prepared, error) {
			p, _, err := j.preprocess(ctx, true)
			return p, err
		}
		if j.spec.Dataset.Live {
			prepare = func(ctx context.Context) (prepared, error) { return j.prepareLive(ctx, lock) }
		}
		p, err := prepare(ctx)
		if err != nil {
			return err
		}
		j.app.crash("preprocessed")
		return j.trainAndPublish(ctx, root, lock, p)
	})
}

// checkTraining finds what is wrong with the training without the data: names, settings that exclude each other, a gate
// that cannot be measured. What depends on widths is found when the data is there.
func (j *job) checkTraining(ctx context.Context) error {
	t := j.spec.Train
	alg, algErr := buildAlgorithm(t.Trainer)
	opt, optErr := buildOptimizer(t, nil)
	if err := spec.Join(algErr, optErr); err != nil {
		return err
	}
	if e, ok := alg.(trainers.Ensemble); ok {
		if err := j.checkEnsemble(e); err != nil {
			return err
		}
	}
	if c, ok := alg.(trainers.Checker); ok {
		if _, err := c.Check(t.Workers, t.Window); err != nil {
			return placed(t.Pos, err)
		}
	}
	if _, ok := alg.Local(t.Workers, opt).(trainers.Adder); !ok && t.Codec != "fp32" {
		return placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("train.codec %s is for trainers whose commits are changes, and those of %s are whole models", t.Codec, alg.Name()),
			Hint: "leave train.codec out, or choose another trainer, such as agn"})
	}
	if err := trainers.CheckMetrics(t.Metrics); err != nil {
		return placed(t.Pos, err)
	}
	if t.ReduceOnPlateau != nil && constantRate(t) == 0 {
		return placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: "train.reduce_on_plateau changes the learning rate, and the optimizer's learning_rate is a schedule, which does so, too",
			Hint: "write a number, such as learning_rate: 0.01, or leave reduce_on_plateau out"})
	}
	if err := checkModelOf(ctx, j.stores, j.spec); err != nil {
		return err
	}
	if err := checkGate(j.spec); err != nil {
		return err
	}
	return j.checkSurroundings()
}

// checkSurroundings finds what is wrong with addresses and files of this machine that training will need.
func (j *job) checkSurroundings() error {
	t, look := j.spec.Train, j.training.flags
	if remote := t.Launch == "join" || t.Launch == "spark"; remote && (t.Listen != "" || t.Advertise != "") {
		listen := t.Listen
		if listen == "" {
			listen = anyLocalPort
		}
		if err := psrpc.CheckAddress(listen, t.Advertise); err != nil {
			return placed(t.Pos, err)
		}
	}
	if t.Launch == "spark" && j.spec.Spark.Remote == "" {
		return placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: "train.launch is spark, and spark.remote is not set",
			Hint: "add spark: {remote: sc://host:15002}, or set SPARK_REMOTE"})
	}
	if look.metrics != "" {
		if err := checkMetricsAddress(look.metrics); err != nil {
			return err
		}
	}
	if look.report != "" {
		if info, err := os.Stat(filepath.Dir(look.report)); err != nil || !info.IsDir() {
			return usage("make it, or name another file", "--report %s: there is no folder %s", look.report, filepath.Dir(look.report))
		}
	}
	if dir := j.flags.recordFolder(); dir != "" {
		return j.checkRecord(dir)
	}
	return nil
}
