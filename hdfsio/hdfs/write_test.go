package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"dkpipe/hdfsio"
)

// create makes a file, which the test must end.
func create(t testing.TB, f *FS, name string) *writer {
	t.Helper()
	w, err := f.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return w.(*writer)
}

// want fails unless err is of the kind, names the path and gives a next step.
func want(t testing.TB, err error, kind hdfsio.Kind, name string) {
	t.Helper()
	var e *hdfsio.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("error %v of kind %s, want %s", err, hdfsio.KindOf(err), kind)
	}
	if !strings.Contains(err.Error(), name) {
		t.Errorf("error %q does not name %s", err, name)
	}
	if e.Hint == "" {
		t.Errorf("error %q has no next step", err)
	}
}

func TestADatanodeThatStopsWhileAFileIsWrittenPoisonsIt(t *testing.T) {
	b := separateBox(t)
	b.needs(t, 2)
	f := b.dial(t, func(o *Options) { o.Replication = len(b.Datanodes) })
	for i := range b.Datanodes {
		t.Run(fmt.Sprint("datanode ", i), func(t *testing.T) {
			waitWritable(t, b) // a datanode that is still coming would not be in the file's pipeline
			name := path.Join(folder(t, f), "f")
			w := create(t, f, name)
			piece := noise(1 << 20)
			if _, err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
			b.control(t, fmt.Sprint("stopdn ", i))
			defer waitWritable(t, b)
			defer b.control(t, fmt.Sprint("startdn ", i))
			var err error
			for n := 0; err == nil; n++ {
				if n == 100 {
					t.Fatal("100 MiB went to a pipeline without a datanode, and no error")
				}
				_, err = w.Write(piece)
			}
			want(t, err, hdfsio.KindUnreachable, name)
			if _, again := w.Write(piece); again == nil {
				t.Error("a later Write gave no error")
			}
			for range 3 {
				if err := w.Close(); err == nil {
					t.Fatal("Close called a broken file good")
				}
			}
			w.Abort()
			if _, err := f.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Abort: %v", err)
			}
		})
	}
}

// TestADeadDatanodeOfANewBlockIsNamed writes while the NameNode has not yet noticed that a datanode is gone, and gives it
// out for new blocks: as the first of a pipeline or behind others.
func TestADeadDatanodeOfANewBlockIsNamed(t *testing.T) {
	b := separateBox(t)
	b.needs(t, 2)
	f := b.dial(t, func(o *Options) { o.Replication = len(b.Datanodes) })
	failed := 0
	for i, node := range b.Datanodes {
		waitWritable(t, b)
		name := path.Join(folder(t, f), "f")
		b.control(t, fmt.Sprint("stopdn ", i))
		err := hdfsio.WriteFile(t.Context(), f, name, []byte("x"))
		b.control(t, fmt.Sprint("startdn ", i))
		if err == nil { // it was noticed sooner
			continue
		}
		failed++
		want(t, err, hdfsio.KindUnreachable, name)
		if !strings.Contains(err.Error(), "datanode "+node.Address) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q, want one line with datanode %s", err, node.Address)
		}
	}
	waitWritable(t, b)
	if failed == 0 {
		t.Error("no write met the datanode that was gone")
	}
}

// waitWritable waits until all datanodes take blocks again.
func waitWritable(t testing.TB, b box) {
	t.Helper()
	f := b.dial(t, func(o *Options) { o.Replication = len(b.Datanodes) })
	dir := folder(t, f)
	until := time.Now().Add(time.Minute)
	for i := 0; ; i++ {
		name := path.Join(dir, fmt.Sprint(i))
		err := hdfsio.WriteFile(t.Context(), f, name, []byte("x"))
		if err == nil {
			var l layout
			err = f.call(t.Context(), "look", name, true, func(c *client) (err error) {
				if _, err = c.Stat(name); err == nil {
					l, err = c.locate(name)
				}
				return err
			})
			if err == nil && len(l.blocks[0].replicas) == len(b.Datanodes) {
				return
			}
		}
		if time.Now().After(until) {
			t.Fatalf("the datanodes did not come back: %v", err)
		}
	}
}

func TestManySmallAndLargeFilesAreComplete(t *testing.T) {
	f := theBox(t).dial(t, func(o *Options) { o.BlockSize = 1 << 20 })
	dir := folder(t, f)
	for _, n := range []int{0, 1, 511, 512, 513, 65536, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3 << 20} {
		name := path.Join(dir, fmt.Sprint(n))
		data := noise(n)
		put(t, f, name, data)
		if n > 0 {
			same(t, open(t, f, name), data)
		}
		info, err := f.Stat(t.Context(), name)
		if err != nil || info.Size != int64(n) || info.ID == 0 {
			t.Errorf("%d bytes: %+v, %v", n, info, err)
		}
	}
}

