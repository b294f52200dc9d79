package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dkpipe/pipeline/spec"
)

func (a *app) preprocessCommand() *cobra.Command {
	var flags specFlags
	var explain bool
	c := &cobra.Command{
		Use:     "preprocess -f SPEC",
		Short:   "Make a dataset of a source: fit, transform, split, write",
		Example: "  dkpipe preprocess -f job.yaml --explain\n  dkpipe preprocess -f job.yaml --set dataset.shards=8",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			j, err := a.newJob("preprocess", &flags, spec.ForPreprocess)
			if err != nil {
				return err
			}
			if explain {
				return j.explain(c.Context())
			}
			return j.finish(c.Context(), j.runPreprocess(c.Context()))
		},
	}
	flags.register(c)
	flags.registerForce(c)
	c.Flags().BoolVar(&explain, "explain", false, "print the plan and write nothing")
	return c
}

func (j *job) runPreprocess(ctx context.Context) error {
	p, skipped, err := j.preprocess(ctx, false)
	if err != nil {
		return err
	}
	j.report.Skipped = skipped
	j.describe(p)
	j.report.next = []string{program() + " train -f " + j.flags.file}
	return nil
}

func (j *job) explain(ctx context.Context) error {
	plan, engine, err := j.plan(ctx, false)
	if err != nil {
		return err
	}
	text, err := engine.Explain(ctx, plan)
	if err != nil {
		return err
	}
	if j.app.json {
		j.app.printJSON(map[string]string{"command": "preprocess", "status": "ok", "plan": text})
		return nil
	}
	_, err = fmt.Fprint(j.app.stdout, text)
	return err
}
