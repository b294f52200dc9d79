package hdf5

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"slices"
)

// Shape gives the dimensions of a tensor; nil for a scalar.
func (o *Object) Shape() ([]int, error) {
	body, err := o.message(msgDataspace)
	if err != nil {
		return nil, err
	}
	if body == nil || !o.IsTensor() {
		return nil, o.corrupt("it is no tensor")
	}
	shape, none, err := o.dataspace(&cursor{b: body, sizes: o.f.width})
	if err == nil && none {
		err = o.corrupt("it has no value")
	}
	return shape, err
}

// Type gives the type of a tensor's elements.
func (o *Object) Type() (Type, error) {
	body, err := o.message(msgDatatype)
	if err != nil {
		return Type{}, err
	}
	return o.datatype(&cursor{b: body, sizes: o.f.width})
}

// ReadFloat32 fills dst with a tensor, row-major. dst has as many elements as the tensor; numbers of other types are
// converted to float32. A tensor of bfloat16, which has no type of its own in HDF5, is known by Keras' attribute dtype.
func (o *Object) ReadFloat32(dst []float32) error {
	shape, err := o.Shape()
	if err != nil {
		return err
	}
	t, err := o.Type()
	if err != nil {
		return err
	}
	if n := elements(shape); n != int64(len(dst)) {
		return o.corrupt("it has the shape %v, wanted are %d elements", shape, len(dst))
	}
	if err := o.readable(t); err != nil {
		return err
	}
	body, err := o.message(msgLayout)
	if err != nil {
		return err
	}
	filters, err := o.filters()
	if err != nil {
		return err
	}
	d := &reading{o: o, t: t, shape: shape, dst: dst, filters: filters}
	if len(dst) == 0 {
		return nil
	}
	if err := d.fill(); err != nil {
		return err
	}
	return d.layout(&cursor{b: body, sizes: o.f.width})
}

// readable says whether elements of a type are numbers.
func (o *Object) readable(t Type) error {
	switch t.Class {
	case Float, Int, Uint:
		return nil
	case Opaque:
		a, err := o.Attribute("dtype")
		if err != nil {
			return err
		}
		if a != nil && t.Size == 2 {
			if s, err := a.Strings(); err == nil && len(s) == 1 && s[0] == "bfloat16" {
				return nil
			}
		}
	}
	return o.unsupported("a tensor with elements of type %s, %d bytes each,", t.Class, t.Size)
}

// reading is one tensor on its way into dst.
type reading struct {
	o       *Object
	t       Type
	shape   []int
	dst     []float32
	filters []uint16
}

// fill sets what was never written (section IV.A.2.f).
func (d *reading) fill() error {
	clear(d.dst)
	body, err := d.o.message(msgFill)
	if err != nil {
		return err
	}
	var value []byte
	if body != nil {
		c := cursor{b: body, sizes: d.o.f.width}
		switch version := c.u8(); version {
		case 1, 2:
			c.skip(2)
			if defined := c.u8(); version == 1 || defined != 0 {
				value = c.take(int(c.u32()))
			}
		case 3:
			if c.u8()&0x20 != 0 {
				value = c.take(int(c.u32()))
			}
		default:
			return d.o.unsupported("a fill value of version %d", version)
		}
		if c.short {
			return d.o.corrupt("its fill value is cut off")
		}
	} else if body, err = d.o.message(msgFillOld); err != nil {
		return err
	} else if body != nil {
		c := cursor{b: body}
		value = c.take(int(c.u32()))
	}
	if len(value) != d.t.Size {
		return nil
	}
	d.t.toFloat32(d.dst[:1], value)
	if v := d.dst[0]; v != 0 {
		for i := range d.dst {
			d.dst[i] = v
		}
	}
	return nil
}

// The ways in which data is kept.
const (
	compact    = 0
	contiguous = 1
	chunked    = 2
)

