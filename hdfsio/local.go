package hdfsio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

var _ FS = (*Local)(nil)

// Local is the FS of this machine's folders. The zero value is ready and may be used from several goroutines.
// Relative names start at the working directory. Close of a Writer returns after the bytes and the name are on disk,
// and so do Rename and Mkdir: a machine that loses power keeps what was promised.
type Local struct {
	owners sync.Map // uint32 user id -> string name
}

// native turns a slash-separated name into one of this operating system.
func native(name string) string { return filepath.FromSlash(name) }

// start checks what every call checks first.
func start(ctx context.Context, op, name string) error {
	if err := ended(ctx); err != nil {
		return Wrap(op, name, err)
	}
	if name == "" {
		return Wrap(op, `""`, fs.ErrNotExist)
	}
	return nil
}

// ended says why a context is over: its error, with the cause when somebody gave one. It is nil while it lives.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// errNoFile is the cause when a pipe, a socket or a device is to be read.
var errNoFile = errors.New("it is a pipe, a socket or a device, and no file")

// Open opens a file for reading.
func (l *Local) Open(ctx context.Context, name string) (File, error) {
	if err := start(ctx, "open", name); err != nil {
		return nil, err
	}
	// A pipe is looked at before it is opened: that would wait for somebody to write into it.
	if info, err := os.Stat(native(name)); err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice|fs.ModeCharDevice) != 0 {
		return nil, &Error{Op: "open", Path: name, Kind: KindUsage, Hint: "write it to a file first: what is read has to have a length and to stay", Err: errNoFile}
	}
	f, err := os.Open(native(name))
	if err != nil {
		return nil, Wrap("open", name, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = syscall.EISDIR
	}
	if err != nil {
		f.Close()
		return nil, Wrap("open", name, err)
	}
	return &localFile{f: f, name: name, size: info.Size(), cancelled: func() error { return ended(ctx) }}, nil
}

// localFile is an open file.
type localFile struct {
	f         *os.File
	name      string
	size      int64
	cancelled func() error // the cause why the context given to Open ended, or nil
}

func (f *localFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.cancelled(); err != nil {
		return 0, Wrap("read", f.name, err)
	}
	n, err := f.f.ReadAt(p, off)
	if err != nil && n == len(p) {
		err = nil
	}
	return n, wrapRead(f.name, err)
}

func (f *localFile) Size() int64  { return f.size }
func (f *localFile) Close() error { return Wrap("close", f.name, f.f.Close()) }

