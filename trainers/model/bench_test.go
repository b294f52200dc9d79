package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dkpipe/trainers/kernel"
)

// BenchmarkStep compares a whole step (forward, backward; no update) of the 784-500-500-10 network with its eight bare
// matrix products, in turn in one process, so that a busy machine slows both. The figure that counts is ratio.
func BenchmarkStep(b *testing.B) {
	for _, name := range kernel.Names() {
		k, err := kernel.Select(name)
		if err != nil {
			b.Fatal(err)
		}
		for _, rows := range []int{32, 128} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, rows), func(b *testing.B) { benchmarkStep(b, k, rows) })
		}
	}
}

func benchmarkStep(b *testing.B, k kernel.Set, rows int) {
	d := define(b, []int{784}, dense(500, "relu"), dense(500, "relu"), dense(10, "softmax"))
	n, err := Compile(d, Config{Kernel: k, Batch: rows, Loss: "categorical_crossentropy"})
	if err != nil {
		b.Fatal(err)
	}
	n.Init(1)
	r := rand.New(rand.NewPCG(1, 1))
	batch := randomBatch(r, n, rows, false)
	x, h := batch.X[0], make([]float32, rows*500)
	for i := range h {
		h[i] = max(r.Float32()-0.5, 0) // half zeros as after a ReLU: gonum skips them
	}
	w1, w2, w3 := n.params[:784*500], n.params[:500*500], n.params[:500*10]
	y, g := make([]float32, rows*784), make([]float32, 784*500)
	products := func() {
		k.Gemm(false, false, rows, 500, 784, 1, x, 784, w1, 500, 0, y, 500)
		k.Gemm(false, false, rows, 500, 500, 1, h, 500, w2, 500, 0, y, 500)
		k.Gemm(false, false, rows, 10, 500, 1, h, 500, w3, 10, 0, y, 10)
		k.Gemm(true, false, 500, 10, rows, 1, h, 500, h, 10, 0, g, 10)
		k.Gemm(false, true, rows, 500, 10, 1, h, 10, w3, 10, 0, y, 500)
		k.Gemm(true, false, 500, 500, rows, 1, h, 500, h, 500, 0, g, 500)
		k.Gemm(false, true, rows, 500, 500, 1, h, 500, w2, 500, 0, y, 500)
		k.Gemm(true, false, 784, 500, rows, 1, x, 784, h, 500, 0, g, 500)
	}
	var steps, bare []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		t0 := time.Now()
		if _, err := n.Step(batch); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		products()
		steps, bare = append(steps, t1.Sub(t0)), append(bare, time.Since(t1))
	}
	slices.Sort(steps)
	slices.Sort(bare)
	step, limit := steps[len(steps)/2], bare[len(bare)/2]
	b.ReportMetric(step.Seconds()*1e3, "ms/step")
	b.ReportMetric(step.Seconds()/limit.Seconds(), "ratio")
	b.ReportMetric(float64(rows)/step.Seconds(), "samples/s")
}

func BenchmarkCompile(b *testing.B) {
	d := define(b, []int{784}, dense(500, "relu"), dense(500, "relu"), dense(10, "softmax"))
	k := gonum(b)
	for b.Loop() {
		if _, err := Compile(d, Config{Kernel: k, Batch: 128, Loss: "categorical_crossentropy"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLayers gives the time of a whole step of small models that live off one kind of layer.
func BenchmarkLayers(b *testing.B) {
	conv, deep := newConv1D(), newConv1D()
	conv.Filters, conv.KernelSize, conv.Activation = 128, 5, "relu"
	deep.Filters, deep.KernelSize, deep.DilationRate, deep.Padding = 128, 2, 8, "causal"
	simple, lstm, gru := newSimpleRNN(), newLSTM(), newGRU()
	simple.Units, lstm.Units, gru.Units = 128, 128, 128
	for _, c := range []struct {
		name  string
		input []int
		ids   int
		ops   []Op
	}{
		{"simple_rnn 50x64-128", []int{50, 64}, 0, []Op{simple, dense(10, "softmax")}},
		{"lstm 50x64-128", []int{50, 64}, 0, []Op{lstm, dense(10, "softmax")}},
		{"gru 50x64-128", []int{50, 64}, 0, []Op{gru, dense(10, "softmax")}},
		{"bidirectional lstm 50x64-128", []int{50, 64}, 0, []Op{&Bidirectional{Layer: Direction{lstm}, MergeMode: "concat"}, dense(10, "softmax")}},
		{"conv1d 100x64-128", []int{100, 64}, 0, []Op{conv, &MaxPooling1D{newPooling1D()}, conv, &GlobalMaxPooling1D{}, dense(10, "softmax")}},
		{"conv1d causal 100x64-128", []int{100, 64}, 0, []Op{deep, deep, &GlobalAveragePooling1D{}, dense(10, "softmax")}},
		{"embedding 20x10000x32", []int{20}, 10000, []Op{&Embedding{InputDim: 10000, OutputDim: 32, EmbeddingsInitializer: RandomUniform}, &Flatten{}, dense(10, "softmax")}},
		{"batch normalization 32x32x32", []int{32, 32, 32}, 0, []Op{newBatchNormalization(), &Flatten{}, dense(10, "softmax")}},
		{"layer normalization 32x256", []int{32, 256}, 0, []Op{newLayerNormalization(), &Flatten{}, dense(10, "softmax")}},
	} {
		b.Run(c.name, func(b *testing.B) {
			k, err := kernel.Select("auto")
			if err != nil {
				b.Fatal(err)
			}
			n := compile(b, define(b, c.input, c.ops...), Config{Kernel: k, Batch: 32, Loss: "categorical_crossentropy"})
			n.Init(1)
			batch := randomBatch(rand.New(rand.NewPCG(1, 1)), n, 32, false, c.ids)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.Step(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(32/b.Elapsed().Seconds()*float64(b.N), "samples/s")
		})
	}
}

// BenchmarkStepOfALargeEmbedding takes steps of plain gradient descent on a table of 12.8 million parameters with two ids a row
// of the batch: with the whole gradient, in pieces, and without the rows of the table that are not in the batch.
func BenchmarkStepOfALargeEmbedding(b *testing.B) {
	k, err := kernel.Select("auto")
	if err != nil {
		b.Fatal(err)
	}
	d := define(b, []int{2}, &Embedding{InputDim: 200_000, OutputDim: 64, EmbeddingsInitializer: RandomUniform}, &Flatten{}, dense(32, "relu"), dense(1, "sigmoid"))
	n, err := Compile(d, Config{Kernel: k, Batch: 128, Loss: "binary_crossentropy"})
	if err != nil {
		b.Fatal(err)
	}
	n.Init(1)
	batch := randomBatch(rand.New(rand.NewPCG(1, 1)), n, 128, false, 200_000)
	update := func(at int, grads []float32) { k.Axpy(-0.01, grads, n.params[at:at+len(grads)]) }
	for _, c := range []struct {
		name string
		step func() (float32, error)
	}{
		{"whole", func() (float32, error) {
			loss, err := n.Step(batch)
			update(0, n.Grads())
			return loss, err
		}},
		{"pieces", func() (float32, error) { return n.Descend(batch, false, update) }},
		{"lazy", func() (float32, error) { return n.Descend(batch, true, update) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.step(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
