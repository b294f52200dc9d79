package hdfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// guard is a connection that the library uses. It gives every Read and Write a deadline of its own, looks at what
// comes in, and ends for good with the first error: a late answer can then not be taken for that of another call.
//
// The library's goroutines for a block end properly only when their writes succeed, so with quiet a broken guard
// swallows what is written to it and tells its error to readers and to the client alone.
type guard struct {
	net.Conn
	timeout time.Duration
	quiet   bool
	look    func(p []byte) error // sees what was read; nil: nobody looks
	ask     func(p []byte)       // sees what is written; nil: nobody looks
	failed  func(err error)      // is told the first error
	closed  func()               // is called once

	once sync.Once
	mu   sync.Mutex
	err  error
}

func (g *guard) Read(p []byte) (int, error) {
	if err := g.Conn.SetReadDeadline(time.Now().Add(g.timeout)); err != nil {
		return 0, g.fail(err)
	}
	n, err := g.Conn.Read(p)
	if g.look != nil && n > 0 {
		if bad := g.look(p[:n]); bad != nil {
			return 0, g.fail(bad)
		}
	}
	if err != nil {
		return n, g.fail(err)
	}
	return n, nil
}

func (g *guard) Write(p []byte) (int, error) {
	err := g.broken()
	if err == nil {
		err = g.Conn.SetWriteDeadline(time.Now().Add(g.timeout))
	}
	n := 0
	if err == nil {
		if g.ask != nil {
			g.ask(p)
		}
		n, err = g.Conn.Write(p)
	}
	if err != nil {
		err = g.fail(err)
		if g.quiet {
			return len(p), nil
		}
		return n, err
	}
	return n, nil
}

// fail ends the connection with its first error and gives that.
func (g *guard) fail(err error) error {
	if isTimeout(err) {
		err = &silent{"no answer", g.timeout}
	}
	g.mu.Lock()
	first := g.err == nil
	if first {
		g.err = err
	}
	err = g.err
	g.mu.Unlock()
	if first {
		g.failed(err)
	}
	g.Close()
	return err
}

func (g *guard) broken() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *guard) Close() error {
	var err error
	g.once.Do(func() {
		err = g.Conn.Close()
		g.closed()
	})
	return err
}

// The library's own deadlines are absolute and mostly none; they must not undo those of the guard.
func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// maxAnswer bounds one answer of a NameNode (ipc.maximum.response.length is 128 MiB).
const maxAnswer = 128 << 20

// frames watches a NameNode's answers. The library believes any length that a server sends and makes room for it, and of
// a refusal for lack of rights it does not keep which right it is.
type frames struct {
	refused func(*remote) // is told what the NameNode refused; nil: nobody asks

	head [4]byte
	have int
	left int
	part []byte // the beginning of an answer, as long as it may be a refusal
	dull bool   // the answer is none
}

// Limits of what is kept of an answer: its header, to see whether it is a refusal, and then the whole of it with Java's
// stack.
const (
	peekAnswer = 24
	maxRefusal = 64 << 10
)

func (f *frames) look(p []byte) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			f.peek(p[:n])
			p = p[n:]
			continue
		}
		n := copy(f.head[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have < len(f.head) {
			return nil
		}
		f.have = 0
		length, err := answerLength(f.head)
		if err != nil {
			return err
		}
		f.left, f.part, f.dull = length, f.part[:0], f.refused == nil || length > maxRefusal
	}
	return nil
}

// peek gathers an answer that is a refusal, and tells it when it is complete.
func (f *frames) peek(p []byte) {
	if f.dull {
		return
	}
	f.part = append(f.part, p...)
	if len(f.part) < peekAnswer && f.left > 0 {
		return
	}
	if f.dull = !isRefusal(f.part); f.dull || f.left > 0 {
		return
	}
	if _, err := parseAnswer("", 0, f.part); err != nil {
		if r, ok := errors.AsType[*remote](err); ok {
			f.refused(r)
		}
	}
}

// isRefusal reads the first two fields of RpcResponseHeaderProto: the number of the call and the status.
func isRefusal(answer []byte) bool {
	_, n := protowire.ConsumeVarint(answer)
	for n >= 0 {
		num, typ, k := protowire.ConsumeTag(answer[n:])
		if k < 0 || typ != protowire.VarintType || num > 2 {
			return false
		}
		v, m := protowire.ConsumeVarint(answer[n+k:])
		if m < 0 {
			return false
		}
		if num == 2 {
			return v != 0
		}
		n += k + m
	}
	return false
}

