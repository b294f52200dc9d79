package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"dkpipe/hdfsio"
)

// Retain removes old versions and gives their numbers. It keeps the version that LATEST names, the keep-1 newest ones
// below it, to which one may want to go back, and the keep newest ones above it: those were kept back by a gate, are of
// interrupted runs, or LATEST was rolled back from them, and somebody will want to look at them. Of the versions below it
// that LATEST never named, which a gate refused, keep-1 are kept, too. Where there is no LATEST, all versions are above
// it. So a root never holds more than 3*keep-1 versions beside those in also, and those that somebody reads (see PinVersion),
// which go the next time. Versions in also stay in any case. With keep < 1, or when LATEST is there and does not name a complete version, nothing is removed.
//
// A version first becomes .trash-…, in one step, so that readers never see a part of it. One that this user may not
// remove does not keep the others: they go, and then the error is of kind denied.
func (l *Lock) Retain(ctx context.Context, keep int, also ...Version) ([]Version, error) {
	if keep < 1 {
		return nil, nil
	}
	latest, _, err := readLatest(ctx, l.fs, l.root)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !broken(err): // nothing was ever good enough: everything is above it
		latest, err = 0, nil
	case unusable(err):
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	versions, err := Versions(ctx, l.fs, l.root)
	if err != nil {
		return nil, err
	}
	history, err := History(ctx, l.fs, l.root)
	if err != nil {
		return nil, err
	}
	var old []Version
	above, served, refused := 0, 0, 0
	for _, v := range slices.Backward(versions) {
		if v == latest {
			continue
		}
		if v > latest {
			if above++; above > keep && !slices.Contains(also, v) {
				old = append(old, v)
			}
			continue
		}
		// Each sort has a quota of its own: what a gate refused must not push out what one may want to go back to.
		n := &refused
		if slices.ContainsFunc(history, func(m Move) bool { return m.Version == v }) {
			n = &served
		}
		if *n++; *n >= keep && !slices.Contains(also, v) {
			old = append(old, v)
		}
	}
	slices.Reverse(old)
	var removed []Version
	var left denials
	for _, v := range old {
		gone, err := l.unpinned(ctx, v, func() error { return l.trash(ctx, v) })
		if err != nil && !left.add(err) {
			return removed, err
		}
		if gone && err == nil {
			removed = append(removed, v)
		}
	}
	return removed, left.err()
}

// denials are removals for which this user has no right.
type denials struct {
	first error
	n     int
}

// add takes an error that is one.
func (d *denials) add(err error) bool {
	if hdfsio.KindOf(err) != hdfsio.KindDenied {
		return false
	}
	if d.n++; d.n == 1 {
		d.first = err
	}
	return true
}

// err names the first and says how many there are.
func (d *denials) err() error {
	if d.n < 2 {
		return d.first
	}
	return fmt.Errorf("%w; and %d more", d.first, d.n-1)
}

// trash removes one version.
func (l *Lock) trash(ctx context.Context, v Version) error {
	from, to := l.path(v.String()), l.path(trashPrefix+v.String()+"-"+newID())
	err := l.step("old version renamed", func() error { return l.fs.Rename(ctx, from, to) })
	if err != nil {
		sctx, cancel := settling(ctx)
		defer cancel()
		if _, statErr := l.fs.Stat(sctx, from); !errors.Is(statErr, fs.ErrNotExist) {
			return err
		}
	}
	return l.step("old version removed", func() error { return l.fs.Remove(ctx, to) })
}

// Collect removes what dead runs and readers left: stages, versions on their way out, temporary files, pins that gave no
// sign of life. It gives their names. Stage calls it. What this user may not remove stays for its owner, and when all
// else is gone the error is of kind denied: nothing of it is in the way of a new version.
//
// Whose they are needs no guess. They are listed first, and then the lock is asked for: if no claim is newer than
// ours now, everything in the listing was made by us, which we know, or under an older epoch, whose holder has ended
// or been put aside.
func (l *Lock) Collect(ctx context.Context) ([]string, error) {
	var garbage []string
	for _, dir := range []string{"", epochsName, slotsName} {
		entries, err := l.fs.ReadDir(ctx, l.path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if l.garbage(e.Name) {
				garbage = append(garbage, l.path(dir, e.Name))
			}
		}
	}
	pins, err := l.deadPins(ctx)
	if err != nil {
		return nil, err
	}
	if garbage = append(garbage, pins...); len(garbage) == 0 {
		return nil, nil
	}
	if err := l.Check(ctx); err != nil {
		return nil, err
	}
	var removed []string
	var left denials
	for _, name := range garbage {
		err := l.step("garbage removed", func() error { return l.fs.Remove(ctx, name) })
		switch {
		case err == nil:
			removed = append(removed, name)
		case !left.add(err):
			return removed, err
		}
	}
	return removed, left.err()
}

// garbage tells by the name whether something is left over by somebody else.
func (l *Lock) garbage(name string) bool {
	l.mu.Lock()
	mine := l.stages[name]
	l.mu.Unlock()
	if mine || strings.HasPrefix(name, tempPrefix+l.id) {
		return false
	}
	for _, prefix := range []string{stagePrefix, trashPrefix, tempPrefix, nowPrefix} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
