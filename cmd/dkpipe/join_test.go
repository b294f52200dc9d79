package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"dkpipe/pipeline/spec"
	"dkpipe/ps/psrpc"
)

// joined is a run with launch join whose ticket the test knows.
type joined struct {
	*dkpipe
	dir, events string
	env         []string // of workers
	address     string
}

// startJoined starts a coordinator and waits until it listens.
func startJoined(t *testing.T, args ...string) *joined {
	t.Helper()
	return startJoinedIn(t, quickstart(t), append([]string{"run", "-f", "job.yaml", "--events", "events", "--json", "--launch", "join"}, args...)...)
}

// startJoinedIn starts the coordinator in a folder that has a job.
func startJoinedIn(t *testing.T, dir string, args ...string) *joined {
	t.Helper()
	j := &joined{dir: dir, events: filepath.Join(dir, "events"), env: []string{ticketVariable + "=" + psrpc.NewTicket().Text()}}
	j.dkpipe = start(t, dir, j.env, args...)
	j.address = event(t, j.events, "listening", nil)["address"].(string)
	return j
}

// worker starts a worker in a folder that has nothing to do with the run's.
func (j *joined) worker(t *testing.T, args ...string) *dkpipe {
	t.Helper()
	return start(t, t.TempDir(), j.env, append([]string{"worker", "--connect", j.address, "--json"}, args...)...)
}

// arrival waits until a number of workers were there at the same time.
func (j *joined) arrival(t *testing.T, workers int) {
	t.Helper()
	event(t, j.events, "worker_joined", func(m map[string]any) bool { return m["workers"].(float64) >= float64(workers) })
}

// TestWorkersJoinFromAnywhere starts three workers by hand: one from the beginning, one that is killed, and one that comes
// when the run is under way. Every row counts once an epoch.
func TestWorkersJoinFromAnywhere(t *testing.T) {
	const epochs = 1200
	j := startJoined(t, "--set", fmt.Sprintf("train.workers=3,train.epochs=%d,dataset.shards=6", epochs))
	first, victim := j.worker(t), j.worker(t)
	j.arrival(t, 2)
	event(t, j.events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	late := j.worker(t)
	j.arrival(t, 3)
	if err := victim.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	event(t, j.events, "worker_left", nil)
	if code := j.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &j.stdout, &j.stderr)
	}
	r := j.result(t)
	var samples int64
	for _, w := range r.Workers {
		samples += w.Samples
	}
	if want := epochs * r.Rows["train"]; samples != want {
		t.Errorf("%d samples were acknowledged, want %d: every row once an epoch", samples, want)
	}
	if got := r.Metrics["test"]["accuracy"]; got < 0.93 {
		t.Errorf("test accuracy %.4f", got)
	}
	for name, w := range map[string]*dkpipe{"the first worker": first, "the late one": late} {
		if code := w.wait(t); code != 0 {
			t.Errorf("%s ended with code %d: %s%s", name, code, &w.stdout, &w.stderr)
		}
		if !bytes.Contains(w.stdout.Bytes(), []byte(`"status":"ok"`)) {
			t.Errorf("%s says %s", name, &w.stdout)
		}
	}
	if victim.wait(t) != -1 {
		t.Error("the killed worker ended by itself")
	}
	if s := j.stderr.String(); strings.Contains(s, strings.TrimPrefix(j.env[0], ticketVariable+"=")) {
		t.Error("the ticket is in the log")
	}
}

// TestAWorkerMayLeave stops one of two workers in the middle: it commits what it has, and the other does the rest.
func TestAWorkerMayLeave(t *testing.T) {
	const epochs = 500
	j := startJoined(t, "--set", fmt.Sprintf("train.epochs=%d", epochs))
	stays, leaves := j.worker(t), j.worker(t)
	j.arrival(t, 2)
	event(t, j.events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	if err := leaves.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := leaves.wait(t); code != 0 {
		t.Errorf("the worker that was asked to leave ended with code %d: %s%s", code, &leaves.stdout, &leaves.stderr)
	}
	if code := j.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &j.stdout, &j.stderr)
	}
	stays.wait(t)
	r := j.result(t)
	var samples int64
	for _, w := range r.Workers {
		samples += w.Samples
	}
	if want := epochs * r.Rows["train"]; samples != want {
		t.Errorf("%d samples were acknowledged, want %d", samples, want)
	}
}

