package psrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"dkpipe/ps"
)

// Listen opens a socket for Serve: "127.0.0.1:0", "[::1]:7070", "localhost:7070" or "unix:/path". Any other address is
// refused with kind denied. The file of a unix socket is readable and writable by its owner only; one that a dead process
// left behind is replaced.
func Listen(address string) (net.Listener, error) {
	network, addr, err := local(address)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen(network, addr)
	if err != nil && network == "unix" && errors.Is(err, syscall.EADDRINUSE) && dead(addr) {
		if os.Remove(addr) == nil {
			l, err = net.Listen(network, addr)
		}
	}
	if err != nil {
		kind := "unreachable"
		if errors.Is(err, syscall.EADDRINUSE) {
			kind = "busy"
		}
		return nil, &ps.Error{Kind: kind, Message: "listening on " + address, Hint: "choose a free port (port 0) or another path", Err: err}
	}
	if network == "unix" {
		if err := os.Chmod(addr, 0o600); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// dead says whether nobody answers at a unix socket.
func dead(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// local splits an address into network and address, and refuses one that others than this machine can reach.
func local(address string) (network, addr string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return "", "", &ps.Error{Kind: "usage", Message: "address unix: has no path", Hint: "write unix:/path/of/socket"}
		}
		return "unix", path, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", &ps.Error{Kind: "usage", Message: fmt.Sprintf("address %q", address), Hint: "write host:port or unix:/path", Err: err}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", "", beyond(address)
	}
	return "tcp", address, nil
}

func beyond(address string) error {
	return &ps.Error{Kind: "denied", Message: "refusing the non-loopback address " + address + " without TLS",
		Hint: "use 127.0.0.1, ::1, localhost or unix:/path"}
}

// onlyLocal refuses an address that is neither loopback nor a unix socket, however it came about.
func onlyLocal(a net.Addr) error {
	switch a := a.(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if a.IP.IsLoopback() {
			return nil
		}
	}
	return beyond(a.String())
}

// dial connects to an address that local accepts. localhost could be pointed elsewhere, so the connection is looked at
// once more.
func dial(ctx context.Context, address string) (net.Conn, error) {
	network, addr, err := local(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if err := onlyLocal(c.RemoteAddr()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
