package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

const dialTimeout = 5 * time.Second

// client is one client of the library with all its connections under guard. It serves one call, or one file being
// written, at a time, and is thrown away when a connection broke: the library would wait for five seconds before it
// tried that NameNode again, and could mistake a late answer.
type client struct {
	*hdfs.Client
	o   *Options
	rpc *rpcConn // our own connection to the same NameNode, made when first needed

	end    func() // cancels dialling
	dial   func(address string) (net.Conn, error)
	closer sync.Once

	mu     sync.Mutex
	conns  map[*guard]struct{}
	errs   []error // what broke, by address
	dead   bool
	active string  // the NameNode that was connected last
	sent   int     // writes to NameNodes that went through
	denied *remote // the last refusal for lack of a right
}

// maxErrs bounds how many broken connections an error lists.
const maxErrs = 4

// newClient connects to the first of the addresses that takes a connection.
func newClient(ctx context.Context, o *Options, addresses []string) (*client, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // ends with the client, not with the call that made it
	c := &client{o: o, end: end, conns: make(map[*guard]struct{})}
	c.dial = func(address string) (net.Conn, error) {
		return c.connect(life, address, &guard{timeout: o.RPCTimeout, look: (&frames{refused: c.refuse}).look}, true)
	}
	stop := context.AfterFunc(ctx, func() { c.kill(ended(ctx)) })
	lib, err := hdfs.NewClient(hdfs.ClientOptions{
		Addresses:           addresses,
		User:                o.User,
		UseDatanodeHostname: o.UseDatanodeHostname,
		NamenodeDialFunc:    func(_ context.Context, _, address string) (net.Conn, error) { return c.dial(address) },
		DatanodeDialFunc: func(_ context.Context, _, address string) (net.Conn, error) {
			pipeline := &acks{nodes: []string{address}}
			return c.connect(life, address, &guard{timeout: o.writeTimeout(), quiet: true, ask: pipeline.ask, look: pipeline.look}, false)
		},
	})
	stop()
	if err != nil {
		c.kill(err)
		return nil, fmt.Errorf("%w: %w", errNotSent, c.cause(ended(ctx), err))
	}
	c.Client = lib
	return c, nil
}

// connect dials and puts the connection under the guard.
func (c *client) connect(ctx context.Context, address string, g *guard, namenode bool) (net.Conn, error) {
	note := func(err error) { c.note(about(address, err)) }
	if !namenode {
		note = func(err error) { c.note(&atDatanode{about(address, err)}) }
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		note(err)
		return nil, err
	}
	g.Conn = conn
	g.failed = note
	g.closed = func() {
		c.mu.Lock()
		delete(c.conns, g)
		c.mu.Unlock()
	}
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		conn.Close()
		return nil, net.ErrClosed
	}
	c.conns[g] = struct{}{}
	if namenode {
		c.active = address
	}
	c.mu.Unlock()
	if namenode {
		return &counted{guard: g, c: c}, nil
	}
	return g, nil
}

// counted counts the writes that went through, to tell calls that were sent from those that were not.
type counted struct {
	*guard
	c *client
}

func (k *counted) Write(p []byte) (int, error) {
	n, err := k.guard.Write(p)
	if n > 0 {
		k.c.mu.Lock()
		k.c.sent++
		k.c.mu.Unlock()
	}
	return n, err
}

// note remembers what broke.
func (c *client) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || len(c.errs) >= maxErrs {
		return // killed: its connections were closed by us
	}
	c.errs = append(c.errs, err)
}

// about says where something broke.
func about(address string, err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("%s: %w", address, &noHost{dns})
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		return fmt.Errorf("%s: %w", address, rootless(op))
	}
	return fmt.Errorf("%s: %w", address, plain(err))
}

// atDatanode is an error on the way to a datanode, not to a NameNode.
type atDatanode struct{ err error }

func (e *atDatanode) Error() string { return "datanode " + e.err.Error() }
func (e *atDatanode) Unwrap() error { return e.err }

// rootless takes the addresses off a network error, which the message names already.
func rootless(op *net.OpError) error {
	if op.Timeout() {
		return &silent{"no connection", dialTimeout}
	}
	return op.Err
}

// noHost is a name that could not be looked up, without the name server's address.
type noHost struct{ *net.DNSError }

func (e *noHost) Error() string { return e.Err }
func (e *noHost) Unwrap() error { return e.DNSError }

// kill breaks all connections, so that whatever waits on one returns. The client cannot be used any more.
func (c *client) kill(cause error) {
	c.mu.Lock()
	conns := c.conns
	c.conns = make(map[*guard]struct{})
	if !c.dead {
		c.dead = true
		if cause != nil && len(c.errs) == 0 {
			c.errs = append(c.errs, cause)
		}
	}
	c.mu.Unlock()
	c.end()
	for g := range conns {
		g.fail(net.ErrClosed)
	}
}

// broken gives what broke a connection since the client was made; nil: nothing.
func (c *client) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) == 0 {
		return nil
	}
	return &several{errs: append([]error(nil), c.errs...)}
}

// several are errors of several servers in one line.
type several struct{ errs []error }

func (s *several) Unwrap() []error { return s.errs }

func (s *several) Error() string {
	var b strings.Builder
	for i, err := range s.errs {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

// cause finds the true reason of an error of the library, which flattens those of connections to text. over is why
// the context has ended, or nil.
func (c *client) cause(over, err error) error {
	if over != nil {
		return over
	}
	if isAnswer(err) {
		return err
	}
	if b := c.broken(); b != nil {
		return b
	}
	if strings.Contains(err.Error(), "no available namenodes") {
		return fmt.Errorf("%w: %w", errNotActive, err)
	}
	return err
}

// run makes one call and gives its true error.
func (c *client) run(ctx context.Context, fn func(c *client) error) error {
	stop := context.AfterFunc(ctx, func() { c.kill(ended(ctx)) })
	defer stop()
	before := c.writes()
	err := fn(c)
	if errors.Is(err, fs.ErrPermission) {
		return c.denial(err)
	}
	if err == nil || isAnswer(err) {
		return err
	}
	err = c.cause(ended(ctx), err)
	if c.writes() == before {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return err
}

// refuse remembers what the NameNode says about a missing right: who, which, and on what.
func (c *client) refuse(r *remote) {
	if exceptionIs(r, "AccessControlException") {
		c.mu.Lock()
		c.denied = r
		c.mu.Unlock()
	}
}

// denial puts what the NameNode said in the place of what the library made of it.
func (c *client) denial(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.denied == nil {
		return err
	}
	denied := c.denied
	c.denied = nil
	return denied
}

func (c *client) writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// usable tells whether the client may serve another call.
func (c *client) usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.dead && len(c.errs) == 0
}

// server gives the NameNode that the client is connected to.
func (c *client) server() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active
}

// Close ends the client. The connections go first: the library would otherwise wait for one that is silent.
func (c *client) Close() error {
	c.closer.Do(func() {
		c.kill(net.ErrClosed)
		c.Client.Close() // stops its goroutine; the connections are closed already
	})
	return nil
}
