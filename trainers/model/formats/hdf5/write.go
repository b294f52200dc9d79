package hdf5

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"dkpipe/pipeline"
)

// Tree is a file to be written: groups, tensors and attributes by path. The zero value is a file with an empty root.
// Paths are slash-separated without a leading slash; the empty path is the root. Missing groups are made.
type Tree struct {
	root object
	err  error
}

// object is a group, or a tensor when shape is not nil.
type object struct {
	members map[string]*object
	attrs   []attribute
	shape   []int
	data    []float32
}

type attribute struct{ name, value string }

// Group makes sure that there is a group.
func (t *Tree) Group(path string) { t.at(path) }

// Tensor adds a float32 tensor; data has as many elements as shape says, row-major, and is read when the tree is
// written, not before. What is wrong with it is reported by WriteTo.
func (t *Tree) Tensor(path string, shape []int, data []float32) {
	o := t.at(path)
	n := elements(shape)
	switch {
	case o.shape != nil || len(o.members) > 0 || path == "":
		t.fail("hdf5: %q is there twice", path)
	case n != int64(len(data)) || len(shape) > maxRank:
		t.fail("hdf5: tensor %q has %d elements for a shape of %v", path, len(data), shape)
	}
	o.shape, o.data = append([]int{}, shape...), data
}

// Attribute adds a text to a group or tensor.
func (t *Tree) Attribute(path, name, value string) {
	o := t.at(path)
	if name == "" || len(name)+len(value) > 60_000 || strings.ContainsRune(name, 0) {
		t.fail("hdf5: attribute %q of %q cannot be written: %d bytes", name, path, len(value))
	}
	o.attrs = append(o.attrs, attribute{name, value})
}

func (t *Tree) fail(format string, args ...any) {
	if t.err == nil {
		t.err = &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf(format, args...)}
	}
}

func (t *Tree) at(path string) *object {
	o := &t.root
	if path == "" {
		return o
	}
	for _, name := range strings.Split(path, "/") {
		if name == "" || name == "." || strings.ContainsRune(name, 0) || o.shape != nil {
			t.fail("hdf5: %q is no path for a group or tensor", path)
		}
		if o.members == nil {
			o.members = map[string]*object{}
		}
		next := o.members[name]
		if next == nil {
			next = &object{}
			o.members[name] = next
		}
		o = next
	}
	return o
}

// The fan-out of groups, as HDF5 has it by default (section II.A): a symbol node holds 2·leafK members, a B-tree node
// 2·innerK children.
const (
	leafK  = 4
	innerK = 16
)

const undefined = math.MaxUint64 // an address that is not there

