//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/sparkconn"
)

// executors is a box with two executors of one slot each, the program that is sent to them, and a prepared dataset.
type executors struct {
	box     box.Box
	program string
	dir     string
	runs    int
}

func onExecutors(t *testing.T) *executors {
	t.Helper()
	e := &executors{box: boxtest.Start(t, box.Options{Only: "spark", Executors: 2}), program: filepath.Join(t.TempDir(), "dkpipe"), dir: quickstart(t)}
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", e.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(t, e.dir, 0, "preprocess", "-f", "job.yaml", "--set", "dataset.shards=4")
	e.slotsFree(t, time.Minute) // and warm
	return e
}

// train starts a training in the executors.
func (e *executors) train(t *testing.T, epochs int, more ...string) (*dkpipe, string) {
	t.Helper()
	e.runs++
	events := filepath.Join(e.dir, "events"+strconv.Itoa(e.runs))
	p := &dkpipe{cmd: exec.Command(e.program, append([]string{"train", "-f", "job.yaml", "--launch", "spark", "--events", events, "--json",
		"--set", fmt.Sprintf("spark.remote=%s,train.epochs=%d,train.join_seconds=60", e.box.Spark, epochs)}, more...)...)}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = e.dir, &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p, events
}

// workers are the processes of this test's program in executors: their parents are executors.
func (e *executors) workers(t *testing.T) (pids []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b), "\x00worker\x00--connect\x00") || !strings.Contains(string(b), "\x00--stay\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if cwd, err := os.Readlink(filepath.Join(filepath.Dir(name), "cwd")); err == nil && strings.HasPrefix(cwd, e.box.Dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parent is the process that started one.
func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	n, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// slotsFree runs two tasks at once: as long as a worker holds a slot they cannot.
func (e *executors) slotsFree(t *testing.T, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	s, err := sparkconn.Dial(ctx, e.box.Spark, sparkconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	began := time.Now()
	if err := s.Query(ctx, "", "SELECT sum(length(repeat('x', CAST(id AS INT)))) FROM range(0, 100, 1, 2)", func(arrow.RecordBatch) error { return nil }); err != nil {
		t.Fatalf("two tasks did not get the two slots within %v: %v", within, err)
	}
	t.Logf("a query of two tasks took %v", time.Since(began).Round(time.Millisecond))
}

// gone waits until no worker is left, and says how long that took.
func (e *executors) gone(t *testing.T, within time.Duration) {
	t.Helper()
	e.quiet(t, 0, within)
}

// quiet waits until there has been no worker for a time, and says how long the last one was there.
func (e *executors) quiet(t *testing.T, stays, within time.Duration) {
	t.Helper()
	began := time.Now()
	seen := began
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		left := e.workers(t)
		switch {
		case len(left) > 0:
			seen = time.Now()
		case time.Since(seen) >= stays:
			t.Logf("the last worker was gone after %v", seen.Sub(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > within {
			t.Fatalf("after %v there are the workers %v, and there was one %v ago", within, left, time.Since(seen).Round(time.Millisecond))
		}
	}
}

// everyRowCounted checks that every row counted once an epoch.
func everyRowCounted(t *testing.T, r result, epochs int64) {
	t.Helper()
	var samples int64
	for _, w := range r.Workers {
		samples += w.Samples
	}
	if want := epochs * r.Rows["train"]; samples != want {
		t.Errorf("%d samples were acknowledged, want %d", samples, want)
	}
	if got := r.Metrics["test"]["accuracy"]; got < 0.93 {
		t.Errorf("test accuracy %.4f", got)
	}
}

// TestWorkersInSparkExecutors trains in executors that are processes of their own, and ends runs in every way there is:
// each time no worker is left behind and the executors' slots are free again.
func TestWorkersInSparkExecutors(t *testing.T) {
	e := onExecutors(t)
	t.Run("undisturbed", func(t *testing.T) { testInExecutors(t, e) })
	t.Run("on data servers", func(t *testing.T) { testExecutorsOnDataServers(t, e) })
	t.Run("an executor is killed", func(t *testing.T) { testExecutorKilled(t, e) })
	t.Run("the query is killed", func(t *testing.T) { testQueryKilled(t, e) })
	t.Run("the coordinator is killed", func(t *testing.T) { testCoordinatorKilled(t, e) })
	t.Run("the run is stopped", func(t *testing.T) { testRunStopped(t, e) })
}

func testInExecutors(t *testing.T, e *executors) {
	const epochs = 1000
	began := time.Now()
	p, events := e.train(t, epochs)
	event(t, events, "epoch", nil)
	t.Logf("command to the first epoch: %v", time.Since(began).Round(time.Millisecond))
	event(t, events, "worker_joined", func(m map[string]any) bool { return m["workers"].(float64) == 2 })
	parents := map[int]bool{}
	for _, pid := range e.workers(t) {
		up := parent(t, pid)
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", up))
		if err != nil || !strings.Contains(string(b), "CoarseGrainedExecutorBackend") {
			t.Errorf("the parent of worker process %d is not an executor: %q, %v", pid, b, err)
		}
		parents[up] = true
	}
	if len(parents) != 2 {
		t.Errorf("the workers are in the executors %v, want two", parents)
	}
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	everyRowCounted(t, p.result(t), epochs)
	e.gone(t, 5*time.Second)
	e.slotsFree(t, 10*time.Second)
}

// testExecutorsOnDataServers has the parameters on data servers beside the coordinator, where other machines could reach them,
// and kills one of them.
func testExecutorsOnDataServers(t *testing.T, e *executors) {
	const epochs = 1000
	p, events := e.train(t, epochs, "--servers", "2", "--codec", "bf16", "--listen", "0.0.0.0:0", "--set", "train.advertise=127.0.0.1")
	event(t, events, "worker_joined", func(m map[string]any) bool { return m["workers"].(float64) == 2 })
	event(t, events, "epoch", nil)
	victim := event(t, events, "server_started", nil)
	if err := syscall.Kill(int(victim["pid"].(float64)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	r := p.serversResult(t)
	everyRowCounted(t, r.result, epochs)
	if len(r.Servers) != 2 || r.Servers[0].Lost != 1 || r.Wire == nil || r.Wire.Float32 > 0.51 {
		t.Errorf("servers %+v, wire %+v", r.Servers, r.Wire)
	}
	e.gone(t, 5*time.Second)
	e.slotsFree(t, 10*time.Second)
}

func testExecutorKilled(t *testing.T, e *executors) {
	const epochs = 3000
	p, events := e.train(t, epochs)
	event(t, events, "worker_joined", func(m map[string]any) bool { return m["workers"].(float64) == 2 })
	event(t, events, "epoch", nil)
	victims := e.workers(t)
	if len(victims) != 2 {
		t.Fatalf("worker processes: %v", victims)
	}
	if err := syscall.Kill(parent(t, victims[0]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the worker of the killed executor has ended", func() bool { return syscall.Kill(victims[0], 0) != nil })
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	everyRowCounted(t, p.result(t), epochs)
	e.gone(t, 5*time.Second)
	e.slotsFree(t, 30*time.Second) // the second executor may still be starting
}

// forever is a number of epochs that no run reaches.
const forever = 1_000_000

func testQueryKilled(t *testing.T, e *executors) {
	p, events := e.train(t, forever)
	launched := event(t, events, "launched", nil)
	event(t, events, "epoch", nil)
	s, err := sparkconn.Dial(t.Context(), e.box.Spark+"/;session_id="+launched["session"].(string), sparkconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ids, err := s.Interrupt(t.Context(), launched["tag"].(string)); err != nil || len(ids) != 1 {
		t.Fatalf("interrupted %v, %v", ids, err)
	}
	e.gone(t, 5*time.Second)
	if code := p.wait(t); code != 4 {
		t.Fatalf("exit code %d, want 4\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	r := p.result(t)
	if !strings.Contains(r.Error.Message, "the job that holds the workers in Spark's executors has ended") || r.Model == "" {
		t.Errorf("error %+v, model %q", r.Error, r.Model)
	}
	e.slotsFree(t, 10*time.Second)
}

func testCoordinatorKilled(t *testing.T, e *executors) {
	p, events := e.train(t, forever)
	event(t, events, "epoch", nil)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	began := time.Now()
	// A worker tries to reach its coordinator for its patience. Spark then starts the tasks again, some times, and there may be a
	// moment without workers before it does.
	e.quiet(t, 10*time.Second, 90*time.Second)
	e.slotsFree(t, 30*time.Second)
	e.gone(t, 30*time.Second)
	t.Logf("slots were free %v after the coordinator was killed", time.Since(began).Round(time.Millisecond))
}

func testRunStopped(t *testing.T, e *executors) {
	p, events := e.train(t, forever)
	event(t, events, "epoch", nil)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 130 {
		t.Fatalf("exit code %d, want 130\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	e.gone(t, 5*time.Second)
	e.slotsFree(t, 10*time.Second)
}
