package psrpc

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

// serve puts srv on a socket of its own until the end of the test.
func serve(t *testing.T, srv *ps.Server, address string, o ServerOptions) net.Addr {
	t.Helper()
	s, err := NewServer(srv, o)
	if err != nil {
		t.Fatal(err)
	}
	return serving(t, s, address)
}

// serving is serve for a server that the test has made.
func serving(t *testing.T, s *Server, address string) net.Addr {
	t.Helper()
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(gone)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr()
}

func addressOf(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

func client(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	c, err := Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestClientAndServerKeepTheContract(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			pstest.TestServer(t, func(t *testing.T, srv *ps.Server) func(ps.Worker) (pstest.Conn, uint64) {
				ticket := NewTicket()
				address := "127.0.0.1:0"
				if network == "unix" {
					address = "unix:" + filepath.Join(t.TempDir(), "s")
				}
				address = addressOf(serve(t, srv, address, ServerOptions{Ticket: ticket}))
				return func(w ps.Worker) (pstest.Conn, uint64) {
					c := client(t, ClientOptions{Address: address, Ticket: ticket, Worker: w})
					return c, c.Incarnation()
				}
			})
		})
	}
}

func newCore(t *testing.T, params []float32, o ps.Options) *ps.Server {
	t.Helper()
	core, err := ps.NewCore(params, pstest.Add{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return ps.NewServer(core, nil)
}

// together runs workers to their ends. When one fails, the others do not wait for it for ever.
func together(t *testing.T, workers ps.Worker, o ClientOptions, shards int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for w := range workers {
		o.Worker = w
		c := client(t, o)
		all.Go(func() {
			if err := run(ctx, c, shards); err != nil && ctx.Err() == nil {
				t.Errorf("worker %d: %v", w, err)
				cancel()
			}
		})
	}
	all.Wait()
}

// awaiting returns when so many calls wait in the server.
func awaiting(t *testing.T, srv *ps.Server, calls int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for srv.Progress().Waiting != calls {
		if ctx.Err() != nil {
			t.Fatalf("%d calls wait, want %d", srv.Progress().Waiting, calls)
		}
		runtime.Gosched()
	}
}

// run is a worker: three samples a unit, each a commit that adds 1 everywhere.
func run(ctx context.Context, c *Client, shards int) error {
	w, life := c.Worker(), c.Incarnation()
	dst, delta := make([]float32, c.Len()), make([]float32, c.Len())
	for i := range delta {
		delta[i] = 1
	}
	var seq uint64
	ack, err := c.Exchange(ctx, ps.Commit{Worker: w, Incarnation: life}, dst)
	for err == nil {
		var u ps.Unit
		var turn ps.Turn
		if u, turn, err = c.Next(ctx, w, life); err != nil || turn == ps.Done {
			break
		}
		if turn != ps.Work || u.Cursor != nil {
			return errors.New("a unit came twice")
		}
		for row := range 3 {
			seq++
			at := ps.Position{Unit: u.ID, Cursor: []byte{byte(row)}, Done: row == 2}
			ack, err = c.Exchange(ctx, ps.Commit{Worker: w, Incarnation: life, Seq: seq, Base: ack.Version, Steps: 1, Samples: 1,
				Delta: delta, Positions: []ps.Position{at}}, dst)
			if err != nil {
				return err
			}
		}
	}
	return err
}