func TestCancellingTheContextPoisonsAFile(t *testing.T) {
	f := theBox(t).dial(t, nil)
	name := path.Join(folder(t, f), "f")
	ctx, cancel := context.WithCancel(t.Context())
	w, err := f.Create(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(noise(300_000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.Close(); hdfsio.KindOf(err) != hdfsio.KindInterrupted || !errors.Is(err, context.Canceled) {
		t.Fatalf("Close: %v of kind %s", err, hdfsio.KindOf(err))
	}
	w.Abort()
	if _, err := f.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Abort: %v", err)
	}
}

func TestAbortFromAnotherGoroutineEndsAWrite(t *testing.T) {
	b := separateBox(t)
	f := b.dial(t, nil)
	name := path.Join(folder(t, f), "f")
	w := create(t, f, name)
	b.control(t, "ackdelay 2000") // so that Write waits for acknowledgements
	defer b.control(t, "ackdelay 0")
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		var err error
		for err == nil {
			_, err = w.Write(noise(1 << 20))
		}
		done <- err
	}()
	<-started
	w.Abort()
	if err := <-done; err == nil {
		t.Error("Write gave no error")
	}
	if _, err := f.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Abort: %v", err)
	}
}

func TestAbortLeavesTheFileOfSomebodyElseAlone(t *testing.T) {
	f := theBox(t).dial(t, nil)
	name := path.Join(folder(t, f), "f")
	w := create(t, f, name)
	if err := f.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	put(t, f, name, []byte("theirs"))
	if err := w.Close(); err == nil {
		t.Error("Close gave no error")
	}
	w.Abort()
	if got, err := hdfsio.ReadFile(t.Context(), f, name, 100); err != nil || string(got) != "theirs" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAFileWithTooFewReplicasIsGivenUpInTime(t *testing.T) {
	b := separateBox(t)
	f := b.dial(t, func(o *Options) { o.Timeout = 2 * time.Second })
	name := path.Join(folder(t, f), "f")
	w := create(t, f, name)
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b.control(t, "ackdelay 20000")
	defer b.control(t, "ackdelay 0")
	start := time.Now()
	err := w.Close()
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("Close took %v", d)
	}
	want(t, err, hdfsio.KindTimeout, name)
	w.Abort()
}

func TestSafeModeIsNamedWithTheNextStep(t *testing.T) {
	b := separateBox(t)
	f := b.dial(t, nil)
	dir := folder(t, f)
	put(t, f, path.Join(dir, "f"), []byte("x"))
	b.control(t, "safemode enter")
	defer b.control(t, "safemode leave")
	for what, err := range map[string]error{
		"mkdir":  f.Mkdir(t.Context(), path.Join(dir, "d")),
		"write":  hdfsio.WriteFile(t.Context(), f, path.Join(dir, "g"), nil),
		"rename": f.Rename(t.Context(), path.Join(dir, "f"), path.Join(dir, "g")),
		"remove": f.Remove(t.Context(), path.Join(dir, "f")),
	} {
		var e *hdfsio.Error
		if !errors.As(err, &e) || e.Kind != hdfsio.KindUnreachable || !strings.Contains(e.Hint, "safe mode") {
			t.Errorf("%s: %v, hint %q", what, err, e)
		}
	}
	if got, err := hdfsio.ReadFile(t.Context(), f, path.Join(dir, "f"), 10); err != nil || string(got) != "x" {
		t.Errorf("reading in safe mode: %q, %v", got, err)
	}
}

func TestAnotherUserIsDenied(t *testing.T) {
	b := theBox(t)
	f := b.dial(t, nil)
	dir := folder(t, f)
	put(t, f, path.Join(dir, "f"), []byte("x"))
	other := b.dial(t, func(o *Options) { o.User = "somebody" })
	for what, err := range map[string]error{
		"mkdir":  other.Mkdir(t.Context(), path.Join(dir, "d")),
		"write":  hdfsio.WriteFile(t.Context(), other, path.Join(dir, "g"), nil),
		"rename": other.Rename(t.Context(), path.Join(dir, "f"), path.Join(dir, "g")),
		"remove": other.Remove(t.Context(), path.Join(dir, "f")),
	} {
		if !errors.Is(err, fs.ErrPermission) || hdfsio.KindOf(err) != hdfsio.KindDenied {
			t.Errorf("%s: %v of kind %s", what, err, hdfsio.KindOf(err))
		}
		if err != nil && !strings.Contains(err.Error(), "somebody") {
			t.Errorf("%s: %q does not say who", what, err)
		}
	}
	if _, err := other.Stat(t.Context(), path.Join(dir, "f")); err != nil {
		t.Errorf("stat: %v", err)
	}
}

func TestTheUmaskDecidesWhoMayRead(t *testing.T) {
	b := theBox(t)
	f := b.dial(t, func(o *Options) { o.Umask = new(uint32(0o077)) })
	dir := path.Join(folder(t, f), "private")
	if err := f.Mkdir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	put(t, f, path.Join(dir, "f"), []byte("x"))
	other := b.dial(t, func(o *Options) { o.User = "somebody" })
	_, err := other.Open(t.Context(), path.Join(dir, "f"))
	want(t, err, hdfsio.KindDenied, dir)
	_, err = other.ReadDir(t.Context(), dir)
	want(t, err, hdfsio.KindDenied, dir)
}
