package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
)

// copied is one file of put or get.
type copied struct {
	From string `json:"from"`
	To   string `json:"to"`
	sum
}

type copyReport struct {
	dataHead
	Files   int64    `json:"files"`
	Bytes   int64    `json:"bytes"`
	Entries []copied `json:"entries"`
}

func (r *copyReport) print(a *app) {
	fmt.Fprintf(a.stdout, "%s, %s, verified: ", plural(r.Files, "file"), humanBytes(r.Bytes))
	if len(r.Entries) == 1 {
		fmt.Fprintf(a.stdout, "%s\n", r.Entries[0].To)
	} else {
		fmt.Fprintf(a.stdout, "%.2f s\n", r.Seconds)
	}
}

const copyHelp = "A source may be a file, a folder with everything below it, or a pattern; source and target may be on any store. Into a\n" +
	"folder that exists, or one whose name is given with a slash at its end, a source goes under its own name; else the\n" +
	"target is the new name. Missing folders above the target are made.\n\n" +
	"Every file is written under a hidden name and read back; only when length and SHA-256 are those that were read from\n" +
	"the source it gets its name. A folder gets its name when all its files are there. A file that exists is replaced only\n" +
	"with --force, in one step; a folder that exists is not replaced."

func (a *app) dataPutCommand() *cobra.Command {
	return a.copyCommand(&cobra.Command{
		Use:     "put SOURCE... TARGET",
		Short:   "Copy files and folders to a store, verified",
		Long:    copyHelp,
		Example: "  dkpipe data put digits.csv hdfs://ns/data/digits.csv\n  dkpipe data put out/model/v000001 hdfs://ns/models/",
		Args:    cobra.MinimumNArgs(2),
	})
}

func (a *app) dataGetCommand() *cobra.Command {
	return a.copyCommand(&cobra.Command{
		Use:     "get SOURCE... [TARGET]",
		Short:   "Copy files and folders from a store, verified",
		Long:    "Without TARGET a single source goes into the working directory.\n\n" + copyHelp,
		Example: "  dkpipe data get hdfs://ns/models/digits/v000003\n  dkpipe data get 'hdfs://ns/data/*.csv' raw/",
		Args:    cobra.MinimumNArgs(1),
	})
}

func (a *app) copyCommand(c *cobra.Command) *cobra.Command {
	var force bool
	c.Flags().BoolVarP(&force, "force", "f", false, "replace files that exist")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			args = append(args, ".")
		}
		r := &copyReport{Entries: []copied{}}
		return a.data(c, r, func(ctx context.Context, j *job) error {
			tasks, err := j.planCopy(ctx, args[:len(args)-1], args[len(args)-1], force)
			if err != nil {
				return err
			}
			return j.copy(ctx, c.Name(), tasks, r)
		})
	}
	return c
}

// copyTask is one source with its target.
type copyTask struct {
	from  entry
	to    place
	below []entry // of a folder: everything below it
}

