package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestSlots: a slot is done once, --force does it again, another slot is another run.
func TestSlots(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 3", "at_least: 0.9", "at_least: 0.3")
	first := run(t, dir, 0, "run", "-f", "job.yaml", "--slot", "2026-11-22T03")
	if first.Skipped || !strings.HasSuffix(first.Model, "v000001") {
		t.Errorf("first run: %+v", first)
	}
	again := run(t, dir, 0, "run", "-f", "job.yaml", "--slot", "2026-11-22T03")
	if !again.Skipped || again.Model != first.Model {
		t.Errorf("second run of the slot: skipped %v, model %s", again.Skipped, again.Model)
	}
	forced := run(t, dir, 0, "run", "-f", "job.yaml", "--slot", "2026-11-22T03", "--force")
	if forced.Skipped || !strings.HasSuffix(forced.Model, "v000002") {
		t.Errorf("forced run: %+v", forced)
	}
	next := run(t, dir, 0, "run", "-f", "job.yaml", "--slot", "2026-11-22T04")
	if next.Skipped || latest(t, filepath.Join(dir, "out/model")) != "v000003" {
		t.Errorf("next slot: %+v", next)
	}
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--slot", "2026-11-22T04")
	if code := p.wait(t); code != 0 || !strings.Contains(p.stdout.String(), "done before") {
		t.Errorf("exit code %d, and a person is told: %s", code, &p.stdout)
	}
}

// TestGate: a model below its gate is kept as a version, LATEST stays, the slot is not done.
func TestGate(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "run", "-f", "job.yaml")
	r := run(t, dir, 6, "run", "-f", "job.yaml", "--slot", "s", "--set", "train.epochs=1,gate.at_least=0.99")
	if r.Error.Kind != "gate" || !strings.Contains(r.Error.Message, "the gate asks for at least 0.99") {
		t.Errorf("error %+v", r.Error)
	}
	if !strings.HasSuffix(r.Model, "v000002") || latest(t, filepath.Join(dir, "out/model")) != "v000001" {
		t.Errorf("model %s, LATEST %s", r.Model, latest(t, filepath.Join(dir, "out/model")))
	}
	run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
	r = run(t, dir, 6, "run", "-f", "job.yaml", "--set", "train.epochs=1,gate={metric: accuracy, not_below_latest_by: 0.01}")
	if r.Error.Kind != "gate" || !strings.Contains(r.Error.Message, "LATEST has") {
		t.Errorf("error %+v", r.Error)
	}
	if after := run(t, dir, 0, "run", "-f", "job.yaml", "--slot", "s"); after.Skipped {
		t.Error("the slot counts as done although its gate was broken")
	}
}

// TestRefusedVersionsDoNotPushOutGoodOnes: after many refused models there is still one to roll back to, and a root in
// which nothing passed serves nothing.
func TestRefusedVersionsDoNotPushOutGoodOnes(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0", "output: {path: out/model}", "output: {path: out/model, keep_versions: 2}")
	refuse := []string{"run", "-f", "job.yaml", "--set", "gate.at_least=0.9999"}
	run(t, dir, 6, refuse...)
	if r := run(t, dir, 3, "evaluate", "--model", "out/model", "--data", "out/dataset"); !strings.Contains(r.Error.Hint, "v000001") {
		t.Errorf("error %+v; want a hint that names the refused version", r.Error)
	}
	run(t, dir, 0, "run", "-f", "job.yaml") // v000002
	for range 3 {
		run(t, dir, 6, refuse...)
	}
	run(t, dir, 0, "run", "-f", "job.yaml") // v000006
	run(t, dir, 0, "model", "rollback", "out/model")
	if got := latest(t, filepath.Join(dir, "out/model")); got != "v000002" {
		t.Errorf("LATEST is %s after a rollback, want v000002", got)
	}
}

// TestRollback moves LATEST back and forth.
func TestRollback(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0")
	for range 2 {
		run(t, dir, 0, "run", "-f", "job.yaml")
	}
	model := filepath.Join(dir, "out/model")
	run(t, dir, 0, "model", "rollback", "out/model")
	if got := latest(t, model); got != "v000001" {
		t.Errorf("LATEST is %s after a rollback", got)
	}
	run(t, dir, 0, "model", "rollback", "out/model", "v000002")
	if got := latest(t, model); got != "v000002" {
		t.Errorf("LATEST is %s after going back to v000002", got)
	}
	if r := run(t, dir, 3, "model", "rollback", "out/model", "v000009"); r.Error.Hint == "" {
		t.Errorf("error %+v", r.Error)
	}
}

