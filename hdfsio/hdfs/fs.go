package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"dkpipe/hdfsio"
)

// How many connections lie ready, and for how long. A client of the library renews leases once a second as long as it
// lives, and datanodes close idle connections after four seconds.
const (
	maxClients    = 4
	keepClients   = 10 * time.Second
	maxData       = 8
	keepData      = 3 * time.Second
	connectBudget = 3 * time.Second
	awayBudget    = time.Second
	reportTimeout = 2 * time.Second
	settleTimeout = 10 * time.Second
)

var _ hdfsio.FS = (*FS)(nil)

// FS is one HDFS. It may be used from several goroutines, and Close must be called at the end. Relative names begin at
// the user's home, /user/NAME.
type FS struct {
	o      Options
	first  atomic.Uint32 // the NameNode to ask first, as an index of Options.Namenodes
	closed atomic.Bool
	away   atomic.Bool // no NameNode has answered since a call was given up

	clients shelf[*client]
	data    shelf[*dataConn]
	health  health
}

// Driver gives the driver of the scheme hdfs for hdfsio.Stores. The configuration is found through env (os.Getenv)
// when a store is opened: HADOOP_CONF_DIR, HADOOP_HOME, HADOOP_USER_NAME and what the files refer to.
func Driver(env func(string) string) hdfsio.Driver {
	return func(ctx context.Context, authority string) (hdfsio.FS, error) {
		conf, err := Load(env)
		if err != nil {
			return nil, err
		}
		o, err := conf.Resolve(authority)
		if err != nil {
			return nil, err
		}
		f, err := Dial(ctx, o)
		if err != nil {
			return nil, err // not a nil *FS in an interface
		}
		return f, nil
	}
}

// connecting is the operation of Dial in errors.
const connecting = "connect to"

