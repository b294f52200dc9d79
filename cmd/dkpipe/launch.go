package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
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
	Start   string            `json:"start,omitempty"` // folder where relative paths of Set start
	Slot    string            `json:"slot,omitempty"`
	Dataset string            `json:"dataset"`         // the version that is trained on
	Live    *sparkconn.Live   `json:"live,omitempty"`  // its rows, when they are not on disk
	Steps   float64           `json:"steps,omitempty"` // that a worker did before the run was resumed: schedules go on from there
	Dir     string            `json:"dir,omitempty"`   // local folder for copies of live shards; it goes with the run
}

// read decodes the spec as the coordinator did.
func (wj workerJob) read(a *app) (*spec.Spec, error) {
	return spec.Read(wj.File, wj.Spec, spec.Options{Params: wj.Params, Set: wj.Set, Dir: wj.Start, Slot: wj.Slot, Env: a.env, Need: spec.ForTrain})
}

// stopGrace is how long a worker process may take to commit what it has and end, after it was asked to.
const stopGrace = 12 * time.Second

// leaveGrace is how long a worker process may take to end by itself when the run is complete.
const leaveGrace = 3 * time.Second

// registerLaunch adds the flags that say where workers run, for people who try one after the other.
func (*specFlags) registerLaunch(c *cobra.Command) {
	c.Flags().Var(fieldFlag{c.Flags(), "train.launch"}, "launch", "where workers run, instead of train.launch: `in-process`, process, join or spark")
	c.Flags().Var(fieldFlag{c.Flags(), "train.listen"}, "listen", "where workers find the run, `HOST:PORT`, instead of train.listen")
	c.Flags().Var(serversFlag{c.Flags()}, "servers", "data servers for the parameters, `NUMBER` or HOST:PORT,HOST:PORT, instead of train.servers")
	c.Flags().Var(fieldFlag{c.Flags(), "train.codec"}, "codec", "what commits travel as, instead of train.codec: `fp32`, bf16, int8, topk or auto")
}

// registerRecord adds the flag for runs that are to be repeated later.
func (*specFlags) registerRecord(c *cobra.Command) {
	c.Flags().String("record", "", "keep in `DIR` what dkpipe replay needs to repeat the training bit for bit")
	_ = c.MarkFlagDirname("record")
}

// fieldFlag is a flag that overrules one field of the spec: a short form of --set.
type fieldFlag struct {
	flags *pflag.FlagSet
	field string
}

func (v fieldFlag) String() string { return "" }
func (v fieldFlag) Type() string   { return "text" }

// Set takes the value as text, whatever it looks like.
func (v fieldFlag) Set(value string) error {
	return v.flags.Set("set", v.field+"="+strconv.Quote(value))
}

// serversFlag is --servers.
type serversFlag struct{ flags *pflag.FlagSet }

func (v serversFlag) String() string { return "" }
func (v serversFlag) Type() string   { return "text" }

// Set takes a number, or addresses.
func (v serversFlag) Set(value string) error {
	if _, err := strconv.Atoi(value); err != nil {
		var list []string
		for at := range strings.SplitSeq(value, ",") {
			list = append(list, strconv.Quote(strings.TrimSpace(at)))
		}
		value = "[" + strings.Join(list, ", ") + "]"
	}
	return v.flags.Set("set", "train.servers="+value)
}

// launchWorkers makes cfg start its workers as train.launch says. The caller calls stop in the end.
func (j *job) launchWorkers(ctx context.Context, p prepared, cfg *trainers.Config) (stop func(), err error) {
	cfg.MinWorkers = j.spec.Train.MinWorkers
	launched, err := j.launcher(ctx, p, cfg)
	dir := j.flags.recordFolder()
	if err != nil || dir == "" {
		return launched, err
	}
	recorded, err := j.record(dir, p, cfg)
	if err != nil {
		launched()
		return nil, err
	}
	return func() {
		launched()
		recorded()
	}, nil
}

// launcher is launchWorkers without recording.
func (j *job) launcher(ctx context.Context, p prepared, cfg *trainers.Config) (stop func(), err error) {
	switch j.spec.Train.Launch {
	case "process":
		return j.launchProcesses(ctx, p, cfg)
	case "join":
		return j.launchJoin(ctx, p, cfg)
	case "spark":
		return j.launchSpark(ctx, p, cfg)
	}
	return func() {}, nil
}

