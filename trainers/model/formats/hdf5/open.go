package hdf5

import (
	"bytes"
	"fmt"
	"io"

	"dkpipe/pipeline"
)

// signature begins every HDF5 file.
var signature = []byte("\x89HDF\r\n\x1a\n")

// Limits of what is read. They are far above what a model needs and far below what could hurt.
const (
	maxRank    = 32
	maxMembers = 1 << 20  // of a group
	maxHeader  = 16 << 20 // bytes of one object header
	maxBlocks  = 4096     // pieces of one object header
	maxNodes   = 1 << 20  // of one B-tree
	maxDepth   = 32       // of one B-tree, and of a path
	maxText    = 256 << 20
	maxChunk   = 1 << 30 // bytes of one chunk of a data set, unpacked
)

// File is an open HDF5 file. It belongs to one goroutine.
type File struct {
	r     *window
	width sizes
	root  *Object
	heaps map[uint64]map[uint16]extent // objects of global heaps that were looked at
}

// sizes are the widths of addresses and lengths in the file's structures, in bytes.
type sizes struct{ address, length int }

// extent is a range of bytes of the file.
type extent struct{ at, n uint64 }

// Open reads the superblock. size is the length of the file; nothing beyond it is asked for. A file that is no HDF5 is an
// error of kind Corrupt; errors of r are passed on as they are.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: &window{r: r, size: uint64(max(size, 0))}, heaps: map[uint64]map[uint16]extent{}}
	// The superblock is at 0, or at a power of two from 512 on behind a user block (section II).
	for base := uint64(0); base < f.r.size; base = max(512, 2*base) {
		head, err := f.r.read(base, min(8, f.r.size-base))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(head, signature) {
			continue
		}
		f.r = &window{r: r, base: base, size: f.r.size - base}
		root, err := f.superblock()
		if err != nil {
			return nil, err
		}
		f.root, err = f.object("", root)
		return f, err
	}
	return nil, corrupt("it does not begin as an HDF5 file")
}

// Root is the group that holds all others.
func (f *File) Root() *Object { return f.root }

// Size is the length of the file without a user block.
func (f *File) Size() int64 { return int64(f.r.size) }

// superblock gives the address of the root's header (section II).
func (f *File) superblock() (uint64, error) {
	c, err := f.cursor(8, min(96, f.r.size-8))
	if err != nil {
		return 0, err
	}
	var end uint64 // of the file when it was closed
	switch version := c.u8(); version {
	case 0, 1:
		c.skip(4)
		f.width = sizes{int(c.u8()), int(c.u8())}
		c.skip(1 + 2 + 2 + 4)
		if version == 1 {
			c.skip(4)
		}
		c.sizes = f.width
		c.skip(2 * f.width.address) // base, free space
		end = c.uint(f.width.address)
		c.skip(2 * f.width.address) // driver; then the name of the root entry
	case 2, 3:
		f.width = sizes{int(c.u8()), int(c.u8())}
		c.skip(1)
		c.sizes = f.width
		c.skip(2 * f.width.address) // base, extension
		end = c.uint(f.width.address)
	default:
		return 0, unsupported("a superblock of version %d", version)
	}
	if !c.short && !f.width.sound() {
		return 0, unsupported("addresses of %d bytes and lengths of %d", f.width.address, f.width.length)
	}
	root := c.address()
	if c.short {
		return 0, corrupt("the superblock is cut off")
	}
	if end > f.r.base+f.r.size {
		return 0, corrupt("the file has %d bytes, %d were written", f.r.base+f.r.size, end)
	}
	return root, nil
}

func (s sizes) sound() bool {
	return (s.address == 4 || s.address == 8) && (s.length == 4 || s.length == 8)
}

// window reads pieces of the file through a few cached pages, so that many small structures cost few reads.
type window struct {
	r     io.ReaderAt
	base  uint64 // addresses count from here
	size  uint64 // from base to the end of the file
	pages [16]page
	next  int
}

type page struct {
	at   uint64
	data []byte
}

const pageSize = 32 << 10

// read gives n bytes; the slice is valid until the next read.
func (w *window) read(at, n uint64) ([]byte, error) {
	if at > w.size || n > w.size-at {
		return nil, corrupt("%d bytes at %d lie outside of the file, which has %d", n, at, w.size)
	}
	if n > pageSize/2 {
		b := make([]byte, n)
		return b, w.full(b, at)
	}
	for i := range w.pages {
		if p := &w.pages[i]; at >= p.at && at+n <= p.at+uint64(len(p.data)) {
			return p.data[at-p.at:][:n], nil
		}
	}
	p := &w.pages[w.next]
	w.next = (w.next + 1) % len(w.pages)
	if p.data == nil {
		p.data = make([]byte, pageSize)
	}
	p.at, p.data = at, p.data[:min(pageSize, w.size-at)]
	if err := w.full(p.data, at); err != nil {
		p.data = p.data[:0]
		return nil, err
	}
	return p.data[:n], nil
}

// full fills b; a file that ends too early is corrupt.
func (w *window) full(b []byte, at uint64) error {
	if at > w.size || uint64(len(b)) > w.size-at {
		return corrupt("%d bytes at %d lie outside of the file, which has %d", len(b), at, w.size)
	}
	n, err := w.r.ReadAt(b, int64(w.base+at))
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return corrupt("the file ends at byte %d, more was expected", w.base+at+uint64(n))
	}
	return err
}

// cursor reads n bytes of the file for decoding.
func (f *File) cursor(at, n uint64) (*cursor, error) {
	b, err := f.r.read(at, n)
	if err != nil {
		return nil, err
	}
	return &cursor{b: append([]byte(nil), b...), sizes: f.width}, nil
}

// cursor decodes little-endian fields one after the other. After the end it gives zeros and says so in short.
type cursor struct {
	b     []byte
	sizes sizes
	short bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.short, c.b = true, nil
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) skip(n int) { c.take(n) }

// uint reads a number of n <= 8 bytes.
func (c *cursor) uint(n int) uint64 {
	var v uint64
	for i, b := range c.take(n) {
		v |= uint64(b) << (8 * i)
	}
	return v
}

func (c *cursor) u8() byte       { return byte(c.uint(1)) }
func (c *cursor) u16() uint16    { return uint16(c.uint(2)) }
func (c *cursor) u32() uint32    { return uint32(c.uint(4)) }
func (c *cursor) length() uint64 { return c.uint(c.sizes.length) }

// address reads an address; an undefined one has all bits set, whatever its width.
func (c *cursor) address() uint64 {
	v := c.uint(c.sizes.address)
	if c.sizes.address == 4 && v == 1<<32-1 {
		return undefined
	}
	return v
}

// padded reads n bytes and skips to the next multiple of eight.
func (c *cursor) padded(n int) []byte {
	b := c.take(n)
	c.take(min(-n&7, len(c.b)))
	return b
}

// elements is the product of a shape, or -1 when it does not fit.
func elements(shape []int) int64 {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return -1
		}
		if d != 0 && n > (1<<48)/int64(d) {
			return -1
		}
		n *= int64(d)
	}
	return n
}

func corrupt(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: "HDF5: " + fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: "HDF5: " + fmt.Sprintf(format, args...) + " is not supported",
		Hint: "write the file again with h5py's defaults (no libver), or with h5repack"}
}
