package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
)

// dataServers are the data servers of a run: processes that it has started, or those at the addresses that the spec names. It
// is a trainers.DataServers. A nil one has none.
type dataServers struct {
	job    *job
	ticket psrpc.Ticket
	env    []string // of processes: their secrets
	binary string
	blob   []byte
	run    []byte // names the run
	wait   time.Duration

	told    []string // where workers reach them
	own     []string // where this process does
	sockets []socket // of those that are processes; empty else
	sizes   []int    // parameters that each holds

	lost func(server int, err error)
	mu   sync.Mutex
	all  []*dataServer
}

// socket is where a process of ours listens. It is opened here and inherited, so that one that is started again is where the
// one before was.
type socket struct {
	listener net.Listener
	file     *os.File
}

// dataServer is one data server in one life.
type dataServer struct {
	keeper *psrpc.Keeper
	cmd    *exec.Cmd // nil when somebody else has started it
	stdin  io.Closer
	ended  chan struct{} // the process is gone
}

const (
	// keeperRetry is how long a data server may be out of reach before it is lost. One that is a process of ours is lost when it
	// has ended.
	keeperRetry = 30 * time.Second
	// serverGrace is how long a data server may take to end when its run is over.
	serverGrace = 3 * time.Second
	// otherRun is how long to ask a data server that belongs to another run: that one may have died without a word.
	otherRun = 20 * time.Second
)

// elsewhere says whether an address may be on another machine.
func elsewhere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && !strings.HasPrefix(address, "unix:") && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// besides gives data servers addresses beside the run's own: the same host, and a port of the same range when there is one.
func besides(listen, advertise string) func(int) (string, string) {
	return func(int) (string, string) {
		host, port, err := net.SplitHostPort(listen)
		if err == nil && !strings.Contains(port, "-") {
			listen = net.JoinHostPort(host, "0")
		}
		if h, _, err := net.SplitHostPort(advertise); err == nil {
			advertise = h
		}
		return listen, advertise
	}
}

// spread makes a run keep its parameters on data servers, when the spec asks for it, and says how commits travel. listen gives
// the address of each that is to be started, and what workers are told in its place.
func (j *job) spread(d *door, cfg *trainers.Config, listen func(i int) (address, advertise string)) (err error) {
	t := j.spec.Train
	if d.codec, err = psrpc.ParseCodec(t.Codec); err != nil || t.Servers.Len() == 0 {
		return err
	}
	s := &dataServers{job: j, ticket: d.ticket, blob: d.blob, run: make([]byte, 16), wait: time.Duration(t.JoinSeconds) * time.Second, told: t.Servers.At, own: t.Servers.At}
	if _, err := rand.Read(s.run); err != nil {
		return err
	}
	if s.wait == 0 {
		s.wait = defaultJoin
	}
	d.servers, cfg.Servers, j.training.servers = s, s, s
	if c := t.Checkpoint; c != nil && c.EverySeconds > 0 {
		cfg.KeepEvery = min(trainers.DefaultKeep, time.Duration(c.EverySeconds*float64(time.Second)))
	}
	if len(t.Servers.At) > 0 {
		return nil
	}
	defer func() {
		if err != nil {
			s.close()
			d.servers = nil
		}
	}()
	if s.binary, err = os.Executable(); err != nil {
		return err
	}
	if s.env, err = j.serverSecrets(d); err != nil {
		return err
	}
	for i := range t.Servers.Count {
		if err := s.listen(listen(i)); err != nil {
			return err
		}
	}
	return nil
}

// serverSecrets is what the processes need to be let in, and to let in: never in their arguments.
func (j *job) serverSecrets(d *door) ([]string, error) {
	env := []string{ticketVariable + "=" + d.ticket.Text(), identityVariable + "="}
	if d.identity.Zero() {
		return env, nil
	}
	text, err := d.identity.PEM()
	if err != nil {
		return nil, err
	}
	dir, err := j.folder()
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "identity.pem")
	env[1] += name
	return env, os.WriteFile(name, text, 0o600)
}

// listen opens the socket of one more data server.
func (s *dataServers) listen(address, advertise string) error {
	l, err := psrpc.ListenAnywhere(address)
	if err != nil {
		return err
	}
	at, err := psrpc.Advertised(l.Addr(), advertise)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	own := l.Addr().String()
	switch a := l.Addr().(type) {
	case *net.UnixAddr:
		own = at
	case *net.TCPAddr:
		if a.IP.IsUnspecified() {
			own = fmt.Sprintf("127.0.0.1:%d", a.Port)
		}
	}
	s.sockets, s.told, s.own = append(s.sockets, socket{l, f}), append(s.told, at), append(s.own, own)
	return nil
}

// addresses are where workers reach the data servers.
func (s *dataServers) addresses() []string {
	if s == nil {
		return nil
	}
	return s.told
}

// measure notes what each data server holds.
func (s *dataServers) measure(srv *ps.Server) {
	if s == nil {
		return
	}
	t, _ := srv.Table()
	part, err := ps.NewPartition(srv.Len(), t.Block, len(s.told))
	if err != nil {
		return // the run says so
	}
	for i := range s.told {
		s.sizes = append(s.sizes, part.Size(i))
	}
}

