package psrpc

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"dkpipe/ps"
)

// On the Exchange stream a message is one of
//
//	1, protobuf        a Push (up) or a Pull (down)
//	2, offset, floats  a piece of the vector that the last Push or Pull announced; offset in elements, 8 bytes little-endian
//	3, offset, codec, count, bytes  a piece of count elements (4 bytes) as the codec (1 byte) packs them
//
// The pieces of a vector come in order. All integers and floats are little-endian.
const (
	kindControl = 1
	kindData    = 2
	kindCoded   = 3
	dataHead    = 9
	codedHead   = dataHead + 5
)

// frameFloats is how many floats a frame carries at most: 512 KiB. Between 256 KiB and 1 MiB the size does not matter;
// smaller frames cost more calls, larger ones more memory in flight.
const frameFloats = 128 << 10

// outgoing is a frame to be sent: a control message, or a piece of a vector.
type outgoing struct {
	control proto.Message
	offset  int
	floats  []float32
	// codec, when not FP32, packed the count elements from offset on into packed, or packs floats now when that is nil.
	codec  Codec
	count  int
	packed []byte
	// pool, when not nil, lends the buffer that floats are copied to. Without it they are passed to the transport as they
	// are, and may not change before the other side has answered.
	pool *framePool
}

// incoming is a frame to be received: into control, or else into vector.
type incoming struct {
	control proto.Message
	vector  []float32
	filled  int    // elements of vector that have arrived
	scratch []byte // for pieces that are to be unpacked
	bytes   int64  // of the pieces that have arrived
}

// codec passes frames through without copying, and protobuf for all other calls. It is given to gRPC by ForceCodecV2 and
// ForceServerCodecV2; nothing is registered.
type codec struct{}

// Name is part of the content type.
func (codec) Name() string { return "dkpipe-ps" }

// Marshal gives the bytes of a frame or of a protobuf message.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *outgoing:
		if v.control != nil {
			b, err := proto.MarshalOptions{}.MarshalAppend([]byte{kindControl}, v.control)
			return mem.BufferSlice{mem.SliceBuffer(b)}, err
		}
		if v.codec != FP32 {
			return v.coded(), nil
		}
		if v.pool != nil {
			b := v.pool.Get(dataHead + 4*len(v.floats))
			putHead(*b, v.offset)
			copy((*b)[dataHead:], bytesOf(v.floats))
			return mem.BufferSlice{mem.NewBuffer(b, v.pool)}, nil
		}
		head := make([]byte, dataHead)
		putHead(head, v.offset)
		return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(bytesOf(v.floats))}, nil
	case proto.Message:
		b, err := proto.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return nil, fmt.Errorf("codec of the parameter server: %T is not a message", v)
}

// coded is a frame of packed elements, in a buffer of the pool.
func (v *outgoing) coded() mem.BufferSlice {
	b := v.pool.Get(codedHead)
	if v.packed != nil {
		*b = append(*b, v.packed...)
	} else {
		*b = packBF16(*b, v.floats)
	}
	putHead(*b, v.offset)
	(*b)[0] = kindCoded
	(*b)[dataHead] = byte(v.codec)
	binary.LittleEndian.PutUint32((*b)[dataHead+1:], uint32(v.count))
	return mem.BufferSlice{mem.NewBuffer(b, v.pool)}
}

// replySize is the number of bytes that n elements of a reply take on the wire.
func replySize(n int, codec Codec) int64 {
	frames := int64(blocksOf(n, frameFloats))
	if codec == BF16 {
		return 2*int64(n) + frames*codedHead
	}
	return 4*int64(n) + frames*dataHead
}

func putHead(b []byte, offset int) {
	b[0] = kindData
	binary.LittleEndian.PutUint64(b[1:], uint64(offset))
}

// framePool lends buffers of one frame (mem.BufferPool). The transport gives them back when they are written.
type framePool struct{ free sync.Pool }

// Get gives a buffer of length n, which is at most a frame's. Its content is arbitrary.
func (p *framePool) Get(n int) *[]byte {
	b, _ := p.free.Get().(*[]byte)
	if b == nil {
		fresh := make([]byte, codedHead+4*frameFloats)
		b = &fresh
	}
	*b = (*b)[:n]
	return b
}

