package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dkpipe/trainers"
)

// resumedEpochs are enough that a run is not over when its second checkpoint has been written to a slow disk.
const resumedEpochs = 120

// resumable is the quickstart with checkpoints, its data prepared.
func resumable(t *testing.T, train string) string {
	t.Helper()
	dir := quickstart(t, "train: 0.8, test: 0.2", "train: 0.7, validation: 0.1, test: 0.2", "epochs: 20", fmt.Sprint("epochs: ", resumedEpochs), "batch_size: 32", "batch_size: 4",
		"  seed: 1\n", "  seed: 1\n  checkpoint: {path: out/checkpoint, every_steps: 100, keep: 2}\n"+train)
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	return dir
}

// newestCheckpoint reads what a checkpoint says about its run.
func newestCheckpoint(t *testing.T, dir string) checkpointIndex {
	t.Helper()
	root := filepath.Join(dir, "out/checkpoint")
	text, err := os.ReadFile(filepath.Join(root, latest(t, root), checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	var c checkpointIndex
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func samplesOfAll(r result) int64 {
	var n int64
	for _, w := range r.Workers {
		n += w.Samples
	}
	return n
}

// wantOnce checks that every row was trained on once in every epoch, with respect to what was acknowledged. A centre that
// waited to be measured when the run was lost is not measured later.
func wantOnce(t *testing.T, dir string, epochs int, before int64, r result) {
	t.Helper()
	rows := r.Rows["train"]
	if after := samplesOfAll(r); before+after != int64(epochs)*rows {
		t.Errorf("%d samples before and %d after, want %d together", before, after, int64(epochs)*rows)
	}
	text, err := os.ReadFile(filepath.Join(dir, r.Model, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	for n := 1; n <= epochs; n++ {
		var e trainers.Epoch
		if err := d.Decode(&e); err != nil || e.Epoch != n || e.Samples != rows || e.Partial || n == epochs && e.Validation == nil {
			t.Fatalf("line %d of the history: %v, %+v", n, err, e)
		}
	}
	if d.More() {
		t.Error("the history has more lines than epochs")
	}
}

// TestResumeAfterTheCoordinatorWasKilled kills a run with SIGKILL when a checkpoint was kept, and lets another number of
// workers go on: in the middle of an epoch, and nothing twice.
func TestResumeAfterTheCoordinatorWasKilled(t *testing.T) {
	for name, set := range map[string]string{"goroutines": "train.launch=in-process", "processes": "train.launch=process",
		"processes in rounds": "train.launch=process,train.trainer=local_sgd"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "goroutines" {
				t.Skip("starts processes")
			}
			dir := resumable(t, "")
			p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, "train", "-f", "job.yaml", "--set", set)
			if code := p.wait(t); code != -1 {
				t.Fatalf("exit code %d: %s", code, &p.stderr)
			}
			before := newestCheckpoint(t, dir)
			if before.Samples == 0 || before.Complete {
				t.Fatalf("the checkpoint is %+v", before)
			}
			r := run(t, dir, 0, "train", "-f", "job.yaml", "--resume", "--set", set, "--set", "train.workers=3")
			wantOnce(t, dir, resumedEpochs, before.Samples, r)
			if len(r.Workers) != 3 || r.Metrics["test"]["accuracy"] < 0.85 {
				t.Errorf("%d workers, %v", len(r.Workers), r.Metrics)
			}
			if c := newestCheckpoint(t, dir); !c.Complete {
				t.Error("a complete run left a checkpoint to go on from")
			}
			r = run(t, dir, 0, "train", "-f", "job.yaml", "--resume")
			wantOnce(t, dir, resumedEpochs, 0, r) // begins at the beginning
		})
	}
}

// TestResumeAfterAStop: a run that was asked to stop keeps everything that it was told.
func TestResumeAfterAStop(t *testing.T) {
	dir := resumable(t, "")
	p := start(t, dir, nil, "train", "-f", "job.yaml", "--json", "--events", "events", "--set", "train.epochs=100000")
	event(t, filepath.Join(dir, "events"), "epoch", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 130 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	stopped := samplesOfAll(p.result(t))
	c := newestCheckpoint(t, dir)
	if c.Samples != stopped {
		t.Errorf("%d samples in the checkpoint, %d in the report", c.Samples, stopped)
	}
	epochs := len(c.Past.Epochs) + 3
	wantOnce(t, dir, epochs, stopped, run(t, dir, 0, "train", "-f", "job.yaml", "--resume", "--set", fmt.Sprint("train.epochs=", epochs)))
}

// TestKilledWhileACheckpointIsKept: whatever half of a checkpoint is there, the one before is whole.
func TestKilledWhileACheckpointIsKept(t *testing.T) {
	dir := resumable(t, "")
	log := filepath.Join(dir, "points")
	p := start(t, dir, []string{crashLog + "=" + log}, "train", "-f", "job.yaml")
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	points := lines(t, log)
	from, to := slices.Index(points, "checkpoint kept#1"), slices.Index(points, "checkpoint kept#2")
	if from < 0 || to < from {
		t.Fatalf("no checkpoints in %v", points)
	}
	for i, point := range points[from+1 : to] {
		if strings.HasPrefix(point, "epoch") || i%3 != 0 || testing.Short() && i%9 != 0 {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, "out/checkpoint")); err != nil {
			t.Fatal(err)
		}
		p := start(t, dir, []string{crashAt + "=" + point}, "train", "-f", "job.yaml")
		if code := p.wait(t); code == 0 {
			continue // other threads: that point was not met in this order
		}
		var before checkpointIndex
		if _, err := os.Stat(filepath.Join(dir, "out/checkpoint/LATEST")); err == nil { // the threads may have met the point before the first was kept
			before = newestCheckpoint(t, dir)
		}
		if before.Complete { // the run had published its model when it was killed
			before.Samples = 0
		}
		wantOnce(t, dir, resumedEpochs, before.Samples, run(t, dir, 0, "train", "-f", "job.yaml", "--resume"))
	}
}

func TestResumeRefusesWhatDoesNotFit(t *testing.T) {
	dir := resumable(t, "")
	r := run(t, dir, 0, "train", "-f", "job.yaml", "--resume") // nothing to go on from
	wantOnce(t, dir, resumedEpochs, 0, r)
	p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, "train", "-f", "job.yaml")
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	for set, message := range map[string]string{
		"train.seed=2":           "train.seed 1",
		"train.trainer=downpour": "of the trainer agn, not downpour",
		"model.layers=[{dense: {units: 10, activation: softmax}}]": "of another model, of 4,810 parameters",
	} {
		r := run(t, dir, 2, "train", "-f", "job.yaml", "--resume", "--set", set)
		if r.Error == nil || !strings.Contains(r.Error.Message, message) || r.Error.Hint == "" {
			t.Errorf("%s: got %+v, want %s", set, r.Error, message)
		}
	}
	root := filepath.Join(dir, "out/checkpoint")
	name := filepath.Join(root, latest(t, root), serverName)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, dir, 3, "train", "-f", "job.yaml", "--resume"); r.Error == nil || r.Error.Kind != "corrupt" {
		t.Errorf("a damaged checkpoint: %+v", r.Error)
	}
	other := quickstart(t)
	run(t, other, 0, "preprocess", "-f", "job.yaml")
	if r := run(t, other, 2, "train", "-f", "job.yaml", "--resume"); r.Error == nil || !strings.Contains(r.Error.Hint, "checkpoint") {
		t.Errorf("--resume without checkpoints: %+v", r.Error)
	}
}

