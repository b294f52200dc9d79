package hdfsio_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"

	"pgregory.net/rapid"
)

// tree makes an FS in memory with the given files.
func tree(t testing.TB, names ...string) *hdfsio.Mem {
	t.Helper()
	m := &hdfsio.Mem{}
	for _, n := range names {
		if err := m.Mkdir(t.Context(), path.Dir(n)); err != nil {
			t.Fatal(err)
		}
		if err := hdfsio.WriteFile(t.Context(), m, n, []byte(n)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestGlobFindsVisibleFilesInOrder(t *testing.T) {
	m := tree(t, "/d/b.csv", "/d/a.csv", "/d/ä.csv", "/d/c.parquet", "/d/_SUCCESS", "/d/.part.crc", "/d/x.csv._COPYING_",
		"/d/day=1/p0", "/d/day=1/_SUCCESS", "/d/day=2/p0", "/d/day=2/sub/p1", "/d/day=3/_temporary/x", "/e/f")
	for pattern, want := range map[string][]string{
		"/d/*.csv":    {"/d/a.csv", "/d/b.csv", "/d/ä.csv"},
		"/d/?.csv":    {"/d/a.csv", "/d/b.csv", "/d/ä.csv"},
		"/d/day=*":    {"/d/day=1/p0", "/d/day=2/p0"},
		"/d":          {"/d/a.csv", "/d/b.csv", "/d/c.parquet", "/d/ä.csv"},
		"/d/":         {"/d/a.csv", "/d/b.csv", "/d/c.parquet", "/d/ä.csv"},
		"/d/a.csv":    {"/d/a.csv"},
		"/d/_*":       {"/d/_SUCCESS"},
		"/d/_SUCCESS": {"/d/_SUCCESS"},
		"/d/c*p*q*t":  {"/d/c.parquet"},
		"d/a.*":       {"d/a.csv"},
	} {
		got, err := hdfsio.Glob(t.Context(), m, pattern)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
		}
	}
	for _, pattern := range []string{"/d/*.json", "/none/*", "/none", "/d/day=3"} {
		if got, err := hdfsio.Glob(t.Context(), m, pattern); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", pattern, got, err)
		}
	}
	if _, err := hdfsio.Glob(t.Context(), m, "/*/a.csv"); hdfsio.KindOf(err) != hdfsio.KindUsage {
		t.Errorf("a star in a folder: %v", err)
	}
}

// TestGlobTakesFoldersAsTheyStand: a folder with a star in its name is no pattern, and its neighbours do not match.
func TestGlobTakesFoldersAsTheyStand(t *testing.T) {
	m := tree(t, "/a*/x.csv", "/a*/y.csv", "/ab/x.csv", "/ab/z.csv", "/w?/d*/p0", "/w?/dd/p1")
	for pattern, want := range map[string][]string{
		"/a*/x.csv": {"/a*/x.csv"},
		"/a*/*.csv": {"/a*/x.csv", "/a*/y.csv"},
		"/a*":       {"/a*/x.csv", "/a*/y.csv"},
		"/w?/d*":    {"/w?/d*/p0"},
		"/w?/d?":    {"/w?/d*/p0", "/w?/dd/p1"},
	} {
		got, err := hdfsio.Glob(t.Context(), m, pattern)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
		}
	}
	if _, err := hdfsio.Glob(t.Context(), m, "/a*/none.csv"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there, below such a folder: %v", err)
	}
}

