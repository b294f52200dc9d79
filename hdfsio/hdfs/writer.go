package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"dkpipe/hdfsio"
)

// piece is how much is given to the library at once: it copies all of a write before it sends the first byte.
const piece = 256 << 10

// Waiting for a NameNode that has not yet heard of enough replicas.
const (
	firstReplicaWait = 2 * time.Millisecond
	lastReplicaWait  = 2 * time.Second
)

// writer is a file being written; it implements hdfsio.Writer. One goroutine writes and closes; Abort may come from
// another.
type writer struct {
	fs   *FS
	name string
	id   uint64
	c    *client // ours alone until the end

	cancelled func() error                // why the context given to Create is over, or nil
	done      <-chan struct{}             // of that context
	stat      func() (os.FileInfo, error) // under that context
	remove    func()                      // also when that context is over
	unwatch   func() bool                 // releases what watches it

	own   sync.Mutex // held for moments
	given bool       // the client was given back to the pool

	mu     sync.Mutex // held while something is written
	lib    *hdfs.FileWriter
	n      int64
	failed error
	over   bool
}

var _ hdfsio.Writer = (*writer)(nil)

// Create makes a new file for this user alone to write: the NameNode gives the name to one of many.
func (f *FS) Create(ctx context.Context, name string) (hdfsio.Writer, error) {
	name, err := f.clean("create", name)
	if err != nil {
		return nil, err
	}
	// This finds a client whose connection works: what follows is not repeated when its answer is lost.
	switch _, err := f.stat(ctx, "create", name); {
	case err == nil:
		return nil, hdfsio.Wrap("create", f.URI(name), fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	w := &writer{fs: f, name: name}
	mode := os.FileMode(0o666 &^ *f.o.Umask)
	w.c, err = f.callAndKeep(ctx, "create", f.URI(name), func(c *client) (err error) {
		w.lib, err = c.CreateFile(name, f.o.Replication, f.o.BlockSize, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.watch(ctx)
	fi, err := w.stat()
	if err == nil {
		w.id = infoOf(fi).ID
		err = served("create", f.URI(name), fi)
	}
	if err != nil {
		w.Abort()
		return nil, hdfsio.Wrap("create", f.URI(name), err)
	}
	return w, nil
}

// watch ties the writer to the context of Create.
func (w *writer) watch(ctx context.Context) {
	w.cancelled = func() error { return ended(ctx) }
	w.done = ctx.Done()
	w.stat = func() (os.FileInfo, error) { return w.fs.stat(ctx, "close", w.name) }
	w.remove = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer cancel()
		_ = w.fs.remove(ctx, w.name, w.id) // what cannot be removed now is garbage for the next run
	}
	w.unwatch = context.AfterFunc(ctx, func() { w.c.kill(ended(ctx)) })
}

// Write sends bytes on their way. An error may come late, but at the latest Close has it.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.state(); err != nil {
		return 0, w.poison("write", err)
	}
	n := 0
	for n < len(p) {
		m, err := w.lib.Write(p[n:min(n+piece, len(p))])
		n += m
		if b := w.state(); b != nil { // the connections know more than the library tells
			err = b
		}
		if err != nil {
			return n, w.poison("write", err)
		}
	}
	w.n += int64(n)
	return n, nil
}

// state tells why the file cannot be written any more, or nil.
func (w *writer) state() error {
	switch {
	case w.failed != nil:
		return w.failed
	case w.over:
		return fs.ErrClosed
	}
	if err := w.cancelled(); err != nil {
		return err
	}
	return w.c.broken()
}

// poison makes an error final.
func (w *writer) poison(op string, err error) error {
	if w.over {
		return hdfsio.Wrap(op, w.fs.URI(w.name), err)
	}
	if w.failed == nil {
		w.failed = wrap(op, w.fs.URI(w.name), w.fs.o.User, plain(w.c.cause(w.cancelled(), err)))
		var e *hdfsio.Error
		var node *atDatanode
		switch {
		case !errors.As(w.failed, &e) || e.Kind == hdfsio.KindInterrupted:
		case errors.As(w.failed, &node):
			e.Hint = "run again: the NameNode leaves out a datanode that it has not heard of for some minutes (hdfs dfsadmin -report)"
		case e.Hint == "":
			e.Hint = "the file is not usable: remove it and write it again"
		}
	}
	return w.failed
}

// Close returns nil when the NameNode has the file complete, with the identity it got at Create and the length that
// was written.
func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.state(); err != nil {
		return w.poison("close", err)
	}
	limit := time.AfterFunc(w.fs.o.Timeout, func() {
		w.c.kill(&silent{"the file was not complete", w.fs.o.Timeout})
	})
	defer limit.Stop()
	if err := w.complete(); err != nil {
		return w.poison("close", err)
	}
	fi, err := w.stat()
	if err != nil {
		return w.poison("close", err)
	}
	if info := infoOf(fi); info.Size != w.n || info.ID != w.id {
		return w.poison("close", &hdfsio.Error{Op: "close", Path: w.fs.URI(w.name), Kind: hdfsio.KindChanged,
			Err: fmt.Errorf("%d bytes were written, but HDFS has %d, or another file of that name", w.n, info.Size)})
	}
	w.over = true
	if w.unwatch() {
		w.own.Lock()
		w.given = true
		w.own.Unlock()
		w.fs.give(w.c, false)
	} else {
		w.c.Close() // the context ended this moment and is breaking the client
	}
	return nil
}

// complete asks the NameNode to close the file until enough replicas are known. Only that answer is a reason to ask
// again: after any other error a later success could be that of a file that lacks its end.
func (w *writer) complete() error {
	wait := firstReplicaWait
	until := time.Now().Add(w.fs.o.Timeout)
	for {
		err := w.lib.Close()
		if b := w.state(); b != nil && err == nil {
			err = b
		}
		if err == nil || !hdfs.IsErrReplicating(err) {
			return err
		}
		if time.Now().Add(wait).After(until) {
			return &hdfsio.Error{Op: "close", Path: w.fs.URI(w.name), Kind: hdfsio.KindTimeout, Err: errors.New("too few replicas of the last block were reported"),
				Hint: "are enough datanodes running? (hdfs dfsadmin -report)"}
		}
		t := time.NewTimer(wait)
		select {
		case <-w.done:
			t.Stop()
			return w.cancelled()
		case <-t.C:
		}
		wait = min(2*wait, lastReplicaWait)
	}
}

// Abort gives the file up and removes it, if it still is the one that Create made.
func (w *writer) Abort() {
	w.own.Lock()
	if !w.given {
		w.c.kill(errAborted) // wakes a Write that another goroutine is in
	}
	w.own.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.over = true
	w.unwatch()
	_ = w.lib.Close() // ends the library's goroutines; it cannot complete the file any more
	w.c.Close()
	w.remove()
}

var errAborted = errors.New("the file was given up")
