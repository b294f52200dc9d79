package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"dkpipe/pipeline"
)

// verifyArrow walks the metadata of an Arrow file or stream and checks that every length in it fits into the bytes
// that are there. The Arrow library believes such lengths and would ask for any amount of memory.
// See https://arrow.apache.org/docs/format/Columnar.html, "Serialization and Interprocess Communication (IPC)",
// and https://flatbuffers.dev/internals for the layout of tables and vectors.
func verifyArrow(blob pipeline.Blob, isFile bool) error {
	if isFile {
		return verifyArrowFile(blob)
	}
	for at := int64(0); at < blob.Size(); {
		next, err := verifyMessage(blob, at)
		if err != nil || next == 0 {
			return err
		}
		at = next
	}
	return nil
}

func verifyArrowFile(blob pipeline.Blob) error {
	size := blob.Size()
	tail, err := piece(blob, size-10, 10)
	if err != nil || !bytes.HasSuffix(tail, []byte("ARROW1")) {
		return fmt.Errorf("the file does not end as Arrow files do: %w", io.ErrUnexpectedEOF)
	}
	n := int64(binary.LittleEndian.Uint32(tail))
	footer, err := piece(blob, size-10-n, n)
	if err != nil {
		return err
	}
	f := &flat{b: footer}
	root := f.ref(0)
	f.schema(f.table(root, 1))
	f.keyValues(root, 4)
	for _, list := range []int{2, 3} { // dictionaries, record batches
		start, count := f.vector(root, list, 24)
		for i := 0; i < count && f.err == nil; i++ {
			at := int64(binary.LittleEndian.Uint64(f.b[start+24*i:]))
			if _, err := verifyMessage(blob, at); err != nil {
				return err
			}
		}
	}
	return f.err
}

// piece reads part of a blob.
func piece(blob pipeline.Blob, at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || n > blob.Size()-at {
		return nil, fmt.Errorf("%d bytes at %d of %d: %w", n, at, blob.Size(), io.ErrUnexpectedEOF)
	}
	b := make([]byte, n)
	if m, err := blob.ReadAt(b, at); m < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// verifyMessage checks the message at an offset and gives the offset behind its body, or 0 at the end of a stream.
func verifyMessage(blob pipeline.Blob, at int64) (int64, error) {
	h, err := piece(blob, at, min(8, max(4, blob.Size()-at)))
	if err != nil {
		return 0, err
	}
	at += 4
	n := int64(binary.LittleEndian.Uint32(h))
	if n == 0xffffffff { // the continuation mark, which old files lack
		if len(h) < 8 {
			return 0, fmt.Errorf("the stream ends inside a length: %w", io.ErrUnexpectedEOF)
		}
		at += 4
		n = int64(binary.LittleEndian.Uint32(h[4:]))
	}
	if n == 0 {
		return 0, nil
	}
	meta, err := piece(blob, at, n)
	if err != nil {
		return 0, err
	}
	f := &flat{b: meta}
	root := f.ref(0)
	header := f.table(root, 2)
	switch kind := f.byteOf(root, 1); kind {
	case 1:
		f.schema(header)
	case 2:
		f.batch(f.table(header, 1))
	case 3:
		f.batch(header)
	default:
		f.fail("a message of the type %d", kind)
	}
	f.keyValues(root, 4)
	body := int64(f.u64Of(root, 3))
	if f.err == nil && (body < 0 || body > blob.Size()-at-n) {
		f.fail("a body of %d bytes", body)
	}
	return at + n + body, f.err
}

// flat reads a FlatBuffer with bounds; the first fault stays in err, and reads after it give zeros.
type flat struct {
	b   []byte
	err error
}

func (f *flat) fail(format string, a ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("damaged metadata: "+format, a...)
	}
}

func (f *flat) has(at, n int) bool {
	if f.err == nil && (at < 0 || n < 0 || at > len(f.b)-n) {
		f.fail("%d bytes at %d of %d", n, at, len(f.b))
	}
	return f.err == nil
}

func (f *flat) u16(at int) int {
	if !f.has(at, 2) {
		return 0
	}
	return int(binary.LittleEndian.Uint16(f.b[at:]))
}

func (f *flat) u32(at int) int {
	if !f.has(at, 4) {
		return 0
	}
	return int(binary.LittleEndian.Uint32(f.b[at:]))
}

// ref follows the offset at a position.
func (f *flat) ref(at int) int { return at + f.u32(at) }

// slot gives the position of field i of a table, or 0 when the table leaves it out.
func (f *flat) slot(table, i int) int {
	if table == 0 || !f.has(table, 4) {
		return 0
	}
	v := table - int(int32(f.u32(table)))
	if size := f.u16(v); f.err != nil || 4+2*i+2 > size {
		return 0
	}
	if off := f.u16(v + 4 + 2*i); off > 0 {
		return table + off
	}
	return 0
}

func (f *flat) byteOf(table, i int) byte {
	at := f.slot(table, i)
	if at == 0 || !f.has(at, 1) {
		return 0
	}
	return f.b[at]
}

func (f *flat) u64Of(table, i int) uint64 {
	at := f.slot(table, i)
	if at == 0 || !f.has(at, 8) {
		return 0
	}
	return binary.LittleEndian.Uint64(f.b[at:])
}

// table gives the position of the table in field i, or 0.
func (f *flat) table(table, i int) int {
	at := f.slot(table, i)
	if at == 0 {
		return 0
	}
	at = f.ref(at)
	f.slot(at, 0)
	return at
}

// vector gives the first element and the number of elements of the vector in field i.
func (f *flat) vector(table, i, size int) (start, n int) {
	at := f.slot(table, i)
	if at == 0 {
		return 0, 0
	}
	at = f.ref(at)
	n = f.u32(at)
	if f.err != nil || n > len(f.b)/size || !f.has(at+4, n*size) {
		f.fail("a vector of %d elements", n)
		return 0, 0
	}
	return at + 4, n
}

func (f *flat) schema(table int) {
	start, n := f.vector(table, 1, 4)
	left := len(f.b) // fields: a table may be named twice, but not more often than there are bytes
	for i := 0; i < n && f.err == nil; i++ {
		f.field(f.ref(start+4*i), 0, &left)
	}
	f.keyValues(table, 2)
	f.vector(table, 3, 8)
}

func (f *flat) field(table, depth int, left *int) {
	if *left--; depth > 64 || *left < 0 {
		f.fail("fields in fields")
		return
	}
	f.vector(table, 0, 1)
	typ := f.table(table, 3)
	switch f.byteOf(table, 2) {
	case 10: // Timestamp: the time zone
		f.vector(typ, 1, 1)
	case 14: // Union: the type ids
		f.vector(typ, 1, 4)
	}
	f.table(f.table(table, 4), 1) // the dictionary's index type
	start, n := f.vector(table, 5, 4)
	for i := 0; i < n && f.err == nil; i++ {
		f.field(f.ref(start+4*i), depth+1, left)
	}
	f.keyValues(table, 6)
}

func (f *flat) keyValues(table, i int) {
	start, n := f.vector(table, i, 4)
	for k := 0; k < n && f.err == nil; k++ {
		pair := f.ref(start + 4*k)
		f.vector(pair, 0, 1)
		f.vector(pair, 1, 1)
	}
}

func (f *flat) batch(table int) {
	f.vector(table, 1, 16)
	f.vector(table, 2, 16)
	f.table(table, 3)
	f.vector(table, 4, 8)
}
