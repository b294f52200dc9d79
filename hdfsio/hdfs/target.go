package hdfs

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"dkpipe/hdfsio"
)

const defaultPort = "8020"

// Options says which HDFS is meant, and how it is to be treated. The zero value of everything but Namenodes is fine.
type Options struct {
	// Service is the name of the cluster in messages: a name service or host:port. Empty: the first of Namenodes.
	Service string
	// Namenodes are the addresses host:port of the NameNodes of one name service; any of them may be the active one.
	Namenodes []string
	// User is whom HDFS takes us for. Empty: the user of this process.
	User string
	// Replication and BlockSize of new files. 0: what the server's defaults say.
	Replication int
	BlockSize   int64
	// Umask holds the permission bits that new files and folders do not get. nil: 022.
	Umask *uint32
	// UseDatanodeHostname connects to datanodes by name instead of by address (dfs.client.use.datanode.hostname).
	UseDatanodeHostname bool

	// Timeout bounds one call, with all its repetitions; a deadline of the context that is earlier wins. 0: 60 s.
	Timeout time.Duration
	// RPCTimeout bounds one attempt at a NameNode, so that a silent one is given up for the next. 0: 15 s.
	RPCTimeout time.Duration
	// Retry is how long a call goes on trying after its first failure, while a NameNode restarts or another takes
	// over. 0: 30 s, negative: it does not.
	Retry time.Duration
	// DataTimeout is how long a datanode may be silent before the next replica is tried (reads), or the file is given
	// up (writes). 0: 20 s for reads and 60 s for writes.
	DataTimeout time.Duration

	noService string // hint for a Service that turns out to be no host
}

// Resolve finds the cluster that the authority of a URI names: empty for that of fs.defaultFS, a name service, or a
// host with or without a port. A name service takes only what stands under its own name.
func (c *Conf) Resolve(authority string) (Options, error) {
	o, err := c.behaviour()
	if err != nil {
		return Options{}, err
	}
	if authority == "" {
		if authority, err = c.defaultAuthority(); err != nil {
			return Options{}, err
		}
	}
	o.Service = authority
	services, err := c.services()
	if err != nil {
		return Options{}, err
	}
	if slices.Contains(services, authority) {
		o.Namenodes, err = c.addresses(authority)
		return o, err
	}
	address, err := hostPort(authority)
	if err != nil {
		hint := "write hdfs://nameservice/path or hdfs://host:port/path"
		if len(services) > 0 {
			hint += "; the configuration knows " + strings.Join(services, ", ")
		}
		return Options{}, &hdfsio.Error{Op: "resolve", Path: "hdfs://" + authority, Kind: hdfsio.KindUsage, Err: err, Hint: hint}
	}
	o.Namenodes = []string{address}
	if _, _, err := net.SplitHostPort(authority); err != nil { // a name alone: of a host, or a name service that is not there
		o.noService = noService(authority, c.Dir, services)
	}
	return o, nil
}

// noService is the next step when a name turns out to be neither that of a host nor of a name service.
func noService(name, dir string, services []string) string {
	where := "no configuration is read: set HADOOP_CONF_DIR to the folder that has it"
	if dir != "" {
		where = "HADOOP_CONF_DIR has none of that name"
		if len(services) > 0 {
			where = "the configuration has " + strings.Join(services, ", ")
		}
	}
	return fmt.Sprintf("if %s is a name service, %s; a host is written hdfs://host:port/path", name, where)
}

