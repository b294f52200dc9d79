package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model/kerastest"
)

// ensembleJob is the quickstart with an ensemble.
func ensembleJob(t *testing.T, fields string, changes ...string) string {
	t.Helper()
	return quickstart(t, append([]string{"  trainer: agn\n", "  trainer: {ensemble: {" + fields + "}}\n", "  window: 2\n", ""}, changes...)...)
}

// loaded reads the published model of a folder.
func loaded(t *testing.T, dir, model string) *bundle.Bundle {
	t.Helper()
	j, err := (&app{}).commandJob("test")
	if err != nil {
		t.Fatal(err)
	}
	defer j.stores.Close()
	b, _, err := j.openBundle(context.Background(), filepath.Join(dir, model))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// probabilitiesOf reads a column of lists.
func probabilitiesOf(t *testing.T, rows []map[string]string, column string) (all [][]float64) {
	t.Helper()
	for _, row := range rows {
		var p []float64
		if err := json.Unmarshal([]byte(row[column]), &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// predictions runs raw rows through a model.
func predictions(t *testing.T, dir, model string) []map[string]string {
	t.Helper()
	run(t, dir, 0, "predict", "--model", model, "--in", "digits.csv", "--out", "p.csv", "--probabilities", "--keep", "id", "--mode", "overwrite")
	return table(t, filepath.Join(dir, "p.csv"))
}

// TestAnEnsembleFromASpec: one bundle whose members are what trainer single gives with other seeds; it predicts the mean of
// what they predict alone, their votes, or a column each; and it is better than its members are on average.
func TestAnEnsembleFromASpec(t *testing.T) {
	dir := ensembleJob(t, "members: 3", "epochs: 20", "epochs: 4")
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", "gate.at_least=0.5")
	var mean float64
	for k, w := range r.Workers {
		if w.ID != k || w.Samples != 4*r.Rows["train"] {
			t.Errorf("member %d: %+v", k, w)
		}
		a, ok := w.Metrics.Get("accuracy")
		if !ok {
			t.Fatalf("member %d was not measured: %+v", k, w)
		}
		mean += a / 3
	}
	t.Logf("members %.4f on average, together %.4f", mean, r.Metrics["test"]["accuracy"])
	if len(r.Workers) != 3 || r.Metrics["test"]["accuracy"] < mean {
		t.Errorf("%d members of accuracy %.4f on average, together %.4f", len(r.Workers), mean, r.Metrics["test"]["accuracy"])
	}
	b := loaded(t, dir, "out/model")
	if b.Ensemble == nil || b.Ensemble.Combine != "mean" || len(b.Ensemble.Members) != 3 {
		t.Fatalf("the bundle has %+v", b.Ensemble)
	}
	var alone [][]map[string]string
	for k, m := range b.Ensemble.Members {
		out := fmt.Sprintf("out/single%d", k)
		s := run(t, dir, 0, "train", "-f", "job.yaml", "--set", fmt.Sprintf("train.trainer=single,train.workers=1,train.seed=%d,output.path=%s,gate.at_least=0.5", 1+k, out))
		if !slices.Equal(loaded(t, dir, out).Params, m.Params) || m.Info.Seed != int64(1+k) || m.Info.Epochs != 4 {
			t.Errorf("member %d is not what trainer single gives with seed %d: %+v", k, 1+k, m.Info)
		}
		if a, _ := r.Workers[k].Metrics.Get("accuracy"); a != s.Metrics["test"]["accuracy"] {
			t.Errorf("member %d has accuracy %v, alone it has %v", k, a, s.Metrics["test"]["accuracy"])
		}
		alone = append(alone, predictions(t, dir, out))
	}
	together := predictions(t, dir, "out/model")
	wantTogether(t, together, alone, func(of []float64) float64 { return (of[0] + of[1] + of[2]) / 3 })

	for _, how := range []string{"vote", "list"} {
		r := run(t, dir, 0, "train", "-f", "job.yaml", "--set", "train.trainer={ensemble: {members: 3, combine: "+how+"}},gate.at_least=0.5,output.path=out/"+how)
		if e := run(t, dir, 0, "evaluate", "--model", "out/"+how, "--data", "out/dataset"); e.Metrics["test"]["accuracy"] != r.Metrics["test"]["accuracy"] || e.Metrics["test"]["accuracy"] < mean {
			t.Errorf("%s: accuracy %v by evaluate, %v by train", how, e.Metrics, r.Metrics)
		}
	}
	wantVotes(t, predictions(t, dir, "out/vote"), alone)
	for i, row := range predictions(t, dir, "out/list") {
		for k := range alone {
			if row["prediction_"+strconv.Itoa(k)] != alone[k][i]["prediction"] || row["probabilities_"+strconv.Itoa(k)] != alone[k][i]["probabilities"] {
				t.Fatalf("row %d: %v, member %d alone says %v", i, row, k, alone[k][i])
			}
		}
	}
	e := run(t, dir, 0, "evaluate", "--model", "out/model", "--data", "digits.csv")
	if e.Rows["raw"] != 1797 || e.Metrics["raw"]["accuracy"] < mean {
		t.Errorf("raw rows: %+v", e)
	}
}

// wantTogether compares probabilities with those that members gave alone.
func wantTogether(t *testing.T, together []map[string]string, alone [][]map[string]string, combine func([]float64) float64) {
	t.Helper()
	got := probabilitiesOf(t, together, "probabilities")
	var members [][][]float64
	for _, a := range alone {
		members = append(members, probabilitiesOf(t, a, "probabilities"))
	}
	for i, row := range got {
		best := 0
		for c, v := range row {
			var of []float64
			for _, m := range members {
				of = append(of, m[i][c])
			}
			if want := combine(of); math.Abs(v-want) > 1e-6 {
				t.Fatalf("row %d, class %d: %g, want %g of %v", i, c, v, want, of)
			}
			if v > row[best] {
				best = c
			}
		}
		if together[i]["prediction"] != strconv.Itoa(best) {
			t.Fatalf("row %d: predicted %s, the greatest is %d of %v", i, together[i]["prediction"], best, row)
		}
	}
}

// wantVotes compares the shares of votes, and who won, with what members predicted alone.
func wantVotes(t *testing.T, together []map[string]string, alone [][]map[string]string) {
	t.Helper()
	shares := probabilitiesOf(t, together, "probabilities")
	split := 0
	for i := range together {
		votes := make([]float64, 10)
		for _, a := range alone {
			k, err := strconv.Atoi(a[i]["prediction"])
			if err != nil {
				t.Fatal(err)
			}
			votes[k]++
		}
		best := 0
		for k, n := range votes {
			if math.Abs(shares[i][k]-n/3) > 1e-6 {
				t.Fatalf("row %d: shares %v, votes %v", i, shares[i], votes)
			}
			if n > votes[best] {
				best = k
			}
		}
		if together[i]["prediction"] != strconv.Itoa(best) {
			t.Fatalf("row %d: %s won, votes are %v", i, together[i]["prediction"], votes)
		}
		if votes[best] < 3 {
			split++
		}
	}
	if split == 0 {
		t.Error("the members agree about every row: the test shows nothing")
	}
}

func TestAnEnsembleOnPartsOfTheData(t *testing.T) {
	dir := ensembleJob(t, "members: 4, data: split", "test: 0.2}", "test: 0.2}", "seed: 1\n", "seed: 1\n  early_stopping: {monitor: val_loss, patience: 3, restore_best: true}\n",
		"train: 0.8, test: 0.2", "train: 0.7, validation: 0.1, test: 0.2", "epochs: 20", "epochs: 60")
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", "gate.at_least=0.5", "--report", "r.html", "--events", "events")
	var samples, most int64
	for _, w := range r.Workers {
		samples += w.Samples
		most = max(most, w.Samples)
	}
	if len(r.Workers) != 4 || most >= 60*r.Rows["train"]/2 || samples > 60*r.Rows["train"] {
		t.Errorf("members saw %d samples, the one with most %d; there are %d rows", samples, most, r.Rows["train"])
	}
	event(t, filepath.Join(dir, "events"), "validation", nil)
	page, err := os.ReadFile(filepath.Join(dir, "r.html"))
	if err != nil || !strings.Contains(string(page), "ensemble") {
		t.Errorf("the report: %v", err)
	}
	b := loaded(t, dir, "out/model")
	for k, m := range b.Ensemble.Members {
		if m.Info.Ended == "" || m.Info.Epochs == 0 {
			t.Errorf("member %d: %+v", k, m.Info)
		}
	}
}

func TestAStoppedEnsembleKeepsWhatWasLearned(t *testing.T) {
	dir := ensembleJob(t, "members: 3")
	p := start(t, dir, nil, append(long, "--set", "train.workers=2")...) // the third is never begun
	both := map[float64]bool{}
	event(t, filepath.Join(dir, "events"), "progress", func(m map[string]any) bool {
		if m["epoch"].(float64) >= 10 {
			both[m["worker"].(float64)] = true
		}
		return len(both) == 2
	})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 130 {
		t.Fatalf("exit code %d\n%s", code, &p.stderr)
	}
	r := p.result(t)
	if l := latest(t, filepath.Join(dir, "out/model")); l != "" || r.Status != "interrupted" {
		t.Errorf("LATEST is %q, the status %q", l, r.Status)
	}
	if b := loaded(t, dir, r.Model); len(b.Ensemble.Members) != 2 || b.Info.Status != "interrupted" {
		t.Errorf("%d members were kept, %+v", len(b.Ensemble.Members), b.Info)
	}
	if kept := run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset"); kept.Metrics["test"]["accuracy"] < 0.85 {
		t.Errorf("what was kept has test accuracy %.3f after ten epochs", kept.Metrics["test"]["accuracy"])
	}
}

func TestAnEnsembleBelowItsGate(t *testing.T) {
	dir := ensembleJob(t, "members: 2", "epochs: 20", "epochs: 1")
	r := run(t, dir, 6, "run", "-f", "job.yaml", "--set", "gate.at_least=0.999")
	if l := latest(t, filepath.Join(dir, "out/model")); l != "" || r.Error.Kind != "gate" || len(loaded(t, dir, r.Model).Ensemble.Members) != 2 {
		t.Errorf("LATEST is %q, %+v", l, r.Error)
	}
}

func TestWhatAnEnsembleCannotIsRefused(t *testing.T) {
	dir := ensembleJob(t, "members: 5")
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	for _, c := range []struct {
		command, set, more, message, hint string
	}{
		{"run", "train.launch=process", "", "not with launch: process", "leave launch out"},
		{"train", "train.checkpoint={path: out/c}", "", "it keeps no checkpoints", "trainer single"},
		{"train", "train.epochs=2", "--resume", "cannot go on from a checkpoint", "without --resume"},
		{"train", "train.epochs=2", "--record=rec", "no order of commits", "the same bits again"},
		{"run", "train.trainer={ensemble: {members: 5, data: split}}", "", "each of 5 members shards of its own, and there are 4", "dataset: {shards: 5}"},
		{"train", "train.trainer={ensemble: {members: 5, data: split}}", "", "has 4 shards, an ensemble of 5 members", "set dataset.shards to 5"},
		{"run", "train.trainer={ensemble: {combine: median}}", "", "median", "mean"},
		{"run", "train.trainer={ensemble: {members: 0}}", "", "members", ""},
		{"run", "train.trainer={ensemble: {quorum: 2}}", "", "do not exchange", "leave them out"},
		{"run", "train.trainer={ensemble: {combine: vote}},train.loss=mse,gate.metric=loss,gate.at_least=null,gate.at_most=9", "", "vote counts classes", "combine: mean"},
		{"parity", "train.epochs=2", "", "an ensemble of more members is another model", "one model"},
	} {
		args := []string{c.command, "-f", "job.yaml", "--set", c.set}
		if c.more != "" {
			args = append(args, c.more)
		}
		p := start(t, dir, nil, append(args, "--json")...)
		code := p.wait(t)
		all := p.stdout.String() + p.stderr.String()
		if want := 2; code != want && code != 3 || !strings.Contains(all, c.message) || !strings.Contains(all, c.hint) {
			t.Errorf("%s %s %s: exit code %d, %s", c.command, c.set, c.more, code, all)
		}
		if _, err := os.Stat(filepath.Join(dir, "out/model/LATEST")); err == nil {
			t.Errorf("%s: a model was published", c.set)
		}
	}
	// Weights to begin with make all members the same.
	run(t, dir, 0, "train", "-f", "job.yaml", "--set", "train.trainer=single,train.workers=1,train.epochs=1,gate.at_least=0,output.path=out/one")
	modelCommand(t, dir, 0, "export", "--out", "one.keras", "out/one")
	r := run(t, dir, 2, "train", "-f", "job.yaml", "--set", "model={keras: one.keras}")
	if !strings.Contains(r.Error.Message, "one.keras") || !strings.Contains(r.Error.Hint, "split") {
		t.Errorf("%+v", r.Error)
	}
	run(t, dir, 0, "train", "-f", "job.yaml", "--set", "model={keras: one.keras},train.trainer={ensemble: {members: 3, data: split}},train.epochs=1,gate.at_least=0")
}

// TestAnEnsembleAsAFile: a mean is one model that ends with an average, for ONNX Runtime and for Keras; members come out one
// by one; votes are refused by name.
func TestAnEnsembleAsAFile(t *testing.T) {
	dir := ensembleJob(t, "members: 3", "epochs: 20", "epochs: 2", denseLayer, aCNN+denseLayer)
	for _, how := range []string{"mean", "vote", "list"} {
		run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.trainer={ensemble: {members: 3, combine: "+how+"}},gate.at_least=0,output.path=out/"+how)
	}
	r := modelCommand(t, dir, 2, "export", "--out", "v.onnx", "out/vote")
	if !strings.Contains(r.Error.Message, "votes") || !strings.Contains(r.Error.Hint, "--member 0") {
		t.Errorf("votes: %+v", r.Error)
	}
	modelCommand(t, dir, 2, "convert", "out/vote", "v.keras")
	modelCommand(t, dir, 2, "export", "--member", "3", "--out", "v.keras", "out/vote")
	modelCommand(t, dir, 0, "export", "--member", "2", "--out", "third.keras", "out/vote")
	modelCommand(t, dir, 2, "export", "--member", "0", "--out", "v.keras", "third.keras")
	modelCommand(t, dir, 0, "convert", "out/mean", "mean.safetensors")
	modelCommand(t, dir, 0, "convert", "out/mean", "mean.keras")
	if d := modelCommand(t, dir, 0, "diff", "mean.keras", "mean.safetensors"); !d.Equal {
		t.Errorf("the same ensemble in two formats: %+v", d)
	}
	if d := modelCommand(t, dir, 0, "diff", "out/mean", "out/mean"); !d.Equal || len(d.Tensors) == 0 || !strings.HasPrefix(d.Tensors[0].Name, "member 0: ") {
		t.Errorf("an ensemble and itself: %+v", d)
	}
	modelCommand(t, dir, 1, "diff", "out/mean", "out/vote") // combined otherwise
	modelCommand(t, dir, 1, "diff", "out/mean", "mean.keras")
	text, _ := modelText(t, dir, 0, "inspect", "out/mean")
	if !strings.Contains(text, "3 models, combined by mean") || strings.Count(text, "member ") < 3 || !strings.Contains(text, "seed 3") {
		t.Errorf("inspect: %s", text)
	}
	if v := run(t, dir, 0, "data", "verify", "out/mean"); v.Status != "ok" {
		t.Errorf("verify: %+v", v)
	}
	third := loaded(t, dir, "out/vote").Ensemble.Members[2]
	j, err := (&app{}).commandJob("test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := j.openModel(t.Context(), filepath.Join(dir, "third.keras"), "")
	if err != nil || !slices.Equal(m.params, third.Params) || !slices.Equal(m.state, third.State) {
		t.Errorf("the third member is not in its file: %v", err)
	}

	o := kerastest.Start(t)
	raw := table(t, filepath.Join(dir, "digits.csv"))
	in := make([]kerastest.Tensor, 64)
	x := kerastest.Tensor{Name: "features", Shape: []int{len(raw), 64}, Data: make([]float32, 64*len(raw))}
	for k := range in {
		in[k] = kerastest.Tensor{Name: "p" + strconv.Itoa(k), Shape: []int{len(raw), 1}, Wide: make([]float64, len(raw))}
		for i, row := range raw {
			v, err := strconv.ParseFloat(row["p"+strconv.Itoa(k)], 64)
			if err != nil {
				t.Fatal(err)
			}
			in[k].Wide[i], x.Data[i*64+k] = v, float32(v/16)
		}
	}
	want := probabilitiesOf(t, predictions(t, dir, "out/mean"), "probabilities")
	list := predictions(t, dir, "out/list")
	modelCommand(t, dir, 0, "export", "--out", "mean.onnx", "out/mean")
	modelCommand(t, dir, 0, "export", "--out", "list.onnx", "out/list")
	out, err := o.RunONNX(filepath.Join(dir, "mean.onnx"), in...)
	if err != nil {
		t.Fatal(err)
	}
	nearRows(t, "mean.onnx", out[0].Data, want)
	l, err := o.Load(filepath.Join(dir, "mean.keras"), x)
	if err != nil {
		t.Fatal(err)
	}
	nearRows(t, "mean.keras", l.Outputs[0].Data, want)
	if out, err = o.RunONNX(filepath.Join(dir, "list.onnx"), in...); err != nil || len(out) != 3 {
		t.Fatalf("list.onnx has %d outputs, %v", len(out), err)
	}
	for k := range out {
		nearRows(t, fmt.Sprint("list.onnx, member ", k), out[k].Data, probabilitiesOf(t, list, "probabilities_"+strconv.Itoa(k)))
	}
}
