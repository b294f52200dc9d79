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
// addition on the server, the new centre down. The limit is the same number of bytes written to and read back from a bare
// socket of the same kind, in the same round. It also counts the bytes that both ends together allocate for each byte that
// goes over the wire.
func BenchExchange(ctx context.Context, o BenchOptions) ([]BenchCase, error) {
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
	defer os.RemoveAll(dir)
	var cases []BenchCase
	for _, network := range []string{"tcp", "unix"} {
		address := func(name string) string {
			if network == "unix" {
				return "unix:" + filepath.Join(dir, name)
			}
			return "127.0.0.1:0"
		}
		c, err := benchNetwork(ctx, o, network, address)
		if err != nil {
			return nil, err
		}
		cases = append(cases, c...)
	}
	return cases, nil
}

func benchNetwork(ctx context.Context, o BenchOptions, network string, address func(string) string) (cases []BenchCase, err error) {
	raw, err := newRaw(address("raw"), o.Floats)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, raw.close()) }()
	ex, err := newExchanger(ctx, address("ps"), o.Floats)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ex.close()) }()

	bytes := float64(8 * o.Floats) // up and down
	var rate, limit, ratio, alloc []float64
	for round := range o.Rounds + 1 {
		bare, err := raw.round()
		if err != nil {
			return nil, err
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		took, err := ex.round(ctx)
		if err != nil {
			return nil, err
		}
		runtime.ReadMemStats(&after)
		if round == 0 {
			continue // warms connections, pools and windows up
		}
		rate = append(rate, bytes/took.Seconds()/1e9)
		limit = append(limit, bytes/bare.Seconds()/1e9)
		ratio = append(ratio, bare.Seconds()/took.Seconds())
		alloc = append(alloc, float64(after.TotalAlloc-before.TotalAlloc)/bytes)
	}
	name := "exchange/" + network
	return []BenchCase{
		{Name: name, Value: median(rate), Unit: "GB/s", Reference: median(limit), Ratio: median(ratio)},
		{Name: name + "/rate", Value: median(rate) * 1e9 / bytes, Unit: "exchanges/s", Reference: median(limit) * 1e9 / bytes, Ratio: median(ratio)},
		{Name: name + "/allocated", Value: median(alloc), Unit: "B/B"},
	}, nil
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

func (r *raw) close() error { return errors.Join(r.conn.Close(), <-r.done, r.l.Close()) }

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
	core, err := ps.NewCore(make([]float32, floats), addRule{}, ps.Options{})
	if err != nil {
		return nil, err
	}
	ticket := NewTicket()
	e := &exchanger{served: make(chan error, 1), dst: make([]float32, floats)}
	if e.srv, err = NewServer(ps.NewServer(core, nil), ServerOptions{Ticket: ticket}); err != nil {
		return nil, err
	}
	l, err := Listen(address)
	if err != nil {
		e.srv.Close(ctx)
		return nil, err
	}
	go func() { e.served <- e.srv.Serve(l) }()
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
	var err error
	if e.client != nil {
		err = e.client.Close()
	}
	e.srv.Close(context.Background())
	return errors.Join(err, <-e.served)
}
