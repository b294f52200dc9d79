package hdfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"dkpipe/hdfsio"
)

// TestFS holds a file system to the promises of hdfsio.FS. The function gives, for every test, the file system and
// the name of an empty folder in it.
func TestFS(t *testing.T, open func(t *testing.T) (fsys hdfsio.FS, dir string)) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, fsys hdfsio.FS, dir string)
	}{
		{"what is written is read back at any offset", testReadBack},
		{"names with spaces and UTF-8 are kept", testNames},
		{"ReadAt may be called concurrently", testConcurrentReadAt},
		{"Create is exclusive among many", testExclusiveCreate},
		{"Create makes no folders", testCreateNoParent},
		{"Abort leaves nothing", testAbort},
		{"Abort after Close does nothing", testAbortAfterClose},
		{"Close of a file that was removed fails", testCloseRemoved},
		{"ReadDir is in name order and complete", testListing},
		{"Stat tells files from folders", testStat},
		{"Mkdir makes all and repeats", testMkdir},
		{"Rename replaces a file in one step", testRenameFile},
		{"Rename moves a folder with everything", testRenameFolder},
		{"Rename over a folder with entries is refused", testRenameExclusive},
		{"Rename of a folder has one winner", testRenameRace},
		{"Rename does not mix files and folders", testRenameMixed},
		{"Rename keeps the identity", testRenameIdentity},
		{"Remove takes all below and forgives absence", testRemove},
		{"errors have classes and names", testErrors},
		{"a cancelled context stops everything", testCancel},
		{"owner and time are told", testOwnerTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, dir := open(t)
			c.run(t, fsys, dir)
		})
	}
}

func put(t testing.TB, fsys hdfsio.FS, name, data string) {
	t.Helper()
	if err := hdfsio.WriteFile(t.Context(), fsys, name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, fsys hdfsio.FS, name, data string) {
	t.Helper()
	got, err := hdfsio.ReadFile(t.Context(), fsys, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != data {
		t.Fatalf("%s holds %q, want %q", name, got, data)
	}
}

func absent(t testing.TB, fsys hdfsio.FS, name string) {
	t.Helper()
	if info, err := fsys.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is there or unclear: %+v, %v", name, info, err)
	}
}

// is fails unless err is of the class and names the path.
func is(t testing.TB, err, class error, name string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("error %v, want class %v", err, class)
	}
	var kinded interface{ ErrorKind() string }
	if !errors.As(err, &kinded) || kinded.ErrorKind() == "" {
		t.Fatalf("error %v has no kind", err)
	}
	if !bytes.Contains([]byte(err.Error()), []byte(path.Base(name))) {
		t.Fatalf("error %q does not name %s", err, path.Base(name))
	}
}

// pattern gives n bytes that differ at every offset modulo 251.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func testReadBack(t *testing.T, fsys hdfsio.FS, dir string) {
	name := path.Join(dir, "f")
	data := pattern(3<<20 + 17)
	w, err := fsys.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 100_003)
		if m, err := w.Write(rest[:n]); m != n || err != nil {
			t.Fatalf("Write gave %d, %v", m, err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != int64(len(data)) {
		t.Fatalf("size %d, want %d", f.Size(), len(data))
	}
	for _, off := range []int{0, 1, 511, 512, 65536, 1 << 20, len(data) - 1} {
		for _, n := range []int{1, 100, 65536} {
			n = min(n, len(data)-off)
			p := make([]byte, n)
			if m, err := f.ReadAt(p, int64(off)); m != n || err != nil && err != io.EOF {
				t.Fatalf("ReadAt(%d, %d) = %d, %v", n, off, m, err)
			}
			if !bytes.Equal(p, data[off:off+n]) {
				t.Fatalf("wrong bytes at %d", off)
			}
		}
	}
	p := make([]byte, 10)
	if n, err := f.ReadAt(p, int64(len(data)-4)); n != 4 || err != io.EOF {
		t.Fatalf("ReadAt across the end = %d, %v; want 4, EOF", n, err)
	}
	if n, err := f.ReadAt(p, int64(len(data))); n != 0 || err != io.EOF {
		t.Fatalf("ReadAt at the end = %d, %v; want 0, EOF", n, err)
	}
	empty := path.Join(dir, "empty")
	put(t, fsys, empty, "")
	want(t, fsys, empty, "")
}

func testNames(t *testing.T, fsys hdfsio.FS, dir string) {
	names := []string{"two words", "Zürich", "数据", "50%", "a+b&c=d", "q?x#y", "a%20b", "tab'quote", "run=3,x=1"}
	for _, n := range names {
		put(t, fsys, path.Join(dir, n), n)
	}
	for _, n := range names {
		want(t, fsys, path.Join(dir, n), n)
	}
	infos, err := fsys.ReadDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range infos {
		got = append(got, i.Name)
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Fatalf("listed %q, want %q", got, names)
	}
}

func testConcurrentReadAt(t *testing.T, fsys hdfsio.FS, dir string) {
	data := pattern(1 << 20)
	name := path.Join(dir, "f")
	put(t, fsys, name, string(data))
	f, err := fsys.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			p := make([]byte, 4096)
			for i := range 50 {
				off := (g*7919 + i*104_729) % (len(data) - len(p))
				if n, err := f.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, data[off:off+n]) {
					t.Errorf("ReadAt at %d: %d, %v, or wrong bytes", off, n, err)
				}
			}
		})
	}
	wg.Wait()
}

