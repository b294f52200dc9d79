package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
)

// usedBy is one line of du.
type usedBy struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Files int64  `json:"files"`
}

type duReport struct {
	dataHead
	Bytes   int64    `json:"bytes"`
	Files   int64    `json:"files"`
	Entries []usedBy `json:"entries"`

	size func(int64) string
}

func (r *duReport) print(a *app) {
	for _, e := range r.Entries {
		fmt.Fprintf(a.stdout, "%12s %9s  %s\n", r.size(e.Bytes), thousands(e.Files), e.Path)
	}
}

func (a *app) dataDuCommand() *cobra.Command {
	var summary, human bool
	c := &cobra.Command{
		Use:   "du [-s] PATH...",
		Short: "Add up sizes",
		Long: "Shows the bytes and the number of files of everything that a folder holds, hidden names too; with -s of the folder\n" +
			"itself. Bytes are those of the files; replicas are not counted.",
		Example: "  dkpipe data du hdfs://ns/data\n  dkpipe data du -s out/model --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &duReport{Entries: []usedBy{}, size: a.sizes(human)}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				found, err := findAll(ctx, j.stores, args)
				if err != nil {
					return err
				}
				for _, e := range found {
					err := e.list(ctx, false, summary, func(e entry) error {
						files, bytes, err := hdfsio.Size(ctx, e.fs, e.path)
						r.Entries = append(r.Entries, usedBy{e.String(), bytes, files})
						r.Bytes, r.Files = r.Bytes+bytes, r.Files+files
						return err
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&summary, "summary", "s", false, "one line for every path")
	humanFlag(c, &human)
	return c
}
