package psrpc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

const (
	defaultRetry = 30 * time.Second
	firstWait    = 20 * time.Millisecond
	longestWait  = 2 * time.Second
	leaveWait    = 2 * time.Second
	longestBeat  = 24 * time.Hour // between two heartbeats that a server may ask for
)

// ClientOptions say where a worker joins.
type ClientOptions struct {
	Address string // as for Listen
	Ticket  Ticket
	// Worker is the wanted number, or -1 for the lowest free one. A worker that has it already is fenced off, and for good.
	Worker ps.Worker
	// Codec is what commits travel as; FP32 leaves the choice to the server. Replies are BF16 with any other than FP32.
	Codec Codec
	// InsecureNoTLS allows an address beyond this machine with a ticket that names no authority: ticket, parameters and data
	// positions then cross the network in the open, and anybody on the way can change them.
	InsecureNoTLS bool
	// Retry is how long a call goes on trying while the server cannot be reached. 0 means 30 s.
	Retry time.Duration
	// Resend is after how long a commit without an answer is sent again, over a stream of its own, to the coordinator and to the
	// data servers. Most often it waits for a round; but neither side would ever notice that a message was lost on a connection
	// that goes on. The time begins anew with every piece of a vector that goes or comes. 0 means a minute.
	Resend time.Duration
}

func (o ClientOptions) resend() time.Duration {
	if o.Resend > 0 {
		return o.Resend
	}
	return time.Minute
}

// Client is one worker's connection to a Server: it offers Exchange and Next as ps.Server does. A broken connection is
// made again and the call repeated; calls of Exchange follow one another, and so do calls of Next. Close it.
type Client struct {
	opts  ClientOptions
	conn  *grpc.ClientConn
	pulse *grpc.ClientConn // of the session: a heartbeat does not wait behind a commit on a slow link

	mu     sync.Mutex
	life   *pspb.JoinReply
	end    context.CancelFunc // of the session
	ended  chan struct{}      // the session's goroutine is gone
	over   bool               // the session found out that the life is over
	closed bool
	blocks []*blocks // connections to the data servers
	abort  func()    // ends the exchange with data servers that is going on, or nil

	exchange sync.Mutex  // held for a call of Exchange
	up       *upstream   // the open stream, or nil
	packer   packer      // of the present life
	sharded  *ps.Sharded // to the data servers, or nil

	asking sync.Mutex // held for a call of Next
	asked  uint64     // calls of Next that were answered in this life
}

// Join connects to a server and starts a life of a worker. It tries for Retry.
func Join(ctx context.Context, o ClientOptions) (*Client, error) {
	if o.Retry <= 0 {
		o.Retry = defaultRetry
	}
	if !littleEndian() {
		return nil, bigEndian()
	}
	c := &Client{opts: o}
	for _, to := range []**grpc.ClientConn{&c.conn, &c.pulse} {
		conn, err := connect(o.target(o.Address))
		if err != nil {
			return nil, errors.Join(err, c.hangUp())
		}
		*to = conn
	}
	if err := c.Rejoin(ctx); err != nil {
		_ = c.Close() // there is nothing to lose
		return nil, err
	}
	return c, nil
}

// target is where a connection goes.
type target struct {
	address  string
	ticket   Ticket
	anywhere bool // not only on this machine
}

func (o ClientOptions) target(address string) target {
	return target{address: address, ticket: o.Ticket, anywhere: o.Ticket.secured() || o.InsecureNoTLS}
}

// connect prepares a connection; the first call makes it.
func connect(to target) (*grpc.ClientConn, error) {
	check := local
	if to.anywhere {
		check = split
	}
	if _, _, err := check(to.address); err != nil {
		return nil, err
	}
	secure, err := clientCredentials(to.ticket)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+serviceName,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, to.address, to.anywhere) }),
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(secure),
		grpc.WithPerRPCCredentials(shown{to.ticket}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxControl), grpc.MaxCallSendMsgSize(maxControl)),
		grpc.WithReadBufferSize(socketBuffer), grpc.WithWriteBufferSize(socketBuffer),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveWait, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestWait},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, &ps.Error{Kind: "internal", Message: "connecting to the parameter server at " + to.address, Err: err}
	}
	return conn, nil
}

