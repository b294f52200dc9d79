package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// supervisor owns the processes of one box.
type supervisor struct {
	launcher
	lifetime context.Context // ends with the box; given to work that outlives the request that asked for it

	down    chan struct{} // a request to stop, at most one
	died    chan *daemon  // a process whose end is the end of the box, at most one
	watches sync.WaitGroup

	mu       sync.Mutex // guards what follows
	box      Box
	daemons  map[string]*daemon
	client   map[string]string // properties of HDFS for clients
	stopping bool
}

// Run starts a box, calls ready once every server has answered a real request, and supervises until the context ends
// or Down is called (both give nil), or a server dies. When it returns, nothing of the box is running.
func Run(ctx context.Context, o Options, ready func(Box)) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	jars, err := Prepare(ctx, o)
	if err != nil {
		return err
	}
	if err := checkDir(o.Dir); err != nil {
		return err
	}
	lock, err := claim(o.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := prepareDir(o.Dir); err != nil {
		return err
	}
	lifetime, end := context.WithCancel(ctx)
	defer end()
	s := &supervisor{
		launcher: launcher{o: o, jars: jars},
		lifetime: lifetime,
		down:     make(chan struct{}, 1),
		died:     make(chan *daemon, 1),
		box:      Box{Dir: o.Dir, PID: os.Getpid(), State: Starting},
		daemons:  map[string]*daemon{},
		client:   map[string]string{},
	}
	control, err := serveControl(lifetime, o.Dir, s.command)
	if err != nil {
		return err
	}
	err = s.live(ctx, ready)
	s.endAll()
	err = errors.Join(err, s.finish(err))
	end()
	control.Wait()
	return err
}

// live starts the servers and waits for a reason to end them.
func (s *supervisor) live(ctx context.Context, ready func(Box)) error {
	o := s.o
	start, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.start(start) }()
	select {
	case err := <-stopped:
		if err != nil && ctx.Err() != nil {
			return &Error{Kind: kindInterrupted, Message: "the start of the box in " + o.Dir, Err: ctx.Err()}
		}
		if err != nil {
			return err
		}
	case <-s.down:
		cancel()
		<-stopped
		return nil
	}
	if ready != nil {
		ready(s.snapshot())
	}
	select {
	case <-ctx.Done():
	case <-s.down:
	case d := <-s.died:
		return d.ended()
	}
	return nil
}

// start starts the servers and asks each for something.
func (s *supervisor) start(ctx context.Context) error {
	if s.o.spark() {
		if err := s.linkJars(); err != nil {
			return &Error{Kind: kindInternal, Message: "the folder of the box", Err: err}
		}
	}
	start := s.startAllInOne
	if s.o.Separate {
		start = s.startSeparate
	}
	if err := start(ctx); err != nil {
		return err
	}
	if s.o.spark() {
		s.o.progress("asking Spark for SELECT 1")
		if err := probeSpark(ctx, strings.TrimPrefix(s.snapshot().Spark, "sc://"), s.o.Spark[tokenProperty]); err != nil {
			return err
		}
	}
	return s.publish()
}

func (s *supervisor) startAllInOne(ctx context.Context) error {
	s.o.progress("starting " + strings.Join(s.servers(), " and ") + " in one JVM")
	if err := s.startProcess(ctx, allInOne, s.launcher.allInOne()); err != nil {
		return err
	}
	if !s.o.hdfs() {
		return nil
	}
	return s.checkHDFS(ctx, allInOne)
}

func (s *supervisor) servers() []string {
	var names []string
	if s.o.hdfs() {
		names = append(names, "HDFS")
	}
	if s.o.spark() {
		names = append(names, "Spark")
	}
	return names
}

// startSeparate starts the namenode, then, all at once, what needs to know where it is.
func (s *supervisor) startSeparate(ctx context.Context) error {
	s.o.progress("starting " + strings.Join(s.servers(), " and ") + " as separate processes")
	if s.o.hdfs() {
		if err := s.startProcess(ctx, namenode, s.launcher.namenode("0")); err != nil {
			return err
		}
	}
	client := s.clientProperties()
	commands := map[string]*exec.Cmd{}
	if s.o.hdfs() {
		for i := range s.o.Datanodes {
			commands[fmt.Sprint(datanode, i)] = s.launcher.datanode(i, "0", client)
		}
	}
	if s.o.spark() {
		commands[spark] = s.launcher.spark(client)
	}
	errs := make(chan error, len(commands))
	for name, cmd := range commands {
		go func() { errs <- s.startProcess(ctx, name, cmd) }()
	}
	var first error
	for range commands {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if first != nil || !s.o.hdfs() {
		return first
	}
	if _, err := s.call(ctx, namenode, fmt.Sprint("live ", s.o.Datanodes)); err != nil {
		return err
	}
	return s.checkHDFS(ctx, namenode)
}

// checkHDFS writes and reads a file, and makes the home folders.
func (s *supervisor) checkHDFS(ctx context.Context, process string) error {
	_, err := s.call(ctx, process, "check "+s.o.User+" "+s.o.SparkUser)
	return err
}

// startProcess starts a process and waits until its servers have started.
func (s *supervisor) startProcess(ctx context.Context, name string, cmd *exec.Cmd) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return &Error{Kind: kindInterrupted, Message: "the box is stopping"}
	}
	d, err := startDaemon(name, filepath.Join(s.o.Dir, logsDir, name+".log"), cmd)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	s.daemons[name] = d
	s.box.Processes = append(s.box.Processes, Process{Name: name, PID: d.pid})
	slices.SortFunc(s.box.Processes, func(a, b Process) int { return strings.Compare(a.Name, b.Name) })
	d.gone = make(chan struct{})
	s.watches.Go(func() { s.watch(d) })
	s.mu.Unlock()
	lines, err := d.answer(ctx)
	if err != nil {
		return startError(d, err)
	}
	return s.learn(name, lines)
}

