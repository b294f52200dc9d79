package sparkconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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

	id        string // for FetchErrorDetails
	statement string // that went wrong, or empty
	line, pos int    // what the text says about the place in the statement: line from 1, character from 0
	place     string // in what a person has written, or empty
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
	fragment := cut(strings.Join(strings.Fields(e.Fragment), " "), 80)
	switch {
	case e.place != "" && fragment != "":
		s += fmt.Sprintf(" (%s: %s)", e.place, fragment)
	case e.place != "":
		s += " (" + e.place + ")"
	case fragment != "":
		s += " (at: " + fragment + ")"
	}
	return s
}

// InSource reports whether the error is about the text of the source: its message says where in that.
func (e *ServerError) InSource() bool { return e.place != "" }

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
	placeInText = regexp.MustCompile(`(?s);? \(?line (\d+),? pos (\d+)(\)|;?$|;\n.*)`)
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
	for _, mark := range []string{"\n\tat ", "\n\nJVM stacktrace", "\nDriver stacktrace", "\n== SQL", "\n;", "\ndata: ", "; For more details see:"} {
		if i := strings.Index(text, mark); i >= 0 {
			text = text[:i]
		}
	}
	text = strings.TrimSpace(text)
	if m := placeInText.FindStringSubmatchIndex(text); m != nil {
		e.line, _ = strconv.Atoi(text[m[2]:m[3]])
		e.pos, _ = strconv.Atoi(text[m[4]:m[5]])
		text = text[:m[0]]
	}
	if e.Class != "" { // what follows the first line is general advice and Spark's own plan
		text, _, _ = strings.Cut(text, "\n")
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
		java, class, state, message, fragment string
		start                                 int
	}
	var chain []link
	fields(answer, func(n protowire.Number, v []byte) {
		if n != 2 {
			return
		}
		var l link
		fields(v, func(n protowire.Number, v []byte) {
			switch n {
			case 1:
				if l.java == "" { // its super-classes follow
					l.java = string(v)
				}
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
		if i > 0 && ofStore(l.java, l.message) { // so does what the file system says
			e.Message, _, _ = strings.Cut(l.message, "\n")
			e.Reason, e.Class, e.SQLState = l.java, "", ""
			break
		}
		if e.Fragment == "" && l.fragment != "" {
			e.Fragment, e.Start = l.fragment, l.start
		}
	}
	e.tidy()
}

// ofStore tells whether a cause of an error is what the file system said, which matters more than which task met it.
func ofStore(java, message string) bool {
	switch java[strings.LastIndexByte(java, '.')+1:] {
	case "AccessControlException", "SafeModeException", "StandbyException", "DSQuotaExceededException", "NSQuotaExceededException",
		"QuotaByStorageTypeExceededException", "NoRouteToHostException", "UnknownHostException", "ConnectException":
		return true
	}
	return denied.MatchString(message) || strings.Contains(message, lostInCall) || strings.Contains(message, "No space left on device")
}

// lostInCall is how Hadoop's client says that the server closed the connection in a call.
const lostInCall = "End of File Exception between local host"

// withStatement gives an error of Spark the SQL text that it is about.
func withStatement(err error, plan message) error {
	var e *ServerError
	if errors.As(err, &e) && e.statement == "" {
		e.statement = statementOf(plan)
	}
	return err
}

// statementOf finds the SQL text in a plan; empty: there is none.
func statementOf(plan message) string {
	if root, ok := plan.has("root"); ok {
		return queryOf(root)
	}
	command, _ := plan.has("command")
	switch command.choice("command_type") {
	case "sql_command":
		sql, _ := command.has("sql_command")
		return sql.str("sql")
	case "write_operation", "create_dataframe_view":
		inner, _ := command.has(command.choice("command_type"))
		if input, ok := inner.has("input"); ok {
			return queryOf(input)
		}
	}
	return ""
}

func queryOf(relation message) string {
	if sql, ok := relation.has("sql"); ok {
		return sql.str("query")
	}
	return ""
}

// locate says where in text, which a person has written in the field, an error about a statement with it is.
func locate(err error, field, text string) {
	var e *ServerError
	if text == "" || !errors.As(err, &e) || e.place != "" {
		return
	}
	at := e.offset(text)
	if at < 0 {
		return
	}
	before := text[:at]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	e.place = fmt.Sprintf("%s, line %d, column %d", field, line, column)
}

// offset gives the byte in text where the error is, or -1. The text stands somewhere in the statement, or the statement
// is gone (a view's) and the wrong fragment is found by its words.
func (e *ServerError) offset(text string) int {
	at := -1 // in bytes of the statement
	switch {
	case e.statement == "":
	case e.Fragment != "":
		at = runeOffset(e.statement, e.Start)
		if at >= 0 && !strings.HasPrefix(e.statement[at:], e.Fragment) {
			at = -1
		}
	case e.line > 0:
		start := 0
		for range e.line - 1 {
			n := strings.IndexByte(e.statement[start:], '\n')
			if n < 0 {
				return -1
			}
			start += n + 1
		}
		if n := runeOffset(e.statement[start:], e.pos); n >= 0 {
			at = start + n
		}
	}
	for from := 0; at >= 0; {
		n := strings.Index(e.statement[from:], text)
		if n < 0 || from+n > at {
			break
		}
		if from += n; at <= from+len(text) {
			return at - from
		}
		from++
	}
	if n := strings.Index(text, e.Fragment); e.Fragment != "" && n >= 0 && n == strings.LastIndex(text, e.Fragment) {
		return n
	}
	return -1
}

// runeOffset gives the byte where character n begins, or -1.
func runeOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	if n == 0 {
		return len(s)
	}
	return -1
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
	case has("SafeModeException", "Name node is in safe mode"):
		return pipeline.Unreachable, "the file system is in safe mode and takes no changes: wait, or look with hdfs dfsadmin -safemode get"
	case has("java.net.ConnectException", "NoRouteToHostException", "UnknownHostException", "StandbyException", lostInCall):
		return pipeline.Unreachable, "Spark cannot reach the file system, or it was restarted: look whether it runs, and run again"
	case has("DSQuotaExceeded", "DiskSpace quota"):
		return pipeline.NoSpace, "the quota of space is used up: raise it (hdfs dfsadmin -setSpaceQuota), keep fewer versions, or write elsewhere"
	case has("NSQuotaExceeded", "NameSpace quota"):
		return pipeline.NoSpace, "the quota of names is used up: raise it (hdfs dfsadmin -setQuota), keep fewer versions, or write elsewhere"
	case has("No space left on device", "DiskChecker"):
		return pipeline.NoSpace, "free space on the store that Spark writes to"
	case e.is("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER", "CANNOT_MERGE_SCHEMAS"), has("is not a Parquet file", "ParquetDecodingException"):
		return pipeline.Corrupt, "read the file with another program; write it again if that fails too"
	case has("FileNotFoundException", "FILE_NOT_EXIST"):
		return pipeline.Changed, "a file vanished while it was read; run again"
	case e.is("MALFORMED_RECORD_IN_PARSING", "MALFORMED_CSV_RECORD", "INVALID_JSON_RECORD"):
		return pipeline.Data, "correct the row"
	case strings.HasPrefix(e.SQLState, "22"):
		return pipeline.Data, "correct the value, or filter the row out"
	case strings.HasPrefix(e.SQLState, "42"), e.is("PARSE_SYNTAX_ERROR", "DATATYPE_MISMATCH", "PATH_ALREADY_EXISTS"):
		return pipeline.BadSpec, "correct the statement"
	case e.Code == codes.InvalidArgument:
		return pipeline.BadSpec, ""
	}
	return pipeline.Data, "look into the log of the Spark server"
}

// grpcWords are what gRPC puts round the cause of a connection's end.
var grpcWords = regexp.MustCompile(`^connection error: desc = ("(?:[^"\\]|\\.)*")$`)

// plain takes the words of gRPC and of the network library off the cause of a connection's end.
func plain(text string) string {
	if m := grpcWords.FindStringSubmatch(text); m != nil {
		if inner, err := strconv.Unquote(m[1]); err == nil {
			text = inner
		}
	}
	for _, prefix := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if _, after, ok := strings.Cut(text, ": connect: "); ok && strings.HasPrefix(text, "dial ") {
		return after // the address is in the message already
	}
	if strings.HasSuffix(text, ": no such host") {
		return "no such host" // the name server's address helps nobody
	}
	return strings.TrimPrefix(text, "dial tcp: ")
}

// unreachable says what most likely keeps the server from answering.
func (s *Session) unreachable(what string, e *ServerError, hint string) error {
	text := e.Message
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
	}
	switch {
	case hint != "":
	case has("HTTP/1.1 header", "unexpected HTTP status code", "received HTTP status", "HTTP/1.x transport"):
		hint = "a web server answers there; the port of Spark Connect is 15002 unless it was changed"
	case has("first record does not look like a TLS handshake"):
		hint = "the server speaks plaintext: leave use_ssl=true out, or use the port of its TLS proxy"
	case has("application protocol"):
		hint = "what answers there speaks TLS but no HTTP/2, so it is no Spark Connect server; check the port"
	case has("remote error: tls: certificate required", "remote error: tls: bad certificate", "remote error: tls: unknown certificate"):
		hint = "the server wants a client certificate that it knows: name the PEM files in spark.cert and spark.key (or SPARK_REMOTE_CERT and SPARK_REMOTE_KEY)"
	case has("certificate"):
		hint = "the server's certificate is not trusted: name its authority's PEM file in spark.ca (or SPARK_REMOTE_CA), or add it to the system"
	case has("use of closed network connection", "i/o timeout", "no answer within"):
		hint = "something took the connection and said nothing: the server may be starting or overloaded, or the port is another program's"
	case !s.remote.TLS && has("server preface", "frame too large", "not a settings frame", "EOF", "broken pipe", "connection reset") && s.version == "":
		hint = "what answers there is no plaintext Spark Connect server: check the port (15002 unless it was changed); if it speaks TLS, add ;use_ssl=true"
	case has("connection refused") && s.version != "":
		hint = "the server ended or was stopped: look into its log, start it, and run again"
	case has("connection refused"):
		hint = "start the server, or check host and port; the port of Spark Connect is 15002 unless it was changed"
	case has("no such host", "produced zero addresses"):
		hint = "check the spelling of the host"
	default:
		hint = "check host, port and firewall; dkpipe doctor looks at them"
	}
	message := what + ": Spark at " + s.remote.String() + " does not answer"
	if strings.Contains(hint, "file system") {
		message = what
	}
	e.Message = plain(e.Message)
	return &pipeline.Error{Kind: pipeline.Unreachable, Message: message, Hint: hint, Err: e}
}

func unsupported(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf(format, a...), Hint: hint}
}
