package hdfstest

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"syscall"

	"dkpipe/hdfsio"
)

var _ hdfsio.FS = (*Faults)(nil)

// Op names a call of hdfsio.FS, or of the files and writers that it gives.
type Op string

// The calls. Read is ReadAt; Abort can be observed and frozen, but it has no error to give.
const (
	Open   Op = "open"
	Create Op = "create"
	Stat   Op = "stat"
	List   Op = "list"
	Mkdir  Op = "mkdir"
	Rename Op = "rename"
	Remove Op = "remove"
	Read   Op = "read"
	Write  Op = "write"
	Close  Op = "close"
	Abort  Op = "abort"
)

// Fault says when something goes wrong, and how. Op and Match choose calls, Nth picks one of them; then Hook runs,
// then either Err is returned or the call is made.
type Fault struct {
	Op    Op                     // empty: any call
	Match func(name string) bool // the path; for a rename the target; nil: any path
	Nth   int                    // the n-th call chosen, from 1; 0: every one

	Hook func(ctx context.Context, name string) // called before, for slow calls: it may wait on a channel or ctx
	Err  error                                  // the error that the caller gets; nil: none, only Hook is wanted
	Done bool                                   // perform the call although Err is returned: an answer that got lost
	Part int                                    // Write: bytes written before Err; Remove: files below a folder that went before Err

	calls int
}

// Faults is a file system that goes wrong on command. It passes everything on to FS and counts; it may be used from
// several goroutines. Errors are wrapped as a real store would: with operation, path and kind.
type Faults struct {
	FS hdfsio.FS

	mu     sync.Mutex
	faults []*Fault
	counts map[Op]int
	total  int
	space  int64
	full   bool
	frozen error
	after  int
	lost   bool
}

// Add arms a fault.
func (f *Faults) Add(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault)
}

// Clear disarms all faults, limits and Freeze.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults, f.full, f.frozen, f.after = nil, false, nil, 0
}

// Space makes writes beyond the next n bytes fail with ENOSPC.
func (f *Faults) Space(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space, f.full = n, true
}

// Freeze makes every later call fail and do nothing, as if the process that calls had died.
func (f *Faults) Freeze(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = err
}

// FreezeAfter lets n more calls through and then freezes; with lost, the n-th call is still performed, but its caller
// does not hear of it: it gets err.
func (f *Faults) FreezeAfter(n int, lost bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after, f.lost, f.frozen = f.total+n, lost, err
}

// Calls counts the calls of an operation so far, failed ones too; of all operations when op is empty.
func (f *Faults) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op == "" {
		return f.total
	}
	return f.counts[op]
}

// plan is what becomes of one call.
type plan struct {
	hooks   []func(context.Context, string)
	err     error
	perform bool
	part    int
}

// decide counts a call and finds the faults for it.
func (f *Faults) decide(op Op, name string) plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = make(map[Op]int)
	}
	f.counts[op]++
	f.total++
	p := plan{perform: true}
	if f.frozen != nil && (f.after == 0 || f.total >= f.after) {
		if f.after == 0 || f.total > f.after || f.lost {
			p.err = f.frozen
		}
		p.perform = f.after != 0 && f.total == f.after
		if !p.perform || p.err != nil {
			return p
		}
	}
	for _, t := range f.faults {
		if t.Op != "" && t.Op != op || t.Match != nil && !t.Match(name) {
			continue
		}
		t.calls++
		if t.Nth != 0 && t.calls != t.Nth {
			continue
		}
		if t.Hook != nil {
			p.hooks = append(p.hooks, t.Hook)
		}
		if t.Err != nil && p.err == nil {
			p.err, p.perform, p.part = t.Err, t.Done, t.Part
		}
	}
	return p
}

// call makes one call the way that decide wants.
func (f *Faults) call(ctx context.Context, op Op, name, shown string, do func() error) error {
	p := f.decide(op, name)
	for _, h := range p.hooks {
		h(ctx, name)
	}
	if p.perform {
		if err := do(); p.err == nil || err != nil {
			return err
		}
	}
	return hdfsio.Wrap(string(op), shown, p.err)
}

