package hdfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of what a datanode may send; real packets hold 64 KiB, or 1 MiB with large buffers.
const (
	maxPacket     = 16 << 20
	maxChunk      = 1 << 20
	maxHeader     = 4 << 10
	maxOpAnswer   = 64 << 10
	dataBuffer    = 128 << 10
	smallLeftover = 128 << 10 // what is rather read to its end than paid for with a new connection
)

var (
	errChecksum    = errors.New("checksum mismatch")
	errNoChecksums = errors.New("the file was written without checksums (dfs.checksum.type=NULL), so its bytes cannot be verified")
	errOrder       = errors.New("the datanode sent other bytes than those that were asked for")
)

// dataConn is a connection to a datanode, and the one read of a block that is under way on it. It serves one
// goroutine at a time.
//
// The protocol (datatransfer.proto): two bytes of version, one of operation, OpReadBlockProto; the answer is
// BlockOpResponseProto, then packets with a header, a checksum for every chunk, and the chunks; the last packet is
// empty. A client that answers CHECKSUM_OK may use the connection again.
type dataConn struct {
	conn    net.Conn
	r       *bufio.Reader
	address string
	timeout time.Duration // how long the datanode may be silent

	chunk  int          // bytes that one checksum is for
	table  *crc32.Table // nil: CRC32, the other polynomial
	pos    int64        // offset in the block of the next byte to give
	end    int64        // where the read ends
	next   int64        // offset in the block where the next packet begins
	data   []byte       // verified bytes from pos on, within packet
	bad    error        // what comes after them
	packet []byte
	sums   []byte
	msg    []byte // the request
	parked time.Time
}

func newDataConn(conn net.Conn, address string, timeout time.Duration) *dataConn {
	return &dataConn{conn: conn, r: bufio.NewReaderSize(conn, dataBuffer), address: address, timeout: timeout}
}

func (d *dataConn) Close() error { return d.conn.Close() }

// start asks for n bytes of a block from off on.
func (d *dataConn) start(b *block, off, n int64) error {
	d.pos, d.end, d.data, d.bad = off, off+n, nil, nil
	header := appendBytes(nil, 1, appendBytes(appendBytes(nil, 1, b.raw), 2, b.token))
	header = appendText(header, 2, "dkpipe")
	op := appendBytes(nil, 1, header)
	op = appendNumber(op, 2, uint64(off))
	op = appendNumber(op, 3, uint64(n))
	op = appendNumber(op, 4, 1) // with checksums
	d.msg = protowire.AppendBytes(append(d.msg[:0], 0, 28, 81), op)
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return err
	}
	if _, err := d.conn.Write(d.msg); err != nil {
		return err
	}
	n64, err := binary.ReadUvarint(d.r)
	if err != nil {
		return err
	}
	if n64 > maxOpAnswer {
		return errTorn
	}
	answer, err := d.r.Peek(int(n64))
	if err != nil {
		return err
	}
	if err := d.accept(answer); err != nil {
		return err
	}
	_, err = d.r.Discard(int(n64))
	return err
}

// refusedRead is the answer of a datanode that does not give the block.
type refusedRead struct {
	status uint64
	text   string
}

func (e *refusedRead) Error() string {
	if e.text == "" {
		return statusName(e.status)
	}
	return statusName(e.status) + ": " + clip(e.text, 300)
}

// accept reads BlockOpResponseProto.
func (d *dataConn) accept(answer []byte) error {
	var r opAnswer
	if err := r.parse(answer); err != nil {
		return err
	}
	switch {
	case r.status != statusSuccess:
		return &refusedRead{r.status, string(r.message)}
	case r.kind == 0 && r.seen:
		return errNoChecksums
	case r.kind != 1 && r.kind != 2:
		return fmt.Errorf("checksums of type %d are not known", r.kind)
	case r.chunk == 0 || r.chunk > maxChunk:
		return fmt.Errorf("a checksum for every %d bytes", r.chunk)
	case r.offset > uint64(d.pos) || uint64(d.pos)-r.offset >= r.chunk:
		return errOrder
	}
	d.chunk, d.next, d.table = int(r.chunk), int64(r.offset), nil
	if r.kind == 2 {
		d.table = castagnoli
	}
	return nil
}

// castagnoli is the polynomial of CRC32C, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// opAnswer is BlockOpResponseProto, as far as a read needs it.
type opAnswer struct {
	status  uint64
	message []byte
	seen    bool // the checksum's type was named
	kind    uint64
	chunk   uint64
	offset  uint64 // where the first chunk begins
}

func (r *opAnswer) parse(msg []byte) error {
	return scan(msg, func(num protowire.Number, v uint64, s []byte) error {
		switch num {
		case 1:
			r.status = v
		case 5:
			r.message = s
		case 4: // ReadOpChecksumInfoProto
			return scan(s, func(num protowire.Number, v uint64, s []byte) error {
				switch num {
				case 2:
					r.offset = v
				case 1: // ChecksumProto
					return scan(s, func(num protowire.Number, v uint64, _ []byte) error {
						switch num {
						case 1:
							r.kind, r.seen = v, true
						case 2:
							r.chunk = v
						}
						return nil
					})
				}
				return nil
			})
		}
		return nil
	})
}

