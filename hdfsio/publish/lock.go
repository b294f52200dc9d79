package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"dkpipe/hdfsio"
)

// Options say how a lock is held. The zero value is right for production.
type Options struct {
	Owner string             // shown to whoever finds the lock held; empty: the user's name
	Wait  time.Duration      // how long to wait for a lock that is held; 0: not at all
	At    func(point string) // called before and after every step that others can observe; for tests that crash there

	// Heartbeat is the time between signs of life, StaleAfter how long after the last one the lock may be taken over.
	// All runs on one root must agree. Zero means 5 s and 30 s.
	Heartbeat, StaleAfter time.Duration
}

// Holder says who holds a lock. It is the JSON of _lock and of the claims.
type Holder struct {
	Format string `json:"format"`
	Owner  string `json:"owner"`
	process
	Since     time.Time `json:"since"`
	Heartbeat time.Time `json:"heartbeat"` // by the holder's clock: for people, nothing is decided by it
	Epoch     uint64    `json:"epoch"`
	ID        string    `json:"id"`
	Released  bool      `json:"released,omitempty"` // in a claim: the lock was given back
}

const lockFormat = "dkpipe-lock/1"

// Held is the cause of the busy error of Acquire.
type Held struct {
	Holder Holder
	Silent time.Duration // since the last sign of life, by the store's clock
}

// Error names the holder.
func (h *Held) Error() string {
	if h.Holder.ID == "" {
		return "held by another run that has just begun"
	}
	return fmt.Sprintf("held by %s (host %s, process %d) since %s, last sign of life %s ago", h.Holder.Owner, h.Holder.Host,
		h.Holder.PID, h.Holder.Since.UTC().Format("2006-01-02 15:04:05 UTC"), h.Silent.Round(time.Second))
}

// ErrLost is the class of the error that a holder gets when another run took its lock over.
var ErrLost = errors.New("another run took the lock over")

// Lock is the right to publish in one root. Its methods may be called from several goroutines.
type Lock struct {
	place
	me    Holder
	every time.Duration
	stale time.Duration

	lost     chan struct{} // closed when another run took over
	loseOnce sync.Once

	stop    context.CancelFunc // ends the heartbeat
	stopped chan struct{}      // closed when it has ended

	mu       sync.Mutex
	stages   map[string]bool // ids of the stages made under this lock
	released bool
}

// Acquire takes the lock of a root and makes the root when it is not there. If another run holds it, the error is of
// kind busy, its cause a *Held, and it says what to do. A lock whose holder gave no sign of life for StaleAfter is
// taken over, and one whose holder is a process of this machine that has ended, at once. The caller must Release it.
func Acquire(ctx context.Context, fsys hdfsio.FS, root string, opt Options) (*Lock, error) {
	l := newLock(fsys, root, opt)
	if err := l.step("epochs folder made", func() error { return fsys.Mkdir(ctx, l.path(epochsName)) }); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(opt.Wait)
	for {
		seen, err := l.look(ctx)
		if err != nil {
			return nil, err
		}
		free, silent, err := l.free(ctx, seen)
		if err != nil {
			return nil, err
		}
		if free {
			var won bool
			if won, seen, err = l.claim(ctx, seen); err != nil {
				return nil, err
			}
			if won {
				break
			}
			silent = 0
		}
		if !time.Now().Before(deadline) {
			return nil, l.busy(seen.holder, silent)
		}
		if err := sleep(ctx, l.every/5); err != nil {
			return nil, hdfsio.Wrap("lock", l.name(root), err)
		}
	}
	if err := l.show(ctx, l.place); err != nil {
		sctx, cancel := settling(ctx)
		defer cancel()
		return nil, errors.Join(err, l.vacate(sctx))
	}
	l.dropOldClaims(ctx)
	hctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = cancel
	go l.beat(hctx)
	return l, nil
}

