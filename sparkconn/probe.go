package sparkconn

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"dkpipe/pipeline"

	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// This file asks a server small things before a job trusts it with large ones. Each takes one operation of a row or
// none at all.

// Conf gives settings of the session, by name; what is not set is left out.
func (s *Session) Conf(ctx context.Context, keys ...string) (map[string]string, error) {
	req := s.request("ConfigRequest")
	req.in("operation.get_option").append("keys", keys...)
	rep := newMessage("ConfigResponse")
	if err := s.unary(ctx, "Config", "settings of the session", req, rep); err != nil {
		return nil, err
	}
	conf := map[string]string{}
	list := rep.Get(rep.field("pairs")).List()
	for i := range list.Len() {
		p := message{list.Get(i).Message()}
		if p.Has(p.field("value")) {
			conf[p.str("key")] = p.str("value")
		}
	}
	return conf, nil
}

// HasAvro tells whether the server has spark-avro, with which vectors are packed so that they can be read twice as fast.
func (s *Session) HasAvro(ctx context.Context) (bool, error) {
	r := &run{s: s, tag: "dkpipe-" + uuid.NewString()}
	return r.hasAvro(ctx)
}

// Now is the clock of Spark's driver.
func (s *Session) Now(ctx context.Context) (time.Time, error) {
	t, err := s.table(ctx, "asking for the time", "", "SELECT unix_micros(current_timestamp())")
	if err != nil {
		return time.Time{}, err
	}
	if t.rows != 1 {
		return time.Time{}, internalErr("Spark gives no time")
	}
	return time.UnixMicro(t.cols[0].ints[0]), nil
}

// StoreUser is the name by which HDFS knows Spark. It need not be the user of the session, who is one for Spark alone.
// Servers may forbid the function that tells it; the error is then of kind Unsupported.
func (s *Session) StoreUser(ctx context.Context) (string, error) {
	t, err := s.table(ctx, "asking for Spark's user", "", "SELECT reflect('org.apache.hadoop.security.UserGroupInformation', 'getCurrentUser')")
	var said *ServerError
	if errors.As(err, &said) && ctx.Err() == nil && kindOf(err) != pipeline.Unreachable {
		return "", unsupported("", "Spark does not tell its user: %s", cut(said.Message, 200))
	}
	if err != nil {
		return "", err
	}
	if t.rows != 1 || t.cols[0].null[0] {
		return "", unsupported("", "Spark does not tell its user")
	}
	name, _, _ := strings.Cut(t.cols[0].texts[0], " ") // "spark (auth:SIMPLE)"
	return name[:strings.IndexAny(name+"@", "/@")], nil
}

// probePart names the folder below stageURI + "/data" in which ProbeWrite leaves its file.
const probePart = "probe"

// ProbeWrite has Spark write one row below stageURI in the way in which Write does: a task, a file, a folder of a part.
func (s *Session) ProbeWrite(ctx context.Context, stageURI string) error {
	return s.probe(ctx, stageURI, "trying to write", "SAVE_MODE_ERROR_IF_EXISTS", "")
}

// ProbeClear has Spark remove what ProbeWrite left: only empty folders stay, which whoever owns stageURI can remove.
func (s *Session) ProbeClear(ctx context.Context, stageURI string) error {
	return s.probe(ctx, stageURI, "clearing up after a try", "SAVE_MODE_OVERWRITE", " WHERE false")
}

func (s *Session) probe(ctx context.Context, uri, what, mode, where string) error {
	p := newMessage("Plan")
	w := p.in("command.write_operation").set("source", "parquet").set("path", stageFolder(pipeline.Stage{URI: uri})).setEnum("mode", mode)
	sqlRelation(w.in("input"), "SELECT id, '"+probePart+"' AS "+partColumn+" FROM range(0, 1, 1, 1)"+where)
	w.append("partitioning_columns", partColumn)
	w.put("options", map[string]string{"compression": "none", "partitionOverwriteMode": "static", "mapreduce.fileoutputcommitter.marksuccessfuljobs": "false"})
	return s.execute(ctx, what, "dkpipe-"+uuid.NewString(), p, func(message) error { return nil })
}

