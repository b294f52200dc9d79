package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFrozenLayersStay fine-tunes with several trainers, in goroutines and in processes, with weight decay and clipping:
// what is frozen is in the published model as it was, and validation sees it.
func TestFrozenLayersStay(t *testing.T) {
	dir := quickstart(t, "    - dense: {units: 64, activation: relu}\n", "    - dense: {units: 64, activation: relu, trainable: false, name: body}\n    - batch_normalization: {trainable: false, name: norm}\n",
		"train: 0.8, test: 0.2", "train: 0.7, validation: 0.1, test: 0.2", "epochs: 20", "epochs: 3", "at_least: 0.9", "at_least: 0.5")
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	modelCommand(t, dir, 0, "init", "-f", "job.yaml", "--out", "start.keras")
	for _, set := range []string{"train.trainer=agn", "train.trainer=aeasgd", "train.trainer=averaging", "train.trainer=sync_sgd", "train.trainer=agn,train.launch=process",
		"train.trainer=agn,model={keras: start.keras}"} {
		clip := "clipnorm: 0.1"
		if strings.Contains(set, "sync_sgd") { // its server takes steps block by block
			p := start(t, dir, nil, "run", "-f", "job.yaml", "--json", "--set", set+",train.optimizer={adam: {"+clip+"}}")
			if code := p.wait(t); code != 2 || !strings.Contains(p.stdout.String(), "use clipvalue") {
				t.Errorf("clipnorm on the server: exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
			}
			clip = "clipvalue: 0.1"
		}
		r := run(t, dir, 0, "run", "-f", "job.yaml", "--set", set+",train.optimizer={adam: {learning_rate: 0.01, weight_decay: 0.1, "+clip+"}}")
		d := modelCommand(t, dir, 1, "diff", "start.keras", r.Model)
		differs := map[string]bool{}
		for _, tensor := range d.Tensors {
			differs[tensor.Name] = tensor.Differs
		}
		if len(differs) != 8 || !differs["dense/kernel"] || !differs["dense/bias"] {
			t.Errorf("%s: %v", set, differs)
		}
		for name, d := range differs {
			if d && !strings.HasPrefix(name, "dense/") {
				t.Errorf("%s: %s of a frozen layer moved", set, name)
			}
		}
		if m := r.Metrics["validation"]; m["accuracy"] < 0.5 {
			t.Errorf("%s: validation %v", set, m)
		}
		again := run(t, dir, 0, "evaluate", "--model", r.Model, "--data", "out/dataset")
		if again.Metrics["test"]["loss"] != r.Metrics["test"]["loss"] {
			t.Errorf("%s: the loss is %g when it was published and %g later", set, r.Metrics["test"]["loss"], again.Metrics["test"]["loss"])
		}
	}
	stdout, _ := modelText(t, dir, 0, "inspect", "start.keras")
	for _, want := range []string{"body (dense, frozen)", "trained:     650", "not trained: 4,416"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("inspect does not say %q:\n%s", want, stdout)
		}
	}
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--json", "--set", "model={layers: [{dense: {units: 10, activation: softmax, trainable: false}}]}")
	if code := p.wait(t); code != 2 || !strings.Contains(p.stdout.String(), "take trainable: false off one") {
		t.Errorf("with nothing to train: exit code %d\n%s", code, &p.stdout)
	}
}

// TestWhatAModelWasCompiledWith: a file of Keras that was compiled with another optimizer or loss than the job names is
// trained as the job says, with a warning that names both; model inspect shows what it was compiled with.
func TestWhatAModelWasCompiledWith(t *testing.T) {
	dir := quickstart(t, "model:\n  layers:\n    - dense: {units: 64, activation: relu}\n    - dense: {units: 10, activation: softmax}\n", "model: {keras: model.json}\n",
		"loss: categorical_crossentropy", "loss: {sparse_categorical_crossentropy: {from_logits: true}}",
		"  - one_hot: {input: label, output: target, size: 10}\n", "", "y: [target]", "y: [label]", "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0")
	plain := digitsCNN(t)
	for _, c := range []struct{ compiled, warning, shown string }{
		{`{"optimizer":{"module":"keras.optimizers","class_name":"RMSprop","config":{"learning_rate":0.1},"registered_name":null},"loss":"mse"}`,
			"model.json was compiled with rmsprop and mean_squared_error in Keras, and this job trains it with adam and sparse_categorical_crossentropy from logits", "compiled in Keras with rmsprop, mean_squared_error"},
		{`{"optimizer":{"module":"keras.optimizers","class_name":"Adam","config":{}},"loss":{"module":"keras.losses","class_name":"SparseCategoricalCrossentropy","config":{"from_logits":false}}}`,
			"model.json was compiled with sparse_categorical_crossentropy in Keras, and this job trains it with sparse_categorical_crossentropy from logits", "compiled in Keras with adam, sparse_categorical_crossentropy"},
		{`{"optimizer":"adam","loss":{"module":"keras.losses","class_name":"SparseCategoricalCrossentropy","config":{"from_logits":true}}}`,
			"", "compiled in Keras with adam, sparse_categorical_crossentropy from logits"},
		{`{"optimizer":7,"loss":[7]}`, "", ""},
	} {
		text := bytes.Replace(plain, []byte("{"), []byte(`{"compile_config":`+c.compiled+","), 1)
		if err := os.WriteFile(filepath.Join(dir, "model.json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		p := start(t, dir, nil, "run", "-f", "job.yaml", "--json")
		if code := p.wait(t); code != 0 {
			t.Fatalf("exit code %d\n%s", code, &p.stdout)
		}
		var r struct{ Warnings []string }
		if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, w := range r.Warnings {
			if strings.Contains(w, "compiled") {
				got += w
			}
		}
		if got != c.warning {
			t.Errorf("%s:\ngot  %q\nwant %q", c.compiled, got, c.warning)
		}
		stdout, _ := modelText(t, dir, 0, "inspect", "model.json")
		if !strings.Contains(stdout, c.shown) || c.shown == "" && strings.Contains(stdout, "compiled") {
			t.Errorf("inspect does not say %q:\n%s", c.shown, stdout)
		}
	}
}
