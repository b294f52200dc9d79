package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// asProgram makes the test binary behave as dkpipe when it is started again by a test, or by dkpipe itself as a worker.
const (
	asProgram = "DKPIPE_TEST_PROGRAM"
	crashAt   = "DKPIPE_TEST_CRASH_AT"  // kill this process with SIGKILL at that point
	stopAt    = "DKPIPE_TEST_STOP_AT"   // stop this process with SIGSTOP there; it goes on when SIGCONT comes
	crashLog  = "DKPIPE_TEST_CRASH_LOG" // write the names of the points to this file
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(asDkpipe())
	}
	testscript.Main(m, map[string]func(){"dkpipe": func() { os.Exit(asDkpipe()) }})
}

// asDkpipe is main with a hook at the crash points.
func asDkpipe() int {
	ctx := interruptible()
	a := newApp(os.Stdout, os.Stderr, os.Getenv)
	if crash, stop, log := os.Getenv(crashAt), os.Getenv(stopAt), os.Getenv(crashLog); crash != "" || stop != "" || log != "" {
		var mu sync.Mutex
		seen := map[string]int{}
		half := ""
		a.at = func(point string) {
			mu.Lock()
			defer mu.Unlock()
			seen[point]++ // a run has two locks and two stages: "LATEST written: after#1" is the dataset's
			name := fmt.Sprintf("%s%s#%d", half, point, seen[point])
			if point == "preprocessed" { // counts begin anew, so a run that finds its dataset made has the same names
				clear(seen)
				half = "model: "
			}
			if log != "" {
				f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
				if err != nil {
					panic(err)
				}
				fmt.Fprintln(f, name)
				f.Close()
			}
			switch name {
			case crash:
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // the signal ends the process before this thread goes on
			case stop:
				goesOn := make(chan os.Signal, 1)
				signal.Notify(goesOn, syscall.SIGCONT)
				_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
				<-goesOn // the signal stops this thread only after a while
				signal.Stop(goesOn)
			}
		}
	}
	return a.main(ctx, os.Args[1:])
}

// dkpipe is one invocation as a process of its own.
type dkpipe struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// start starts dkpipe in dir with more environment.
func start(t *testing.T, dir string, env []string, args ...string) *dkpipe {
	t.Helper()
	p := &dkpipe{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Dir = dir
	p.cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
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

// wait waits for the end and gives the exit code; -1 when a signal ended it.
func (p *dkpipe) wait(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// result decodes the one JSON object on stdout.
func (p *dkpipe) result(t *testing.T) result {
	t.Helper()
	var r result
	d := json.NewDecoder(bytes.NewReader(p.stdout.Bytes()))
	if err := d.Decode(&r); err != nil {
		t.Fatalf("stdout is not one JSON object: %v\nstdout: %s\nstderr: %s", err, &p.stdout, &p.stderr)
	}
	if d.More() {
		t.Fatalf("more than one object on stdout: %s", &p.stdout)
	}
	return r
}

// result is the documented JSON of run and its parts.
type result struct {
	Command, Status string
	Seconds         float64
	PeakMiB         float64 `json:"peak_mib"`
	Dataset, Model  string
	BestCheckpoint  *bestCheckpoint `json:"best_checkpoint"`
	Rows            map[string]int64
	Metrics         map[string]map[string]float64
	Workers         []workerReport
	Skipped         bool
	Warnings        []string
	Error           *failure
}

// run runs dkpipe to its end with --json and checks its exit code.
func run(t *testing.T, dir string, code int, args ...string) result {
	t.Helper()
	p := start(t, dir, nil, append(args, "--json")...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	return p.result(t)
}

// quickstart copies the example into a folder of the test's own, with the spec's text changed by pairs of old and new.
func quickstart(t *testing.T, changes ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"job.yaml", "digits.csv"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "examples", "quickstart", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "job.yaml" {
			text := string(b)
			for i := 0; i < len(changes); i += 2 {
				if !strings.Contains(text, changes[i]) {
					t.Fatalf("job.yaml has no %q", changes[i])
				}
				text = strings.Replace(text, changes[i], changes[i+1], 1)
			}
			b = []byte(text)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// event waits until the event file has an event of a kind for which accept is true (nil: any) and gives it.
func event(t *testing.T, file, kind string, accept func(map[string]any) bool) map[string]any {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		for {
			var m map[string]any
			if err := d.Decode(&m); err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if m["type"] == kind && (accept == nil || accept(m)) {
				return m
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no event %q within a minute; there are:\n%s", kind, b)
		}
		<-tick.C
	}
}

func latest(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "LATEST"))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
