package main

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kerasTestdata holds models as Keras 2.0 and 2.2 wrote them, among them those of the ancestor's examples.
const kerasTestdata = "../../trainers/model/formats/kerasjson/testdata"

// fashionPart writes the first rows of Fashion-MNIST as IDX files into dir.
func fashionPart(t *testing.T, dir string, rows int) {
	t.Helper()
	for name, size := range map[string]int{"train-images-idx3-ubyte": 28 * 28, "train-labels-idx1-ubyte": 1} {
		f, err := os.Open(filepath.Join("/usr/share/datasets/fashion-mnist", name+".gz"))
		if errors.Is(err, fs.ErrNotExist) {
			if strings.Contains(os.Getenv("DKPIPE_REQUIRE"), "fashion") {
				t.Fatal(err)
			}
			t.Skip("there is no Fashion-MNIST: apt-get install dataset-fashion-mnist")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		header := 16
		if size == 1 {
			header = 8
		}
		b := make([]byte, header+rows*size)
		if _, err := io.ReadFull(z, b); err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint32(b[4:], uint32(rows))
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const fashionJob = `
name: ancestor
source: {idx: [train-images-idx3-ubyte, train-labels-idx1-ubyte]}
transform:
  - min_max: {input: pixels, output: features, from: [0, 255]}
  - one_hot: {input: label, output: target, size: 10}
columns: {x: [features], y: [target]}
split: {key: id, seed: 1, train: 0.8, test: 0.2}
dataset: {path: out/dataset, shards: 4}
model: {keras: model.json}
train: {trainer: agn, workers: 2, window: 2, epochs: 2, batch_size: 64, optimizer: {adam: {learning_rate: 0.002}}, loss: categorical_crossentropy, metrics: [accuracy]}
output: {path: out/model}
`

const higgsJob = `
name: ancestor
source: {csv: events.csv}
transform:
  - assemble: {inputs: "f*", output: raw}
  - standard: {input: raw, output: features}
  - one_hot: {input: signal, output: target, size: 2}
columns: {x: [features], y: [target]}
split: {key: id, seed: 1, train: 0.8, test: 0.2}
dataset: {path: out/dataset, shards: 4}
model: {keras: model.json}
train: {trainer: agn, workers: 2, window: 2, epochs: 4, batch_size: 64, optimizer: {adam: {learning_rate: 0.002}}, loss: categorical_crossentropy, metrics: [accuracy]}
output: {path: out/model}
`

// events writes rows of 30 measurements of which a few decide, not linearly, whether there was a signal: a straight line
// tells no more than a coin.
func events(t *testing.T, file string, rows int) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 9))
	var b strings.Builder
	b.WriteString("id,signal")
	for i := range 30 {
		fmt.Fprintf(&b, ",f%02d", i)
	}
	b.WriteByte('\n')
	for i := range rows {
		x := make([]float64, 30)
		for k := range x {
			x[k] = r.NormFloat64()
		}
		signal := 0
		if 2*x[0]*x[1]+math.Abs(x[2])-0.8+0.3*r.NormFloat64() > 0 {
			signal = 1
		}
		fmt.Fprintf(&b, "%d,%d", i, signal)
		for k, v := range x {
			fmt.Fprintf(&b, ",%.4f", 10*float64(k)+float64(k+1)*v)
		}
		b.WriteByte('\n')
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTheAncestorsModelsTrain runs whole jobs with the models of the ancestor's examples, from the JSON that Keras wrote of
// them: perceptron and convolutional network on 8,000 images of Fashion-MNIST, perceptrons with dropout on collision-like
// events.
func TestTheAncestorsModelsTrain(t *testing.T) {
	for _, c := range []struct {
		model, job string
		least      float64
	}{
		{"keras-2.0-mnist-mlp.json", fashionJob, 0.78},
		{"keras-2.0-mnist-cnn.json", fashionJob, 0.78},
		{"keras-2.0-higgs-mlp.json", higgsJob, 0.8},
		{"keras-2.2-higgs-deep.json", higgsJob, 0.8},
	} {
		t.Run(strings.TrimSuffix(c.model, ".json"), func(t *testing.T) {
			dir := t.TempDir()
			if c.job == fashionJob {
				fashionPart(t, dir, 8000)
			} else {
				events(t, filepath.Join(dir, "events.csv"), 8000)
			}
			text, err := os.ReadFile(filepath.Join(kerasTestdata, c.model))
			if err != nil {
				t.Fatal(err)
			}
			write("model.json", string(text))(t, dir)
			write("job.yaml", c.job)(t, dir)
			r := run(t, dir, 0, "run", "-f", "job.yaml")
			t.Logf("test accuracy %.3f", r.Metrics["test"]["accuracy"])
			if got := r.Metrics["test"]["accuracy"]; got < c.least {
				t.Errorf("test accuracy %.3f, want at least %.2f", got, c.least)
			}
		})
	}
}