// layout reads the data from where section IV.A.2.i says it is.
func (d *reading) layout(c *cursor) error {
	version := c.u8()
	if version != 3 && version != 4 {
		return d.o.unsupported("a data layout of version %d", version)
	}
	bytes := uint64(len(d.dst)) * uint64(d.t.Size)
	switch class := c.u8(); class {
	case compact:
		n := c.u16()
		data := c.take(int(n))
		if c.short || uint64(n) < bytes {
			return d.o.corrupt("it has %d bytes, %d are needed", n, bytes)
		}
		d.t.toFloat32(d.dst, data)
		return nil
	case contiguous:
		at, n := c.address(), c.length()
		if c.short {
			return d.o.corrupt("its layout is cut off")
		}
		if at == undefined {
			return nil
		}
		if n < bytes || len(d.filters) > 0 {
			return d.o.corrupt("it has %d bytes, %d are needed", n, bytes)
		}
		return d.stream(at)
	case chunked:
		if version == 4 {
			return d.o.unsupported("a chunked tensor of layout 4")
		}
		return d.chunks(c)
	default:
		return d.o.unsupported("a data layout of class %d", class)
	}
}

// stream converts contiguous data piece by piece.
func (d *reading) stream(at uint64) error {
	if n := uint64(len(d.dst)) * uint64(d.t.Size); at > d.o.f.r.size || n > d.o.f.r.size-at {
		return d.o.corrupt("its %d bytes at %d lie outside of the file", n, at)
	}
	per := max(1, (1<<20)/d.t.Size)
	buf := make([]byte, min(len(d.dst), per)*d.t.Size)
	for dst := d.dst; len(dst) > 0; {
		k := min(len(dst), per)
		if err := d.o.f.r.full(buf[:k*d.t.Size], at); err != nil {
			return err
		}
		d.t.toFloat32(dst[:k], buf)
		dst, at = dst[k:], at+uint64(k*d.t.Size)
	}
	return nil
}

// Filters (section IV.A.2.l).
const (
	filterDeflate = 1
	filterShuffle = 2
)

// filters gives the pipeline that chunks went through, in the order of writing.
func (o *Object) filters() ([]uint16, error) {
	body, err := o.message(msgFilters)
	if err != nil || body == nil {
		return nil, err
	}
	c := cursor{b: body}
	version, n := c.u8(), int(c.u8())
	switch version {
	case 1:
		c.skip(6)
	case 2:
	default:
		return nil, o.unsupported("a filter message of version %d", version)
	}
	var ids []uint16
	for range n {
		id := c.u16()
		name := 0
		if version == 1 || id >= 256 {
			name = int(c.u16())
		}
		c.skip(2)
		values := int(c.u16())
		c.skip(name)
		c.skip(4 * values)
		if version == 1 && values%2 != 0 {
			c.skip(4)
		}
		if id != filterDeflate && id != filterShuffle {
			return nil, o.unsupported("filter %d (only deflate and shuffle are)", id)
		}
		ids = append(ids, id)
	}
	if c.short {
		return nil, o.corrupt("its filters are cut off")
	}
	return ids, nil
}

// chunks reads a tensor that is kept in pieces, indexed by a B-tree.
func (d *reading) chunks(c *cursor) error {
	rank := len(d.shape)
	if int(c.u8()) != rank+1 || rank == 0 {
		return d.o.corrupt("its chunks have another rank than its shape %v", d.shape)
	}
	tree := c.address()
	chunk := make([]int, rank)
	for i := range chunk {
		chunk[i] = int(c.u32())
	}
	size := c.u32()
	n := elements(chunk)
	if c.short || int(size) != d.t.Size || n < 1 || n > int64(maxChunk/d.t.Size) {
		return d.o.corrupt("its chunks have the shape %v", chunk)
	}
	if n > 1<<22 && n/4 > int64(len(d.dst)) { // a few bytes could unpack to all of it
		return d.o.corrupt("its chunks of shape %v are far larger than its shape %v", chunk, d.shape)
	}
	if tree == undefined {
		return nil
	}
	most := int64(1)
	for i := range chunk {
		most *= int64((d.shape[i] + chunk[i] - 1) / chunk[i])
	}
	w := walk{f: d.o.f, kind: 1, keySize: 8 + 8*(rank+1), seen: map[uint64]bool{}}
	part := make([]float32, min(chunk[rank-1], d.shape[rank-1]))
	return w.tree(tree, func(key []byte, at uint64) error {
		if most--; most < 0 {
			return d.o.corrupt("it has more chunks than fit into the shape %v", d.shape)
		}
		k := cursor{b: key}
		stored, mask := uint64(k.u32()), k.u32()
		origin := make([]int, rank)
		for i := range origin {
			v := k.uint(8)
			if v >= uint64(d.shape[i]) {
				return d.o.corrupt("a chunk lies outside of the shape %v", d.shape)
			}
			origin[i] = int(v)
		}
		data, err := d.unpack(at, stored, mask, int(n)*d.t.Size)
		if err != nil {
			return err
		}
		d.scatter(data, origin, chunk, part)
		return nil
	})
}

