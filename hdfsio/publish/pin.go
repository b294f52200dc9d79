package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"dkpipe/hdfsio"
)

// Pin keeps one version from being removed while this process reads it: a small file with a heartbeat, which goes
// stale by the same rule as a lock. Its methods may be called from several goroutines.
type Pin struct {
	place   // its id is the pin's
	version Version
	me      Holder
	every   time.Duration
	stale   time.Duration

	stop    context.CancelFunc // ends the heartbeat
	stopped chan struct{}      // closed when it has ended
	once    sync.Once
}

const pinFormat = "dkpipe-pin/1"

// PinVersion pins a version of a root, and the caller must Release it. When it returns nil the version is there and
// complete, and Lock.Retain leaves it alone as long as the pin gives signs of life. Of opt it takes Owner, At and the
// times; the holder of the lock must agree on those.
//
// A version that is not there, or that was just being removed, is an error of class fs.ErrNotExist and kind changed.
// Where this user may not write in the root the error is of kind denied: the version can be read all the same, and
// nothing promises that it stays.
//
// Reader and remover each first write what they want and then look for the other: the reader its pin, Lock.Retain a
// file named removing-<version>. At least one of them sees the other, so a version is never pinned and removed.
func PinVersion(ctx context.Context, fsys hdfsio.FS, root string, v Version, opt Options) (*Pin, error) {
	l := newLock(fsys, root, opt) // for its defaults, and to tell whether a remover lives
	p := &Pin{place: l.place, version: v, me: l.me, every: l.every, stale: l.stale, stopped: make(chan struct{})}
	p.me.Format = pinFormat
	if _, err := fsys.Stat(ctx, p.path(v.String())); err != nil {
		return nil, p.gone(err)
	}
	if err := p.step("pins folder made", func() error { return fsys.Mkdir(ctx, p.path(pinsName)) }); err != nil {
		return nil, err
	}
	if err := p.show(ctx, p.place); err != nil {
		return nil, err
	}
	if err := p.settle(ctx, l); err != nil {
		sctx, cancel := settling(ctx)
		defer cancel()
		return nil, errors.Join(err, p.drop(sctx))
	}
	hctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = cancel
	go p.beat(hctx)
	return p, nil
}

// gone makes the error of a version that was removed.
func (p *Pin) gone(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return goneErr(p.name(p.path(p.version.String())), p.version)
}

func goneErr(name string, v Version) error {
	return &hdfsio.Error{Op: "read", Path: name, Kind: hdfsio.KindChanged, Err: fmt.Errorf("%s was removed: %w", v, fs.ErrNotExist),
		Hint: "old versions are removed by the runs that make new ones: keep more of them (keep_versions), or read LATEST"}
}

// settle waits until nobody is removing the version, and then looks whether it is still there.
func (p *Pin) settle(ctx context.Context, l *Lock) error {
	for deadline := time.Now().Add(p.stale); ; {
		who, err := p.remover(ctx, l)
		if err != nil {
			return err
		}
		if who == nil {
			_, err := Inspect(ctx, p.fs, p.root, p.version)
			return p.gone(err)
		}
		if !time.Now().Before(deadline) {
			return &hdfsio.Error{Op: "read", Path: p.name(p.path(p.version.String())), Kind: hdfsio.KindBusy,
				Err: fmt.Errorf("it is being removed by %s (host %s, process %d)", who.Owner, who.Host, who.PID), Hint: "read LATEST, or wait until that run has ended"}
		}
		if err := sleep(ctx, p.every/5); err != nil {
			return hdfsio.Wrap("pin", p.name(p.path(p.version.String())), err)
		}
	}
}

// remover finds who is about to remove the version; nil when there is nobody, or nobody who could go on with it.
func (p *Pin) remover(ctx context.Context, l *Lock) (*Holder, error) {
	entries, err := p.fs.ReadDir(ctx, p.path(pinsName))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, removingPrefix+p.version.String()+"-") {
			continue
		}
		data, err := hdfsio.ReadFile(ctx, p.fs, p.path(pinsName, e.Name), maxSmall)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var h Holder
		if json.Unmarshal(data, &h) == nil && h.process.gone() {
			continue
		}
		// A holder that was put aside finds the newer claim before it removes anything.
		claims, err := p.fs.ReadDir(ctx, l.path(epochsName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if top, _ := newestClaim(claims); h.Epoch > 0 && top > h.Epoch {
			continue
		}
		return &h, nil
	}
	return nil, nil
}

// file is where the pin lies.
func (p *Pin) file() string { return p.path(pinsName, p.version.String()+"-"+p.id+".json") }

// show writes the pin: who reads, and a sign of life.
func (p *Pin) show(ctx context.Context, at place) error {
	h := p.me
	h.Heartbeat = time.Now().UTC()
	return at.replace(ctx, "pin", p.file(), encode(h))
}

func (p *Pin) drop(ctx context.Context) error {
	return p.step("pin removed", func() error { return p.fs.Remove(ctx, p.file()) })
}

// beat gives signs of life until the pin is released. A store that does not answer is asked again at the next tick.
func (p *Pin) beat(ctx context.Context) {
	defer close(p.stopped)
	quiet := place{fs: p.fs, root: p.root, id: p.id}
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bctx, cancel := context.WithTimeout(ctx, p.stale/2)
		_ = p.show(bctx, quiet) // what cannot be shown makes the pin stale, and reading says so
		cancel()
	}
}

// Version is the version that is pinned.
func (p *Pin) Version() Version { return p.version }

// Release gives the version free and ends the heartbeat. It does so also when ctx is over, within a time limit of its
// own, and it is safe to call twice. When the store cannot be reached, the pin goes stale by itself.
func (p *Pin) Release(ctx context.Context) error {
	var err error
	p.once.Do(func() {
		p.stop()
		<-p.stopped
		ctx, cancel := settling(ctx)
		defer cancel()
		err = p.drop(ctx)
	})
	return err
}

// Reading gives the store as a reader of one version sees it: a file of the version that is not there any more is an
// error of kind changed that names the version, because it was there when the version was published.
func Reading(fsys hdfsio.FS, root string, v Version) hdfsio.FS {
	return reading{FS: fsys, dir: path.Join(root, v.String()) + "/", version: v}
}

type reading struct {
	hdfsio.FS
	dir     string
	version Version
}

// URI names a file or folder as the store below does.
func (r reading) URI(name string) string { return hdfsio.Name(r.FS, name) }

// Open opens a file for reading.
func (r reading) Open(ctx context.Context, name string) (hdfsio.File, error) {
	f, err := r.FS.Open(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(path.Clean(name), r.dir) {
		return f, err
	}
	if _, statErr := r.Stat(ctx, strings.TrimSuffix(r.dir, "/")); errors.Is(statErr, fs.ErrNotExist) {
		return nil, goneErr(r.URI(name), r.version)
	}
	return nil, &hdfsio.Error{Op: "read", Path: r.URI(name), Kind: hdfsio.KindChanged, Err: fmt.Errorf("a file of %s is missing: %w", r.version, fs.ErrNotExist),
		Hint: "somebody removed it after it was published: take another version, or make a new one"}
}