// decaying is a job whose optimizer, on the server, has a schedule and a momentum.
func decaying(momentum float64) string {
	return fmt.Sprintf("train.trainer=sync_sgd,train.optimizer={sgd: {momentum: %g, learning_rate: {exponential_decay: {initial_learning_rate: 0.05, decay_steps: 50, decay_rate: 0.9}}}}", momentum)
}

// TestTheServersOptimizerGoesOnWhereItWas: a synchronous run that was killed and goes on gives the bits of one that was not. Its
// schedule counts the steps before once.
func TestTheServersOptimizerGoesOnWhereItWas(t *testing.T) {
	dir := resumable(t, "")
	weights := func(r result) []byte {
		b, err := os.ReadFile(filepath.Join(dir, r.Model, "weights.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	args := []string{"train", "-f", "job.yaml", "--set", decaying(0.5)}
	whole := weights(run(t, dir, 0, args...))
	p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, args...)
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	if resumed := weights(run(t, dir, 0, append(args, "--resume")...)); !bytes.Equal(whole, resumed) {
		t.Error("the run that was killed and went on gave other weights")
	}
}

// TestResumeRefusesAnotherOptimizerOnTheServer, whose state would be read as something else.
func TestResumeRefusesAnotherOptimizerOnTheServer(t *testing.T) {
	dir := resumable(t, "")
	p := start(t, dir, []string{crashAt + "=checkpoint kept#1"}, "train", "-f", "job.yaml", "--set", decaying(0.5))
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	for set, message := range map[string]string{
		decaying(0.9): "the optimizer sgd with momentum 0.5, not 0.9",
		"train.trainer=sync_sgd,train.optimizer={rmsprop: {momentum: 0.5}}": "the optimizer sgd, not of rmsprop",
	} {
		r := run(t, dir, 2, "train", "-f", "job.yaml", "--resume", "--set", set)
		if r.Error == nil || r.Error.Kind != "spec" || !strings.Contains(r.Error.Message, message) || r.Error.Hint == "" {
			t.Errorf("%s: got %+v, want %s", set, r.Error, message)
		}
	}
	run(t, dir, 0, "train", "-f", "job.yaml", "--resume", "--set", decaying(0.5)+",train.epochs=5")
}

// TestResumeTrainsOnTheDatasetOfTheCheckpoint, also when there is a newer one.
func TestResumeTrainsOnTheDatasetOfTheCheckpoint(t *testing.T) {
	dir := resumable(t, "")
	p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, "train", "-f", "job.yaml")
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	r := run(t, dir, 0, "train", "-f", "job.yaml", "--resume")
	if !strings.HasSuffix(r.Dataset, "v000001") {
		t.Errorf("trained on %s", r.Dataset)
	}
}

// TestTheBestModelSurvivesAResume: the best centre that was measured is part of a checkpoint.
func TestTheBestModelSurvivesAResume(t *testing.T) {
	dir := resumable(t, "  early_stopping: {monitor: val_loss, patience: 100, restore_best: true}\n")
	p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, "train", "-f", "job.yaml", "--set", "train.checkpoint.every_steps=1500")
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	before := newestCheckpoint(t, dir)
	// With a learning rate that spoils everything, what was best before stays the best.
	r := run(t, dir, 0, "train", "-f", "job.yaml", "--resume", "--set", "train.optimizer.adam.learning_rate=5,gate.at_least=0.1")
	if before.Past.Best == nil || before.Past.BestEpoch == 0 {
		t.Fatalf("nothing was measured in 3,000 steps: %+v", before.Past)
	}
	if got := r.Metrics["validation"]["loss"]; got > *before.Past.Best+1e-6 {
		t.Errorf("validation loss %v, the best before was %v in epoch %d", got, *before.Past.Best, before.Past.BestEpoch)
	}
}
