package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math"

	"bytes"

	"dkpipe/pipeline"
)

// Tensor is a named float32 tensor; Data has as many elements as Shape says, row-major.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

type header struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// Write writes the tensors in the given order, then returns; it does not close w. The data starts at a multiple of
// eight bytes. The same arguments give the same bytes. Errors of w are passed on as they are.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	head, err := encodeHeader(tensors, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for _, t := range tensors {
		for data := t.Data; len(data) > 0; {
			n := min(len(data), len(buf)/4)
			for i, v := range data[:n] {
				binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
			}
			if _, err := w.Write(buf[:4*n]); err != nil {
				return err
			}
			data = data[n:]
		}
	}
	return nil
}

// encodeHeader gives length and header, padded with spaces.
func encodeHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	b.WriteByte('{')
	seen := map[string]bool{metadataKey: true}
	if len(metadata) > 0 {
		if err := member(&b, metadataKey, metadata); err != nil {
			return nil, err
		}
	}
	off := int64(0)
	for _, t := range tensors {
		n := byteLen(t.Shape, 4)
		if seen[t.Name] || n != 4*int64(len(t.Data)) {
			return nil, &pipeline.Error{Kind: pipeline.Internal, Message: "safetensors: tensor " + t.Name + " has a name that is taken, or data of another size than its shape"}
		}
		seen[t.Name] = true
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		if err := member(&b, t.Name, header{"F32", shape, [2]int64{off, off + n}}); err != nil {
			return nil, err
		}
		off += n
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	head := b.Bytes()
	if len(head)-8 > maxHeader {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "safetensors: the header would be larger than 100 MB"}
	}
	binary.LittleEndian.PutUint64(head, uint64(len(head)-8))
	return head, nil
}

// member appends one "name": value to an object.
func member(b *bytes.Buffer, name string, value any) error {
	key, err := json.Marshal(name)
	if err != nil {
		return err
	}
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if last := b.Bytes()[b.Len()-1]; last != '{' {
		b.WriteByte(',')
	}
	b.Write(key)
	b.WriteByte(':')
	b.Write(body)
	return nil
}
