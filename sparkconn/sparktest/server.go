package sparktest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Ending says how a stream ends after its responses.
type Ending int

// The endings.
const (
	All    Ending = iota // send everything that is left, and end
	End                  // end the stream gracefully, as Spark does after two minutes or 1 GiB
	Cut                  // close the client's connections
	Refuse               // fail with Stream.Code and Stream.Message
	Hang                 // wait until the client goes away
)

// Stream is what happens on one stream of an operation.
type Stream struct {
	Send    int // responses to send first
	Then    Ending
	Code    codes.Code
	Message string
	Unknown bool // the server does not know the operation: it fails before any response
}

// Operation is what the next operations give: the same batches, and one stream after the other. After the last
// stream of the list follow streams that send all.
type Operation struct {
	Batches [][]byte // Arrow IPC streams, one a response
	Streams []Stream
	ID      string // answer for this operation instead of the client's
	Session string // id of the session on the server; empty: "server"
	Late    int    // so many calls of ReleaseExecute for it come before the server knows of it
}

// Request is a call that the server has seen.
type Request struct {
	Method       string
	Operation    string
	LastResponse string
	Tags         []string
	All          bool // ReleaseExecute: the whole operation
	Token        string
}

// Options says how the server differs from a plain one.
type Options struct {
	Version       string        // empty: "4.0.1"
	Token         string        // demand it
	ConnectionAge time.Duration // say goodbye (GOAWAY) to connections of this age and cut them soon after
}

// Server is a running server. Its methods may be called from any goroutine.
type Server struct {
	Remote string // sc://127.0.0.1:PORT

	opt  Options
	grpc *grpc.Server

	mu       sync.Mutex
	conns    map[net.Conn]bool
	op       Operation
	stream   int // streams of the operation so far
	requests []Request
	changed  chan struct{} // closed at every request
}

// Start starts a server that ends with the test.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Remote: "sc://" + l.Addr().String(), opt: opt, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
	if s.opt.Version == "" {
		s.opt.Version = "4.0.1"
	}
	options := []grpc.ServerOption{grpc.UnknownServiceHandler(s.handle)}
	if opt.ConnectionAge > 0 {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: opt.ConnectionAge, MaxConnectionAgeGrace: opt.ConnectionAge}))
	}
	s.grpc = grpc.NewServer(options...)
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(tracked{l, s}) }()
	t.Cleanup(func() {
		s.grpc.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

// tracked is a listener that remembers its connections, so that they can be cut.
type tracked struct {
	net.Listener
	s *Server
}

// Accept accepts a connection.
func (l tracked) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.s.mu.Lock()
		l.s.conns[c] = true
		l.s.mu.Unlock()
	}
	return c, err
}

// Play sets what the operations from now on give.
func (s *Server) Play(op Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.op, s.stream = op, 0
}

// Requests gives the calls so far of a method, or of all.
func (s *Server) Requests(method string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requestsOf(method)
}

func (s *Server) requestsOf(method string) []Request {
	var out []Request
	for _, r := range s.requests {
		if method == "" || r.Method == method {
			out = append(out, r)
		}
	}
	return out
}

// Wait waits until there were n calls of a method.
func (s *Server) Wait(ctx context.Context, method string, n int) error {
	for {
		s.mu.Lock()
		got, changed := len(s.requestsOf(method)), s.changed
		s.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d calls of %s, want %d: %w", got, method, n, ctx.Err())
		}
	}
}

// cut closes all connections.
func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close() // it may be closed already
		delete(s.conns, c)
	}
}

func (s *Server) handle(_ any, ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	method := name[strings.LastIndexByte(name, '/')+1:]
	in := &emptypb.Empty{}
	if err := ss.RecvMsg(in); err != nil {
		return err
	}
	r := parse(method, in.ProtoReflect().GetUnknown())
	if md, ok := metadata.FromIncomingContext(ss.Context()); ok {
		r.Token = strings.TrimPrefix(strings.Join(md.Get("authorization"), ""), "Bearer ")
	}
	s.mu.Lock()
	s.requests = append(s.requests, r)
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if s.opt.Token != "" && r.Token != s.opt.Token {
		return status.Error(codes.Unauthenticated, "No authentication token provided")
	}
	switch method {
	case "AnalyzePlan":
		return send(ss, bytesField(8, bytesField(1, []byte(s.opt.Version))))
	case "ExecutePlan", "ReattachExecute":
		return s.execute(ss, r)
	case "ReleaseExecute":
		return send(ss, s.released(r))
	case "Config", "ReleaseSession", "Interrupt":
		return send(ss, nil)
	}
	return status.Error(codes.Unimplemented, "unknown method "+method)
}

// released answers ReleaseExecute: with the operation's id where the server knows it.
func (s *Server) released(r Request) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.op.Late > 0 {
		s.op.Late--
		return nil
	}
	return bytesField(2, []byte(r.Operation))
}

// execute plays the next stream of the operation.
func (s *Server) execute(ss grpc.ServerStream, r Request) error {
	s.mu.Lock()
	op := s.op
	var st Stream
	if s.stream < len(op.Streams) {
		st = op.Streams[s.stream]
	}
	s.stream++
	s.mu.Unlock()
	if st.Unknown {
		return status.Error(codes.Internal, "[INVALID_HANDLE.OPERATION_NOT_FOUND] The handle is invalid. Operation not found. SQLSTATE: HY000")
	}
	next := 0
	if r.LastResponse != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(r.LastResponse, "r"))
		if err != nil {
			return status.Error(codes.InvalidArgument, "bad response id")
		}
		next = n + 1
	}
	last := len(op.Batches) // the response that completes
	end := min(next+st.Send, last+1)
	if st.Then == All {
		end = last + 1
	}
	for ; next < end; next++ {
		if err := send(ss, s.response(op, r, next)); err != nil {
			return err
		}
	}
	switch st.Then {
	case Cut:
		s.cut()
	case Refuse:
		return status.Error(st.Code, st.Message)
	case Hang:
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	return nil
}

func (s *Server) response(op Operation, r Request, i int) []byte {
	id, session := r.Operation, "server"
	if op.ID != "" {
		id = op.ID
	}
	if op.Session != "" {
		session = op.Session
	}
	out := slices.Concat(bytesField(12, []byte(id)), bytesField(13, []byte("r"+strconv.Itoa(i))), bytesField(15, []byte(session)))
	if i < len(op.Batches) {
		return append(out, bytesField(2, bytesField(2, op.Batches[i]))...)
	}
	return append(out, bytesField(14, nil)...)
}

// parse reads what the tests look at from a request.
func parse(method string, b []byte) Request {
	r := Request{Method: method}
	operation, last := protowire.Number(3), protowire.Number(5)
	if method == "ExecutePlan" {
		operation, last = 6, 0
	}
	for len(b) > 0 {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return r
		}
		b = b[k:]
		if k = protowire.ConsumeFieldValue(n, t, b); k < 0 {
			return r
		}
		if t == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			switch {
			case n == operation:
				r.Operation = string(v)
			case n == last && method == "ReattachExecute":
				r.LastResponse = string(v)
			case n == 5 && method == "ReleaseExecute":
				r.All = true
			case n == 7 && method == "ExecutePlan":
				r.Tags = append(r.Tags, string(v))
			}
		}
		b = b[k:]
	}
	return r
}

func bytesField(n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), v)
}

func send(ss grpc.ServerStream, body []byte) error {
	out := &emptypb.Empty{}
	out.ProtoReflect().SetUnknown(body)
	return ss.SendMsg(out)
}