func testExclusiveCreate(t *testing.T, fsys hdfsio.FS, dir string) {
	name := path.Join(dir, "lock")
	won := make(chan int, 16)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			err := hdfsio.WriteFile(t.Context(), fsys, name, fmt.Append(nil, g))
			switch {
			case err == nil:
				won <- g
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("the loser's error is %v", err)
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d winners", len(won))
	}
	want(t, fsys, name, fmt.Sprint(<-won))
}

func testCreateNoParent(t *testing.T, fsys hdfsio.FS, dir string) {
	_, err := fsys.Create(t.Context(), path.Join(dir, "no", "such"))
	is(t, err, fs.ErrNotExist, "such")
	absent(t, fsys, path.Join(dir, "no"))
}

func testAbort(t *testing.T, fsys hdfsio.FS, dir string) {
	name := path.Join(dir, "f")
	w, err := fsys.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(pattern(200_000)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	absent(t, fsys, name)
	put(t, fsys, name, "again")
	w.Abort()
	want(t, fsys, name, "again")
}

func testAbortAfterClose(t *testing.T, fsys hdfsio.FS, dir string) {
	name := path.Join(dir, "f")
	w, err := fsys.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	want(t, fsys, name, "kept")
	if err := w.Close(); err == nil {
		t.Fatal("a second Close gave no error")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatal("Write after Close gave no error")
	}
}

func testCloseRemoved(t *testing.T, fsys hdfsio.FS, dir string) {
	sub := path.Join(dir, "sub")
	if err := fsys.Mkdir(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	w, err := fsys.Create(t.Context(), path.Join(sub, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Remove(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Fatal("Close promised a file that is gone")
	}
	w.Abort()
}

func testListing(t *testing.T, fsys hdfsio.FS, dir string) {
	if infos, err := fsys.ReadDir(t.Context(), dir); err != nil || len(infos) != 0 {
		t.Fatalf("an empty folder lists as %v, %v", infos, err)
	}
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("f%d", (i*37)%60))
		put(t, fsys, path.Join(dir, names[i]), "x")
	}
	if err := fsys.Mkdir(t.Context(), path.Join(dir, "f7.d")); err != nil {
		t.Fatal(err)
	}
	names = append(names, "f7.d")
	slices.Sort(names)
	infos, err := fsys.ReadDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, info := range infos {
		if i >= len(names) || info.Name != names[i] || info.Dir != (info.Name == "f7.d") {
			t.Fatalf("entry %d is %+v", i, info)
		}
		if !info.Dir && info.Size != 1 {
			t.Fatalf("%s has size %d", info.Name, info.Size)
		}
	}
	if len(infos) != len(names) {
		t.Fatalf("%d entries, want %d", len(infos), len(names))
	}
	_, err = fsys.ReadDir(t.Context(), path.Join(dir, "none"))
	is(t, err, fs.ErrNotExist, "none")
}

func testStat(t *testing.T, fsys hdfsio.FS, dir string) {
	put(t, fsys, path.Join(dir, "f"), "12345")
	info, err := fsys.Stat(t.Context(), path.Join(dir, "f"))
	if err != nil || info.Name != "f" || info.Size != 5 || info.Dir {
		t.Fatalf("file: %+v, %v", info, err)
	}
	info, err = fsys.Stat(t.Context(), dir)
	if err != nil || !info.Dir || info.Size != 0 {
		t.Fatalf("folder: %+v, %v", info, err)
	}
}

func testMkdir(t *testing.T, fsys hdfsio.FS, dir string) {
	deep := path.Join(dir, "a", "b", "c")
	for range 2 {
		if err := fsys.Mkdir(t.Context(), deep); err != nil {
			t.Fatal(err)
		}
	}
	put(t, fsys, path.Join(deep, "f"), "x")
	if err := fsys.Mkdir(t.Context(), path.Join(deep, "f")); err == nil {
		t.Fatal("Mkdir over a file gave no error")
	}
	if err := fsys.Mkdir(t.Context(), path.Join(deep, "f", "g")); err == nil {
		t.Fatal("Mkdir below a file gave no error")
	}
	want(t, fsys, path.Join(deep, "f"), "x")
}

func testRenameFile(t *testing.T, fsys hdfsio.FS, dir string) {
	target := path.Join(dir, "LATEST")
	put(t, fsys, target, "0")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := hdfsio.ReadFile(t.Context(), fsys, target, 100)
			if err != nil || len(got) == 0 {
				t.Errorf("a reader met %q, %v while the file was replaced", got, err)
				return
			}
		}
	})
	for i := range 30 {
		tmp := path.Join(dir, fmt.Sprint(".tmp", i))
		put(t, fsys, tmp, fmt.Sprint(i))
		if err := fsys.Rename(t.Context(), tmp, target); err != nil {
			t.Error(err)
			break
		}
		absent(t, fsys, tmp)
	}
	close(stop)
	wg.Wait()
	want(t, fsys, target, "29")
	err := fsys.Rename(t.Context(), path.Join(dir, "none"), target)
	is(t, err, fs.ErrNotExist, "none")
	err = fsys.Rename(t.Context(), target, path.Join(dir, "no", "folder"))
	is(t, err, fs.ErrNotExist, "folder")
	want(t, fsys, target, "29")
}

