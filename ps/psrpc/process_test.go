package psrpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

const (
	envAddress = "DKPIPE_TEST_ADDRESS"
	envTicket  = "DKPIPE_TEST_TICKET"
	envData    = "DKPIPE_TEST_DATA"
)

// TestMain makes the test binary a worker when it is started with an address, and else looks for leaked goroutines.
func TestMain(m *testing.M) {
	if address := os.Getenv(envAddress); address != "" {
		if err := beWorker(address); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if address := os.Getenv(envData); address != "" {
		if err := beDataServer(address); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// beDataServer serves until it is killed, and says where.
func beDataServer(address string) error {
	ticket, err := ParseTicket(os.Getenv(envTicket))
	if err != nil {
		return err
	}
	s, err := NewDataServer(pstest.Add{}, DataOptions{Ticket: ticket})
	if err != nil {
		return err
	}
	l, err := Listen(address)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return s.Serve(l)
}

// beWorker joins, takes a unit, says so, waits for a line on stdin, and tries to commit the unit.
func beWorker(address string) error {
	ticket, err := ParseTicket(os.Getenv(envTicket))
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := Join(ctx, ClientOptions{Address: address, Ticket: ticket, Worker: 0})
	if err != nil {
		return err
	}
	u, turn, err := c.Next(ctx, 0, c.Incarnation())
	if err != nil || turn != ps.Work {
		return fmt.Errorf("turn %d, %w", turn, err)
	}
	fmt.Println("working")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	_, err = c.Exchange(ctx, ps.Commit{Incarnation: c.Incarnation(), Seq: 1, Steps: 1, Delta: []float32{1}, Positions: []ps.Position{{Unit: u.ID, Done: true}}}, make([]float32, 1))
	if errors.Is(err, ps.ErrFenced) {
		fmt.Println("fenced")
		return c.Close()
	}
	return fmt.Errorf("not fenced: %w", err)
}

// Real processes: the work of one that is killed comes back by its connection, although no lease would end within the
// test; that of one that is stopped comes back by its lease, and when it goes on, it is fenced off.
func TestKilledAndStoppedProcesses(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		o      ServerOptions
	}{
		{"SIGKILL", syscall.SIGKILL, ServerOptions{Heartbeat: time.Hour, Grace: 50 * time.Millisecond}},
		{"SIGSTOP", syscall.SIGSTOP, ServerOptions{Heartbeat: time.Second, Grace: time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := newCore(t, []float32{0}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
			c.o.Ticket = NewTicket()
			addr := serve(t, srv, "127.0.0.1:0", c.o)
			heir, err := srv.Join(1)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), envAddress+"="+addr.String(), envTicket+"="+c.o.Ticket.Text())
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
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
			lines := bufio.NewScanner(out)
			expect := func(want string) {
				t.Helper()
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("the worker says %q, want %q (%v)", lines.Text(), want, lines.Err())
				}
			}
			expect("working")
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			u, turn, err := srv.Next(ctx, 1, heir)
			if err != nil || turn != ps.Work || u.ID != 0 {
				t.Fatalf("%+v, turn %d, %v", u, turn, err)
			}
			if c.signal == syscall.SIGSTOP {
				if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Fprintln(in, "go on"); err != nil {
					t.Fatal(err)
				}
				expect("fenced")
			}
		})
	}
}