// Open opens a file for reading.
func (f *Faults) Open(ctx context.Context, name string) (file hdfsio.File, err error) {
	err = f.call(ctx, Open, name, name, func() error {
		file, err = f.FS.Open(ctx, name)
		return err
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return &faultyFile{File: file, f: f, name: name}, nil
}

type faultyFile struct {
	hdfsio.File
	f    *Faults
	name string
}

func (r *faultyFile) ReadAt(p []byte, off int64) (n int, err error) {
	var read error
	err = r.f.call(context.Background(), Read, r.name, r.name, func() error {
		n, read = r.File.ReadAt(p, off)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, read
}

// Create makes a new file. When the answer gets lost, the file stays behind, open and empty.
func (f *Faults) Create(ctx context.Context, name string) (w hdfsio.Writer, err error) {
	err = f.call(ctx, Create, name, name, func() error {
		w, err = f.FS.Create(ctx, name)
		return err
	})
	if err != nil {
		if w != nil {
			w.Close() // an empty file stays
		}
		return nil, err
	}
	return &faultyWriter{w: w, f: f, name: name}, nil
}

type faultyWriter struct {
	w      hdfsio.Writer
	f      *Faults
	name   string
	failed error
}

func (w *faultyWriter) Write(b []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	p := w.f.decide(Write, w.name)
	for _, h := range p.hooks {
		h(context.Background(), w.name)
	}
	take, err := len(b), p.err
	if err != nil && !p.perform {
		take = min(p.part, take)
	}
	w.f.mu.Lock()
	if w.f.full && int64(take) > w.f.space {
		take, err = int(w.f.space), syscall.ENOSPC
	}
	if w.f.full {
		w.f.space -= int64(take)
	}
	w.f.mu.Unlock()
	n, werr := w.w.Write(b[:take])
	if werr != nil {
		err = werr
	}
	if err != nil {
		w.failed = hdfsio.Wrap("write", w.name, err)
	}
	return n, w.failed
}

func (w *faultyWriter) Close() error {
	if w.failed != nil {
		return w.failed
	}
	return w.f.call(context.Background(), Close, w.name, w.name, w.w.Close)
}

// Abort does nothing on a frozen store: the dead remove nothing.
func (w *faultyWriter) Abort() {
	if p := w.f.decide(Abort, w.name); p.perform {
		w.w.Abort()
	}
}

// Stat describes a file or folder.
func (f *Faults) Stat(ctx context.Context, name string) (info hdfsio.Info, err error) {
	err = f.call(ctx, Stat, name, name, func() error {
		info, err = f.FS.Stat(ctx, name)
		return err
	})
	return info, err
}

// ReadDir lists a folder in name order.
func (f *Faults) ReadDir(ctx context.Context, name string) (infos []hdfsio.Info, err error) {
	err = f.call(ctx, List, name, name, func() error {
		infos, err = f.FS.ReadDir(ctx, name)
		return err
	})
	return infos, err
}

// Mkdir makes a folder and those above it.
func (f *Faults) Mkdir(ctx context.Context, name string) error {
	return f.call(ctx, Mkdir, name, name, func() error { return f.FS.Mkdir(ctx, name) })
}

// Rename moves a file or folder in one step.
func (f *Faults) Rename(ctx context.Context, from, to string) error {
	return f.call(ctx, Rename, to, from+" to "+to, func() error { return f.FS.Rename(ctx, from, to) })
}

// Remove removes a file, or a folder with everything below it. With a Fault's Part it stops in the middle, as the
// removal of a local folder does when its process dies.
func (f *Faults) Remove(ctx context.Context, name string) error {
	p := f.decide(Remove, name)
	for _, h := range p.hooks {
		h(ctx, name)
	}
	if p.perform {
		if err := f.FS.Remove(ctx, name); p.err == nil || err != nil {
			return err
		}
	}
	var some []string
	err := hdfsio.Walk(ctx, f.FS, name, func(below string, info hdfsio.Info) error {
		if !info.Dir && below != name && len(some) < p.part {
			some = append(some, below)
		}
		return nil
	})
	for _, below := range some {
		err = errors.Join(err, f.FS.Remove(ctx, below))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return hdfsio.Wrap(string(Remove), name, p.err)
}