// answerLength reads the length before an answer.
func answerLength(head [4]byte) (int, error) {
	n := binary.BigEndian.Uint32(head[:])
	if string(head[:]) == "HTTP" {
		return 0, errors.New("this is a web server, not a NameNode's RPC port (usually 8020 or 9000)")
	}
	if n == 0 || n > maxAnswer {
		return 0, fmt.Errorf("this is not a NameNode: an answer of %d bytes", n)
	}
	return int(n), nil
}

// acks watches the acknowledgements of the datanodes while a block is written. The library looks at them too, but
// tells what it saw only when the block ends, which may be 128 MiB later, and then without a name.
type acks struct {
	nodes []string // the addresses of the pipeline, from the request to write
	buf   []byte
	asked bool // the request went out
	setup bool // the first message, about the pipeline, was seen
}

const maxAck = 64 << 10

// writeOp is the operation of a datanode that begins a block, with the version of the protocol before it.
var writeOp = []byte{0, 28, 80}

// ask reads the pipeline out of the request to write a block (OpWriteBlockProto), which the library sends in one piece
// and before it reads. The first datanode is the one that is connected.
func (a *acks) ask(p []byte) {
	if a.asked {
		return
	}
	a.asked = true
	msg, ok := bytes.CutPrefix(p, writeOp)
	if !ok {
		return
	}
	if msg, _ = protowire.ConsumeBytes(msg); msg == nil {
		return
	}
	_ = scan(msg, func(num protowire.Number, _ uint64, target []byte) error { // what is not understood has no name later
		if num != 2 {
			return nil
		}
		r, err := parseReplica(target, false)
		a.nodes = append(a.nodes, r.address)
		return err
	})
}

// node names a datanode of the pipeline.
func (a *acks) node(i int) string {
	if i < len(a.nodes) {
		return "datanode " + a.nodes[i]
	}
	return fmt.Sprintf("datanode %d of the pipeline", i+1)
}

func (a *acks) look(p []byte) error {
	a.buf = append(a.buf, p...)
	used := 0
	for {
		msg, n := protowire.ConsumeBytes(a.buf[used:])
		if n < 0 {
			break // not all of it is here yet
		}
		used += n
		check := a.ackError
		if !a.setup {
			a.setup, check = true, a.setupError
		}
		if err := check(msg); err != nil {
			return err
		}
	}
	a.buf = a.buf[:copy(a.buf, a.buf[used:])]
	if len(a.buf) > maxAck {
		return errors.New("this is not a datanode: an acknowledgement without end")
	}
	return nil
}

// setupError reads BlockOpResponseProto: whether all datanodes of the pipeline take the block.
func (a *acks) setupError(msg []byte) error {
	var status uint64
	var bad, text string
	err := scan(msg, func(num protowire.Number, v uint64, s []byte) error {
		switch num {
		case 1:
			status = v
		case 2:
			bad = string(s)
		case 5:
			text = string(s)
		}
		return nil
	})
	if err != nil || status == statusSuccess {
		return err
	}
	who := a.node(0)
	if bad != "" {
		who, text = "datanode "+bad, ""
	}
	if text != "" {
		text = ": " + firstLine("", clip(text, 300))
	}
	return &said{text: who + " does not take the block: " + statusName(status) + text, is: syscall.ECONNRESET}
}

// ackError reads a PipelineAckProto: the status of every datanode in the pipeline.
func (a *acks) ackError(msg []byte) error {
	node := 0
	return scan(msg, func(num protowire.Number, v uint64, packed []byte) error {
		if num != 2 {
			return nil
		}
		for {
			if v != statusSuccess && packed == nil {
				return a.notStored(node, v)
			}
			node++
			if len(packed) == 0 {
				return nil
			}
			var n int
			if v, n = protowire.ConsumeVarint(packed); n < 0 {
				return errTorn
			}
			packed = packed[n:]
			if v != statusSuccess {
				return a.notStored(node-1, v)
			}
		}
	})
}

// notStored is the error of a pipeline that lost a datanode.
func (a *acks) notStored(node int, status uint64) error {
	return &said{text: a.node(node) + " did not store the data: " + statusName(status), is: syscall.ECONNRESET}
}
