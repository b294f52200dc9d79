package psrpc

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

const (
	window         = 8 << 20   // flow control; static, so that it need not grow first
	socketBuffer   = 128 << 10 // of reads and writes
	maxControl     = 16 << 20  // bytes of one message: a job blob, a Push with its positions
	maxWorker      = 1<<16 - 1 // the greatest worker number
	defaultBeat    = 2 * time.Second
	defaultGrace   = time.Second
	missedBeats    = 3
	keepaliveEvery = 10 * time.Second
	keepaliveWait  = 5 * time.Second
)

// ServerOptions say how a Server treats its workers.
type ServerOptions struct {
	Ticket Ticket // must not be zero
	Job    []byte // given to every worker in Join; opaque here; at most 15 MiB
	// Identity makes the server speak TLS and let only workers in that have the ticket, which must be of the same Authority.
	// A socket that other machines can reach needs it.
	Identity Identity
	// InsecureNoTLS allows such a socket without an Identity: whoever is on the way reads the ticket and changes parameters.
	InsecureNoTLS bool
	// Codec is what workers that do not choose themselves send their commits as.
	Codec Codec
	// Data are the addresses that workers reach the data servers at, in the order of ps.Server.Spread; empty without Spread.
	Data []string
	// Heartbeat is how often a worker is to be heard of. A life ends when three are missed. 0 means 2 s.
	Heartbeat time.Duration
	// Grace is how long a worker has to come back after its session broke. It decides how soon a killed process is
	// noticed. 0 means 1 s.
	Grace time.Duration
}

// Server serves a ps.Server to Clients.
type Server struct {
	ps   *ps.Server
	opts ServerOptions
	grpc *grpc.Server

	mu       sync.Mutex
	joins    map[ps.Worker]joined
	sessions map[ps.Worker]uint64 // the newest session of each worker
	opened   uint64               // sessions so far
	open     int                  // sessions at present
	quiet    []chan struct{}      // to be closed when there is none

	stop chan struct{} // ends the janitor
	once sync.Once
	done sync.WaitGroup // the janitor
}

type joined struct {
	nonce       string
	incarnation uint64
}

// NewServer puts srv behind gRPC. Serve has yet to be called, and Close in the end.
func NewServer(srv *ps.Server, o ServerOptions) (*Server, error) {
	if err := admission(o.Ticket, o.Identity); err != nil {
		return nil, err
	}
	if len(o.Job) > maxControl-1<<20 {
		return nil, &ps.Error{Kind: "spec", Message: fmt.Sprintf("the job for the workers has %d bytes, at most %d are allowed", len(o.Job), maxControl-1<<20)}
	}
	if !littleEndian() {
		return nil, bigEndian()
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = defaultBeat
	}
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	s := &Server{ps: srv, opts: o, joins: map[ps.Worker]joined{}, sessions: map[ps.Worker]uint64{}, stop: make(chan struct{})}
	s.grpc = newGRPC(o.Ticket, o.Identity)
	s.grpc.RegisterService(service(), s)
	s.done.Go(s.janitor)
	return s, nil
}

// admission refuses a ticket that nobody could use.
func admission(t Ticket, id Identity) error {
	switch {
	case t.zero():
		return &ps.Error{Kind: "internal", Message: "parameter server: no join ticket", Hint: "make one with NewTicket or Authority.Ticket"}
	case t.secured() != !id.Zero() || t.secured() && !id.vouches(t):
		return &ps.Error{Kind: "internal", Message: "parameter server: join ticket and identity are not of the same authority",
			Hint: "make both with one Authority, or neither"}
	}
	return nil
}

// newGRPC is a server that answers nobody without the ticket.
func newGRPC(ticket Ticket, id Identity) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(serverCredentials(id, ticket)),
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if !ticket.admits(ctx) {
				return nil, denied()
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if !ticket.admits(ss.Context()) {
				return denied()
			}
			return next(srv, ss)
		}),
		grpc.ReadBufferSize(socketBuffer), grpc.WriteBufferSize(socketBuffer),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window),
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(maxControl), grpc.MaxSendMsgSize(maxControl),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveEvery, Timeout: keepaliveWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveEvery / 2, PermitWithoutStream: true}),
	)
}

// Serve takes connections from l until Close. It closes l. It refuses one that other machines can reach unless there is an
// Identity, or InsecureNoTLS.
func (s *Server) Serve(l net.Listener) error {
	return serveGRPC(s.grpc, l, !s.opts.Identity.Zero() || s.opts.InsecureNoTLS)
}

