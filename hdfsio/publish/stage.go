package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"dkpipe/hdfsio"
)

// Stage is a version that nobody sees yet. Several goroutines may write different files of it.
type Stage struct {
	lock    *Lock
	id      string
	dir     string
	version Version // the number that Publish tries first
	created time.Time

	mu    sync.Mutex
	files map[string]*File // nil while the file is being written
	dirs  map[string]bool  // folders made
	over  bool             // published or aborted
}

// Stage removes the garbage of earlier runs and makes a folder for the next version, numbered after the newest that
// is there or that LATEST names.
func (l *Lock) Stage(ctx context.Context) (*Stage, error) {
	if _, err := l.Collect(ctx); err != nil && hdfsio.KindOf(err) != hdfsio.KindDenied {
		return nil, err
	}
	next, err := l.nextVersion(ctx)
	if err != nil {
		return nil, err
	}
	s := &Stage{lock: l, id: newID(), version: next, created: time.Now().UTC(), files: make(map[string]*File), dirs: make(map[string]bool)}
	s.dir = l.path(stagePrefix + next.String() + "-" + s.id)
	l.mu.Lock()
	l.stages[path.Base(s.dir)] = true
	l.mu.Unlock()
	err = l.step("stage made", func() error { return l.fs.Mkdir(ctx, s.dir) })
	if err == nil {
		err = l.replace(ctx, "stage marker", path.Join(s.dir, markerName), encode(s.contents(next, nil)))
	}
	if err != nil {
		sctx, cancel := settling(ctx)
		defer cancel()
		s.Abort(sctx)
		return nil, err
	}
	return s, nil
}

// nextVersion is one more than the newest number in use.
func (l *Lock) nextVersion(ctx context.Context) (Version, error) {
	versions, err := Versions(ctx, l.fs, l.root)
	if err != nil {
		return 0, err
	}
	named, err := readPointer(ctx, l.fs, l.root)
	if err != nil && !unusable(err) {
		return 0, err
	}
	if n := len(versions); n > 0 {
		named = max(named, versions[n-1])
	}
	return named + 1, nil
}

// contents makes the marker; files == nil says that the version is being written.
func (s *Stage) contents(v Version, files []File) Contents {
	me := s.lock.me
	return Contents{Format: contentsFormat, Version: v, ID: s.id, Epoch: me.Epoch, Owner: me.Owner, Host: me.Host, PID: me.PID,
		Created: s.created, Files: files}
}

// Path is the stage's folder on the store, for an engine that writes there by itself. What it writes is made part of
// the version by Adopt.
func (s *Stage) Path() string { return s.dir }

// Version is the number that the version will most likely get. Only Publish knows for sure.
func (s *Stage) Version() Version { return s.version }

// Files gives the files that are complete so far, in name order.
func (s *Stage) Files() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var files []File
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if f := s.files[name]; f != nil {
			files = append(files, *f)
		}
	}
	return files
}

// check refuses names that are not for a file of a version.
func (s *Stage) check(name string) error {
	var why string
	switch base := path.Base(name); {
	case !fs.ValidPath(name) || name == "." || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		why = "not a relative slash-separated path"
	case base == markerName || strings.HasPrefix(base, tempPrefix):
		why = "the name belongs to the protocol"
	case strings.Contains(name, ":"):
		why = "HDFS allows no colon in names"
	default:
		return nil
	}
	return &hdfsio.Error{Op: "create", Path: s.lock.name(path.Join(s.dir, name)), Kind: hdfsio.KindInternal, Err: errors.New(why)}
}

