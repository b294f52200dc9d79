package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/trainers"
)

// validated is the quickstart with validation rows, and more lines for train.
func validated(t *testing.T, train string, changes ...string) string {
	t.Helper()
	return quickstart(t, append([]string{"train: 0.8, test: 0.2", "train: 0.7, validation: 0.1, test: 0.2", "  seed: 1\n", "  seed: 1\n" + train}, changes...)...)
}

// historyOf reads the history of a published model.
func historyOf(t *testing.T, dir, model string) (all []trainers.Epoch) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, model, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
		var e trainers.Epoch
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// TestReduceOnPlateauReachesEveryWorker: goroutines and processes train with the same rates to the same bits, the history
// and the events tell of them, and a run that goes on from a checkpoint has the rate that it had.
func TestReduceOnPlateauReachesEveryWorker(t *testing.T) {
	dir := validated(t, "  reduce_on_plateau: {patience: 2, factor: 0.3, min_lr: 0.0001}\n", "  trainer: agn\n", "  trainer: local_sgd\n", "epochs: 20", "epochs: 30",
		"learning_rate: 0.005", "learning_rate: 0.03")
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	here := run(t, dir, 0, "train", "-f", "job.yaml", "--events", "events")
	processes := run(t, dir, 0, "train", "-f", "job.yaml", "--launch", "process")
	rates := func(model string) (out []float64) {
		for _, e := range historyOf(t, dir, model) {
			out = append(out, e.LearningRate)
		}
		return out
	}
	got := rates(here.Model)
	if got[0] != 0.03 || got[29] >= 0.03 || got[29] < 0.0001 || !slices.IsSortedFunc(got, func(a, b float64) int { return int(math.Copysign(1, b-a)) * boolInt(a != b) }) {
		t.Errorf("the rates were %v", got)
	}
	if other := rates(processes.Model); !slices.Equal(got, other) || !slices.Equal(loaded(t, dir, here.Model).Params, loaded(t, dir, processes.Model).Params) {
		t.Errorf("in processes the rates were %v", other)
	}
	e := event(t, filepath.Join(dir, "events"), "learning_rate", nil)
	if e["learning_rate"].(float64) != 0.03*0.3 || !strings.Contains(e["text"].(string), "val_loss got no better in 2 measurements") {
		t.Errorf("%v", e)
	}

	kept := []string{"train", "-f", "job.yaml", "--set", "train.checkpoint={path: out/checkpoint, every_steps: 400},train.epochs=200"}
	p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, kept...)
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d: %s", code, &p.stderr)
	}
	before := newestCheckpoint(t, dir)
	if before.Past.Plateau == nil || before.Past.Plateau.Rate >= 0.03 {
		t.Fatalf("the checkpoint has %+v", before.Past.Plateau)
	}
	r := run(t, dir, 0, append(kept, "--resume", "--set", "train.workers=1")...)
	for _, e := range historyOf(t, dir, r.Model) {
		if e.Epoch > len(before.Past.Epochs) && e.LearningRate > before.Past.Plateau.Rate {
			t.Fatalf("epoch %d has the rate %g, the run was at %g", e.Epoch, e.LearningRate, before.Past.Plateau.Rate)
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestAPlateauThatCannotBeWatchedIsRefused(t *testing.T) {
	dir := validated(t, "  reduce_on_plateau: {patience: 2}\n")
	for set, want := range map[string]string{
		"train.optimizer={sgd: {learning_rate: {exponential_decay: {initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.5}}}}": "learning_rate is a schedule",
		"train.reduce_on_plateau.factor=1":                                                "train.reduce_on_plateau.factor=1: want more than 0 and less than 1",
		"train.reduce_on_plateau.patience=0":                                              "train.reduce_on_plateau.patience=0: want at least 1",
		"train.reduce_on_plateau.monitor=val_acuracy":                                     "train.reduce_on_plateau.monitor",
		"split={key: id, train: 0.8, test: 0.2},train.reduce_on_plateau.monitor=val_loss": "needs validation rows",
	} {
		if r := run(t, dir, 2, "run", "-f", "job.yaml", "--set", set); !strings.Contains(r.Error.Message, want) {
			t.Errorf("%s: got %+v, want %s", set, r.Error, want)
		}
	}
	// Without validation rows the loss of training is watched.
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", "split={key: id, train: 0.8, test: 0.2},train.epochs=3")
	if h := historyOf(t, dir, r.Model); h[0].LearningRate != 0.005 {
		t.Errorf("%+v", h[0])
	}
}

// TestValidationHasTheStatisticsOfItsCentre: a model with batch normalization is measured, while it is trained, as it is
// measured when its best epoch is published, on one worker and on several, in this process and in others.
func TestValidationHasTheStatisticsOfItsCentre(t *testing.T) {
	dir := validated(t, "  early_stopping: {monitor: val_loss, patience: 3, restore_best: true}\n", denseLayer, aCNN, "epochs: 20", "epochs: 8", "learning_rate: 0.005", "learning_rate: 0.02")
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	for _, set := range []string{"train.trainer=single,train.workers=1", "train.trainer=agn", "train.trainer=local_sgd", "train.trainer=agn,train.launch=process", "train.trainer=averaging,train.workers=3"} {
		p := start(t, dir, nil, "train", "-f", "job.yaml", "--json", "--set", set+",gate.at_least=0")
		if code := p.wait(t); code != 0 {
			t.Fatalf("%s: exit code %d: %s", set, code, &p.stderr)
		}
		var r struct {
			Model   string
			Metrics map[string]map[string]float64
			Ended   trainers.Ending
		}
		if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		h := historyOf(t, dir, r.Model)
		if r.Ended.Epoch == 0 || r.Ended.Epoch > len(h) {
			t.Fatalf("%s: %+v", set, r.Ended)
		}
		for name, got := range r.Metrics["validation"] {
			want, _ := h[r.Ended.Epoch-1].Validation.Get(name)
			if math.Abs(got-want) > 1e-6 {
				t.Errorf("%s: the published model has the validation %s %v, in epoch %d it was %v", set, name, got, r.Ended.Epoch, want)
			}
		}
		if r.Metrics["validation"]["accuracy"] < 0.3 {
			t.Errorf("%s: accuracy %v: its statistics are not those of its parameters", set, r.Metrics)
		}
	}
}