// Rejoin starts a new life, after ErrFenced or to begin anew: under the same number, or under the lowest free one when the
// client did not ask for a number, because somebody else may have the old one by now. Who has taken the number that this client
// asked for keeps it, and Rejoin fails: two that fence each other off would never get anything done. No other call may be going on.
func (c *Client) Rejoin(ctx context.Context) error {
	c.finish()
	c.asking.Lock()
	c.asked = 0
	c.asking.Unlock()
	req := &pspb.JoinRequest{Protocol: protocolVersion, Worker: int32(c.opts.Worker), Nonce: make([]byte, 16)}
	_, _ = rand.Read(req.Nonce) // never fails
	if last := c.current(); last != nil {
		req.After = last.Incarnation
	}
	life := new(pspb.JoinReply)
	err := c.retry(ctx, func() error { return c.conn.Invoke(ctx, methodJoin, req, life) })
	if err != nil {
		return err
	}
	if err := credible(life); err != nil {
		return err
	}
	codec := c.opts.Codec
	if codec == FP32 {
		codec = Codec(life.Codec)
	}
	sharded, blocks, err := c.shard(life, codec)
	c.exchange.Lock()
	c.packer, c.sharded = packer{codec: codec}, sharded
	c.exchange.Unlock()
	c.mu.Lock()
	c.blocks = blocks
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.live(ctx, life)
}

// credible refuses an answer to Join that no server gives.
func credible(life *pspb.JoinReply) error {
	if life.Worker < 0 || life.Incarnation == 0 || life.Codec > uint32(Auto) || life.Parameters > 1<<40 || life.HeartbeatMs <= 0 || life.HeartbeatMs > longestBeat.Milliseconds() {
		return malformed("an answer to Join as worker %d with incarnation %d, %d parameters and a heartbeat of %d ms", life.Worker, life.Incarnation, life.Parameters, life.HeartbeatMs)
	}
	return nil
}

// Codec is what the commits of the present life travel as; Auto until that is decided.
func (c *Client) Codec() Codec {
	c.exchange.Lock()
	defer c.exchange.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.blocks) > 0 {
		return c.blocks[0].packer.codec
	}
	return c.packer.codec
}

// live starts the session of a life and waits until the server has it, because only then a kill is noticed at once.
func (c *Client) live(ctx context.Context, life *pspb.JoinReply) error {
	session, end := context.WithCancel(context.WithoutCancel(ctx))
	up, ended := make(chan struct{}), make(chan struct{})
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		end()
		return net.ErrClosed
	}
	c.life, c.end, c.ended, c.over = life, end, ended, false
	c.mu.Unlock()
	go c.session(session, life, up, ended)
	late := time.NewTimer(c.opts.Retry)
	defer late.Stop()
	select {
	case <-up:
	case <-ended: // the life is over already: the next call learns it
	case <-late.C: // it goes on trying
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// finish ends the session and the exchange stream of the present life, if there is one.
func (c *Client) finish() {
	c.mu.Lock()
	end, ended := c.end, c.ended
	c.end, c.ended = nil, nil
	c.mu.Unlock()
	if end != nil {
		end()
		<-ended
	}
	c.exchange.Lock()
	defer c.exchange.Unlock()
	c.up.close()
	c.up = nil
	c.sharded = nil
	c.mu.Lock()
	blocks := c.blocks
	c.blocks = nil
	c.mu.Unlock()
	for _, b := range blocks {
		b.up.close()
		_ = b.conn.Close() // nothing is lost
	}
}

func (c *Client) current() *pspb.JoinReply {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.life
}

// Worker is the number that this client joined under.
func (c *Client) Worker() ps.Worker { return ps.Worker(c.current().Worker) }

// Incarnation is that of the present life.
func (c *Client) Incarnation() uint64 { return c.current().Incarnation }

// Len is the number of parameters.
func (c *Client) Len() int { return int(c.current().Parameters) }

// Workers is the number of workers that the run expects.
func (c *Client) Workers() int { return int(c.current().Workers) }

// Job is what the coordinator gives to each worker. It may not be changed.
func (c *Client) Job() []byte { return c.current().Job }

// Close leaves, so that what the worker holds goes back to the queue at once, and closes the connection. Calls that are
// going on are ended with an error. It may be called twice.
func (c *Client) Close() error {
	c.mu.Lock()
	closed, life, abort := c.closed, c.life, c.abort
	c.closed = true
	c.mu.Unlock()
	if abort != nil {
		abort()
	}
	if closed {
		return nil
	}
	if life != nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
		// An error does not matter: the end of the session tells the same, only later.
		_ = c.conn.Invoke(ctx, methodLeave, &pspb.LeaveRequest{Worker: life.Worker, Incarnation: life.Incarnation, Why: "it left"}, &pspb.LeaveReply{})
		cancel()
	}
	err := c.hangUp() // ends the calls that finish would wait for
	c.finish()
	return err
}