// folder makes a folder with one file.
func folder(t testing.TB, fsys hdfsio.FS, name, data string) {
	t.Helper()
	if err := fsys.Mkdir(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	put(t, fsys, path.Join(name, "f"), data)
}

func testRenameFolder(t *testing.T, fsys hdfsio.FS, dir string) {
	folder(t, fsys, path.Join(dir, "a", "sub"), "deep")
	if err := fsys.Rename(t.Context(), path.Join(dir, "a"), path.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	absent(t, fsys, path.Join(dir, "a"))
	want(t, fsys, path.Join(dir, "b", "sub", "f"), "deep")
}

func testRenameExclusive(t *testing.T, fsys hdfsio.FS, dir string) {
	folder(t, fsys, path.Join(dir, "a"), "mine")
	folder(t, fsys, path.Join(dir, "v1"), "theirs")
	err := fsys.Rename(t.Context(), path.Join(dir, "a"), path.Join(dir, "v1"))
	is(t, err, fs.ErrExist, "v1")
	want(t, fsys, path.Join(dir, "a", "f"), "mine")
	want(t, fsys, path.Join(dir, "v1", "f"), "theirs")
}

func testRenameRace(t *testing.T, fsys hdfsio.FS, dir string) {
	const racers, rounds = 6, 5
	for r := range rounds {
		target := path.Join(dir, fmt.Sprint("v", r))
		var wg sync.WaitGroup
		won := make(chan string, racers)
		for g := range racers {
			stage := path.Join(dir, fmt.Sprintf(".stage-%d-%d", r, g))
			folder(t, fsys, stage, stage)
			wg.Go(func() {
				err := fsys.Rename(t.Context(), stage, target)
				switch {
				case err == nil:
					won <- stage
				case !errors.Is(err, fs.ErrExist):
					t.Errorf("the loser's error is %v", err)
				}
			})
		}
		wg.Wait()
		close(won)
		if len(won) != 1 {
			t.Fatalf("%d winners", len(won))
		}
		want(t, fsys, path.Join(target, "f"), <-won)
	}
}

func testRenameMixed(t *testing.T, fsys hdfsio.FS, dir string) {
	folder(t, fsys, path.Join(dir, "d"), "in")
	put(t, fsys, path.Join(dir, "f"), "file")
	if err := fsys.Rename(t.Context(), path.Join(dir, "d"), path.Join(dir, "f")); err == nil {
		t.Fatal("a folder replaced a file")
	}
	if err := fsys.Rename(t.Context(), path.Join(dir, "f"), path.Join(dir, "d")); err == nil {
		t.Fatal("a file replaced a folder")
	}
	want(t, fsys, path.Join(dir, "d", "f"), "in")
	want(t, fsys, path.Join(dir, "f"), "file")
	if err := fsys.Rename(t.Context(), path.Join(dir, "d"), path.Join(dir, "d", "below")); err == nil {
		t.Fatal("a folder moved below itself")
	}
}

func testRenameIdentity(t *testing.T, fsys hdfsio.FS, dir string) {
	put(t, fsys, path.Join(dir, "a"), "x")
	before, err := fsys.Stat(t.Context(), path.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.Rename(t.Context(), path.Join(dir, "a"), path.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	after, err := fsys.Stat(t.Context(), path.Join(dir, "b"))
	if err != nil || after.ID != before.ID {
		t.Fatalf("identity %d became %d (%v)", before.ID, after.ID, err)
	}
}

func testRemove(t *testing.T, fsys hdfsio.FS, dir string) {
	if err := fsys.Remove(t.Context(), path.Join(dir, "none")); err != nil {
		t.Fatalf("absent: %v", err)
	}
	if err := fsys.Remove(t.Context(), path.Join(dir, "no", "folder")); err != nil {
		t.Fatalf("absent below absent: %v", err)
	}
	folder(t, fsys, path.Join(dir, "a", "b"), "x")
	put(t, fsys, path.Join(dir, "ab"), "stays")
	if err := fsys.Remove(t.Context(), path.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	absent(t, fsys, path.Join(dir, "a"))
	want(t, fsys, path.Join(dir, "ab"), "stays")
	if err := fsys.Remove(t.Context(), path.Join(dir, "ab")); err != nil {
		t.Fatal(err)
	}
	absent(t, fsys, path.Join(dir, "ab"))
	if err := fsys.Remove(t.Context(), "/"); err == nil {
		t.Fatal("the root was removed")
	}
	if _, err := fsys.Stat(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func testErrors(t *testing.T, fsys hdfsio.FS, dir string) {
	none := path.Join(dir, "none")
	_, err := fsys.Open(t.Context(), none)
	is(t, err, fs.ErrNotExist, none)
	_, err = fsys.Stat(t.Context(), none)
	is(t, err, fs.ErrNotExist, none)
	put(t, fsys, path.Join(dir, "f"), "x")
	_, err = fsys.Create(t.Context(), path.Join(dir, "f"))
	is(t, err, fs.ErrExist, "f")
	if _, err = fsys.Open(t.Context(), dir); err == nil {
		t.Fatal("a folder was opened as a file")
	}
	if _, err = fsys.ReadDir(t.Context(), path.Join(dir, "f")); err == nil {
		t.Fatal("a file was listed as a folder")
	}
	if _, err = fsys.Open(t.Context(), ""); err == nil {
		t.Fatal("an empty name was opened")
	}
}

func testCancel(t *testing.T, fsys hdfsio.FS, dir string) {
	ctx, cancel := context.WithCancel(t.Context())
	name := path.Join(dir, "f")
	put(t, fsys, name, "data")
	f, err := fsys.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := fsys.Create(ctx, path.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = f.ReadAt(make([]byte, 2), 0)
	is(t, err, context.Canceled, name)
	_, err = w.Write([]byte("x"))
	is(t, err, context.Canceled, "new")
	if err := w.Close(); err == nil {
		t.Fatal("Close after a failed Write gave no error")
	}
	w.Abort()
	absent(t, fsys, path.Join(dir, "new"))
	for what, call := range map[string]func() error{
		"open":   func() error { _, err := fsys.Open(ctx, name); return err },
		"create": func() error { _, err := fsys.Create(ctx, path.Join(dir, "g")); return err },
		"stat":   func() error { _, err := fsys.Stat(ctx, name); return err },
		"list":   func() error { _, err := fsys.ReadDir(ctx, dir); return err },
		"mkdir":  func() error { return fsys.Mkdir(ctx, path.Join(dir, "d")) },
		"rename": func() error { return fsys.Rename(ctx, name, name+"2") },
		"remove": func() error { return fsys.Remove(ctx, name) },
	} {
		if err := call(); !errors.Is(err, context.Canceled) || hdfsio.KindOf(err) != hdfsio.KindInterrupted {
			t.Errorf("%s with a cancelled context: %v of kind %s", what, err, hdfsio.KindOf(err))
		}
	}
	want(t, fsys, name, "data")
	late, stop := context.WithTimeout(t.Context(), -time.Second)
	defer stop()
	if _, err := fsys.Stat(late, name); hdfsio.KindOf(err) != hdfsio.KindTimeout {
		t.Errorf("past the deadline: %v of kind %s", err, hdfsio.KindOf(err))
	}
}

func testOwnerTime(t *testing.T, fsys hdfsio.FS, dir string) {
	put(t, fsys, path.Join(dir, "a"), "x")
	put(t, fsys, path.Join(dir, "b"), "x")
	a, err := fsys.Stat(t.Context(), path.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fsys.Stat(t.Context(), path.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Owner != b.Owner || a.ModTime.IsZero() || b.ModTime.Before(a.ModTime) {
		t.Fatalf("a: %+v, b: %+v", a, b)
	}
}