// unpack reads one chunk and undoes the filters, last one first. mask has a bit for every filter that was left out.
func (d *reading) unpack(at, stored uint64, mask uint32, size int) ([]byte, error) {
	data, err := d.o.f.r.read(at, stored)
	if err != nil {
		return nil, err
	}
	for i, id := range slices.Backward(d.filters) {
		if mask>>i&1 != 0 {
			continue
		}
		if id == filterShuffle {
			data = unshuffle(data, d.t.Size)
			continue
		}
		if data, err = inflate(data, size); err != nil {
			return nil, d.o.corrupt("a chunk at %d: %v", at, err)
		}
	}
	if len(data) != size {
		return nil, d.o.corrupt("a chunk at %d has %d bytes, not %d", at, len(data), size)
	}
	return data, nil
}

// inflate unpacks at most size bytes. Memory grows with what comes out, so a small file cannot ask for much at once.
func inflate(data []byte, size int) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var out bytes.Buffer
	if _, err := io.Copy(&out, io.LimitReader(z, int64(size)+1)); err != nil {
		return nil, err
	}
	if out.Len() > size {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", size)
	}
	return out.Bytes(), nil
}

// unshuffle puts the bytes of every element together again: first come all first bytes, then all second ones.
func unshuffle(data []byte, size int) []byte {
	out := make([]byte, len(data))
	n := len(data) / size
	for b := range size {
		for i := range n {
			out[i*size+b] = data[b*n+i]
		}
	}
	copy(out[n*size:], data[n*size:])
	return out
}

// scatter copies the part of a chunk that lies inside of the tensor, row by row.
func (d *reading) scatter(data []byte, origin, chunk []int, row []float32) {
	rank := len(chunk)
	width := min(chunk[rank-1], d.shape[rank-1]-origin[rank-1])
	at := make([]int, rank) // in the chunk; the last one stays 0
	for {
		inside, from, to := true, 0, 0
		for i := range rank {
			p := origin[i] + at[i]
			inside = inside && p < d.shape[i]
			from = from*chunk[i] + at[i]
			to = to*d.shape[i] + p
		}
		if inside {
			d.t.toFloat32(row[:width], data[from*d.t.Size:])
			copy(d.dst[to:], row[:width])
		}
		i := rank - 2
		for ; i >= 0; i-- {
			if at[i]++; at[i] < chunk[i] {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			return
		}
	}
}

// Bytes gives how many bytes of the file a tensor's elements take, so that a shape can be judged before memory is made
// for it; -1 when they are packed or were never written, so that the file does not say.
func (o *Object) Bytes() int64 {
	body, err := o.message(msgLayout)
	if err != nil || body == nil {
		return -1
	}
	c := cursor{b: body, sizes: o.f.width}
	c.skip(1)
	switch c.u8() {
	case compact:
		return int64(c.u16())
	case contiguous:
		if at, n := c.address(), c.length(); at != undefined && !c.short && at <= o.f.r.size && n <= o.f.r.size-at {
			return int64(n)
		} else if at != undefined {
			return 0
		}
	}
	return -1
}
