package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
)

// foreignAge is the age at which a temporary file of another machine, whose processes cannot be seen from here, is taken
// for left over.
const foreignAge = 7 * 24 * time.Hour

// ownName is the name of a temporary file or folder of this process.
func ownName(prefix string) string {
	return fmt.Sprintf("%s%s-%x", prefix, publish.OwnerTag(), time.Now().UnixNano())
}

// removeLeftovers removes what killed processes left in a folder under names that ownName made of a prefix, perhaps with
// more behind. What cannot be removed stays: it is in nobody's way. unwanted, which may be nil, is asked before.
func (j *job) removeLeftovers(ctx context.Context, fsys hdfsio.FS, dir, prefix string, unwanted func(name string) bool) {
	entries, err := fsys.ReadDir(ctx, dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		tag, ok := strings.CutPrefix(e.Name, prefix)
		tag, _, dashed := strings.Cut(tag, "-")
		if !ok || dashed && !publish.OwnerGone(tag) && time.Since(e.ModTime) < foreignAge || !dashed && time.Since(e.ModTime) < foreignAge {
			continue
		}
		if unwanted != nil && !unwanted(e.Name) {
			continue
		}
		if err := fsys.Remove(ctx, path.Join(dir, e.Name)); err != nil {
			j.app.log.Warn("removing what a killed run has left", "name", path.Join(dir, e.Name), "error", err)
		}
	}
}

// refuseToReplace refuses to write onto a file that is read, whatever names the two are given.
func (j *job) refuseToReplace(ctx context.Context, files []string, out string) error {
	if len(files) == 0 || strings.HasPrefix(out, tablePrefix) {
		return nil
	}
	to, err := openPlace(ctx, j.stores, out)
	if err != nil {
		return err
	}
	target, there, err := stat(ctx, to)
	if err != nil || !there {
		return err
	}
	for _, name := range files {
		from, err := openPlace(ctx, j.stores, name)
		if err != nil {
			return err
		}
		info, err := from.fs.Stat(ctx, from.path)
		if err != nil {
			return err
		}
		// Two ways to one store, such as an HDFS by its name service and by its address, are two stores here; what they hold
		// has the same identity.
		same := info.ID == target.ID && info.ID != 0 && info.Size == target.Size && info.ModTime.Equal(target.ModTime)
		if same && from.uri.Scheme == to.uri.Scheme || path.Clean(name) == path.Clean(out) {
			return usage("write to another file", "--out %s is one of the files of --in", out)
		}
	}
	return nil
}

// writePredictions runs the whole table into a new file beside its final name, and renames it.
func (j *job) writePredictions(ctx context.Context, o predictOptions, format pipeline.Format, p *predictor) (rows int64, err error) {
	at, err := openPlace(ctx, j.stores, o.out)
	if err != nil {
		return 0, err
	}
	info, err := at.fs.Stat(ctx, at.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, err
	case info.Dir:
		return 0, usage("name a file, for example "+at.join("predictions.parquet").String(), "--out %s is a folder", o.out)
	case o.mode == "error":
		return 0, usage("choose another name, or --mode overwrite", "--out %s exists", o.out)
	}
	dir, base := path.Split(at.path)
	prefix := "." + base + ".part-"
	j.removeLeftovers(ctx, at.fs, path.Clean(dir), prefix, nil)
	temp := dir + ownName(prefix)
	f, err := at.fs.Create(ctx, temp)
	if err != nil {
		if _, there, _ := stat(ctx, at.beside(".")); !there && errors.Is(err, fs.ErrNotExist) {
			return 0, usage("make it, or name another file", "--out %s: there is no folder %s", o.out, at.beside("."))
		}
		return 0, withHint(err, "the folder of --out must exist and be writable")
	}
	defer func() {
		if err != nil {
			f.Abort()
			_ = at.fs.Remove(context.WithoutCancel(ctx), temp) // what Abort could not remove
		}
	}()
	b := j.bars.start("predict", 0)
	defer func() { b.done(err == nil, thousands(rows)+" rows") }()
	rows, err = p.writeTo(ctx, f, format, p.progress(b))
	if err == nil {
		err = f.Close()
	}
	j.app.crash("predictions written")
	if err == nil {
		err = at.fs.Rename(ctx, temp, at.path)
	}
	return rows, err
}
