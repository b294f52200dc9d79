package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/ps/psrpc"
)

// Environment of a coordinator and its workers.
const (
	ticketVariable   = "DKPIPE_TICKET"   // the ticket itself
	identityVariable = "DKPIPE_IDENTITY" // the file of the coordinator's certificate and key
)

// ticketReport is what `worker ticket --json` prints.
type ticketReport struct {
	Command  string `json:"command"`
	Status   string `json:"status"`
	Ticket   string `json:"ticket"`   // files
	Identity string `json:"identity"` //
}

func (a *app) ticketCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ticket DIR",
		Short: "Make a join ticket before the run that it is for",
		Long: "Writes DIR/ticket, which lets workers join a run, and DIR/identity.pem, by which they know its coordinator, readable by\n" +
			"their owner only. A scheduler hands the ticket to both ends in " + ticketVariable + ", and the name of the identity's file to\n" +
			"the coordinator in " + identityVariable + ". A run that is given neither makes its own.",
		Example: "  dkpipe worker ticket secrets && kubectl create secret generic dkpipe-run --from-file=secrets",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := makeTicket(args[0])
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(r)
			}
			return nil
		},
	}
}

// makeTicket writes a ticket and an identity into a folder. It replaces nothing: workers may hold the old ones.
func makeTicket(dir string) (*ticketReport, error) {
	authority, err := psrpc.NewAuthority()
	if err != nil {
		return nil, err
	}
	identity, err := authority.Identity()
	if err != nil {
		return nil, err
	}
	text, err := identity.PEM()
	if err != nil {
		return nil, err
	}
	r := &ticketReport{Command: "worker ticket", Status: "ok", Ticket: filepath.Join(dir, "ticket"), Identity: filepath.Join(dir, "identity.pem")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, usage("name a folder that can be made", "%v", err)
	}
	if err := writeSecret(r.Ticket, authority.Ticket().Text()+"\n"); err != nil {
		return nil, err
	}
	return r, writeSecret(r.Identity, string(text))
}

// writeSecret makes a file that only its owner can read.
func writeSecret(name, text string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return usage("name another folder, or remove what is there", "%v", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// admission is what decides who gets into a run: the ticket, and the coordinator's identity where connections are to be
// encrypted. They come from the environment, or are made for this run alone.
func (a *app) admission(encrypted bool) (t psrpc.Ticket, id psrpc.Identity, err error) {
	if text := a.env(ticketVariable); text != "" {
		if t, err = psrpc.ParseTicket(strings.TrimSpace(text)); err != nil {
			return t, id, err
		}
		file := a.env(identityVariable)
		if file == "" && encrypted {
			return t, id, &pipeline.Error{Kind: pipeline.Denied, Message: ticketVariable + " is set, and " + identityVariable + " is not: connections from other machines would not be encrypted",
				Hint: "make both with: dkpipe worker ticket DIR"}
		}
		if file == "" {
			return t, id, nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return t, id, usage("name the identity.pem that belongs to the ticket", "%s: %v", identityVariable, err)
		}
		id, err = psrpc.ParseIdentity(b)
		return t, id, err
	}
	if !encrypted {
		return psrpc.NewTicket(), id, nil
	}
	authority, err := psrpc.NewAuthority()
	if err != nil {
		return t, id, err
	}
	id, err = authority.Identity()
	return authority.Ticket(), id, err
}

// readTicket takes a ticket from a file or, without one, from the environment.
func (a *app) readTicket(file string) (psrpc.Ticket, error) {
	text, from := a.env(ticketVariable), ticketVariable
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return psrpc.Ticket{}, usage("give the file that the coordinator of the run has written", "--ticket-file: %v", err)
		}
		text, from = string(b), "--ticket-file "+file
	}
	if strings.TrimSpace(text) == "" {
		return psrpc.Ticket{}, usage("set "+ticketVariable+" or give --ticket-file: the coordinator of the run hands the ticket to its workers", "there is no ticket: %s is empty", from)
	}
	t, err := psrpc.ParseTicket(strings.TrimSpace(text))
	if err != nil {
		return t, usage("the coordinator of the run hands it to its workers", "%s: %v", from, err)
	}
	return t, nil
}
