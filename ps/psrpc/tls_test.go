package psrpc

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

func authority(t *testing.T) (*Authority, Ticket, Identity) {
	t.Helper()
	a, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return a, a.Ticket(), id
}

// serveAnywhere is serve on all addresses of the machine; it gives the loopback address of that socket.
func serveAnywhere(t *testing.T, srv *ps.Server, o ServerOptions) string {
	t.Helper()
	s, err := NewServer(srv, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ListenAnywhere("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.grpc.Stop()
		s.Close(t.Context())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	address, err := Advertised(l.Addr(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Over TLS on all addresses of the machine, with data servers, the contract is the same.
func TestServersWithTLSKeepTheContract(t *testing.T) {
	_, ticket, id := authority(t)
	parsed, err := ParseTicket(ticket.Text())
	if err != nil || parsed != ticket {
		t.Fatal("the ticket's text is another ticket", err)
	}
	pem, err := id.PEM()
	if err != nil {
		t.Fatal(err)
	}
	other, err := ParseIdentity(pem) // as another process gets it
	if err != nil {
		t.Fatal(err)
	}
	pstest.TestServer(t, func(t *testing.T, srv *ps.Server) func(ps.Worker) (pstest.Conn, uint64) {
		data, _ := dataServer(t, srv.Rule(), "0.0.0.0:0", DataOptions{Ticket: parsed, Identity: other})
		at, err := Advertised(data, "localhost")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := srv.Spread([]ps.Keeper{keeper(t, KeeperOptions{Address: at, Ticket: ticket, Lost: srv.Abort})}); err != nil {
			t.Fatal(err)
		}
		address := serveAnywhere(t, srv, ServerOptions{Ticket: ticket, Identity: id, Data: []string{at}})
		return func(w ps.Worker) (pstest.Conn, uint64) {
			c := client(t, ClientOptions{Address: address, Ticket: parsed, Worker: w})
			return c, c.Incarnation()
		}
	})
}

// Who has not the run's ticket gets no connection, and a worker does not talk to a server of another run: not even its
// ticket is shown.
func TestTLSRefusesStrangers(t *testing.T) {
	a, ticket, id := authority(t)
	address := serveAnywhere(t, newCore(t, []float32{0}, ps.Options{}), ServerOptions{Ticket: ticket, Identity: id})
	b, stranger, _ := authority(t)
	for name, wrong := range map[string]Ticket{
		"another run's ticket":                      stranger,
		"another secret of the same authority":      a.Ticket(),
		"the secret with another run's fingerprint": {secret: ticket.secret, authority: b.Ticket().authority},
		"the secret without a fingerprint":          {secret: ticket.secret},
	} {
		_, err := Join(t.Context(), ClientOptions{Address: address, Ticket: wrong, Retry: 100 * time.Millisecond})
		if err == nil {
			t.Errorf("%s is enough", name)
		}
	}
	if c := client(t, ClientOptions{Address: address, Ticket: ticket}); c.Len() != 1 {
		t.Error("the right one is not")
	}
}

// A ticket and an identity that do not belong together are refused at once, not when the first worker fails.
func TestTicketAndIdentityBelongTogether(t *testing.T) {
	_, ticket, id := authority(t)
	_, other, _ := authority(t)
	srv := newCore(t, []float32{0}, ps.Options{})
	for name, o := range map[string]ServerOptions{
		"no identity": {Ticket: ticket}, "no authority": {Ticket: NewTicket(), Identity: id}, "another authority": {Ticket: other, Identity: id},
	} {
		if _, err := NewServer(srv, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := NewDataServer(pstest.Add{}, DataOptions{Ticket: o.Ticket, Identity: o.Identity}); err == nil {
			t.Errorf("data server, %s: accepted", name)
		}
	}
}

// Without TLS an address beyond this machine has to be asked for on both sides, by an option that says what it is.
func TestInsecureHasToBeAskedFor(t *testing.T) {
	ticket := NewTicket()
	srv := newCore(t, []float32{0}, ps.Options{})
	l, err := ListenAnywhere("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewDataServer(pstest.Add{}, DataOptions{Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	kind(t, s.Serve(l), "denied")
	address := serveAnywhere(t, srv, ServerOptions{Ticket: ticket, InsecureNoTLS: true})
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	any := "0.0.0.0:" + port // reaches this machine, and is no loopback address
	_, err = Join(t.Context(), ClientOptions{Address: any, Ticket: ticket})
	kind(t, err, "denied")
	client(t, ClientOptions{Address: any, Ticket: ticket, InsecureNoTLS: true})
	_, err = DialKeeper(KeeperOptions{Address: any, Ticket: ticket})
	kind(t, err, "denied")
}

// Of a range of ports the first free one is taken, and a full range is busy.
func TestPortRanges(t *testing.T) {
	first, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	port := first.Addr().(*net.TCPAddr).Port
	_, err = Listen(fmt.Sprintf("127.0.0.1:%d-%d", port, port))
	kind(t, err, "busy")
	next, err := Listen(fmt.Sprintf("127.0.0.1:%d-%d", port, min(port+50, 65535)))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if got := next.Addr().(*net.TCPAddr).Port; got <= port || got > port+50 {
		t.Errorf("port %d of %d-%d", got, port, port+50)
	}
	for _, bad := range []string{"127.0.0.1:9-8", "127.0.0.1:a", "127.0.0.1:1-2-3", "127.0.0.1:70000", "127.0.0.1:", "127.0.0.1"} {
		_, err := Listen(bad)
		kind(t, err, "usage")
	}
}

func TestAdvertised(t *testing.T) {
	all := &net.TCPAddr{IP: net.IPv4zero, Port: 7070}
	for _, c := range []struct {
		at              net.Addr
		advertise, want string
	}{
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7070}, "", "10.0.0.1:7070"},
		{all, "node7", "node7:7070"}, {all, "node7:99", "node7:99"}, {all, "::1", "[::1]:7070"}, {all, "[::1]:5", "[::1]:5"},
		{&net.UnixAddr{Name: "/a/b", Net: "unix"}, "", "unix:/a/b"},
		{all, "", ""}, {all, "node7:0", ""}, {all, ":5", ""}, {&net.UnixAddr{Name: "/a/b", Net: "unix"}, "node7", ""},
	} {
		got, err := Advertised(c.at, c.advertise)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%v at %q: %q, %v", c.at, c.advertise, got, err)
		}
		if err != nil {
			kind(t, err, "usage")
		}
	}
}

// Keys do not get into logs.
func TestIdentityHidesItself(t *testing.T) {
	_, ticket, id := authority(t)
	text := fmt.Sprintf("%v %+v %#v %s", id, id, id, id)
	if text != "[identity] [identity] [identity] [identity]" {
		t.Errorf("%q", text)
	}
	if text := fmt.Sprintf("%v %+v %#v", ticket, ticket, ticket); strings.Contains(text, ticket.Text()[:16]) {
		t.Errorf("%q", text)
	}
	for _, bad := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"} {
		if _, err := ParseIdentity([]byte(bad)); err == nil {
			t.Errorf("%q is an identity", bad)
		}
	}
}
