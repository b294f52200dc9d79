package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
)

// psFlags say where a data server is, and how long it lives.
type psFlags struct {
	listen     string
	advertise  string
	ticketFile string
	patience   time.Duration
	stdin      bool
}

// psReport is what `ps --json` prints at its end.
type psReport struct {
	Command    string  `json:"command"`
	Status     string  `json:"status"`
	Address    string  `json:"address"`
	Parameters int     `json:"parameters"` // that it held
	Seconds    float64 `json:"seconds"`
}

func (a *app) psCommand() *cobra.Command {
	var f psFlags
	c := &cobra.Command{
		Use:   "ps",
		Short: "Be one data server: hold a share of the parameters of a run",
		Long: "Waits for a run that names it in train.servers, holds a share of the run's parameters, applies what the run's coordinator\n" +
			"decides, and ends with the run. Workers exchange with all data servers at once. Nothing needs to be said about the job:\n" +
			"the coordinator sends it. A data server that is started again at the same address takes the place of the one before:\n" +
			"the run goes back to the last copy of its state.\n\n" +
			"The ticket of the run is read from the environment variable " + ticketVariable + " or from a file; on an address that other\n" +
			"machines can reach, " + identityVariable + " names the identity.pem that belongs to it (dkpipe worker ticket makes both).\n" +
			"Runs with train.servers: NUMBER start their data servers themselves.",
		Example: "  " + ticketVariable + "=… dkpipe ps --listen 127.0.0.1:7071\n" +
			"  " + identityVariable + "=identity.pem dkpipe ps --listen 0.0.0.0:7071-7079 --advertise node3 --ticket-file ticket",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.runDataServer(c.Context(), os.Stdin, f)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(r)
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:0", "`ADDRESS` such as 127.0.0.1:7071, 0.0.0.0:7071-7079, unix:/path, or fd:3 for a socket that is inherited")
	c.Flags().StringVar(&f.advertise, "advertise", "", "the `HOST` or HOST:PORT that the run and its workers reach it at, when that is another")
	c.Flags().StringVar(&f.ticketFile, "ticket-file", "", "the `FILE` that holds the ticket, instead of "+ticketVariable)
	c.Flags().DurationVar(&f.patience, "patience", 30*time.Second, "how long to go on when the coordinator of the run says nothing")
	c.Flags().BoolVar(&f.stdin, "stdin", false, "end when standard input does")
	return c
}

// runDataServer serves one run.
func (a *app) runDataServer(ctx context.Context, stdin io.Reader, f psFlags) (*psReport, error) {
	start := time.Now()
	events, err := a.openEvents()
	if err != nil {
		return nil, err
	}
	defer events.close()
	if f.ticketFile == "" && a.env(ticketVariable) == "" {
		return nil, usage("make one for the run and its data servers with: dkpipe worker ticket DIR", "ps needs the ticket of its run, in %s or a --ticket-file", ticketVariable)
	}
	ticket, err := a.readTicket(f.ticketFile)
	if err != nil {
		return nil, err
	}
	l, err := listenAt(f.listen)
	if err != nil {
		return nil, err
	}
	at, err := psrpc.Advertised(l.Addr(), f.advertise)
	if err != nil {
		return nil, hinted{errors.Join(err, l.Close()), "give the host that the run and its workers reach this machine at: --advertise HOST"}
	}
	identity, err := a.identity(beyondMachine(l.Addr()))
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s, err := psrpc.NewDataServer(nil, psrpc.DataOptions{Ticket: ticket, Identity: identity, Rule: a.ruleOf})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	if !f.stdin {
		fmt.Fprintf(a.stderr, "a data server waits at %s for a run with train.servers and the same ticket\n", at)
	}
	events.add("listening", map[string]any{"address": at})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if f.stdin {
		go func() { // ends with the process at the latest: a read of stdin cannot be interrupted
			_, _ = io.Copy(io.Discard, stdin)
			cancel(errOrphaned)
		}()
	}
	err = s.Wait(ctx, f.patience)
	if errors.Is(context.Cause(ctx), errOrphaned) {
		err = nil
	}
	r := &psReport{Command: "ps", Status: "ok", Address: at, Parameters: s.Loaded(), Seconds: seconds(time.Since(start))}
	s.Close()
	return r, errors.Join(err, <-served)
}

var errOrphaned = errors.New("standard input has ended")

// listenAt opens a socket, or takes one that was inherited.
func listenAt(address string) (net.Listener, error) {
	number, ok := strings.CutPrefix(address, "fd:")
	if !ok {
		return psrpc.ListenAnywhere(address)
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n < 3 {
		return nil, usage("write fd:3, as whoever starts the process has it", "--listen %s is no inherited socket", address)
	}
	f := os.NewFile(uintptr(n), address)
	l, err := net.FileListener(f)
	if err != nil {
		return nil, usage("write fd:3, as whoever starts the process has it", "--listen %s: %v", address, err)
	}
	return l, f.Close()
}

// beyondMachine says whether other machines can reach a socket.
func beyondMachine(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

// identity reads the identity that belongs to the ticket, where there is one.
func (a *app) identity(needed bool) (psrpc.Identity, error) {
	file := a.env(identityVariable)
	if file == "" && needed {
		return psrpc.Identity{}, &pipeline.Error{Kind: pipeline.Denied, Message: identityVariable + " is not set: connections from other machines would not be encrypted",
			Hint: "make ticket and identity with: dkpipe worker ticket DIR"}
	}
	if file == "" {
		return psrpc.Identity{}, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return psrpc.Identity{}, usage("name the identity.pem that belongs to the ticket", "%s: %v", identityVariable, err)
	}
	return psrpc.ParseIdentity(b)
}

// ruleOf makes the server's half of a run's trainer: what a data server knows of the job.
func (a *app) ruleOf(blob []byte) (ps.Rule, error) {
	var wj workerJob
	if err := json.Unmarshal(blob, &wj); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: "the job of the run", Err: err}
	}
	s, err := wj.read(a)
	if err != nil {
		return nil, err
	}
	s.Train.Kernel = a.kernel(s.Train.Kernel)
	alg, err := buildAlgorithm(s.Train.Trainer)
	if err != nil {
		return nil, err
	}
	return trainers.Rule(alg, s.Train.Workers, func(n int) (optim.Optimizer, error) {
		return buildOptimizer(s.Train, oneBlock(n)) // the rule counts its steps by itself
	})
}
