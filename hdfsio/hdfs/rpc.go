package hdfs

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"google.golang.org/protobuf/encoding/protowire"
)

// clientProtocol is the name of the NameNode's service for clients.
const clientProtocol = "org.apache.hadoop.hdfs.protocol.ClientProtocol"

// rpcConn is a connection for remote calls of Hadoop's protocol version 9 without security. It serves one goroutine;
// after an error that is not a *remote it is of no use.
type rpcConn struct {
	conn   net.Conn // a guard, which sets deadlines
	client [16]byte // the id of this client in headers
	call   int32
	buf    []byte // the request; kept for the next one
}

// dialRPC connects, and introduces the user.
func dialRPC(dial func(address string) (net.Conn, error), address, user string) (*rpcConn, error) {
	conn, err := dial(address)
	if err != nil {
		return nil, err
	}
	r := &rpcConn{conn: conn}
	rand.Read(r.client[:])
	// "hrpc", version 9, service class 0, no authentication; then IpcConnectionContextProto as call -3.
	context := appendText(appendBytes(nil, 2, appendText(nil, 1, user)), 3, clientProtocol)
	msg := r.frame([]byte("hrpc\x09\x00\x00"), -3, context)
	if _, err := conn.Write(msg); err != nil {
		return nil, err
	}
	return r, nil
}

// frame appends a request: four bytes of length, RpcRequestHeaderProto, and the parts, each with its own length.
func (r *rpcConn) frame(b []byte, call int32, parts ...[]byte) []byte {
	var header []byte
	header = appendNumber(header, 1, 2) // rpcKind: protocol buffers
	header = appendNumber(header, 2, 0) // rpcOp: final packet
	header = appendNumber(header, 3, protowire.EncodeZigZag(int64(call)))
	header = appendBytes(header, 4, r.client[:])
	header = appendNumber(header, 5, protowire.EncodeZigZag(-1)) // no retry count
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = protowire.AppendBytes(b, header)
	for _, p := range parts {
		b = protowire.AppendBytes(b, p)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// do makes one call and gives the message of the answer.
func (r *rpcConn) do(method string, request []byte) ([]byte, error) {
	r.call++
	header := appendNumber(appendText(appendText(nil, 1, method), 2, clientProtocol), 3, 1)
	r.buf = r.frame(r.buf[:0], r.call, header, request)
	if _, err := r.conn.Write(r.buf); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(r.conn, head[:]); err != nil {
		return nil, err
	}
	n, err := answerLength(head)
	if err != nil {
		return nil, err
	}
	answer, err := readN(r.conn, n)
	if err != nil {
		return nil, err
	}
	return parseAnswer(method, r.call, answer)
}

// readN reads n bytes without believing that so many come.
func readN(in io.Reader, n int) ([]byte, error) {
	const step = 1 << 20
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		have := len(b)
		m := min(n-have, max(step, have)) // doubles with what really came
		b = append(b, make([]byte, m)...)
		if _, err := io.ReadFull(in, b[have:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// parseAnswer takes RpcResponseHeaderProto and the message behind it apart.
func parseAnswer(method string, call int32, answer []byte) ([]byte, error) {
	header, n := protowire.ConsumeBytes(answer)
	if n < 0 {
		return nil, errTorn
	}
	got, status := int32(-1), uint64(0)
	var exception, message string
	err := scan(header, func(num protowire.Number, v uint64, s []byte) error {
		switch num {
		case 1:
			got = int32(uint32(v))
		case 2:
			status = v
		case 4:
			exception = string(s)
		case 5:
			message = string(s)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case status != 0: // ERROR or FATAL; a fatal one may come without the number of the call
		return nil, &remote{method: method, exception: exception, message: message}
	case got != call:
		return nil, errors.New("the NameNode answered another call")
	}
	body, n := protowire.ConsumeBytes(answer[n:])
	if n < 0 {
		return nil, errTorn
	}
	return body, nil
}