// Create makes a file of the version and the folders above it. When its Close returns nil, the store has been asked
// whether the length is right, and the file is part of the version. After a failed Write or Close the caller aborts
// it, and may create it anew.
func (s *Stage) Create(ctx context.Context, name string) (hdfsio.Writer, error) {
	if err := s.check(name); err != nil {
		return nil, err
	}
	full := path.Join(s.dir, name)
	s.mu.Lock()
	_, known := s.files[name]
	if !known {
		s.files[name] = nil
	}
	s.mu.Unlock()
	if known {
		return nil, hdfsio.Wrap("create", s.lock.name(full), fs.ErrExist)
	}
	w, err := s.create(ctx, full)
	if err != nil {
		s.forget(name)
		return nil, err
	}
	return &stageWriter{stage: s, w: w, name: name, hash: sha256.New(),
		stat: func() (hdfsio.Info, error) { return s.lock.fs.Stat(ctx, full) },
		remove: func() error {
			ctx, cancel := settling(ctx)
			defer cancel()
			return s.lock.fs.Remove(ctx, full)
		}}, nil
}

func (s *Stage) create(ctx context.Context, full string) (w hdfsio.Writer, err error) {
	if dir := path.Dir(full); dir != s.dir {
		s.mu.Lock()
		made := s.dirs[dir]
		s.mu.Unlock()
		if !made {
			if err := s.lock.fs.Mkdir(ctx, dir); err != nil {
				return nil, err
			}
			s.mu.Lock()
			s.dirs[dir] = true
			s.mu.Unlock()
		}
	}
	err = s.lock.step("file created", func() error {
		w, err = s.lock.fs.Create(ctx, full)
		return err
	})
	return w, err
}

func (s *Stage) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
}

// stageWriter hashes and counts on the way. One goroutine uses it.
type stageWriter struct {
	stage *Stage
	w     hdfsio.Writer
	name  string
	hash  hash.Hash
	bytes int64
	over  bool

	stat   func() (hdfsio.Info, error)
	remove func() error
}

func (w *stageWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.hash.Write(p[:n])
	w.bytes += int64(n)
	return n, err
}

func (w *stageWriter) Close() error {
	if w.over {
		return w.w.Close() // says that it is closed
	}
	if err := w.stage.lock.step("file closed", w.w.Close); err != nil {
		return err
	}
	info, err := w.stat()
	if err == nil && info.Size != w.bytes {
		err = &hdfsio.Error{Op: "close", Path: w.stage.lock.name(path.Join(w.stage.dir, w.name)), Kind: hdfsio.KindCorrupt,
			Err:  fmt.Errorf("%d bytes were written, the store has %d", w.bytes, info.Size),
			Hint: "a server of the store may have died while writing: run again"}
	}
	if err != nil {
		return err
	}
	w.over = true
	w.stage.record(File{Path: w.name, Bytes: w.bytes, SHA256: sum(w.hash)})
	return nil
}

// Abort removes the file, also one whose length was wrong at Close, where the Writer below has nothing to abort any
// more. Until the store has confirmed that, the name stays in use and Publish refuses the stage.
func (w *stageWriter) Abort() {
	if w.over {
		return
	}
	w.over = true
	w.w.Abort()
	if w.remove() == nil {
		w.stage.forget(w.name)
	}
}

func (s *Stage) record(f File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[f.Path] = &f
}

// WriteFile makes a small file of the version in one go.
func (s *Stage) WriteFile(ctx context.Context, name string, data []byte) error {
	w, err := s.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}

// Adopt makes a file part of the version that somebody else wrote below Path, for example Spark. It is read once to
// know its hash.
func (s *Stage) Adopt(ctx context.Context, name string) (File, error) {
	if err := s.check(name); err != nil {
		return File{}, err
	}
	f, err := hashFile(ctx, s.lock.fs, path.Join(s.dir, name))
	if err != nil {
		return File{}, err
	}
	f.Path = name
	s.record(f)
	return f, nil
}

// Abort removes the stage. It is safe after Publish, where it does nothing.
func (s *Stage) Abort(ctx context.Context) error {
	s.mu.Lock()
	over := s.over
	s.over = true
	s.mu.Unlock()
	if over {
		return nil
	}
	ctx, cancel := settling(ctx)
	defer cancel()
	return s.lock.step("stage removed", func() error { return s.lock.fs.Remove(ctx, s.dir) })
}
