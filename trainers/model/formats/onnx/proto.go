package onnx

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/pipeline"
)

// The numbers of onnx.proto's fields and enumerations that are used, with their names there.
const (
	modelIRVersion       = 1
	modelProducerName    = 2
	modelProducerVersion = 3
	modelDoc             = 6
	modelGraph           = 7
	modelOpset           = 8
	modelMetadata        = 14

	opsetDomain  = 1
	opsetVersion = 2

	entryKey   = 1
	entryValue = 2

	graphNode        = 1
	graphName        = 2
	graphInitializer = 5
	graphInput       = 11
	graphOutput      = 12

	nodeInput     = 1
	nodeOutput    = 2
	nodeName      = 3
	nodeOpType    = 4
	nodeAttribute = 5
	nodeDomain    = 7

	attributeName    = 1
	attributeFloat   = 2
	attributeInt     = 3
	attributeString  = 4
	attributeFloats  = 7
	attributeInts    = 8
	attributeStrings = 9
	attributeType    = 20

	tensorDims     = 1
	tensorDataType = 2
	tensorStrings  = 6
	tensorName     = 8
	tensorRawData  = 9

	infoName    = 1
	infoType    = 2
	typeTensor  = 1
	typeElement = 1
	typeShape   = 2
	shapeDim    = 1
	dimValue    = 1
	dimParam    = 2
	attrFloat   = 1
	attrInt     = 2
	attrString  = 3
	attrFloats  = 6
	attrInts    = 7
	attrStrings = 8
	irVersion   = 8
	opset       = 17
	mlDomain    = "ai.onnx.ml"
	mlOpset     = 3
	maxFile     = math.MaxInt32 // a protobuf message is not larger than 2 GiB
)

// elem is the type of a tensor's elements, by its number in onnx.proto.
type elem int

const (
	float32s elem = 1
	int64s   elem = 7
	texts    elem = 8
	bools    elem = 9
	float64s elem = 11
)

// message is a protobuf message that is being written.
type message []byte

func (m *message) int(field protowire.Number, v int64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendFixed32(protowire.AppendTag(*m, field, protowire.Fixed32Type), math.Float32bits(v))
}