// services lists the name services: those that are declared, and those that have NameNodes without a declaration.
func (c *Conf) services() ([]string, error) {
	services, err := c.list("dfs.nameservices")
	for _, name := range c.Names() {
		if s, ok := strings.CutPrefix(name, "dfs.ha.namenodes."); ok && s != "" && !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	return services, err
}

// addresses gives the NameNodes of one name service.
func (c *Conf) addresses(service string) ([]string, error) {
	key := "dfs.namenode.rpc-address." + service
	ids, err := c.list("dfs.ha.namenodes." + service)
	if err != nil {
		return nil, err
	}
	keys := []string{key}
	if len(ids) > 0 {
		keys = keys[:0]
		for _, id := range ids {
			keys = append(keys, key+"."+id)
		}
	}
	var addresses []string
	for _, key := range keys {
		v, err := c.Get(key)
		if err != nil {
			return nil, err
		}
		if v == "" {
			return nil, c.invalid(key, fmt.Errorf("it is not set, so the name service %s has no address", service))
		}
		address, err := hostPort(v)
		if err != nil {
			return nil, c.invalid(key, err)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// defaultAuthority takes the authority of fs.defaultFS.
func (c *Conf) defaultAuthority() (string, error) {
	v, err := c.Get("fs.defaultFS")
	if err != nil {
		return "", err
	}
	if v == "" {
		return "", &hdfsio.Error{Op: "resolve", Path: "hdfs:///", Kind: hdfsio.KindUsage, Err: errors.New("no HDFS is configured as the default"),
			Hint: "set HADOOP_CONF_DIR to the folder with core-site.xml, or write hdfs://host:port/path"}
	}
	scheme, authority := "hdfs", v
	if strings.Contains(v, ":/") {
		u, err := hdfsio.Parse(v)
		if err != nil {
			return "", c.invalid("fs.defaultFS", err)
		}
		scheme, authority = u.Scheme, u.Authority
	}
	if scheme != "hdfs" || authority == "" {
		return "", &hdfsio.Error{Op: "resolve", Path: "hdfs:///", Kind: hdfsio.KindUnsupported, Err: fmt.Errorf("fs.defaultFS is %s, which is not an HDFS", v),
			Hint: "write hdfs://nameservice/path or hdfs://host:port/path"}
	}
	return authority, nil
}

// hostPort completes and checks host:port.
func hostPort(s string) (string, error) {
	host, port := s, defaultPort
	if strings.Contains(strings.TrimSuffix(s, "]"), ":") && !strings.HasSuffix(s, "]") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("%q is not host:port", s)
		}
	}
	host = strings.Trim(host, "[]")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t\r\n/@,;$\\") {
		return "", fmt.Errorf("%q is not host:port", s)
	}
	return net.JoinHostPort(host, port), nil
}

// behaviour takes over what concerns every cluster of the configuration, and refuses what is not served.
func (c *Conf) behaviour() (Options, error) {
	var o Options
	auth, err := c.Get("hadoop.security.authentication")
	if err != nil {
		return o, err
	}
	if a := strings.ToLower(auth); a != "" && a != "simple" {
		return o, &hdfsio.Error{Op: "resolve", Path: "hdfs", Kind: hdfsio.KindUnsupported,
			Err:  fmt.Errorf("hadoop.security.authentication is %s", auth),
			Hint: "this version speaks to HDFS with simple authentication only; copy the data with hdfs dfs -get, or use a cluster or gateway without Kerberos"}
	}
	encrypted, err := c.boolean("dfs.encrypt.data.transfer", false)
	if err != nil {
		return o, err
	}
	if encrypted {
		return o, errEncryptedTransfer()
	}
	if o.UseDatanodeHostname, err = c.boolean("dfs.client.use.datanode.hostname", false); err != nil {
		return o, err
	}
	if o.BlockSize, err = c.size("dfs.blocksize"); err != nil {
		return o, err
	}
	replication, err := c.size("dfs.replication")
	if err != nil || replication > 512 {
		return o, c.invalid("dfs.replication", errors.New("it should be a number from 1 to 512"))
	}
	o.Replication = int(replication)
	if o.DataTimeout, err = c.milliseconds("dfs.client.socket-timeout"); err != nil {
		return o, err
	}
	if o.Umask, err = c.umask(); err != nil {
		return o, err
	}
	o.User = c.getenv("HADOOP_USER_NAME")
	return o, nil
}

func errEncryptedTransfer() error {
	return &hdfsio.Error{Op: "resolve", Path: "hdfs", Kind: hdfsio.KindUnsupported, Err: errors.New("the cluster encrypts data transfer (dfs.encrypt.data.transfer)"),
		Hint: "this version does not; copy the data with hdfs dfs -get"}
}

// umask reads fs.permissions.umask-mode, in octal or, as umask(1) takes it, as what is allowed: u=rwx,g=rx,o=.
func (c *Conf) umask() (*uint32, error) {
	const key = "fs.permissions.umask-mode"
	v, err := c.Get(key)
	if err != nil || v == "" {
		return nil, err
	}
	if allowed, ok := symbolicMode(v); ok {
		return new(0o777 &^ allowed), nil
	}
	n, err := strconv.ParseUint(v, 8, 16)
	if err != nil || n > 0o1777 {
		return nil, c.invalid(key, fmt.Errorf("%q is neither an octal number such as 022 nor a mode such as u=rwx,g=rx,o=", v))
	}
	mask := uint32(n & 0o777)
	return &mask, nil
}

// symbolicMode reads permissions such as u=rwx,g=rx,o= or a+rx, beginning with none. No letter before the sign stands
// for all three.
func symbolicMode(s string) (mode uint32, ok bool) {
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		i := strings.IndexAny(part, "=+-")
		if i < 0 {
			return 0, false
		}
		var who, bits uint32
		for _, c := range part[:i] {
			shift := strings.IndexRune("ogu", c)
			switch {
			case c == 'a':
				who |= 0o777
			case shift < 0:
				return 0, false
			default:
				who |= 7 << (3 * shift)
			}
		}
		if i == 0 {
			who = 0o777
		}
		for _, c := range part[i+1:] {
			shift := strings.IndexRune("xwr", c)
			if shift < 0 {
				return 0, false
			}
			bits |= 0o111 << shift
		}
		switch bits &= who; part[i] {
		case '=':
			mode = mode&^who | bits
		case '+':
			mode |= bits
		case '-':
			mode &^= bits
		}
	}
	return mode, true
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	usage := func(text string) (Options, error) {
		return Options{}, &hdfsio.Error{Op: connecting, Path: "hdfs://" + o.Service, Kind: hdfsio.KindUsage, Err: errors.New(text)}
	}
	if len(o.Namenodes) == 0 {
		return usage("no NameNode is named")
	}
	o.Namenodes = slices.Clone(o.Namenodes)
	for i, a := range o.Namenodes {
		var err error
		if o.Namenodes[i], err = hostPort(a); err != nil {
			return usage(err.Error())
		}
	}
	if o.Service == "" {
		o.Service = o.Namenodes[0]
	}
	if o.User == "" {
		u, err := user.Current()
		if err != nil {
			return usage("the name of this process's user is not known: " + err.Error() + "; set HADOOP_USER_NAME")
		}
		o.User = u.Username
	}
	if o.Replication < 0 || o.BlockSize < 0 {
		return usage("replication and block size cannot be negative")
	}
	if o.Umask == nil {
		o.Umask = new(uint32(0o022))
	}
	if o.Timeout <= 0 {
		o.Timeout = 60 * time.Second
	}
	if o.RPCTimeout <= 0 {
		o.RPCTimeout = 15 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = 30 * time.Second
	}
	return o, nil
}

// readTimeout and writeTimeout are how long a datanode may be silent.
func (o *Options) readTimeout() time.Duration  { return orElse(o.DataTimeout, 20*time.Second) }
func (o *Options) writeTimeout() time.Duration { return orElse(o.DataTimeout, 60*time.Second) }

func orElse(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}