// TestPredictReplaysTheTransformers: predictions on the raw file, as CSV and as Parquet, agree with the labels as often
// as the evaluation says.
func TestPredictReplaysTheTransformers(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "run", "-f", "job.yaml")
	var want float64
	for _, split := range []string{"train", "test"} {
		r := run(t, dir, 0, "evaluate", "--model", "out/model", "--data", "out/dataset", "--split", split)
		want += r.Metrics[split]["accuracy"] * float64(r.Rows[split])
	}
	run(t, dir, 0, "predict", "--model", "out/model", "--in", "digits.csv", "--out", "p.csv")
	if got := agree(t, filepath.Join(dir, "p.csv")); float64(got) != want {
		t.Errorf("CSV: %d predictions are right, the evaluation says %g", got, want)
	}
	var all []string
	for i := range 64 {
		all = append(all, "p"+strconv.Itoa(i))
	}
	run(t, dir, 0, "predict", "--model", "out/model", "--in", "digits.csv", "--out", "raw.parquet", "--keep", "id,label,"+strings.Join(all, ","))
	run(t, dir, 0, "predict", "--model", "out/model", "--in", "raw.parquet", "--out", "p2.csv", "--keep", "id,label")
	if got := agree(t, filepath.Join(dir, "p2.csv")); float64(got) != want {
		t.Errorf("Parquet: %d predictions are right, the evaluation says %g", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// agree counts the rows of id,label,prediction whose prediction is the label.
func agree(t *testing.T, name string) (right int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(rows[0], []string{"id", "label", "prediction"}) || len(rows) != 1798 {
		t.Fatalf("%d rows of %v", len(rows), rows[0])
	}
	for _, r := range rows[1:] {
		if r[1] == r[2] {
			right++
		}
	}
	return right
}

// TestPartsGiveWhatRunGives: preprocess, train and evaluate one after the other are the same job.
func TestPartsGiveWhatRunGives(t *testing.T) {
	dir := quickstart(t, "trainer: agn", "trainer: averaging", "epochs: 20", "epochs: 5", "at_least: 0.9", "at_least: 0.5")
	whole := run(t, dir, 0, "run", "-f", "job.yaml")
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--events", "events")
	parts := run(t, dir, 0, "train", "-f", "job.yaml", "--events", "events")
	// averaging is deterministic, so the same data and seed give the same bits.
	for _, split := range []string{"train", "test"} {
		if fmt.Sprint(whole.Metrics[split]) != fmt.Sprint(parts.Metrics[split]) {
			t.Errorf("%s: run gives %v, its parts give %v", split, whole.Metrics[split], parts.Metrics[split])
		}
	}
	for _, kind := range []string{"preprocess", "epoch", "evaluated", "done"} {
		event(t, filepath.Join(dir, "events"), kind, nil)
	}
	for _, shard := range []string{"train/part-00000.parquet", "test/part-00003.parquet"} {
		a, errA := os.ReadFile(filepath.Join(dir, "out/dataset/v000001", shard))
		b, errB := os.ReadFile(filepath.Join(dir, "out/dataset/v000002", shard))
		if errA != nil || errB != nil || !slices.Equal(a, b) {
			t.Errorf("%s differs between two preparations of the same source (%v, %v)", shard, errA, errB)
		}
	}
}

// TestEvaluateWantsTheSameTransformers: a dataset that was prepared otherwise is refused.
func TestEvaluateWantsTheSameTransformers(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0")
	run(t, dir, 0, "run", "-f", "job.yaml")
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", "transform.1.min_max.from=[0,20]")
	r := run(t, dir, 2, "evaluate", "--model", "out/model", "--data", "out/dataset")
	if !strings.Contains(r.Error.Message, "other fitted transformers") || !strings.Contains(r.Error.Hint, "v000001") {
		t.Errorf("error %+v", r.Error)
	}
}

// TestShardChangesDuringTraining cuts a shard off while it is trained on.
func TestShardChangesDuringTraining(t *testing.T) {
	dir := quickstart(t)
	p := start(t, dir, nil, long...)
	event(t, filepath.Join(dir, "events"), "epoch", nil)
	if err := os.Truncate(filepath.Join(dir, "out/dataset/v000001/train/part-00000.parquet"), 10_000); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 3 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	if r := p.result(t); r.Error.Kind != "changed" || !strings.Contains(r.Error.Message, "train/part-00000.parquet") {
		t.Errorf("error %+v", r.Error)
	}
}

// TestMainJobIsFrugal runs the real program: CPU time of the main job, and its peak memory when there is twenty times the
// data. Medians of five interleaved rounds.
func TestMainJobIsFrugal(t *testing.T) {
	dir := quickstart(t)
	binary := filepath.Join(t.TempDir(), "dkpipe")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := lines(t, filepath.Join(dir, "digits.csv"))
	big := slices.Clone(all)
	for range 19 {
		big = append(big, all[1:]...)
	}
	write("big.csv", strings.Join(big, "\n")+"\n")(t, dir)
	var small, large, cpu []float64
	for i := range 5 {
		for _, source := range []string{"digits.csv", "big.csv"} {
			out := fmt.Sprintf("out/%d-%s", i, source)
			cmd := exec.Command(binary, "run", "-f", "job.yaml", "--json", "--set",
				fmt.Sprintf("source.csv=%s,dataset.path=%s/dataset,output.path=%s/model,train.epochs=%d", source, out, out, 20))
			cmd.Dir = dir
			b, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			var r result
			if err := json.Unmarshal(b, &r); err != nil || r.PeakMiB == 0 {
				t.Fatalf("%v, peak memory %g\n%s", err, r.PeakMiB, b)
			}
			// The program tells its own peak: what wait reports includes the memory of the process that forked it.
			peak := r.PeakMiB
			if source == "digits.csv" {
				small = append(small, peak)
				cpu = append(cpu, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
			} else {
				large = append(large, peak)
			}
		}
	}
	t.Logf("CPU %.2f s; peak memory %.1f MiB, with 20 times the data %.1f MiB: %.2fx", median(cpu), median(small), median(large), median(large)/median(small))
	if median(cpu) > 5 {
		t.Errorf("the main job takes %.2f s of CPU time, 5 are allowed", median(cpu))
	}
	if ratio := median(large) / median(small); ratio > 1.2 {
		t.Errorf("20 times the data takes %.2fx the memory, 1.2 is allowed", ratio)
	}
}

// TestHelpAndJSONOfEveryCommand: every command has an example in its help, and an unknown flag is a usage error in JSON.
func TestHelpAndJSONOfEveryCommand(t *testing.T) {
	root := newApp(os.Stdout, os.Stderr, os.Getenv).command()
	for _, c := range root.Commands() {
		for _, c := range append(c.Commands(), c) {
			if c.Example == "" || c.Short == "" {
				t.Errorf("%s has no example or no short text", c.CommandPath())
			}
		}
	}
	p := start(t, t.TempDir(), nil, "run", "--json", "--nosuch")
	if code := p.wait(t); code != 2 {
		t.Errorf("exit code %d", code)
	}
	var r result
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil || r.Error == nil || r.Error.Kind != "usage" {
		t.Errorf("stdout %s: %v", &p.stdout, err)
	}
}

// TestASlotWhoseDatasetIsGone: a slot stays done when the version that it made is retired; a run that still needs the rows
// makes them again.
func TestASlotWhoseDatasetIsGone(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0")
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--slot", "a")
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--slot", "b", "--set", "dataset.keep_versions=1")
	if _, err := os.Stat(filepath.Join(dir, "out/dataset/v000001")); !os.IsNotExist(err) {
		t.Fatalf("v000001 is still there: %v", err)
	}
	if r := run(t, dir, 0, "preprocess", "-f", "job.yaml", "--slot", "a"); !r.Skipped {
		t.Error("a slot that is done was done again")
	}
	if r := run(t, dir, 0, "run", "-f", "job.yaml", "--slot", "a"); r.Skipped || !strings.HasSuffix(r.Dataset, "v000003") || r.Model == "" {
		t.Errorf("run: %+v", r)
	}
}
