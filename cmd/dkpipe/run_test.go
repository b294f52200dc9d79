package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestQuickstartLearns is the promise of the README's first command: over seeds 1 to 5, of the split and of the
// training, the mean test accuracy is at least 0.955 and none is below 0.93.
func TestQuickstartLearns(t *testing.T) {
	dir := quickstart(t)
	var sum float64
	for seed := 1; seed <= 5; seed++ {
		set := fmt.Sprintf("split.seed=%d,train.seed=%d", seed, seed)
		r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", set)
		accuracy := r.Metrics["test"]["accuracy"]
		t.Logf("seed %d: test accuracy %.4f in %.2f s", seed, accuracy, r.Seconds)
		if accuracy < 0.93 {
			t.Errorf("seed %d: test accuracy %.4f is below 0.93", seed, accuracy)
		}
		if n := r.Rows["train"] + r.Rows["test"]; n != 1797 {
			t.Errorf("seed %d: %d rows, want 1797", seed, n)
		}
		sum += accuracy
	}
	if mean := sum / 5; mean < 0.955 {
		t.Errorf("mean test accuracy %.4f is below 0.955", mean)
	}
}

// TestKilledAtAnyPoint kills a run with SIGKILL at every point between two observable steps. Each time the version
// that was LATEST before is still good, and the next run succeeds and leaves no garbage.
func TestKilledAtAnyPoint(t *testing.T) {
	small := []string{"--set", "train.epochs=2,dataset.shards=2,gate.at_least=0.1,dataset.keep_versions=2,output.keep_versions=2"}
	job := append([]string{"run", "-f", "job.yaml"}, small...)
	dir := quickstart(t)
	shorten(t, filepath.Join(dir, "digits.csv"), 1201)
	log := filepath.Join(dir, "points")
	p := start(t, dir, []string{crashLog + "=" + log}, append(job, "--slot", "first")...)
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	points := lines(t, log)
	if len(points) < 60 {
		t.Fatalf("only %d crash points: %v", len(points), points)
	}
	for i, point := range points {
		if testing.Short() && i%7 != 0 {
			continue
		}
		before := latest(t, filepath.Join(dir, "out/model"))
		slot := fmt.Sprintf("slot-%03d", i)
		p := start(t, dir, []string{crashAt + "=" + point}, append(job, "--slot", slot)...)
		if code := p.wait(t); code != -1 {
			t.Fatalf("at %q: exit code %d, the process was not killed there\n%s", point, code, &p.stderr)
		}
		// What readers get is whole: the model of before, or the new one when the kill came after LATEST moved.
		r := run(t, dir, 0, "evaluate", "--model", "out/model", "--data", "out/dataset")
		if !strings.HasSuffix(r.Model, before) && latest(t, filepath.Join(dir, "out/model")) == before {
			t.Fatalf("at %q: readers get %s, LATEST is %s", point, r.Model, before)
		}
		run(t, dir, 0, append(job, "--slot", slot)...)
		if now := latest(t, filepath.Join(dir, "out/model")); now == before {
			t.Fatalf("at %q: LATEST is still %s after the next run", point, before)
		}
		for _, pattern := range []string{"out/*/.stage-*", "out/*/.trash-*", "out/*/_lock", "out/*/.tmp*"} {
			if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
				t.Fatalf("at %q: the next run left %v", point, left)
			}
		}
	}
	t.Logf("%d points", len(points))
}

