package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"dkpipe/hdfsio"
)

// Found is the version that readers take.
type Found struct {
	Version  Version
	Path     string // the version's folder on the store
	Contents Contents
	Warning  string // why it is not the one that LATEST names; empty when it is
}

// Latest finds the version that LATEST names and checks that its files are there. When LATEST is absent, broken, or
// names what is not complete, it falls back to the newest complete version that LATEST has named before, and says so in
// Warning. A version that LATEST never named is not served: a gate may have refused it. Nothing at all is an error of
// class fs.ErrNotExist that says what to do.
func Latest(ctx context.Context, fsys hdfsio.FS, root string) (Found, error) {
	named, c, err := readLatest(ctx, fsys, root)
	if err == nil {
		return Found{Version: named, Path: path.Join(root, named.String()), Contents: c}, nil
	}
	if !unusable(err) {
		return Found{}, err
	}
	why := err
	history, err := History(ctx, fsys, root)
	if err != nil {
		return Found{}, err
	}
	versions, err := Versions(ctx, fsys, root)
	if err != nil {
		return Found{}, err
	}
	known := func(v Version) bool { return slices.ContainsFunc(history, func(m Move) bool { return m.Version == v }) }
	refused := Version(0) // the newest complete one that LATEST never named
	for _, v := range slices.Backward(versions) {
		c, err := Inspect(ctx, fsys, root, v)
		switch {
		case unusable(err):
		case err != nil:
			return Found{}, err
		case known(v):
			warning := fmt.Sprintf("%v: using %s, the newest complete version that LATEST has named", why, v)
			return Found{Version: v, Path: path.Join(root, v.String()), Contents: c, Warning: warning}, nil
		default:
			refused = max(refused, v)
		}
	}
	cause, hint := fmt.Errorf("no version is here: %w", fs.ErrNotExist), "dkpipe preprocess makes a dataset, dkpipe train a model, dkpipe run both"
	switch {
	case refused > 0:
		cause = fmt.Errorf("LATEST has never named one of the versions here (a gate may have kept them back): %w", fs.ErrNotExist)
		hint = fmt.Sprintf("name one to take it all the same: %s", hdfsio.Name(fsys, path.Join(root, refused.String())))
	case len(versions) > 0:
		cause = fmt.Errorf("none of the %d versions here is complete: %w", len(versions), fs.ErrNotExist)
	}
	return Found{}, &hdfsio.Error{Op: "read", Path: hdfsio.Name(fsys, root), Kind: hdfsio.KindData, Err: cause, Hint: hint}
}

// readLatest follows LATEST. It follows again when LATEST moved meanwhile: then the version that it named may have
// been removed by retention.
func readLatest(ctx context.Context, fsys hdfsio.FS, root string) (Version, Contents, error) {
	named, err := readPointer(ctx, fsys, root)
	for err == nil {
		var c Contents
		if c, err = Inspect(ctx, fsys, root, named); err == nil {
			return named, c, nil
		}
		again, againErr := readPointer(ctx, fsys, root)
		if againErr != nil || again == named {
			return named, c, wrapDangling(hdfsio.Name(fsys, path.Join(root, latestName)), named, err)
		}
		named, err = again, nil
	}
	return 0, Contents{}, err
}

// wrapDangling says that LATEST names something that is not there; other errors stay.
func wrapDangling(name string, named Version, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &hdfsio.Error{Op: "read", Path: name, Kind: hdfsio.KindCorrupt,
		Err: fmt.Errorf("it names %s, which is not there", named)}
}

// readPointer reads LATEST. The error is of class fs.ErrNotExist or of kind corrupt when it is absent or broken.
func readPointer(ctx context.Context, fsys hdfsio.FS, root string) (Version, error) {
	name := path.Join(root, latestName)
	data, err := hdfsio.ReadFile(ctx, fsys, name, 4096)
	if err != nil {
		return 0, err
	}
	v, err := ParseVersion(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return 0, &hdfsio.Error{Op: "read", Path: hdfsio.Name(fsys, name), Kind: hdfsio.KindCorrupt, Err: err}
	}
	return v, nil
}

// Move is one line of the history: LATEST was made to name a version.
type Move struct {
	Version Version   `json:"version"`
	Time    time.Time `json:"time"`
	How     string    `json:"how"` // publish or rollback
	Owner   string    `json:"owner"`
}

