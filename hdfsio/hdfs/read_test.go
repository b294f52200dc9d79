package hdfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"dkpipe/hdfsio"
)

// noise gives n bytes that do not repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// put writes a file.
func put(t testing.TB, f *FS, name string, data []byte) {
	t.Helper()
	if err := hdfsio.WriteFile(t.Context(), f, name, data); err != nil {
		t.Fatal(err)
	}
}

// open opens a file and closes it at the end.
func open(t testing.TB, f *FS, name string) *file {
	t.Helper()
	o, err := f.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o.(*file)
}

// same reads a file in pieces of every size, in order and not, and compares.
func same(t testing.TB, f *file, data []byte) {
	t.Helper()
	if f.Size() != int64(len(data)) {
		t.Fatalf("size %d, want %d", f.Size(), len(data))
	}
	for _, size := range []int{64 << 10, 100_003, len(data)} {
		p := make([]byte, size)
		for off := 0; off < len(data); off += size {
			want := data[off:min(off+size, len(data))]
			n, err := f.ReadAt(p, int64(off))
			if err != nil && err != io.EOF || n != len(want) {
				t.Fatalf("%d bytes at %d: %d, %v", size, off, n, err)
			}
			if !bytes.Equal(p[:n], want) {
				t.Fatalf("%d bytes at %d: wrong", size, off)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		off := r.IntN(len(data))
		p := make([]byte, r.IntN(min(300_000, len(data)-off))+1)
		if n, err := f.ReadAt(p, int64(off)); n != len(p) || err != nil {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
		}
		if !bytes.Equal(p, data[off:off+len(p)]) {
			t.Fatalf("%d bytes at %d: wrong", len(p), off)
		}
	}
}

func TestAFileOfManyBlocksIsReadRightAtAnyOffsetAndSize(t *testing.T) {
	f := theBox(t).dial(t, func(o *Options) { o.BlockSize = 1 << 20 })
	name := path.Join(folder(t, f), "f")
	data := noise(5<<20 + 12345)
	put(t, f, name, data)
	o := open(t, f, name)
	if len(o.layout.blocks) != 6 {
		t.Fatalf("%d blocks", len(o.layout.blocks))
	}
	same(t, o, data)
}

func TestManyReadersOfOneFileGetTheRightBytes(t *testing.T) {
	f := theBox(t).dial(t, func(o *Options) { o.BlockSize = 1 << 20 })
	name := path.Join(folder(t, f), "f")
	data := noise(3<<20 + 7)
	put(t, f, name, data)
	o := open(t, f, name)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			off := 0
			for range 100 {
				if r.IntN(3) == 0 { // else it reads on
					off = r.IntN(len(data))
				}
				p := make([]byte, r.IntN(100_000)+1)
				n, err := o.ReadAt(p, int64(off))
				if err != nil && err != io.EOF || !bytes.Equal(p[:n], data[off:off+n]) || err == nil && n < len(p) {
					t.Errorf("%d bytes at %d: %d, %v, or wrong", len(p), off, n, err)
					return
				}
				if off += n; off == len(data) {
					off = 0
				}
			}
		})
	}
	wg.Wait()
}

func TestAFlippedByteInOneReplicaIsNeverSeen(t *testing.T) {
	b := theBox(t)
	b.needs(t, 2)
	for copies := 1; copies < min(len(b.Datanodes), 3); copies++ {
		t.Run(fmt.Sprint(copies, " bad"), func(t *testing.T) {
			f := b.dial(t, func(o *Options) { o.Replication = copies + 1 })
			name := path.Join(folder(t, f), "f")
			data := noise(2 << 20)
			put(t, f, name, data)
			for i := range copies {
				b.control(t, fmt.Sprintf("flip %s 0 %d 1000000", name, i))
			}
			for range 6 { // the NameNode gives the replicas in another order each time
				fresh := b.dial(t, nil)
				same(t, open(t, fresh, name), data)
			}
		})
	}
}