// shorten keeps the first lines of a file.
func shorten(t *testing.T, name string, n int) {
	t.Helper()
	keep := lines(t, name)[:n]
	if err := os.WriteFile(name, []byte(strings.Join(keep, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		out = append(out, s.Text())
	}
	return out
}

// long is a run that does not end before it is told to.
var long = []string{"run", "-f", "job.yaml", "--events", "events", "--set", "train.epochs=100000,dataset.shards=2", "--json"}

// TestSecondRunIsBusy starts a run while another one holds the lock.
func TestSecondRunIsBusy(t *testing.T) {
	dir := quickstart(t)
	first := start(t, dir, nil, long...)
	event(t, filepath.Join(dir, "events"), "epoch", nil)
	r := run(t, dir, 5, "run", "-f", "job.yaml")
	if r.Error.Kind != "busy" || !strings.Contains(r.Error.Message, fmt.Sprint(first.cmd.Process.Pid)) || r.Error.Hint == "" {
		t.Errorf("error: %+v; want one that names process %d", r.Error, first.cmd.Process.Pid)
	}
}

// TestStopKeepsWhatWasLearned sends SIGTERM and SIGINT, in process and with worker processes.
func TestStopKeepsWhatWasLearned(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		more   string
	}{
		{"SIGTERM", syscall.SIGTERM, "train.launch=in-process"},
		{"SIGINT", syscall.SIGINT, "train.launch=in-process"},
		{"SIGTERM with processes", syscall.SIGTERM, "train.launch=process"},
		{"SIGTERM with processes in rounds", syscall.SIGTERM, "train.launch=process,train.trainer=local_sgd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := quickstart(t)
			p := start(t, dir, nil, append(long, "--set", c.more)...)
			event(t, filepath.Join(dir, "events"), "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 20 })
			if err := p.cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if code := p.wait(t); code != 130 {
				t.Fatalf("exit code %d, want 130\n%s\n%s", code, &p.stdout, &p.stderr)
			}
			r := p.result(t)
			if r.Status != "interrupted" || r.Error == nil || r.Error.Kind != "interrupted" {
				t.Errorf("status %q, error %+v", r.Status, r.Error)
			}
			if l := latest(t, filepath.Join(dir, "out/model")); l != "" {
				t.Errorf("LATEST is %q, want none: the run was not complete", l)
			}
			kept := run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
			if kept.Metrics["test"]["accuracy"] < 0.9 {
				t.Errorf("the kept model has test accuracy %.3f after 20 epochs", kept.Metrics["test"]["accuracy"])
			}
		})
	}
}

// TestAHungWorkerDoesNotKeepTheRun stops a worker process for good: the others finish its data and the run ends.
func TestAHungWorkerDoesNotKeepTheRun(t *testing.T) {
	dir := quickstart(t)
	events := filepath.Join(dir, "events")
	const epochs = 100
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--events", "events", "--json", "--set", fmt.Sprintf("train.launch=process,train.epochs=%d", epochs))
	victim := event(t, events, "worker_started", func(m map[string]any) bool { return m["worker"].(float64) == 1 })
	event(t, events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	if err := syscall.Kill(int(victim["pid"].(float64)), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d after a worker was stopped\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	r := p.result(t)
	if r.Metrics["test"]["accuracy"] < 0.93 {
		t.Errorf("test accuracy %.4f", r.Metrics["test"]["accuracy"])
	}
	var samples int64
	for _, w := range r.Workers {
		samples += w.Samples
	}
	if want := epochs * r.Rows["train"]; samples != want {
		t.Errorf("%d samples were acknowledged, want %d", samples, want)
	}
	if r.Workers[1].Lost == "" {
		t.Error("the report does not say that worker 1 was lost")
	}
}

// TestWorkersAsProcesses trains with worker processes, undisturbed and with one of them killed in mid-run.
func TestWorkersAsProcesses(t *testing.T) {
	dir := quickstart(t)
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.launch=process")
	if got := r.Metrics["test"]["accuracy"]; got < 0.93 {
		t.Errorf("test accuracy %.4f with processes", got)
	}
	for _, w := range r.Workers {
		if w.Samples == 0 || w.Commits == 0 || w.Lost != "" {
			t.Errorf("worker %+v did nothing, or was lost", w)
		}
	}
	const epochs = 150
	events := filepath.Join(dir, "events")
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--events", "events", "--json", "--set", fmt.Sprintf("train.launch=process,train.epochs=%d", epochs))
	victim := event(t, events, "worker_started", func(m map[string]any) bool { return m["worker"].(float64) == 1 })
	event(t, events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	if err := syscall.Kill(int(victim["pid"].(float64)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d after a worker was killed\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	r = p.result(t)
	if got := r.Metrics["test"]["accuracy"]; got < 0.93 {
		t.Errorf("test accuracy %.4f after a worker was killed", got)
	}
	var samples int64
	for _, w := range r.Workers {
		samples += w.Samples
	}
	if want := epochs * r.Rows["train"]; samples != want {
		t.Errorf("%d samples were acknowledged, want %d: every row once an epoch", samples, want)
	}
	if r.Workers[1].Lost == "" {
		t.Error("the report does not say that worker 1 was lost")
	}
}

// TestAllWorkersKilled ends every worker of a run: the run fails, and what was acknowledged until then is kept beside LATEST.
func TestAllWorkersKilled(t *testing.T) {
	dir := quickstart(t)
	events := filepath.Join(dir, "events")
	p := start(t, dir, nil, append(long, "--set", "train.launch=process")...)
	event(t, events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 20 })
	for id := range 2 {
		e := event(t, events, "worker_started", func(m map[string]any) bool { return m["worker"].(float64) == float64(id) })
		if err := syscall.Kill(int(e["pid"].(float64)), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.wait(t); code != 1 {
		t.Fatalf("exit code %d, want 1\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	r := p.result(t)
	if !strings.Contains(r.Error.Message, "0 of 2 workers left") || !strings.Contains(r.Error.Hint, r.Model) {
		t.Errorf("error %+v, model %q", r.Error, r.Model)
	}
	if l := latest(t, filepath.Join(dir, "out/model")); l != "" {
		t.Errorf("LATEST is %q, want none", l)
	}
	kept := run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
	if kept.Metrics["test"]["accuracy"] < 0.9 {
		t.Errorf("the kept model has test accuracy %.3f after 20 epochs", kept.Metrics["test"]["accuracy"])
	}
}

// TestARunThatLostItsLockEnds lets another owner take the model's root: the run stops at its next sign of life, publishes
// nothing and says why.
func TestARunThatLostItsLockEnds(t *testing.T) {
	dir := quickstart(t)
	p := start(t, dir, nil, long...)
	event(t, filepath.Join(dir, "events"), "epoch", nil)
	claims := filepath.Join(dir, "out/model/_epochs")
	entries, err := os.ReadDir(claims)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%v, %v", entries, err)
	}
	mine, err := strconv.ParseUint(entries[len(entries)-1].Name(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	next := fmt.Sprintf("%0*d", len(entries[len(entries)-1].Name()), mine+1)
	if err := os.WriteFile(filepath.Join(claims, next), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 5 {
		t.Fatalf("exit code %d, want 5\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	if r := p.result(t); r.Model != "" || !strings.Contains(r.Error.Message, "lock") {
		t.Errorf("model %q, error %+v", r.Model, r.Error)
	}
	if l := latest(t, filepath.Join(dir, "out/model")); l != "" {
		t.Errorf("LATEST is %q", l)
	}
}

// TestADatasetIsKeptWhileItIsRead trains on a version while other runs make so many newer ones that it is out of quota.
func TestADatasetIsKeptWhileItIsRead(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	p := start(t, dir, nil, "train", "-f", "job.yaml", "--events", "events", "--json", "--set", "train.epochs=100000")
	event(t, filepath.Join(dir, "events"), "epoch", nil)
	for range 3 {
		run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", "dataset.keep_versions=1")
	}
	if _, err := os.Stat(filepath.Join(dir, "out/dataset/v000001/manifest.json")); err != nil {
		t.Errorf("the version that is trained on is gone: %v", err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 130 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", "dataset.keep_versions=1")
	versions, err := filepath.Glob(filepath.Join(dir, "out/dataset/v*"))
	if err != nil || len(versions) != 1 {
		t.Errorf("after the training: %v, %v; want one version", versions, err)
	}
}
