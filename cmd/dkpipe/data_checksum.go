package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// summed is a file and what it holds.
type summed struct {
	Path string `json:"path"`
	sum
}

type checksumReport struct {
	dataHead
	Files   int64    `json:"files"`
	Bytes   int64    `json:"bytes"`
	Entries []summed `json:"entries"`
}

func (r *checksumReport) print(a *app) {
	for _, e := range r.Entries {
		fmt.Fprintf(a.stdout, "%s  %12d  %s\n", e.SHA256, e.Bytes, e.Path)
	}
}

func (a *app) dataChecksumCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "checksum PATH...",
		Short: "Show SHA-256 and length of files",
		Long: "Reads every file at and below the paths, hidden ones too, and shows SHA-256, bytes and path. The sum is the one that\n" +
			"sha256sum shows and that manifests hold, so it is the same on every store.",
		Example: "  dkpipe data checksum out/model/v000001\n  dkpipe data checksum 'hdfs://ns/data/*.parquet' --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &checksumReport{Entries: []summed{}}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				found, err := findAll(ctx, j.stores, args)
				if err != nil {
					return err
				}
				files, err := filesOf(ctx, found)
				if err != nil {
					return err
				}
				all := total(files)
				bar := j.bars.start("checksum", 0)
				defer func() { bar.done(err == nil, humanBytes(r.Bytes)) }()
				for _, f := range files {
					s, sumErr := sumFile(ctx, f.place, func(n int64) { bar.set(r.Bytes+n, all, humanBytes(r.Bytes+n)) })
					if err = sumErr; err != nil {
						return err
					}
					r.Entries = append(r.Entries, summed{f.String(), s})
					r.Files, r.Bytes = r.Files+1, r.Bytes+s.Bytes
				}
				return nil
			})
		},
	}
}