// ProbeRead has Spark open files and read the beginning of one of them. A path may be a folder or a glob, as in a source.
func (s *Session) ProbeRead(ctx context.Context, paths ...string) error {
	p := newMessage("Plan")
	limit := p.in("root.limit")
	limit.Set(limit.field("limit"), protoreflect.ValueOfInt32(1))
	ds := limit.in("input.read.data_source").set("format", "text")
	for _, f := range paths {
		ds.append("paths", sparkPath(f))
	}
	return s.execute(ctx, "source", "dkpipe-"+uuid.NewString(), p, func(message) error { return nil })
}

// Denial is what HDFS said when it refused Spark's user something.
type Denial struct {
	User   string // whom HDFS takes Spark for
	Access string // READ, WRITE, EXECUTE (to enter a folder), or several, such as READ_EXECUTE
	Path   string // where the right is missing: often a folder above the one that was asked for
	Rights string // of that, as HDFS prints them: owner:group:drwxr-x---
}

var denied = regexp.MustCompile(`Permission denied: user=([^,\s]+), access=([A-Z_]+), inode="([^"]*)":(\S+)`)

// DenialOf finds what HDFS said in an error of an operation.
func DenialOf(err error) (Denial, bool) {
	if err == nil {
		return Denial{}, false
	}
	m := denied.FindStringSubmatch(err.Error())
	if m == nil {
		return Denial{}, false
	}
	return Denial{User: m[1], Access: m[2], Path: m[3], Rights: strings.TrimRight(m[4], ".,;:")}, true
}

// Caller is one task that tried to connect back.
type Caller struct {
	Host string // the executor's, as it names itself
	OK   bool
}

// ConnectBack has tasks of Spark open a TCP connection to address (host:port) and send word and a line feed on it. It
// is done by a line of shell, which some servers forbid: then the error is of kind Unsupported. host and word must be
// plain: letters, digits, and . : - for the host.
func (s *Session) ConnectBack(ctx context.Context, host string, port, tasks int, word string) ([]Caller, error) {
	if !plainHost.MatchString(host) || !plainWord.MatchString(word) {
		return nil, internalErr("an address that is none: %q", host)
	}
	// The shell's own /dev/tcp needs no program; timeout, where there is one, bounds a network that says nothing.
	script := fmt.Sprintf(`h=$(hostname); t=; command -v timeout >/dev/null && t="timeout 5"; while read n; do `+
		`if $t bash -c "exec 3<>/dev/tcp/%s/%d && echo %s >&3" 2>/dev/null; then echo $h ok; else echo $h no; fi; done`, host, port, word)
	const format = ` ROW FORMAT DELIMITED FIELDS TERMINATED BY ' ' `
	sql := fmt.Sprintf("SELECT TRANSFORM(id)%sUSING '%s' AS (host STRING, answer STRING)%sFROM range(0, %d, 1, %[4]d)", format, script, format, tasks)
	tag := "dkpipe-" + uuid.NewString()
	t, err := s.table(ctx, "asking executors to connect", tag, sql)
	var said *ServerError
	if errors.As(err, &said) && ctx.Err() == nil && kindOf(err) != pipeline.Unreachable {
		return nil, unsupported("", "this server does not run SELECT TRANSFORM: %s", cut(said.Message, 200))
	}
	if err != nil {
		return nil, err
	}
	var callers []Caller
	for i := range t.rows {
		if len(t.cols) == 2 && !t.cols[1].null[i] {
			callers = append(callers, Caller{Host: t.cols[0].texts[i], OK: t.cols[1].texts[i] == "ok"})
		}
	}
	return callers, nil
}

var (
	plainHost = regexp.MustCompile(`^[A-Za-z0-9.:-]+$`)
	plainWord = regexp.MustCompile(`^[A-Za-z0-9]+$`)
)