func (m *message) text(field protowire.Number, v string) {
	*m = protowire.AppendString(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

func (m *message) sub(field protowire.Number, v message) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

// attr is an attribute of a node: its value is an int, a float32, a string, a []float32, an []int, an []int64 or a []string.
type attr struct {
	name  string
	value any
}

func (a attr) encode() message {
	var m message
	m.text(attributeName, a.name)
	kind := int64(0)
	switch v := a.value.(type) {
	case int:
		m.int(attributeInt, int64(v))
		kind = attrInt
	case float32:
		m.float(attributeFloat, v)
		kind = attrFloat
	case string:
		m.text(attributeString, v)
		kind = attrString
	case []float32:
		for _, f := range v {
			m.float(attributeFloats, f)
		}
		kind = attrFloats
	case []int:
		for _, i := range v {
			m.int(attributeInts, int64(i))
		}
		kind = attrInts
	case []int64:
		for _, i := range v {
			m.int(attributeInts, i)
		}
		kind = attrInts
	case []string:
		for _, s := range v {
			m.text(attributeStrings, s)
		}
		kind = attrStrings
	}
	m.int(attributeType, kind)
	return m
}

// tensor is a constant of the graph. Exactly one of floats, wide, ints, raw and text holds its elements.
type tensor struct {
	name   string
	shape  []int
	floats []float32 // live data of the model, written when the file is
	wide   []float64
	ints   []int64
	raw    []byte // bools
	text   []string
}

// head is everything but the data's bytes, and size their number.
func (t *tensor) head() (head message, size int) {
	for _, d := range t.shape {
		head.int(tensorDims, int64(d))
	}
	kind := float32s
	switch size = 4 * len(t.floats); {
	case t.wide != nil:
		kind, size = float64s, 8*len(t.wide)
	case t.ints != nil:
		kind, size = int64s, 8*len(t.ints)
	case t.raw != nil:
		kind, size = bools, len(t.raw)
	case t.text != nil:
		kind = texts
	}
	head.int(tensorDataType, int64(kind))
	head.text(tensorName, t.name)
	for _, s := range t.text {
		head.text(tensorStrings, s)
	}
	if t.text != nil {
		return head, 0
	}
	head = protowire.AppendTag(head, tensorRawData, protowire.BytesType)
	return protowire.AppendVarint(head, uint64(size)), size
}

// data writes the elements, in pieces through buf.
func (t *tensor) data(w io.Writer, buf []byte) error {
	for f := t.floats; len(f) > 0; {
		n := min(len(f), len(buf)/4)
		for i, v := range f[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		if _, err := w.Write(buf[:4*n]); err != nil {
			return err
		}
		f = f[n:]
	}
	out := slices.Clone(t.raw)
	for _, v := range t.wide {
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
	}
	for _, v := range t.ints {
		out = binary.LittleEndian.AppendUint64(out, uint64(v))
	}
	if len(out) == 0 {
		return nil
	}
	_, err := w.Write(out)
	return err
}

// Value is an input or output of the file.
type Value struct {
	Name  string `json:"name"`
	Type  string `json:"type"`  // float32, float64, int64, string or bool
	Shape []int  `json:"shape"` // of one row; the file has a first dimension N before it
	kind  elem
}

func (v Value) encode() message {
	var shape, tensor, kind, info message
	var n message
	n.text(dimParam, "N")
	shape.sub(shapeDim, n)
	for _, d := range v.Shape {
		var dim message
		dim.int(dimValue, int64(d))
		shape.sub(shapeDim, dim)
	}
	tensor.int(typeElement, int64(v.kind))
	tensor.sub(typeShape, shape)
	kind.sub(typeTensor, tensor)
	info.text(infoName, v.Name)
	info.sub(infoType, kind)
	return info
}

// File is a graph that is ready to be written. It holds the model's parameters by reference.
type File struct {
	Inputs  []Value
	Outputs []Value
	Nodes   int // number of operators

	head    message // what comes before the graph's constants
	graph   message
	tensors []*tensor
	tail    message
	size    int64
	inner   int64 // length of the graph
}

// Size is the length of the file in bytes.
func (f *File) Size() int64 { return f.size }

// WriteTo writes the file front to back. The same model gives the same bytes; errors of w are passed on as they are.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	count := &counting{w: w}
	head := slices.Clone(f.head)
	head = protowire.AppendTag(head, modelGraph, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(f.inner))
	head = append(head, f.graph...)
	if _, err := count.Write(head); err != nil {
		return count.n, err
	}
	buf := make([]byte, 64<<10)
	for _, t := range f.tensors {
		head, size := t.head()
		var m message
		m = protowire.AppendTag(m, graphInitializer, protowire.BytesType)
		m = protowire.AppendVarint(m, uint64(len(head)+size))
		if _, err := count.Write(append(m, head...)); err != nil {
			return count.n, err
		}
		if err := t.data(count, buf); err != nil {
			return count.n, err
		}
	}
	_, err := count.Write(f.tail)
	return count.n, err
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// finish computes the lengths.
func (f *File) finish() error {
	f.inner = int64(len(f.graph))
	for _, t := range f.tensors {
		head, size := t.head()
		n := len(head) + size
		f.inner += int64(protowire.SizeTag(graphInitializer) + protowire.SizeBytes(n))
	}
	f.size = int64(len(f.head)+len(f.tail)+protowire.SizeTag(modelGraph)+protowire.SizeVarint(uint64(f.inner))) + f.inner
	if f.size > maxFile {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("the ONNX file would have %d bytes; the format ends at 2 GiB", f.size),
			Hint: "export to keras or safetensors"}
	}
	return nil
}