// History lists the moves of LATEST, oldest first. A root without a history has none; a line that cannot be read is
// left out, because the history explains and never decides what readers get.
func History(ctx context.Context, fsys hdfsio.FS, root string) ([]Move, error) {
	data, err := hdfsio.ReadFile(ctx, fsys, path.Join(root, historyName), maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var moves []Move
	for line := range bytes.Lines(data) {
		var m Move
		if json.Unmarshal(line, &m) == nil {
			moves = append(moves, m)
		}
	}
	return moves, nil
}

// MoveLatest makes LATEST name a version, which must be complete and not older than the one that it names now (see
// Rollback for that). It asks for the lock right before.
func (l *Lock) MoveLatest(ctx context.Context, v Version) error {
	if _, err := Inspect(ctx, l.fs, l.root, v); err != nil {
		return err
	}
	now, err := readPointer(ctx, l.fs, l.root)
	if err != nil && !unusable(err) {
		return err
	}
	if v < now {
		return &hdfsio.Error{Op: "move", Path: l.name(l.path(latestName)), Kind: hdfsio.KindUsage,
			Err: fmt.Errorf("it names %s, which is newer than %s", now, v), Hint: "go back to an older version with dkpipe model rollback"}
	}
	return l.point(ctx, now, v, "publish")
}

// point moves LATEST from one version (0: none) to another and writes the history.
//
// A run that died between the two steps left LATEST ahead of the history; the version that LATEST names is therefore
// added first when it is missing.
func (l *Lock) point(ctx context.Context, from, to Version, how string) error {
	history, err := History(ctx, l.fs, l.root)
	if err != nil {
		return err
	}
	if n := len(history); from != 0 && (n == 0 || history[n-1].Version != from) {
		history = append(history, Move{Version: from, Time: time.Now().UTC(), How: "publish", Owner: "found"})
	}
	history = append(history, Move{Version: to, Time: time.Now().UTC(), How: how, Owner: l.me.Owner})
	var lines []byte
	for _, m := range history {
		line, err := json.Marshal(m)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if err := l.put(ctx, "LATEST", l.path(latestName), []byte(to.String()+"\n")); err != nil {
		return err
	}
	return l.put(ctx, "history", l.path(historyName), lines)
}

// put replaces a small file for as long as the lock is ours. What the store did not do, because it was restarted just
// then, is done again, and not without asking for the lock again: another run may have taken over meanwhile.
func (l *Lock) put(ctx context.Context, point, name string, data []byte) error {
	for n := 1; ; n++ {
		if err := l.Check(ctx); err != nil {
			return err
		}
		err := l.replace(ctx, point, name, data)
		if k := hdfsio.KindOf(err); err == nil || n == tries || ctx.Err() != nil || k != hdfsio.KindUnreachable && k != hdfsio.KindTimeout {
			return err
		}
	}
}

// Rollback makes LATEST name an older version: the given one, or with 0 the newest complete one below the present
// that LATEST has named before, so never one that a gate kept back. It gives both. A named version may be any
// complete one.
func (l *Lock) Rollback(ctx context.Context, to Version) (from, now Version, err error) {
	from, err = readPointer(ctx, l.fs, l.root)
	if err != nil && !unusable(err) {
		return 0, 0, err
	}
	if to == 0 {
		if to, err = l.previous(ctx, from); err != nil {
			return from, 0, err
		}
	} else if _, err := Inspect(ctx, l.fs, l.root, to); err != nil {
		return from, 0, err
	}
	return from, to, l.point(ctx, from, to, "rollback")
}

// previous finds the newest complete version of the history below v; v == 0 is above all.
func (l *Lock) previous(ctx context.Context, v Version) (Version, error) {
	history, err := History(ctx, l.fs, l.root)
	if err != nil {
		return 0, err
	}
	var candidates []Version
	for _, m := range history {
		if v == 0 || m.Version < v {
			candidates = append(candidates, m.Version)
		}
	}
	sortVersions(candidates)
	for _, c := range slices.Backward(slices.Compact(candidates)) {
		_, err := Inspect(ctx, l.fs, l.root, c)
		if err == nil {
			return c, nil
		}
		if !unusable(err) {
			return 0, err
		}
	}
	e := &hdfsio.Error{Op: "roll back", Path: l.name(l.root), Kind: hdfsio.KindUsage,
		Err: noVersion(fmt.Sprintf("there is no complete version before %s that LATEST has named", v)), Hint: "name the version to go to"}
	if all, err := Versions(ctx, l.fs, l.root); err == nil && len(all) == 1 && all[0] == v {
		e.Err, e.Hint = noVersion(fmt.Sprintf("%s is the only version", v)), "there is something to go back to when another one was published"
	}
	return 0, e
}

// noVersion is an error of class fs.ErrNotExist about versions, not about a file.
type noVersion string

func (e noVersion) Error() string        { return string(e) }
func (e noVersion) Is(target error) bool { return target == fs.ErrNotExist }

func sortVersions(v []Version) { slices.Sort(v) }