// WriteTo writes the file: superblock 0, then all headers, then the tensors, each at a multiple of eight bytes. Errors of
// w are passed on as they are. The same tree gives the same bytes.
func (t *Tree) WriteTo(w io.Writer) (int64, error) {
	if t.err != nil {
		return 0, t.err
	}
	e := &encoder{}
	e.reserve(96)
	root, tree, heap := e.group(&t.root)
	end := e.place()
	e.superblock(root, tree, heap, uint64(end))
	n, err := w.Write(e.b)
	written := int64(n)
	if err != nil {
		return written, err
	}
	buf := make([]byte, 64<<10)
	for _, p := range e.tensors {
		for data := p.data; len(data) > 0; {
			k := min(len(data), len(buf)/4)
			for i, v := range data[:k] {
				binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
			}
			n, err := w.Write(buf[:4*k])
			if written += int64(n); err != nil {
				return written, err
			}
			data = data[k:]
		}
		if pad := -written & 7; pad > 0 && written < end {
			n, err := w.Write(make([]byte, pad))
			if written += int64(n); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// encoder builds all that comes before the tensors; b's index is the file's address.
type encoder struct {
	b       []byte
	tensors []placed
}

// placed is a tensor and the place of its address in the headers.
type placed struct {
	at   int
	data []float32
}

func (e *encoder) reserve(n int) (addr int) {
	addr = len(e.b)
	e.b = append(e.b, make([]byte, n)...)
	return addr
}

func (e *encoder) u8(v ...byte)      { e.b = append(e.b, v...) }
func (e *encoder) u16(v int)         { e.b = binary.LittleEndian.AppendUint16(e.b, uint16(v)) }
func (e *encoder) u32(v int)         { e.b = binary.LittleEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) u64(v uint64)      { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) padded(s string)   { e.b = append(e.b, s...); e.reserve(-len(s) & 7) }
func (e *encoder) put(at int, v int) { binary.LittleEndian.PutUint64(e.b[at:], uint64(v)) }

// place gives every tensor its address behind the headers, and the length of the file.
func (e *encoder) place() int64 {
	e.reserve(-len(e.b) & 7)
	end := int64(len(e.b))
	for i, p := range e.tensors {
		if len(p.data) == 0 {
			binary.LittleEndian.PutUint64(e.b[p.at:], undefined)
			continue
		}
		end = (end + 7) &^ 7
		e.put(e.tensors[i].at, int(end))
		end += 4 * int64(len(p.data))
	}
	return end
}

// superblock fills the first 96 bytes (section II.A, version 0).
func (e *encoder) superblock(root, tree, heap int, end uint64) {
	s := encoder{b: append([]byte{}, signature...)}
	s.u8(0, 0, 0, 0, 0, 8, 8, 0)
	s.u16(leafK)
	s.u16(innerK)
	s.u32(0)
	s.u64(0) // base address
	s.u64(undefined)
	s.u64(end)
	s.u64(undefined)
	s.symbol(0, root)
	copy(e.b, s.b)
	e.put(96-16, tree) // the root's entry caches where its members are
	e.put(96-8, heap)
	e.b[96-24] = 1
}

// symbol is a member of a group (section III.C): where its name and its header are.
func (e *encoder) symbol(name, header int) {
	e.u64(uint64(name))
	e.u64(uint64(header))
	e.reserve(24)
}

// group writes the members, then what lists them, then the group's own header.
func (e *encoder) group(o *object) (header, tree, heap int) {
	names := slices.Sorted(maps.Keys(o.members))
	headers := make([]int, len(names))
	for i, name := range names {
		if m := o.members[name]; m.shape != nil {
			headers[i] = e.tensor(m)
		} else {
			headers[i], _, _ = e.group(m)
		}
	}
	heap, offsets := e.heap(names)
	tree = e.index(offsets, headers)
	header = e.header(o.attrs, message{0x11, func() { e.u64(uint64(tree)); e.u64(uint64(heap)) }})
	return header, tree, heap
}

// heap writes the names (section III.D). The first one is empty: the B-tree's least key.
func (e *encoder) heap(names []string) (addr int, offsets []int) {
	addr = e.reserve(0)
	e.u8('H', 'E', 'A', 'P', 0, 0, 0, 0)
	size := e.reserve(8)
	e.u64(1) // no free block
	e.u64(uint64(len(e.b) + 8))
	start := e.reserve(8)
	for _, name := range names {
		offsets = append(offsets, len(e.b)-start)
		e.padded(name + "\x00")
	}
	e.put(size, len(e.b)-start)
	return addr, offsets
}

// child is a node of the index below another: where it is, and the greatest name in it.
type child struct{ addr, last int }

// index writes symbol nodes and the B-tree over them (section III.A.1), level by level, and gives the root.
func (e *encoder) index(names, headers []int) int {
	var below []child
	for from := 0; from < len(names); from += 2 * leafK {
		to := min(from+2*leafK, len(names))
		below = append(below, child{len(e.b), names[to-1]})
		e.u8('S', 'N', 'O', 'D', 1, 0)
		e.u16(to - from)
		for i := from; i < to; i++ {
			e.symbol(names[i], headers[i])
		}
		e.reserve(40 * (2*leafK - (to - from)))
	}
	for level := 0; ; level++ {
		var nodes []child
		for from := 0; from == 0 || from < len(below); from += 2 * innerK {
			least := 0
			if from > 0 {
				least = below[from-1].last
			}
			nodes = append(nodes, e.treeNode(level, least, below[from:min(from+2*innerK, len(below))]))
		}
		for i := 1; i < len(nodes); i++ { // siblings
			e.put(nodes[i-1].addr+16, nodes[i].addr)
			e.put(nodes[i].addr+8, nodes[i-1].addr)
		}
		if len(nodes) == 1 {
			return nodes[0].addr
		}
		below = nodes
	}
}

func (e *encoder) treeNode(level, least int, children []child) child {
	n := child{addr: len(e.b)}
	e.u8('T', 'R', 'E', 'E', 0, byte(level))
	e.u16(len(children))
	e.u64(undefined)
	e.u64(undefined)
	e.u64(uint64(least))
	for _, c := range children {
		e.u64(uint64(c.addr))
		e.u64(uint64(c.last))
		n.last = c.last
	}
	e.reserve(16 * (2*innerK - len(children)))
	return n
}

// message is one message of an object header: its type and what writes its body.
type message struct {
	kind int
	body func()
}

// header writes an object header of version 1 (section IV.A.1).
func (e *encoder) header(attrs []attribute, messages ...message) int {
	attrs = slices.Clone(attrs)
	slices.SortStableFunc(attrs, func(a, b attribute) int { return cmp.Compare(a.name, b.name) })
	for _, a := range attrs {
		messages = append(messages, message{0x0c, func() { e.text(a) }})
	}
	addr := len(e.b)
	e.u8(1, 0)
	e.u16(len(messages))
	e.u32(1) // references
	size := e.reserve(8)
	start := len(e.b)
	for _, m := range messages {
		e.u16(m.kind)
		at := e.reserve(6)
		body := len(e.b)
		m.body()
		e.reserve(-(len(e.b) - body) & 7)
		binary.LittleEndian.PutUint16(e.b[at:], uint16(len(e.b)-body))
	}
	binary.LittleEndian.PutUint32(e.b[size:], uint32(len(e.b)-start))
	return addr
}

// tensor writes a data set's header; the address of its data follows later.
func (e *encoder) tensor(o *object) int {
	return e.header(o.attrs,
		message{0x01, func() { // dataspace, version 1
			e.u8(1, byte(len(o.shape)), 0, 0, 0, 0, 0, 0)
			for _, d := range o.shape {
				e.u64(uint64(d))
			}
		}},
		message{0x03, func() { // datatype: IEEE 754 float32, little endian
			e.u8(0x11, 0x20, 0x1f, 0)
			e.u32(4)
			e.u8(0, 0, 32, 0, 23, 8, 0, 23)
			e.u32(127)
		}},
		message{0x05, func() { e.u8(2, 2, 2, 1, 0, 0, 0, 0) }}, // fill value: the default
		message{0x08, func() { // layout, version 3: contiguous
			e.u8(3, 1)
			e.tensors = append(e.tensors, placed{e.reserve(8), o.data})
			e.u64(uint64(4 * len(o.data)))
		}},
	)
}

// text writes an attribute of version 1 that holds a UTF-8 text of fixed length.
func (e *encoder) text(a attribute) {
	e.u8(1, 0)
	e.u16(len(a.name) + 1)
	e.u16(8)
	e.u16(8)
	e.padded(a.name + "\x00")
	e.u8(0x13, 0x11, 0, 0) // string, padded with zeros, UTF-8
	e.u32(max(1, len(a.value)))
	e.u8(1, 0, 0, 0, 0, 0, 0, 0) // one value
	e.b = append(e.b, a.value...)
	if a.value == "" {
		e.u8(0)
	}
}