// read fills p with verified bytes, up to the end of the read that was started. With an error it still gives those
// that came before and are right.
func (d *dataConn) read(p []byte) (int, error) {
	n := 0
	for n < len(p) && d.pos < d.end {
		if len(d.data) == 0 {
			m, err := d.receive(p[n:])
			n += m
			if err != nil {
				return n, err
			}
			continue
		}
		m := copy(p[n:], d.data)
		d.data = d.data[m:]
		d.pos += int64(m)
		n += m
	}
	return n, nil
}

// receive takes one packet and verifies it. What fits into p whole goes there at once, and its length is returned;
// everything else waits in d.data.
func (d *dataConn) receive(p []byte) (int, error) {
	if d.bad != nil {
		return 0, d.bad
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(d.timeout)); err != nil {
		return 0, err
	}
	n, err := d.header()
	if err != nil {
		return 0, err
	}
	if n == 0 { // the mark of the end, before the end
		return 0, io.ErrUnexpectedEOF
	}
	begin := d.next
	d.next += int64(n)
	if begin > d.pos || d.next <= d.pos {
		return 0, errOrder
	}
	if begin == d.pos && n <= len(p) && d.next <= d.end {
		if _, err := io.ReadFull(d.r, p[:n]); err != nil {
			return 0, err
		}
		if good, err := d.verify(p[:n]); err != nil {
			d.pos += int64(good)
			return good, err
		}
		d.pos = d.next
		return n, nil
	}
	if cap(d.packet) < n {
		d.packet = make([]byte, n)
	}
	d.packet = d.packet[:n]
	if _, err := io.ReadFull(d.r, d.packet); err != nil {
		return 0, err
	}
	good, bad := d.verify(d.packet)
	skip := min(d.pos-begin, int64(good))
	d.data, d.bad = d.packet[skip:max(skip, min(int64(good), d.end-begin))], bad
	return 0, nil
}

// header reads the head of a packet and its checksums and gives the number of bytes of data.
func (d *dataConn) header() (int, error) {
	head, err := d.r.Peek(6)
	if err != nil {
		return 0, err
	}
	body := int64(binary.BigEndian.Uint32(head)) - 4 // checksums and data
	size := int(binary.BigEndian.Uint16(head[4:]))
	if body < 0 || body > maxPacket || size > maxHeader {
		return 0, errTorn
	}
	head, err = d.r.Peek(6 + size)
	if err != nil {
		return 0, err
	}
	h, err := parsePacketHeader(head[6:])
	if err != nil {
		return 0, err
	}
	n := int64(h.size)
	chunks := (n + int64(d.chunk) - 1) / int64(d.chunk)
	if n < 0 || n+4*chunks != body {
		return 0, errTorn
	}
	if h.offset != d.next || n > 0 && h.last || n > math.MaxInt64-d.next {
		return 0, errOrder
	}
	if _, err := d.r.Discard(6 + size); err != nil {
		return 0, err
	}
	if cap(d.sums) < int(4*chunks) {
		d.sums = make([]byte, 4*chunks)
	}
	d.sums = d.sums[:4*chunks]
	_, err = io.ReadFull(d.r, d.sums)
	return int(n), err
}

// packetHeader is PacketHeaderProto.
type packetHeader struct {
	offset int64
	size   int32
	last   bool
}

func parsePacketHeader(msg []byte) (h packetHeader, err error) {
	err = scan(msg, func(num protowire.Number, v uint64, _ []byte) error {
		switch num {
		case 1:
			h.offset = int64(v)
		case 3:
			h.last = v != 0
		case 4:
			h.size = int32(uint32(v))
		}
		return nil
	})
	return h, err
}

// verify checks every chunk of a packet and gives the number of bytes before the first that is wrong.
func (d *dataConn) verify(data []byte) (int, error) {
	for i, k := 0, 0; i < len(data); i, k = i+d.chunk, k+4 {
		chunk := data[i:min(i+d.chunk, len(data))]
		var sum uint32
		if d.table != nil {
			sum = crc32.Checksum(chunk, d.table)
		} else {
			sum = crc32.ChecksumIEEE(chunk)
		}
		if sum != binary.BigEndian.Uint32(d.sums[k:]) {
			return i, errChecksum
		}
	}
	return len(data), nil
}

// finish ends a read whose bytes have all been given, so that the connection can serve another.
func (d *dataConn) finish() error {
	d.data = nil
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return err
	}
	n, err := d.header()
	if err != nil {
		return err
	}
	if n != 0 {
		return errOrder
	}
	_, err = d.conn.Write([]byte{2, 1 << 3, statusChecksumOK}) // ClientReadStatusProto with its length
	return err
}

// drain reads what is left of a small read, so that the connection can be kept.
func (d *dataConn) drain() error {
	if d.end-d.pos > smallLeftover {
		return errTooMuch
	}
	for d.pos < d.end {
		if len(d.data) == 0 {
			if _, err := d.receive(nil); err != nil {
				return err
			}
		}
		d.pos += int64(len(d.data))
		d.data = nil
	}
	return d.finish()
}

var errTooMuch = errors.New("too much is left to read")
