package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"

	"dkpipe/pipeline"
)

// File is an open safetensors file. It may be read from several goroutines if its ReaderAt may.
type File struct {
	Entries  []Entry // in the order of their data
	Metadata map[string]string
	r        io.ReaderAt
}

// Open reads and checks the header of a file of size bytes. Errors of the reader are passed on; a file that breaks
// the format is an error of kind Corrupt, a type of element that is not known one of kind Unsupported.
func Open(r io.ReaderAt, size int64) (*File, error) {
	var prefix [8]byte
	if size < 8 {
		return nil, corrupt("%d bytes are too few for a file", size)
	}
	if err := readFull(r, prefix[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader || int64(n) > size-8 {
		return nil, corrupt("a header of %d bytes in a file of %d", n, size)
	}
	head := make([]byte, n)
	if err := readFull(r, head, 8); err != nil {
		return nil, err
	}
	f := &File{r: r}
	if err := f.parse(head); err != nil {
		return nil, err
	}
	return f, f.check(8+int64(n), size)
}

// parse reads the header's object member by member, because a name that comes twice must be seen.
func (f *File) parse(head []byte) error {
	if len(head) == 0 || head[0] != '{' {
		return corrupt("the header does not start with {")
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	dec.DisallowUnknownFields()
	if _, err := dec.Token(); err != nil {
		return corrupt("header: %v", err)
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return corrupt("header: %v", err)
		}
		name, ok := tok.(string)
		if !ok || seen[name] {
			return corrupt("the header has the name %v twice", tok)
		}
		seen[name] = true
		if name == metadataKey {
			if err := dec.Decode(&f.Metadata); err != nil {
				return corrupt("%s: %v", metadataKey, err)
			}
			continue
		}
		var h struct {
			DType   *string  `json:"dtype"`
			Shape   *[]int   `json:"shape"`
			Offsets *[]int64 `json:"data_offsets"`
		}
		if err := dec.Decode(&h); err != nil {
			return corrupt("tensor %q: %v", name, err)
		}
		if h.DType == nil || h.Shape == nil || h.Offsets == nil || len(*h.Offsets) != 2 {
			return corrupt("tensor %q needs dtype, shape and two data_offsets", name)
		}
		from, to := (*h.Offsets)[0], (*h.Offsets)[1]
		if from < 0 || to < from {
			return corrupt("tensor %q has data from %d to %d", name, from, to)
		}
		f.Entries = append(f.Entries, Entry{Name: name, DType: *h.DType, Shape: *h.Shape, Off: from, Len: to - from})
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return corrupt("header: %v", err)
	}
	if rest := bytes.TrimRight(head[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return corrupt("the header has %d bytes after its end", len(rest))
	}
	return nil
}

// check orders the entries by their data and demands that they fill it without gap or overlap.
func (f *File) check(start, size int64) error {
	slices.SortStableFunc(f.Entries, func(a, b Entry) int {
		if a.Off != b.Off {
			return compare(a.Off, b.Off)
		}
		return compare(a.Len, b.Len) // empty ones first
	})
	at := int64(0)
	for i := range f.Entries {
		e := &f.Entries[i]
		w := width(e.DType)
		if w == 0 {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("safetensors: tensor %q has elements of type %q", e.Name, e.DType)}
		}
		if n := byteLen(e.Shape, w); n != e.Len {
			return corrupt("tensor %q: shape %v of %s does not have %d bytes", e.Name, e.Shape, e.DType, e.Len)
		}
		if e.Off != at {
			return corrupt("tensor %q starts at %d, the one before it ends at %d", e.Name, e.Off, at)
		}
		at += e.Len
		e.Off += start
	}
	if start+at != size {
		return corrupt("the tensors end at byte %d, the file has %d", start+at, size)
	}
	return nil
}

func compare(a, b int64) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// Lookup gives the entry of that name.
func (f *File) Lookup(name string) (Entry, bool) {
	for _, e := range f.Entries {
		if e.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}

// ReadFloat32 fills dst with a tensor of float32. An entry of another type or size is an error of kind Unsupported.
func (f *File) ReadFloat32(e Entry, dst []float32) error {
	if e.DType != "F32" || e.Len != 4*int64(len(dst)) {
		return &pipeline.Error{Kind: pipeline.Unsupported,
			Message: fmt.Sprintf("safetensors: tensor %q is %s of shape %v, wanted are %d elements of F32", e.Name, e.DType, e.Shape, len(dst))}
	}
	buf := make([]byte, min(4*len(dst), 1<<20))
	for off := e.Off; len(dst) > 0; {
		n := min(len(dst), len(buf)/4)
		if err := readFull(f.r, buf[:4*n], off); err != nil {
			return err
		}
		for i := range dst[:n] {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(buf[4*i:]))
		}
		dst, off = dst[n:], off+4*int64(n)
	}
	return nil
}

// readFull reads all of p; a file that ends too early is corrupt.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return corrupt("the file ends at byte %d, more was expected", off+int64(n))
	}
	return err
}
