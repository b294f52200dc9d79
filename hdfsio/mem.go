package hdfsio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

var _ FS = (*Mem)(nil)

// Mem is an FS in memory with the manners of HDFS: an empty folder may be renamed over, a file that was removed while
// it was written fails at Close, and a file being written is visible with what was written so far. Fields are set
// before first use. It may be used from several goroutines.
type Mem struct {
	Owner string // of everything made through it
	// Allow, when set, is asked before every call; the error it gives (fs.ErrPermission) is what the caller gets.
	Allow func(op, name string) error
	Now   func() time.Time // the store's clock; nil: time.Now

	mu   sync.Mutex
	root *memNode
	last uint64 // the newest ID
}

// memNode is a file (below == nil) or a folder.
type memNode struct {
	id    uint64
	owner string
	mod   time.Time
	data  []byte
	below map[string]*memNode
	gone  bool // removed
}

// enter checks what every call checks first and locks; every exit unlocks.
func (m *Mem) enter(ctx context.Context, op, name string) error {
	if err := start(ctx, op, name); err != nil {
		return err
	}
	if m.Allow != nil {
		if err := m.Allow(op, name); err != nil {
			return Wrap(op, name, err)
		}
	}
	m.mu.Lock()
	if m.root == nil {
		m.root = m.node(true)
	}
	return nil
}

// node makes a node.
func (m *Mem) node(dir bool) *memNode {
	m.last++
	n := &memNode{id: m.last, owner: m.Owner, mod: m.now()}
	if dir {
		n.below = make(map[string]*memNode)
	}
	return n
}

