package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAGroupOrAMistypedCommandIsNoAnswer: what only groups commands, or is not there, is a usage error wherever a program or
// --help asks for it; for people a group still shows what it holds.
func TestAGroupOrAMistypedCommandIsNoAnswer(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, message, hint string }{
		{"--json", "dkpipe needs a subcommand: bench, box,", "dkpipe --help"},
		{"box --json", "dkpipe box needs a subcommand: control, down, env, status, up", "dkpipe box --help"},
		{"data --json", "dkpipe data needs a subcommand: cat, checksum, du, get, import, ls, put, rm, verify", "dkpipe data --help"},
		{"model --json", "dkpipe model needs a subcommand: ", "dkpipe model --help"},
		{"bench --json", "dkpipe bench needs a subcommand: ", "dkpipe bench --help"},
		{"trian --help --json", `unknown command "trian" for "dkpipe"`, "did you mean dkpipe train?"},
		{"help trian --json", `unknown command "trian" for "dkpipe"`, "did you mean dkpipe train?"},
		{"bench exchnge --help --json", `unknown command "exchnge" for "dkpipe bench"`, "did you mean dkpipe bench exchange?"},
		{"help data veryfy --json", `unknown command "veryfy" for "dkpipe data"`, "did you mean dkpipe data verify?"},
		{"--events e.jsonl dtaa -h --json", `unknown command "dtaa" for "dkpipe"`, "did you mean dkpipe data?"},
	} {
		p := start(t, dir, nil, strings.Fields(c.args)...)
		if code := p.wait(t); code != 2 {
			t.Errorf("%s: exit code %d\n%s", c.args, code, &p.stdout)
			continue
		}
		if r := p.result(t); r.Error == nil || r.Error.Kind != "usage" || !strings.Contains(r.Error.Message, c.message) || !strings.Contains(r.Error.Hint, c.hint) {
			t.Errorf("%s: %+v", c.args, r.Error)
		}
	}
	for _, args := range []string{"", "--help", "help", "data", "data --help", "help data", "help train", "data verify --help", "train -f x.yaml --help", "bench step -h", "completion --help"} {
		p := start(t, dir, nil, strings.Fields(args)...)
		if code := p.wait(t); code != 0 || !strings.Contains(p.stdout.String(), "Usage:") || strings.Contains(p.stdout.String(), "(default true)") {
			t.Errorf("%q: exit code %d\n%s%s", args, code, &p.stdout, &p.stderr)
		}
	}
}

// TestEventsOfCommandsThatAreNoJobs: every command tells how it ended.
func TestEventsOfCommandsThatAreNoJobs(t *testing.T) {
	dir := trainedQuickstart(t)
	for _, c := range []struct {
		args string
		code int
		want map[string]any
	}{
		{"version", 0, map[string]any{"type": "done", "command": "version"}},
		{"bench step --rounds 1", 2, map[string]any{"type": "failed", "command": "bench step", "kind": "usage"}},
		{"box status --dir nowhere", -2, map[string]any{"type": "failed", "command": "box status"}},
		{"worker --connect 127.0.0.1:1", 2, map[string]any{"type": "failed", "command": "worker", "kind": "usage"}},
		{"model rollback out/model", 2, map[string]any{"type": "failed", "command": "model rollback", "kind": "usage"}},
		{"model rollback out/model v000001", 0, map[string]any{"type": "done", "command": "model rollback"}},
	} {
		name := filepath.Join(dir, "events.jsonl")
		p := start(t, dir, []string{"DKPIPE_TICKET="}, append(strings.Fields(c.args), "--events", name)...)
		if code := p.wait(t); code != c.code && (c.code != -2 || code == 0) {
			t.Errorf("%s: exit code %d\n%s", c.args, code, &p.stderr)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Errorf("%s: not one line of JSON: %s", c.args, b)
		}
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%s: %s", c.args, b)
			}
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestErrorsSayWhatIsWrong, in the words of the one who wrote the command.
func TestErrorsSayWhatIsWrong(t *testing.T) {
	dir := trainedQuickstart(t)
	for _, c := range []struct{ args, message, hint, not string }{
		{"model init -f job.yaml --keras m.json --out m.keras", "-f and --keras both name a model", "leave one of them out", "needs"},
		{"model init --out m.keras", "init needs --out, and -f or --keras", "", ""},
		{"model export --to onnx --out x.keras out/model", "--to onnx and --out x.keras name two formats", ".onnx", ""},
		{"model export --to keras --out x.safetensors out/model", "name two formats", ".keras", ""},
		{"predict --model out/model --in digits.csv --out nodir/x.csv", "--out nodir/x.csv: there is no folder nodir", "make it", ".part-"},
		{"model rollback out/model", "v000001 is the only version", "another one was published", "file does not exist"},
	} {
		r := run(t, dir, 2, strings.Fields(c.args)...)
		if r.Error == nil || !strings.Contains(r.Error.Message, c.message) || !strings.Contains(r.Error.Hint, c.hint) || c.not != "" && strings.Contains(r.Error.Message, c.not) {
			t.Errorf("%s: %+v", c.args, r.Error)
		}
	}
	run(t, dir, 0, "model", "export", "--to", "onnx", "--out", "model.bin", "out/model") // an ending that says nothing
	for _, name := range []string{"m.keras", "x.keras", "nodir"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeepVersionsIsABound, whatever becomes of the runs.
func TestKeepVersionsIsABound(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 1", "output: {path: out/model}", "output: {path: out/model, keep_versions: 2}")
	versions := func() (names []string) {
		found, err := filepath.Glob(filepath.Join(dir, "out/model/v*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			names = append(names, filepath.Base(name))
		}
		return names
	}
	refuse := []string{"--set", "gate.at_least=0.9999"}
	run(t, dir, 6, append([]string{"run", "-f", "job.yaml"}, refuse...)...)
	for range 3 {
		run(t, dir, 6, append([]string{"train", "-f", "job.yaml"}, refuse...)...)
	}
	if got := versions(); !slices.Equal(got, []string{"v000003", "v000004"}) {
		t.Errorf("nothing was ever published: %v", got)
	}
	run(t, dir, 0, "train", "-f", "job.yaml", "--set", "gate.at_least=0")
	for range 3 {
		run(t, dir, 6, append([]string{"train", "-f", "job.yaml"}, refuse...)...)
	}
	if got := versions(); !slices.Equal(got, []string{"v000004", "v000005", "v000007", "v000008"}) || latest(t, filepath.Join(dir, "out/model")) != "v000005" {
		t.Errorf("LATEST is v000005, and there are %v", got)
	}
	interrupted(t, dir)
	if got := versions(); !slices.Equal(got, []string{"v000004", "v000005", "v000008", "v000009"}) {
		t.Errorf("after an interrupted run there are %v", got)
	}
}

// TestBenchPreprocessMakesWholeDatasets: every piece of its work counts the rows; here there are few of them.
func TestBenchPreprocessMakesWholeDatasets(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := &csvBench{rows: 300, width: 20}
	cases, err := b.run(t.Context(), 5)
	if err != nil || len(cases) != 3 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		if c.Value <= 0 || c.Reference <= 0 || c.Ratio <= 0 {
			t.Errorf("%+v", c)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// interrupted starts a long training and stops it when it has begun.
func interrupted(t *testing.T, dir string) {
	t.Helper()
	events := filepath.Join(t.TempDir(), "events")
	p := start(t, dir, nil, "train", "-f", "job.yaml", "--set", "train.epochs=100000", "--events", events)
	event(t, events, "epoch", nil)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 130 {
		t.Fatalf("exit code %d\n%s", code, &p.stderr)
	}
}