// Create makes a new file. Its name is visible at once, as on HDFS; what it holds counts after Close.
func (l *Local) Create(ctx context.Context, name string) (Writer, error) {
	if err := start(ctx, "create", name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(native(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, Wrap("create", name, err)
	}
	return &localWriter{f: f, name: name, cancelled: func() error { return ended(ctx) }}, nil
}

// localWriter is a file being written by one goroutine; Abort may come from another.
type localWriter struct {
	f         *os.File
	name      string
	cancelled func() error
	failed    error // the first failed Write: Close then fails, too
	over      atomic.Bool
}

func (w *localWriter) Write(p []byte) (int, error) {
	err := w.failed
	if err == nil {
		err = w.cancelled()
	}
	if err != nil {
		w.failed = Wrap("write", w.name, err)
		return 0, w.failed
	}
	n, err := w.f.Write(p)
	if err != nil {
		w.failed = Wrap("write", w.name, err)
	}
	return n, w.failed
}

// Close makes bytes and name durable. After an error the file must be aborted or left to whoever cleans up.
func (w *localWriter) Close() error {
	if w.over.Load() {
		return Wrap("close", w.name, fs.ErrClosed)
	}
	err := w.failed
	if err == nil {
		err = w.cancelled()
	}
	if err == nil {
		err = w.f.Sync()
	}
	if err == nil && unlinked(w.f) {
		err = fmt.Errorf("removed while it was written: %w", fs.ErrNotExist)
	}
	if err == nil {
		err = syncDir(filepath.Dir(native(w.name)))
	}
	if err != nil {
		w.failed = Wrap("close", w.name, err)
		return w.failed
	}
	w.over.Store(true)
	return Wrap("close", w.name, w.f.Close())
}

// Abort removes the file.
func (w *localWriter) Abort() {
	if w.over.Swap(true) {
		return
	}
	mine, err := w.f.Stat()
	w.f.Close()
	named, err2 := os.Lstat(native(w.name))
	if err == nil && err2 == nil && os.SameFile(mine, named) { // the name may be somebody else's by now
		os.Remove(native(w.name))
	}
}

// Stat describes a file or folder.
func (l *Local) Stat(ctx context.Context, name string) (Info, error) {
	if err := start(ctx, "stat", name); err != nil {
		return Info{}, err
	}
	fi, err := os.Stat(native(name))
	if err != nil {
		return Info{}, Wrap("stat", name, err)
	}
	return l.info(fi), nil
}

// ReadDir lists a folder in name order. Links count as what they point to.
func (l *Local) ReadDir(ctx context.Context, name string) ([]Info, error) {
	if err := start(ctx, "list", name); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(native(name))
	if err != nil {
		return nil, Wrap("list", name, err)
	}
	infos := make([]Info, 0, len(entries))
	for _, e := range entries {
		fi, err := e.Info()
		if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			if to, err := os.Stat(filepath.Join(native(name), e.Name())); err == nil {
				fi = renamed{to, e.Name()}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the listing
		}
		if err != nil {
			return nil, Wrap("list", name, err)
		}
		infos = append(infos, l.info(fi))
	}
	return infos, nil
}

// renamed is what a link points to under the link's name.
type renamed struct {
	fs.FileInfo
	name string
}

func (r renamed) Name() string { return r.name }

// info translates; owner and identity depend on the operating system.
func (l *Local) info(fi fs.FileInfo) Info {
	uid, id, known := ownerOf(fi)
	info := Info{Name: fi.Name(), Size: fi.Size(), ModTime: fi.ModTime(), Dir: fi.IsDir(), ID: id}
	if info.Dir {
		info.Size = 0
	}
	if known {
		name, ok := l.owners.Load(uid)
		if !ok {
			name, _ = l.owners.LoadOrStore(uid, userName(uid))
		}
		info.Owner, _ = name.(string)
	}
	return info
}

// Mkdir makes a folder and those above it.
func (l *Local) Mkdir(ctx context.Context, name string) error {
	if err := start(ctx, "mkdir", name); err != nil {
		return err
	}
	dir := native(name)
	var made []string // missing folders, deepest first
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return Wrap("mkdir", name, err)
	}
	for _, d := range slices.Backward(made) {
		if err := syncDir(filepath.Dir(d)); err != nil {
			return Wrap("mkdir", name, err)
		}
	}
	return nil
}

// Rename moves a file or folder in one step.
func (l *Local) Rename(ctx context.Context, from, to string) error {
	both := from + " to " + to
	if err := start(ctx, "rename", from); err != nil {
		return err
	}
	if to == "" {
		return Wrap("rename", both, fs.ErrInvalid)
	}
	if err := os.Rename(native(from), native(to)); err != nil {
		return Wrap("rename", both, err)
	}
	err := syncDir(filepath.Dir(native(to)))
	if d := filepath.Dir(native(from)); err == nil && d != filepath.Dir(native(to)) {
		err = syncDir(d)
	}
	return Wrap("rename", both, err)
}

// Remove removes a file, or a folder with everything below it.
func (l *Local) Remove(ctx context.Context, name string) error {
	if err := start(ctx, "remove", name); err != nil {
		return err
	}
	if c := filepath.Clean(native(name)); c == "." || c == filepath.Dir(c) || c == ".." || strings.HasSuffix(c, string(filepath.Separator)+"..") {
		return &Error{Op: "remove", Path: name, Kind: KindUsage, Err: errors.New("a whole file system, or a folder above the working directory, is never removed"),
			Hint: "name what should go"}
	}
	return Wrap("remove", name, os.RemoveAll(native(name)))
}