// workerBlob is the workerJob of this run. Workers on this machine may use dir, if it is not empty.
func (j *job) workerBlob(p prepared, dir string) ([]byte, error) {
	file, err := filepath.Abs(j.spec.File)
	if err != nil {
		return nil, err
	}
	opt, err := j.flags.options(j.app, 0)
	if err != nil {
		return nil, err
	}
	data := p.folder.String()
	if !strings.Contains(data, ":") { // a worker may have another working directory
		if data, err = filepath.Abs(data); err != nil {
			return nil, err
		}
	}
	wj := workerJob{File: file, Spec: j.spec.Bytes, Params: opt.Params, Set: opt.Set, Start: opt.Dir, Slot: opt.Slot, Dataset: data, Steps: j.training.steps}
	if p.live != nil {
		wj.Live, wj.Dir = &p.live.Live, dir
	}
	return json.Marshal(wj)
}

// door is the socket at which the workers of a run join it.
type door struct {
	listener net.Listener
	ticket   psrpc.Ticket
	identity psrpc.Identity // zero where nobody but this machine can reach the socket
	blob     []byte
	codec    psrpc.Codec
	servers  *dataServers // nil: the parameters are in this process

	start  sync.Once
	server *psrpc.Server
	served chan error
	err    error
}

func newDoor(l net.Listener, ticket psrpc.Ticket, blob []byte) *door {
	return &door{listener: l, ticket: ticket, blob: blob, served: make(chan error, 1)}
}

// open puts the run's parameter server on the socket, once.
func (d *door) open(srv *ps.Server) error {
	d.start.Do(func() {
		o := psrpc.ServerOptions{Ticket: d.ticket, Identity: d.identity, Job: d.blob, Codec: d.codec, Data: d.servers.addresses()}
		if d.server, d.err = psrpc.NewServer(srv, o); d.err != nil {
			return
		}
		d.servers.measure(srv)
		go func() { d.served <- d.server.Serve(d.listener) }()
	})
	return d.err
}

// close waits a moment for workers to leave by themselves.
func (d *door) close() {
	defer d.servers.close()
	if d.server == nil {
		_ = d.listener.Close() // nobody came in by it
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d.server.Close(ctx)
	<-d.served
}

// processes starts the workers of a run as processes of their own, which exchange with the parameter server in this
// one over a unix socket.
type processes struct {
	*door
	job    *job
	binary string
	dir    string // of the socket, readable by its owner only
}

// launchProcesses makes cfg start its workers as processes. The caller calls stop in the end.
func (j *job) launchProcesses(_ context.Context, p prepared, cfg *trainers.Config) (stop func(), err error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := j.folder()
	if err != nil {
		return nil, err
	}
	blob, err := j.workerBlob(p, dir)
	if err != nil {
		return nil, err
	}
	l := &processes{job: j, binary: binary, dir: dir}
	listener, err := psrpc.Listen(l.address())
	if err != nil {
		return nil, err
	}
	ticket, identity, err := psrpc.NewTicket(), psrpc.Identity{}, error(nil)
	if at := j.spec.Train.Servers.At; len(at) > 0 {
		ticket, identity, err = j.app.admission(slices.ContainsFunc(at, elsewhere))
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	l.door = newDoor(listener, ticket, blob)
	l.identity = identity
	sockets := func(i int) (string, string) { return "unix:" + filepath.Join(dir, fmt.Sprintf("data-%d.sock", i)), "" }
	if err := j.spread(l.door, cfg, sockets); err != nil {
		l.close()
		return nil, err
	}
	cfg.Launch = l.launch
	return l.close, nil
}

func (l *processes) address() string { return "unix:" + filepath.Join(l.dir, "ps.sock") }

// launch is a trainers.Config.Launch: it runs one worker process to its end.
func (l *processes) launch(ctx context.Context, srv *ps.Server, w ps.Worker) error {
	if err := l.open(srv); err != nil {
		return err
	}
	cmd := exec.Command(l.binary, "worker", "--connect", l.address(), "--worker", strconv.Itoa(int(w)), "--stdin", "--json")
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
	logs.Go(func() { l.job.passLog(stderr, "worker", int(w)) })
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

// passLog hands on the log lines of a process that the run has started.
func (j *job) passLog(r io.Reader, what string, number int) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		j.app.log.Info(s.Text(), what, number)
	}
	_, _ = io.Copy(io.Discard, r) // a line beyond the buffer: keep the pipe empty
}
