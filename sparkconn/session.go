package sparkconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"dkpipe/pipeline"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Options says how to talk to a server. The zero value is right for most.
type Options struct {
	TLS *tls.Config // how to check the server; nil: the system's authorities. A client certificate goes here too

	// InsecurePlaintext allows plaintext, token included, to a host that is not this machine. Without it,
	// ;use_ssl=false allows what has no token.
	InsecurePlaintext bool

	DialTimeout time.Duration     // how long Dial waits for the first answer; 0: 20 s
	Patience    time.Duration     // how long a broken connection is repaired without any progress; 0: 1 min
	Conf        map[string]string // settings of the session, beside those that this package needs
}

// maxBytes is the largest message. Spark 4 makes batches of up to 128 MiB by its own estimate.
const maxBytes = 512 << 20

// detachedTimeout bounds calls that must go out although the caller's context is over.
const detachedTimeout = 2 * time.Second

// Session is a session on a Spark Connect server, over one connection. It may be used by several goroutines. Programs
// that dial with the same session id share temporary views, cached tables and settings.
type Session struct {
	remote   Remote
	opt      Options
	conn     *grpc.ClientConn
	id       string
	own      bool // the session was made here and is released by Close
	version  string
	patience time.Duration

	mu     sync.Mutex
	server string // id of the session on the server: changes when the server was restarted
}

// Dial connects to the server of a connection string such as sc://host:15002/;use_ssl=true;token=…, and asks it for
// its version. Plaintext goes to another machine only where ;use_ssl=false says so, and a token then only where
// Options.InsecurePlaintext allows it. Errors are of kind BadSpec (the string), Unreachable, Denied or Unsupported (the
// version).
func Dial(ctx context.Context, remote string, opt Options) (*Session, error) {
	r, err := ParseRemote(remote)
	if err != nil {
		return nil, err
	}
	return dial(ctx, r, opt)
}

func dial(ctx context.Context, r Remote, opt Options) (*Session, error) {
	if err := r.checkPlaintext(opt); err != nil {
		return nil, err
	}
	if r.UserID == "" {
		r.UserID = "dkpipe"
	}
	s := &Session{remote: r, opt: opt, id: r.SessionID, own: r.SessionID == "", patience: opt.Patience}
	if s.own {
		s.id = uuid.NewString()
	}
	if s.patience <= 0 {
		s.patience = time.Minute
	}
	var err error
	if s.conn, err = grpc.NewClient("passthrough:///"+r.Address(), s.dialOptions()...); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: "spark.remote " + r.String(), Err: err}
	}
	if err := s.greet(ctx); err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	return s, nil
}

// checkPlaintext refuses to talk to another machine in plaintext where nobody has asked for it.
func (r Remote) checkPlaintext(opt Options) error {
	switch {
	case r.TLS, r.Loopback(), opt.InsecurePlaintext, r.Plaintext && r.Token == "":
		return nil
	case r.Token != "":
		return remoteErr("leave ;use_ssl=false out, or allow it: spark: {insecure_plaintext: true}", "the token would go to %s in plaintext", r.Host)
	}
	return remoteErr("add ;use_ssl=true, or ;use_ssl=false if plaintext is meant", "plaintext to %s, which is not this machine", r.Host)
}

func (s *Session) dialOptions() []grpc.DialOption {
	creds := insecure.NewCredentials()
	if s.remote.TLS {
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if s.opt.TLS != nil {
			conf = s.opt.TLS.Clone()
		}
		creds = credentials.NewTLS(conf)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(s.clientType()),
		// Spark's server takes pings more often than every five minutes for an attack; the kernel's probes find a host
		// that is gone sooner.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: 20 * time.Second}),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
			return d.DialContext(ctx, "tcp", address)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBytes), grpc.MaxCallSendMsgSize(maxBytes)),
		grpc.WithDisableServiceConfig(),
	}
	if s.remote.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer{token: s.remote.Token, plain: !s.remote.TLS}))
	}
	return opts
}

