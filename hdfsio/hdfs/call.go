package hdfs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"dkpipe/hdfsio"
)

// Waiting between the tries of one call: the first follows at once, because connections that lay idle break when a
// server was restarted; the later ones follow with growing waits.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 2 * time.Second
)

// call makes one call on a client of the pool, within the context and the time limit. What a NameNode answers is
// final, except that it is not active or not ready yet. Broken connections lead to another try, on another client and
// at another NameNode; when the call may have been made before, this is done only if doing it again is the same.
func (f *FS) call(ctx context.Context, op, name string, repeatable bool, fn func(c *client) error) error {
	return f.tryOn(ctx, op, name, repeatable, func(ctx context.Context) error {
		c, err := f.take(ctx)
		if err != nil {
			return err
		}
		err = c.run(ctx, fn)
		f.give(c, judge(err).broken)
		return err
	})
}

// callAndKeep is call for what must not be repeated, on a client that stays with the caller when all went well.
func (f *FS) callAndKeep(ctx context.Context, op, name string, fn func(c *client) error) (kept *client, err error) {
	err = f.tryOn(ctx, op, name, false, func(ctx context.Context) error {
		c, err := f.take(ctx)
		if err != nil {
			return err
		}
		if err = c.run(ctx, fn); err != nil {
			f.give(c, judge(err).broken)
			return err
		}
		kept = c
		return nil
	})
	return kept, err
}

// tryOn makes attempts until one gives a final answer, or the time is over.
func (f *FS) tryOn(ctx context.Context, op, name string, repeatable bool, attempt func(ctx context.Context) error) error {
	if err := ended(ctx); err != nil {
		return hdfsio.Wrap(op, name, err)
	}
	within, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	var failing time.Time
	wait := time.Duration(0)
	for {
		err := attempt(within)
		v := judge(err)
		if !v.broken {
			f.away.Store(false)
		}
		if v.unsure && !repeatable {
			return unknownOutcome(op, name, err)
		}
		if !v.again {
			return wrap(op, name, f.o.User, err)
		}
		if over := ended(ctx); over != nil {
			return hdfsio.Wrap(op, name, over)
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if f.o.Retry < 0 || time.Since(failing)+wait > f.patience() || within.Err() != nil {
			return f.given(op, name, err)
		}
		if !sleep(within, wait) {
			if over := ended(ctx); over != nil {
				return hdfsio.Wrap(op, name, over)
			}
			return f.given(op, name, err)
		}
		wait = min(max(2*wait, firstWait), lastWait)
		wait += rand.N(wait / 4)
	}
}

// patience is how long a call goes on trying. Once one has waited in vain, those that follow, which clear up as a rule, do
// not wait as long again, until an answer comes.
func (f *FS) patience() time.Duration {
	if f.away.Load() {
		return min(f.o.Retry, awayBudget)
	}
	return f.o.Retry
}

// given is the error of a call that was given up.
func (f *FS) given(op, name string, err error) error {
	f.away.Store(true)
	if isAnswer(err) { // not active, not ready
		return wrap(op, name, f.o.User, err)
	}
	e := &hdfsio.Error{Op: op, Path: name, Kind: hdfsio.KindUnreachable, Err: plain(err),
		Hint: "is the NameNode running, and are host and port (or HADOOP_CONF_DIR) right?"}
	if op != connecting { // else the path is the HDFS
		e.Err = fmt.Errorf("HDFS %s: %w", f.o.Service, e.Err)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		e.Hint = "check the spelling of the host"
		if f.o.noService != "" {
			e.Hint = f.o.noService
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err) {
		e.Kind, e.Hint = hdfsio.KindTimeout, "the NameNode is silent or slow: try again later, or look at its log"
	}
	return e
}

// sleep waits, or gives false when the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// take gives a client out of the pool, or a new one.
func (f *FS) take(ctx context.Context) (*client, error) {
	for {
		c, ok := f.clients.take(clientKey)
		if !ok {
			break
		}
		if c.usable() {
			return c, nil
		}
		c.Close() // broke while it lay there
	}
	if f.closed.Load() {
		return nil, &hdfsio.Error{Op: "use", Path: "hdfs://" + f.o.Service, Kind: hdfsio.KindInternal, Err: errClosed}
	}
	first := f.first.Load()
	n := uint32(len(f.o.Namenodes))
	addresses := make([]string, 0, n)
	for i := range n {
		addresses = append(addresses, f.o.Namenodes[(first+i)%n])
	}
	c, err := newClient(ctx, &f.o, addresses)
	if err != nil {
		f.first.CompareAndSwap(first, (first+1)%n)
		return nil, err
	}
	return c, nil
}

// clientKey is the only key of the pool of clients: each goes to whatever NameNode is active.
const clientKey = ""

// give takes a client back. After a good call its NameNode is the one to ask first; after a broken one the next is.
func (f *FS) give(c *client, broken bool) {
	server := c.server()
	first := f.first.Load()
	n := uint32(len(f.o.Namenodes))
	broken = broken || !c.usable()
	for i, a := range f.o.Namenodes {
		switch {
		case a != server:
		case broken && uint32(i) == first:
			f.first.CompareAndSwap(first, (first+1)%n)
		case !broken && uint32(i) != first:
			f.first.CompareAndSwap(first, uint32(i))
		}
	}
	if broken {
		c.Close()
		return
	}
	f.clients.put(clientKey, c)
}
