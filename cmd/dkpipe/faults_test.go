package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
)

// faulted is a run of three worker processes, of which number 1 is to be disturbed.
type faulted struct {
	*joined
	workers []*dkpipe
	proxy   *cutter // between worker 1 and the run
}

// startFaulted starts a run that does not end by itself, and its workers.
func startFaulted(t *testing.T, trainer string) *faulted {
	t.Helper()
	f := &faulted{joined: startJoined(t, "--set", "train.workers=3,train.epochs=100000,train.batch_size=4,dataset.shards=6,train.trainer="+trainer)}
	f.proxy = newCutter(t, f.address)
	for w := range 3 {
		f.workers = append(f.workers, f.start(t, w))
	}
	f.arrival(t, 3)
	f.goesOn(t)
	return f
}

// start starts the worker of a number.
func (f *faulted) start(t *testing.T, w int) *dkpipe {
	t.Helper()
	address := f.address
	if w == 1 {
		address = f.proxy.l.Addr().String()
	}
	return start(t, t.TempDir(), f.env, "worker", "--connect", address, "--worker", fmt.Sprint(w), "--json")
}

// seen counts events of a kind; worker is one they are to be about, or negative.
func (f *faulted) seen(t *testing.T, kind string, worker int) int {
	t.Helper()
	b, err := os.ReadFile(f.events)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, []byte(`"type":"`+kind+`"`)) {
			continue
		}
		var e struct{ Worker int }
		if worker < 0 || json.Unmarshal(line, &e) == nil && e.Worker == worker { // the last line may be half there
			n++
		}
	}
	return n
}

// times waits until there were n events of a kind about a worker.
func (f *faulted) times(t *testing.T, kind string, worker, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%s of worker %d, %d times", kind, worker, n), func() bool { return f.seen(t, kind, worker) >= n })
}

// goesOn waits until two more epochs are complete: one may have been nearly so.
func (f *faulted) goesOn(t *testing.T) {
	t.Helper()
	before := f.seen(t, "epoch", -1)
	await(t, "another epoch", func() bool { return f.seen(t, "epoch", -1) >= before+2 })
}