// Dial connects to an HDFS and asks it for its defaults. A NameNode that cannot be reached is an error within seconds.
func Dial(ctx context.Context, o Options) (*FS, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	f := &FS{o: o}
	f.clients.keep, f.clients.most = keepClients, maxClients
	f.data.keep, f.data.most = keepData, maxData
	if f.o.Retry > connectBudget {
		f.o.Retry = connectBudget
	}
	var defaults hdfs.ServerDefaults
	where := "hdfs://" + o.Service
	err = f.call(ctx, connecting, where, true, func(c *client) (err error) {
		defaults, err = c.ServerDefaults()
		return err
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	f.o.Retry = o.Retry
	if defaults.EncryptDataTransfer {
		f.Close()
		return nil, errEncryptedTransfer()
	}
	if f.o.Replication == 0 {
		f.o.Replication = defaults.Replication
	}
	if f.o.BlockSize == 0 {
		f.o.BlockSize = defaults.BlockSize
	}
	if f.o.BlockSize < int64(defaults.BytesPerChecksum) || f.o.BlockSize%512 != 0 {
		f.Close()
		return nil, &hdfsio.Error{Op: connecting, Path: where, Kind: hdfsio.KindUsage, Err: fmt.Errorf("a block size of %d bytes", f.o.BlockSize),
			Hint: "dfs.blocksize must be a multiple of 512"}
	}
	return f, nil
}

// Close closes all connections. Files and writers that are still open fail.
func (f *FS) Close() error {
	f.closed.Store(true)
	return errors.Join(f.clients.Close(), f.data.Close())
}

// clean makes a name absolute.
func (f *FS) clean(op, name string) (string, error) {
	if name == "" {
		return "", hdfsio.Wrap(op, `""`, fs.ErrNotExist)
	}
	if !path.IsAbs(name) {
		name = path.Join("/user", f.o.User, name)
	}
	return path.Clean(name), nil
}

// URI gives a name the HDFS that it is on, for people and for other programs.
func (f *FS) URI(name string) string { return "hdfs://" + f.o.Service + name }

// stat asks for one file or folder.
func (f *FS) stat(ctx context.Context, op, name string) (fi os.FileInfo, err error) {
	err = f.call(ctx, op, f.URI(name), true, func(c *client) (err error) {
		fi, err = c.Stat(name)
		return err
	})
	return fi, err
}

// Stat describes a file or folder.
func (f *FS) Stat(ctx context.Context, name string) (hdfsio.Info, error) {
	name, err := f.clean("stat", name)
	if err != nil {
		return hdfsio.Info{}, err
	}
	fi, err := f.stat(ctx, "stat", name)
	if err != nil {
		return hdfsio.Info{}, err
	}
	return infoOf(fi), nil
}

func infoOf(fi os.FileInfo) hdfsio.Info {
	info := hdfsio.Info{Name: fi.Name(), Size: fi.Size(), ModTime: fi.ModTime(), Dir: fi.IsDir()}
	if info.Dir {
		info.Size = 0
	}
	if s, ok := fi.Sys().(*hdfs.FileStatus); ok {
		info.Owner, info.ID = s.GetOwner(), s.GetFileId()
	}
	return info
}

// Flags of HdfsFileStatusProto.
const (
	flagEncrypted   = 2
	flagErasureCode = 4
)

// served refuses files that are stored in a way that is not served.
func served(op, name string, fi os.FileInfo) error {
	s, ok := fi.Sys().(*hdfs.FileStatus)
	switch {
	case !ok || fi.IsDir():
		return nil
	case s.GetFlags()&flagErasureCode != 0 || s.GetEcPolicy().GetName() != "":
		return refused(op, name, errErasureCoded)
	case s.GetFlags()&flagEncrypted != 0 || s.GetFileEncryptionInfo() != nil:
		return refused(op, name, errEncryptedFile)
	}
	return nil
}

// Open opens a file for reading. The file is what it is now: when it is replaced or removed while it is read, what was
// located stays readable as long as HDFS keeps the blocks, and then the error has the kind changed.
func (f *FS) Open(ctx context.Context, name string) (hdfsio.File, error) {
	name, err := f.clean("open", name)
	if err != nil {
		return nil, err
	}
	var l layout
	where := f.URI(name)
	err = f.call(ctx, "open", where, true, func(c *client) error {
		fi, err := c.Stat(name)
		if err != nil {
			return err
		}
		if fi.IsDir() {
			return hdfsio.Wrap("open", where, syscall.EISDIR)
		}
		if err := served("open", where, fi); err != nil {
			return err
		}
		l, err = c.locate(name)
		var no *hdfsio.Error
		if errors.As(err, &no) {
			return refused("open", where, no)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f.open(ctx, name, l), nil
}

// tell reports bad replicas to the NameNode. It is a favour: nothing depends on it.
func (f *FS) tell(ctx context.Context, b *block, bad []replica) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	for _, r := range bad {
		_ = f.call(ctx, "report", fmt.Sprintf("blk_%d", b.id), true, func(c *client) error {
			if _, err := c.Stat("/"); err != nil { // connects to the active NameNode
				return err
			}
			return c.report(b, r)
		})
	}
}

// ReadDir lists a folder in name order.
func (f *FS) ReadDir(ctx context.Context, name string) ([]hdfsio.Info, error) {
	name, err := f.clean("list", name)
	if err != nil {
		return nil, err
	}
	var infos []hdfsio.Info
	err = f.call(ctx, "list", f.URI(name), true, func(c *client) error {
		entries, err := c.ReadDir(name)
		if err != nil && !isAnswer(err) && c.usable() { // the library says it in words only
			if fi, err := c.Stat(name); err == nil && !fi.IsDir() {
				return hdfsio.Wrap("list", f.URI(name), syscall.ENOTDIR)
			}
		}
		if err != nil {
			return err
		}
		infos = make([]hdfsio.Info, 0, len(entries))
		for _, e := range entries {
			infos = append(infos, infoOf(e))
		}
		return nil
	})
	// HDFS compares bytes with a sign, so names beyond ASCII come first there.
	slices.SortFunc(infos, func(a, b hdfsio.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, err
}

// Mkdir makes a folder and those above it.
func (f *FS) Mkdir(ctx context.Context, name string) error {
	name, err := f.clean("mkdir", name)
	if err != nil {
		return err
	}
	return f.call(ctx, "mkdir", f.URI(name), true, func(c *client) error {
		return c.MkdirAll(name, os.FileMode(0o777&^*f.o.Umask))
	})
}

// Rename moves a file or folder in one step, by the NameNode's rename2 with the option to overwrite. When the answer
// is lost, it is not repeated: to the NameNode that would be another rename. The error then says so, and its kind is
// unreachable, timeout or interrupted.
func (f *FS) Rename(ctx context.Context, from, to string) error {
	from, err := f.clean("rename", from)
	if err != nil {
		return err
	}
	to, err = f.clean("rename", to)
	if err != nil {
		return err
	}
	both := f.URI(from) + " to " + f.URI(to)
	// This finds a client whose connection works, which makes a lost answer rare.
	if _, err := f.stat(ctx, "rename", from); err != nil {
		return aboutBoth(both, err)
	}
	err = f.call(ctx, "rename", both, false, func(c *client) error { return c.Rename(from, to) })
	if errors.Is(err, fs.ErrNotExist) {
		return &hdfsio.Error{Op: "rename", Path: both, Kind: hdfsio.KindData, Err: fmt.Errorf("the folder above the target, or the source: %w", fs.ErrNotExist)}
	}
	return err
}

// aboutBoth gives an error about the source of a rename both names.
func aboutBoth(both string, err error) error {
	var e *hdfsio.Error
	if errors.As(err, &e) {
		return &hdfsio.Error{Op: e.Op, Path: both, Kind: e.Kind, Hint: e.Hint, Err: e.Err}
	}
	return err
}

// Remove removes a file, or a folder with everything below it. When an answer is lost, what lies under the name is
// removed only if it still is what it was before.
func (f *FS) Remove(ctx context.Context, name string) error {
	name, err := f.clean("remove", name)
	if err != nil {
		return err
	}
	if name == "/" {
		return &hdfsio.Error{Op: "remove", Path: f.URI(name), Kind: hdfsio.KindUsage, Err: errors.New("a whole file system is never removed"), Hint: "name what should go"}
	}
	return f.remove(ctx, name, 0)
}

// removeTries bounds how often a removal is tried whose answer got lost.
const removeTries = 5

// remove removes what has the name, if its identity is id; 0: whatever it is.
func (f *FS) remove(ctx context.Context, name string, id uint64) error {
	var lost error
	for range removeTries {
		fi, err := f.stat(ctx, "remove", name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		if err != nil {
			return err
		}
		is := infoOf(fi).ID
		if id == 0 {
			id = is
		}
		if is != id {
			return nil // ours is gone
		}
		lost = f.call(ctx, "remove", f.URI(name), false, func(c *client) error { return c.RemoveAll(name) })
		k := hdfsio.KindOf(lost)
		if lost == nil || errors.Is(lost, fs.ErrNotExist) {
			return nil
		}
		if ctx.Err() != nil || k != hdfsio.KindUnreachable && k != hdfsio.KindTimeout {
			return lost
		}
	}
	return lost
}
