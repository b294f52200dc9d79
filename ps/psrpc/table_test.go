package psrpc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
	"dkpipe/ps/pstest"
)

// ones is a commit that adds one everywhere.
func ones(c *Client, seq, base uint64) ps.Commit {
	return ps.Commit{Worker: c.Worker(), Incarnation: c.Incarnation(), Seq: seq, Base: base, Steps: 1, Samples: 1, Delta: slices.Repeat([]float32{1}, c.Len())}
}

// A coordinator that died: another one starts at the same address from the checkpoint, takes the data servers over, and the
// workers, which waited, join it. What was committed after the checkpoint is committed again and counts once.
func TestRestartedCoordinatorTakesOver(t *testing.T) {
	for _, servers := range []int{0, 2} {
		t.Run(fmt.Sprint(servers), func(t *testing.T) {
			const n = 100
			o := ps.Options{Block: 10}
			ticket := NewTicket()
			var addrs []string
			for range servers {
				a, _ := dataServer(t, pstest.Add{}, "127.0.0.1:0", DataOptions{Ticket: ticket})
				addrs = append(addrs, a.String())
			}
			start := func(address string, o ps.Options, from *ps.Snapshot) (*ps.Server, string, func()) {
				core, err := ps.NewCore(make([]float32, n), pstest.Add{}, o)
				if err != nil {
					t.Fatal(err)
				}
				if from != nil {
					if err := core.Restore(from); err != nil {
						t.Fatal(err)
					}
				}
				srv := ps.NewServer(core, nil)
				var keepers []ps.Keeper
				var close []io.Closer
				for _, a := range addrs {
					k, err := DialKeeper(KeeperOptions{Address: a, Ticket: ticket})
					if err != nil {
						t.Fatal(err)
					}
					keepers, close = append(keepers, k), append(close, k)
				}
				if servers > 0 {
					if _, err := srv.Spread(keepers); err != nil {
						t.Fatal(err)
					}
				}
				s, err := NewServer(srv, ServerOptions{Ticket: ticket, Data: addrs})
				if err != nil {
					t.Fatal(err)
				}
				l, err := Listen(address)
				if err != nil {
					t.Fatal(err)
				}
				served := make(chan error, 1)
				go func() { served <- s.Serve(l) }()
				return srv, l.Addr().String(), func() {
					s.grpc.Stop()
					s.Close(t.Context())
					for _, c := range close {
						_ = c.Close() // it is gone with the rest
					}
					if err := <-served; err != nil {
						t.Error(err)
					}
				}
			}
			first, address, kill := start("127.0.0.1:0", o, nil)
			c := client(t, ClientOptions{Address: address, Ticket: ticket})
			dst := make([]float32, n)
			if _, err := c.Exchange(t.Context(), ones(c, 1, 0), dst); err != nil {
				t.Fatal(err)
			}
			saved := first.Snapshot()
			if _, err := c.Exchange(t.Context(), ones(c, 2, 1), dst); err != nil || dst[0] != 2 {
				t.Fatal(dst[0], err)
			}
			kill()
			waits := make(chan error, 1)
			go func() {
				_, err := c.Exchange(t.Context(), ones(c, 3, 2), dst)
				waits <- err
			}()
			o.Generation = saved.Generation + 1
			second, _, end := start(address, o, saved)
			defer end()
			if err := <-waits; !errors.Is(err, ps.ErrFenced) {
				t.Fatalf("a commit of the life before: %v", err)
			}
			if err := c.Rejoin(t.Context()); err != nil {
				t.Fatal(err)
			}
			ack, err := c.Exchange(t.Context(), ones(c, 1, 1), dst)
			if err != nil || ack.Version != 2 || slices.ContainsFunc(dst, func(v float32) bool { return v != 2 }) {
				t.Fatalf("%+v, %v, %v", ack, dst[:3], err)
			}
			if s := second.Progress().Stats.Samples; s != 2 {
				t.Errorf("%d samples", s)
			}
		})
	}
}

