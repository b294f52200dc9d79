package sparkconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"dkpipe/pipeline"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// ServerError is what Spark said about a failed operation. It is the cause inside a *pipeline.Error, which holds the
// kind and the next step: errors.As finds both.
type ServerError struct {
	Code       codes.Code
	Class      string            // Spark's error class, for example UNRESOLVED_COLUMN.WITH_SUGGESTION; empty for job failures
	SQLState   string            // for example 42703
	Reason     string            // the Java class
	Message    string            // the first line, whole
	Parameters map[string]string // of the error class
	Fragment   string            // the part of the statement that is wrong, or empty
	Start      int               // where Fragment begins in the statement, in characters from 0

	id string // for FetchErrorDetails
}

// Error gives the message with class and state.
func (e *ServerError) Error() string {
	s := e.Message
	if e.Class != "" && !strings.Contains(s, e.Class) {
		s = "[" + e.Class + "] " + s
	}
	if e.SQLState != "" && !strings.Contains(s, "SQLSTATE") {
		s += " SQLSTATE: " + e.SQLState
	}
	if e.Fragment != "" {
		s += fmt.Sprintf(" (at character %d of the statement: %s)", e.Start, cut(e.Fragment, 80))
	}
	return s
}

// is reports whether the class is one of those, or a sub-class.
func (e *ServerError) is(classes ...string) bool {
	for _, c := range classes {
		if e.Class == c || strings.HasPrefix(e.Class, c+".") {
			return true
		}
	}
	return false
}

// cut shortens a text for a message.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// maxMessage is the number of characters of a server's message that are kept.
const maxMessage = 2000

// classInText finds the class that Spark puts in front of its messages, also where the structured one is missing.
var (
	classInText = regexp.MustCompile(`\[([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)*)\]`)
	stateInText = regexp.MustCompile(`SQLSTATE: ([0-9A-Z]{5})`)
)

// parse reads a gRPC error.
func parse(err error) *ServerError {
	st := status.Convert(err)
	e := &ServerError{Code: st.Code(), Message: st.Message()}
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		meta := info.GetMetadata()
		e.Class, e.SQLState, e.Reason, e.id = meta["errorClass"], meta["sqlState"], info.GetReason(), meta["errorId"]
		// Parameters that are cut off by the server's limit on metadata are left out.
		_ = json.Unmarshal([]byte(meta["messageParameters"]), &e.Parameters)
	}
	e.tidy()
	return e
}

// tidy fills what only the text tells and shortens the text to its first lines.
func (e *ServerError) tidy() {
	if m := classInText.FindStringSubmatch(e.Message); m != nil && e.Class == "" {
		e.Class = m[1]
	}
	if m := stateInText.FindStringSubmatch(e.Message); m != nil && e.SQLState == "" {
		e.SQLState = m[1]
	}
	text := e.Message
	for _, mark := range []string{"\n\tat ", "\n\nJVM stacktrace", "\nDriver stacktrace", "\n== SQL", "\n;", "\ndata: "} {
		if i := strings.Index(text, mark); i >= 0 {
			text = text[:i]
		}
	}
	e.Message = cut(strings.TrimSpace(text), maxMessage)
}

// details asks the server for the whole text of an error and for its place in the statement: what came with the
// error itself is cut at 2 KiB. Servers before Spark 4.0 do not know the call; then the error stays as it is.
func (s *Session) details(ctx context.Context, e *ServerError) {
	if e.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	body := s.identity()
	body = protowire.AppendTag(body, 3, protowire.BytesType)
	body = protowire.AppendString(body, e.id)
	answer, err := s.raw(ctx, "FetchErrorDetails", body)
	if err != nil {
		return
	}
	type link struct {
		class, state, message, fragment string
		start                           int
	}
	var chain []link
	fields(answer, func(n protowire.Number, v []byte) {
		if n != 2 {
			return
		}
		var l link
		fields(v, func(n protowire.Number, v []byte) {
			switch n {
			case 2:
				l.message = string(v)
			case 5:
				fields(v, func(n protowire.Number, v []byte) {
					switch n {
					case 1:
						l.class = string(v)
					case 3:
						fields(v, func(n protowire.Number, v2 []byte) {
							if n == 5 {
								l.fragment, l.start = string(v2), number(v, 3)
							}
						})
					case 4:
						l.state = string(v)
					}
				})
			}
		})
		chain = append(chain, l)
	})
	for i, l := range chain {
		if i == 0 && l.message != "" {
			e.Message = l.message
		}
		if e.Class == "" && l.class != "" || strings.HasPrefix(l.class, "MALFORMED_") { // says more than that a file cannot be read
			e.Class, e.SQLState = l.class, l.state
			if i > 0 && l.message != "" {
				e.Message = l.message
			}
		}
		if e.Fragment == "" && l.fragment != "" {
			e.Fragment, e.Start = l.fragment, l.start
		}
	}
	e.tidy()
}

// fail turns whatever a call came back with into an error with a kind. what names the call.
func (s *Session) fail(ctx context.Context, what string, err error) error {
	var mine interface{ ErrorKind() string }
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ended(ctx, what+" on "+s.remote.String())
	case errors.As(err, &mine):
		return err
	}
	e := parse(err)
	s.details(ctx, e)
	kind, hint := classify(e)
	if kind == pipeline.Unreachable {
		return s.unreachable(what, e, hint)
	}
	return &pipeline.Error{Kind: kind, Message: what, Hint: hint, Err: e}
}

// ended is the error of a context that is over; it is context.Canceled or context.DeadlineExceeded by errors.Is.
func ended(ctx context.Context, what string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &pipeline.Error{Kind: pipeline.Timeout, Message: what, Hint: "allow more time", Err: joinCause(ctx)}
	}
	return &pipeline.Error{Kind: pipeline.Interrupted, Message: what, Err: joinCause(ctx)}
}

