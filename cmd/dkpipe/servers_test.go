package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dkpipe/ps/psrpc"
)

// serversResult is the JSON of a run with data servers.
type serversResult struct {
	result
	Servers  []serverReport
	Wire     *wireReport
	Warnings []string
}

func (p *dkpipe) serversResult(t *testing.T) serversResult {
	t.Helper()
	r := serversResult{result: p.result(t)}
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// spreadRun is a run on data servers that goes on while a test does something to it.
type spreadRun struct {
	*dkpipe
	dir, events string
	epochs      int
}

// steady is a trainer whose runs come out the same, to the bit, however its workers are scheduled; and so, where optimizers
// keep nothing, does a run that went back and did something again.
const steady = "train.trainer=local_sgd,train.window=4,train.optimizer={sgd: {learning_rate: 0.05}}"

// startSpread starts the quickstart with worker processes and two data servers.
func startSpread(t *testing.T, dir string, epochs int, set string, args ...string) *spreadRun {
	t.Helper()
	r := &spreadRun{dir: dir, events: filepath.Join(t.TempDir(), "events"), epochs: epochs}
	r.dkpipe = start(t, dir, nil, append([]string{"run", "-f", "job.yaml", "--events", r.events, "--json", "--launch", "process", "--servers", "2",
		"--set", fmt.Sprintf("train.epochs=%d", epochs), "--set", set}, args...)...)
	return r
}

// pid is the newest process of a server or a worker.
func (r *spreadRun) pid(t *testing.T, what string, number int) int {
	t.Helper()
	event(t, r.events, what+"_started", func(m map[string]any) bool { return m[what].(float64) == float64(number) })
	pid := 0
	for _, e := range eventsOf(t, r.events) {
		if e["type"] == what+"_started" && e[what].(float64) == float64(number) {
			pid = int(e["pid"].(float64))
		}
	}
	return pid
}

func (r *spreadRun) reach(t *testing.T, epoch int) {
	t.Helper()
	event(t, r.events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= float64(epoch) })
}

func (r *spreadRun) signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// count is how many events of a kind there are.
func (r *spreadRun) count(t *testing.T, kind string) int {
	t.Helper()
	n := 0
	for _, e := range eventsOf(t, r.events) {
		if e["type"] == kind {
			n++
		}
	}
	return n
}

// end waits for a run that ends right: every row counted once an epoch, in the books of the workers and in the history.
func (r *spreadRun) end(t *testing.T) serversResult {
	t.Helper()
	if code := r.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &r.stdout, &r.stderr)
	}
	res := r.serversResult(t)
	wantHistory(t, r.dir, r.epochs, res.result)
	return res
}

