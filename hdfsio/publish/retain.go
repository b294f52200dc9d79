package publish

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// Retain removes old versions and gives their numbers. It keeps the version that LATEST names, the keep-1 newest ones
// below it, to which one may want to go back, and every one above it: those were kept back by a gate, or LATEST was
// rolled back from them, and somebody will want to look at them. With keep < 1, or when LATEST does not name a
// complete version, nothing is removed. Of the versions below it that LATEST never named, which a gate refused, as many
// are kept. A version that somebody reads (see PinVersion) stays, too, and goes the next time.
//
// A version first becomes .trash-…, in one step, so that readers never see a part of it.
func (l *Lock) Retain(ctx context.Context, keep int) ([]Version, error) {
	if keep < 1 {
		return nil, nil
	}
	latest, _, err := readLatest(ctx, l.fs, l.root)
	if unusable(err) {
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
	served, refused := 0, 0
	for _, v := range slices.Backward(versions) {
		if v >= latest {
			continue
		}
		// Each sort has a quota of its own: what a gate refused must not push out what one may want to go back to.
		n := &refused
		if slices.ContainsFunc(history, func(m Move) bool { return m.Version == v }) {
			n = &served
		}
		if *n++; *n >= keep {
			old = append(old, v)
		}
	}
	slices.Reverse(old)
	var removed []Version
	for _, v := range old {
		gone, err := l.unpinned(ctx, v, func() error { return l.trash(ctx, v) })
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, v)
		}
	}
	return removed, nil
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
// sign of life. It gives their names. Stage calls it.
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
	for i, name := range garbage {
		if err := l.step("garbage removed", func() error { return l.fs.Remove(ctx, name) }); err != nil {
			return garbage[:i], err
		}
	}
	return garbage, nil
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