// newLock makes a lock that is not held yet.
func newLock(fsys hdfsio.FS, root string, opt Options) *Lock {
	if opt.Owner == "" {
		opt.Owner = userName()
	}
	if opt.Heartbeat <= 0 {
		opt.Heartbeat = 5 * time.Second
	}
	if opt.StaleAfter <= 0 {
		opt.StaleAfter = 30 * time.Second
	}
	id := newID()
	return &Lock{
		place:   place{fs: fsys, root: root, id: id, at: opt.At},
		me:      Holder{Format: lockFormat, Owner: opt.Owner, process: thisProcess(), Since: time.Now().UTC(), ID: id},
		every:   opt.Heartbeat,
		stale:   opt.StaleAfter,
		lost:    make(chan struct{}),
		stopped: make(chan struct{}),
		stages:  make(map[string]bool),
	}
}

// busy makes the error for a lock that is held.
func (l *Lock) busy(h Holder, silent time.Duration) error {
	hint := fmt.Sprintf("wait until it has ended; a run that gives no sign of life for %s is taken over by the next one", l.stale)
	if h.ID != "" {
		hint = fmt.Sprintf("wait until it has ended, or stop process %d on %s; a run that gives no sign of life for %s is taken over by the next one",
			h.PID, h.Host, l.stale)
	}
	return &hdfsio.Error{Op: "lock", Path: l.name(l.root), Kind: hdfsio.KindBusy, Hint: hint, Err: &Held{Holder: h, Silent: silent}}
}

// Epoch is the fencing epoch: every new holder has a higher one.
func (l *Lock) Epoch() uint64 { return l.me.Epoch }

// Lost is closed when a heartbeat or a check found that another run took over. Work should stop then: nothing of it
// can be published any more.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// Check asks the store whether the lock is still ours. The error satisfies errors.Is(err, ErrLost) when it is not.
func (l *Lock) Check(ctx context.Context) error {
	entries, err := l.fs.ReadDir(ctx, l.path(epochsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	top, _ := newestClaim(entries)
	if top == l.me.Epoch {
		select {
		case <-l.lost:
		default:
			return nil
		}
	}
	l.loseOnce.Do(func() { close(l.lost) })
	return &hdfsio.Error{Op: "keep the lock of", Path: l.name(l.root), Kind: hdfsio.KindBusy, Err: ErrLost,
		Hint: fmt.Sprintf("this run was stopped or cut off from the store for more than %s; its work is not published, run it again", l.stale)}
}

// beat gives signs of life until the lock is released or lost.
func (l *Lock) beat(ctx context.Context) {
	defer close(l.stopped)
	quiet := place{fs: l.fs, root: l.root, id: l.id} // heartbeats come at any time: they are no step of the protocol
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A store that does not answer is asked again at the next tick; whether the lock survived, Check will tell.
		bctx, cancel := context.WithTimeout(ctx, l.stale/2)
		err := l.Check(bctx)
		if err == nil {
			err = l.show(bctx, quiet)
		}
		cancel()
		if errors.Is(err, ErrLost) {
			return
		}
	}
}

// show writes _lock: who holds it, and a sign of life.
func (l *Lock) show(ctx context.Context, p place) error {
	h := l.me
	h.Heartbeat = time.Now().UTC()
	return p.replace(ctx, "lock", l.path(lockName), encode(h))
}

// Release gives the lock back if it is still ours and ends the heartbeat. It does so also when ctx is over, within a
// time limit of its own, and it is safe to call twice. When the store cannot be reached, the lock goes stale by itself.
func (l *Lock) Release(ctx context.Context) error {
	l.mu.Lock()
	again := l.released
	l.released = true
	l.mu.Unlock()
	if again {
		return nil
	}
	l.stop()
	<-l.stopped
	ctx, cancel := settling(ctx)
	defer cancel()
	if err := l.Check(ctx); err != nil {
		if errors.Is(err, ErrLost) {
			return nil // nothing here is ours to remove
		}
		return err
	}
	// As long as the claim stands nobody else writes _lock, so it is ours to remove; then the claim is given up.
	err := l.step("lock removed", func() error { return l.fs.Remove(ctx, l.path(lockName)) })
	return errors.Join(err, l.vacate(ctx))
}

// encode gives the JSON of a value of this package, which always has one.
func encode(v any) []byte {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("publish: " + err.Error()) // a type of ours without JSON: a defect that the first test finds
	}
	return append(data, '\n')
}

// sleep waits.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