// A coordinator went back to a checkpoint and died, and another one starts from that checkpoint without leaving room for the
// rollback: the data servers, which are further on, are not taken for loaded.
func TestDataServersAreNotTakenForLoaded(t *testing.T) {
	ticket := NewTicket()
	a, _ := dataServer(t, pstest.Add{}, "127.0.0.1:0", DataOptions{Ticket: ticket})
	start := func(o ps.Options, from *ps.Snapshot) (*ps.Server, error) {
		core, err := ps.NewCore(make([]float32, 4), pstest.Add{}, o)
		if err != nil {
			t.Fatal(err)
		}
		if from != nil {
			if err := core.Restore(from); err != nil {
				t.Fatal(err)
			}
		}
		srv := ps.NewServer(core, nil)
		_, err = srv.Spread([]ps.Keeper{keeper(t, KeeperOptions{Address: a.String(), Ticket: ticket})})
		return srv, err
	}
	first, err := start(ps.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	saved := first.Snapshot()
	if err := first.Rollback(saved); err != nil {
		t.Fatal(err)
	}
	c := client(t, ClientOptions{Address: serve(t, first, "127.0.0.1:0", ServerOptions{Ticket: ticket, Data: []string{a.String()}}).String(), Ticket: ticket})
	if _, err := c.Exchange(t.Context(), ones(c, 1, 0), make([]float32, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := start(ps.Options{Generation: saved.Generation + 1}, saved); err == nil || !strings.Contains(err.Error(), "table") {
		t.Fatalf("the second one: %v", err)
	}
	second, err := start(ps.Options{Generation: saved.Generation + 2}, saved)
	if err != nil {
		t.Fatal(err)
	}
	if s := second.Snapshot(); s.Version != 0 || s.Centre[0] != 0 {
		t.Fatalf("%+v", s)
	}
}

// A data server dies within a round: nobody's delta of that round counts twice after all went back to the checkpoint.
func TestLostRoundIsMadeAgain(t *testing.T) {
	srv := newCore(t, make([]float32, 8), ps.Options{Mode: ps.Rounds, Workers: 2, Block: 2})
	ticket := NewTicket()
	addr := group(t, srv, 2, ServerOptions{Ticket: ticket}, srv.Abort, nil)
	a := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 0})
	b := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 1})
	saved := srv.Snapshot()
	first := make(chan error, 1)
	go func() {
		_, err := a.Exchange(t.Context(), ones(a, 1, 0), make([]float32, 8))
		first <- err
	}()
	awaiting(t, srv, 1)
	if err := srv.Rollback(saved); err != nil {
		t.Fatal(err)
	}
	if err := <-first; !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit of the lost round: %v", err)
	}
	var all sync.WaitGroup
	for _, c := range []*Client{a, b} {
		all.Go(func() {
			if err := c.Rejoin(t.Context()); err != nil {
				t.Error(err)
				return
			}
			dst := make([]float32, 8)
			if ack, err := c.Exchange(t.Context(), ones(c, 1, 0), dst); err != nil || ack.Version != 1 || dst[7] != 1 {
				t.Errorf("%+v, %v, %v", ack, dst, err)
			}
		})
	}
	all.Wait()
}

// A checkpoint of two data servers goes on with three, and with none.
func TestCheckpointGoesOnWithAnotherNumberOfServers(t *testing.T) {
	const n = 50
	o := ps.Options{Block: 4}
	var saved *ps.Snapshot
	for i, servers := range []int{2, 3, 0, 1} {
		o.Generation = uint32(i)
		core, err := ps.NewCore(make([]float32, n), pstest.Elastic{Alpha: 0.5}, o)
		if err != nil {
			t.Fatal(err)
		}
		if saved != nil {
			if err := core.Restore(saved); err != nil {
				t.Fatal(err)
			}
		}
		srv := ps.NewServer(core, nil)
		ticket := NewTicket()
		var addr net.Addr
		if servers > 0 {
			addr = group(t, srv, servers, ServerOptions{Ticket: ticket}, srv.Abort, nil)
		} else {
			addr = serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket})
		}
		c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
		commit := ones(c, 1, uint64(i))
		for j := range commit.Delta {
			commit.Delta[j] = float32(j * (i + 1))
		}
		if _, err := c.Exchange(t.Context(), commit, make([]float32, n)); err != nil {
			t.Fatal(err)
		}
		saved = srv.Snapshot()
	}
	for j := range n {
		var want float32
		for i := range 4 {
			want += 0.5 * (float32(j*(i+1)) - want)
		}
		if saved.Centre[j] != want || saved.Slots[j] != 4 {
			t.Fatalf("element %d: %g after %g commits, want %g after 4", j, saved.Centre[j], saved.Slots[j], want)
		}
	}
}

// NaN in the part of one data server is refused by all, and the message names the element of the whole vector.
func TestNaNAtOneDataServerIsRefusedByAll(t *testing.T) {
	srv := newCore(t, make([]float32, 64), ps.Options{Block: 4})
	ticket := NewTicket()
	addr := group(t, srv, 3, ServerOptions{Ticket: ticket}, srv.Abort, nil)
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	commit, dst := ones(c, 1, 0), make([]float32, 64)
	commit.Delta[37], commit.Delta[50] = nan32(), nan32()
	ack, err := c.Exchange(t.Context(), commit, dst)
	if err != nil || !strings.Contains(ack.Rejected, "element 37") || ack.Version != 0 || slices.ContainsFunc(dst, func(v float32) bool { return v != 0 }) {
		t.Fatalf("%+v, %v", ack, err)
	}
	if ack, err = c.Exchange(t.Context(), ones(c, 2, 0), dst); err != nil || ack.Rejected != "" || dst[63] != 1 {
		t.Fatalf("%+v, %v", ack, err)
	}
}

