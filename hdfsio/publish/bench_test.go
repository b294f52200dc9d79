package publish

import (
	"crypto/sha256"
	"testing"

	"dkpipe/hdfsio"
)

// BenchmarkStageWrite writes files of 8 MiB into a stage in memory; the limits are the store and the hash, each
// alone.
func BenchmarkStageWrite(b *testing.B) {
	block := make([]byte, 1<<20)
	const blocks = 8
	b.Run("stage", func(b *testing.B) {
		l, err := Acquire(b.Context(), &hdfsio.Mem{}, root, Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer l.Release(b.Context())
		s, err := l.Stage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(blocks * len(block)))
		for b.Loop() {
			w, err := s.Create(b.Context(), "f")
			if err != nil {
				b.Fatal(err)
			}
			for range blocks {
				if _, err := w.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			w.Abort() // gives the memory back
		}
	})
	b.Run("store alone", func(b *testing.B) {
		m := &hdfsio.Mem{}
		b.SetBytes(int64(blocks * len(block)))
		for b.Loop() {
			w, err := m.Create(b.Context(), "f")
			if err != nil {
				b.Fatal(err)
			}
			for range blocks {
				if _, err := w.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			w.Abort()
		}
	})
	b.Run("hash alone", func(b *testing.B) {
		h := sha256.New()
		b.SetBytes(int64(len(block)))
		for b.Loop() {
			h.Write(block)
		}
	})
}

// BenchmarkRun is what the protocol costs a run with three tiny files on a local disk, fsync included.
func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		if _, err := run(b.Context(), &hdfsio.Local{}, dir, newID(), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
