package hdfsio

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Kind says what sort of thing went wrong. The values are those that the command line maps to exit codes.
type Kind string

// The kinds that a store can give.
const (
	KindUsage       Kind = "usage"       // the name cannot be used as asked: a folder is where a file is expected, the target exists
	KindUnsupported Kind = "unsupported" // right in general, but not done by this store
	KindData        Kind = "data"        // what should be read is not there
	KindChanged     Kind = "changed"     // the file is not the one that was opened or listed
	KindCorrupt     Kind = "corrupt"     // bytes are not what they should be, or the device cannot give them
	KindUnreachable Kind = "unreachable" // a server does not answer
	KindDenied      Kind = "denied"      // a right is missing
	KindTimeout     Kind = "timeout"     // a deadline passed
	KindBusy        Kind = "busy"        // somebody else holds it
	KindNoSpace     Kind = "no_space"    // the store or the quota is full
	KindInternal    Kind = "internal"    // none of these
	KindInterrupted Kind = "interrupted" // the context was cancelled
)

// Error says which operation on which path went wrong and of what kind that is. Unwrap gives the cause, so
// errors.Is works for fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and the context's errors.
type Error struct {
	Op   string // open, read, create, write, close, stat, list, mkdir, rename, remove, or what a caller does
	Path string // as the caller gave it, or the URI (see Name); "from to to" for a rename
	Kind Kind
	Hint string // the next step, or empty
	Err  error  // the cause
}

// Error gives "op path: cause".
func (e *Error) Error() string {
	s := e.Op + " " + e.Path
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorKind gives the kind as text.
func (e *Error) ErrorKind() string { return string(e.Kind) }

// ErrorHint gives the next step, or the empty string.
func (e *Error) ErrorHint() string { return e.Hint }

// Wrap gives err the operation and the path it belongs to, and finds its kind and a hint. The wrappers of package os
// are taken off first, so nothing is named twice. An error that carries a kind already is returned as it is, and nil
// stays nil. It is for implementations of FS.
func Wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if kinded, ok := errors.AsType[interface {
		error
		ErrorKind() string
	}](err); ok && kinded.ErrorKind() != "" {
		return err
	}
	err = bare(err)
	kind, hint := classify(err)
	return &Error{Op: op, Path: path, Kind: kind, Hint: hint, Err: err}
}

// bare takes the wrappers of package os off, which repeat operation and path.
func bare(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	case *os.SyscallError:
		return e.Err
	}
	return err
}

// classes maps causes to kinds; the first that matches wins.
var classes = []struct {
	is   error
	kind Kind
	hint string
}{
	{context.Canceled, KindInterrupted, ""},
	{context.DeadlineExceeded, KindTimeout, "the store is slow or stuck: try again, or raise the time limit"},
	{syscall.ENOSPC, KindNoSpace, "free some space on that store, keep fewer versions, or write elsewhere"},
	{syscall.EDQUOT, KindNoSpace, "the quota is used up: raise it, keep fewer versions, or write elsewhere"},
	{syscall.EROFS, KindDenied, "the file system is mounted read-only: write elsewhere"},
	{syscall.ETIMEDOUT, KindTimeout, "the store is slow or stuck: try again, or raise the time limit"},
	{syscall.ECONNREFUSED, KindUnreachable, "is the server running, and are host and port right?"},
	{syscall.ECONNRESET, KindUnreachable, "the connection broke: try again"},
	{syscall.EPIPE, KindUnreachable, "the connection broke: try again"},
	{syscall.EHOSTUNREACH, KindUnreachable, "is there a route to that host?"},
	{syscall.ENETUNREACH, KindUnreachable, "is there a route to that network?"},
	{syscall.ESTALE, KindUnreachable, "the network mount lost its server: mount it anew"},
	{syscall.EIO, KindCorrupt, "the device or mount below the path reports an error: look at the system's log"},
	{syscall.EBUSY, KindBusy, ""},
	{syscall.ETXTBSY, KindBusy, ""},
	{syscall.EMFILE, KindInternal, "too many open files: raise the limit (ulimit -n)"},
	{syscall.ENFILE, KindInternal, "too many open files on this machine"},
	{syscall.EISDIR, KindUsage, "the path is a folder; name a file"},
	{syscall.ENOTDIR, KindUsage, "a file is where a folder is expected"},
	{syscall.ENAMETOOLONG, KindUsage, "shorten the path"},
	{syscall.EINVAL, KindUsage, ""},
	{fs.ErrPermission, KindDenied, "give the user of this process the right, or run as the owner"},
	{fs.ErrNotExist, KindData, ""},
	{fs.ErrExist, KindUsage, ""},
	{fs.ErrInvalid, KindUsage, ""},
	{fs.ErrClosed, KindInternal, ""},
	{os.ErrDeadlineExceeded, KindTimeout, "the store is slow or stuck: try again, or raise the time limit"},
}

// classify finds kind and hint of a cause.
func classify(err error) (Kind, string) {
	for _, c := range classes {
		if errors.Is(err, c.is) {
			return c.kind, c.hint
		}
	}
	if ne, ok := errors.AsType[net.Error](err); ok {
		if ne.Timeout() {
			return KindTimeout, "the store is slow or stuck: try again, or raise the time limit"
		}
		return KindUnreachable, ""
	}
	return KindInternal, ""
}

// KindOf gives the kind that an error carries, from this package or any other, and KindInternal when it has none.
func KindOf(err error) Kind {
	if k, ok := errors.AsType[interface {
		error
		ErrorKind() string
	}](err); ok {
		return Kind(k.ErrorKind())
	}
	kind, _ := classify(err)
	return kind
}

// wrapRead wraps what ReadAt met; io.EOF is no error of the store and stays bare.
func wrapRead(name string, err error) error {
	if err == io.EOF {
		return err
	}
	return Wrap("read", name, err)
}
