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
func (a *app) newRunFolder() (_ *runFolder, err error) {
	root := os.TempDir()
	refused := func(err error) error {
		kind := pipeline.Denied
		if errors.Is(err, syscall.ENOSPC) {
			kind = pipeline.NoSpace
		}
		return &pipeline.Error{Kind: kind, Message: "the folder for temporary files, " + root, Err: err,
			Hint: "set TMPDIR to a folder that exists, can be written and has space"}
	}
	if err := removeOrphans(root); err != nil {
		a.log.Warn("removing what killed runs have left", "folder", root, "error", err)
	}
	dir, err := os.MkdirTemp(root, runFolderPrefix)
	if err != nil {
		return nil, refused(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, runFolderLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(refused(err), os.RemoveAll(dir))
	}
	return &runFolder{dir: dir, lock: lock}, nil
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
		if orphan(dir) {
			if err := os.RemoveAll(dir); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

// orphan tells whether a folder is this user's and its owner has ended.
func orphan(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
		return false
	}
	lock, err := os.Open(filepath.Join(dir, runFolderLock))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && time.Since(info.ModTime()) > lockGrace
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
