package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/sparkconn"
	"dkpipe/trainers"
)

// workerJob is what the coordinator hands to each worker process when it joins: data, never code.
type workerJob struct {
	File    string            `json:"file"` // of the spec: relative paths start at its folder
	Spec    []byte            `json:"spec"`
	Params  map[string]string `json:"params,omitempty"`
	Set     []string          `json:"set,omitempty"`
	Slot    string            `json:"slot,omitempty"`
	Dataset string            `json:"dataset"`        // the version that is trained on
	Live    *sparkconn.Live   `json:"live,omitempty"` // its rows, when they are not on disk
	Dir     string            `json:"dir,omitempty"`  // local folder for copies of live shards; it goes with the run
}

// Environment of a worker process.
const ticketVariable = "DKPIPE_TICKET"

// stopGrace is how long a worker process may take to commit what it has and end, after it was asked to.
const stopGrace = 12 * time.Second

// leaveGrace is how long a worker process may take to end by itself when the run is complete.
const leaveGrace = 3 * time.Second

// processes starts the workers of a run as processes of their own, which exchange with the parameter server in this
// one over a unix socket.
type processes struct {
	job    *job
	binary string
	dir    string // of the socket, readable by its owner only
	ticket psrpc.Ticket
	blob   []byte

	start  sync.Once
	server *psrpc.Server
	served chan error
	err    error
}

// launchProcesses makes cfg start its workers as processes. The caller calls stop in the end.
func (j *job) launchProcesses(ctx context.Context, p prepared, cfg *trainers.Config) (stop func(), err error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, err := filepath.Abs(j.spec.File)
	if err != nil {
		return nil, err
	}
	opt, err := j.flags.options(j.app, 0)
	if err != nil {
		return nil, err
	}
	dir, err := j.folder()
	if err != nil {
		return nil, err
	}
	wj := workerJob{File: file, Spec: j.spec.Bytes, Params: opt.Params, Set: opt.Set, Slot: opt.Slot, Dataset: p.folder.String()}
	if p.live != nil {
		wj.Live, wj.Dir = &p.live.Live, dir
	}
	blob, err := json.Marshal(wj)
	if err != nil {
		return nil, err
	}
	l := &processes{job: j, binary: binary, dir: dir, ticket: psrpc.NewTicket(), blob: blob, served: make(chan error, 1)}
	cfg.Launch = l.launch
	return l.stop, nil
}

func (l *processes) address() string { return "unix:" + filepath.Join(l.dir, "ps.sock") }

// serve puts the run's parameter server on the socket, once.
func (l *processes) serve(srv *ps.Server) error {
	l.start.Do(func() {
		if l.server, l.err = psrpc.NewServer(srv, psrpc.ServerOptions{Ticket: l.ticket, Job: l.blob}); l.err != nil {
			return
		}
		listener, err := psrpc.Listen(l.address())
		if err != nil {
			l.err = err
			return
		}
		go func() { l.served <- l.server.Serve(listener) }()
	})
	return l.err
}

func (l *processes) stop() {
	if l.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		l.server.Close(ctx)
		if l.err == nil {
			<-l.served
		}
	}
}

// launch is a trainers.Config.Launch: it runs one worker process to its end.
func (l *processes) launch(ctx context.Context, srv *ps.Server, w ps.Worker) error {
	if err := l.serve(srv); err != nil {
		return err
	}
	cmd := exec.Command(l.binary, "worker", "--connect", l.address(), "--worker", strconv.Itoa(int(w)), "--json")
	cmd.Env = append(os.Environ(), ticketVariable+"="+l.ticket.Text())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to pass on
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	// The worker reads its stdin to the end; when this process dies, however it dies, that ends the worker.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	l.job.events.add("worker_started", map[string]any{"worker": w, "pid": cmd.Process.Pid})
	var logs sync.WaitGroup
	logs.Go(func() { l.job.passLog(stderr, w) })
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { l.end(ctx, srv, cmd.Process, ended) })
	logs.Wait()
	err = cmd.Wait()
	close(ended)
	watcher.Wait()
	return workerError(w, err, stdout.Bytes())
}

// end asks a worker process to end when ctx does or nothing is left to do, and kills it when it takes too long: one that
// hangs, or was stopped, must not keep the run from its end.
func (l *processes) end(ctx context.Context, srv *ps.Server, p *os.Process, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-srv.Finished():
		select {
		case <-ended:
			return
		case <-ctx.Done():
		case <-time.After(leaveGrace):
		}
	case <-ctx.Done():
	}
	_ = p.Signal(syscall.SIGTERM) // fails only when it has ended
	t := time.NewTimer(stopGrace)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		_ = p.Kill()
	}
}

// workerError makes an error of how a worker process ended: its own words when it could say them.
func workerError(w ps.Worker, err error, stdout []byte) error {
	if err == nil {
		return nil
	}
	var said struct {
		Error *failure `json:"error"`
	}
	if json.Unmarshal(stdout, &said) == nil && said.Error != nil {
		return &pipeline.Error{Kind: said.Error.Kind, Message: fmt.Sprintf("worker %d: %s", w, said.Error.Message), Hint: said.Error.Hint}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("worker %d (process %d) ended: %s", w, exit.Pid(), exit.ProcessState)}
	}
	return err
}

// passLog hands a worker's log lines on.
func (j *job) passLog(r io.Reader, w ps.Worker) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		j.app.log.Info(s.Text(), "worker", w)
	}
	_, _ = io.Copy(io.Discard, r) // a line beyond the buffer: keep the pipe empty
}
