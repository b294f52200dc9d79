package pipetest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"sort"
	"sync"

	"dkpipe/pipeline"
)

// MemStore is a pipeline.Opener over files in memory. Put replaces a file as a whole: a Blob that is already open
// sees the new bytes, as a reader of a local file that was written over does. It is safe for concurrent use.
type MemStore struct {
	mu    sync.Mutex
	files map[string][]byte
	reads map[string]int64
}

var _ pipeline.Opener = (*MemStore)(nil)

// Put stores a file. The store keeps b.
func (s *MemStore) Put(name string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string][]byte{}
	}
	if b == nil {
		b = []byte{}
	}
	s.files[name] = b
}

// Remove removes a file.
func (s *MemStore) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
}

// Get gives a file's bytes, nil when there is none. They may not be changed.
func (s *MemStore) Get(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[name]
}

// Names lists the files in order.
func (s *MemStore) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for n := range s.files {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// BytesRead says how many bytes of a file were read so far.
func (s *MemStore) BytesRead(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads[name]
}

// Open opens a file for reading.
func (s *MemStore) Open(ctx context.Context, name string) (pipeline.Blob, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	b := s.Get(name)
	if b == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memBlob{store: s, name: name, size: int64(len(b)), done: ctx.Done(), cause: func() error { return context.Cause(ctx) }}, nil
}

// Create makes a file that appears when it is closed.
func (s *MemStore) Create(_ context.Context, name string) (*MemFile, error) {
	if s.Get(name) != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	return &MemFile{store: s, name: name}, nil
}

type memBlob struct {
	store *MemStore
	name  string
	size  int64
	done  <-chan struct{}
	cause func() error
	mu    sync.Mutex
	shut  bool
}

func (b *memBlob) ReadAt(p []byte, off int64) (int, error) {
	select {
	case <-b.done:
		return 0, b.cause()
	default:
	}
	b.mu.Lock()
	shut := b.shut
	b.mu.Unlock()
	if shut {
		return 0, fs.ErrClosed
	}
	b.store.mu.Lock()
	data := b.store.files[b.name]
	if b.store.reads == nil {
		b.store.reads = map[string]int64{}
	}
	b.store.reads[b.name] += int64(len(p))
	b.store.mu.Unlock()
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *memBlob) Size() int64 { return b.size }

func (b *memBlob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	return nil
}

// MemFile is a file of a MemStore being written.
type MemFile struct {
	store *MemStore
	name  string
	buf   bytes.Buffer
	done  bool
}

// Write appends.
func (f *MemFile) Write(p []byte) (int, error) {
	if f.done {
		return 0, fs.ErrClosed
	}
	return f.buf.Write(p)
}

// Close makes the file appear in the store.
func (f *MemFile) Close() error {
	if f.done {
		return fs.ErrClosed
	}
	f.done = true
	f.store.Put(f.name, f.buf.Bytes())
	return nil
}

// Abort forgets the file; after Close it does nothing.
func (f *MemFile) Abort() { f.done = true }