// TestARunWithoutWorkersEnds waits for workers that do not come, or come without the ticket.
func TestARunWithoutWorkersEnds(t *testing.T) {
	j := startJoined(t, "--set", "train.join_seconds=2,train.min_workers=2")
	j.env = []string{ticketVariable + "=" + psrpc.NewTicket().Text()}
	stranger := j.worker(t)
	if code := stranger.wait(t); code != 4 || !strings.Contains(stranger.stdout.String(), `"denied"`) {
		t.Errorf("a worker with another ticket: exit code %d, %s", code, &stranger.stdout)
	}
	if code := j.wait(t); code != 4 {
		t.Fatalf("exit code %d, want 4\n%s\n%s", code, &j.stdout, &j.stderr)
	}
	e := j.result(t).Error
	if e.Kind != "timeout" || !strings.Contains(e.Message, "0 of the 2 workers that the run needs") || !strings.Contains(e.Hint, "join_seconds") {
		t.Errorf("error %+v", e)
	}
}

// TestRoundsDoNotWaitForWorkersThatNeverCome: they are given up after join_seconds, with a word, and may come later.
func TestRoundsDoNotWaitForWorkersThatNeverCome(t *testing.T) {
	f := &faulted{joined: startJoined(t, "--set", "train.workers=4,train.epochs=100000,train.trainer=local_sgd,train.join_seconds=5")}
	f.proxy = newCutter(t, f.address)
	for w := range 2 {
		f.workers = append(f.workers, f.start(t, w))
	}
	f.times(t, "worker_missing", 2, 1)
	f.times(t, "worker_missing", 3, 1)
	f.goesOn(t)
	f.workers = append(f.workers, f.start(t, 2))
	f.arrival(t, 3)
	f.ends(t)
	if r := f.result(t); r.Workers[2].Samples == 0 || r.Workers[3].Samples != 0 {
		t.Errorf("workers %+v", r.Workers)
	}
	if !strings.Contains(f.stderr.String(), "never came") {
		t.Errorf("the log does not say who is missing: %s", &f.stderr)
	}
}

// joinCommand is the line that a coordinator prints: its arguments, and the file of the ticket.
func joinCommand(t *testing.T, dir string, p *dkpipe) (ticket string, args []string) {
	t.Helper()
	event(t, filepath.Join(dir, "events"), "listening", nil)
	var line string
	await(t, "the command", func() bool { // it follows the event
		b, err := os.ReadFile(filepath.Join(dir, "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			if strings.HasPrefix(l, "  "+ticketVariable+"=") && strings.HasSuffix(l, "\n") {
				line = strings.TrimSpace(l)
			}
		}
		return line != ""
	})
	file, ok := strings.CutPrefix(line, ticketVariable+"=$(cat ")
	file, rest, ok2 := strings.Cut(file, ") ")
	_, rest, ok3 := strings.Cut(rest, " worker ")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("the command is %q", line)
	}
	return file, append([]string{"worker"}, strings.Fields(rest)...)
}

// startLogged starts dkpipe with its standard error in a file that can be read while it runs.
func startLogged(t *testing.T, dir string, args ...string) *dkpipe {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &dkpipe{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), asProgram+"=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// TestTheJoinCommandIsExact runs the line that a coordinator prints, at home and where other machines could come in.
func TestTheJoinCommandIsExact(t *testing.T) {
	for name, more := range map[string][]string{"at home": {"--listen", "127.0.0.1:0"},
		"from other machines": {"--listen", "0.0.0.0:0", "--set", "train.advertise=127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			dir := quickstart(t)
			p := startLogged(t, dir, append([]string{"run", "-f", "job.yaml", "--events", "events", "--json", "--launch", "join", "--set", "train.epochs=2,gate.at_least=0.1"}, more...)...)
			file, args := joinCommand(t, dir, p)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			secret := strings.TrimSpace(string(b))
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file of the ticket has mode %v, %v", info.Mode(), err)
			}
			if name != "at home" { // the first half is the secret, without the name of whom to trust
				plain := start(t, t.TempDir(), []string{ticketVariable + "=" + secret[:64]}, append(args, "--patience", "1s")...)
				if code := plain.wait(t); code != 4 {
					t.Errorf("a worker that does not encrypt ended with code %d: %s", code, &plain.stderr)
				}
			}
			w := start(t, t.TempDir(), []string{ticketVariable + "=" + secret}, args...)
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit code %d\n%s", code, &p.stdout)
			}
			if code := w.wait(t); code != 0 {
				t.Errorf("the worker ended with code %d: %s", code, &w.stderr)
			}
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("the file of the ticket is still there: %v", err)
			}
		})
	}
}

