package sparkconn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"dkpipe/pipeline"
)

// Program is something that Launch runs in Spark's executors. It must read its standard input for all of its life and
// end soon after that ends, or after SIGTERM; until then it must live, also when it has nothing left to do. What it
// writes to standard output is thrown away; the end of standard error becomes the error when it fails. Spark looks at
// the exit status before it has read the rest of standard error, so a program that fails lives on for Linger after its
// last words.
type Program struct {
	Binary string // a local file, of the executors' system and architecture
	// Args are its arguments. They stand in the statement, which others can read: no secrets. A word {file:NAME} becomes
	// the path of a file of Files.
	Args []string
	// Files are small files that the processes of this session are given. Whoever may read the executors' working
	// directories can read them.
	Files map[string][]byte
}

// Linger is how long a program waits between its last words and its end, so that Spark hears them.
const Linger = time.Second

// LaunchConf are the settings that a session for Launch has to be dialled with. Within generated code Spark does not
// look whether a task was cancelled.
func LaunchConf() map[string]string {
	return map[string]string{"spark.sql.codegen.wholeStage": "false"}
}

// chunkBytes is the size of the pieces in which files are sent.
const chunkBytes = 1 << 20

// heartbeatMS is how often a row goes to a program's standard input, heartbeatBytes how long it is: Spark's buffer, so that
// each row is written at once.
const (
	heartbeatMS    = 500
	heartbeatBytes = 8200
	heartbeatRows  = 10_000_000 // for each task: 57 days
)

// word is what may stand between double quotes in a shell line.
var word = regexp.MustCompile(`^[][A-Za-z0-9_./:=,@%+-]+$`)

// Installed is a Program whose files are where executors find them.
type Installed struct {
	s      *Session
	script string
}

// Install sends what a program needs to the server. The server keeps it until the session ends.
func (s *Session) Install(ctx context.Context, p Program) (*Installed, error) {
	// The first answer to a statement names the session as the server does.
	if err := s.Query(ctx, "", "SELECT 1", func(arrow.RecordBatch) error { return nil }); err != nil {
		return nil, err
	}
	if s.serverID() == "" {
		return nil, unsupported("use Spark 4.0 or later", "Spark %s does not say where it puts the files of a session", s.version)
	}
	sum, err := sumFile(p.Binary)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for name, content := range p.Files {
		hash := sha256.Sum256(content)
		at := name + "-" + hex.EncodeToString(hash[:8])
		if err := s.sendFile(ctx, at, int64(len(content)), strings.NewReader(string(content))); err != nil {
			return nil, err
		}
		paths[name] = s.artifact(at)
	}
	name := "dkpipe-" + sum[:16]
	if err := s.sendBinary(ctx, name, p.Binary); err != nil {
		return nil, err
	}
	script, err := shellLine(s.artifact(name), sum, p.Args, paths)
	return &Installed{s: s, script: script}, err
}

// artifact is the path of a session's file in the working directory of its tasks.
func (s *Session) artifact(name string) string { return "./" + s.serverID() + "/" + name }

// serverID is the session's id on the server, empty where the server does not tell.
func (s *Session) serverID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// shellLine checks the program and becomes it. Executors fetch it once each.
func shellLine(binary, sum string, args []string, files map[string]string) (string, error) {
	linger := fmt.Sprintf("sleep %.0f; ", Linger.Seconds())
	line := []string{"shopt -s execfail; b=" + binary + ";", // Spark's shell is bash
		"echo \"" + sum + "  $b\" | sha256sum -c --status 2>/dev/null ||",
		"{ echo \"dkpipe: $b is not the program that was installed\" >&2; " + linger + "exit 90; };",
		"exec $b"}
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "{file:"); ok {
			a = files[strings.TrimSuffix(name, "}")]
		}
		if !word.MatchString(a) {
			return "", &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the argument %q of a program for executors", a)}
		}
		line = append(line, `"`+a+`"`)
	}
	return strings.Join(line, " ") + "; e=$?; " + linger + "exit $e", nil // when it cannot be run, being of another system
}

// statement runs the program once in each of n tasks. Its output has no rows.
func (p *Installed) statement(n int) string {
	const format = `ROW FORMAT DELIMITED FIELDS TERMINATED BY '\t'`
	return fmt.Sprintf("SELECT TRANSFORM(rank, beat) %[1]s USING %[2]s AS (line STRING) %[1]s FROM ("+
		"SELECT CAST(id DIV %[4]d AS INT) AS rank, concat(coalesce(java_method('java.lang.Thread', 'sleep', %[5]dL), ''), repeat('.', %[6]d)) AS beat "+
		"FROM range(0, %[3]d, 1, %[7]d))",
		format, quoteText(p.script), int64(n)*heartbeatRows, heartbeatRows, heartbeatMS, heartbeatBytes, n)
}

