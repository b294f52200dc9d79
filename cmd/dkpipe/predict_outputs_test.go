package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// twoOutputs is a trained model with a click, of a sigmoid, and a kind, of logits.
func twoOutputs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	clicks(t, filepath.Join(dir, "clicks.csv"), 1000)
	job := strings.NewReplacer("model: {keras: model.json}", `model:
  layers:
    - embedding: {input_dim: 50, output_dim: 4, from: user}
    - flatten: {name: who}
    - embedding: {input_dim: 20, output_dim: 4, from: item}
    - flatten: {name: what}
    - concatenate: {from: [who, what, numbers]}
    - dense: {units: 16, activation: relu, name: deep}
    - dense: {units: 1, activation: sigmoid, name: click_out, from: deep}
    - dense: {units: 3, name: kind, from: deep}`,
		"loss: [binary_crossentropy, {kind: sparse_categorical_crossentropy}]", "loss: [binary_crossentropy, {kind: {sparse_categorical_crossentropy: {from_logits: true}}}]",
		"epochs: 15", "epochs: 5", "at_least: 0.8", "at_least: 0").Replace(clicksJob)
	write("clicks.yaml", job)(t, dir)
	run(t, dir, 0, "run", "-f", "clicks.yaml")
	return dir
}

// list reads a list of numbers of a CSV file.
func list(t *testing.T, text string) []float64 {
	t.Helper()
	var v []float64
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestPredictSeveralOutputs: classes, values, probabilities and what the model gives, of every output, as CSV, Parquet and
// Arrow.
func TestPredictSeveralOutputs(t *testing.T) {
	dir := twoOutputs(t)
	all := []string{"predict", "--model", "out/model", "--in", "clicks.csv", "--keep", "id,kind", "--probabilities", "--raw", "--out"}
	for _, name := range []string{"p.csv", "p.parquet", "p.arrow"} {
		if r := run(t, dir, 0, append(all, name)...); r.Rows["predicted"] != 1000 {
			t.Fatalf("%s: %v", name, r.Rows)
		}
	}
	f, err := os.Open(filepath.Join(dir, "p.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"id", "kind", "prediction_click_out", "probabilities_click_out", "raw_click_out", "prediction_kind", "probabilities_kind", "raw_kind"}
	if !slices.Equal(rows[0], want) {
		t.Fatalf("columns %v, want %v", rows[0], want)
	}
	right := 0
	for i, row := range rows[1:] {
		click, err := strconv.ParseFloat(row[2], 32)
		if p, raw := list(t, row[3]), list(t, row[4]); err != nil || !(click >= 0 && click <= 1) || len(p) != 1 || float32(p[0]) != float32(click) || p[0] != raw[0] {
			t.Fatalf("row %d: click %s, probabilities %s, raw %s", i, row[2], row[3], row[4])
		}
		p, logits := list(t, row[6]), list(t, row[7])
		var sum, norm float64
		for k := range p {
			sum, norm = sum+p[k], norm+math.Exp(logits[k])
		}
		for k := range p {
			if math.Abs(p[k]-math.Exp(logits[k])/norm) > 1e-5 {
				t.Fatalf("row %d: probabilities %v of logits %v", i, p, logits)
			}
		}
		best := slices.Index(p, slices.Max(p))
		if math.Abs(sum-1) > 1e-5 || row[5] != fmt.Sprint(best) || logits[best] != slices.Max(logits) {
			t.Fatalf("row %d: class %s of %v", i, row[5], p)
		}
		if row[5] == row[1] {
			right++
		}
	}
	if right < 900 {
		t.Errorf("%d of 1000 kinds are right", right)
	}
	arrows, err := os.Open(filepath.Join(dir, "p.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	defer arrows.Close()
	r, err := ipc.NewFileReader(arrows)
	if err != nil {
		t.Fatal(err)
	}
	at := 1
	for k := range r.NumRecords() {
		rec, err := r.RecordBatch(k)
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			if got := rec.Column(5).(*array.Int64).Value(i); fmt.Sprint(got) != rows[at][5] {
				t.Fatalf("row %d is of class %d in Arrow and %s in CSV", at, got, rows[at][5])
			}
			at++
		}
	}
	if at != len(rows) {
		t.Errorf("%d rows in Arrow, %d in CSV", at-1, len(rows)-1)
	}
	// The same file is a source like any other.
	if r := run(t, dir, 0, "predict", "--model", "out/model", "--in", "clicks.csv", "--out", "again.arrow"); r.Rows["predicted"] != 1000 {
		t.Errorf("%v", r.Rows)
	}
	r2 := run(t, dir, 2, "predict", "--model", "out/model", "--in", "clicks.csv", "--out", "p.jsonl")
	if !strings.Contains(r2.Error.Message, "CSV, Parquet or Arrow") {
		t.Errorf("%+v", r2.Error)
	}
}

// TestMemoryOfEvaluateAndPredict: with ten times the rows they need the same memory.
func TestMemoryOfEvaluateAndPredict(t *testing.T) {
	dir := smallModel(t)
	binary := filepath.Join(t.TempDir(), "dkpipe")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := lines(t, filepath.Join(dir, "digits.csv"))
	for name, times := range map[string]int{"few.csv": 10, "many.csv": 100} {
		text := all[0] + "\n" + strings.Repeat(strings.Join(all[1:], "\n")+"\n", times)
		write(name, text)(t, dir)
		run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", fmt.Sprintf("source.csv=%s,dataset.path=out/%s", name, strings.TrimSuffix(name, ".csv")))
	}
	peak := func(command, rows string) float64 {
		args := map[string][]string{
			"evaluate a dataset": {"evaluate", "--model", "out/model/v000001", "--data", "out/" + strings.TrimSuffix(rows, ".csv")},
			"evaluate raw rows":  {"evaluate", "--model", "out/model/v000001", "--data", rows},
			"predict to CSV":     {"predict", "--model", "out/model/v000001", "--in", rows, "--out", "p.csv", "--probabilities"},
			"predict to Parquet": {"predict", "--model", "out/model/v000001", "--in", rows, "--out", "p.parquet", "--probabilities"},
			"predict to Arrow":   {"predict", "--model", "out/model/v000001", "--in", rows, "--out", "p.arrow", "--probabilities"},
		}[command]
		cmd := exec.Command(binary, append(args, "--json")...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		var r result
		if err := json.Unmarshal(out, &r); err != nil || r.PeakMiB == 0 {
			t.Fatalf("%v\n%s", err, out)
		}
		return r.PeakMiB
	}
	for _, command := range []string{"evaluate a dataset", "evaluate raw rows", "predict to CSV", "predict to Parquet", "predict to Arrow"} {
		var few, many []float64
		for range 3 {
			few, many = append(few, peak(command, "few.csv")), append(many, peak(command, "many.csv"))
		}
		t.Logf("%s: %.1f MiB, with ten times the rows %.1f MiB", command, median(few), median(many))
		if command == "predict to Parquet" {
			// A row group is collected in memory, up to 32 MiB of columns.
			if median(many) > median(few)+3*32 {
				t.Errorf("%s: %.1f MiB, and with ten times the rows %.1f MiB", command, median(few), median(many))
			}
			continue
		}
		if median(many) > 1.2*median(few)+2 {
			t.Errorf("%s: %.1f MiB, and with ten times the rows %.1f MiB", command, median(few), median(many))
		}
	}
}
