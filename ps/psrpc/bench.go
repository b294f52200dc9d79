package psrpc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"dkpipe/ps"
)

// BenchOptions size BenchExchange.
type BenchOptions struct {
	Floats int // parameters; 0 means 4,798,010: a network 784-1000-2000-1000-10, 19.2 MB
	Rounds int // measured rounds, interleaved; 0 means 5
}

// BenchCase is one measured figure beside its limit, medians over the rounds.
type BenchCase struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference,omitempty"` // the limit in the same unit
	Ratio     float64 `json:"ratio,omitempty"`     // the median of value over reference round by round
}

// BenchExchange measures what an exchange costs over loopback TCP and over a unix socket: a delta of all parameters up, an
// addition on the server, the new centre down. The limit is the same number of bytes written to a bare loopback TCP
// connection and read back from it, in the same round; what a bare unix socket does is given beside it. It also counts the
// bytes that both ends together allocate for each byte that goes over the wire, and measures each codec and two data servers
// beside that: their speeds are those of the whole float32 vectors, and so are the bytes that they are said to save.
func BenchExchange(ctx context.Context, o BenchOptions) (cases []BenchCase, err error) {
	if o.Floats <= 0 {
		o.Floats = 4798010
	}
	if o.Rounds <= 0 {
		o.Rounds = 5
	}
	dir, err := os.MkdirTemp("", "dkpipe-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bare := make([]*raw, 2)
	ex := make([]*exchanger, 2)
	defer func() {
		for i := range bare {
			err = errors.Join(err, bare[i].close(), ex[i].close())
		}
	}()
	for i, address := range []func(string) string{
		func(string) string { return "127.0.0.1:0" },
		func(name string) string { return "unix:" + filepath.Join(dir, name) },
	} {
		if bare[i], err = newRaw(address("raw"), o.Floats); err != nil {
			return nil, err
		}
		if ex[i], err = newExchanger(ctx, address("ps"), o.Floats); err != nil {
			return nil, err
		}
	}
	coded := make([]*exchanger, len(benchedCodecs()))
	defer func() {
		for _, e := range coded {
			err = errors.Join(err, e.close())
		}
	}()
	for i, b := range benchedCodecs() {
		if coded[i], err = newSharded(ctx, "127.0.0.1:0", o.Floats, b.servers, b.codec); err != nil {
			return nil, err
		}
	}
	m := measured{coded: make([]codedRounds, len(coded))}
	for round := range o.Rounds + 1 {
		if round == 1 {
			m = measured{coded: make([]codedRounds, len(coded))} // the first round warms connections, pools and windows up
		}
		for i := range bare {
			if err := m.round(ctx, i, bare[i], ex[i]); err != nil {
				return nil, err
			}
		}
		for i, e := range coded {
			if err := m.coded[i].round(ctx, e); err != nil {
				return nil, err
			}
		}
	}
	return m.cases(float64(8 * o.Floats)), nil
}

// measured holds the seconds and the allocated bytes of each round, of TCP at 0 and unix sockets at 1.
type measured struct {
	bare, exchange, allocated [2][]float64
	coded                     []codedRounds
}

// codedRounds are those of one codec: seconds, allocated bytes, and the bytes that went up and down.
type codedRounds struct{ seconds, allocated, up, down []float64 }

// benched is one way of exchanging.
type benched struct {
	name    string
	codec   Codec
	servers int
}

func benchedCodecs() []benched {
	return []benched{{"bf16", BF16, 0}, {"int8", Int8, 0}, {"topk", TopK, 0}, {"servers_2", FP32, 2}}
}

func (m *codedRounds) round(ctx context.Context, e *exchanger) error {
	var before, after runtime.MemStats
	up, down := e.wire.up.Load(), e.wire.down.Load()
	runtime.ReadMemStats(&before)
	took, err := e.round(ctx)
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	m.seconds = append(m.seconds, took.Seconds())
	m.allocated = append(m.allocated, float64(after.TotalAlloc-before.TotalAlloc))
	m.up, m.down = append(m.up, float64(e.wire.up.Load()-up)), append(m.down, float64(e.wire.down.Load()-down))
	return nil
}

func (m *measured) round(ctx context.Context, i int, bare *raw, ex *exchanger) error {
	took, err := bare.round()
	if err != nil {
		return err
	}
	m.bare[i] = append(m.bare[i], took.Seconds())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if took, err = ex.round(ctx); err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	m.exchange[i] = append(m.exchange[i], took.Seconds())
	m.allocated[i] = append(m.allocated[i], float64(after.TotalAlloc-before.TotalAlloc))
	return nil
}

// cases makes figures of the rounds; bytes went over the wire in each.
func (m *measured) cases(bytes float64) []BenchCase {
	limit := m.bare[0]
	speed := func(name string, seconds []float64) BenchCase {
		ratio := make([]float64, len(limit))
		for i := range ratio {
			ratio[i] = limit[i] / seconds[i]
		}
		return BenchCase{Name: name, Value: bytes / median(seconds) / 1e9, Unit: "GB/s", Reference: bytes / median(limit) / 1e9, Ratio: median(ratio)}
	}
	var out []BenchCase
	for i, network := range []string{"tcp", "unix"} {
		name := "exchange/" + network
		out = append(out, speed(name, m.exchange[i]),
			BenchCase{Name: name + "/rate", Value: 1 / median(m.exchange[i]), Unit: "exchanges/s"},
			BenchCase{Name: name + "/allocated", Value: median(m.allocated[i]) / bytes, Unit: "B/B"})
	}
	for i, b := range benchedCodecs() {
		name, c := "exchange/tcp/"+b.name, &m.coded[i]
		up, down := median(c.up), median(c.down)
		out = append(out, speed(name, c.seconds),
			BenchCase{Name: name + "/commit", Value: bytes / 2 / up, Unit: "x fewer bytes"},
			BenchCase{Name: name + "/reply", Value: bytes / 2 / down, Unit: "x fewer bytes"},
			BenchCase{Name: name + "/allocated", Value: median(c.allocated) / (up + down), Unit: "B/B"})
	}
	return append(out, speed("bare/unix", m.bare[1]))
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return (x[n/2] + x[(n-1)/2]) / 2
}

// raw is a bare socket whose other end reads all bytes of a vector and then writes as many.
type raw struct {
	conn net.Conn
	l    net.Listener
	buf  []byte
	done chan error
}

func newRaw(address string, floats int) (*raw, error) {
	l, err := Listen(address)
	if err != nil {
		return nil, err
	}
	r := &raw{l: l, buf: make([]byte, 4*floats), done: make(chan error, 1)}
	go func() {
		c, err := l.Accept()
		if err != nil {
			r.done <- err
			return
		}
		defer c.Close()
		buf := make([]byte, 4*floats)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				r.done <- nil // the end
				return
			}
			if err := writeChunks(c, buf); err != nil {
				r.done <- err
				return
			}
		}
	}()
	r.conn, err = net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		return nil, errors.Join(err, l.Close(), <-r.done)
	}
	return r, nil
}

