package main

import (
	"encoding/json"
	"os"
	"path/filepath"
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