func (f *faulted) signal(t *testing.T, w int, s syscall.Signal) {
	t.Helper()
	if err := f.workers[w].cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// ends stops the run and checks what it kept: in every epoch that is complete, each row counts once.
func (f *faulted) ends(t *testing.T) {
	t.Helper()
	f.goesOn(t)
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(t); code != 130 {
		t.Fatalf("exit code %d\n%s\n%s", code, &f.stdout, &f.stderr)
	}
	r := f.result(t)
	text, err := os.ReadFile(filepath.Join(f.dir, r.Model, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	complete := 0
	for line := range bytes.Lines(text) {
		var e trainers.Epoch
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Partial {
			continue
		}
		complete++
		if e.Epoch != complete || e.Samples != r.Rows["train"] {
			t.Errorf("epoch %d, line %d: %d samples, there are %d rows", e.Epoch, complete, e.Samples, r.Rows["train"])
		}
	}
	kept := run(t, f.dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
	if complete < 4 || kept.Metrics["test"]["accuracy"] < 0.9 {
		t.Errorf("%d epochs, accuracy %.4f", complete, kept.Metrics["test"]["accuracy"])
	}
}

// TestFaultsOfWorkerProcesses is the part of the fault contract (package ps/pstest) that processes, signals and a proxy can
// show, without rounds and in rounds.
func TestFaultsOfWorkerProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leases")
	}
	for name, disturb := range map[string]func(*testing.T, *faulted){
		"killed": func(t *testing.T, f *faulted) {
			f.signal(t, 1, syscall.SIGKILL)
			f.times(t, "worker_left", 1, 1)
		},
		"killed and started again": func(t *testing.T, f *faulted) {
			f.signal(t, 1, syscall.SIGKILL)
			f.times(t, "worker_left", 1, 1)
			f.workers[1] = f.start(t, 1)
			f.times(t, "worker_joined", 1, 2)
		},
		"stopped until its lease is over": func(t *testing.T, f *faulted) {
			f.signal(t, 1, syscall.SIGSTOP)
			f.times(t, "worker_left", 1, 1)
			f.goesOn(t) // the others
			f.signal(t, 1, syscall.SIGCONT)
			f.times(t, "worker_joined", 1, 2)
		},
		"out of reach until its lease is over": func(t *testing.T, f *faulted) {
			f.proxy.stall()
			f.times(t, "worker_left", 1, 1)
			f.goesOn(t)
			f.proxy.resume()
			f.times(t, "worker_joined", 1, 2)
		},
		"connections are cut": func(t *testing.T, f *faulted) {
			for range 3 {
				f.proxy.cut()
				f.goesOn(t)
			}
			if n := f.proxy.cuts; n < 4 { // both ends count
				t.Errorf("%d ends of connections were cut", n)
			}
		},
		"the server is stopped for longer than a lease": func(t *testing.T, f *faulted) {
			if err := f.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Second) // is how long it stands still: three heartbeats are 6
			if err := f.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			f.goesOn(t)
			if n := f.seen(t, "worker_left", -1); n > 0 {
				t.Errorf("%d workers were given up for it", n)
			}
		},
		"another comes and one leaves": func(t *testing.T, f *faulted) {
			f.workers = append(f.workers, f.start(t, 3))
			f.times(t, "worker_joined", 3, 1)
			f.signal(t, 2, syscall.SIGTERM)
			f.times(t, "worker_left", 2, 1)
			if code := f.workers[2].wait(t); code != 0 {
				t.Errorf("the worker that was asked to leave ended with code %d: %s", code, &f.workers[2].stderr)
			}
		},
		"one sends NaN": func(t *testing.T, f *faulted) {
			sendNaN(t, f.joined, 3, func() {})
		},
	} {
		for _, trainer := range []string{"agn", "local_sgd"} {
			t.Run(name+"/"+trainer, func(t *testing.T) {
				t.Parallel()
				f := startFaulted(t, trainer)
				disturb(t, f)
				f.ends(t)
			})
		}
	}
}

// sendNaN is a worker that takes work, sends nothing but NaN, and is given up by itself after three refusals, as any worker is.
// meanwhile is called when it has joined.
func sendNaN(t *testing.T, j *joined, number ps.Worker, meanwhile func()) {
	t.Helper()
	ticket, err := psrpc.ParseTicket(strings.TrimPrefix(j.env[0], ticketVariable+"="))
	if err != nil {
		t.Fatal(err)
	}
	c, err := psrpc.Join(t.Context(), psrpc.ClientOptions{Address: j.address, Ticket: ticket, Worker: number})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	meanwhile()
	delta, centre := make([]float32, c.Len()), make([]float32, c.Len())
	ack, err := c.Exchange(t.Context(), ps.Commit{Worker: number, Incarnation: c.Incarnation()}, centre)
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(3) {
		delta[int(seq)*len(delta)/3] = float32(math.NaN())
		ack, err = c.Exchange(t.Context(), ps.Commit{Worker: number, Incarnation: c.Incarnation(), Seq: seq + 1, Base: ack.Version, Steps: 1, Delta: delta}, centre)
		if err != nil {
			t.Fatal(err)
		}
		if ack.Rejected == "" {
			t.Errorf("commit %d was not refused: %+v", seq+1, ack)
		}
		for _, v := range centre {
			if v-v != 0 {
				t.Fatal("the centre is not finite")
			}
		}
	}
}

// cutter stands between a worker and a run. It can let nothing through, or cut connections.
type cutter struct {
	l      net.Listener
	target string

	mu    sync.Mutex
	gate  chan struct{} // closed: bytes flow
	conns map[net.Conn]bool
	cuts  int
	all   sync.WaitGroup
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{l: l, target: target, gate: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(p.gate)
	p.all.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", target)
			if err != nil {
				_ = a.Close()
				continue
			}
			p.mu.Lock()
			p.conns[a], p.conns[b] = true, true
			p.mu.Unlock()
			p.all.Go(func() { p.copy(a, b) })
			p.all.Go(func() { p.copy(b, a) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.resume()
		p.cut()
		p.all.Wait()
	})
	return p
}

// copy hands bytes on until one side is closed.
func (p *cutter) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		<-gate
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = io.ErrClosedPipe
			}
		}
		if err != nil {
			_, _ = to.Close(), from.Close() // the other direction sees it
			return
		}
	}
}

// cut breaks all connections.
func (p *cutter) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
		p.cuts++
	}
	clear(p.conns)
}

// stall lets nothing through until resume.
func (p *cutter) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *cutter) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}