// A worker that does not read its reply holds up nobody else, and the server does not pile anything up for it.
func TestSlowReaderHoldsUpOnlyItself(t *testing.T) {
	const n = 6 << 20 // 24 MB: more than the window
	srv := newCore(t, make([]float32, n), ps.Options{Workers: 2})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket})
	p := newProxy(t, addr, unlimited)
	slow := client(t, ClientOptions{Address: p.address(), Ticket: ticket, Worker: 0})
	quick := client(t, ClientOptions{Address: addr.String(), Ticket: ticket, Worker: 1})
	up, err := open(t.Context(), slow.conn, methodExchange)
	if err != nil {
		t.Fatal(err)
	}
	defer up.close()
	for range 50 { // it asks again and again and never takes an answer
		if err := up.stream.SendMsg(&outgoing{control: &pspb.Push{Worker: 0, Incarnation: slow.Incarnation()}}); err != nil {
			t.Fatal(err)
		}
	}
	dst := make([]float32, n)
	commit := ones(quick, 1, 0)
	var before, after runtime.MemStats
	for i := range uint64(8) {
		if i == 2 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		commit.Seq, commit.Base = i+1, i
		if _, err := quick.Exchange(t.Context(), commit, dst); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if dst[n-1] != 8 {
		t.Errorf("centre %g", dst[n-1])
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 30<<20 {
		t.Errorf("%d MB more are in use", grown>>20)
	}
}

// The life at the other end of a connection that is half open, because that machine is gone without a word, ends with its lease:
// the connection says nothing.
func TestHalfOpenConnectionEndsTheLife(t *testing.T) {
	srv := newCore(t, []float32{0}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	ticket := NewTicket()
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Heartbeat: 50 * time.Millisecond, Grace: time.Hour})
	p := newProxy(t, addr, unlimited)
	gone := client(t, ClientOptions{Address: p.address(), Ticket: ticket, Worker: 0})
	heir, err := srv.Join(1)
	if err != nil {
		t.Fatal(err)
	}
	u := stallAtWork(t, srv, p, gone) // nothing comes through and nothing is closed
	v, turn, err := srv.Next(t.Context(), 1, heir)
	if err != nil || turn != ps.Work || v.ID != u.ID {
		t.Fatalf("%+v, turn %d, %v", v, turn, err)
	}
	p.resume()
}

// Real processes: a data server that is stopped costs time only; one that is killed is replaced from the checkpoint.
func TestStoppedAndKilledDataServerProcesses(t *testing.T) {
	srv := newCore(t, make([]float32, 40), ps.Options{Block: 4})
	ticket := NewTicket()
	lost := make(chan error, 1)
	child := func(address string) (*exec.Cmd, string) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), envData+"="+address, envTicket+"="+ticket.Text())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // an error: it has ended
			_ = cmd.Wait()
		})
		var at string
		if _, err := fmt.Fscanln(out, &at); err != nil {
			t.Fatal(err)
		}
		return cmd, at
	}
	local, _ := dataServer(t, srv.Rule(), "127.0.0.1:0", DataOptions{Ticket: ticket})
	process, at := child("127.0.0.1:0")
	way := func(address string) *Keeper {
		return keeper(t, KeeperOptions{Address: address, Ticket: ticket, Retry: 200 * time.Millisecond, Lost: func(err error) { lost <- err }})
	}
	if _, err := srv.Spread([]ps.Keeper{way(local.String()), way(at)}); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Data: []string{local.String(), at}})
	c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
	dst := make([]float32, 40)
	pushed := make(chan error, 1)
	push := func(seq, base uint64) {
		_, err := c.Exchange(t.Context(), ones(c, seq, base), dst)
		pushed <- err
	}
	signal := func(s os.Signal) {
		t.Helper()
		if err := process.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	for state := ""; state != "T"; { // the signal is on its way until every thread stands still
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		state, _, _ = strings.Cut(rest, " ")
	}
	go push(1, 0)
	select {
	case err := <-pushed:
		t.Fatalf("an exchange went through a stopped server: %v", err)
	case <-time.After(50 * time.Millisecond): // not a synchronisation: it must not happen, however long one waits
	}
	signal(syscall.SIGCONT)
	if err := <-pushed; err != nil || dst[39] != 1 {
		t.Fatal(dst[39], err)
	}
	saved := srv.Snapshot()
	signal(syscall.SIGKILL)
	_ = process.Wait() // killed
	go push(2, 1)
	if _, err := srv.Join(1); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Decide(t.Context(), ps.Commit{Worker: 1, Incarnation: 2}, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-lost; err == nil {
		t.Fatal("lost without an error")
	}
	_, again := child(at)
	if err := srv.Replace(1, way(again), saved); err != nil {
		t.Fatal(err)
	}
	if err := <-pushed; !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit of the life before: %v", err)
	}
	if err := c.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	push(1, 1)
	if err := <-pushed; err != nil || slices.ContainsFunc(dst, func(v float32) bool { return v != 2 }) {
		t.Fatal(dst, err)
	}
}
