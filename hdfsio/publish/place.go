package publish

import (
	"bytes"
	"context"
	"path"
	"time"

	"dkpipe/hdfsio"
)

// maxSmall bounds the files that are read whole: markers, slots, the lock.
const maxSmall = 64 << 20

// settleTime bounds the looking after a call whose outcome is open. It runs even when the caller's context is over.
const settleTime = 20 * time.Second

// place is a root on a store.
type place struct {
	fs   hdfsio.FS
	root string
	id   string             // of the lock: begins the names of its temporary files
	at   func(point string) // nil: nobody wants to know
}

func (p place) path(elem ...string) string {
	return path.Join(append([]string{p.root}, elem...)...)
}

// name gives a path of the store for people.
func (p place) name(path string) string { return hdfsio.Name(p.fs, path) }

// step does one observable step and tells the points before and after it.
func (p place) step(point string, do func() error) error {
	if p.at != nil {
		p.at(point + ": before")
	}
	err := do()
	if p.at != nil {
		p.at(point + ": after")
	}
	return err
}

// settling gives a context for cleaning up and looking, which outlives the caller's.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTime)
}

// replace puts a small file in place in one step: a temporary file beside it, then a rename over it. When the rename
// gives an error, the file is read: if it has our bytes, the rename was done and only its answer got lost.
func (p place) replace(ctx context.Context, point, name string, data []byte) error {
	dir, base := path.Split(name)
	temp := dir + tempPrefix + p.id + "-" + newID()[:8]
	err := p.step(point+" written", func() error { return hdfsio.WriteFile(ctx, p.fs, temp, data) })
	if err == nil {
		err = p.step(point+" renamed", func() error { return p.fs.Rename(ctx, temp, name) })
	}
	if err == nil {
		return nil
	}
	sctx, cancel := settling(ctx)
	defer cancel()
	if got, readErr := hdfsio.ReadFile(sctx, p.fs, name, maxSmall); readErr == nil && bytes.Equal(got, data) {
		err = nil
	}
	p.fs.Remove(sctx, temp) // what stays behind is collected by the next run
	return hdfsio.Wrap("replace", p.name(dir+base), err)
}
