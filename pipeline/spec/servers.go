package spec

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
)

// maxServers bounds the data servers of a run.
const maxServers = 256

// Servers is a number of data servers that the run starts, or the addresses of those that somebody else has started.
type Servers struct {
	Count int      // to be started; 0 when there are addresses
	At    []string // host:port or unix:/path
}

var serversType = reflect.TypeFor[Servers]()

// Len is the number of data servers.
func (s Servers) Len() int { return max(s.Count, len(s.At)) }

// UnmarshalYAML takes a number, an address or a list of addresses.
func (s *Servers) UnmarshalYAML(decode func(into any) error) error {
	var count int
	if decode(&count) == nil {
		if count < 0 || count > maxServers {
			return fmt.Errorf("want at least 0 and at most %d, got %d", maxServers, count)
		}
		*s = Servers{Count: count}
		return nil
	}
	var one string
	if decode(&one) == nil {
		*s = Servers{At: []string{one}}
		return nil
	}
	var at []string
	if err := decode(&at); err != nil || len(at) == 0 || len(at) > maxServers {
		return errors.New("want a number of data servers, or a list of their addresses: 2, or [host1:7071, host2:7071]")
	}
	*s = Servers{At: at}
	return nil
}

// render is the reverse.
func (s Servers) render() *node {
	switch {
	case len(s.At) > 0:
		l := &node{kind: listKind}
		for _, a := range s.At {
			l.list = append(l.list, textNode(a))
		}
		return l
	case s.Count > 0:
		return &node{kind: intKind, i: int64(s.Count)}
	}
	return nil
}

// servers checks where the parameters are and how they travel.
func (c *checker) servers() {
	t := c.spec.Train
	seen := map[string]bool{}
	for i, a := range t.Servers.At {
		path := element(c.root, "train.servers", i)
		if why := badServer(a); why != "" {
			c.fail(path, "write host:7071, as dkpipe ps --listen or --advertise has it", "%s %s", quote(a), why)
		} else if seen[a] {
			c.fail(path, "remove one of the two", "%s is listed twice", quote(a))
		}
		seen[a] = true
	}
	if t.Launch != "in-process" {
		return
	}
	if t.Servers.Len() > 0 {
		c.fail("train.servers", "add launch: process (or join, or spark), or remove servers",
			"workers with launch: in-process do not exchange with data servers")
	}
	if t.Codec != "fp32" {
		c.fail("train.codec", "add launch: process (or join, or spark), or remove codec",
			"nothing is sent with launch: in-process, so there is nothing to encode as %s", t.Codec)
	}
}

// badServer says what is wrong with an address, or nothing.
func badServer(address string) string {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return "has no path"
		}
		return ""
	}
	host, port, err := net.SplitHostPort(address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		return "is no host:port"
	}
	return ""
}
