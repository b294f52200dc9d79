package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dkpipe/hdfsio"
)

// seen is the state of a lock as one look found it.
type seen struct {
	epoch  uint64    // of the newest claim; 0: none
	holder Holder    // its content; empty while it is being written
	sign   time.Time // the last sign of life, by the store's clock
	marks  string    // changes whenever the holder gives a sign of life
}

// newestClaim finds the newest claim in a listing of _epochs.
func newestClaim(entries []hdfsio.Info) (uint64, hdfsio.Info) {
	var top uint64
	var info hdfsio.Info
	for _, e := range entries {
		if n, ok := parseEpoch(e.Name); ok && n > top && !e.Dir {
			top, info = n, e
		}
	}
	return top, info
}

// look reads the newest claim and _lock.
func (l *Lock) look(ctx context.Context) (seen, error) {
	for {
		entries, err := l.fs.ReadDir(ctx, l.path(epochsName))
		if err != nil {
			return seen{}, err
		}
		top, info := newestClaim(entries)
		if top == 0 {
			return seen{}, nil
		}
		data, err := hdfsio.ReadFile(ctx, l.fs, l.path(epochsName, info.Name), maxSmall)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a newer claim came, or this one was given up: the next listing shows it
		}
		if err != nil {
			return seen{}, err
		}
		s := seen{epoch: top, holder: parseHolder(data, top), sign: info.ModTime}
		s.marks = fmt.Sprintf("%d %s %s", top, info.ModTime, data)
		if s.holder.Released {
			return s, nil
		}
		err = l.addSign(ctx, &s)
		return s, err
	}
}

// parseHolder reads a claim or a _lock; what is half written or of another epoch gives an empty holder.
func parseHolder(data []byte, epoch uint64) Holder {
	var h Holder
	if json.Unmarshal(data, &h) != nil || h.Epoch != epoch || h.Format != lockFormat {
		return Holder{}
	}
	return h
}

// addSign looks at _lock, which the holder of the newest claim rewrites as a sign of life.
func (l *Lock) addSign(ctx context.Context, s *seen) error {
	info, err := l.fs.Stat(ctx, l.path(lockName))
	if err == nil {
		var data []byte
		data, err = hdfsio.ReadFile(ctx, l.fs, l.path(lockName), maxSmall)
		if h := parseHolder(data, s.epoch); err == nil && h.ID != "" && h.ID == s.holder.ID {
			s.marks += string(data)
			if info.ModTime.After(s.sign) {
				s.sign = info.ModTime
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not written yet, or just being replaced
	}
	return err
}

// free tells whether the lock may be claimed, and otherwise for how long its holder has been silent.
//
// The clocks of other machines decide nothing. The age of the last sign of life is the difference of two times of the
// store itself; and because even that clock may be set, an old sign is not believed before the lock was watched for
// longer than a heartbeat and nothing changed.
//
// A claim without content is one that was killed between creating and writing it, if it does not get its content within
// half a heartbeat. Should it only be slow, it finds the newer claim when it has written its own, and gives up.
func (l *Lock) free(ctx context.Context, s seen) (bool, time.Duration, error) {
	if s.epoch == 0 || s.holder.Released || s.holder.gone() {
		return true, 0, nil
	}
	if s.holder.ID == "" {
		still, err := l.still(ctx, s, l.every/2)
		return still, 0, err
	}
	now, err := l.storeTime(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil // a holder that collects garbage took our probe away: it lives
	}
	if err != nil {
		return false, 0, err
	}
	silent := max(now.Sub(s.sign), 0)
	if silent < l.stale {
		return false, silent, nil
	}
	still, err := l.still(ctx, s, l.every*3/2)
	return still, silent, err
}

// still watches for a while and tells whether nothing changed.
func (l *Lock) still(ctx context.Context, s seen, d time.Duration) (bool, error) {
	for watched := time.Now(); time.Since(watched) < d; {
		if err := sleep(ctx, l.every/20); err != nil {
			return false, hdfsio.Wrap("lock", l.name(l.root), err)
		}
		again, err := l.look(ctx)
		if err != nil || again.marks != s.marks {
			return false, err
		}
	}
	return true, nil
}

// storeTime asks for the store's own time by making a file.
func (l *Lock) storeTime(ctx context.Context) (time.Time, error) {
	probe := l.path(epochsName, nowPrefix+newID())
	if err := hdfsio.WriteFile(ctx, l.fs, probe, nil); err != nil {
		return time.Time{}, err
	}
	info, err := l.fs.Stat(ctx, probe)
	if rmErr := l.fs.Remove(ctx, probe); err == nil {
		err = rmErr
	}
	return info.ModTime, err
}

// claim tries to become the holder after the state that was seen. When somebody else was faster, won is false and
// found is the state of now.
//
// Of several that try, Create lets one through. One that comes late, with a look from long ago, may find its file
// absent because newer holders have removed old claims; so everybody looks again after Create, and whoever finds a
// newer claim has lost. The newest claim is never removed, so it is always there to be found. The other thing to look
// at is the predecessor: if its claim is not the one that was judged, the judgement does not hold.
func (l *Lock) claim(ctx context.Context, s seen) (won bool, found seen, err error) {
	l.me.Epoch = s.epoch + 1
	l.me.Heartbeat = time.Now().UTC()
	name := l.path(epochsName, epochFile(l.me.Epoch))
	err = l.step("epoch claimed", func() error { return l.create(ctx, name, encode(l.me)) })
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		// Somebody else made it, or claimed the next epoch because we were slow, and removed ours as an old one.
		found, err = l.look(ctx)
		return false, found, err
	}
	if err != nil {
		return false, seen{}, err
	}
	found, err = l.look(ctx)
	if err == nil && found.holder.ID == l.me.ID {
		won, err = l.unchanged(ctx, s)
		if won {
			return true, found, nil
		}
		found = s
	}
	sctx, cancel := settling(ctx)
	defer cancel()
	return false, found, errors.Join(err, l.vacate(sctx))
}

// create makes a claim with its content. Between the two steps a crash leaves an empty claim; see free.
func (l *Lock) create(ctx context.Context, name string, data []byte) error {
	w, err := l.fs.Create(ctx, name)
	if err != nil {
		return err
	}
	return l.step("epoch written", func() error {
		_, err := w.Write(data)
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			w.Abort()
		}
		return err
	})
}

// unchanged tells whether the claim that was judged is still the same, or removed as an old one.
func (l *Lock) unchanged(ctx context.Context, s seen) (bool, error) {
	if s.epoch == 0 {
		return true, nil
	}
	data, err := hdfsio.ReadFile(ctx, l.fs, l.path(epochsName, epochFile(s.epoch)), maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return parseHolder(data, s.epoch).ID == s.holder.ID, nil
}

// vacate marks our claim as given up. Nobody else writes this file, so there is nothing to race with.
func (l *Lock) vacate(ctx context.Context) error {
	h := l.me
	h.Released = true
	return l.replace(ctx, "claim released", l.path(epochsName, epochFile(h.Epoch)), encode(h))
}

// dropOldClaims removes the claims below ours. What cannot be removed now goes the next time.
func (l *Lock) dropOldClaims(ctx context.Context) {
	entries, err := l.fs.ReadDir(ctx, l.path(epochsName))
	if err != nil {
		return
	}
	for _, e := range entries {
		if n, ok := parseEpoch(e.Name); ok && n < l.me.Epoch {
			l.step("old claim removed", func() error { return l.fs.Remove(ctx, l.path(epochsName, e.Name)) })
		}
	}
}
