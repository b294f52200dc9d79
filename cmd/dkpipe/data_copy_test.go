package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

// put runs put or get inside the process.
func put(ctx context.Context, j *job, force bool, args ...string) (*copyReport, error) {
	r := &copyReport{}
	tasks, err := j.planCopy(ctx, args[:len(args)-1], args[len(args)-1], force)
	if err == nil {
		err = j.copy(ctx, "put", tasks, r)
	}
	return r, err
}

func TestPutAndGetCopyFilesAndFolders(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<17) // more than a buffer
	dir := files(t, t.TempDir(), "a", big, "d/x", "1", "d/e/y", "", "d/_SUCCESS", "2", "have/there", "3")
	r := data(t, dir, 0, "put", "a", "copy")
	if r.Files != 1 || r.Bytes != int64(len(big)) || r.Entries[0].From != "a" || r.Entries[0].To != "copy" || len(r.Entries[0].SHA256) != 64 {
		t.Errorf("%+v", r)
	}
	data(t, dir, 0, "put", "a", "d", "have")        // into a folder
	data(t, dir, 0, "put", "d/*", "new/deep/")      // a pattern, into a folder to be made
	data(t, dir, 0, "put", "d", "d2")               // a folder under another name
	data(t, dir, 0, "get", "have/there")            // into the working directory
	data(t, dir, 0, "put", "-f", "d/x", "have/a")   // over a file
	data(t, dir, 0, "put", "./d/../d/e", "only/e2") // folders above are made
	want := map[string]string{"a": big, "d/x": "1", "d/e/y": "", "d/_SUCCESS": "2", "copy": big, "have/there": "3", "there": "3", "have/a": "1",
		"have/d/x": "1", "have/d/e/y": "", "have/d/_SUCCESS": "2", "d2/x": "1", "d2/e/y": "", "d2/_SUCCESS": "2",
		"new/deep/x": "1", "new/deep/e/y": "", "new/deep/_SUCCESS": "2", "only/e2/y": ""}
	if got := tree(t, dir); !maps.Equal(got, want) {
		for name := range got {
			if got[name] != want[name] {
				t.Errorf("%s differs", name)
			}
		}
		for name := range want {
			if _, ok := got[name]; !ok {
				t.Errorf("%s is missing", name)
			}
		}
	}
}

