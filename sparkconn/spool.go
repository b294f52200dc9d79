package sparkconn

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"os"

	"dkpipe/pipeline"
)

// rowLayout is the form of a row in a shard's local file: the floats of the inputs, the outputs and the weight, one
// after the other, little endian.
type rowLayout struct {
	widths []int // of every column
	x, y   int   // how many of them are inputs and outputs
	weight bool
	bytes  int // of a row
}

func newRowLayout(columns []pipeline.ColumnInfo) rowLayout {
	var l rowLayout
	for _, c := range columns {
		switch c.Role {
		case "x":
			l.x++
		case "y":
			l.y++
		case "weight":
			l.weight = true
		default:
			continue
		}
		w := c.Width()
		l.widths = append(l.widths, w)
		l.bytes += 4 * w
	}
	return l
}

func appendFloats(b []byte, v []float32) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// spoolReader gives the batches of one epoch of a shard out of its local file.
type spoolReader struct {
	ctx    func() error // the error of the context that Open was given, nil while it runs
	file   *os.File
	shard  pipeline.Shard
	layout rowLayout
	size   int
	order  []uint32 // row of the file at each place of the epoch; nil: as in the file
	at     pipeline.Cursor
	batch  pipeline.Batch
	cols   [][]float32 // the whole memory of each column
	buf    []byte
	err    error
	closed bool
}

func newSpoolReader(ctx context.Context, file *os.File, s pipeline.Shard, l rowLayout, opt FeedOptions, from pipeline.Cursor) *spoolReader {
	r := &spoolReader{file: file, shard: s, layout: l, size: opt.BatchSize, at: from, ctx: func() error {
		if ctx.Err() == nil {
			return nil
		}
		return ended(ctx, s.Path)
	}}
	if opt.Shuffle {
		r.order = permutation(int(s.Rows), uint64(opt.Seed), uint64(s.ID), uint64(from.Epoch))
	}
	rows := int(min(int64(opt.BatchSize), s.Rows))
	for _, w := range l.widths {
		r.cols = append(r.cols, make([]float32, rows*w))
	}
	r.buf = make([]byte, rows*l.bytes)
	r.batch.X, r.batch.Y = make([][]float32, l.x), make([][]float32, l.y)
	return r
}

// permutation is a Fisher-Yates shuffle by SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, 2014), spelled out because the order must be the same in every version of the program.
func permutation(n int, parts ...uint64) []uint32 {
	state := uint64(0x9e3779b97f4a7c15)
	for _, p := range parts {
		state = mix(state ^ mix(p+0x9e3779b97f4a7c15))
	}
	out := make([]uint32, n)
	for i := range out {
		state += 0x9e3779b97f4a7c15
		j, _ := bits.Mul64(mix(state), uint64(i+1))
		out[i] = out[j]
		out[j] = uint32(i)
	}
	return out
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Next gives the next batch.
func (r *spoolReader) Next() (*pipeline.Batch, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.err = r.ctx(); r.err != nil {
		return nil, r.err
	}
	n := int(min(int64(r.size), r.shard.Rows-r.at.Row))
	if n == 0 {
		r.err = io.EOF
		return nil, r.err
	}
	if err := r.read(n); err != nil {
		r.err = &pipeline.Error{Kind: pipeline.Changed, Message: r.shard.Path + ": the local copy of the shard cannot be read", Hint: "run again", Err: err}
		return nil, r.err
	}
	r.decode(n)
	r.at.Row += int64(n)
	return &r.batch, nil
}

// read fills buf with the next n rows of the epoch.
func (r *spoolReader) read(n int) error {
	size := r.layout.bytes
	if r.order == nil {
		_, err := r.file.ReadAt(r.buf[:n*size], r.at.Row*int64(size))
		return err
	}
	for i, row := range r.order[r.at.Row : r.at.Row+int64(n)] {
		if _, err := r.file.ReadAt(r.buf[i*size:(i+1)*size], int64(row)*int64(size)); err != nil {
			return err
		}
	}
	return nil
}

// decode spreads n rows of buf over the columns of the batch.
func (r *spoolReader) decode(n int) {
	off := 0
	for i, w := range r.layout.widths {
		col := r.cols[i][:n*w]
		for k := range n {
			src, dst := r.buf[k*r.layout.bytes+off:][:4*w], col[k*w:(k+1)*w]
			for j := range dst {
				dst[j] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*j:]))
			}
		}
		off += 4 * w
		switch {
		case i < r.layout.x:
			r.batch.X[i] = col
		case i < r.layout.x+r.layout.y:
			r.batch.Y[i-r.layout.x] = col
		default:
			r.batch.Weight = col
		}
	}
	r.batch.Rows = n
}

// Cursor is the position of the next batch.
func (r *spoolReader) Cursor() pipeline.Cursor { return r.at }

// Close closes the file.
func (r *spoolReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.err == nil {
		r.err = internalErr("%s: the reader is closed", r.shard.Path)
	}
	return r.file.Close()
}
