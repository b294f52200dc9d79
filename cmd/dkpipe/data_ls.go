package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// listed is a file or folder in the JSON of ls.
type listed struct {
	Path     string    `json:"path"`
	Type     string    `json:"type"` // file or dir
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
	Owner    string    `json:"owner,omitempty"`
}

type lsReport struct {
	dataHead
	Entries []listed `json:"entries"`
}

func (r *lsReport) print(*app) {} // printed as it was found

func (a *app) dataLsCommand() *cobra.Command {
	var recursive, folders, human bool
	c := &cobra.Command{
		Use:     "ls [-R] PATH...",
		Short:   "List files and folders",
		Long:    "Lists what folders hold, hidden names too. Each line has d or -, size, owner, time and path.",
		Example: "  dkpipe data ls hdfs://ns/data\n  dkpipe data ls -R out/model --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &lsReport{Entries: []listed{}}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				found, err := findAll(ctx, j.stores, args)
				if err != nil {
					return err
				}
				size := a.sizes(human)
				show := func(e entry) error { a.list(r, e, size); return nil }
				for _, e := range found {
					if err := e.list(ctx, recursive, folders, show); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "R", false, "list folders below folders, too")
	c.Flags().BoolVarP(&folders, "directory", "d", false, "list folders themselves, not what they hold")
	humanFlag(c, &human)
	return c
}

// list visits an entry as ls means it: a file is itself, a folder what it holds.
func (e entry) list(ctx context.Context, recursive, folders bool, visit func(entry) error) error {
	if folders || !e.info.Dir {
		return visit(e)
	}
	if recursive {
		return e.walk(ctx, func(below entry) error {
			if below.path == e.path {
				return nil
			}
			return visit(below)
		})
	}
	infos, err := e.fs.ReadDir(ctx, e.path)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := visit(entry{e.join(info.Name), info}); err != nil {
			return err
		}
	}
	return nil
}

// list prints one entry, or keeps it for the JSON.
func (a *app) list(r *lsReport, e entry, size func(int64) string) {
	l := listed{Path: e.String(), Type: "file", Bytes: e.info.Size, Modified: e.info.ModTime.UTC(), Owner: e.info.Owner}
	kind, bytes := "-", size(l.Bytes)
	if e.info.Dir {
		l.Type, kind, bytes = "dir", "d", "-"
	}
	if a.json {
		r.Entries = append(r.Entries, l)
		return
	}
	fmt.Fprintf(a.stdout, "%s %12s  %-8s  %s  %s\n", kind, bytes, l.Owner, e.info.ModTime.Local().Format("2006-01-02 15:04"), l.Path)
}