// Put takes a buffer back.
func (p *framePool) Put(b *[]byte) { p.free.Put(b) }

// Unmarshal takes the bytes of a frame or of a protobuf message.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *incoming:
		return v.take(data)
	case proto.Message:
		return proto.Unmarshal(data.Materialize(), v)
	}
	return fmt.Errorf("codec of the parameter server: %T is not a message", v)
}

// take puts a frame to its place. It trusts nothing about the bytes.
func (in *incoming) take(data mem.BufferSlice) error {
	n := data.Len()
	if in.control != nil {
		b := data.Materialize()
		if n == 0 || b[0] != kindControl {
			return malformed("a control message was due")
		}
		return proto.Unmarshal(b[1:], in.control)
	}
	in.bytes += int64(n)
	var head [dataHead]byte
	if n < dataHead {
		return malformed("a frame of %d bytes", n)
	}
	r := cursor{data: data}
	r.read(head[:])
	if head[0] == kindCoded {
		return in.unpack(r, binary.LittleEndian.Uint64(head[1:]), n-codedHead)
	}
	offset := binary.LittleEndian.Uint64(head[1:])
	floats := n - dataHead
	switch {
	case head[0] != kindData:
		return malformed("a piece of a vector was due, not kind %d", head[0])
	case floats == 0 || floats%4 != 0:
		return malformed("a piece of %d bytes", floats)
	case offset != uint64(in.filled):
		return malformed("a piece at element %d, due was %d", offset, in.filled)
	case floats/4 > len(in.vector)-in.filled:
		return malformed("a piece of %d elements, %d were missing", floats/4, len(in.vector)-in.filled)
	}
	r.read(bytesOf(in.vector[in.filled : in.filled+floats/4]))
	in.filled += floats / 4
	return nil
}

// unpack takes a piece of size packed bytes; r is behind the offset.
func (in *incoming) unpack(r cursor, offset uint64, size int) error {
	var head [codedHead - dataHead]byte
	if size < 0 {
		return malformed("a packed piece of %d bytes", size+codedHead)
	}
	r.read(head[:])
	codec, count := Codec(head[0]), binary.LittleEndian.Uint32(head[1:])
	switch {
	case offset != uint64(in.filled):
		return malformed("a piece at element %d, due was %d", offset, in.filled)
	case count == 0 || count > frameFloats || int(count) > len(in.vector)-in.filled:
		return malformed("a packed piece of %d elements, %d were missing", count, len(in.vector)-in.filled)
	case size > 4*frameFloats:
		return malformed("a packed piece of %d bytes", size)
	}
	if cap(in.scratch) < size {
		in.scratch = make([]byte, size)
	}
	b := in.scratch[:size]
	r.read(b)
	if err := codec.unpack(in.vector[in.filled:in.filled+int(count)], b); err != nil {
		return err
	}
	in.filled += int(count)
	return nil
}

// cursor copies out of a list of buffers from front to back.
type cursor struct {
	data mem.BufferSlice
	off  int // in data[0]
}

// read fills dst; the caller has seen to it that there is enough.
func (c *cursor) read(dst []byte) {
	for len(dst) > 0 && len(c.data) > 0 {
		from := c.data[0].ReadOnlyData()[c.off:]
		n := copy(dst, from)
		dst = dst[n:]
		c.off += n
		if n == len(from) {
			c.data, c.off = c.data[1:], 0
		}
	}
}

// bytesOf is the memory of x.
func bytesOf(x []float32) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}

// littleEndian says whether the memory of a float is its form on the wire.
func littleEndian() bool {
	one := [1]float32{1} // 0x3f800000
	return bytesOf(one[:])[3] == 0x3f
}

func malformed(format string, args ...any) error {
	return &ps.Error{Kind: "corrupt", Message: "exchange with the parameter server: " + fmt.Sprintf(format, args...),
		Hint: "worker and server must be the same version of dkpipe"}
}
