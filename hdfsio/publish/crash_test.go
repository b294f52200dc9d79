package publish

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

// points runs once on a root with history and lists the points that the run passes.
func points(t *testing.T, fsys hdfsio.FS, root string) []string {
	t.Helper()
	prepare(t, fsys, root)
	var names []string
	opt := fast
	opt.At = func(p string) { names = append(names, p) }
	mustRun(t, fsys, root, "third", opt)
	return names
}

// prepare makes a root with two versions, of which the next run drops one.
func prepare(t testing.TB, fsys hdfsio.FS, root string) {
	t.Helper()
	mustRun(t, fsys, root, "first", fast)
	mustRun(t, fsys, root, "second", fast)
}

// afterCrash checks a root that a run of the tag "third" left, and that the same run then succeeds and cleans up.
func afterCrash(t testing.TB, fsys hdfsio.FS, root, where string) {
	t.Helper()
	if err := sound(t.Context(), fsys, root); err != nil {
		t.Fatalf("after the crash at %s: %v", where, err)
	}
	found, err := Latest(t.Context(), fsys, root)
	if err != nil || found.Version < 2 {
		t.Fatalf("after the crash at %s: LATEST %s, %v", where, found.Version, err)
	}
	_, before, err := SlotDone(t.Context(), fsys, root, "slot:third")
	if err != nil {
		t.Fatalf("after the crash at %s: %v", where, err)
	}
	if (found.Version > 2) != (before == Done) {
		t.Fatalf("after the crash at %s: LATEST is %s and the slot %d", where, found.Version, before)
	}
	again, err := run(t.Context(), fsys, root, "third", fast)
	if err != nil {
		t.Fatalf("run after the crash at %s: %v", where, err)
	}
	if found.Version > 2 && again != found.Version {
		t.Fatalf("after the crash at %s the slot was done by %s and again by %s", where, found.Version, again)
	}
	latestIs(t, fsys, root, again)
	next := mustRun(t, fsys, root, "fourth", fast)
	latestIs(t, fsys, root, next)
	if err := sound(t.Context(), fsys, root); err != nil {
		t.Fatalf("two runs after the crash at %s: %v", where, err)
	}
	if err := clean(t.Context(), fsys, root); err != nil {
		t.Fatalf("two runs after the crash at %s: %v", where, err)
	}
}

func TestThePointsCoverTheProtocol(t *testing.T) {
	_, m := memory()
	all := points(t, m, root)
	for _, want := range []string{
		"epochs folder made", "epoch claimed", "epoch written", "lock written", "lock renamed", "old claim removed",
		"stage made", "stage marker written", "stage marker renamed", "file created", "file closed",
		"version marker written", "version marker renamed", "version renamed", "slots folder made", "slot written", "slot renamed",
		"LATEST written", "LATEST renamed", "history written", "history renamed", "pins folder made", "removal announced", "removal over", "old version renamed", "old version removed",
		"lock removed", "claim released written", "claim released renamed",
	} {
		for _, side := range []string{": before", ": after"} {
			if !slices.Contains(all, want+side) {
				t.Errorf("no point %q", want+side)
			}
		}
	}
	slot, latest := slices.Index(all, "slot renamed: after"), slices.Index(all, "LATEST renamed: before")
	if slot > latest {
		t.Error("LATEST moves before the slot is recorded")
	}
}

func TestACrashAtEveryPointInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := memory()
		n := len(points(t, m, root))
		for i := range n {
			f, m := memory()
			prepare(t, m, root)
			where := ""
			crash := func() {
				defer func() {
					if r := recover(); r != "crash" {
						t.Fatalf("point %d was not reached: %v", i, r)
					}
				}()
				opt, k := fast, 0
				opt.At = func(p string) {
					if k++; k == i+1 {
						where = p
						f.Freeze(syscall.EPIPE)
						panic("crash")
					}
				}
				run(t.Context(), f, root, "third", opt)
			}
			crash()
			afterCrash(t, m, root, where)
		}
	})
}

// TestADeathAtEveryCall is finer than the points: the process dies between any two calls of the store, or the store
// does the call and the process does not live to hear of it. A reader looks before every call.
func TestADeathAtEveryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, lost := range []bool{false, true} {
			for n := 1; ; n++ {
				f, m := memory()
				prepare(t, m, root)
				f.Add(hdfstest.Fault{Hook: func(context.Context, string) {
					if err := sound(t.Context(), m, root); err != nil {
						t.Fatalf("during the run that dies at call %d: %v", n, err)
					}
				}})
				f.FreezeAfter(n, lost, syscall.EPIPE)
				_, err := run(t.Context(), f, root, "third", fast)
				if err == nil {
					if n < 40 {
						t.Fatalf("a run has only %d calls", n)
					}
					break
				}
				afterCrash(t, m, root, fmt.Sprintf("call %d (lost: %v)", n, lost))
			}
		}
	})
}

func TestAKillAtEveryPointOnDisk(t *testing.T) {
	local := &hdfsio.Local{}
	dir := t.TempDir()
	names := points(t, local, filepath.Join(dir, "points"))
	for i, where := range names {
		root := filepath.Join(dir, fmt.Sprint(i))
		prepare(t, local, root)
		cmd := startChild(t, "crash", root, "third", fmt.Sprint(i+1))
		err := cmd.Run()
		exit, ok := err.(*exec.ExitError)
		if !ok || !exit.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("the child should have died at %s: %v", where, err)
		}
		afterCrash(t, local, root, where)
	}
}

func TestAStoppedHolderFindsThatItLost(t *testing.T) {
	local, root := &hdfsio.Local{}, t.TempDir()
	cmd := startChild(t, "hold", root)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill() // has no effect on a child that has ended
		cmd.Wait()
	}()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "holds <nil>" {
		t.Fatalf("the child says %q", lines.Text())
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	v := mustRun(t, local, root, "taker", fast) // waits until the lock is stale, and collects the child's stage
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "true") {
		t.Fatalf("the child says %q", lines.Text())
	}
	latestIs(t, local, root, v)
	if versions, err := Versions(t.Context(), local, root); err != nil || len(versions) != 1 {
		t.Fatalf("%v, %v", versions, err)
	}
	mustRun(t, local, root, "next", fast)
	if err := clean(t.Context(), local, root); err != nil {
		t.Fatal(err)
	}
}

func TestReadersOnDiskNeverSeeHalf(t *testing.T) {
	local, root := &hdfsio.Local{}, t.TempDir()
	mustRun(t, local, root, "first", fast)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if found, err := Latest(t.Context(), local, root); err != nil || found.Warning != "" {
				t.Errorf("a reader met %q, %v", found.Warning, err)
				return
			}
		}
	}()
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		mustRun(t, local, root, newID(), fast)
	}
	close(stop)
	if n := <-done; n == 0 {
		t.Error("the reader never read")
	}
}