// interruptTime bounds how long Launch waits for its job to end.
const interruptTime = 10 * time.Second

// Launch runs the program in n tasks, as many at a time as executors have room, until ctx ends: then the job is
// interrupted, the programs are gone within moments, and Launch gives nil. Spark starts a program again that fails or
// loses its executor, some times. Any other end of the job is an error: Interrupted when somebody else stopped it. tag
// names the job; Session.Interrupt ends it too.
func (p *Installed) Launch(ctx context.Context, tag string, n int) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended, atWork := make(chan error, 1), make(chan struct{})
	works := sync.OnceFunc(func() { close(atWork) })
	go func() {
		ended <- p.s.execute(running, "workers in executors", tag, sqlPlan(p.statement(n)), watch(func(Progress) { works() }, 0))
	}()
	select {
	case err := <-ended:
		if err == nil {
			err = &pipeline.Error{Kind: pipeline.Interrupted, Message: "the job of the workers in executors ended by itself"}
		}
		return err
	case <-ctx.Done():
	}
	stop, done := context.WithTimeout(running, interruptTime)
	defer done()
	select { // one that is still planned would run on: see call.giveUp
	case <-atWork:
	case <-time.After(jobWait):
	}
	_, err := p.s.Interrupt(stop, tag)
	if err == nil {
		select {
		case <-ended:
			return nil
		case <-stop.Done():
			err = &pipeline.Error{Kind: pipeline.Timeout, Message: "the job of the workers in executors does not end"}
		}
	}
	cancel() // releases the operation, which ends its job too
	<-ended
	return err
}

// sumFile is the SHA-256 of a file.
func sumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s *Session) sendBinary(ctx context.Context, name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return s.sendFile(ctx, name, info.Size(), f)
}

// sendFile makes a file of the session (AddArtifacts), piece by piece. A file of that name with other bytes is refused by
// the server.
func (s *Session) sendFile(ctx context.Context, name string, size int64, r io.Reader) (err error) {
	what := "sending " + name
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "AddArtifacts", ClientStreams: true}, service+"AddArtifacts")
	if err != nil {
		return s.fail(ctx, what, err)
	}
	if err := sendChunks(stream, s, name, size, r); err != nil && !errors.Is(err, io.EOF) { // io.EOF: RecvMsg says why
		return s.fail(ctx, what, err)
	}
	rep := newMessage("AddArtifactsResponse")
	if err := errors.Join(stream.CloseSend(), stream.RecvMsg(rep.wire())); err != nil {
		return s.fail(ctx, what, err)
	}
	list := rep.Get(rep.field("artifacts")).List()
	for i := range list.Len() {
		if a := (message{list.Get(i).Message()}); !a.Get(a.field("is_crc_successful")).Bool() {
			return &pipeline.Error{Kind: pipeline.Corrupt, Message: what + ": it did not arrive at " + s.remote.String() + " as it was", Hint: "run again"}
		}
	}
	return nil
}

func sendChunks(stream grpc.ClientStream, s *Session, name string, size int64, r io.Reader) error {
	buffer := make([]byte, min(size, chunkBytes))
	chunk := func(m message) error {
		n, err := io.ReadFull(r, buffer)
		if err == io.ErrUnexpectedEOF {
			err = nil
		}
		data := buffer[:n]
		m.Set(m.field("data"), protoreflect.ValueOfBytes(data))
		m.Set(m.field("crc"), protoreflect.ValueOfInt64(int64(crc32.ChecksumIEEE(data))))
		return err
	}
	count := (size + chunkBytes - 1) / chunkBytes
	for i := range max(count, 1) {
		req := s.request("AddArtifactsRequest")
		var m message
		switch {
		case count <= 1:
			m = req.in("batch").add("artifacts").set("name", "files/"+name).in("data")
		case i == 0:
			begin := req.in("begin_chunk").set("name", "files/"+name)
			begin.Set(begin.field("total_bytes"), protoreflect.ValueOfInt64(size))
			begin.Set(begin.field("num_chunks"), protoreflect.ValueOfInt64(count))
			m = begin.in("initial_chunk")
		default:
			m = req.in("chunk")
		}
		if err := chunk(m); err != nil {
			return err
		}
		if err := stream.SendMsg(req.wire()); err != nil {
			return err
		}
	}
	return nil
}
