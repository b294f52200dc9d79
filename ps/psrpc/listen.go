package psrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"dkpipe/ps"
)

// Listen opens a socket for Serve: "127.0.0.1:0", "[::1]:7070", "localhost:7000-7010" or "unix:/path". Any other address is
// refused with kind denied. Of a range of ports the first that is free is taken. The file of a unix socket is readable and
// writable by its owner only; one that a dead process left behind is replaced.
func Listen(address string) (net.Listener, error) {
	if _, _, err := local(address); err != nil {
		return nil, err
	}
	return ListenAnywhere(address)
}

// ListenAnywhere is Listen for addresses that other machines can reach, too: ":7070", "0.0.0.0:7000-7010". Serve refuses the
// socket unless it has an Identity, or InsecureNoTLS.
func ListenAnywhere(address string) (net.Listener, error) {
	network, addr, err := split(address)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		return listenUnix(address, addr)
	}
	host, ports, err := portRange(addr)
	if err != nil {
		return nil, err
	}
	for port := ports[0]; ; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil || port == ports[1] || !errors.Is(err, syscall.EADDRINUSE) {
			return l, notListening(address, err)
		}
	}
}

func listenUnix(address, path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil && errors.Is(err, syscall.EADDRINUSE) && dead(path) {
		if os.Remove(path) == nil {
			l, err = net.Listen("unix", path)
		}
	}
	if err != nil {
		return nil, notListening(address, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func notListening(address string, err error) error {
	if err == nil {
		return nil
	}
	kind := "unreachable"
	if errors.Is(err, syscall.EADDRINUSE) {
		kind = "busy"
	}
	return &ps.Error{Kind: kind, Message: "listening on " + address, Hint: "choose a free port (port 0), a range of ports or another path", Err: err}
}

// portRange splits "host:7000-7010" or "host:7000".
func portRange(addr string) (host string, ports [2]int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", ports, badAddress(addr, err)
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		last = first
	}
	for i, t := range [2]string{first, last} {
		n, err := strconv.ParseUint(t, 10, 16)
		if err != nil {
			return "", ports, badAddress(addr, err)
		}
		ports[i] = int(n)
	}
	if ports[0] > ports[1] {
		return "", ports, badAddress(addr, errors.New("the range of ports ends before it starts"))
	}
	return host, ports, nil
}

// Advertised is the address that workers are told for a listener. advertise is "host:port", or a host alone whose port is the
// listener's, or empty for the listener's own address; that will not do for a listener on all addresses of a machine.
func Advertised(l net.Addr, advertise string) (string, error) {
	if l.Network() == "unix" {
		if advertise != "" {
			return "", &ps.Error{Kind: "usage", Message: fmt.Sprintf("a unix socket is not reached at %q", advertise), Hint: "listen on host:port"}
		}
		return "unix:" + l.String(), nil
	}
	tcp, ok := l.(*net.TCPAddr)
	if !ok {
		return "", badAddress(l.String(), errors.New("not TCP"))
	}
	if advertise == "" {
		if tcp.IP.IsUnspecified() {
			return "", &ps.Error{Kind: "usage", Message: "listening on all addresses, " + l.String() + ", but workers have to be told one",
				Hint: "give the address that they reach this machine at (advertise)"}
		}
		return l.String(), nil
	}
	if host, port, err := net.SplitHostPort(advertise); err == nil {
		if host == "" || port == "" || port == "0" {
			return "", badAddress(advertise, errors.New("host or port is missing"))
		}
		return advertise, nil
	}
	return net.JoinHostPort(strings.Trim(advertise, "[]"), strconv.Itoa(tcp.Port)), nil
}

// CheckAddress finds what is wrong with an address to listen on, and with the one that workers are told instead, without
// opening anything: as much as ListenAnywhere and Advertised would refuse whatever the machine is like.
func CheckAddress(listen, advertise string) error {
	network, addr, err := split(listen)
	if err != nil {
		return err
	}
	if network == "unix" {
		_, err = Advertised(&net.UnixAddr{Name: addr, Net: network}, advertise)
		return err
	}
	host, ports, err := portRange(addr)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	if host == "" {
		ip = net.IPv4zero
	} else if ip == nil {
		ip = net.IPv4(127, 0, 0, 1) // a name, which is an address of its own
	}
	_, err = Advertised(&net.TCPAddr{IP: ip, Port: ports[0]}, advertise)
	return err
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

// split gives network and address.
func split(address string) (network, addr string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return "", "", &ps.Error{Kind: "usage", Message: "address unix: has no path", Hint: "write unix:/path/of/socket"}
		}
		return "unix", path, nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", "", badAddress(address, err)
	}
	return "tcp", address, nil
}

func badAddress(address string, err error) error {
	return &ps.Error{Kind: "usage", Message: fmt.Sprintf("address %q", address), Hint: "write host:port, host:7000-7010 or unix:/path", Err: err}
}

// local is split for an address that others than this machine cannot reach; it refuses others.
func local(address string) (network, addr string, err error) {
	network, addr, err = split(address)
	if err != nil || network == "unix" {
		return network, addr, err
	}
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", "", beyond(address)
	}
	return network, addr, nil
}

func beyond(address string) error {
	return &ps.Error{Kind: "denied", Message: "refusing the non-loopback address " + address + " without TLS",
		Hint: "use 127.0.0.1, ::1, localhost or unix:/path, or a ticket and an identity of an Authority"}
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

// dial connects to an address: any, or only what local accepts. localhost could be pointed elsewhere, so that connection is
// looked at once more.
func dial(ctx context.Context, address string, anywhere bool) (net.Conn, error) {
	network, addr, err := split(address)
	if err == nil && !anywhere {
		_, _, err = local(address)
	}
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil || anywhere {
		return c, err
	}
	if err := onlyLocal(c.RemoteAddr()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