func TestAFlippedByteInEveryReplicaIsCorruptAndNotDelivered(t *testing.T) {
	b := theBox(t)
	f := b.dial(t, nil)
	name := path.Join(folder(t, f), "f")
	data := noise(2 << 20)
	put(t, f, name, data)
	const at = 1_000_000
	b.control(t, fmt.Sprintf("flip %s 0 all %d", name, at))
	for _, size := range []int{1, 100, 512, 4096, 65536, 1 << 20, len(data)} {
		fresh := b.dial(t, nil)
		o := open(t, fresh, name)
		p := make([]byte, size)
		failed := false
		for off := 0; off < len(data); off += size {
			if off+size < at-100_000 && size < 4096 { // small ones near the place only
				continue
			}
			n, err := o.ReadAt(p, int64(off))
			if !bytes.Equal(p[:n], data[off:min(off+n, len(data))]) {
				t.Fatalf("pieces of %d: a wrong byte behind %d was delivered (%v)", size, off, err)
			}
			if err == nil || err == io.EOF {
				if off <= at && at < off+n {
					t.Fatalf("pieces of %d: the broken place was delivered", size)
				}
				continue
			}
			if hdfsio.KindOf(err) != hdfsio.KindCorrupt || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "blk_") {
				t.Fatalf("pieces of %d: %v of kind %s", size, err, hdfsio.KindOf(err))
			}
			failed = true
			break
		}
		if !failed {
			t.Fatalf("pieces of %d: no error", size)
		}
	}
}

func TestADatanodeThatStopsIsReplacedWhileReading(t *testing.T) {
	b := separateBox(t)
	b.needs(t, 2)
	f := b.dial(t, func(o *Options) { o.Replication = 2 })
	name := path.Join(folder(t, f), "f")
	data := noise(24 << 20)
	put(t, f, name, data)
	o := open(t, f, name)
	p := make([]byte, 1<<20)
	got := 0
	read := func() {
		n, err := o.ReadAt(p, int64(got))
		if err != nil && err != io.EOF || !bytes.Equal(p[:n], data[got:got+n]) {
			t.Fatalf("at %d: %d, %v, or wrong bytes", got, n, err)
		}
		got += n
	}
	for range 4 {
		read()
	}
	if len(o.parked) != 1 {
		t.Fatalf("%d reads under way; the test wants to break one", len(o.parked))
	}
	address := o.parked[0].address
	for i, d := range b.Datanodes {
		if d.Address == address {
			b.control(t, fmt.Sprint("stopdn ", i))
			defer b.control(t, fmt.Sprint("startdn ", i))
		}
	}
	for got < len(data) {
		read()
	}
	if o.layout.blocks[0].replicas[0].address == address && len(f.health.nodes) == 0 {
		t.Error("the stopped datanode was not noticed; did it serve to the end?")
	}
}

func TestAFileThatIsReplacedWhileItIsReadIsNeverMixed(t *testing.T) {
	b := theBox(t)
	f := b.dial(t, func(o *Options) { o.Replication = 1 })
	dir := folder(t, f)
	name := path.Join(dir, "f")
	data := noise(8 << 20)
	put(t, f, name, data)
	o := open(t, f, name)
	p := make([]byte, 1000)
	if _, err := o.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	put(t, f, path.Join(dir, "g"), bytes.Repeat([]byte("x"), len(data)))
	if err := f.Rename(t.Context(), path.Join(dir, "g"), name); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(data); off += 100_000 { // HDFS removes the old blocks some seconds later
		n, err := o.ReadAt(p, int64(off))
		if !bytes.Equal(p[:n], data[off:off+n]) {
			t.Fatalf("bytes of another file at %d", off)
		}
		if err != nil && hdfsio.KindOf(err) != hdfsio.KindChanged {
			t.Fatalf("%v of kind %s", err, hdfsio.KindOf(err))
		}
	}
	o.layout.blocks[0].replicas = nil // as if the datanodes had removed them
	o.Close()
	o2 := open(t, f, name)
	o2.layout.blocks[0].id++
	o2.layout.blocks[0].replicas = nil
	if _, err := o2.ReadAt(p, 0); hdfsio.KindOf(err) != hdfsio.KindChanged {
		t.Fatalf("%v of kind %s", err, hdfsio.KindOf(err))
	}
}

func TestMovedBlocksAreLookedUpAgain(t *testing.T) {
	f := theBox(t).dial(t, nil)
	name := path.Join(folder(t, f), "f")
	data := noise(100_000)
	put(t, f, name, data)
	o := open(t, f, name)
	o.layout.blocks[0].replicas[0].address = "127.0.0.1:1" // where nobody listens
	o.layout.blocks[0].replicas = o.layout.blocks[0].replicas[:1]
	same(t, o, data)
}

func TestCloseEndsWhatReads(t *testing.T) {
	f := theBox(t).dial(t, nil)
	name := path.Join(folder(t, f), "f")
	put(t, f, name, noise(1000))
	o := open(t, f, name)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err == nil {
		t.Error("a second Close gave no error")
	}
	if n, err := o.ReadAt(make([]byte, 1), 0); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after Close: %d, %v", n, err)
	}
}
