package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"

	"go.uber.org/goleak"
)

// TestMain also is the program of the child processes that the tests kill and stop.
func TestMain(m *testing.M) {
	if job := os.Getenv("PUBLISH_TEST_CHILD"); job != "" {
		os.Exit(child(job))
	}
	goleak.VerifyTestMain(m)
}

const root = "/data/model"

// fast is for tests with real processes on a real clock.
var fast = Options{Owner: "tester", Heartbeat: 20 * time.Millisecond, StaleAfter: 120 * time.Millisecond, Wait: time.Minute}

// run is a whole run: what a command does with this package. It publishes two files and a manifest that hold tag.
func run(ctx context.Context, fsys hdfsio.FS, root, tag string, opt Options) (v Version, err error) {
	l, err := Acquire(ctx, fsys, root, opt)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Release(ctx)) }()
	if s, state, err := l.FinishSlot(ctx, "slot:"+tag); err != nil || state == Done {
		return s.Version, err
	}
	s, err := l.Stage(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Abort(ctx)
	for _, name := range []string{"weights", "train/part-00000"} {
		if err := s.WriteFile(ctx, name, []byte(name+" of "+tag)); err != nil {
			return 0, err
		}
	}
	v, err = s.Publish(ctx, func(v Version) error {
		return s.WriteFile(ctx, "manifest", []byte(fmt.Sprint(tag, " is ", v)))
	})
	if err != nil {
		return 0, err
	}
	if err := l.RecordSlot(ctx, Slot{Slot: "slot:" + tag, Version: v, Run: tag}); err != nil {
		return 0, err
	}
	if err := l.MoveLatest(ctx, v); err != nil {
		return 0, err
	}
	_, err = l.Retain(ctx, 2)
	return v, err
}

// mustRun runs and wants success.
func mustRun(t testing.TB, fsys hdfsio.FS, root, tag string, opt Options) Version {
	t.Helper()
	v, err := run(t.Context(), fsys, root, tag, opt)
	if err != nil {
		t.Fatalf("run %s: %v", tag, err)
	}
	return v
}

// sound says what is wrong with a root at this instant: LATEST, when there is one, names a complete version, and
// every version that can be seen has the right hashes.
func sound(ctx context.Context, fsys hdfsio.FS, root string) error {
	if _, err := fsys.Stat(ctx, path.Join(root, latestName)); err == nil {
		found, err := Latest(ctx, fsys, root)
		if err != nil {
			return err
		}
		if found.Warning != "" {
			return errors.New(found.Warning)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if moves, err := History(ctx, fsys, root); err != nil || len(moves) > 0 {
		return fmt.Errorf("LATEST is gone after %d moves, %v", len(moves), err)
	}
	versions, err := Versions(ctx, fsys, root)
	if err != nil {
		return err
	}
	for _, v := range versions {
		c, err := Verify(ctx, fsys, root, v)
		if err != nil {
			return err
		}
		if c.Version != v {
			return fmt.Errorf("%s holds %s", v, c.Version)
		}
		manifest, err := hdfsio.ReadFile(ctx, fsys, path.Join(root, v.String(), "manifest"), 1000)
		if err != nil || !strings.HasSuffix(string(manifest), " is "+v.String()) {
			return fmt.Errorf("manifest of %s: %q, %v", v, manifest, err)
		}
	}
	return nil
}

// clean says what lies around that should not, when no run is alive.
func clean(ctx context.Context, fsys hdfsio.FS, root string) error {
	claims := 0
	return hdfsio.Walk(ctx, fsys, root, func(name string, info hdfsio.Info) error {
		rel := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		switch top, _, _ := strings.Cut(rel, "/"); {
		case rel != "" && strings.HasPrefix(path.Base(rel), "."):
			return fmt.Errorf("%s is left over", rel)
		case top == pinsName && rel != top:
			return fmt.Errorf("%s is left over", rel)
		case rel == lockName:
			return fmt.Errorf("%s is still there", rel)
		case top == epochsName && rel != top:
			if claims++; claims > 1 {
				return fmt.Errorf("%s is an old claim", rel)
			}
		}
		return nil
	})
}

func latestIs(t testing.TB, fsys hdfsio.FS, root string, want Version) {
	t.Helper()
	found, err := Latest(t.Context(), fsys, root)
	if err != nil || found.Version != want || found.Warning != "" {
		t.Fatalf("LATEST is %s (%q, %v), want %s", found.Version, found.Warning, err, want)
	}
}

// acquire takes the lock and gives it back when the test ends.
func acquire(t testing.TB, fsys hdfsio.FS, opt Options) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), fsys, root, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Release(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// publish1 publishes one version under a lock.
func publish1(t testing.TB, l *Lock, tag string) Version {
	t.Helper()
	s, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile(t.Context(), "weights", []byte(tag)); err != nil {
		t.Fatal(err)
	}
	v, err := s.Publish(t.Context(), func(v Version) error {
		return s.WriteFile(t.Context(), "manifest", []byte(fmt.Sprint(tag, " is ", v)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// memory gives a store in memory behind one that can go wrong.
func memory() (*hdfstest.Faults, *hdfsio.Mem) {
	m := &hdfsio.Mem{}
	return &hdfstest.Faults{FS: m}, m
}
