package box

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// daemon is one JVM with the harness in it. Its standard input is the thread by which it lives.
type daemon struct {
	name string
	log  string
	pid  int

	calls   sync.Mutex // one command at a time
	in      io.WriteCloser
	replies chan answer
	closing sync.Once

	done chan struct{} // closed when the process has ended and all its output is read
	gone chan struct{} // closed when the supervisor has forgotten it, after done
	err  error         // how it ended; valid after done
}

// answer is what the harness said to one command.
type answer struct {
	lines []string
	err   error
}

// startDaemon starts the process. The first answer tells how the start of its servers went.
func startDaemon(name, log string, cmd *exec.Cmd) (*daemon, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, &Error{Kind: kindUsage, Message: "log of " + name, Err: err}
	}
	stderr, err := os.Create(log)
	if err != nil {
		return nil, &Error{Kind: kindUsage, Message: "log of " + name, Err: err}
	}
	defer stderr.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, &Error{Kind: kindInternal, Message: "start of " + name, Err: err}
	}
	defer stdout.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		out.Close()
		return nil, &Error{Kind: kindInternal, Message: "start of " + name, Err: err}
	}
	ownGroup(cmd)
	d := &daemon{name: name, log: log, in: in, replies: make(chan answer), done: make(chan struct{})}
	started := make(chan error)
	go d.run(cmd, out, started)
	if err := <-started; err != nil {
		return nil, &Error{Kind: kindInternal, Message: "start of " + name, Err: err}
	}
	return d, nil
}

// run owns the process from its start to its end. It keeps its thread, because the kernel takes the end of the thread
// that started a process for the end of the parent (see ownGroup).
func (d *daemon) run(cmd *exec.Cmd, out *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer close(d.done)
	defer out.Close()
	err := cmd.Start()
	if err == nil {
		d.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	var reader sync.WaitGroup
	reader.Go(func() { readAnswers(out, d.replies) })
	d.err = cmd.Wait()
	killGroup(d.pid) // executors, and programs that they run
	reader.Wait()
}

// readAnswers sends the answers until the output ends, then closes the channel. Lines of any other form are the
// virtual machine's own and no part of an answer.
func readAnswers(out io.Reader, replies chan<- answer) {
	defer close(replies)
	var a answer
	for s := bufio.NewScanner(out); s.Scan(); {
		line := s.Text()
		if text, ok := strings.CutPrefix(line, "- "); ok {
			a.lines = append(a.lines, text)
			continue
		}
		if text, ok := strings.CutPrefix(line, "err "); ok {
			a.err = errors.New(text)
		} else if line != "ok" {
			continue
		}
		replies <- a
		a = answer{}
	}
}

// answer waits for the next answer. An error of the context leaves the answer outstanding: the daemon must be ended.
func (d *daemon) answer(ctx context.Context) ([]string, error) {
	select {
	case <-ctx.Done():
		return nil, &Error{Kind: kindOf(ctx.Err()), Message: d.name + " did not answer in time" + d.lastWords(), Err: ctx.Err(),
			Hint: "its log is " + d.log}
	case a, ok := <-d.replies:
		if !ok {
			<-d.done
			return nil, d.ended()
		}
		return a.lines, a.err
	}
}

// call sends a command and waits for its answer. The context is that of the supervisor, not of whoever asked.
func (d *daemon) call(ctx context.Context, command string) ([]string, error) {
	d.calls.Lock()
	defer d.calls.Unlock()
	if _, err := fmt.Fprintln(d.in, command); err != nil {
		return nil, &Error{Kind: kindUnreachable, Message: d.name + " is not running", Err: err}
	}
	lines, err := d.answer(ctx)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, e
		}
		return nil, &Error{Kind: kindInternal, Message: d.name + ": " + command + ": " + err.Error(), Hint: "its log is " + d.log}
	}
	return lines, nil
}

// end closes the standard input, waits for the process, and kills it when it takes longer than the grace.
// It may be called more than once.
func (d *daemon) end(grace time.Duration) {
	d.closing.Do(func() { _ = d.in.Close() })
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for range d.replies { // an answer that nobody waits for must not hold the reader
		}
	}()
	select {
	case <-d.done:
	case <-time.After(grace):
		killGroup(d.pid)
		<-d.done
	}
	<-drained
}

// ended says how the process ended, with the last lines of its log.
func (d *daemon) ended() *Error {
	how := "exit status 0"
	if d.err != nil {
		how = d.err.Error()
	}
	tail := d.lastWords()
	e := &Error{Kind: kindInternal, Message: fmt.Sprintf("%s (pid %d) ended: %s%s", d.name, d.pid, how, tail), Hint: "its log is " + d.log}
	switch {
	case strings.Contains(tail, "Address already in use"):
		e.Kind, e.Hint = kindBusy, "another program has the port that was asked for; leave the port out to get a free one"
	case strings.Contains(tail, "OutOfMemoryError"), strings.Contains(tail, "Could not reserve enough space"):
		e.Hint = "give it another heap: --heap 2g"
	}
	return e
}

// lastWords gives the last lines of the log that are not mere warnings.
func (d *daemon) lastWords() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return ""
	}
	var kept []byte
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, " WARN ") && !strings.HasPrefix(strings.TrimSpace(line), "WARNING: ") {
			kept = append(kept, line...)
		}
	}
	return lastLines(kept, 12)
}
