package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// points is by how much the accuracy of a disturbed run may be below that of an undisturbed one.
const points = 0.005

// trial is the quickstart with more rows for testing, and worker processes that are busy for about a second.
func trial(t *testing.T) string {
	t.Helper()
	return quickstart(t, "train: 0.8, test: 0.2", "train: 0.6, test: 0.4", "batch_size: 32", "batch_size: 8", "epochs: 20", "epochs: 40",
		"  seed: 1\n", "  seed: 1\n  launch: process\n  checkpoint: {path: out/checkpoint, every_steps: 500, keep: 2}\n")
}

// trialArgs are those of one seed.
func trialArgs(seed int, trainer string) []string {
	return []string{"run", "-f", "job.yaml", "--json", "--events", "events",
		"--set", fmt.Sprintf("split.seed=%d,train.seed=%d,train.trainer=%s,train.optimizer.adam.learning_rate=0.002", seed, seed, trainer)}
}

// settle compares disturbed with undisturbed runs of the same seeds, over as many seeds as it takes: until the 95 % confidence
// interval of the mean difference lies above the points that may be lost, or below. A disturbed run that was over before it
// could be disturbed does not count.
func settle(t *testing.T, whole func(seed int) float64, disturbed func(seed int) (float64, bool)) {
	t.Helper()
	const least, most = 5, 60
	var gaps []float64
	for seed := 1; seed <= most; seed++ {
		accuracy, ok := disturbed(seed)
		if !ok {
			continue
		}
		gaps = append(gaps, accuracy-whole(seed))
		if len(gaps) < least {
			continue
		}
		switch in := interval(gaps); {
		case in[0] > -points:
			t.Logf("%d seeds: the accuracy differs by %+.2f … %+.2f points", len(gaps), 100*in[0], 100*in[1])
			return
		case in[1] < -points:
			t.Fatalf("%d seeds: the accuracy differs by %+.2f … %+.2f points", len(gaps), 100*in[0], 100*in[1])
		}
	}
	t.Errorf("undecided after %d seeds of %d: %v", len(gaps), most, interval(gaps))
}

// TestAccuracyOfDisturbedRuns: a killed worker, a worker that is four times slower, a server that is stopped for a while, a
// lost coordinator, a full disk for checkpoints, and a worker that sends NaN cost no more than half a point, asynchronously
// and in rounds.
func TestAccuracyOfDisturbedRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("trains many models")
	}
	for _, trainer := range []string{"agn", "local_sgd"} {
		whole := map[int]float64{}
		undisturbed := func(seed int) float64 {
			if _, ok := whole[seed]; !ok {
				p := start(t, trial(t), nil, trialArgs(seed, trainer)...)
				whole[seed] = p.accuracy(t)
			}
			return whole[seed]
		}
		for _, c := range []struct {
			name string
			run  func(t *testing.T, seed int, trainer string) (float64, bool)
		}{
			{"a killed worker", withKilledWorker}, {"a slow worker", withSlowWorker}, {"a stopped server", withStoppedServer},
			{"a lost coordinator", withLostCoordinator}, {"a full disk", withFullDisk}, {"a worker that sends NaN", withNaN},
		} {
			t.Run(c.name+"/"+trainer, func(t *testing.T) {
				settle(t, undisturbed, func(seed int) (float64, bool) { return c.run(t, seed, trainer) })
			})
		}
	}
}

// accuracy waits for the end of a run that is to go well, and counts its samples.
func (p *dkpipe) accuracy(t *testing.T) float64 {
	t.Helper()
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	r := p.result(t)
	if n := samplesOfAll(r); n != 40*r.Rows["train"] {
		t.Errorf("%d samples were acknowledged, want %d", n, 40*r.Rows["train"])
	}
	return r.Metrics["test"]["accuracy"]
}