func (m *Mem) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// find walks down to a name.
func (m *Mem) find(name string) (*memNode, error) {
	n := m.root
	for _, e := range elements(name) {
		if n.below == nil {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.below[e]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// parent finds the folder above a name, and the last element.
func (m *Mem) parent(name string) (*memNode, string, error) {
	c := path.Clean("/" + name)
	if c == "/" {
		return nil, "", fs.ErrInvalid
	}
	dir, err := m.find(path.Dir(c))
	if err == nil && dir.below == nil {
		err = syscall.ENOTDIR
	}
	return dir, path.Base(c), err
}

func elements(name string) []string {
	c := strings.Trim(path.Clean("/"+name), "/")
	if c == "" {
		return nil
	}
	return strings.Split(c, "/")
}

// Open opens a file for reading; later changes of the file are not seen.
func (m *Mem) Open(ctx context.Context, name string) (File, error) {
	if err := m.enter(ctx, "open", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && n.below != nil {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, Wrap("open", name, err)
	}
	// Files only ever grow, so the slice of now stays what it is.
	return &memFile{data: n.data[:len(n.data):len(n.data)], name: name, cancelled: func() error { return ended(ctx) }}, nil
}

type memFile struct {
	data      []byte
	name      string
	cancelled func() error
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.cancelled(); err != nil {
		return 0, Wrap("read", f.name, err)
	}
	if off < 0 {
		return 0, Wrap("read", f.name, fs.ErrInvalid)
	}
	if off >= int64(len(f.data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Size() int64  { return int64(len(f.data)) }
func (f *memFile) Close() error { return nil }

// Create makes a new file.
func (m *Mem) Create(ctx context.Context, name string) (Writer, error) {
	if err := m.enter(ctx, "create", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if err == nil && dir.below[base] != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return nil, Wrap("create", name, err)
	}
	n := m.node(false)
	dir.below[base] = n
	return &memWriter{m: m, n: n, name: name, cancelled: func() error { return ended(ctx) }}, nil
}

type memWriter struct {
	m         *Mem
	n         *memNode
	name      string
	cancelled func() error
	failed    error
	over      bool
}

// check is called under the lock and gives why no more can be written.
func (w *memWriter) check() error {
	switch {
	case w.failed != nil:
		return w.failed
	case w.over:
		return fs.ErrClosed
	case w.n.gone:
		return fmt.Errorf("removed while it was written: %w", fs.ErrNotExist)
	}
	return w.cancelled()
}

func (w *memWriter) Write(p []byte) (int, error) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if err := w.check(); err != nil {
		w.failed = Wrap("write", w.name, err)
		return 0, w.failed
	}
	w.n.data = append(w.n.data, p...)
	return len(p), nil
}

func (w *memWriter) Close() error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.over {
		return Wrap("close", w.name, fs.ErrClosed)
	}
	if err := w.check(); err != nil {
		w.failed = Wrap("close", w.name, err)
		return w.failed
	}
	w.over = true
	w.n.mod = w.m.now()
	return nil
}

func (w *memWriter) Abort() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.over {
		return
	}
	w.over = true
	if dir, base, err := w.m.parent(w.name); err == nil && dir.below[base] == w.n {
		delete(dir.below, base)
		w.n.gone = true
	}
}

// Stat describes a file or folder.
func (m *Mem) Stat(ctx context.Context, name string) (Info, error) {
	if err := m.enter(ctx, "stat", name); err != nil {
		return Info{}, err
	}
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return Info{}, Wrap("stat", name, err)
	}
	return n.info(path.Base(path.Clean(name))), nil
}

func (n *memNode) info(name string) Info {
	return Info{Name: name, Size: int64(len(n.data)), ModTime: n.mod, Dir: n.below != nil, Owner: n.owner, ID: n.id}
}

// ReadDir lists a folder in name order.
func (m *Mem) ReadDir(ctx context.Context, name string) ([]Info, error) {
	if err := m.enter(ctx, "list", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	dir, err := m.find(name)
	if err == nil && dir.below == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, Wrap("list", name, err)
	}
	infos := make([]Info, 0, len(dir.below))
	for base, n := range dir.below {
		infos = append(infos, n.info(base))
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// Mkdir makes a folder and those above it.
func (m *Mem) Mkdir(ctx context.Context, name string) error {
	if err := m.enter(ctx, "mkdir", name); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n := m.root
	for _, e := range elements(name) {
		next := n.below[e]
		if next == nil {
			next = m.node(true)
			n.below[e] = next
		}
		if next.below == nil {
			return Wrap("mkdir", name, syscall.ENOTDIR)
		}
		n = next
	}
	return nil
}

// Rename moves a file or folder in one step.
func (m *Mem) Rename(ctx context.Context, from, to string) error {
	both := from + " to " + to
	if err := m.enter(ctx, "rename", from); err != nil {
		return err
	}
	defer m.mu.Unlock()
	return Wrap("rename", both, m.rename(from, to))
}

func (m *Mem) rename(from, to string) error {
	src, srcBase, err := m.parent(from)
	if err != nil {
		return err
	}
	n := src.below[srcBase]
	if n == nil {
		return fs.ErrNotExist
	}
	dst, dstBase, err := m.parent(to)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path.Clean("/"+to)+"/", path.Clean("/"+from)+"/") {
		return fs.ErrInvalid // onto itself or below itself
	}
	if old := dst.below[dstBase]; old != nil {
		switch {
		case old.below != nil && (n.below == nil || len(old.below) > 0):
			return fs.ErrExist
		case old.below == nil && n.below != nil:
			return syscall.ENOTDIR
		}
		old.gone = true
	}
	delete(src.below, srcBase)
	dst.below[dstBase] = n
	return nil
}

// Remove removes a file, or a folder with everything below it.
func (m *Mem) Remove(ctx context.Context, name string) error {
	if err := m.enter(ctx, "remove", name); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return Wrap("remove", name, err)
	}
	if n := dir.below[base]; n != nil {
		delete(dir.below, base)
		n.remove()
	}
	return nil
}

// remove marks everything below as gone, so that writers notice.
func (n *memNode) remove() {
	n.gone = true
	for _, b := range n.below {
		b.remove()
	}
}
