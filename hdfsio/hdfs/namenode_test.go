package hdfs

import (
	"context"
	"errors"
	"path"
	"testing"
	"time"

	"dkpipe/hdfsio"
)

func TestCallsOutliveARestartOfTheNameNode(t *testing.T) {
	b := theBox(t)
	f := b.dial(t, func(o *Options) { o.Timeout, o.Retry = 2*time.Minute, 2*time.Minute })
	dir := folder(t, f)
	name := path.Join(dir, "f")
	data := noise(8 << 20)
	put(t, f, name, data)
	o := open(t, f, name)
	if _, err := o.ReadAt(make([]byte, 1000), 0); err != nil {
		t.Fatal(err)
	}
	b.control(t, "killnn 0")
	up := make(chan struct{})
	go func() {
		defer close(up)
		same(t, o, data) // needs no NameNode
		b.control(t, "startnn 0")
	}()
	if info, err := f.Stat(t.Context(), name); err != nil || info.Size != int64(len(data)) {
		t.Errorf("stat across the restart: %+v, %v", info, err)
	}
	<-up
	until := time.Now().Add(time.Minute)
	for {
		err := f.Mkdir(t.Context(), path.Join(dir, "d"))
		if err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal(err) // safe mode lasts a moment after a start
		}
	}
	if err := f.Rename(t.Context(), name, path.Join(dir, "g")); err != nil {
		t.Errorf("the rename after the restart: %v", err)
	}
}

func TestAnAbsentNameNodeIsToldWithinSeconds(t *testing.T) {
	b := theBox(t)
	o := b.options(t)
	b.control(t, "killnn 0")
	defer func() {
		b.control(t, "startnn 0")
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
	b := theBox(t)
	b.separate(t)
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