// underWay waits until a run has done some epochs and gives the process of worker 1.
func underWay(t *testing.T, dir string) int {
	t.Helper()
	events := filepath.Join(dir, "events")
	event(t, events, "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	return int(event(t, events, "worker_started", func(m map[string]any) bool { return m["worker"].(float64) == 1 })["pid"].(float64))
}

func withKilledWorker(t *testing.T, seed int, trainer string) (float64, bool) {
	dir := trial(t)
	p := start(t, dir, nil, trialArgs(seed, trainer)...)
	err := syscall.Kill(underWay(t, dir), syscall.SIGKILL)
	accuracy := p.accuracy(t)
	return accuracy, err == nil && p.result(t).Workers[1].Lost != ""
}

// withSlowWorker lets worker 1 run for a quarter of the time.
func withSlowWorker(t *testing.T, seed int, trainer string) (float64, bool) {
	dir := trial(t)
	p := start(t, dir, nil, trialArgs(seed, trainer)...)
	stop := slowDown(underWay(t, dir))
	accuracy := p.accuracy(t)
	return accuracy, stop() >= 8
}

// slowDown stops a process for three of four turns until stop, which gives the turns that it took.
func slowDown(pid int) (stop func() int) {
	over, ended := make(chan struct{}), make(chan int, 1)
	go func() {
		beat := time.NewTicker(5 * time.Millisecond)
		defer beat.Stop()
		for turns := 0; ; turns++ {
			s := syscall.SIGSTOP
			if turns%4 == 0 {
				s = syscall.SIGCONT
			}
			if syscall.Kill(pid, s) != nil { // it has ended
				ended <- turns
				return
			}
			select {
			case <-beat.C:
			case <-over:
				_ = syscall.Kill(pid, syscall.SIGCONT) // an error: it has ended
				ended <- turns
				return
			}
		}
	}()
	return func() int {
		close(over)
		return <-ended
	}
}

// withStoppedServer stops the coordinator, in which the parameters are.
func withStoppedServer(t *testing.T, seed int, trainer string) (float64, bool) {
	dir := trial(t)
	p := start(t, dir, nil, trialArgs(seed, trainer)...)
	underWay(t, dir)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return 0, false
	}
	time.AfterFunc(200*time.Millisecond, func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }) // how long it stands still
	accuracy := p.accuracy(t)
	r := p.result(t)
	for _, w := range r.Workers {
		if w.Lost != "" {
			t.Errorf("seed %d: worker %d was lost: %s", seed, w.ID, w.Lost)
		}
	}
	return accuracy, true
}

// withLostCoordinator kills the coordinator when it has kept a checkpoint, and goes on from that.
func withLostCoordinator(t *testing.T, seed int, trainer string) (float64, bool) {
	dir := trial(t)
	args := trialArgs(seed, trainer)
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", fmt.Sprintf("split.seed=%d", seed))
	args[0] = "train"
	p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, args...)
	switch code := p.wait(t); code {
	case -1:
	case 0: // it was through before it had kept two
		return 0, false
	default:
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	before := newestCheckpoint(t, dir)
	p = start(t, dir, nil, append(args, "--resume")...)
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d: %s%s", code, &p.stdout, &p.stderr)
	}
	r := p.result(t)
	if n := before.Samples + samplesOfAll(r); n != 40*r.Rows["train"] {
		t.Errorf("seed %d: %d samples before and after, want %d", seed, n, 40*r.Rows["train"])
	}
	return r.Metrics["test"]["accuracy"], true
}

// withFullDisk has room for the first checkpoints only.
func withFullDisk(t *testing.T, seed int, trainer string) (float64, bool) {
	dir := trial(t)
	if err := os.MkdirAll(filepath.Join(dir, "out/checkpoint"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := trialArgs(seed, trainer)
	script := `mount -t tmpfs -o size=48k tmpfs out/checkpoint && exec "$0" "$@"`
	r := runIn(t, dir, 0, []string{"unshare", "-rm", "sh", "-c", script}, append(args[:3:3], args[4:]...)...)
	e := event(t, filepath.Join(dir, "events"), "checkpoint_failed", nil)
	if text := e["error"].(string); !strings.Contains(text, "no space left") {
		t.Errorf("seed %d: %s", seed, text)
	}
	return r.Metrics["test"]["accuracy"], true
}

// withNaN lets a third worker come first that sends NaN.
func withNaN(t *testing.T, seed int, trainer string) (float64, bool) {
	dir := trial(t)
	j := startJoinedIn(t, dir, append(trialArgs(seed, trainer), "--launch", "join")...)
	var workers []*dkpipe
	sendNaN(t, j, 2, func() { workers = append(workers, j.worker(t, "--worker", "0"), j.worker(t, "--worker", "1")) })
	accuracy := j.accuracy(t)
	for _, w := range workers {
		if code := w.wait(t); code != 0 {
			t.Errorf("a worker ended with code %d: %s", code, &w.stderr)
		}
	}
	return accuracy, true
}
