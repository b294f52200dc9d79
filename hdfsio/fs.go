package hdfsio

import (
	"context"
	"io"
	"time"
)

// File is an open file for reading at any offset; it satisfies pipeline.Blob. ReadAt may be called concurrently.
// Cancelling the context given to Open makes ReadAt fail.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Writer is a file being written. Nothing is promised to readers before Close returned nil. After any failed Write
// the file must not be used: call Abort, which removes it. Abort after Close does nothing.
type Writer interface {
	io.Writer
	io.Closer
	Abort()
}

// Info describes a file or a folder.
type Info struct {
	Name    string // the last element of the path
	Size    int64
	ModTime time.Time
	Dir     bool
	Owner   string // empty where the store does not say
	ID      uint64 // identity that survives a rename, 0 where the store has none
}

// Name gives a path of a store for people. A store that others can be told from says where it is by a method
// URI(path string) string.
func Name(fsys FS, path string) string {
	if s, ok := fsys.(interface{ URI(path string) string }); ok {
		return s.URI(path)
	}
	return path
}

// FS is a small file system: HDFS, a local folder or memory. Names are slash-separated paths on that store.
// Errors satisfy errors.Is with fs.ErrNotExist, fs.ErrExist and fs.ErrPermission, and carry a kind (see Error).
type FS interface {
	// Open opens a file for reading.
	Open(ctx context.Context, name string) (File, error)
	// Create makes a new file; it fails with fs.ErrExist if there is one. Missing folders above it are not made.
	Create(ctx context.Context, name string) (Writer, error)
	// Stat describes a file or folder.
	Stat(ctx context.Context, name string) (Info, error)
	// ReadDir lists a folder in name order.
	ReadDir(ctx context.Context, name string) ([]Info, error)
	// Mkdir makes a folder and those above it; an existing folder is fine.
	Mkdir(ctx context.Context, name string) error
	// Rename moves a file or folder in one step, also over an existing file. A target that is a non-empty folder
	// fails with fs.ErrExist: that makes publishing exclusive.
	Rename(ctx context.Context, from, to string) error
	// Remove removes a file, or a folder with everything below it. What is absent is no error.
	Remove(ctx context.Context, name string) error
}