// startError makes an error of the harness one of this package.
func startError(d *daemon, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Kind: kindInternal, Message: d.name + " did not start: " + err.Error() + d.lastWords(), Hint: "its log is " + d.log}
}

// watch waits for the end of a process. It ends the box when there is no other.
func (s *supervisor) watch(d *daemon) {
	defer close(d.gone)
	<-d.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.daemons[d.name] == d {
		delete(s.daemons, d.name)
	}
	s.box.Processes = slices.DeleteFunc(s.box.Processes, func(p Process) bool { return p.PID == d.pid })
	if s.box.State != Running || s.stopping {
		return
	}
	if len(s.daemons) > 0 {
		_ = writeState(s.box) // Status asks this process, not the file; the next change writes again
		return
	}
	select {
	case s.died <- d:
	default:
	}
}

// learn takes up what the harness said about the servers that it started.
func (s *supervisor) learn(name string, lines []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		what, rest, _ := strings.Cut(line, " ")
		first, second, _ := strings.Cut(rest, " ")
		switch what {
		case "spark":
			s.box.Spark = "sc://" + first
		case "namenode":
			s.setNamenode(Namenode{Address: first, HTTP: second})
		case "datanode":
			s.setDatanode(name, Datanode{Address: first, Dir: second})
		case "client":
			s.client[first] = second
		default:
			return &Error{Kind: kindInternal, Message: name + " said: " + line}
		}
	}
	s.box.HDFS = s.client["fs.defaultFS"]
	return nil
}

func (s *supervisor) setNamenode(n Namenode) {
	for i := range s.box.Namenodes {
		if s.box.Namenodes[i].Address == n.Address {
			s.box.Namenodes[i] = n
			return
		}
	}
	s.box.Namenodes = append(s.box.Namenodes, n)
}

// setDatanode keeps the datanodes in the order of their numbers, which separate processes do not report in.
func (s *supervisor) setDatanode(process string, d Datanode) {
	var i int
	if _, err := fmt.Sscanf(process, datanode+"%d", &i); err != nil {
		i = len(s.box.Datanodes)
	}
	for len(s.box.Datanodes) <= i {
		s.box.Datanodes = append(s.box.Datanodes, Datanode{})
	}
	s.box.Datanodes[i] = d
}

// publish writes the configuration for clients and, as the last thing, box.json.
func (s *supervisor) publish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box.User, s.box.SparkUser = s.o.User, s.o.SparkUser
	if s.o.hdfs() {
		properties := map[string]string{}
		maps.Copy(properties, s.o.Hadoop)
		maps.Copy(properties, s.client)
		s.box.Conf = filepath.Join(s.o.Dir, confDir)
		if err := writeConf(s.box.Conf, properties); err != nil {
			return err
		}
	}
	s.box.State = Running
	return writeState(s.box)
}

// finish says in box.json how the box ended.
func (s *supervisor) finish(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box.State = Stopped
	if err != nil {
		s.box.State, s.box.Error = Failed, err.Error()
	}
	return writeState(s.box)
}

func (s *supervisor) clientProperties() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.client)
}

func (s *supervisor) snapshot() Box {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.box
	b.Datanodes, b.Namenodes, b.Processes = slices.Clone(b.Datanodes), slices.Clone(b.Namenodes), slices.Clone(b.Processes)
	return b
}

// call sends a command to a process.
func (s *supervisor) call(ctx context.Context, process, command string) ([]string, error) {
	s.mu.Lock()
	d := s.daemons[process]
	s.mu.Unlock()
	if d == nil {
		return nil, &Error{Kind: kindUnreachable, Message: process + " is not running"}
	}
	return d.call(ctx, command)
}

// endGrace is how long a process may take after the end of its standard input, at which it halts at once.
const endGrace = 2 * time.Second

// endAll ends every process, all at once.
func (s *supervisor) endAll() {
	s.mu.Lock()
	s.stopping = true
	var ends sync.WaitGroup
	for _, d := range s.daemons {
		ends.Go(func() { d.end(endGrace) })
	}
	s.mu.Unlock()
	ends.Wait()
	s.watches.Wait()
}

// report is one line that a supervisor process writes to its parent.
type report struct {
	Progress string `json:"progress,omitempty"`
	Box      *Box   `json:"box,omitempty"`
	Error    *Error `json:"error,omitempty"`
}

// Supervise is the main function of the process that Options.Supervisor names. Up gives it the options on its
// standard input and reads its standard output until the box is ready or has failed; nothing is written after that.
// It returns as Run does. The end of the context is a stop in good order; any other end of the process, too, ends the
// servers.
func Supervise(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var o Options
	if err := json.NewDecoder(stdin).Decode(&o); err != nil {
		return &Error{Kind: kindUsage, Message: "options on the standard input", Hint: "this command is started by dkpipe box up", Err: err}
	}
	out := json.NewEncoder(stdout)
	tell := func(r report) { _ = out.Encode(r) } // a parent that is gone ends this process by the signal of the pipe
	o.Progress = func(text string) { tell(report{Progress: text}) }
	said := false
	err := Run(ctx, o, func(b Box) {
		said = true
		tell(report{Box: &b})
	})
	if err != nil && !said {
		tell(report{Error: portable(err)})
	}
	return err
}