// hangUp closes the connections to the server, those that there are.
func (c *Client) hangUp() error {
	var errs []error
	for _, conn := range []*grpc.ClientConn{c.conn, c.pulse} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}

// session sends heartbeats for one life, over a new stream when the old one breaks, until ctx ends or the life is over. It
// closes up at the first answer.
func (c *Client) session(ctx context.Context, life *pspb.JoinReply, up, ended chan<- struct{}) {
	defer close(ended)
	first := sync.OnceFunc(func() { close(up) })
	tick := time.NewTicker(time.Duration(life.HeartbeatMs) * time.Millisecond)
	defer tick.Stop()
	wait := firstWait
	for ctx.Err() == nil {
		answered, err := c.beat(ctx, life, tick.C, first)
		if !c.again(err) {
			c.mu.Lock()
			c.over = true
			abort := c.abort
			c.mu.Unlock()
			if abort != nil {
				abort()
			}
			return // the life is over: the next call learns it too
		}
		if answered {
			wait = firstWait
		}
		pause(ctx, wait)
		wait = min(2*wait, longestWait)
	}
}

// beat keeps up one stream of heartbeats and gives the error that it ended with, and whether the server had answered.
func (c *Client) beat(ctx context.Context, life *pspb.JoinReply, tick <-chan time.Time, alive func()) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.pulse.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodSession)
	if err != nil {
		return false, err
	}
	answered := false
	broken := make(chan error, 1)
	go func() { // sees the end of the stream at once; waited for below
		for {
			if err := s.RecvMsg(&pspb.BeatReply{}); err != nil {
				broken <- err
				return
			}
			answered = true
			alive()
		}
	}()
	for {
		_ = s.SendMsg(&pspb.Beat{Worker: life.Worker, Incarnation: life.Incarnation}) // an error comes out of broken
		select {
		case <-tick:
		case err := <-broken:
			return answered, err
		}
	}
}

// Next gives the worker its next unit of data; see ps.Server.Next. It can be called again after ctx ended: an answer that
// got lost is given again.
func (c *Client) Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	if err := c.mine(w, incarnation); err != nil {
		return ps.Unit{}, ps.Done, err
	}
	req := &pspb.NextRequest{Worker: int32(w), Incarnation: incarnation, Ask: c.asked + 1}
	rep := new(pspb.NextReply)
	if err := c.retry(ctx, func() error { return c.conn.Invoke(ctx, methodNext, req, rep) }); err != nil {
		return ps.Unit{}, ps.Done, err
	}
	c.asked++
	return fromNext(rep)
}

// mine refuses a call in the name of another worker. One of an earlier life goes to the server, which fences it.
func (c *Client) mine(w ps.Worker, incarnation uint64) error {
	if life := c.current(); ps.Worker(life.Worker) != w {
		return &ps.Error{Kind: "internal", Message: fmt.Sprintf("this connection belongs to worker %d, not %d (incarnation %d)", life.Worker, w, incarnation), Err: ps.ErrProtocol}
	}
	return nil
}

// retry repeats a call as long as the server cannot be reached, with growing pauses, for at most Retry. A try that lasted
// longer than that on its own was a wait that the connection broke in, and starts the time anew.
func (c *Client) retry(ctx context.Context, try func() error) error {
	wait := firstWait
	var since time.Time
	for {
		start := time.Now()
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !c.again(err) {
			return fromStatus(err)
		}
		if since.IsZero() || time.Since(start) >= longestWait {
			since, wait = time.Now(), firstWait
		}
		if time.Since(since)+wait > c.opts.Retry {
			return &ps.Error{Kind: "unreachable", Message: fmt.Sprintf("parameter server at %s did not answer for %v", c.opts.Address, c.opts.Retry),
				Hint: "see whether the coordinator of the run is alive", Err: err}
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait = min(2*wait, longestWait)
	}
}

// pause waits for about d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + mathrand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// again says whether an error is one of the connection, which a repeat may not meet, or tells that a copy of the call which was
// long on its way came after it and has its answer now. Who cancelled a call on this side does not ask.
func (c *Client) again(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled || errors.Is(fromStatus(err), ps.ErrSuperseded)
}
