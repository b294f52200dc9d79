package dataset

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

const (
	maxRecord  = 64 << 20 // bytes of one row
	slabBytes  = 1 << 20
	recordHead = 16 // of a row in a run: length, bucket, hash
	entryBytes = 24 // of a row in the arena's index
)

// A bucket is one shard of one part, numbered part*shards + shard. Rows are sorted by (bucket, hash, arrival).

// recordSource gives rows in that order. bucket, hash and body are those of the row that next moved to; body is valid
// until the next call of next.
type recordSource interface {
	next() (bool, error)
	bucket() uint32
	hash() int64
	body() []byte
}

// arena holds rows in memory, one behind the other in slabs, with an index to sort.
type arena struct {
	slabs [][]byte
	used  int // slabs in use; later ones are kept for reuse
	index []entry
	bytes int64
}

type entry struct {
	hash   int64
	bucket uint32
	slab   uint32
	off    uint32
	len    uint32
}

// full tells whether a row of n bytes more would pass the budget. One row always fits.
func (a *arena) full(n int, budget int64) bool {
	return len(a.index) > 0 && a.bytes+int64(n)+entryBytes > budget-budget/8
}

// add makes room for a row of n bytes and gives it for filling.
func (a *arena) add(bucket uint32, hash int64, n int) []byte {
	if a.used == 0 || len(a.slabs[a.used-1])+n > cap(a.slabs[a.used-1]) {
		a.grow(n)
	}
	s := &a.slabs[a.used-1]
	off := len(*s)
	*s = (*s)[:off+n]
	a.index = append(a.index, entry{hash: hash, bucket: bucket, slab: uint32(a.used - 1), off: uint32(off), len: uint32(n)})
	a.bytes += int64(n) + entryBytes
	return (*s)[off:]
}

func (a *arena) grow(n int) {
	if a.used < len(a.slabs) && cap(a.slabs[a.used]) >= n {
		a.slabs[a.used] = a.slabs[a.used][:0]
	} else {
		a.slabs = append(a.slabs[:a.used], make([]byte, 0, max(slabBytes, n)))
	}
	a.used++
}

func (a *arena) len() int { return len(a.index) }

func (a *arena) reset() { a.used, a.index, a.bytes = 0, a.index[:0], 0 }

func (a *arena) free() { *a = arena{} }

// sorted gives the rows in order. The index is built in arrival order, so slab and offset stand for arrival.
func (a *arena) sorted() *arenaSource {
	slices.SortFunc(a.index, func(x, y entry) int {
		if x.bucket != y.bucket {
			return cmp.Compare(x.bucket, y.bucket)
		}
		if x.hash != y.hash {
			return cmp.Compare(x.hash, y.hash)
		}
		if x.slab != y.slab {
			return cmp.Compare(x.slab, y.slab)
		}
		return cmp.Compare(x.off, y.off)
	})
	return &arenaSource{a: a, i: -1}
}

type arenaSource struct {
	a *arena
	i int
}

func (s *arenaSource) next() (bool, error) { s.i++; return s.i < len(s.a.index), nil }
func (s *arenaSource) bucket() uint32      { return s.a.index[s.i].bucket }
func (s *arenaSource) hash() int64         { return s.a.index[s.i].hash }
func (s *arenaSource) body() []byte {
	e := s.a.index[s.i]
	return s.a.slabs[e.slab][e.off : e.off+e.len]
}

// runFile holds sorted runs one behind the other in a file of a temporary folder of its own.
type runFile struct {
	dir  string
	file *os.File
	seq  int // names the next file
	end  int64
	runs []run
	big  int // longest record with its head
}

type run struct{ off, end int64 }

