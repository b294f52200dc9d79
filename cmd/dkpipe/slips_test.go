//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// trained makes the quickstart's model, quickly.
func trainedQuickstart(t *testing.T) string {
	t.Helper()
	dir := quickstart(t)
	run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.epochs=2,gate=null")
	return dir
}

// TestPredictNeverReplacesItsInput: whatever names the file is given by.
func TestPredictNeverReplacesItsInput(t *testing.T) {
	dir := trainedQuickstart(t)
	before, err := os.ReadFile(filepath.Join(dir, "digits.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{"digits.csv", "./digits.csv", filepath.Join(dir, "digits.csv"), "file://" + dir + "/digits.csv", "link/digits.csv"} {
		r := run(t, dir, 2, "predict", "--model", "out/model", "--in", "digits.csv", "--out", out)
		if want := "--out " + out + " is one of the files of --in"; r.Error.Message != want {
			t.Errorf("%s: %s", out, r.Error.Message)
		}
	}
	if now, err := os.ReadFile(filepath.Join(dir, "digits.csv")); err != nil || string(now) != string(before) {
		t.Errorf("the input is another one now: %d bytes, %v", len(now), err)
	}
}

// TestPipesAreRefused: they have no length and do not stay, and opening one could wait for ever.
func TestPipesAreRefused(t *testing.T) {
	dir := trainedQuickstart(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.csv"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"data", "put", "pipe.csv", "put"},
		{"predict", "--model", "out/model", "--in", "pipe.csv", "--out", "p.csv"},
		{"run", "-f", "job.yaml", "--set", "source.csv=pipe.csv"},
	} {
		r := run(t, dir, 2, args...)
		if !strings.Contains(r.Error.Message, "pipe.csv") || !strings.Contains(r.Error.Message, "it is a pipe") || !strings.Contains(r.Error.Hint, "file") {
			t.Errorf("%v: %+v", args, r.Error)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "put")); !os.IsNotExist(err) {
		t.Errorf("data put has left something: %v", err)
	}
}

// TestTheGateKnowsScores: by what more of them means, not by what they are called.
func TestTheGateKnowsScores(t *testing.T) {
	dir := trainedQuickstart(t)
	r := run(t, dir, 0, "train", "-f", "job.yaml", "--set", "train.metrics=[accuracy, f1_macro]", "--set", "gate={metric: f1_macro, not_below_latest_by: 0.01}")
	if all := strings.Join(r.Warnings, "\n"); !strings.Contains(all, "v000001 was published without test f1_macro") {
		t.Errorf("warnings: %q", all)
	}
	r = run(t, dir, 6, "train", "-f", "job.yaml", "--set", "train.metrics=[accuracy, f1_macro],train.max_steps=2", "--set", "gate={metric: f1_macro, not_below_latest_by: 0.01}")
	if !strings.Contains(r.Error.Message, "LATEST has 0.9") {
		t.Errorf("got %s", r.Error.Message)
	}
}

// TestWhatTrainingNeedsIsLookedAtFirst: a typo must not cost the preprocessing, nor publish a dataset.
func TestWhatTrainingNeedsIsLookedAtFirst(t *testing.T) {
	dir := quickstart(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--metrics-listen", "0.0.0.0:1"}, "--metrics-listen"},
		{[]string{"--metrics-listen", "127.0.0.1:x"}, "--metrics-listen"},
		{[]string{"--launch", "join", "--listen", "0.0.0.0:0"}, "workers have to be told one"},
		{[]string{"--launch", "join", "--listen", "127.0.0.1:70000"}, "70000"},
		{[]string{"--launch", "spark"}, "spark.remote is not set"},
		{[]string{"--record", "digits.csv"}, "--record"},
		{[]string{"--report", "nowhere/run.html"}, "--report nowhere/run.html"},
		{[]string{"--set", "output.path=./out/../out/dataset"}, "dataset.path and output.path are the same"},
		{[]string{"--set", "train.checkpoint={path: out/model, every_steps: 5}"}, "output.path and train.checkpoint.path are the same"},
	} {
		r := run(t, dir, 2, append([]string{"run", "-f", "job.yaml"}, c.args...)...)
		if !strings.Contains(r.Error.Message, c.want) || r.Error.Hint == "" {
			t.Errorf("%v: %+v", c.args, r.Error)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "out/dataset")); err == nil && len(entries) > 0 {
		t.Errorf("a dataset was made: %v", entries)
	}
}

// TestPathsOfSetStartAtTheWorkingDirectory, and those of the spec at its folder.
func TestPathsOfSetStartAtTheWorkingDirectory(t *testing.T) {
	dir := quickstart(t)
	here := filepath.Join(dir, "here")
	if err := os.Mkdir(here, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, here, 0, "run", "-f", "../job.yaml", "--set", "output.path=mine,train.epochs=1,gate=null,train.launch=process")
	for _, name := range []string{"here/mine/LATEST", "out/dataset/LATEST"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestSlipsOnTheCommandLine: what people write most often when they are wrong gets the command that they meant.
func TestSlipsOnTheCommandLine(t *testing.T) {
	dir := trainedQuickstart(t)
	run(t, dir, 0, "model", "export", "--to", "keras", "--out", "m.keras", "out/model")
	for _, c := range []struct {
		args          []string
		code          int
		message, hint string
	}{
		{[]string{"run", "job.yaml"}, 2, "takes no argument", "write dkpipe run -f job.yaml"},
		{[]string{"evaluate", "--model", "m.keras", "--data", "out/dataset"}, 2, "m.keras is a file", "model: {keras: FILE}"},
		{[]string{"evaluate", "--model", "out/dataset", "--data", "out/model"}, 2, "out/dataset is a dataset, and no model", "dkpipe run"},
		{[]string{"evaluate", "--model", "out/model", "--data", "out/model"}, 2, "out/model is a model, and no dataset", "dkpipe preprocess"},
		{[]string{"worker", "--connect", "127.0.0.1:1"}, 2, "there is no ticket", "DKPIPE_TICKET"},
		{[]string{"box", "status"}, 2, "no box given", "--dir"},
		{[]string{"completion", "bash", "x"}, 2, "takes no argument", ""},
	} {
		p := start(t, dir, []string{"DKPIPE_BOX=", "DKPIPE_TICKET="}, append(c.args, "--json")...)
		if code := p.wait(t); code != c.code {
			t.Errorf("%v: exit code %d", c.args, code)
		}
		if r := p.result(t); r.Error == nil || !strings.Contains(r.Error.Message, c.message) || !strings.Contains(r.Error.Hint, c.hint) {
			t.Errorf("%v: %+v", c.args, r.Error)
		}
	}
}

// TestCompletionKnowsValues asks as a shell does.
func TestCompletionKnowsValues(t *testing.T) {
	dir := trainedQuickstart(t)
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"run", "--launch", ""}, "in-process\nprocess\njoin\nspark\n"},
		{[]string{"model", "export", "--to", ""}, "keras\nonnx\nsafetensors\n"},
		{[]string{"run", "--set", "train.trainer="}, "train.trainer=agn\n"},
		{[]string{"model", "rollback", "out/model", ""}, "v000001\n"},
	} {
		p := start(t, dir, nil, append([]string{"__complete"}, c.words...)...)
		if code := p.wait(t); code != 0 || !strings.Contains(p.stdout.String(), c.want) {
			t.Errorf("%q: exit code %d, %q", c.words, code, &p.stdout)
		}
	}
}

// TestTwoSignalsAtOnceAreOne: timeout(1) signals its child and then the child's group.
func TestTwoSignalsAtOnceAreOne(t *testing.T) {
	dir := trainedQuickstart(t)
	p := start(t, dir, nil, "train", "-f", "job.yaml", "--set", "train.epochs=100000,gate=null", "--events", "events", "--json")
	await(t, "it trains", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "events"))
		return strings.Contains(string(b), `"progress"`)
	})
	p.signal(t, syscall.SIGTERM)
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 130 {
		t.Fatalf("exit code %d, %s", code, &p.stdout)
	}
	if r := p.result(t); r.Status != "interrupted" || r.Model == "" {
		t.Errorf("%+v", r)
	}
}