func TestGlobMatchesLikeARegularExpression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[abä*?]{1,8}\*`).Draw(t, "pattern")
		name := rapid.StringMatching(`[abä]{1,10}`).Draw(t, "name")
		m := &hdfsio.Mem{}
		if err := hdfsio.WriteFile(context.Background(), m, name, nil); err != nil {
			t.Fatal(err)
		}
		expr := strings.NewReplacer("*", ".*", "?", ".").Replace(regexp.QuoteMeta(pattern))
		expr = strings.NewReplacer(`\.*`, ".*", `\.`, ".").Replace(expr)
		want := regexp.MustCompile("^" + expr + "$").MatchString(name)
		got, err := hdfsio.Glob(context.Background(), m, pattern)
		if want != (err == nil && len(got) == 1) {
			t.Fatalf("%s against %s: %q, %v", pattern, name, got, err)
		}
	})
}

func TestReadFileKeepsTheBound(t *testing.T) {
	m := tree(t, "/f")
	if data, err := hdfsio.ReadFile(t.Context(), m, "/f", 2); err != nil || string(data) != "/f" {
		t.Fatalf("%q, %v", data, err)
	}
	_, err := hdfsio.ReadFile(t.Context(), m, "/f", 1)
	if hdfsio.KindOf(err) != hdfsio.KindCorrupt || !strings.Contains(err.Error(), "/f") {
		t.Fatalf("over the bound: %v", err)
	}
}

func TestWriteFileLeavesNothingAfterAnError(t *testing.T) {
	for _, fault := range []hdfstest.Fault{
		{Op: hdfstest.Write, Err: syscall.EIO, Part: 3},
		{Op: hdfstest.Close, Err: syscall.EIO},
	} {
		f := &hdfstest.Faults{FS: &hdfsio.Mem{}}
		f.Add(fault)
		if err := hdfsio.WriteFile(t.Context(), f, "f", []byte("data")); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", fault.Op, err)
		}
		if _, err := f.Stat(t.Context(), "f"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s left the file: %v", fault.Op, err)
		}
	}
}

func TestSizeCountsEverythingBelow(t *testing.T) {
	m := tree(t, "/d/a", "/d/b/c", "/d/_x/y", "/e")
	files, bytes, err := hdfsio.Size(t.Context(), m, "/d")
	if err != nil || files != 3 || bytes != int64(len("/d/a/d/b/c/d/_x/y")) {
		t.Fatalf("%d files, %d bytes, %v", files, bytes, err)
	}
	var seen []string
	if err := hdfsio.Walk(t.Context(), m, "/d", func(name string, _ hdfsio.Info) error {
		seen = append(seen, name)
		return nil
	}); err != nil || !slices.Equal(seen, []string{"/d", "/d/_x", "/d/_x/y", "/d/a", "/d/b", "/d/b/c"}) {
		t.Fatalf("%q, %v", seen, err)
	}
	stop := errors.New("stop")
	if err := hdfsio.Walk(t.Context(), m, "/d", func(string, hdfsio.Info) error { return stop }); err != stop {
		t.Fatalf("Walk went on: %v", err)
	}
}

func TestErrorsCarryKindAndHint(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind hdfsio.Kind
		hint bool
	}{
		{syscall.ENOSPC, hdfsio.KindNoSpace, true},
		{syscall.EDQUOT, hdfsio.KindNoSpace, true},
		{syscall.EACCES, hdfsio.KindDenied, true},
		{syscall.EROFS, hdfsio.KindDenied, true},
		{syscall.ECONNREFUSED, hdfsio.KindUnreachable, true},
		{syscall.ETIMEDOUT, hdfsio.KindTimeout, true},
		{context.DeadlineExceeded, hdfsio.KindTimeout, true},
		{context.Canceled, hdfsio.KindInterrupted, false},
		{syscall.EIO, hdfsio.KindCorrupt, true},
		{syscall.EBUSY, hdfsio.KindBusy, false},
		{fs.ErrNotExist, hdfsio.KindData, false},
		{errors.New("odd"), hdfsio.KindInternal, false},
	} {
		err := hdfsio.Wrap("write", "/x/y", &fs.PathError{Op: "write", Path: "/x/y", Err: c.err})
		e, ok := errors.AsType[*hdfsio.Error](err)
		if !ok || e.Kind != c.kind || (e.Hint != "") != c.hint || !errors.Is(err, c.err) {
			t.Errorf("%v became %#v", c.err, err)
		}
		if got, want := err.Error(), fmt.Sprint("write /x/y: ", c.err); got != want {
			t.Errorf("text %q, want %q", got, want)
		}
		if again := hdfsio.Wrap("close", "/z", err); again != err {
			t.Errorf("wrapped twice: %v", again)
		}
	}
	if hdfsio.Wrap("write", "/x", nil) != nil {
		t.Error("nil became an error")
	}
}

func TestMemAsksForPermission(t *testing.T) {
	m := tree(t, "/d/f")
	m.Allow = func(op, name string) error {
		if op == "open" && name == "/d/f" {
			return fs.ErrPermission
		}
		return nil
	}
	_, err := m.Open(t.Context(), "/d/f")
	if !errors.Is(err, fs.ErrPermission) || hdfsio.KindOf(err) != hdfsio.KindDenied {
		t.Fatalf("%v", err)
	}
	if _, err := m.Stat(t.Context(), "/d/f"); err != nil {
		t.Fatal(err)
	}
}

func TestLocalNeverRemovesARoot(t *testing.T) {
	t.Chdir(t.TempDir())
	var l hdfsio.Local
	for _, name := range []string{"/", ".", "..", "../..", "a/..", "/tmp/.."} {
		if err := l.Remove(t.Context(), name); hdfsio.KindOf(err) != hdfsio.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStoresOpensByScheme(t *testing.T) {
	mem := &hdfsio.Mem{}
	asked := 0
	s := &hdfsio.Stores{Drivers: map[string]hdfsio.Driver{"mem": func(_ context.Context, authority string) (hdfsio.FS, error) {
		asked++
		if authority != "one" {
			return nil, syscall.ECONNREFUSED
		}
		return mem, nil
	}}}
	open := func(text string) (hdfsio.FS, error) {
		u, err := hdfsio.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return s.FS(t.Context(), u)
	}
	for range 2 {
		if fsys, err := open("mem://one/p"); err != nil || fsys != hdfsio.FS(mem) {
			t.Fatalf("%v, %v", fsys, err)
		}
	}
	if asked != 1 {
		t.Errorf("the driver was asked %d times for one store", asked)
	}
	if fsys, err := open("some/path"); err != nil {
		t.Fatal(err)
	} else if _, ok := fsys.(*hdfsio.Local); !ok {
		t.Fatalf("a plain path opened %T", fsys)
	}
	if _, err := open("mem://two/p"); hdfsio.KindOf(err) != hdfsio.KindUnreachable || !strings.Contains(err.Error(), "mem://two/p") {
		t.Errorf("a store that is down: %v", err)
	}
	_, err := open("hdfs://ns/p")
	e, ok := errors.AsType[*hdfsio.Error](err)
	if !ok || e.Kind != hdfsio.KindUnsupported || !strings.Contains(e.Error(), "hdfs://ns/p") || !strings.Contains(e.Hint, "hdfs dfs -get") {
		t.Errorf("no driver: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