func TestTheWorkingDirectoryCanBePut(t *testing.T) {
	dir := files(t, t.TempDir(), "w/a", "1", "w/b/c", "2")
	data(t, path.Join(dir, "w"), 0, "put", ".", "../copy")
	if got := tree(t, path.Join(dir, "copy")); got["a"] != "1" || got["b/c"] != "2" || len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestPutToAnyStore goes to a store in memory and back.
func TestPutToAnyStore(t *testing.T) {
	j, mem, _ := memJob(t)
	t.Chdir(files(t, t.TempDir(), "d/x", "1", "d/e/y", "2"))
	if _, err := put(t.Context(), j, false, "d", "mem://ns/data/"); err != nil {
		t.Fatal(err)
	}
	if got := memTree(t, mem); !maps.Equal(got, map[string]string{"/data/d/x": "1", "/data/d/e/y": "2"}) {
		t.Errorf("%q", got)
	}
	if r, err := put(t.Context(), j, false, "mem://ns/data/d/*/y", "back"); err != nil || r.Entries[0].From != "mem://ns/data/d/e/y" || r.Entries[0].To != "back" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestPutThatFailsLeavesNothing fails every call in turn. Whatever fails, the target is whole or not there; and where
// the store lets the temporary files be removed, they are.
func TestPutThatFailsLeavesNothing(t *testing.T) {
	t.Chdir(files(t, t.TempDir(), "d/x", "1", "d/e/y", "2"))
	broken := errors.New("the wire broke")
	for n := 1; ; n++ {
		for _, lost := range []bool{false, true} { // lost: the call was performed, its answer did not arrive
			j, mem, faults := memJob(t)
			faults.Add(hdfstest.Fault{Nth: n, Err: broken, Done: lost})
			_, err := put(t.Context(), j, false, "d", "mem://ns/data/d")
			got := memTree(t, mem)
			whole := maps.Equal(got, map[string]string{"/data/d/x": "1", "/data/d/e/y": "2"})
			if faults.Calls("") < n {
				if err != nil || !whole {
					t.Fatalf("without a fault: %v, %q", err, got)
				}
				if n < 12 {
					t.Fatalf("only %d calls", n)
				}
				return
			}
			if err == nil && !whole || err != nil && !errors.Is(err, broken) || err != nil && len(got) > 0 {
				t.Errorf("call %d (lost %v): %v, left %q", n, lost, err, got)
			}
		}
	}
}

func TestALostAnswerToTheRenameIsSettledByLooking(t *testing.T) {
	j, mem, faults := memJob(t)
	t.Chdir(files(t, t.TempDir(), "x", "1"))
	faults.Add(hdfstest.Fault{Op: hdfstest.Rename, Err: errors.New("no answer"), Done: true})
	if _, err := put(t.Context(), j, false, "x", "mem://ns/x"); err != nil {
		t.Error(err)
	}
	if got := memTree(t, mem); !maps.Equal(got, map[string]string{"/x": "1"}) {
		t.Errorf("%q", got)
	}
}

// liar gives back other bytes than were written to files that match.
type liar struct {
	hdfsio.FS
	lie func(name string, b []byte)
}

type lyingFile struct {
	hdfsio.File
	lie func(b []byte)
}

func (l liar) Open(ctx context.Context, name string) (hdfsio.File, error) {
	f, err := l.FS.Open(ctx, name)
	return lyingFile{f, func(b []byte) { l.lie(name, b) }}, err
}

func (f lyingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.lie(p[:n])
	return n, err
}

func TestAStoreThatGivesBackOtherBytesIsFound(t *testing.T) {
	j, mem, _ := memJob(t)
	j.stores.Drivers["mem"] = func(context.Context, string) (hdfsio.FS, error) {
		return liar{mem, func(_ string, b []byte) {
			if len(b) > 0 {
				b[len(b)/2] ^= 1
			}
		}}, nil
	}
	t.Chdir(files(t, t.TempDir(), "x", "12345"))
	_, err := put(t.Context(), j, false, "x", "mem://ns/x")
	if pipelineKind(err) != "corrupt" || !strings.Contains(err.Error(), "were written, the store gives back") {
		t.Errorf("%v", err)
	}
	if got := memTree(t, mem); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

func TestASourceThatChangesWhileItIsCopiedIsNamed(t *testing.T) {
	j, mem, faults := memJob(t)
	t.Chdir(t.TempDir())
	if err := hdfsio.WriteFile(t.Context(), mem, "/x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	faults.Add(hdfstest.Fault{Op: hdfstest.Read, Nth: 1, Hook: func(ctx context.Context, _ string) {
		if err := errors.Join(mem.Remove(ctx, "/x"), hdfsio.WriteFile(ctx, mem, "/x", []byte("2"))); err != nil {
			t.Error(err)
		}
	}})
	_, err := put(t.Context(), j, false, "mem://ns/x", "y")
	if pipelineKind(err) != "changed" || err.Error() != "mem://ns/x changed while it was copied" {
		t.Errorf("%v", err)
	}
	if got := tree(t, "."); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

func TestAnInterruptedPutLeavesNothing(t *testing.T) {
	j, mem, faults := memJob(t)
	t.Chdir(files(t, t.TempDir(), "d/x", "1", "d/y", "2"))
	ctx, cancel := context.WithCancel(t.Context())
	faults.Add(hdfstest.Fault{Op: hdfstest.Create, Nth: 2, Hook: func(context.Context, string) { cancel() }})
	if _, err := put(ctx, j, false, "d", "mem://ns/d"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := memTree(t, mem); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

// TestPutThatIsKilledShowsNothing kills the process when everything is copied and has no name yet.
func TestPutThatIsKilledShowsNothing(t *testing.T) {
	dir := files(t, t.TempDir(), "d/x", "1")
	p := start(t, dir, []string{crashAt + "=copied#1"}, "data", "put", "d", "e")
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d\n%s", code, &p.stderr)
	}
	for name := range tree(t, dir) {
		if name != "d/x" && !hdfsio.Hidden(name) {
			t.Errorf("visible: %s", name)
		}
	}
	data(t, dir, 0, "put", "d", "e")
}

func TestAFullStoreIsNamed(t *testing.T) {
	j, mem, faults := memJob(t)
	t.Chdir(files(t, t.TempDir(), "x", strings.Repeat("x", 1000)))
	faults.Space(500)
	if _, err := put(t.Context(), j, false, "x", "mem://ns/x"); pipelineKind(err) != "no_space" {
		t.Errorf("%v", err)
	}
	if got := memTree(t, mem); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

func TestAFileThatEndsEarlyIsNotTakenForWhole(t *testing.T) {
	mem := &hdfsio.Mem{}
	if err := hdfsio.WriteFile(t.Context(), mem, "/x", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	f, err := mem.Open(t.Context(), "/x")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	_, err = copyAll(&out, longer{f}, "x", nil)
	if pipelineKind(err) != "changed" || err.Error() != "x became shorter while it was read: 5 of 9 bytes" {
		t.Errorf("%v", err)
	}
}

// longer says that a file is longer than it is.
type longer struct{ hdfsio.File }

func (l longer) Size() int64 { return l.File.Size() + 4 }

func TestMoveDoesNotTakeAnothersFileForOurs(t *testing.T) {
	j, mem, faults := memJob(t)
	at, err := openPlace(t.Context(), j.stores, "mem://ns/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/x", "/.data-1"} {
		if err := hdfsio.WriteFile(t.Context(), mem, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	faults.Add(hdfstest.Fault{Op: hdfstest.Rename, Err: fs.ErrPermission})
	if err := move(t.Context(), at.beside(".data-1"), at); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}