// bearer sends the token with every call.
type bearer struct {
	token string
	plain bool
}

// GetRequestMetadata gives the header that Spark asks for.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity is false where Dial has allowed plaintext.
func (b bearer) RequireTransportSecurity() bool { return !b.plain }

// greet asks for the version and makes the session's settings.
func (s *Session) greet(ctx context.Context) error {
	limit := s.opt.DialTimeout
	if limit <= 0 {
		limit = 20 * time.Second
	}
	first, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req := s.request("AnalyzePlanRequest")
	req.in("spark_version")
	rep := newMessage("AnalyzePlanResponse")
	if err := s.conn.Invoke(first, service+"AnalyzePlan", req.wire(), rep.wire()); err != nil {
		e := parse(err)
		switch {
		case ctx.Err() != nil:
			return ended(ctx, "connecting to "+s.remote.String())
		case first.Err() != nil || e.Code == codes.DeadlineExceeded:
			e.Message = fmt.Sprintf("no answer within %s", limit)
			return s.unreachable("connecting", e, "")
		case e.Code == codes.Unimplemented && !strings.Contains(e.Message, "HTTP status"):
			return s.unreachable("connecting", e, "a gRPC server answers there that is not Spark Connect; check the port")
		case e.Code == codes.Unavailable || e.Code == codes.Unimplemented || e.Code == codes.Internal && e.id == "" || e.Code == codes.Unknown && e.Reason == "":
			return s.unreachable("connecting", e, "")
		}
		return s.fail(ctx, "connecting to "+s.remote.String(), err)
	}
	version, _ := rep.has("spark_version")
	if !version.IsValid() {
		return &pipeline.Error{Kind: pipeline.Unreachable, Message: "the server at " + s.remote.String() + " does not tell its version",
			Hint: "check that it is a Spark Connect server"}
	}
	s.version = version.str("version")
	var major, minor int
	if n, err := fmt.Sscanf(s.version, "%d.%d", &major, &minor); err != nil || n != 2 || major < 3 || major == 3 && minor < 5 {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("the server at %s is Spark %.40q", s.remote, s.version),
			Hint: "use Spark 3.5 or later"}
	}
	conf := map[string]string{
		"spark.sql.session.timeZone":                   "UTC",
		"spark.sql.ansi.enabled":                       "true",
		"spark.sql.parser.escapedStringLiterals":       "false",
		"spark.sql.execution.arrow.maxRecordsPerBatch": "1024",
		"spark.connect.progress.reportInterval":        "250ms", // see call.giveUp
		"spark.sql.csv.parser.columnPruning.enabled":   "false", // else a row with too few fields passes unnoticed
	}
	for k, v := range s.opt.Conf {
		conf[k] = v
	}
	return s.SetConf(ctx, conf)
}

// SetConf changes settings of the session.
func (s *Session) SetConf(ctx context.Context, conf map[string]string) error {
	req := s.request("ConfigRequest")
	set := req.in("operation.set")
	for k, v := range conf {
		set.add("pairs").set("key", k).set("value", v)
	}
	return s.unary(ctx, "Config", "settings of the session", req, newMessage("ConfigResponse"))
}

// ID is the session's id. A process that dials with ;session_id=ID shares the session.
func (s *Session) ID() string { return s.id }

// Version is the server's version, for example 4.0.1.
func (s *Session) Version() string { return s.version }

// Remote is the server's address without the token.
func (s *Session) Remote() string { return s.remote.String() }

// Close releases the session on the server when Dial made it, and closes the connection. It may be called twice.
func (s *Session) Close() error {
	if s.own {
		ctx, cancel := context.WithTimeout(context.Background(), detachedTimeout)
		defer cancel()
		// Servers before 4.0 do not know the call, a server that is gone has no session: neither matters here.
		_, _ = s.raw(ctx, "ReleaseSession", s.identity())
	}
	if err := s.conn.Close(); err != nil && status.Code(err) != codes.Canceled {
		return &pipeline.Error{Kind: pipeline.Internal, Message: "closing the connection to " + s.remote.String(), Err: err}
	}
	return nil
}