// TestJoinNeedsAnAddressThatWorkersCanReach listens on all addresses and does not say which of them workers know.
func TestJoinNeedsAnAddressThatWorkersCanReach(t *testing.T) {
	r := run(t, quickstart(t), 2, "run", "-f", "job.yaml", "--launch", "join", "--listen", "0.0.0.0:0", "--set", "train.epochs=1")
	if r.Error.Kind != "usage" || !strings.Contains(r.Error.Hint, "advertise") {
		t.Errorf("error %+v", r.Error)
	}
}

// TestATicketMadeBeforeTheRun is what a scheduler does: both ends get their secrets from outside.
func TestATicketMadeBeforeTheRun(t *testing.T) {
	dir := quickstart(t)
	made := start(t, dir, nil, "worker", "ticket", "secrets")
	if code := made.wait(t); code != 0 || made.stdout.Len() > 0 {
		t.Fatalf("exit code %d: %s%s", code, &made.stdout, &made.stderr)
	}
	again := start(t, dir, nil, "worker", "ticket", "secrets")
	if code := again.wait(t); code != 2 {
		t.Errorf("a ticket was replaced: exit code %d", code)
	}
	b, err := os.ReadFile(filepath.Join(dir, "secrets/ticket"))
	if err != nil {
		t.Fatal(err)
	}
	ticket := ticketVariable + "=" + strings.TrimSpace(string(b))
	args := []string{"run", "-f", "job.yaml", "--events", "events", "--json", "--launch", "join", "--listen", "0.0.0.0:0", "--set", "train.epochs=2,gate.at_least=0.1,train.advertise=127.0.0.1"}
	bare := start(t, dir, []string{ticket}, args...)
	if code := bare.wait(t); code != 4 || bare.result(t).Error.Kind != "denied" {
		t.Errorf("without an identity: exit code %d, %s", code, &bare.stdout)
	}
	p := start(t, dir, []string{ticket, identityVariable + "=secrets/identity.pem"}, args...)
	address := event(t, filepath.Join(dir, "events"), "listening", nil)["address"].(string)
	w := start(t, t.TempDir(), nil, "worker", "--connect", address, "--ticket-file", filepath.Join(dir, "secrets/ticket"))
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	if code := w.wait(t); code != 0 {
		t.Errorf("the worker ended with code %d: %s", code, &w.stderr)
	}
}

// TestLaunchFlagsOverruleTheSpec reads flags as fields, before --set and behind it.
func TestLaunchFlagsOverruleTheSpec(t *testing.T) {
	launch := []string{"--launch", "join", "--listen", "[::1]:7070"}
	set := []string{"--set", "train.epochs=3"}
	for _, args := range [][]string{append(launch, set...), append(set, launch...)} {
		var f specFlags
		c := &cobra.Command{}
		f.register(c)
		f.registerLaunch(c)
		if err := c.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		s, err := spec.ReadFile(filepath.Join("..", "..", "examples", "quickstart", "job.yaml"), spec.Options{Set: f.set, Need: spec.ForTrain})
		if err != nil || s.Train.Launch != "join" || s.Train.Listen != "[::1]:7070" || s.Train.Epochs != 3 {
			t.Errorf("%v: launch %q, listen %q, %d epochs, %v", args, s.Train.Launch, s.Train.Listen, s.Train.Epochs, err)
		}
	}
}