func joinCause(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, ctx.Err()) {
		return cause
	}
	return errors.Join(ctx.Err(), cause)
}

// classify gives the kind of a server's error and the next step.
func classify(e *ServerError) (pipeline.Kind, string) {
	text := e.Message
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) || strings.Contains(e.Reason, p) {
				return true
			}
		}
		return false
	}
	switch e.Code {
	case codes.Unauthenticated:
		return pipeline.Denied, "put the server's token into spark.remote: ;token=…"
	case codes.PermissionDenied:
		return pipeline.Denied, "ask for the right to use this Spark server"
	case codes.DeadlineExceeded:
		return pipeline.Timeout, "allow more time, or look at what keeps the server busy"
	case codes.Unavailable:
		return pipeline.Unreachable, ""
	case codes.Unimplemented:
		return pipeline.Unsupported, "use Spark 3.5 or later"
	}
	switch {
	case has("maxResultSize"):
		return pipeline.BadSpec, "use more shards (dataset.shards), so that one is smaller, or raise spark.driver.maxResultSize on the server"
	case e.Code == codes.ResourceExhausted:
		return pipeline.BadSpec, "use smaller batches or more shards"
	case e.is("UNRESOLVED_COLUMN", "COLUMN_NOT_FOUND", "COLUMN_NOT_DEFINED_IN_TABLE", "UNRESOLVED_FIELD"):
		return pipeline.MissingColumn, "check the column's name"
	case e.is("PATH_NOT_FOUND"):
		return pipeline.Data, "check the path in source; it must be visible to Spark's executors, for example hdfs://namenode:8020/data.csv"
	case e.is("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"):
		return pipeline.BadSpec, "check the name in source.table or source.sql; SHOW TABLES lists what there is"
	case e.is("OPERATION_CANCELED") || e.SQLState == "HY008":
		return pipeline.Interrupted, "somebody interrupted the operation on the server"
	case has("AccessControlException", "Permission denied", "PERMISSION_DENIED", "INSUFFICIENT_PERMISSIONS"):
		return pipeline.Denied, "Spark's own user needs the right; it may be another one than yours"
	case has("java.net.ConnectException", "NoRouteToHostException", "UnknownHostException", "SafeModeException"):
		return pipeline.Unreachable, "Spark cannot reach the file system"
	case has("DSQuotaExceeded", "NSQuotaExceeded", "No space left on device", "DiskChecker"):
		return pipeline.NoSpace, "free space on the store that Spark writes to"
	case e.is("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER", "CANNOT_MERGE_SCHEMAS"), has("is not a Parquet file", "ParquetDecodingException"):
		return pipeline.Corrupt, "read the file with another program; write it again if that fails too"
	case has("FileNotFoundException", "FILE_NOT_EXIST"):
		return pipeline.Changed, "a file vanished while it was read; run again"
	case e.is("MALFORMED_RECORD_IN_PARSING", "MALFORMED_CSV_RECORD", "INVALID_JSON_RECORD"):
		return pipeline.Data, "correct the row"
	case strings.HasPrefix(e.SQLState, "22"):
		return pipeline.Data, "correct the value, or filter the row out"
	case strings.HasPrefix(e.SQLState, "42"), e.is("PARSE_SYNTAX_ERROR", "DATATYPE_MISMATCH"):
		return pipeline.BadSpec, "correct the statement"
	case e.Code == codes.InvalidArgument:
		return pipeline.BadSpec, ""
	}
	return pipeline.Data, "look into the log of the Spark server"
}

// unreachable says what most likely keeps the server from answering.
func (s *Session) unreachable(what string, e *ServerError, hint string) error {
	text := e.Message
	switch {
	case hint != "":
	case strings.Contains(text, "HTTP/1.1 header"), strings.Contains(text, "unexpected HTTP status code"), strings.Contains(text, "received HTTP status"), strings.Contains(text, "HTTP/1.x transport"):
		hint = "a web server answers there; the port of Spark Connect is 15002 unless it was changed"
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		hint = "the server speaks plaintext: leave use_ssl=true out, or use the port of its TLS proxy"
	case strings.Contains(text, "application protocol"):
		hint = "what answers there speaks TLS but no HTTP/2, so it is no Spark Connect server; check the port"
	case strings.Contains(text, "certificate"):
		hint = "the server's certificate is not trusted: add its authority to the system, or pass Options.TLS"
	case strings.Contains(text, "use of closed network connection"), strings.Contains(text, "i/o timeout"), strings.Contains(text, "no answer within"):
		hint = "something took the connection and said nothing: the server may be starting or overloaded, or the port is another program's"
	case !s.remote.TLS && (strings.Contains(text, "server preface") || strings.Contains(text, "frame too large") || strings.Contains(text, "EOF")):
		hint = "what answers there is no plaintext Spark Connect server; if it speaks TLS, add ;use_ssl=true"
	case strings.Contains(text, "connection refused"):
		hint = "start the server, or check host and port; the port of Spark Connect is 15002 unless it was changed"
	case strings.Contains(text, "no such host"), strings.Contains(text, "produced zero addresses"):
		hint = "check the spelling of the host"
	default:
		hint = "check host, port and firewall; dkpipe doctor looks at them"
	}
	message := what + ": Spark at " + s.remote.String() + " does not answer"
	if strings.Contains(hint, "file system") {
		message = what
	}
	return &pipeline.Error{Kind: pipeline.Unreachable, Message: message, Hint: hint, Err: e}
}

func unsupported(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf(format, a...), Hint: hint}
}
