package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
)

func (a *app) modelCommand() *cobra.Command {
	c := &cobra.Command{Use: "model", Short: "Look at models, convert and export them, and move between versions",
		Long: "A model is a folder that dkpipe published, one of its versions, or a file: .keras, .h5 (read only), Keras JSON (a\n" +
			"definition without weights) or .safetensors. Files may lie on any store. What is written appears complete or not at\n" +
			"all; a file that is there is replaced only with --force. Nothing in a model file is ever executed.",
		Example: "  dkpipe model inspect out/model\n  dkpipe model export --to onnx --out model.onnx out/model\n  dkpipe model rollback out/model",
		RunE:    a.group}
	c.AddCommand(a.modelInspectCommand(), a.modelConvertCommand(), a.modelExportCommand(), a.modelInitCommand(), a.modelDiffCommand(), a.modelRollbackCommand())
	return c
}

func (a *app) modelRollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rollback MODEL [VERSION]",
		Short:   "Point LATEST to the version before, or to a named one",
		Example: "  dkpipe model rollback out/model\n  dkpipe model rollback out/model v000003",
		Args:    cobra.RangeArgs(1, 2),

		ValidArgsFunction: a.completeVersion,
		RunE: func(c *cobra.Command, args []string) error {
			j, err := a.commandJob("model rollback")
			if err != nil {
				return err
			}
			return j.events.end(c.Context(), "model rollback", j.rollback(c.Context(), args))
		},
	}
}

// rollback moves LATEST of a model, args[0], to the version before or to args[1].
func (j *job) rollback(ctx context.Context, args []string) error {
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
	if j.app.json {
		j.app.printJSON(map[string]any{"command": "model rollback", "status": "ok", "model": root.String(), "from": from, "to": now})
		return nil
	}
	fmt.Fprintf(j.app.stdout, "LATEST of %s: %s -> %s\n", root, from, now)
	return nil
}

// usage makes an error about the command line.
func usage(hint, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Usage, Message: fmt.Sprintf(format, args...), Hint: hint}
}
