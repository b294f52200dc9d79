package dataset

import (
	"sync"

	"dkpipe/pipeline"
)

// layout is what a feed takes from a manifest: the columns of a batch, inputs first, then outputs, then the weight.
type layout struct {
	cols    []column
	inputs  int
	outputs int
	weight  bool
	rowSize int64 // bytes of a decoded row, with the four bytes of its place in a permutation
}

type column struct {
	name     string
	encoding string
	width    int
	scale    float64
	offset   float64
}

func newLayout(m *Manifest) (*layout, error) {
	l := &layout{rowSize: 4}
	for _, role := range []string{RoleX, RoleY, RoleWeight} {
		for _, c := range m.Columns {
			if c.Role != role {
				continue
			}
			w, err := width(c)
			if err != nil {
				return nil, err
			}
			switch role {
			case RoleX:
				l.inputs++
			case RoleY:
				l.outputs++
			default:
				l.weight = true
			}
			l.cols = append(l.cols, column{name: c.Name, encoding: c.Encoding, width: w, scale: c.Scale, offset: c.Offset})
			l.rowSize += 4 * int64(w)
		}
	}
	return l, nil
}

// block holds decoded rows, a slice a column of the layout, and the order they are given out in.
type block struct {
	cap   int // rows that fit
	cols  [][]float32
	order []uint32 // memory for the order that the rows are given out in; empty: as stored
}

// permutation fills order for n rows.
func (b *block) permutation(n int, k uint64) []uint32 {
	if cap(b.order) < n {
		b.order = make([]uint32, b.cap)
	}
	b.order = b.order[:n]
	permute(b.order, k)
	return b.order
}

func (l *layout) newBlock(rows int) *block {
	b := &block{cap: rows, cols: make([][]float32, len(l.cols))}
	for i, c := range l.cols {
		b.cols[i] = make([]float32, rows*c.width)
	}
	return b
}

// gather copies n rows of src, beginning with the one that order puts at place from, into b from row at on.
func (l *layout) gather(b *block, at int, src *block, order []uint32, from, n int) {
	for i, c := range l.cols {
		w := c.width
		dst, s := b.cols[i][at*w:(at+n)*w], src.cols[i]
		if len(order) == 0 {
			copy(dst, s[from*w:(from+n)*w])
		} else {
			gatherRows(dst, s, order, from, n, w)
		}
	}
}

// gatherRows copies the rows of width w that stand at places from..from+n-1 of order. They lie anywhere in memory, so
// the beginning of a row is asked for some copies ahead; the processor follows the rest by itself. Without that an
// epoch out of memory takes a quarter longer.
func gatherRows(dst, src []float32, order []uint32, from, n, w int) {
	lines := min(16, (w+15)/16)
	ahead := min(16, 1+128/w)
	for j, o := range order[from : from+n] {
		if k := from + j + ahead; k < len(order) {
			prefetch(&src[int(order[k])*w], lines)
		}
		row := src[int(o)*w:][:w]
		if w > 16 {
			copy(dst[j*w:], row)
			continue
		}
		for i, v := range row { // a call of memmove would cost more than the row
			dst[j*w+i] = v
		}
	}
}

// view points batch at rows from..from+n-1 of src.
func (l *layout) view(batch *pipeline.Batch, src *block, from, n int) {
	batch.Rows = n
	for i, c := range l.cols {
		lo, hi := from*c.width, (from+n)*c.width
		s := src.cols[i][lo:hi:hi]
		switch {
		case i < l.inputs:
			batch.X[i] = s
		case i < l.inputs+l.outputs:
			batch.Y[i-l.inputs] = s
		default:
			batch.Weight = s
		}
	}
}

// blockPool keeps the blocks of closed readers for the next ones, so that an epoch costs no fresh memory.
// Idle and lent blocks together stay below limit; what would pass it is left to the garbage collector.
type blockPool struct {
	mu    sync.Mutex
	lay   *layout
	limit int64
	held  int64 // bytes of all blocks, idle and lent
	idle  []*block
}

func (p *blockPool) get(rows int) *block {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, b := range p.idle {
		if b.cap >= rows && b.cap/4 <= rows && (best < 0 || b.cap < p.idle[best].cap) {
			best = i
		}
	}
	if best >= 0 {
		b := p.idle[best]
		p.idle = append(p.idle[:best], p.idle[best+1:]...)
		return b
	}
	p.held += int64(rows) * p.lay.rowSize
	for p.held > p.limit && len(p.idle) > 0 {
		p.held -= int64(p.idle[0].cap) * p.lay.rowSize
		p.idle = p.idle[1:]
	}
	return p.lay.newBlock(rows)
}

func (p *blockPool) put(b *block) {
	if b == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held > p.limit {
		p.held -= int64(b.cap) * p.lay.rowSize
		return
	}
	p.idle = append(p.idle, b)
}
