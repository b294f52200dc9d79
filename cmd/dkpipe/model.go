package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/trainers"
)

func (a *app) modelCommand() *cobra.Command {
	c := &cobra.Command{Use: "model", Short: "Look at published models and move between versions",
		Example: "  dkpipe model inspect out/model\n  dkpipe model rollback out/model",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.modelInspectCommand(), a.modelRollbackCommand())
	return c
}

func (a *app) modelInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "inspect MODEL",
		Short:   "Show a model's layers, its transformers, its metrics and where it came from",
		Example: "  dkpipe model inspect out/model\n  dkpipe model inspect out/model/v000002 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			j, err := a.commandJob("model inspect")
			if err != nil {
				return err
			}
			b, at, err := j.openBundle(c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(map[string]any{"command": "model inspect", "status": "ok", "model": at.String(), "info": b.Info, "metrics": b.Metrics,
					"parameters": len(b.Params), "transform": b.Transform, "x": b.X, "y": b.Y})
				return nil
			}
			net, err := b.Network(1)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s\n\n%s\n", at, net.Summary())
			fmt.Fprintf(a.stdout, "trained   %s by %s on %s (run %s, %s)\n", b.Info.Created.Format("2006-01-02 15:04:05 UTC"), b.Info.Trainer, b.Info.Dataset, b.Info.Run, b.Info.Status)
			printMetrics(a.stdout, b.Metrics)
			for _, f := range b.Transform {
				fmt.Fprintf(a.stdout, "transform %s: %s -> %s\n", f.Op, inputsOf(f), outputsOf(f))
			}
			for _, w := range j.report.Warnings {
				fmt.Fprintf(a.stdout, "warning: %s\n", w)
			}
			return nil
		},
	}
}

func (a *app) modelRollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rollback MODEL [VERSION]",
		Short:   "Point LATEST to the version before, or to a named one",
		Example: "  dkpipe model rollback out/model\n  dkpipe model rollback out/model v000003",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			j, err := a.commandJob("model rollback")
			if err != nil {
				return err
			}
			root, err := openPlace(ctx, j.stores, args[0])
			if err != nil {
				return err
			}
			if _, err := root.fs.Stat(ctx, root.path); err != nil {
				return err
			}
			var to publish.Version
			if len(args) == 2 {
				if to, err = publish.ParseVersion(args[1]); err != nil {
					return err
				}
			}
			lock, err := j.lock(ctx, root)
			if err != nil {
				return err
			}
			defer j.release(ctx, lock)
			from, now, err := lock.Rollback(ctx, to)
			if err != nil {
				return withHint(err, fmt.Sprintf("the versions are the folders v… of %s; name a complete one", root))
			}
			if a.json {
				a.printJSON(map[string]any{"command": "model rollback", "status": "ok", "model": root.String(), "from": from, "to": now})
				return nil
			}
			fmt.Fprintf(a.stdout, "LATEST of %s: %s -> %s\n", root, from, now)
			return nil
		},
	}
}

// printMetrics prints a line for every split that was measured.
func printMetrics(w io.Writer, metrics json.RawMessage) {
	var bySplit map[string]trainers.Evaluation
	if json.Unmarshal(metrics, &bySplit) != nil {
		fmt.Fprintf(w, "metrics   %s\n", metrics)
		return
	}
	for _, split := range slices.Sorted(maps.Keys(bySplit)) {
		e := bySplit[split]
		fmt.Fprintf(w, "%-9s %s rows", split, thousands(e.Rows))
		for _, m := range e.Metrics {
			fmt.Fprintf(w, "   %s %s", m.Name, formatMetric(m.Name, m.Value))
		}
		fmt.Fprintln(w)
	}
}

// inputsOf names what a step reads, with an ellipsis for many.
func inputsOf(f expr.Fitted) string {
	if n := len(f.Inputs); n > 4 {
		return fmt.Sprintf("%s, %s … %s (%d columns)", f.Inputs[0], f.Inputs[1], f.Inputs[n-1], n)
	}
	return strings.Join(f.Inputs, ", ")
}

// outputsOf shows what a step makes, as formulas.
func outputsOf(f expr.Fitted) string {
	var out []string
	for _, c := range f.Outputs {
		formula := []rune(c.Expr.String())
		if len(formula) > 100 {
			formula = append(formula[:99], '…')
		}
		out = append(out, fmt.Sprintf("%s = %s", c.Name, string(formula)))
	}
	return strings.Join(out, "; ")
}

// usage makes an error about the command line.
func usage(hint, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Usage, Message: fmt.Sprintf(format, args...), Hint: hint}
}
