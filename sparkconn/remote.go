package sparkconn

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"github.com/google/uuid"
)

// defaultPort is the port of a Spark Connect server.
const defaultPort = 15002

// Remote is a parsed connection string: sc://host:port/;key=value;key=value. It prints without the token.
type Remote struct {
	Host      string
	Port      int
	Token     string // sent as a bearer token; never printed
	TLS       bool
	Plaintext bool   // use_ssl=false was written: plaintext is meant, also to another machine
	SessionID string // a UUID, or empty: a new session
	UserID    string
	UserAgent string
}

// ParseRemote reads a connection string strictly: an unknown key or a bad value is an error that names it. Values may
// be percent-encoded. use_ssl decides about TLS; without it TLS is used when there is a token and the host is not this
// machine. Errors are of kind BadSpec and never repeat a token.
func ParseRemote(s string) (Remote, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), "sc://")
	if !ok {
		return Remote{}, remoteErr("write sc://host:15002", "the address of Spark does not begin with sc://")
	}
	authority, params, _ := strings.Cut(rest, "/")
	r := Remote{Port: defaultPort}
	if err := r.authority(authority); err != nil {
		return Remote{}, err
	}
	ssl, sslGiven, err := r.params(params)
	if err != nil {
		return Remote{}, err
	}
	r.TLS, r.Plaintext = ssl, sslGiven && !ssl
	if !sslGiven {
		r.TLS = r.Token != "" && !r.Loopback()
	}
	return r, nil
}

func remoteErr(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: "spark.remote: " + fmt.Sprintf(format, a...), Hint: hint}
}

func (r *Remote) authority(a string) error {
	if strings.ContainsAny(a, ";=?#") {
		return remoteErr("write sc://host:15002/;key=value", "the host is followed by parameters without a slash")
	}
	if strings.Contains(a, "@") {
		return remoteErr("write sc://host:15002/;user_id=NAME", "a user stands before the host")
	}
	host, port := a, ""
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		host, port = a[:i], a[i+1:]
		if port == "" {
			return remoteErr("write sc://host:15002", "the port after %q is empty", host+":")
		}
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch ip, err := netip.ParseAddr(bare); {
	case bare == "":
		return remoteErr("write sc://host:15002", "the host is empty")
	case strings.HasPrefix(host, "[") != strings.HasSuffix(host, "]"),
		strings.HasPrefix(host, "[") && (err != nil || !ip.Is6()),
		!strings.HasPrefix(host, "[") && strings.Contains(bare, ":"):
		return remoteErr("write an IPv6 address in brackets: sc://[::1]:15002", "%q is no host", host)
	case strings.ContainsAny(bare, " \t\\%\"'"):
		return remoteErr("write sc://host:15002", "%q is no host", host)
	}
	r.Host = bare
	if port == "" {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return remoteErr("a port is a number from 1 to 65535; Spark Connect's own is 15002", "%q is no port", port)
	}
	r.Port = int(n)
	return nil
}

// remoteKeys are the parameters that are understood.
var remoteKeys = [...]string{"token", "use_ssl", "session_id", "user_id", "user_agent"}

func (r *Remote) params(s string) (ssl, sslGiven bool, err error) {
	if s == "" {
		return false, false, nil
	}
	if !strings.HasPrefix(s, ";") {
		return false, false, remoteErr("write sc://host:15002/;key=value", "what follows the slash does not begin with a semicolon")
	}
	seen := map[string]bool{}
	for i, p := range strings.Split(strings.TrimPrefix(s, ";"), ";") {
		if p == "" {
			continue
		}
		key, raw, ok := strings.Cut(p, "=")
		if !ok {
			return false, false, remoteErr("write key=value", "parameter %d has no value", i+1)
		}
		if !known(key) {
			hint := "the parameters are " + strings.Join(remoteKeys[:], ", ")
			if near := expr.Nearest(key, remoteKeys[:]); near != "" {
				hint = "did you mean " + near + "?"
			}
			return false, false, remoteErr(hint, "unknown parameter %.40q", key)
		}
		if seen[key] {
			return false, false, remoteErr("leave one of them out", "%s is there twice", key)
		}
		seen[key] = true
		value, err := url.PathUnescape(raw)
		if err != nil || value == "" || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return false, false, remoteErr("write a percent sign as %25", "the value of %s is empty or badly encoded", key)
		}
		switch key {
		case "token":
			r.Token = value
		case "use_ssl":
			if ssl, err = strconv.ParseBool(value); err != nil {
				return false, false, remoteErr("write use_ssl=true or use_ssl=false", "use_ssl is %.20q", value)
			}
			sslGiven = true
		case "session_id":
			id, err := uuid.Parse(value)
			if err != nil || len(value) != 36 {
				return false, false, remoteErr("Spark wants a UUID: 00112233-4455-6677-8899-aabbccddeeff", "session_id is no UUID")
			}
			r.SessionID = id.String()
		case "user_id":
			r.UserID = value
		case "user_agent":
			r.UserAgent = value
		}
	}
	return ssl, sslGiven, nil
}

func known(key string) bool {
	for _, k := range remoteKeys {
		if k == key {
			return true
		}
	}
	return false
}

// Address is host:port, with an IPv6 host in brackets.
func (r Remote) Address() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// String is the connection string without the token.
func (r Remote) String() string { return "sc://" + r.Address() }

// Loopback reports whether the host is this machine by its name or address, without asking a name server.
func (r Remote) Loopback() bool {
	ip, err := netip.ParseAddr(r.Host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(r.Host, "localhost")
}
