package publish

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"time"

	"dkpipe/hdfsio"
)

// pinOf reads the version off a pin's name; false for what is no pin.
func pinOf(name string) (Version, bool) {
	digits, rest, ok := strings.Cut(name, "-")
	v, err := ParseVersion(digits)
	return v, ok && err == nil && strings.HasSuffix(rest, ".json")
}

// pin is a pin as a listing shows it.
type pin struct {
	name    string
	version Version
	sign    time.Time // the last sign of life, by the store's clock
	process process
}

// pins lists the pins of a version, or with 0 of all.
func (l *Lock) pins(ctx context.Context, of Version) ([]pin, error) {
	entries, err := l.fs.ReadDir(ctx, l.path(pinsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []pin
	for _, e := range entries {
		v, ok := pinOf(e.Name)
		if !ok || of != 0 && v != of {
			continue
		}
		data, err := hdfsio.ReadFile(ctx, l.fs, l.path(pinsName, e.Name), maxSmall)
		if errors.Is(err, fs.ErrNotExist) {
			continue // released
		}
		if err != nil {
			return nil, err
		}
		var h Holder
		if json.Unmarshal(data, &h) != nil || h.Format != pinFormat {
			h = Holder{}
		}
		all = append(all, pin{name: e.Name, version: v, sign: e.ModTime, process: h.process})
	}
	return all, nil
}

// live splits pins into those that give signs of life and those that do not, by the rule of locks: the process ended
// on this machine, or no sign of life for StaleAfter by the store's clock and none while it was watched for longer than
// a heartbeat.
func (l *Lock) live(ctx context.Context, pins []pin) (alive, dead []pin, err error) {
	var silent []pin
	var now time.Time
	for _, p := range pins {
		if p.process.gone() {
			dead = append(dead, p)
			continue
		}
		if now.IsZero() {
			if now, err = l.storeTime(ctx); err != nil {
				return nil, nil, err
			}
		}
		if now.Sub(p.sign) < l.stale {
			alive = append(alive, p)
		} else {
			silent = append(silent, p)
		}
	}
	if len(silent) == 0 {
		return alive, dead, nil
	}
	if err := sleep(ctx, l.every*3/2); err != nil {
		return nil, nil, hdfsio.Wrap("lock", l.name(l.root), err)
	}
	for _, p := range silent {
		info, err := l.fs.Stat(ctx, l.path(pinsName, p.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, nil, err
		case info.ModTime.Equal(p.sign):
			dead = append(dead, p)
		default:
			alive = append(alive, p)
		}
	}
	return alive, dead, nil
}

// unpinned runs do for a version that nobody reads, and keeps readers from pinning it meanwhile. It tells whether do
// was run. See PinVersion for the order of the steps.
func (l *Lock) unpinned(ctx context.Context, v Version, do func() error) (bool, error) {
	if err := l.step("pins folder made", func() error { return l.fs.Mkdir(ctx, l.path(pinsName)) }); err != nil {
		return false, err
	}
	name := l.path(pinsName, removingPrefix+v.String()+"-"+l.id)
	announce := func() error { return hdfsio.WriteFile(ctx, l.fs, name, encode(l.me)) }
	if err := l.step("removal announced", announce); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	removed, err := func() (bool, error) {
		pins, err := l.pins(ctx, v)
		if err != nil {
			return false, err
		}
		if alive, _, err := l.live(ctx, pins); err != nil || len(alive) > 0 {
			return false, err
		}
		if err := l.Check(ctx); err != nil {
			return false, err
		}
		return true, do()
	}()
	sctx, cancel := settling(ctx)
	defer cancel()
	return removed, errors.Join(err, l.step("removal over", func() error { return l.fs.Remove(sctx, name) }))
}

// deadPins lists what readers and removers that have ended left in _pins.
func (l *Lock) deadPins(ctx context.Context) ([]string, error) {
	entries, err := l.fs.ReadDir(ctx, l.path(pinsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pins, err := l.pins(ctx, 0)
	if err != nil {
		return nil, err
	}
	alive, dead, err := l.live(ctx, pins)
	if err != nil {
		return nil, err
	}
	var garbage []string
	for _, p := range dead {
		garbage = append(garbage, l.path(pinsName, p.name))
	}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name, removingPrefix):
			if !strings.HasSuffix(e.Name, l.id) { // of an older epoch: only a holder of the lock removes versions
				garbage = append(garbage, l.path(pinsName, e.Name))
			}
		case strings.HasPrefix(e.Name, tempPrefix) && !ofLivePin(e.Name, alive) && l.garbage(e.Name):
			// Perhaps of a reader that is about to pin: it gets the time of a heartbeat that failed.
			now, err := l.storeTime(ctx)
			if err != nil {
				return nil, err
			}
			if now.Sub(e.ModTime) > l.stale {
				garbage = append(garbage, l.path(pinsName, e.Name))
			}
		}
	}
	return garbage, nil
}

// ofLivePin tells whether a temporary file belongs to a pin that gives signs of life.
func ofLivePin(temp string, alive []pin) bool {
	for _, p := range alive {
		id := strings.TrimSuffix(strings.TrimPrefix(p.name, p.version.String()+"-"), ".json")
		if strings.HasPrefix(temp, tempPrefix+id) {
			return true
		}
	}
	return false
}
