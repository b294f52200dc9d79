package dataset

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
)

// scratch is the working memory of one decoder. A feed keeps the scratches of closed readers for the next ones.
type scratch struct {
	raw   []byte // bytes of a row group, as they stand in the file
	pages recycler
	fixed []parquet.FixedLenByteArray
	texts []parquet.ByteArray
	def   []int16
	rep   []int16
	table [256]float32 // u8: what a byte means
}

// scratchPool holds idle scratches; what does not fit is left to the garbage collector.
type scratchPool chan *scratch

func (p scratchPool) get() *scratch {
	select {
	case s := <-p:
		return s
	default:
		return &scratch{}
	}
}

func (p scratchPool) put(s *scratch) {
	clear(s.fixed)
	clear(s.texts) // they point into pages
	select {
	case p <- s:
	default:
	}
}

// recycler is an allocator for arrow-go that gives freed pages out again, so that reading a row group costs no fresh
// memory. It belongs to one goroutine. Its memory is not zeroed: a page is filled before it is read.
type recycler struct {
	free [][]byte
}

var _ memory.Allocator = (*recycler)(nil)

func (r *recycler) Allocate(size int) []byte {
	best := -1
	for i, b := range r.free {
		if cap(b) >= size && (best < 0 || cap(b) < cap(r.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return memory.DefaultAllocator.Allocate(size)
	}
	b := r.free[best]
	last := len(r.free) - 1
	r.free[best], r.free[last] = r.free[last], nil
	r.free = r.free[:last]
	return b[:size]
}

func (r *recycler) Reallocate(size int, b []byte) []byte {
	if cap(b) >= size {
		return b[:size]
	}
	n := r.Allocate(size)
	copy(n, b)
	r.Free(b)
	return n
}

// Free takes a buffer back. One that is there already is not taken twice: two pages must never share memory.
func (r *recycler) Free(b []byte) {
	const most = 6 // a column reader has three
	if cap(b) == 0 {
		return
	}
	for _, f := range r.free {
		if unsafe.SliceData(f) == unsafe.SliceData(b) {
			return
		}
	}
	if len(r.free) < most {
		r.free = append(r.free, b[:0])
		return
	}
	small := 0
	for i, f := range r.free {
		if cap(f) < cap(r.free[small]) {
			small = i
		}
	}
	if cap(r.free[small]) < cap(b) {
		r.free[small] = b[:0]
	}
}
