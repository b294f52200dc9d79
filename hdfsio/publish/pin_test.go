package publish

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dkpipe/hdfsio"
)

// three makes a root with three versions of which LATEST names the last.
func three(t *testing.T, fsys hdfsio.FS, root string) {
	t.Helper()
	l, err := Acquire(t.Context(), fsys, root, fast)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release(context.Background())
	var v Version
	for _, tag := range []string{"one", "two", "three"} {
		v = publish1(t, l, tag)
	}
	if err := l.MoveLatest(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

// retain keeps LATEST alone and gives what was removed.
func retain(t *testing.T, fsys hdfsio.FS, root string, opt Options) []Version {
	t.Helper()
	l, err := Acquire(t.Context(), fsys, root, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release(context.Background())
	if _, err := l.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	removed, err := l.Retain(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

// pinFiles lists what lies in _pins.
func pinFiles(t *testing.T, fsys hdfsio.FS, root string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(t.Context(), path.Join(root, pinsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func TestAPinnedVersionStaysUntilItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		three(t, m, root)
		p, err := PinVersion(t.Context(), m, root, 1, Options{Owner: "reader"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // the heartbeat goes on for as long as anybody reads
		if removed := retain(t, m, root, Options{}); !slices.Equal(removed, []Version{2}) {
			t.Errorf("removed %v, want v000002 alone", removed)
		}
		if _, err := Verify(t.Context(), m, root, p.Version()); err != nil {
			t.Errorf("the pinned version: %v", err)
		}
		for range 2 {
			if err := p.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if left := pinFiles(t, m, root); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if removed := retain(t, m, root, Options{}); !slices.Equal(removed, []Version{1}) {
			t.Errorf("removed %v after the release, want v000001", removed)
		}
	})
}

func TestReleaseOfAPinWorksAfterTheContextIsOver(t *testing.T) {
	_, m := memory()
	three(t, m, root)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := PinVersion(ctx, m, root, 1, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := p.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if left := pinFiles(t, m, root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestASilentPinGoesStale: a reader on another machine that gives no sign of life keeps its version for StaleAfter.
func TestASilentPinGoesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		three(t, m, root)
		if err := m.Mkdir(t.Context(), path.Join(root, pinsName)); err != nil {
			t.Fatal(err)
		}
		h := Holder{Format: pinFormat, Owner: "far", process: process{Host: "elsewhere", PID: 1, Machine: "another boot", Start: "1"}}
		name := path.Join(root, pinsName, "v000001-far.json")
		if err := hdfsio.WriteFile(t.Context(), m, name, encode(h)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if removed := retain(t, m, root, Options{}); !slices.Equal(removed, []Version{2}) {
			t.Errorf("after 20 s: removed %v, want v000002 alone", removed)
		}
		time.Sleep(20 * time.Second)
		if removed := retain(t, m, root, Options{}); !slices.Equal(removed, []Version{1}) {
			t.Errorf("after 40 s: removed %v, want v000001", removed)
		}
		if left := pinFiles(t, m, root); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestThePinOfADeadProcessIsNoObstacle kills a reader.
func TestThePinOfADeadProcessIsNoObstacle(t *testing.T) {
	dir := t.TempDir()
	three(t, &hdfsio.Local{}, dir)
	cmd := startChild(t, "pin", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "pinned <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if removed := retain(t, &hdfsio.Local{}, dir, Options{}); !slices.Equal(removed, []Version{2}) {
		t.Errorf("while the reader lives: removed %v, want v000002 alone", removed)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	began := time.Now()
	if removed := retain(t, &hdfsio.Local{}, dir, Options{}); !slices.Equal(removed, []Version{1}) {
		t.Errorf("after the reader's death: removed %v, want v000001", removed)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s to see that the process is gone", d)
	}
	if left := pinFiles(t, &hdfsio.Local{}, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestPinAndRetainNeverBothWin starts a reader at every point of a removal, and a removal at every point of a reader:
// a version that is pinned is whole, whatever happened meanwhile.
func TestPinAndRetainNeverBothWin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		three(t, m, root)
		removal, pinning := 0, 0
		retain(t, m, root, Options{At: func(string) { removal++ }})
		_, m = memory()
		three(t, m, root)
		p, err := PinVersion(t.Context(), m, root, 1, Options{At: func(string) { pinning++ }})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if removal < 20 || pinning < 6 {
			t.Fatalf("%d points of a removal, %d of a pin", removal, pinning)
		}
		pinned := 0
		for i := range removal {
			_, m := memory()
			three(t, m, root)
			var p *Pin
			n := 0
			retain(t, m, root, Options{At: func(string) {
				if n++; n != i+1 {
					return
				}
				if p, err = PinVersion(t.Context(), m, root, 1, Options{}); err != nil {
					refusedForAReason(t, err)
				}
			}})
			if p != nil {
				pinned++
				whole(t, m, p)
			}
		}
		if pinned == 0 || pinned == removal {
			t.Errorf("%d of %d readers got their pin: the race was not tried", pinned, removal)
		}
		for i := range pinning {
			_, m := memory()
			three(t, m, root)
			n := 0
			p, err := PinVersion(t.Context(), m, root, 1, Options{At: func(string) {
				if n++; n == i+1 {
					retain(t, m, root, Options{})
				}
			}})
			if err != nil {
				refusedForAReason(t, err)
				continue
			}
			whole(t, m, p)
		}
	})
}

func refusedForAReason(t *testing.T, err error) {
	t.Helper()
	if k := hdfsio.KindOf(err); k != hdfsio.KindChanged && k != hdfsio.KindBusy {
		t.Errorf("a reader got %s: %v", k, err)
	}
}

func whole(t *testing.T, fsys hdfsio.FS, p *Pin) {
	t.Helper()
	if _, err := Verify(t.Context(), fsys, root, p.Version()); err != nil {
		t.Errorf("%s is pinned and not whole: %v", p.Version(), err)
	}
	if err := p.Release(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestADeadRemoverDoesNotKeepReadersOut: what a killed removal announced holds for nobody.
func TestADeadRemoverDoesNotKeepReadersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		three(t, m, root)
		l := acquire(t, m, Options{}) // a newer epoch than the dead remover's
		h := Holder{Format: lockFormat, Owner: "dead", process: process{Host: "elsewhere", PID: 7, Machine: "another boot", Start: "1"}, Epoch: l.Epoch() - 1}
		if err := m.Mkdir(t.Context(), path.Join(root, pinsName)); err != nil {
			t.Fatal(err)
		}
		if err := hdfsio.WriteFile(t.Context(), m, path.Join(root, pinsName, removingPrefix+"v000002-dead"), encode(h)); err != nil {
			t.Fatal(err)
		}
		p, err := PinVersion(t.Context(), m, root, 2, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := pinFiles(t, m, root); len(left) != 1 || !strings.HasPrefix(left[0], "v000002-") {
			t.Errorf("left: %v, want the live pin", left)
		}
		whole(t, m, p)
	})
}

func TestPinsThatCannotBe(t *testing.T) {
	_, m := memory()
	three(t, m, root)
	if _, err := PinVersion(t.Context(), m, root, 9, Options{}); !errors.Is(err, fs.ErrNotExist) || hdfsio.KindOf(err) != hdfsio.KindChanged || !strings.Contains(err.Error(), "v000009") {
		t.Errorf("a version that is not there: %v", err)
	}
	m.Allow = func(op, name string) error {
		if op == "mkdir" || op == "create" {
			return fs.ErrPermission
		}
		return nil
	}
	if _, err := PinVersion(t.Context(), m, root, 1, Options{}); hdfsio.KindOf(err) != hdfsio.KindDenied {
		t.Errorf("without rights: %v", err)
	}
}

// TestReadingNamesTheVersionThatIsGone: what a reader gets for a file that was removed under it.
func TestReadingNamesTheVersionThatIsGone(t *testing.T) {
	_, m := memory()
	three(t, m, root)
	r := Reading(m, root, 1)
	name := path.Join(root, "v000001/weights")
	if data, err := hdfsio.ReadFile(t.Context(), r, name, 100); err != nil || string(data) != "one" {
		t.Fatalf("%q, %v", data, err)
	}
	if _, err := r.Open(t.Context(), path.Join(root, "v000002/none")); !errors.Is(err, fs.ErrNotExist) || hdfsio.KindOf(err) == hdfsio.KindChanged {
		t.Errorf("a file of another version: %v", err)
	}
	for _, remove := range []string{name, path.Join(root, "v000001")} {
		if err := m.Remove(t.Context(), remove); err != nil {
			t.Fatal(err)
		}
		_, err := r.Open(t.Context(), name)
		if hdfsio.KindOf(err) != hdfsio.KindChanged || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "v000001") {
			t.Errorf("after %s was removed: %v", remove, err)
		}
	}
}

func TestTagsOfOwners(t *testing.T) {
	mine := OwnerTag()
	if OwnerGone(mine) {
		t.Errorf("%s is this process, and it is said to be gone", mine)
	}
	cmd := startChild(t, "exit")
	tag := process{Machine: machineID(), PID: cmd.Process.Pid, Start: "1"}.tag()
	_ = cmd.Wait()
	if machineID() != "" && !OwnerGone(tag) {
		t.Errorf("%s has ended, and it is said to live", tag)
	}
	reused := process{Machine: machineID(), PID: os.Getpid(), Start: "1"}.tag()
	if machineID() != "" && !OwnerGone(reused) {
		t.Errorf("%s is the number of this process, started at another time, and it is said to live", reused)
	}
	for _, foreign := range []string{"", "a_b_c", process{Machine: "another", PID: cmd.Process.Pid, Start: "1"}.tag(), tag + "_1", "unknown_1_"} {
		if OwnerGone(foreign) {
			t.Errorf("%q is said to be gone", foreign)
		}
	}
	if len(mine) > 60 || strings.Trim(mine, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		t.Errorf("the tag %q", mine)
	}
}
