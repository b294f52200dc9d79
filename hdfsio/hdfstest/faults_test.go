package hdfstest_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestTheNthCallFails(t *testing.T) {
	f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
	f.Add(hdfstest.Fault{Op: hdfstest.Mkdir, Match: func(n string) bool { return strings.HasPrefix(n, "a") }, Nth: 2, Err: syscall.ETIMEDOUT})
	for i, c := range []struct {
		name string
		bad  bool
	}{{"a1", false}, {"b1", false}, {"a2", true}, {"a3", false}} {
		err := f.Mkdir(t.Context(), c.name)
		if (err != nil) != c.bad {
			t.Errorf("call %d: %v", i, err)
		}
		if c.bad && (!errors.Is(err, syscall.ETIMEDOUT) || hdfsio.KindOf(err) != hdfsio.KindTimeout) {
			t.Errorf("call %d: %v of kind %s", i, err, hdfsio.KindOf(err))
		}
	}
	if f.Calls(hdfstest.Mkdir) != 4 || f.Calls("") != 4 {
		t.Errorf("counted %d of %d", f.Calls(hdfstest.Mkdir), f.Calls(""))
	}
	if _, err := f.Stat(t.Context(), "a2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the failed call did something: %v", err)
	}
}

func TestALostAnswerIsPerformed(t *testing.T) {
	f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
	if err := hdfsio.WriteFile(t.Context(), f, "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	f.Add(hdfstest.Fault{Op: hdfstest.Rename, Nth: 1, Err: syscall.ECONNRESET, Done: true})
	if err := f.Rename(t.Context(), "a", "b"); hdfsio.KindOf(err) != hdfsio.KindUnreachable {
		t.Fatal(err)
	}
	if _, err := f.Stat(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
}

func TestSpaceEndsInTheMiddleOfAWrite(t *testing.T) {
	f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
	f.Space(10)
	w, err := f.Create(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(make([]byte, 7)); n != 7 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := w.Write(make([]byte, 7)); n != 3 || hdfsio.KindOf(err) != hdfsio.KindNoSpace {
		t.Fatal(n, err)
	}
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Close promised a file that is short: %v", err)
	}
	w.Abort()
	if _, err := f.Stat(t.Context(), "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestAFrozenStoreStaysAsItWas(t *testing.T) {
	for _, lost := range []bool{false, true} {
		f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
		w, err := f.Create(t.Context(), "f")
		if err != nil {
			t.Fatal(err)
		}
		f.FreezeAfter(1, lost, syscall.EPIPE)
		if err := f.Mkdir(t.Context(), "d"); (err != nil) != lost {
			t.Fatalf("the last call, lost=%v: %v", lost, err)
		}
		if err := f.Mkdir(t.Context(), "e"); !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
		w.Abort()
		f.Clear()
		infos, err := f.ReadDir(t.Context(), ".")
		if err != nil || len(infos) != 2 || infos[0].Name != "d" || infos[1].Name != "f" {
			t.Fatalf("lost=%v: %+v, %v", lost, infos, err)
		}
	}
}

func TestAHookHoldsACallUp(t *testing.T) {
	f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
	reached, release := make(chan struct{}), make(chan struct{})
	f.Add(hdfstest.Fault{Op: hdfstest.Stat, Nth: 1, Hook: func(ctx context.Context, _ string) {
		close(reached)
		<-release
	}})
	done := make(chan error)
	go func() { _, err := f.Stat(t.Context(), "/"); done <- err }()
	<-reached
	select {
	case err := <-done:
		t.Fatalf("the call ended before its time: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
