package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"dkpipe/hdfsio"
)

// Publish makes the stage a version, in one step and for all readers; LATEST does not move. last may write the files
// that hold the version's number (a manifest); it is called right before the rename, and again with the next number
// when the first is taken, after what it wrote was removed. It may be nil.
//
// After an error the stage still has to be aborted.
func (s *Stage) Publish(ctx context.Context, last func(v Version) error) (Version, error) {
	v, err := s.publish(ctx, last)
	if err != nil && !errors.Is(err, ErrLost) {
		// The new holder removes our stage, so a lost lock shows in many ways; name the reason.
		if lost := s.lock.Check(ctx); errors.Is(lost, ErrLost) {
			return 0, lost
		}
	}
	return v, err
}

func (s *Stage) publish(ctx context.Context, last func(v Version) error) (Version, error) {
	for v := s.version; ; v++ {
		before := s.Files()
		if last != nil {
			if err := last(v); err != nil {
				return 0, err
			}
		}
		if err := s.seal(ctx, v); err != nil {
			return 0, err
		}
		if err := s.lock.Check(ctx); err != nil {
			return 0, err
		}
		taken, err := s.move(ctx, v)
		if err != nil {
			return 0, err
		}
		if !taken {
			s.mu.Lock()
			s.over = true
			s.mu.Unlock()
			return v, nil
		}
		if err := s.dropSince(ctx, before); err != nil {
			return 0, err
		}
	}
}

// dropSince removes the files that were written after the given ones.
func (s *Stage) dropSince(ctx context.Context, before []File) error {
	for _, f := range s.Files() {
		if slices.ContainsFunc(before, func(b File) bool { return b.Path == f.Path }) {
			continue
		}
		if err := s.lock.fs.Remove(ctx, path.Join(s.dir, f.Path)); err != nil {
			return err
		}
		s.forget(f.Path)
	}
	return nil
}

// seal checks that the stage holds exactly what was written, and writes the marker that makes it complete.
func (s *Stage) seal(ctx context.Context, v Version) error {
	s.mu.Lock()
	over := s.over
	for name, f := range s.files {
		if f == nil {
			s.mu.Unlock()
			return s.defect(name, "is still being written, or was neither closed nor aborted")
		}
	}
	s.mu.Unlock()
	files := s.Files()
	if over || len(files) == 0 {
		return s.defect("", "has no files, or was published or aborted before")
	}
	missing := make(map[string]File, len(files))
	for _, f := range files {
		missing[path.Join(s.dir, f.Path)] = f
	}
	err := hdfsio.Walk(ctx, s.lock.fs, s.dir, func(name string, info hdfsio.Info) error {
		f, known := missing[name]
		switch {
		case info.Dir || !known && hdfsio.Hidden(info.Name):
			return nil
		case !known:
			return s.defect(strings.TrimPrefix(name, s.dir+"/"), "is in the stage, but nobody made it part of the version")
		case info.Size != f.Bytes:
			return incomplete(s.lock.fs, name, fmt.Errorf("%d bytes were written, the store has %d", f.Bytes, info.Size))
		}
		delete(missing, name)
		return nil
	})
	if err != nil {
		return err
	}
	for name := range missing {
		return incomplete(s.lock.fs, name, errors.New("the file vanished from the stage"))
	}
	return s.lock.replace(ctx, "version marker", path.Join(s.dir, markerName), encode(s.contents(v, files)))
}

// defect is an error of the program that uses the stage.
func (s *Stage) defect(name, why string) error {
	return &hdfsio.Error{Op: "publish", Path: s.lock.name(path.Join(s.dir, name)), Kind: hdfsio.KindInternal, Err: errors.New(why)}
}

// whereabouts says where a stage is after a rename with an unclear outcome.
type whereabouts int

const (
	moved    whereabouts = iota // the target is ours
	taken                       // the target is somebody else's
	unmoved                     // the stage is where it was, the target is free
	vanished                    // neither is there
)

// tries bounds the renames of one number. Each follows a look that said that nothing has happened, so a rename that
// a server still does late makes the next one fail, and the look after that finds our id at the target.
const tries = 3

// move renames the stage to its version.
func (s *Stage) move(ctx context.Context, v Version) (numberTaken bool, err error) {
	target := s.lock.path(v.String())
	for range tries {
		err = s.lock.step("version renamed", func() error { return s.lock.fs.Rename(ctx, s.dir, target) })
		if err == nil {
			return false, nil
		}
		where, lookErr := s.where(ctx, target)
		switch {
		case lookErr != nil:
			return false, &hdfsio.Error{Op: "publish", Path: s.lock.name(target), Kind: hdfsio.KindOf(err), Err: fmt.Errorf("%w; and %w", err, lookErr),
				Hint: "whether the version is there is not known; LATEST does not name it; run again when the store answers"}
		case where == moved:
			return false, nil
		case where == taken:
			return true, nil
		case where == vanished:
			return false, &hdfsio.Error{Op: "publish", Path: s.lock.name(s.dir), Kind: hdfsio.KindInternal,
				Err: fmt.Errorf("the stage was removed by somebody: %w", err), Hint: "run again; nobody may write in this folder but dkpipe"}
		}
		if k := hdfsio.KindOf(err); ctx.Err() != nil || k != hdfsio.KindUnreachable && k != hdfsio.KindTimeout {
			return false, err
		}
	}
	return false, err
}

// where looks for the stage by its id. It does so also when the caller's context is over.
func (s *Stage) where(ctx context.Context, target string) (whereabouts, error) {
	ctx, cancel := settling(ctx)
	defer cancel()
	c, err := readContents(ctx, s.lock.fs, target)
	switch {
	case err == nil && c.ID == s.id:
		return moved, nil
	case err == nil, broken(err):
		return taken, nil
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	_, err = s.lock.fs.Stat(ctx, s.dir)
	switch {
	case err == nil:
		return unmoved, nil
	case errors.Is(err, fs.ErrNotExist):
		return vanished, nil
	}
	return 0, err
}

// broken tells whether something was read and is not what it should be, so that reading it again would not help.
func broken(err error) bool {
	k := hdfsio.KindOf(err)
	return k == hdfsio.KindCorrupt || k == hdfsio.KindUsage || k == hdfsio.KindUnsupported
}

// unusable tells whether something is absent or broken, as opposed to not reachable just now.
func unusable(err error) bool { return errors.Is(err, fs.ErrNotExist) || broken(err) }