// Interrupt stops the operations of this session that carry the tag, whoever started them, and gives their ids.
func (s *Session) Interrupt(ctx context.Context, tag string) ([]string, error) {
	req := s.request("InterruptRequest")
	req.setEnum("interrupt_type", "INTERRUPT_TYPE_TAG").set("operation_tag", tag)
	rep := newMessage("InterruptResponse")
	if err := s.unary(ctx, "Interrupt", "interrupting "+tag, req, rep); err != nil {
		return nil, err
	}
	var ids []string
	l := rep.Get(rep.field("interrupted_ids")).List()
	for i := range l.Len() {
		ids = append(ids, l.Get(i).String())
	}
	return ids, nil
}

func (s *Session) clientType() string {
	if s.remote.UserAgent != "" {
		return s.remote.UserAgent
	}
	return "dkpipe"
}

// request is a message with session and user filled in.
func (s *Session) request(name string) message {
	m := newMessage(name).set("session_id", s.id).set("client_type", s.clientType())
	m.in("user_context").set("user_id", s.remote.UserID)
	return m
}

// identity is the encoded beginning of every request that this protocol version does not have as a message.
func (s *Session) identity() []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendString(b, s.id)
	user := protowire.AppendTag(nil, 1, protowire.BytesType)
	user = protowire.AppendString(user, s.remote.UserID)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, user)
}

// raw calls a method with encoded messages.
func (s *Session) raw(ctx context.Context, method string, body []byte) ([]byte, error) {
	in, out := &emptypb.Empty{}, &emptypb.Empty{}
	in.ProtoReflect().SetUnknown(body)
	if err := s.conn.Invoke(ctx, service+method, in, out); err != nil {
		return nil, err
	}
	return out.ProtoReflect().GetUnknown(), nil
}

// unary calls a method that may be repeated, until the connection is repaired or patience ends.
func (s *Session) unary(ctx context.Context, method, what string, req, rep message) error {
	wait := newBackoff(s.patience)
	for {
		err := s.conn.Invoke(ctx, service+method, req.wire(), rep.wire())
		if err == nil {
			return s.sameServer(rep)
		}
		if status.Code(err) != codes.Unavailable || !wait.pause(ctx, err) {
			return s.fail(ctx, what, err)
		}
		proto.Reset(rep.wire())
	}
}

// serverSessionID is the field of answers that names the session on the server, from Spark 4.0 on.
const serverSessionID = 15

// sameServer fails when the server was restarted since the session began: views and cached tables are gone then.
func (s *Session) sameServer(rep message) error {
	id := rep.unknown(serverSessionID)
	if id == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == "" {
		s.server = id
	}
	if s.server != id {
		return &pipeline.Error{Kind: pipeline.Unreachable, Message: "Spark at " + s.remote.String() + " was restarted: the session's views and cached tables are gone",
			Hint: "run again"}
	}
	return nil
}

// backoff waits longer and longer until its patience ends.
type backoff struct {
	patience, next time.Duration
	since          time.Time
}

func newBackoff(patience time.Duration) *backoff { return &backoff{patience: patience} }

// reset begins anew after progress.
func (b *backoff) reset() { b.since, b.next = time.Time{}, 0 }

// refusedPatience is how long a port that refuses connections is asked again. Nothing runs behind it, and a server that
// is started there anew knows nothing of what went on; only a proxy that restarts is worth waiting for.
const refusedPatience = 15 * time.Second

// pause waits after err; it gives false when the context or the patience is over.
func (b *backoff) pause(ctx context.Context, err error) bool {
	if b.since.IsZero() {
		b.since, b.next = time.Now(), 25*time.Millisecond
	}
	patience := b.patience
	if strings.Contains(err.Error(), "connection refused") {
		patience = min(patience, refusedPatience)
	}
	if time.Since(b.since)+b.next > patience {
		return false
	}
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(2*b.next, 5*time.Second)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