// Open implements trainers.DataServers.
func (s *dataServers) Open(ctx context.Context, lost func(server int, err error)) ([]ps.Keeper, error) {
	s.lost, s.all = lost, make([]*dataServer, len(s.told))
	keepers := make([]ps.Keeper, len(s.told))
	for i := range s.told {
		k, err := s.begin(ctx, i)
		if err != nil {
			return nil, err
		}
		keepers[i] = k
	}
	return keepers, nil
}

// Replace implements trainers.DataServers.
func (s *dataServers) Replace(ctx context.Context, server int) (ps.Keeper, error) {
	s.end(server, false)
	return s.begin(ctx, server)
}

// begin starts a data server, or waits for the one that somebody else starts.
func (s *dataServers) begin(ctx context.Context, i int) (*psrpc.Keeper, error) {
	d := &dataServer{}
	k, err := psrpc.DialKeeper(psrpc.KeeperOptions{Address: s.own[i], Ticket: s.ticket, Run: s.run, Job: s.blob, Retry: min(keeperRetry, s.wait), Lost: func(err error) { s.gone(i, d, err) }})
	if err != nil {
		return nil, err
	}
	d.keeper = k
	s.mu.Lock()
	s.all[i] = d
	s.mu.Unlock()
	if len(s.sockets) > 0 {
		return k, s.start(i, d)
	}
	return k, s.await(ctx, i, k)
}

// await waits until a data server answers.
func (s *dataServers) await(ctx context.Context, i int, k *psrpc.Keeper) error {
	start, said := time.Now(), false
	for {
		reached := make(chan error, 1)
		go func() { reached <- k.Reach() }() // ends with the keeper at the latest
		var err error
		look := time.NewTimer(time.Second)
	asking:
		for {
			select {
			case err = <-reached:
				break asking
			case <-ctx.Done():
				return ctx.Err()
			case <-look.C:
				if !said {
					said = true
					s.job.app.log.Info("waiting for a data server", "server", i, "address", s.told[i])
					s.job.events.add("awaiting_server", map[string]any{"server": i, "address": s.told[i]})
				}
			}
		}
		look.Stop()
		patience := s.wait
		switch pipelineKind(err) {
		case pipeline.Busy:
			patience = otherRun
		case pipeline.Unreachable:
		default:
			patience = 0
		}
		if err == nil {
			return nil
		}
		if time.Since(start) > patience {
			if patience == s.wait {
				err = hinted{fmt.Errorf("data server %d of train.servers, %s: %w", i, s.told[i], err), "start it with the same ticket: dkpipe ps --listen " + s.told[i]}
			}
			return err
		}
		select {
		case <-time.After(time.Second / 2):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start starts the process of a data server.
func (s *dataServers) start(i int, d *dataServer) error {
	cmd := exec.Command(s.binary, "ps", "--listen", "fd:3", "--stdin", "--json")
	if !strings.HasPrefix(s.told[i], "unix:") {
		cmd.Args = append(cmd.Args, "--advertise", s.told[i])
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	cmd.Env = append(os.Environ(), s.env...)
	cmd.ExtraFiles = []*os.File{s.sockets[i].file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to pass on
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	// It reads its stdin to the end: when this process dies, however it dies, that ends it.
	if d.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd, d.ended = cmd, make(chan struct{})
	s.job.events.add("server_started", map[string]any{"server": i, "pid": cmd.Process.Pid, "address": s.told[i]})
	go func() { // waited for by end
		defer close(d.ended)
		s.job.passLog(stderr, "server", i)
		_ = cmd.Wait() // the state says how
		err := &pipeline.Error{Kind: pipeline.Unreachable, Message: fmt.Sprintf("process %d ended: %s", cmd.Process.Pid, cmd.ProcessState)}
		var said struct {
			Error *failure `json:"error"`
		}
		if json.Unmarshal(stdout.Bytes(), &said) == nil && said.Error != nil { // its own words
			err.Message, err.Hint = fmt.Sprintf("process %d: %s", cmd.Process.Pid, said.Error.Message), said.Error.Hint
		}
		d.keeper.Fail(err)
		s.gone(i, d, err)
	}()
	return nil
}

// gone says that a life of a data server is over, unless the run goes on with another one already. That it does so meanwhile
// has to wait.
func (s *dataServers) gone(i int, d *dataServer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[i] == d {
		s.lost(i, err)
	}
}

// end ends a life of a data server; in order when it is over.
func (s *dataServers) end(i int, over bool) {
	s.mu.Lock()
	d := s.all[i]
	s.all[i] = nil
	s.mu.Unlock()
	if d == nil {
		return
	}
	if over {
		_ = d.keeper.Dismiss(serverGrace / 3) // nothing is lost
	} else {
		_ = d.keeper.Close()
	}
	if d.cmd == nil || d.ended == nil {
		return
	}
	_ = d.stdin.Close()
	if over {
		t := time.NewTimer(serverGrace)
		defer t.Stop()
		select {
		case <-d.ended:
			return
		case <-t.C:
		}
	}
	_ = d.cmd.Process.Kill() // fails only when it has ended
	<-d.ended
}

// close ends all data servers, at once.
func (s *dataServers) close() {
	if s == nil {
		return
	}
	var all sync.WaitGroup
	for i := range s.all {
		all.Go(func() { s.end(i, true) })
	}
	all.Wait()
	for _, x := range s.sockets {
		_ = errors.Join(x.file.Close(), x.listener.Close()) // nobody comes any more
	}
	s.sockets = nil
}
