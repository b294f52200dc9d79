package hdfs

import (
	"io"
	"math/rand/v2"
	"net"
	"path"
	"sync"
	"testing"

	lib "github.com/colinmarc/hdfs/v2"

	"dkpipe/hdfsio"
)

// benchFile writes the file that the benchmarks read.
func benchFile(b *testing.B, size int) (box, *FS, string) {
	x := theBox(b)
	f := x.dial(b, func(o *Options) { o.Replication = 1 })
	name := path.Join(folder(b, f), "f")
	if err := hdfsio.WriteFile(b.Context(), f, name, noise(size)); err != nil {
		b.Fatal(err)
	}
	return x, f, name
}

// BenchmarkRead reads 128 MiB from the first byte to the last. The references are in the same run: bare TCP over the
// loopback, and the library's own reader, which does not keep wrong bytes from its caller.
func BenchmarkRead(b *testing.B) {
	const size = 128 << 20
	x, f, name := benchFile(b, size)
	for _, piece := range []int{64 << 10, 1 << 20, 8 << 20} {
		b.Run(sizeName(piece), func(b *testing.B) {
			o, err := f.Open(b.Context(), name)
			if err != nil {
				b.Fatal(err)
			}
			defer o.Close()
			p := make([]byte, piece)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				for off := 0; off < size; off += piece {
					if _, err := o.ReadAt(p, int64(off)); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			}
		})
	}
	b.Run("library", func(b *testing.B) {
		o := x.options(b)
		c, err := lib.NewClient(lib.ClientOptions{Addresses: o.Namenodes, User: o.User})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		p := make([]byte, 1<<20)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			r, err := c.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, p)
			r.Close()
			if n != size || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("tcp", func(b *testing.B) { rawTCP(b, size) })
}

func sizeName(n int) string {
	if n >= 1<<20 {
		return string(rune('0'+n>>20)) + "MiB"
	}
	return "64KiB"
}

// rawTCP moves the same number of bytes over a bare connection.
func rawTCP(b *testing.B, size int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		p := make([]byte, 1<<20)
		for {
			if _, err := conn.Write(p); err != nil {
				return
			}
		}
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	p := make([]byte, 1<<20)
	b.SetBytes(int64(size))
	for b.Loop() {
		for range size >> 20 {
			if _, err := io.ReadFull(conn, p); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkReadAt reads pieces at scattered places, as readers of columns do.
func BenchmarkReadAt(b *testing.B) {
	const size = 64 << 20
	x, f, name := benchFile(b, size)
	for _, piece := range []int{64 << 10, 1 << 20, 4 << 20} {
		b.Run(sizeName(piece), func(b *testing.B) {
			o, err := f.Open(b.Context(), name)
			if err != nil {
				b.Fatal(err)
			}
			defer o.Close()
			r := rand.New(rand.NewPCG(1, 2))
			p := make([]byte, piece)
			b.SetBytes(int64(piece))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.ReadAt(p, int64(r.IntN(size-piece))); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("library/"+sizeName(piece), func(b *testing.B) {
			o := x.options(b)
			c, err := lib.NewClient(lib.ClientOptions{Addresses: o.Namenodes, User: o.User})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			file, err := c.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			r := rand.New(rand.NewPCG(1, 2))
			p := make([]byte, piece)
			b.SetBytes(int64(piece))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := file.ReadAt(p, int64(r.IntN(size-piece))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWrite writes 32 MiB and closes.
func BenchmarkWrite(b *testing.B) {
	x := theBox(b)
	f := x.dial(b, func(o *Options) { o.Replication = 1 })
	dir := folder(b, f)
	data := noise(32 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		name := path.Join(dir, "f")
		if err := hdfsio.WriteFile(b.Context(), f, name, data); err != nil {
			b.Fatal(err)
		}
		if err := f.Remove(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmallFile creates, writes, closes and removes a file of a few bytes.
func BenchmarkSmallFile(b *testing.B) {
	x := theBox(b)
	f := x.dial(b, func(o *Options) { o.Replication = 1 })
	name := path.Join(folder(b, f), "f")
	for b.Loop() {
		if err := hdfsio.WriteFile(b.Context(), f, name, []byte("few")); err != nil {
			b.Fatal(err)
		}
		if err := f.Remove(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStat asks for one file.
func BenchmarkStat(b *testing.B) {
	f := theBox(b).dial(b, nil)
	dir := folder(b, f)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Stat(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
}
