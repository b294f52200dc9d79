package box

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	statusTimeout = 5 * time.Second
	downTimeout   = 10 * time.Second
	maxCommand    = 64 << 10
	maxSocketPath = 100 // the kernel's limit is 104 to 108
)

// controlReply is the answer to one command, as one line of JSON.
type controlReply struct {
	Text  string `json:"text,omitempty"`
	Error *Error `json:"error,omitempty"`
}

// ControlHelp says which commands Control takes.
const ControlHelp = `  stopdn I, startdn I         a datanode goes and comes back on the same port; numbers begin with 0
  killnn I, startnn I         the same for a namenode; with --ha it comes back as standby
  active I, standby I         which namenode serves (--ha)
  safemode enter|leave        the namenode takes no changes
  blocks PATH                 the blocks of a file, as a JSON list
  flip PATH BLOCK REPLICA|all [OFFSET]
                              inverts a byte of a block's file behind the datanode's back
  ackdelay MILLIS             datanodes acknowledge packets late; 0 ends it
  pause|resume|kill PROCESS   sends a signal to a process of box status --json (stop, continue, kill)

With --separate, stopdn and killnn end processes at once. Names must not contain spaces.`

// Control gives the box in the folder a command, one of ControlHelp, and returns its answer.
func Control(ctx context.Context, dir, command string) (string, error) {
	conn, err := dialControl(ctx, dir)
	if errors.Is(err, fs.ErrPermission) {
		return "", &Error{Kind: kindDenied, Message: "the box in " + dir, Hint: "it belongs to another user, who alone may ask it", Err: err}
	}
	if err != nil {
		return "", &Error{Kind: kindUnreachable, Message: "the box in " + dir + " does not run", Hint: "dkpipe box up --dir " + dir, Err: err}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply controlReply
	_, err = conn.Write([]byte(command + "\n"))
	if err == nil {
		err = json.NewDecoder(conn).Decode(&reply)
	}
	switch {
	case ctx.Err() != nil:
		return "", &Error{Kind: kindOf(ctx.Err()), Message: "the box in " + dir + " did not answer: " + command, Err: ctx.Err()}
	case err != nil:
		return "", &Error{Kind: kindUnreachable, Message: "the box in " + dir + " ended: " + command, Err: err}
	case reply.Error != nil:
		return "", reply.Error
	}
	return reply.Text, nil
}

// serveControl answers commands until the context ends; Wait then returns when nothing of it runs any more.
func serveControl(ctx context.Context, dir string, do func(command string) (string, error)) (*sync.WaitGroup, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, &Error{Kind: kindInternal, Message: "control socket in " + dir, Err: err}
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its name may be valid in this function only
	socket := filepath.Join(dir, socketFile)
	if err := os.Chmod(socket, 0o600); err != nil {
		l.Close()
		return nil, &Error{Kind: kindInternal, Message: "control socket in " + dir, Err: err}
	}
	work := new(sync.WaitGroup)
	work.Go(func() {
		<-ctx.Done()
		l.Close()
		os.Remove(socket)
	})
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { answerControl(ctx, conn, do) })
		}
	})
	return work, nil
}

// answerControl reads one command from the connection and answers it.
func answerControl(ctx context.Context, conn net.Conn, do func(command string) (string, error)) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = conn.SetReadDeadline(time.Now().Add(statusTimeout))
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxCommand)
	if !lines.Scan() {
		return
	}
	var reply controlReply
	text, err := do(strings.TrimSpace(lines.Text()))
	if err != nil {
		reply.Error = portable(err)
	}
	reply.Text = text
	_ = conn.SetWriteDeadline(time.Now().Add(statusTimeout))
	_ = json.NewEncoder(conn).Encode(reply) // whoever asked may be gone
}

func dialControl(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// socketPath gives a name of the control socket that is short enough for the kernel; it is valid until done is called.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketFile)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, &Error{Kind: kindUsage, Message: "the name of the folder is too long for a socket: " + dir, Hint: "take a shorter one"}
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(f.Fd())), socketFile), func() { f.Close() }, nil
}

// command carries out one command of the control protocol.
func (s *supervisor) command(line string) (string, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", &Error{Kind: kindUsage, Message: "an empty command"}
	}
	switch words[0] {
	case "status":
		text, err := json.Marshal(s.snapshot())
		return string(text), err
	case "down":
		select {
		case s.down <- struct{}{}:
		default: // somebody asked before
		}
		return "", nil
	}
	if s.snapshot().State != Running {
		return "", &Error{Kind: kindBusy, Message: "the box in " + s.o.Dir + " is not ready yet"}
	}
	return s.fault(words)
}

var errWords = errors.New("dkpipe box control --help lists the commands and their words")
