package hdfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"testing"
	"time"

	"dkpipe/hdfsio"
)

func TestCallsOutliveARestartOfTheNameNode(t *testing.T) {
	b := separateBox(t)
	f := b.dial(t, func(o *Options) { o.Timeout, o.Retry = 2*time.Minute, 2*time.Minute })
	dir := folder(t, f)
	name := path.Join(dir, "f")
	data := noise(8 << 20)
	put(t, f, name, data)
	o := open(t, f, name)
	if _, err := o.ReadAt(make([]byte, 1000), 0); err != nil {
		t.Fatal(err)
	}
	b.control(t, "killnn")
	up := make(chan struct{})
	go func() {
		defer close(up)
		same(t, o, data) // needs no NameNode
		b.control(t, "startnn")
	}()
	if info, err := f.Stat(t.Context(), name); err != nil || info.Size != int64(len(data)) {
		t.Errorf("stat across the restart: %+v, %v", info, err)
	}
	<-up
	if err := f.Mkdir(t.Context(), path.Join(dir, "d")); err != nil { // waits until the safe mode after a start is over
		t.Errorf("a folder after the restart: %v", err)
	}
	if err := f.Rename(t.Context(), name, path.Join(dir, "g")); err != nil {
		t.Errorf("the rename after the restart: %v", err)
	}
}

func TestAnAbsentNameNodeIsToldWithinSeconds(t *testing.T) {
	b := separateBox(t)
	o := b.options(t)
	b.control(t, "killnn")
	defer func() {
		b.control(t, "startnn")
		waitWritable(t, b)
	}()
	start := time.Now()
	_, err := Dial(t.Context(), o)
	want(t, err, hdfsio.KindUnreachable, o.Service)
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestASilentNameNodeEndsInATimeoutAndALostRenameIsNotRepeated(t *testing.T) {
	b := separateBox(t)
	f := b.dial(t, func(o *Options) { o.RPCTimeout, o.Retry = time.Second, -1 })
	dir := folder(t, f)
	from, to := path.Join(dir, "a"), path.Join(dir, "b")
	put(t, f, from, []byte("x"))
	b.control(t, "pause namenode")
	awake := false
	wake := func() {
		if !awake {
			awake = true
			b.control(t, "resume namenode")
		}
	}
	defer wake()
	start := time.Now()
	_, err := f.Stat(t.Context(), from)
	want(t, err, hdfsio.KindTimeout, from)
	want(t, f.call(t.Context(), "rename", from, false, func(c *client) error { return c.Rename(from, to) }), hdfsio.KindTimeout, from)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.Stat(ctx, from); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("it took %v", d)
	}
	wake()
	// One of the two names is there, whatever the NameNode made of what it found when it woke up.
	_, errFrom := f.Stat(t.Context(), from)
	_, errTo := f.Stat(t.Context(), to)
	if (errFrom == nil) == (errTo == nil) {
		t.Errorf("%v, %v", errFrom, errTo)
	}
}

func TestATakeoverByTheOtherNameNodeIsNotNoticed(t *testing.T) {
	b := haBox(t)
	f := b.dial(t, func(o *Options) {
		if len(o.Namenodes) != 2 {
			t.Fatalf("%q are the NameNodes of %s", o.Namenodes, b.HDFS)
		}
		o.Timeout, o.Retry = time.Minute, time.Minute
	})
	dir := folder(t, f)
	data := noise(100_000)
	for round := range 2 {
		from, to := round, 1-round
		name := path.Join(dir, string(rune('a'+round)))
		put(t, f, name, data)
		w := create(t, f, name+"2")
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		b.control(t, "standby "+string(rune('0'+from)))
		changed := make(chan struct{})
		go func() {
			defer close(changed)
			b.control(t, "active "+string(rune('0'+to)))
		}()
		if err := f.Mkdir(t.Context(), name+".d"); err != nil {
			t.Error(err)
		}
		<-changed
		same(t, open(t, f, name), data)
		if err := w.Close(); err == nil { // the writer may have asked while neither was active
			same(t, open(t, f, name+"2"), data)
		} else {
			want(t, err, hdfsio.KindUnreachable, name+"2")
			w.Abort()
			if _, err := f.Stat(t.Context(), name+"2"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Abort: %v", err)
			}
		}
		if err := f.Rename(t.Context(), name, name+"3"); err != nil {
			t.Error(err)
		}
	}
}
