package psrpc

import (
	"context"
	"net"
	"path/filepath"
	"testing"

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