func newRunFile(tempDir string) (*runFile, error) {
	dir, err := os.MkdirTemp(tempDir, "dkpipe-rows-")
	if err != nil {
		return nil, err
	}
	r := &runFile{dir: dir}
	if err := r.create(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return r, nil
}

// create starts a new file and forgets the runs of the old one, which it leaves open to whoever reads it.
func (r *runFile) create() error {
	f, err := os.OpenFile(filepath.Join(r.dir, fmt.Sprintf("runs-%d", r.seq)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	r.file, r.end, r.runs = f, 0, nil
	r.seq++
	return nil
}

// append writes one run.
func (r *runFile) append(ctx context.Context, rows recordSource) error {
	w := bufio.NewWriterSize(r.file, 256<<10)
	start := r.end
	var head [recordHead]byte
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ok, err := rows.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		body := rows.body()
		binary.LittleEndian.PutUint32(head[0:], uint32(len(body)))
		binary.LittleEndian.PutUint32(head[4:], rows.bucket())
		binary.LittleEndian.PutUint64(head[8:], uint64(rows.hash()))
		if _, err := w.Write(head[:]); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
		r.end += recordHead + int64(len(body))
		r.big = max(r.big, recordHead+len(body))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	r.runs = append(r.runs, run{start, r.end})
	return nil
}

// merge gives all rows in order with buffers of about budget bytes together. When there are more runs than buffers of
// a useful size fit, neighbouring runs are first merged into longer ones, so arrival order is kept.
func (r *runFile) merge(ctx context.Context, budget int64) (recordSource, error) {
	chunk := max(64<<10, int64(r.big))
	fan := max(2, int(budget/chunk))
	for len(r.runs) > fan {
		old, runs := r.file, r.runs
		if err := r.create(); err != nil {
			return nil, err
		}
		for len(runs) > 0 {
			n := min(fan, len(runs))
			m, err := newMerge(old, runs[:n], chunk)
			if err == nil {
				err = r.append(ctx, m)
			}
			if err != nil {
				old.Close()
				return nil, err
			}
			runs = runs[n:]
		}
		name := old.Name()
		if err := old.Close(); err != nil {
			return nil, err
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	return newMerge(r.file, r.runs, max(chunk, min(1<<20, budget/int64(max(1, len(r.runs))))))
}

func (r *runFile) remove() error {
	err := r.file.Close()
	if rm := os.RemoveAll(r.dir); rm != nil {
		return rm
	}
	return err
}

// merge is a heap of run readers; the top is the row that comes next.
type merge struct {
	heap    []*runReader
	started bool
}

func newMerge(f *os.File, runs []run, chunk int64) (*merge, error) {
	m := &merge{}
	for i, r := range runs {
		rr := &runReader{number: i, in: bufio.NewReaderSize(io.NewSectionReader(f, r.off, r.end-r.off), int(chunk))}
		ok, err := rr.next()
		if err != nil {
			return nil, err
		}
		if ok {
			m.heap = append(m.heap, rr)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	return m, nil
}

func (m *merge) next() (bool, error) {
	if !m.started {
		m.started = true
		return len(m.heap) > 0, nil
	}
	if len(m.heap) == 0 {
		return false, nil
	}
	ok, err := m.heap[0].next()
	if err != nil {
		return false, err
	}
	if !ok {
		last := len(m.heap) - 1
		m.heap[0], m.heap[last] = m.heap[last], nil
		m.heap = m.heap[:last]
	}
	m.down(0)
	return len(m.heap) > 0, nil
}

func (m *merge) bucket() uint32 { return m.heap[0].head.bucket }
func (m *merge) hash() int64    { return m.heap[0].head.hash }
func (m *merge) body() []byte   { return m.heap[0].rec }

func (m *merge) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.heap); c++ {
			if m.heap[c].before(m.heap[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// runReader reads one run. rec is a view of the buffer, or of own memory when a record is longer than the buffer.
type runReader struct {
	number int // earlier runs hold earlier rows
	in     *bufio.Reader
	head   entry
	rec    []byte
	own    []byte
	skip   int // bytes of rec still to be discarded
}

func (r *runReader) before(o *runReader) bool {
	if r.head.bucket != o.head.bucket {
		return r.head.bucket < o.head.bucket
	}
	if r.head.hash != o.head.hash {
		return r.head.hash < o.head.hash
	}
	return r.number < o.number
}

func (r *runReader) next() (bool, error) {
	if _, err := r.in.Discard(r.skip); err != nil {
		return false, err
	}
	r.skip = 0
	head, err := r.in.Peek(recordHead)
	if err == io.EOF && len(head) == 0 {
		return false, nil
	}
	if err != nil {
		return false, io.ErrUnexpectedEOF
	}
	n := int(binary.LittleEndian.Uint32(head[0:]))
	r.head.bucket = binary.LittleEndian.Uint32(head[4:])
	r.head.hash = int64(binary.LittleEndian.Uint64(head[8:]))
	if n > maxRecord {
		return false, fmt.Errorf("a row of %d bytes", n)
	}
	if recordHead+n <= r.in.Size() {
		rec, err := r.in.Peek(recordHead + n)
		if err != nil {
			return false, io.ErrUnexpectedEOF
		}
		r.rec, r.skip = rec[recordHead:], recordHead+n
		return true, nil
	}
	if _, err := r.in.Discard(recordHead); err != nil {
		return false, err
	}
	if cap(r.own) < n {
		r.own = make([]byte, n)
	}
	r.rec = r.own[:n]
	_, err = io.ReadFull(r.in, r.rec)
	return err == nil, err
}