// planCopy resolves sources and target and refuses what cannot be done, before anything is written.
func (j *job) planCopy(ctx context.Context, sources []string, target string, force bool) ([]copyTask, error) {
	from, err := findAll(ctx, j.stores, sources)
	if err != nil {
		return nil, err
	}
	to, err := openPlace(ctx, j.stores, target)
	if err != nil {
		return nil, err
	}
	info, there, err := stat(ctx, to)
	if err != nil {
		return nil, err
	}
	into := there && info.Dir || !there && strings.HasSuffix(target, "/")
	if !into && len(from) > 1 {
		if there {
			return nil, usage("name a folder", "%s is a file, and there are %d sources", to, len(from))
		}
		return nil, usage("write "+target+"/ to make it", "%s is not a folder, and there are %d sources", to, len(from))
	}
	if dir := to; into && there {
		j.tidy(ctx, dir)
	} else if !into {
		j.tidy(ctx, to.beside("."))
	}
	taken := map[string]entry{}
	var tasks []copyTask
	for _, e := range from {
		t := copyTask{from: e, to: to}
		if into {
			if isRoot(e.path) {
				return nil, usage("name the folder, or give the target a name that does not exist yet", "%s has no name of its own to go by below %s", e, to)
			}
			t.to = to.join(path.Base(e.path))
		}
		if other, ok := taken[t.to.path]; ok {
			return nil, usage("copy them one after the other, under names of their own", "%s and %s would both become %s", other, e, t.to)
		}
		taken[t.to.path] = e
		if err := t.check(ctx, force); err != nil {
			return nil, err
		}
		if e.info.Dir {
			err := e.walk(ctx, func(below entry) error { t.below = append(t.below, below); return nil })
			if err != nil {
				return nil, err
			}
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// check refuses a target that stands in the way.
func (t copyTask) check(ctx context.Context, force bool) error {
	now, there, err := stat(ctx, t.to)
	switch {
	case err != nil || !there:
		return err
	case now.Dir && !t.from.info.Dir:
		return usage("choose another name", "%s is a folder, %s is a file", t.to, t.from)
	case now.Dir:
		return usage("remove it before, or choose another name", "the folder %s exists", t.to)
	case t.from.info.Dir:
		return usage("choose another name", "%s is a file, %s is a folder", t.to, t.from)
	case !force:
		return usage("--force replaces it", "%s exists", t.to)
	}
	return nil
}

// copy does what was planned.
func (j *job) copy(ctx context.Context, name string, tasks []copyTask, r *copyReport) (err error) {
	var all int64
	for _, t := range tasks {
		all += t.from.info.Size + total(t.below)
	}
	bar := j.bars.start(name, 0)
	defer func() { bar.done(err == nil, humanBytes(r.Bytes)) }()
	file := func(from entry, to place) (sum, error) {
		s, err := copyFile(ctx, from.place, to, func(n int64) { bar.set(r.Bytes+n, all, humanBytes(r.Bytes+n)) })
		if err == nil {
			r.Files, r.Bytes = r.Files+1, r.Bytes+s.Bytes
		}
		return s, err
	}
	for _, t := range tasks {
		done, err := j.copyOne(ctx, t, file)
		if err != nil {
			return err
		}
		r.Entries = append(r.Entries, done...)
	}
	return nil
}

// copyOne copies one file or folder beside its target and moves it there.
func (j *job) copyOne(ctx context.Context, t copyTask, file func(from entry, to place) (sum, error)) (done []copied, err error) {
	if err := t.to.fs.Mkdir(ctx, path.Dir(t.to.path)); err != nil {
		return nil, err
	}
	temp := t.to.beside(ownName(tempPrefix))
	defer func() {
		if err != nil {
			j.discard(ctx, temp)
		}
	}()
	if !t.from.info.Dir {
		s, err := file(t.from, temp)
		if err != nil {
			return nil, err
		}
		j.app.crash("copied")
		return []copied{{t.from.String(), t.to.String(), s}}, move(ctx, temp, t.to)
	}
	for _, e := range t.below {
		rel := relative(t.from.path, e.path)
		if e.info.Dir {
			if err := temp.fs.Mkdir(ctx, temp.join(rel).path); err != nil {
				return nil, err
			}
			continue
		}
		s, err := file(e, temp.join(rel))
		if err != nil {
			return nil, err
		}
		done = append(done, copied{e.String(), t.to.join(rel).String(), s})
	}
	j.app.crash("copied")
	return done, move(ctx, temp, t.to)
}

// relative gives the part of a name below a root that it was found at.
func relative(root, name string) string {
	switch root {
	case name:
		return ""
	case ".":
		return name
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
}

// copyFile copies one file to a new name. The source must be the same file at the end as it was at the start.
func copyFile(ctx context.Context, from, to place, read func(int64)) (sum, error) {
	before, err := from.fs.Stat(ctx, from.path)
	if err != nil {
		return sum{}, err
	}
	f, err := from.fs.Open(ctx, from.path)
	if err != nil {
		return sum{}, err
	}
	defer f.Close()
	s, err := keep(ctx, to, func(w io.Writer) error {
		_, err := copyAll(w, f, from.String(), read)
		return err
	})
	if err != nil {
		return s, err
	}
	now, there, err := stat(ctx, from)
	if err == nil && (!there || now.Size != s.Bytes || now.ID != before.ID || !now.ModTime.Equal(before.ModTime)) {
		err = &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("%s changed while it was copied", from),
			Hint: "somebody else writes it: wait, and run the same command again"}
	}
	return s, err
}
