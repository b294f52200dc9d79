package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRoundsAreBitEqualHoweverTheyAreLaunched: the same seed gives the same parameters, to the bit, in this process and in
// others, and again.
func TestRoundsAreBitEqualHoweverTheyAreLaunched(t *testing.T) {
	for _, trainer := range []string{"averaging", "sync_sgd", "local_sgd", "diloco"} {
		dir := quickstart(t, "epochs: 20", "epochs: 5", "at_least: 0.9", "at_least: 0.1", "  window: 2\n", "")
		run(t, dir, 0, "preprocess", "-f", "job.yaml")
		var first []byte
		for _, launch := range []string{"in-process", "process", "in-process", "process"} {
			r := run(t, dir, 0, "train", "-f", "job.yaml", "--launch", launch, "--set", "train.workers=3,train.trainer="+trainer)
			weights, err := os.ReadFile(filepath.Join(dir, r.Model, "weights.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = weights
			} else if !bytes.Equal(first, weights) {
				t.Errorf("%s, launch %s: other parameters than before", trainer, launch)
			}
		}
		other := run(t, dir, 0, "train", "-f", "job.yaml", "--set", "train.seed=2,train.workers=3,train.trainer="+trainer)
		weights, err := os.ReadFile(filepath.Join(dir, other.Model, "weights.safetensors"))
		if err != nil || bytes.Equal(first, weights) {
			t.Errorf("%s: another seed gives the same parameters (%v)", trainer, err)
		}
	}
}

// TestTheDelayLawIsToldBeforeTraining: DOWNPOUR with 20 workers and windows of 5 is warned about, on standard error before the
// first worker is there and in the report, with a rate that is safe; with that rate it learns, and the other proposal is not
// warned about.
func TestTheDelayLawIsToldBeforeTraining(t *testing.T) {
	dir := quickstart(t, "adam: {learning_rate: 0.005}", "sgd: {learning_rate: 0.2}", "batch_size: 32", "batch_size: 4", "at_least: 0.9", "at_least: 0",
		"trainer: agn\n  workers: 2\n  window: 2", "trainer: downpour\n  workers: 20\n  window: 5", "shards: 4", "shards: 20")
	const warning = "downpour with 20 workers: a commit may have a gain of 1, the delay law allows less than 0.0805, so the run is likely to diverge; " +
		"with a window of 5 it adds up the deltas of all workers; multiply the optimizer's learning_rate by 0.0081 or less, or set window to 1 and multiply it by 0.04 or less, or take agn"
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	startLogged(t, dir, "train", "-f", "job.yaml", "--events", "events", "--json", "--launch", "join", "--set", "output.path=out/other")
	event(t, filepath.Join(dir, "events"), "listening", nil) // for workers that do not come
	log, err := os.ReadFile(filepath.Join(dir, "stderr"))
	if err != nil || !strings.Contains(string(log), warning) {
		t.Errorf("the log before training says\n%s", log)
	}
	for _, c := range []struct {
		set  string
		warn bool
		good bool
	}{
		{set: "train.epochs=3", warn: true}, // it may or may not diverge: goroutines do not take turns
		{set: "train.epochs=60,train.optimizer.sgd.learning_rate=0.00162", warn: true, good: true},
		{set: "train.epochs=60,train.trainer=agn,train.window=20", good: true},
	} {
		p := start(t, dir, nil, "train", "-f", "job.yaml", "--json", "--set", c.set)
		code := p.wait(t)
		var r struct {
			result
			Warnings []string
		}
		if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, &p.stdout)
		}
		if slices.Contains(r.Warnings, warning) != c.warn || strings.Contains(p.stderr.String(), "likely to diverge") != c.warn {
			t.Errorf("%s: the warnings are %q, the log says\n%s", c.set, r.Warnings, &p.stderr)
		}
		if accuracy := r.Metrics["test"]["accuracy"]; c.good && (code != 0 || accuracy < 0.9) {
			t.Errorf("%s: exit code %d, accuracy %.4f", c.set, code, accuracy)
		} else {
			t.Logf("%s: exit code %d, accuracy %.4f, %+v", c.set, code, accuracy, r.Error)
		}
	}
}