func (r *raw) round() (time.Duration, error) {
	start := time.Now()
	if err := writeChunks(r.conn, r.buf); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(r.conn, r.buf)
	return time.Since(start), err
}

func (r *raw) close() error {
	if r == nil {
		return nil
	}
	return errors.Join(r.conn.Close(), <-r.done, r.l.Close())
}

// writeChunks writes in the size that does best on a bare socket.
func writeChunks(c net.Conn, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), socketBuffer)
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// exchanger is a server, and one worker that is connected to it.
type exchanger struct {
	srv    *Server
	served chan error
	client *Client
	commit ps.Commit
	dst    []float32
	wire   traffic
	data   []*DataServer
	keep   []*Keeper
}

// traffic counts what goes over the sockets of listeners: up is to the servers.
type traffic struct{ up, down atomic.Int64 }

type countedListener struct {
	net.Listener
	t *traffic
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l.t}, err
}

type countedConn struct {
	net.Conn
	t *traffic
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.t.up.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.t.down.Add(int64(n))
	return n, err
}

type addRule struct{}

func (addRule) Slots() int          { return 0 }
func (addRule) RepliesCentre() bool { return true }
func (addRule) Apply(centre, _, delta, reply []float32, _ ps.Commit) {
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		c := centre[i] + d
		centre[i], reply[i] = c, c
	}
}

func newExchanger(ctx context.Context, address string, floats int) (*exchanger, error) {
	return newSharded(ctx, address, floats, 0, FP32)
}

// spread starts data servers for srv and gives their addresses.
func (e *exchanger) spread(srv *ps.Server, n int, ticket Ticket) (addresses []string, err error) {
	var keepers []ps.Keeper
	for range n {
		d, err := NewDataServer(srv.Rule(), DataOptions{Ticket: ticket})
		if err != nil {
			return nil, err
		}
		l, err := Listen("127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		e.data = append(e.data, d)
		go func() { e.served <- d.Serve(countedListener{l, &e.wire}) }()
		k, err := DialKeeper(KeeperOptions{Address: l.Addr().String(), Ticket: ticket, Lost: srv.Abort})
		if err != nil {
			return nil, err
		}
		e.keep, keepers, addresses = append(e.keep, k), append(keepers, k), append(addresses, l.Addr().String())
	}
	_, err = srv.Spread(keepers)
	return addresses, err
}

func newSharded(ctx context.Context, address string, floats, servers int, codec Codec) (*exchanger, error) {
	core, err := ps.NewCore(make([]float32, floats), addRule{}, ps.Options{})
	if err != nil {
		return nil, err
	}
	ticket := NewTicket()
	e := &exchanger{served: make(chan error, 1+servers), dst: make([]float32, floats)}
	o, srv := ServerOptions{Ticket: ticket, Codec: codec}, ps.NewServer(core, nil)
	if servers > 0 {
		if o.Data, err = e.spread(srv, servers, ticket); err != nil {
			return nil, errors.Join(err, e.close())
		}
	}
	l, err := Listen(address)
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	if e.srv, err = NewServer(srv, o); err != nil {
		return nil, errors.Join(err, l.Close(), e.close())
	}
	go func() { e.served <- e.srv.Serve(countedListener{l, &e.wire}) }()
	if address = l.Addr().String(); l.Addr().Network() == "unix" {
		address = "unix:" + address
	}
	if e.client, err = Join(ctx, ClientOptions{Address: address, Ticket: ticket, Worker: 0}); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.commit = ps.Commit{Worker: 0, Incarnation: e.client.Incarnation(), Steps: 1, Delta: make([]float32, floats)}
	for i := range e.commit.Delta {
		e.commit.Delta[i] = 1e-3
	}
	return e, nil
}

func (e *exchanger) round(ctx context.Context) (time.Duration, error) {
	e.commit.Seq++
	start := time.Now()
	ack, err := e.client.Exchange(ctx, e.commit, e.dst)
	e.commit.Base = ack.Version
	return time.Since(start), err
}

func (e *exchanger) close() error {
	if e == nil {
		return nil
	}
	var err error
	if e.client != nil {
		err = e.client.Close()
	}
	serving := len(e.data)
	if e.srv != nil {
		e.srv.Close(context.Background())
		serving++
	}
	for _, k := range e.keep {
		err = errors.Join(err, k.Close())
	}
	for _, d := range e.data {
		d.Close()
	}
	for range serving {
		err = errors.Join(err, <-e.served)
	}
	return err
}
