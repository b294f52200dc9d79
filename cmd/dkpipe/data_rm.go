package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
)

type rmReport struct {
	dataHead
	Removed []string `json:"removed"`
}

func (r *rmReport) print(a *app) {
	for _, name := range r.Removed {
		fmt.Fprintf(a.stdout, "removed %s\n", name)
	}
}

func (a *app) dataRmCommand() *cobra.Command {
	var recursive, force bool
	c := &cobra.Command{
		Use:   "rm [-r] PATH...",
		Short: "Remove files, and with -r folders with everything below them",
		Long: "Removes for good: there is no trash. All paths are looked at before the first one is removed. A whole store, a\n" +
			"pattern for names right below its root, and the working directory are never removed.",
		Example: "  dkpipe data rm hdfs://ns/data/old.csv\n  dkpipe data rm -r out/dataset/v000001",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &rmReport{Removed: []string{}}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				found, err := j.removable(ctx, args, recursive, force)
				if err != nil {
					return err
				}
				for _, e := range found {
					if err := e.fs.Remove(ctx, e.path); err != nil {
						return err
					}
					r.Removed = append(r.Removed, e.String())
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "remove folders, too")
	c.Flags().BoolVarP(&force, "force", "f", false, "what is absent is no error")
	return c
}

// removable finds what names mean and refuses what rm does not remove.
func (j *job) removable(ctx context.Context, names []string, recursive, absentIsFine bool) ([]entry, error) {
	var all []entry
	for _, name := range names {
		u, err := hdfsio.Parse(name)
		if err != nil {
			return nil, err
		}
		if err := neverRemoved(u); err != nil {
			return nil, err
		}
		found, err := find(ctx, j.stores, name)
		if err != nil {
			if absentIsFine && pipelineKind(err) == pipeline.Data {
				continue
			}
			return nil, err
		}
		for _, e := range found {
			if e.info.Dir && !recursive {
				return nil, usage("dkpipe data rm -r removes it with everything below", "%s is a folder", e)
			}
			if err := neverRemoved(e.uri); err != nil { // a pattern can match what contains the working directory
				return nil, err
			}
		}
		all = append(all, found...)
	}
	return all, nil
}

// neverRemoved refuses roots, patterns that mean whatever lies below a root, and the folders that this process is in.
func neverRemoved(u hdfsio.URI) error {
	const hint = "name what should go"
	if isRoot(u.Path) {
		return usage(hint, "%s is a whole store or the working directory; it is never removed", u)
	}
	if top, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/"); strings.HasPrefix(u.Path, "/") && strings.ContainsAny(top, globMeta) {
		return usage("name the folders one by one", "%s is a pattern right below the root; it is never removed", u)
	}
	if !u.Local() {
		return nil
	}
	here, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	full, err := filepath.Abs(filepath.FromSlash(u.Path))
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(full, here); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return usage(hint, "%s holds the working directory; it is never removed", u)
	}
	return nil
}