// wantHistory checks that the history has every epoch once, and that workers and history counted every row once.
func wantHistory(t *testing.T, dir string, epochs int, r result) {
	t.Helper()
	rows := r.Rows["train"]
	if n := samplesOfAll(r); n != int64(epochs)*rows {
		t.Errorf("the workers' books have %d samples, want %d", n, int64(epochs)*rows)
	}
	text, err := os.ReadFile(filepath.Join(dir, r.Model, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	history := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(history) != epochs {
		t.Fatalf("the history has %d lines, want %d", len(history), epochs)
	}
	for i, line := range history {
		var e struct {
			Epoch   int
			Samples int64
			Partial bool
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Epoch != i+1 || e.Samples != rows || e.Partial {
			t.Fatalf("line %d of the history: %v, %s", i+1, err, line)
		}
	}
}

// weights is the SHA-256 of the published parameters.
func weights(t *testing.T, dir string, r result) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, r.Model, "weights.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// within checks that a disturbed run is as good as the undisturbed one: half a point, over all rows. Asynchronous runs differ by
// some rows of the few that were held out, which is more than half a point of those alone.
func within(t *testing.T, got, want result) {
	t.Helper()
	right := func(r result) float64 {
		sum, rows := 0.0, 0.0
		for split, n := range r.Rows {
			sum += float64(n) * r.Metrics[split]["accuracy"]
			rows += float64(n)
		}
		return sum / rows
	}
	if a, b := right(got), right(want); a < b-0.005 || b < 0.95 {
		t.Errorf("accuracy %.4f, undisturbed %.4f", a, b)
	}
	if a := got.Metrics["test"]["accuracy"]; a < 0.93 {
		t.Errorf("test accuracy %.4f", a)
	}
}

// TestAKilledDataServerIsReplaced kills a data server with SIGKILL in mid-run, twice, with a trainer in rounds and an
// asynchronous one. The run goes on from the last copy of its state, says what was lost, and ends right.
func TestAKilledDataServerIsReplaced(t *testing.T) {
	for name, set := range map[string]string{"local_sgd": steady, "agn": "train.trainer=agn"} {
		t.Run(name, func(t *testing.T) {
			const epochs = 300
			dir := quickstart(t, "  seed: 1\n", "  seed: 1\n  checkpoint: {path: out/checkpoint, every_steps: 1000}\n")
			calm := startSpread(t, dir, epochs, set).end(t)
			r := startSpread(t, dir, epochs, set)
			for i, server := range []int{1, 0} {
				r.reach(t, 20+100*i)
				r.signal(t, r.pid(t, "server", server), syscall.SIGKILL)
				event(t, r.events, "server_replaced", func(m map[string]any) bool { return m["server"].(float64) == float64(server) })
			}
			res := r.end(t)
			within(t, res.result, calm.result)
			if name == "local_sgd" && weights(t, dir, res.result) != weights(t, dir, calm.result) {
				t.Error("what was done again came out differently")
			}
			for _, s := range res.Servers {
				if s.Lost != 1 {
					t.Errorf("server %+v", s)
				}
				if want := fmt.Sprintf("data server %d was lost", s.ID); !strings.Contains(strings.Join(res.Warnings, "\n"), want) {
					t.Errorf("warnings %q do not say %q", res.Warnings, want)
				}
			}
			// At most what came after the last checkpoint is lost.
			kept, wanted := 0.0, 0.0
			for _, e := range eventsOf(t, r.events) {
				switch e["type"] {
				case "checkpoint":
					kept = e["samples"].(float64)
				case "server_lost":
					wanted = kept
				case "server_replaced":
					if e["kept"].(float64) < wanted {
						t.Errorf("a checkpoint had %v samples: %v", wanted, e)
					}
				}
			}
			if kept == 0 {
				t.Error("no checkpoint was kept")
			}
			if len(calm.Warnings) > 0 || calm.Servers[0].Lost > 0 {
				t.Errorf("nothing was lost: %+v", calm)
			}
		})
	}
}

// TestAllDataServersKilledAtOnce takes away all that is known of the parameters but for the coordinator's copy. Without
// checkpoints that one is of some seconds before, or of the beginning.
func TestAllDataServersKilledAtOnce(t *testing.T) {
	const epochs = 150
	dir := quickstart(t)
	calm := startSpread(t, dir, epochs, steady).end(t)
	r := startSpread(t, dir, epochs, steady)
	r.reach(t, 20)
	for _, pid := range []int{r.pid(t, "server", 0), r.pid(t, "server", 1)} {
		r.signal(t, pid, syscall.SIGKILL)
	}
	res := r.end(t)
	if weights(t, dir, res.result) != weights(t, dir, calm.result) {
		t.Error("what was done again came out differently")
	}
	for _, s := range res.Servers {
		if s.Lost != 1 {
			t.Errorf("server %+v", s)
		}
	}
}

// TestAPausedDataServerLosesNothing stops a data server for some seconds: the run waits for it, and comes out the same.
func TestAPausedDataServerLosesNothing(t *testing.T) {
	const epochs = 200
	dir := quickstart(t)
	calm := startSpread(t, dir, epochs, steady).end(t)
	r := startSpread(t, dir, epochs, steady)
	r.reach(t, 10)
	pid := r.pid(t, "server", 1)
	r.signal(t, pid, syscall.SIGSTOP)
	<-time.After(4 * time.Second) // the fault itself: more than a worker's heartbeat, less than a connection's patience
	r.signal(t, pid, syscall.SIGCONT)
	res := r.end(t)
	if weights(t, dir, res.result) != weights(t, dir, calm.result) {
		t.Error("the run came out differently")
	}
	if n := r.count(t, "server_lost") + r.count(t, "worker_lost"); n > 0 || res.Servers[1].Lost > 0 {
		t.Errorf("%d were lost: %+v", n, res)
	}
}

// TestAKilledWorkerOnDataServers kills a worker in the middle of its exchanges: the other one does its data.
func TestAKilledWorkerOnDataServers(t *testing.T) {
	const epochs = 200
	dir := quickstart(t)
	calm := startSpread(t, dir, epochs, "train.trainer=agn").end(t)
	r := startSpread(t, dir, epochs, "train.trainer=agn")
	r.reach(t, 10)
	r.signal(t, r.pid(t, "worker", 1), syscall.SIGKILL)
	res := r.end(t)
	within(t, res.result, calm.result)
	if res.Workers[1].Lost == "" || res.Servers[0].Lost+res.Servers[1].Lost > 0 {
		t.Errorf("lost: %+v, %+v", res.Workers, res.Servers)
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, what string, pid int) {
	t.Helper()
	await(t, fmt.Sprintf("%s, process %d, has ended", what, pid), func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		_, state, _ := strings.Cut(string(b), ") ")
		return strings.HasPrefix(state, "Z") // nobody is there to wait for it
	})
}

// TestAKilledCoordinatorLeavesNobody kills the coordinator: neither workers nor data servers outlive it for long, also those
// that somebody else has started.
func TestAKilledCoordinatorLeavesNobody(t *testing.T) {
	dir := quickstart(t)
	r := startSpread(t, dir, 100000, "gate.at_least=0")
	r.reach(t, 3)
	pids := map[string]int{}
	for i := range 2 {
		pids[fmt.Sprint("server ", i)], pids[fmt.Sprint("worker ", i)] = r.pid(t, "server", i), r.pid(t, "worker", i)
	}
	r.signal(t, r.cmd.Process.Pid, syscall.SIGKILL)
	for what, pid := range pids {
		gone(t, what, pid)
	}

	ticket := ticketVariable + "=" + psrpc.NewTicket().Text()
	server, address := startServer(t, []string{ticket}, "--listen", "127.0.0.1:0", "--patience", "4s", "--json")
	events := filepath.Join(t.TempDir(), "events")
	p := start(t, dir, []string{ticket}, append(long, "--events", events, "--launch", "join", "--servers", address)...)
	w := start(t, t.TempDir(), []string{ticket}, "worker", "--connect", event(t, events, "listening", nil)["address"].(string), "--patience", "4s")
	event(t, events, "epoch", nil)
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := server.wait(t); code != 4 || !strings.Contains(server.stdout.String(), "has said nothing") {
		t.Errorf("the data server ended with code %d: %s%s", code, &server.stdout, &server.stderr)
	}
	if code := w.wait(t); code != 4 {
		t.Errorf("the worker ended with code %d: %s", code, &w.stderr)
	}
}

// startServer starts a data server by hand and gives its address.
func startServer(t *testing.T, env []string, args ...string) (p *dkpipe, address string) {
	t.Helper()
	dir := t.TempDir()
	p = start(t, dir, env, append([]string{"ps", "--events", "events"}, args...)...)
	return p, event(t, filepath.Join(dir, "events"), "listening", nil)["address"].(string)
}

// TestDataServersByHand starts data servers and workers by hand, with encryption, kills one data server and starts it again at
// its address: the run goes on, and all of them end with it.
func TestDataServersByHand(t *testing.T) {
	dir := quickstart(t)
	made := start(t, dir, nil, "worker", "ticket", "secrets")
	if code := made.wait(t); code != 0 {
		t.Fatal(code, &made.stderr)
	}
	file := filepath.Join(dir, "secrets/ticket")
	env := []string{identityVariable + "=" + filepath.Join(dir, "secrets/identity.pem")}
	bare := start(t, dir, nil, "ps", "--listen", "0.0.0.0:0", "--advertise", "127.0.0.1", "--ticket-file", file, "--json")
	if code := bare.wait(t); code != 4 || bare.result(t).Error.Kind != "denied" {
		t.Errorf("without an identity: exit code %d, %s", code, &bare.stdout)
	}
	var servers []*dkpipe
	var at []string
	for range 2 {
		p, address := startServer(t, env, "--listen", "0.0.0.0:0", "--advertise", "127.0.0.1", "--ticket-file", file, "--json")
		servers, at = append(servers, p), append(at, address)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, ticketVariable+"="+strings.TrimSpace(string(b)))
	const epochs = 300
	r := &spreadRun{dir: dir, events: filepath.Join(dir, "events"), epochs: epochs}
	r.dkpipe = start(t, dir, env, "run", "-f", "job.yaml", "--events", "events", "--json", "--launch", "join", "--listen", "0.0.0.0:0",
		"--servers", strings.Join(at, ","), "--codec", "bf16", "--set", fmt.Sprintf("train.advertise=127.0.0.1,train.epochs=%d", epochs))
	door := event(t, r.events, "listening", nil)["address"].(string)
	var workers []*dkpipe
	for range 2 {
		workers = append(workers, start(t, t.TempDir(), nil, "worker", "--connect", door, "--ticket-file", file))
	}
	r.reach(t, 10)
	r.signal(t, servers[0].cmd.Process.Pid, syscall.SIGKILL)
	if servers[0].wait(t) != -1 {
		t.Error("the killed data server ended by itself")
	}
	servers[0], _ = startServer(t, env, "--listen", at[0], "--json")
	event(t, r.events, "server_replaced", nil)
	// Another run cannot have them meanwhile.
	other := start(t, quickstart(t), env, "run", "-f", "job.yaml", "--json", "--launch", "process", "--servers", at[1])
	res := r.end(t)
	if res.Metrics["test"]["accuracy"] < 0.93 || res.Servers[0].Lost != 1 || res.Servers[1].Lost != 0 || res.Wire.Float32 > 0.51 {
		t.Errorf("%v, %+v, %+v", res.Metrics, res.Servers, res.Wire)
	}
	for _, w := range workers {
		if code := w.wait(t); code != 0 {
			t.Errorf("a worker ended with code %d: %s", code, &w.stderr)
		}
	}
	held := 0
	for _, s := range servers {
		if code := s.wait(t); code != 0 {
			t.Errorf("a data server ended with code %d: %s", code, &s.stderr)
		}
		var said psReport
		if err := json.Unmarshal(s.stdout.Bytes(), &said); err != nil || said.Status != "ok" {
			t.Errorf("%v: %s", err, &s.stdout)
		}
		held += said.Parameters
	}
	if held != 4810 {
		t.Errorf("the data servers held %d parameters, want 4,810", held)
	}
	if err := other.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := other.wait(t); code == 0 {
		t.Error("two runs had one data server")
	}
}
