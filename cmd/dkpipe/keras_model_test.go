package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasjson"
)

// digitsCNN is a small convolutional network with batch normalization, as Keras writes it.
func digitsCNN(t *testing.T) []byte {
	t.Helper()
	layer := func(kind string, set func(op model.Op)) model.Op {
		op, err := model.NewOp(kind)
		if err != nil {
			t.Fatal(err)
		}
		if set != nil {
			set(op)
		}
		return op
	}
	ops := []model.Op{
		layer("conv2d", func(op model.Op) {
			c := op.(*model.Conv2D)
			c.Filters, c.KernelSize, c.UseBias = 8, model.Pair{3, 3}, false
		}),
		layer("batch_normalization", nil),
		layer("activation", func(op model.Op) { op.(*model.Activation).Activation = "relu" }),
		layer("max_pooling2d", nil),
		layer("flatten", nil),
		layer("dropout", func(op model.Op) { op.(*model.Dropout).Rate = 0.1 }),
		layer("dense", func(op model.Op) { op.(*model.Dense).Units = 10 }),
	}
	d := &model.Definition{Name: "digits", Inputs: []model.Input{{Name: "image", Shape: []int{8, 8, 1}}}, Outputs: []string{"l6"}}
	from := "image"
	for i, op := range ops {
		name := fmt.Sprintf("l%d", i)
		d.Layers = append(d.Layers, model.Layer{Name: name, From: []string{from}, Op: op})
		from = name
	}
	text, err := kerasjson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAKerasFileTrains trains a network with state, without softmax, in goroutines and in processes, and evaluates it
// again from its bundle. The figures say that the moving statistics belong to the published parameters.
func TestAKerasFileTrains(t *testing.T) {
	dir := quickstart(t, "model:\n  layers:\n    - dense: {units: 64, activation: relu}\n    - dense: {units: 10, activation: softmax}\n", "model: {keras: model.json}\n",
		"loss: categorical_crossentropy", "loss: {sparse_categorical_crossentropy: {from_logits: true}}",
		"  - one_hot: {input: label, output: target, size: 10}\n", "", "y: [target]", "y: [label]", "epochs: 20", "epochs: 12")
	if err := os.WriteFile(filepath.Join(dir, "model.json"), digitsCNN(t), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, launch := range []string{"in-process", "process"} {
		r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.launch="+launch)
		if got := r.Metrics["test"]["accuracy"]; got < 0.93 {
			t.Errorf("%s: test accuracy %.4f", launch, got)
		}
		again := run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
		for _, name := range []string{"loss", "accuracy"} {
			if again.Metrics["test"][name] != r.Metrics["test"][name] {
				t.Errorf("%s: %s is %g when it was published and %g later", launch, name, r.Metrics["test"][name], again.Metrics["test"][name])
			}
		}
	}
}

// clicks writes rows of which user, item and numbers decide click and kind.
func clicks(t *testing.T, file string, rows int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	taste := make([]float64, 50)
	for i := range taste {
		taste[i] = 2*r.Float64() - 1
	}
	var b strings.Builder
	b.WriteString("id,user,item,n0,n1,n2,n3,n4,n5,click,kind\n")
	for i := range rows {
		user, item := r.IntN(50), r.IntN(20)
		fmt.Fprintf(&b, "%d,%d,%d", i, user, item)
		var sum float64
		for range 6 {
			n := 2*r.Float64() - 1
			sum += n / 6
			fmt.Fprintf(&b, ",%.4f", n)
		}
		click := 0
		if taste[user]+sum > 0 {
			click = 1
		}
		fmt.Fprintf(&b, ",%d,%d\n", click, item%3)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

const clicksJob = `
name: clicks
source: {csv: clicks.csv}
transform:
  - assemble: {inputs: "n*", output: numbers}
columns: {x: [user, item, numbers], y: [click, kind]}
split: {key: id, train: 0.8, test: 0.2}
dataset: {path: out/dataset, shards: 2}
model: {keras: model.json}
train:
  trainer: agn
  workers: 2
  window: 2
  epochs: 15
  batch_size: 32
  optimizer: {adam: {learning_rate: 0.01}}
  loss: [binary_crossentropy, {kind: sparse_categorical_crossentropy}]
  loss_weights: [1, 0.5]
  metrics: [accuracy]
gate: {metric: accuracy_2, at_least: 0.8}
output: {path: out/model}
`

// TestWideAndDeepTrains trains a functional model with ids, several inputs and outputs from a file of Keras, and the
// same from a list of layers.
func TestWideAndDeepTrains(t *testing.T) {
	dir := t.TempDir()
	clicks(t, filepath.Join(dir, "clicks.csv"), 3000)
	keras, err := os.ReadFile("../../trainers/model/formats/kerasjson/testdata/keras-3.15-wide-and-deep.json")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Replace(clicksJob, "model: {keras: model.json}", `model:
  layers:
    - embedding: {input_dim: 50, output_dim: 4, from: user}
    - flatten: {name: who}
    - embedding: {input_dim: 20, output_dim: 4, from: item}
    - flatten: {name: what}
    - concatenate: {from: [who, what, numbers]}
    - dense: {units: 16, activation: relu, name: deep}
    - dense: {units: 1, activation: sigmoid, name: click_out, from: deep}
    - dense: {units: 3, activation: softmax, name: kind, from: deep}`, 1)
	for name, text := range map[string]string{"model.json": string(keras), "keras.yaml": clicksJob, "list.yaml": list} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, job := range []string{"keras.yaml", "list.yaml"} {
		r := run(t, dir, 0, "run", "-f", job)
		t.Logf("%s: %v", job, r.Metrics["test"])
		if click, kind := r.Metrics["test"]["accuracy_1"], r.Metrics["test"]["accuracy_2"]; click < 0.8 || kind < 0.95 {
			t.Errorf("%s: accuracy of click %.3f, of kind %.3f", job, click, kind)
		}
		again := run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
		if again.Metrics["test"]["loss"] != r.Metrics["test"]["loss"] {
			t.Errorf("%s: the loss is %g when it was published and %g later", job, r.Metrics["test"]["loss"], again.Metrics["test"]["loss"])
		}
	}
}

// TestModelsAndLossesThatDoNotFit says what is wrong before any data is prepared, where it can.
func TestModelsAndLossesThatDoNotFit(t *testing.T) {
	dir := t.TempDir()
	clicks(t, filepath.Join(dir, "clicks.csv"), 300)
	keras, err := os.ReadFile("../../trainers/model/formats/kerasjson/testdata/keras-3.0-wide-and-deep.json")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"model.json": string(keras), "lambda.json": strings.Replace(string(keras), `"class_name": "Add"`, `"class_name": "Lambda"`, 1), "text.json": "hello",
		"clicks.yaml": clicksJob, "big.csv": "id,user,item,n0,n1,n2,n3,n4,n5,click,kind\n1,1000,1,0,0,0,0,0,0,1,1\n2,1,1,0,0,0,0,0,0,1,1\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, set, kind string
		words           []string
		early           bool // before the data
	}{
		{"a Lambda", "model.keras=lambda.json", "unsupported", []string{"clicks.yaml:9:1: model: ", "lambda.json", `"add" (Lambda)`, "supported classes: Activation"}, true},
		{"no model", "model.keras=text.json", "unsupported", []string{"text.json"}, true},
		{"no file", "model.keras=none.json", "data", []string{"none.json"}, true},
		{"unknown loss", "train.loss=[mse, hubber]", "spec", []string{"there is no loss hubber", "huber"}, true},
		{"unknown field", "train.loss={mse: {delta: 2}}", "spec", []string{"mse", "delta"}, true},
		{"three losses", "train.loss=[mse, mae, mse]", "spec", []string{"3 losses", "click, kind"}, true},
		{"one of two", "train.loss=[{kind: mse}]", "spec", []string{"1 losses", "click, kind"}, true},
		{"no such output", "train.loss=[mse, {kine: mse}]", "spec", []string{`no output "kine"`, "click, kind"}, true},
		{"given twice", "train.loss=[{kind: mse}, {kind: mae}]", "spec", []string{"output kind has a loss already"}, true},
		{"weights", "train.loss_weights=[1]", "spec", []string{"1 numbers"}, true},
		{"logits of a sigmoid", "train.loss=[{binary_crossentropy: {from_logits: true}}, sparse_categorical_crossentropy]", "spec", []string{"from_logits", "sigmoid"}, false},
		{"targets", "train.loss=[binary_crossentropy, categorical_crossentropy]", "spec", []string{"width [1, 3]", "width [1, 1]"}, false},
		{"inputs", "columns.x=[user, numbers, item]", "spec", []string{"width [1, 1, 6]", "width [1, 6, 1]"}, false},
		{"an id too large", "source.csv=big.csv,split={train: 1},gate=null", "data", []string{"1000", "0 to 999"}, false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			out := filepath.Join("out", strings.ReplaceAll(c.name, " ", "-"))
			p := start(t, dir, nil, "run", "-f", "clicks.yaml", "--json", "--set", c.set, "--set", "dataset.path="+out)
			p.wait(t)
			r := p.result(t)
			if r.Error == nil {
				t.Fatalf("the run succeeded: %+v", r)
			}
			text := r.Error.Message + " " + r.Error.Hint
			for _, w := range c.words {
				if !strings.Contains(text, w) {
					t.Errorf("%q does not say %q", text, w)
				}
			}
			if string(r.Error.Kind) != c.kind {
				t.Errorf("kind %s, want %s: %s", r.Error.Kind, c.kind, text)
			}
			_, err := os.Stat(filepath.Join(dir, out, "LATEST"))
			if c.early && err == nil {
				t.Error("the data was prepared before")
			}
		})
	}
}