func serveGRPC(s *grpc.Server, l net.Listener, anywhere bool) error {
	if !anywhere {
		if err := onlyLocal(l.Addr()); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	err := s.Serve(l)
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Close waits until every worker's session has ended, which after ps.Server.Stop or at the end of the work they do by
// themselves, or until ctx ends; then it closes all connections and waits for their goroutines. It may be called twice.
func (s *Server) Close(ctx context.Context) {
	quiet := make(chan struct{})
	s.mu.Lock()
	s.quiet = append(s.quiet, quiet)
	s.hush()
	s.mu.Unlock()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
	s.once.Do(func() { close(s.stop) })
	s.grpc.Stop() // waits for the handlers
	s.done.Wait()
}

// hush tells those who wait for it that no session is open.
func (s *Server) hush() {
	if s.open == 0 {
		for _, q := range s.quiet {
			close(q)
		}
		s.quiet = nil
	}
}

// holdTime is how long a call that a suspended run cannot answer waits for it to go on. It is longer than a client's longest
// pause, so that a client does not lose its patience with a server that is there.
const holdTime = longestWait + time.Second

// hold keeps such a call.
func (s *Server) hold(ctx context.Context, err error) {
	resumed := s.ps.Suspended()
	if !errors.Is(err, ps.ErrSuspended) || resumed == nil {
		return
	}
	t := time.NewTimer(holdTime)
	defer t.Stop()
	select {
	case <-resumed:
	case <-t.C:
	case <-s.stop:
	case <-ctx.Done():
	}
}

// lease is how long a life is believed in after a heartbeat.
func (s *Server) lease() time.Duration { return missedBeats * s.opts.Heartbeat }

// janitor ends the lives whose lease ran out. When it did not get to run itself for long (the machine slept, the process
// was stopped), the workers get a whole lease to be heard of.
func (s *Server) janitor() {
	every := max(min(s.opts.Grace, s.lease())/4, time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	notBefore := last
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(last) > every+s.opts.Heartbeat {
			notBefore = now.Add(s.lease())
		}
		last = now
		if now.After(notBefore) {
			s.ps.Expire(now)
		}
	}
}

func (s *Server) join(_ context.Context, req *pspb.JoinRequest) (*pspb.JoinReply, error) {
	w := ps.Worker(req.Worker)
	switch {
	case req.Protocol != protocolVersion:
		return nil, &ps.Error{Kind: "unsupported", Message: fmt.Sprintf("worker speaks version %d of the parameter server's protocol, the server version %d", req.Protocol, protocolVersion),
			Hint: "start workers with the same dkpipe as the coordinator"}
	case w < -1 || w > maxWorker:
		return nil, &ps.Error{Kind: "usage", Message: fmt.Sprintf("worker number %d", w), Hint: fmt.Sprintf("give a number from 0 to %d, or -1 for a free one", maxWorker)}
	case len(req.Nonce) != 16:
		return nil, malformed("a nonce of %d bytes", len(req.Nonce))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until := time.Now().Add(s.lease())
	for old, j := range s.joins {
		if subtle.ConstantTimeCompare([]byte(j.nonce), req.Nonce) == 1 && s.ps.Touch(old, j.incarnation, until) == nil {
			return s.welcome(old, j.incarnation), nil // a repeat: the reply got lost
		}
	}
	if w == -1 {
		w = s.vacancy()
	} else if req.After != 0 && s.joins[w].incarnation > req.After && slices.Contains(s.ps.Progress().Joined, w) {
		return nil, &ps.Error{Kind: "busy", Message: fmt.Sprintf("worker %d was started once more elsewhere, which gave this one up", w),
			Hint: "start each worker with a number of its own, or without one"}
	}
	incarnation, err := s.ps.Join(w)
	if err != nil {
		return nil, err
	}
	if err := s.ps.Touch(w, incarnation, until); err != nil { // without a session it does not live longer than a lease
		return nil, err
	}
	s.joins[w] = joined{nonce: string(req.Nonce), incarnation: incarnation}
	return s.welcome(w, incarnation), nil
}

func (s *Server) welcome(w ps.Worker, incarnation uint64) *pspb.JoinReply {
	var table *pspb.Table
	if t, ok := s.ps.Table(); ok {
		table = &pspb.Table{Epoch: t.Epoch, Block: uint64(t.Block), Servers: s.opts.Data, Decree: t.Decree}
	}
	return &pspb.JoinReply{
		Table:  table,
		Worker: int32(w), Incarnation: incarnation, Parameters: uint64(s.ps.Len()), Workers: int32(s.ps.Workers()),
		HeartbeatMs: max(s.opts.Heartbeat.Milliseconds(), 1), Job: s.opts.Job, Codec: uint32(s.opts.Codec),
	}
}

// vacancy is the lowest number that nobody has.
func (s *Server) vacancy() ps.Worker {
	free := ps.Worker(0)
	for _, w := range s.ps.Progress().Joined { // in order
		if w == free {
			free++
		}
	}
	return free
}

func (s *Server) leave(_ context.Context, req *pspb.LeaveRequest) (*pspb.LeaveReply, error) {
	if req.Incarnation == 0 {
		return nil, malformed("a worker without an incarnation leaves")
	}
	return &pspb.LeaveReply{}, s.ps.Leave(ps.Worker(req.Worker), req.Incarnation, clip(req.Why))
}

// clip bounds a text that came from outside, and leaves out the rest of a character that it cuts.
func clip(why string) string {
	return strings.ToValidUTF8(why[:min(len(why), 200)], "")
}

func (s *Server) next(ctx context.Context, req *pspb.NextRequest) (*pspb.NextReply, error) {
	if req.Ask == 0 {
		return nil, malformed("a call of Next without a number")
	}
	u, turn, err := s.ps.Ask(ctx, ps.Worker(req.Worker), req.Incarnation, req.Ask)
	if err != nil {
		return nil, err
	}
	return toNext(u, turn), nil
}

// session keeps a life alive. Its end shortens the lease to the grace, unless the worker has opened a newer one.
func (s *Server) session(ss grpc.ServerStream) error {
	var first pspb.Beat
	if err := ss.RecvMsg(&first); err != nil {
		return err
	}
	w, incarnation := ps.Worker(first.Worker), first.Incarnation
	id, err := s.enter(w, incarnation)
	if err != nil {
		s.hold(ss.Context(), err)
		return toStatus(err)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		s.hush()
		if s.sessions[w] == id {
			delete(s.sessions, w)
			_ = s.ps.Touch(w, incarnation, time.Now().Add(s.opts.Grace)) // an error: the life has ended already
		}
	}()
	for {
		if err := s.ps.Touch(w, incarnation, time.Now().Add(s.lease())); err != nil {
			s.hold(ss.Context(), err)
			return toStatus(err)
		}
		if err := ss.SendMsg(&pspb.BeatReply{}); err != nil {
			return err
		}
		if err := ss.RecvMsg(&pspb.Beat{}); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// enter notes the newest session of a life that is not over: one of an earlier life must not take its place.
func (s *Server) enter(w ps.Worker, incarnation uint64) (id uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ps.Touch(w, incarnation, time.Now().Add(s.lease())); err != nil {
		return 0, err
	}
	s.opened++
	s.open++
	s.sessions[w] = s.opened
	return s.opened, nil
}

// exchange serves the commits of one worker, one after the other. The delta is received into one vector, and the reply
// takes its place and is sent from there: the next delta cannot arrive before the worker has all of the reply.
func (s *Server) exchange(ss grpc.ServerStream) error {
	var vector []float32
	_, spread := s.ps.Table()
	var in incoming
	var pool framePool
	for {
		var push pspb.Push
		if err := ss.RecvMsg(&incoming{control: &push}); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		c, why := fromPush(&push), ""
		in.bytes = 0
		if vector == nil && !spread {
			vector = make([]float32, s.ps.Len())
		}
		switch {
		case push.Staged != spread && (push.Staged || push.HasDelta):
			return toStatus(malformed("a delta that is staged elsewhere: %v, with data servers: %v", push.Staged, spread))
		case push.Staged:
			c.Delta, why = []float32{}, clip(push.Rejected)
		case push.HasDelta:
			if err := receive(ss, vector, &in); err != nil {
				return err
			}
			c.Delta = vector
			if len(vector) == 0 {
				c.Delta = []float32{}
			}
		}
		var ack ps.Ack
		var err error
		if !spread {
			c.Report.Wire.Sent, c.Report.Wire.Received = in.bytes, replySize(len(vector), Codec(push.ReplyCodec))
		}
		if spread {
			ack, err = s.ps.Decide(ss.Context(), c, why)
		} else {
			ack, err = s.ps.Exchange(ss.Context(), c, vector)
		}
		if ss.Context().Err() != nil {
			return status.FromContextError(ss.Context().Err()).Err()
		}
		if errors.Is(err, ps.ErrSuspended) {
			s.hold(ss.Context(), err)
			return toStatus(err)
		}
		if err := ss.SendMsg(&outgoing{control: toPull(ack, err)}); err != nil {
			return err
		}
		if err == nil {
			if err := reply(ss, vector, Codec(push.ReplyCodec), &pool); err != nil {
				return err
			}
		}
	}
}

// receive fills vector from the stream by way of in.
func receive(s interface{ RecvMsg(any) error }, vector []float32, in *incoming) error {
	in.vector, in.filled = vector, 0
	for in.filled < len(vector) {
		if err := s.RecvMsg(in); err != nil {
			if err == io.EOF {
				return status.Error(codes.Unavailable, "the stream ended within a vector")
			}
			return err
		}
	}
	return nil
}

// reply sends a vector as the other side asked for.
func reply(s interface{ SendMsg(any) error }, vector []float32, codec Codec, pool *framePool) error {
	if codec == BF16 {
		return send(s, vector, BF16, pool)
	}
	return send(s, vector, FP32, nil)
}

// send puts vector on the stream as FP32 or BF16, by way of buffers of pool if there is one. Without one the transport
// reads vector later: it may not change before the other side has answered, or the stream has been given up.
func send(s interface{ SendMsg(any) error }, vector []float32, codec Codec, pool *framePool) error {
	for lo := 0; lo < len(vector); lo += frameFloats {
		hi := min(lo+frameFloats, len(vector))
		if err := s.SendMsg(&outgoing{offset: lo, floats: vector[lo:hi], codec: codec, count: hi - lo, pool: pool}); err != nil {
			return err
		}
	}
	return nil
}

func bigEndian() error {
	return &ps.Error{Kind: "unsupported", Message: "the parameter server's wire needs a little-endian machine", Hint: "run all workers in one process"}
}
