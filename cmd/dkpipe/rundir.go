package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"dkpipe/pipeline"
)

// runFolder holds the files of one run that nobody else needs: sockets, local copies of live shards. Its owner holds a
// lock on a file in it, which the system takes back however the owner ends: so the next run can tell, and removes it.
type runFolder struct {
	dir  string
	lock *os.File
}

const (
	runFolderPrefix = "dkpipe-run-"
	runFolderLock   = "owner"
	// lockGrace is the age up to which a folder without a lock may belong to a run that is just starting.
	lockGrace = time.Minute
)

// newRunFolder makes a folder below the system's folder for temporary files that only this user can read.
func (a *app) newRunFolder() (*runFolder, error) {
	root := os.TempDir()
	refused := func(err error) error {
		kind := pipeline.Denied
		switch {
		case errors.Is(err, syscall.ENOSPC):
			kind = pipeline.NoSpace
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			kind = pipeline.Usage
		}
		return &pipeline.Error{Kind: kind, Message: "the folder for temporary files, " + root, Err: err,
			Hint: "set TMPDIR to a folder that exists, can be written and has space"}
	}
	if err := removeOrphans(root); err != nil {
		a.log.Warn("removing what killed runs have left", "folder", root, "error", err)
	}
	for {
		dir, err := os.MkdirTemp(root, runFolderPrefix)
		if err != nil {
			return nil, refused(err)
		}
		lock, err := ownFolder(dir)
		switch {
		case err != nil:
			return nil, errors.Join(refused(err), os.RemoveAll(dir))
		case lock != nil:
			return &runFolder{dir: dir, lock: lock}, nil
		}
	}
}

// ownFolder makes the lock of a new folder and takes it. It gives nil when another process that looks for what killed
// runs left was in between: it removes the folder.
func ownFolder(dir string) (*os.File, error) {
	name := filepath.Join(dir, runFolderLock)
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, lock.Close()
	case err != nil:
		return nil, errors.Join(err, lock.Close())
	}
	// Whoever holds the lock removes the folder before letting go: it is ours if the file is still there.
	mine, err := lock.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(name); err == nil && os.SameFile(mine, now) {
			return lock, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return nil, errors.Join(err, lock.Close())
}

// close removes the folder.
func (r *runFolder) close() error {
	return errors.Join(os.RemoveAll(r.dir), r.lock.Close())
}

// removeOrphans removes the folders whose owner is gone.
func removeOrphans(root string) error {
	found, err := filepath.Glob(filepath.Join(root, runFolderPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range found {
		if err := removeOrphan(dir); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// removeOrphan removes a folder if it is this user's and its owner has ended. The lock is held meanwhile, so that a run
// that is just starting sees that the folder is not for it.
func removeOrphan(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return nil // somebody else was faster
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
		return nil
	}
	lock, err := os.Open(filepath.Join(dir, runFolderLock))
	switch {
	case errors.Is(err, fs.ErrNotExist) && time.Since(info.ModTime()) > lockGrace:
		return os.RemoveAll(dir)
	case err != nil:
		return nil
	}
	defer lock.Close()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil
	}
	return os.RemoveAll(dir)
}
