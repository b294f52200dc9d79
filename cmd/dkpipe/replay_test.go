package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestReplayRepeatsARunBitForBit records asynchronous runs, with workers in this process and in others, and repeats each:
// the parameters are those that were published, and the log is at most a thousandth of what was exchanged.
func TestReplayRepeatsARunBitForBit(t *testing.T) {
	dir := quickstart(t)
	var hashes []string
	for _, launch := range []string{"in-process", "process"} {
		r := run(t, dir, 0, "run", "-f", "job.yaml", "--launch", launch, "--record", "rec-"+launch, "--set", "train.workers=3,dataset.shards=4")
		for range 2 {
			p := start(t, t.TempDir(), nil, "replay", filepath.Join(dir, "rec-"+launch), "--model", filepath.Join(dir, r.Model), "--json")
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
			}
			var got replayReport
			if err := json.Unmarshal(p.stdout.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Equal == nil || !*got.Equal || got.Samples != 20*r.Rows["train"] {
				t.Errorf("%s: %+v", launch, got)
			}
			if 1000*got.LogBytes > int64(got.ExchangeBytes) {
				t.Errorf("%s: a log of %d bytes for %d bytes of parameters", launch, got.LogBytes, got.ExchangeBytes)
			}
			hashes = append(hashes, got.SHA256)
		}
	}
	if hashes[0] != hashes[1] || hashes[2] != hashes[3] || len(hashes[0]) != 64 {
		t.Errorf("replays of the same run: %v", hashes)
	}
	if hashes[0] == hashes[2] {
		t.Error("two asynchronous runs came out the same: nothing was tested")
	}
}

// TestReplayOfProcesses repeats what worker processes did, for every asynchronous trainer, with a worker that was killed, with a
// run that was stopped early, and with exchanges beside computing.
func TestReplayOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for i, c := range []struct {
		trainer, more string
		kill          bool
	}{
		{trainer: "{downpour: {window: 1}}"}, {trainer: "{downpour: {window: 2, adagrad: {gamma: 0.02}}}"}, {trainer: "distance_adag", more: ",train.window=2"},
		{trainer: "{dynsgd: {overlap: true}}", more: ",train.window=3"}, {trainer: "aeasgd"}, {trainer: "{eamsgd: {momentum: 0.3}}", more: ",train.window=8"}, {trainer: "async_local"},
		{trainer: "{agn: {overlap: true}}", more: ",train.window=2"},
		{trainer: "agn", kill: true}, {trainer: "{agn: {overlap: true}}", kill: true}, {trainer: "aeasgd", kill: true},
		{trainer: "agn", more: ",train.early_stopping={monitor: val_loss, patience: 3}"},
		{trainer: "{agn: {overlap: true}}", more: ",train.early_stopping={monitor: val_loss, patience: 2},train.window=2"},
	} {
		t.Run(c.trainer+c.more, func(t *testing.T) {
			workers := 2 + i%3
			dir := quickstart(t, "train: 0.8, test: 0.2", withValidation, "  window: 2\n", "", "epochs: 20", "epochs: 60", "batch_size: 32", "batch_size: 8")
			p := start(t, dir, nil, "run", "-f", "job.yaml", "--json", "--events", "events", "--launch", "process", "--record", "rec", "--set",
				fmt.Sprintf("train.workers=%d,gate.at_least=0.1,train.trainer=%s%s", workers, c.trainer, c.more))
			if c.kill {
				if err := syscall.Kill(underWay(t, dir), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
			}
			r := p.result(t)
			if lost := r.Workers[1].Lost != ""; lost != c.kill {
				t.Errorf("worker 1 was lost: %q", r.Workers[1].Lost)
			}
			p = start(t, dir, nil, "replay", "rec", "--model", r.Model, "--json")
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
			}
			var got replayReport
			if err := json.Unmarshal(p.stdout.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Equal == nil || !*got.Equal || got.Samples != samplesOfAll(r) || 1000*got.LogBytes > int64(got.ExchangeBytes) {
				t.Errorf("%+v, the run has %d samples", got, samplesOfAll(r))
			}
		})
	}
}

// TestARecordedRunThatWentBackSaysSo: a run that lost a data server ends right, with right books, and says that its order is not
// kept: what was done twice is not in it.
func TestARecordedRunThatWentBackSaysSo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	r := startSpread(t, quickstart(t), 200, steady, "--record", "rec")
	r.reach(t, 20)
	r.signal(t, r.pid(t, "server", 1), syscall.SIGKILL)
	res := r.end(t)
	if r.count(t, "server_started") != 3 {
		t.Fatalf("%d data servers were started", r.count(t, "server_started"))
	}
	if !slices.ContainsFunc(res.Warnings, func(w string) bool {
		return strings.Contains(w, "--record: the order log of the run is of no use: the run lost a data server")
	}) {
		t.Errorf("the warnings are %q", res.Warnings)
	}
	if got := run(t, r.dir, 3, "replay", "rec"); got.Error.Kind != "corrupt" {
		t.Errorf("%+v", got.Error)
	}
}

// TestAnOrderLogWithoutSpaceIsAWarning fills the disk that the order log is on: the model is as good, and the run says what it lacks.
func TestAnOrderLogWithoutSpaceIsAWarning(t *testing.T) {
	dir := quickstart(t)
	if err := os.Mkdir(filepath.Join(dir, "rec"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=12k tmpfs rec && exec "$0" "$@"`
	r := runIn(t, dir, 0, []string{"unshare", "-rm", "sh", "-c", script}, "run", "-f", "job.yaml", "--record", "rec", "--set", "train.batch_size=2,train.window=1", "--report", "page.html")
	page, err := os.ReadFile(filepath.Join(dir, "page.html"))
	if err != nil || !strings.Contains(string(page), "the order log of the run could not be written") || r.Metrics["test"]["accuracy"] < 0.9 {
		t.Errorf("%v, %v", err, r.Metrics)
	}
}

// TestReplayTellsAnotherRun refuses logs and models that do not belong together, and folders that hold a run already.
func TestReplayTellsAnotherRun(t *testing.T) {
	dir := quickstart(t)
	first := run(t, dir, 0, "run", "-f", "job.yaml", "--record", "rec1")
	run(t, dir, 0, "train", "-f", "job.yaml", "--record", "rec2")
	if r := run(t, dir, 3, "replay", "rec2", "--model", first.Model); r.Error.Kind != "changed" {
		t.Errorf("another run's model: %+v", r.Error)
	}
	if r := run(t, dir, 2, "train", "-f", "job.yaml", "--record", "rec1"); r.Error.Kind != "usage" {
		t.Errorf("recording over a recorded run: %+v", r.Error)
	}
	if r := run(t, dir, 2, "replay", "nowhere"); r.Error.Hint == "" {
		t.Errorf("no recorded run: %+v", r.Error)
	}
	log := filepath.Join(dir, "rec1", recordedOrder)
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1 // of the digest of the parameters
	if err := os.WriteFile(log, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, dir, 3, "replay", "rec1"); r.Error.Kind != "changed" {
		t.Errorf("a log of another outcome: %+v", r.Error)
	}
	if err := os.WriteFile(log, b[:len(b)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, dir, 3, "replay", "rec1"); r.Error.Message == "" {
		t.Errorf("half a log: %+v", r.Error)
	}
}
