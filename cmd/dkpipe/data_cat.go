package main

import (
	"context"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
)

type catReport struct{ dataHead }

func (r *catReport) print(*app) {}

func (a *app) dataCatCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cat FILE...",
		Short:   "Write the bytes of files to standard output",
		Long:    "Writes the files one after the other, as they are: nothing is unpacked or decoded.",
		Example: "  dkpipe data cat hdfs://ns/models/digits/LATEST\n  dkpipe data cat 'out/model/v*/metrics.json'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if a.json {
				return usage("leave --json out; dkpipe data checksum --json describes files", "cat writes the bytes of files to standard output, where --json has no place")
			}
			return a.data(c, &catReport{}, func(ctx context.Context, j *job) error {
				found, err := findAll(ctx, j.stores, args)
				if err != nil {
					return err
				}
				for _, e := range found { // before the first byte is written
					if e.info.Dir {
						return usage("dkpipe data ls shows what it holds", "%s is a folder", e)
					}
				}
				for _, e := range found {
					if err := a.cat(ctx, e); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// cat writes one file to standard output.
func (a *app) cat(ctx context.Context, e entry) error {
	f, err := e.fs.Open(ctx, e.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = copyAll(a.stdout, f, e.String(), nil)
	return hdfsio.Wrap("write", "standard output", err)
}
