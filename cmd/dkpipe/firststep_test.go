package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
)

const perceptronJob = `
name: mnist
source: {idx: none.gz}
columns: {x: [image], y: [target]}
split: {key: id, train: 1}
dataset: {path: out/dataset}
model:
  layers:
    - dense: {units: 500, activation: relu}
    - dense: {units: 500, activation: relu}
    - dense: {units: 10, activation: softmax}
train: {batch_size: 128, epochs: 1, loss: categorical_crossentropy, optimizer: {adam: {}}}
output: {path: out/model}
`

// firstStep goes from the text of a job to the end of the first step of the 784-500-500-10 network.
func firstStep(tb testing.TB, batch *pipeline.Batch) {
	tb.Helper()
	ctx := context.Background()
	s, err := spec.Read("job.yaml", []byte(perceptronJob), spec.Options{Need: spec.ForTrain, Env: os.Getenv})
	if err != nil {
		tb.Fatal(err)
	}
	stores := newApp(os.Stdout, os.Stderr, os.Getenv).newStores()
	defer stores.Close()
	m, err := buildModel(ctx, stores, s, []pipeline.ColumnInfo{{Name: "image", Role: "x", Shape: []int{784}}, {Name: "target", Role: "y", Shape: []int{10}}})
	if err != nil {
		tb.Fatal(err)
	}
	n, err := buildReplica(m.def, m.losses, s.Train, 1)
	if err != nil {
		tb.Fatal(err)
	}
	m.start(n, s.Train.Seed)
	o, err := buildOptimizer(s.Train, n.Layout())
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := n.Step(batch); err != nil {
		tb.Fatal(err)
	}
	o.Apply(n.Params(), n.Grads())
}

func perceptronBatch() *pipeline.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	b := &pipeline.Batch{Rows: 128, X: [][]float32{make([]float32, 128*784)}, Y: [][]float32{make([]float32, 128*10)}}
	for i := range b.X[0] {
		b.X[0][i] = r.Float32()
	}
	for i := range b.Rows {
		b.Y[0][i*10+r.IntN(10)] = 1
	}
	return b
}

// BenchmarkFirstStep is from the text of a job to the end of the first step.
func BenchmarkFirstStep(b *testing.B) {
	batch := perceptronBatch()
	for b.Loop() {
		firstStep(b, batch)
	}
}

// processorTime is the CPU time that this process has had.
func processorTime(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// TestTheFirstStepComesSoon: from the job's text to the end of the first step it takes at most 0.2 s, and from the start of
// the program 1 s. That is CPU time, which other work on the machine leaves alone; of the program it is that of a whole run
// of one step, publishing included.
func TestTheFirstStepComesSoon(t *testing.T) {
	batch := perceptronBatch()
	var text, wall []float64
	for range 5 {
		before, began := processorTime(t), time.Now()
		firstStep(t, batch)
		text, wall = append(text, processorTime(t)-before), append(wall, time.Since(began).Seconds())
	}
	t.Logf("from the text to the first step: %.3f s of CPU time, %.3f s by the clock", median(text), median(wall))
	if got := median(text); got > 0.2 {
		t.Errorf("from the text to the first step: %.3f s of CPU time, 0.2 are allowed", got)
	}
	binary := filepath.Join(t.TempDir(), "dkpipe")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	var cpu, whole []float64
	for i := range 5 {
		cmd := exec.Command(binary, "train", "-f", "job.yaml", "--json", "--set", fmt.Sprintf("train.max_steps=1,train.workers=1,gate=null,output.path=out/%d", i))
		cmd.Dir = dir
		began := time.Now()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var r result
		if err := json.Unmarshal(out, &r); err != nil || len(r.Workers) != 1 || r.Workers[0].Steps < 1 {
			t.Fatalf("%v\n%s", err, out)
		}
		whole = append(whole, time.Since(began).Seconds())
		cpu = append(cpu, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
	}
	t.Logf("from the start of the program to the end of a run of one step: %.3f s of CPU time, %.3f s by the clock", median(cpu), median(whole))
	if got := median(cpu); got > 1 {
		t.Errorf("a run of one step takes %.3f s of CPU time, 1 is allowed", got)
	}
}
