package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// copyOp copies the fields of a layer.
func copyOp(into any, from Op) { reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from).Elem()) }

// layerCase is a layer between others, on inputs of a shape.
type layerCase struct {
	op    Op
	input []int
	ids   int
}

// layerCases has every layer of this package with all its fields in use, by name.
func layerCases() map[string]layerCase {
	reg := Regularizer{L1: 0.01, L2: 0.02}
	six, seed := 0.4, int64(7)
	bn := newBatchNormalization()
	bn.Momentum, bn.Epsilon, bn.GammaRegularizer, bn.BetaRegularizer = 0.9, 0.01, reg, reg
	plainBN := newBatchNormalization()
	plainBN.Center, plainBN.Scale = false, false
	scaleBN := newBatchNormalization()
	scaleBN.Center = false
	ln := newLayerNormalization()
	ln.GammaRegularizer = reg
	plainLN := newLayerNormalization()
	plainLN.Center, plainLN.Scale = false, false
	sequence := func(filters, size int, edit func(*Conv1D)) *Conv1D {
		c := newConv1D()
		c.Filters, c.KernelSize = filters, size
		edit(c)
		return c
	}
	simple, seqSimple, backSimple := newSimpleRNN(), newSimpleRNN(), newSimpleRNN()
	simple.Units, simple.RecurrentRegularizer = 3, reg
	seqSimple.Units, seqSimple.ReturnSequences, seqSimple.UseBias, seqSimple.Activation = 4, true, false, "softsign"
	backSimple.Units, backSimple.ReturnSequences, backSimple.GoBackwards = 2, true, true
	lstm, seqLSTM, backLSTM := newLSTM(), newLSTM(), newLSTM()
	backLSTM.Units, backLSTM.GoBackwards = 3, true
	lstm.Units, lstm.RecurrentRegularizer = 3, reg
	seqLSTM.Units, seqLSTM.ReturnSequences, seqLSTM.UseBias, seqLSTM.Activation, seqLSTM.RecurrentActivation = 2, true, false, "softsign", "hard_sigmoid"
	gru, oldGRU, bareGRU, seqGRU, backGRU := newGRU(), newGRU(), newGRU(), newGRU(), newGRU()
	backGRU.Units, backGRU.ReturnSequences, backGRU.GoBackwards = 3, true, true
	gru.Units, gru.BiasRegularizer = 3, reg
	oldGRU.Units, oldGRU.ResetAfter, oldGRU.ReturnSequences = 3, false, true
	bareGRU.Units, bareGRU.UseBias, bareGRU.RecurrentActivation = 2, false, "hard_sigmoid_keras2"
	seqGRU.Units, seqGRU.ReturnSequences, seqGRU.Activation = 4, true, "linear"
	other := newLSTM()
	other.Units, other.GoBackwards, other.KernelRegularizer, other.ReturnSequences = 4, true, reg, true
	both := func(layer Op, mode string) *Bidirectional {
		return &Bidirectional{Layer: Direction{layer}, MergeMode: mode}
	}
	unlike := both(seqSimple, "concat")
	unlike.BackwardLayer.Op = other
	return map[string]layerCase{
		"batch_normalization":         {op: bn, input: []int{5}},
		"batch_normalization/images":  {op: scaleBN, input: []int{2, 2, 3}},
		"batch_normalization/plain":   {op: plainBN, input: []int{4}},
		"layer_normalization":         {op: ln, input: []int{2, 5}},
		"layer_normalization/plain":   {op: plainLN, input: []int{6}},
		"embedding":                   {op: &Embedding{InputDim: 4, OutputDim: 3, EmbeddingsInitializer: RandomUniform, EmbeddingsRegularizer: reg}, input: []int{5}, ids: 4},
		"embedding/one":               {op: &Embedding{InputDim: 9, OutputDim: 2, EmbeddingsInitializer: GlorotUniform}, input: []int{1}, ids: 9},
		"reshape":                     {op: &Reshape{TargetShape: []int{-1, 2}}, input: []int{2, 3}},
		"relu":                        {op: &Rectifier{}, input: []int{6}},
		"relu/all fields":             {op: &Rectifier{MaxValue: &six, NegativeSlope: 0.2, Threshold: 0.1}, input: []int{6}},
		"leaky_relu":                  {op: &Rectifier{Leaky: true, NegativeSlope: 0.3}, input: []int{6}},
		"elu":                         {op: &ELU{Alpha: 0.7}, input: []int{6}},
		"gaussian_noise":              {op: &GaussianNoise{Stddev: 0.3}, input: []int{5}},
		"gaussian_noise/none":         {op: &GaussianNoise{Stddev: 0, Seed: &seed}, input: []int{5}},
		"conv1d":                      {op: sequence(3, 2, func(c *Conv1D) { c.KernelRegularizer, c.BiasRegularizer = reg, reg }), input: []int{5, 2}},
		"conv1d/same":                 {op: sequence(4, 3, func(c *Conv1D) { c.Padding, c.Activation, c.Strides = "same", "relu", 2 }), input: []int{6, 3}},
		"conv1d/causal":               {op: sequence(2, 3, func(c *Conv1D) { c.Padding, c.Activation, c.DilationRate = "causal", "tanh", 2 }), input: []int{6, 2}},
		"conv1d/causal, strides":      {op: sequence(2, 2, func(c *Conv1D) { c.Padding, c.Strides, c.UseBias = "causal", 2, false }), input: []int{5, 3}},
		"conv1d/long":                 {op: sequence(3, 4, func(c *Conv1D) { c.Padding, c.Activation = "causal", "softmax" }), input: []int{21, 2}},
		"conv1d/one":                  {op: sequence(2, 1, func(c *Conv1D) { c.Activation = "gelu" }), input: []int{1, 3}},
		"max_pooling1d":               {op: &MaxPooling1D{newPooling1D()}, input: []int{7, 2}},
		"max_pooling1d/same":          {op: &MaxPooling1D{Pooling1D{3, 2, "same"}}, input: []int{8, 3}},
		"average_pooling1d":           {op: &AveragePooling1D{newPooling1D()}, input: []int{4, 2}},
		"average_pooling1d/same":      {op: &AveragePooling1D{Pooling1D{4, 3, "same"}}, input: []int{8, 2}},
		"global_average_pooling1d":    {op: &GlobalAveragePooling1D{}, input: []int{5, 3}},
		"global_max_pooling1d":        {op: &GlobalMaxPooling1D{}, input: []int{4, 2}},
		"global_max_pooling1d/kept":   {op: &GlobalMaxPooling1D{GlobalPooling{KeepDims: true}}, input: []int{3, 4}},
		"simple_rnn":                  {op: simple, input: []int{4, 2}},
		"simple_rnn/sequences":        {op: seqSimple, input: []int{5, 3}},
		"simple_rnn/backwards":        {op: backSimple, input: []int{3, 2}},
		"bidirectional":               {op: both(lstm, "concat"), input: []int{3, 2}},
		"bidirectional/sequences":     {op: both(seqGRU, "ave"), input: []int{3, 3}},
		"bidirectional/product":       {op: both(oldGRU, "mul"), input: []int{4, 2}},
		"bidirectional/backwards":     {op: both(backSimple, "sum"), input: []int{3, 2}},
		"bidirectional/unlike":        {op: unlike, input: []int{2, 3}},
		"lstm":                        {op: lstm, input: []int{4, 2}},
		"lstm/backwards":              {op: backLSTM, input: []int{3, 2}},
		"lstm/sequences":              {op: seqLSTM, input: []int{3, 3}},
		"gru":                         {op: gru, input: []int{4, 2}},
		"gru/reset before, sequences": {op: oldGRU, input: []int{3, 2}},
		"gru/bare":                    {op: bareGRU, input: []int{3, 1}},
		"gru/sequences":               {op: seqGRU, input: []int{5, 3}},
		"gru/backwards":               {op: backGRU, input: []int{4, 2}},
		"dense":                       {op: dense(3, "softmax"), input: []int{2, 4}},
		"activation":                  {op: &Activation{Activation: "softmax"}, input: []int{2, 4}},
		"dropout":                     {op: &Dropout{Rate: 0.5}, input: []int{3}},
		"flatten":                     {op: &Flatten{}, input: []int{2, 2, 2}},
	}
}

// Every layer between two dense ones, so that its own gradient and the one that it passes on are compared.
func TestGradientsOfEveryLayer(t *testing.T) {
	for name, c := range layerCases() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(51, 8))
			for _, kernels := range kernel.Names() {
				for range 3 {
					rows := 2 + r.IntN(5)
					layers := []Op{dense(lastOf(c.input), "tanh"), c.op, dense(2, "tanh"), &Flatten{}, dense(3, "softmax")}
					if c.ids > 0 {
						layers = layers[1:]
					}
					checkGradient(t, r, gradientCase{layers: layers, input: c.input, ids: []int{c.ids}, loss: "categorical_crossentropy",
						batch: rows + r.IntN(3), rows: rows, weight: true, kernel: kernels, loose: 3})
				}
			}
		})
	}
}

// A classifier of texts: ids, convolutions with a pooling that is part of one, and the best of all places.
func TestGradientsOfATextModel(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 8))
	wide, narrow := newConv1D(), newConv1D()
	wide.Filters, wide.KernelSize, wide.Padding, wide.Activation = 5, 3, "same", "relu"
	narrow.Filters, narrow.KernelSize, narrow.Padding, narrow.DilationRate, narrow.Activation = 4, 2, "causal", 3, "tanh"
	for _, kernels := range kernel.Names() {
		checkGradient(t, r, gradientCase{layers: []Op{&Embedding{InputDim: 7, OutputDim: 3, EmbeddingsInitializer: RandomUniform}, wide, &MaxPooling1D{newPooling1D()}, narrow,
			&GlobalMaxPooling1D{}, dense(2, "softmax")}, input: []int{24}, ids: []int{7}, loss: "categorical_crossentropy", batch: 6, rows: 5, weight: true, kernel: kernels, loose: 3})
	}
}

// A graph with all ways to merge, of which some read the same value several times.
func TestGradientsOfMergingLayers(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 8))
	for _, how := range mergers() {
		t.Run(how, func(t *testing.T) {
			for inputs := 2; inputs < 5; inputs++ {
				if how == "subtract" && inputs > 2 {
					continue
				}
				d := &Definition{Name: how, Inputs: []Input{{"x", []int{3}}}}
				var from []string
				for i := range inputs {
					name := fmt.Sprintf("d%d", i)
					d.Layers = append(d.Layers, Layer{Name: name, From: []string{"x"}, Op: dense(4, "tanh")})
					from = append(from, name)
				}
				if inputs == 4 {
					from[3] = from[0] // the same value twice
				}
				d.Layers = append(d.Layers, Layer{Name: "m", From: from, Op: &Merge{How: how}})
				if inputs == 4 {
					d.Layers = append(d.Layers, Layer{Name: "again", From: []string{"d3", "m"}, Op: &Merge{How: "add"}}, Layer{Name: "y", From: []string{"again"}, Op: dense(2, "linear")})
				} else {
					d.Layers = append(d.Layers, Layer{Name: "y", From: []string{"m"}, Op: dense(2, "linear")})
				}
				d.Outputs = []string{"y"}
				checkGradient(t, r, gradientCase{def: d, loss: "mse", batch: 4, rows: 3})
			}
		})
	}
}

func TestGradientsOfConcatenateAlongEveryAxis(t *testing.T) {
	r := rand.New(rand.NewPCG(71, 8))
	for axis := -3; axis <= 3; axis++ {
		if axis == 0 {
			continue
		}
		shapes := [][]int{{2, 3, 2}, {2, 3, 2}, {2, 3, 2}}
		d := (axis + 3 + 3) % 3
		if axis > 0 {
			d = axis - 1
		}
		shapes[1][d] = 1
		shapes[2][d] = 4
		def := &Definition{Name: "c"}
		var from []string
		for i, s := range shapes {
			in, name := fmt.Sprintf("in%d", i), fmt.Sprintf("d%d", i)
			def.Inputs = append(def.Inputs, Input{in, s})
			if i == 1 { // one of them without a gradient
				from = append(from, in)
				continue
			}
			def.Layers = append(def.Layers, Layer{Name: name, From: []string{in}, Op: dense(lastOf(s), "tanh")})
			from = append(from, name)
		}
		def.Layers = append(def.Layers, Layer{Name: "all", From: from, Op: &Concatenate{Axis: axis}}, Layer{Name: "flat", From: []string{"all"}, Op: &Flatten{}}, Layer{Name: "y", From: []string{"flat"}, Op: dense(2, "linear")})
		def.Outputs = []string{"y"}
		checkGradient(t, r, gradientCase{def: def, loss: "mse", batch: 4, rows: 3})
	}
}

// wideAndDeep is the model of Cheng et al. 2016: ids and numbers, a wide and a deep way, two outputs.
func wideAndDeep() *Definition {
	embed := func(n int) Op { return &Embedding{InputDim: n, OutputDim: 3, EmbeddingsInitializer: RandomUniform} }
	return &Definition{
		Name:   "wide and deep",
		Inputs: []Input{{"user", []int{1}}, {"items", []int{4}}, {"numbers", []int{5}}},
		Layers: []Layer{
			{Name: "user vector", From: []string{"user"}, Op: embed(7)},
			{Name: "item vectors", From: []string{"items"}, Op: embed(11)},
			{Name: "user flat", From: []string{"user vector"}, Op: &Flatten{}},
			{Name: "items flat", From: []string{"item vectors"}, Op: &Flatten{}},
			{Name: "wide", From: []string{"numbers"}, Op: dense(4, "linear")},
			{Name: "joined", From: []string{"user flat", "items flat", "numbers"}, Op: &Concatenate{Axis: -1}},
			{Name: "deep 1", From: []string{"joined"}, Op: dense(8, "relu")},
			{Name: "deep 2", From: []string{"deep 1"}, Op: dense(4, "relu")},
			{Name: "sum", From: []string{"wide", "deep 2"}, Op: &Merge{How: "add"}},
			{Name: "click", From: []string{"sum"}, Op: dense(1, "sigmoid")},
			{Name: "kind", From: []string{"deep 2"}, Op: dense(3, "softmax")},
		},
		Outputs: []string{"click", "kind"},
	}
}

func TestGradientsOfSeveralInputsAndOutputs(t *testing.T) {
	r := rand.New(rand.NewPCG(81, 8))
	for range 4 {
		checkGradient(t, r, gradientCase{def: wideAndDeep(), ids: []int{7, 11, 0}, batch: 6, rows: 5, weight: true,
			losses: []Loss{{Name: "binary_crossentropy", Weight: 2}, {Name: "sparse_categorical_crossentropy", Weight: 0.3}}})
	}
}

// The state after a step is what the reference makes of it, also for a short batch, and inference uses it.
func TestMovingStatisticsAreKeras(t *testing.T) {
	r := rand.New(rand.NewPCG(91, 8))
	bn := newBatchNormalization()
	bn.Momentum = 0.8
	d := define(t, []int{2, 3}, dense(4, "tanh"), bn, &Flatten{}, dense(2, "linear"))
	n := compile(t, d, Config{Batch: 6, Loss: "mse"})
	n.Init(3)
	ref := newReference(t, n, 0, true)
	if got := n.State(); !slices.Equal(got, []float32{0, 0, 0, 0, 1, 1, 1, 1}) {
		t.Fatalf("the state starts as %v", got)
	}
	for _, rows := range []int{6, 6, 2, 1} {
		b := randomBatch(r, n, rows, false)
		if _, err := n.Step(b); err != nil {
			t.Fatal(err)
		}
		ref.forward(wideAll(b.X), rows)
		for i, want := range ref.state {
			if got := float64(n.State()[i]); math.Abs(got-want) > 1e-6 {
				t.Fatalf("%d rows: state[%d] = %g, want %g", rows, i, got, want)
			}
		}
	}
	b := randomBatch(r, n, 5, false)
	before := slices.Clone(n.State())
	out := [][]float32{make([]float32, 10)}
	if err := n.Predict(b, out); err != nil {
		t.Fatal(err)
	}
	ref.train = false
	for i, want := range ref.forward(wideAll(b.X), 5)[0] {
		if math.Abs(float64(out[0][i])-want) > 1e-5 {
			t.Fatalf("out[%d] = %g, want %g", i, out[0][i], want)
		}
	}
	if !slices.Equal(before, n.State()) {
		t.Error("a prediction changed the state")
	}
	if got := n.StateLayout(); len(got) != 2 || got[0].Name != "batch_normalization/moving_mean" || got[1].Off != 4 {
		t.Errorf("state layout %+v", got)
	}
}

// Inference of every layer against the reference: no dropout, no noise, moving statistics.
func TestPredictionsOfEveryLayer(t *testing.T) {
	r := rand.New(rand.NewPCG(95, 8))
	for name, c := range layerCases() {
		layers := []Op{c.op, &Flatten{}, dense(2, "tanh")}
		n := compile(t, define(t, c.input, layers...), Config{Batch: 3})
		n.Init(r.Uint64())
		for i := range n.State() {
			n.State()[i] += r.Float32()
		}
		b := randomBatch(r, n, 7, false, c.ids)
		out := [][]float32{make([]float32, 7*2)}
		if err := n.Predict(b, out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, want := range newReference(t, n, 0, false).forward(wideAll(b.X), 7)[0] {
			if math.Abs(float64(out[0][i])-want) > 1e-5 {
				t.Fatalf("%s: out[%d] = %g, want %g", name, i, out[0][i], want)
			}
		}
	}
}

func TestNoLayerAllocates(t *testing.T) {
	r := rand.New(rand.NewPCG(97, 8))
	for _, k := range kernel.Names() {
		for name, c := range layerCases() {
			layers := []Op{dense(lastOf(c.input), "tanh"), c.op, &Flatten{}, dense(2, "tanh")}
			if c.ids > 0 {
				layers = layers[1:]
			}
			n := compile(t, define(t, c.input, layers...), Config{Kernel: kernels(t, k), Batch: 3, Loss: "mse"})
			n.Init(1)
			b := randomBatch(r, n, 3, true, c.ids)
			out := [][]float32{make([]float32, 6)}
			if allocs := testing.AllocsPerRun(5, func() {
				if _, err := n.Step(b); err != nil {
					t.Fatal(err)
				}
				if _, err := n.Descend(b, true, func(int, []float32) {}); err != nil {
					t.Fatal(err)
				}
				if err := n.Predict(b, out); err != nil {
					t.Fatal(err)
				}
			}); allocs != 0 {
				t.Errorf("%s, %s: %g allocations", k, name, allocs)
			}
		}
	}
}

func TestIdsOutOfBoundsNameTheRow(t *testing.T) {
	n := compile(t, wideAndDeep(), Config{Batch: 4, Losses: []Loss{{Name: "binary_crossentropy"}, {Name: "sparse_categorical_crossentropy"}}})
	n.Init(1)
	good := func() *pipeline.Batch {
		return &pipeline.Batch{Rows: 3, X: [][]float32{{0, 1, 6}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0}, make([]float32, 15)},
			Y: [][]float32{{0, 1, 0}, {0, 1, 2}}}
	}
	if _, err := n.Step(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		column, at int
		value      float32
		words      []string
	}{
		{0, 2, 7, []string{"row 2", "7", "0 to 6"}},
		{0, 0, -1, []string{"row 0", "-1"}},
		{1, 6, 1.5, []string{"row 1", "1.5", "position 2", "0 to 10"}},
		{1, 11, float32(math.NaN()), []string{"row 2", "NaN"}},
		{1, 11, float32(math.Inf(1)), []string{"row 2", "Inf"}},
	} {
		b := good()
		b.X[c.column][c.at] = c.value
		_, err := n.Step(b)
		wantError(t, err, pipeline.Data, c.words...)
		wantError(t, n.Predict(b, [][]float32{make([]float32, 3), make([]float32, 9)}), pipeline.Data, c.words...)
	}
	b := good()
	b.Y[1][1] = 3
	_, err := n.Step(b)
	wantError(t, err, pipeline.Data, "row 1", "the target is 3", "0 to 2")
	b.Y[1][1] = 2
	if _, err := n.Step(b); err != nil {
		t.Errorf("a good batch after a bad one: %v", err)
	}
	long := &pipeline.Batch{Rows: 9, X: [][]float32{make([]float32, 9), make([]float32, 36), make([]float32, 45)}}
	long.X[0][8] = 9
	wantError(t, n.Predict(long, [][]float32{make([]float32, 9), make([]float32, 27)}), pipeline.Data, "row 8")
}

// What is not a number must be seen in the loss, wherever it enters.
func TestNaNComesThroughEveryLayer(t *testing.T) {
	r := rand.New(rand.NewPCG(99, 8))
	for name, c := range layerCases() {
		if c.ids > 0 || name == "dropout" {
			continue
		}
		n := compile(t, define(t, c.input, dense(lastOf(c.input), "linear"), c.op, &Flatten{}, dense(2, "linear")), Config{Batch: 3, Loss: "mse"})
		n.Init(1)
		b := randomBatch(r, n, 3, false)
		for i := range b.X[0] {
			b.X[0][i] = float32(math.NaN())
		}
		if loss, err := n.Step(b); err != nil || loss == loss {
			t.Errorf("%s: loss %g, %v", name, loss, err)
		}
	}
}

// Gather gives the statistics of all rows together, whatever the batches, and leaves the rest alone.
func TestGatherGivesTheStatisticsOfAllRows(t *testing.T) {
	r := rand.New(rand.NewPCG(101, 8))
	d := define(t, []int{2, 3}, dense(4, "tanh"), newBatchNormalization(), &Flatten{}, &Dropout{Rate: 0.5}, dense(2, "linear"))
	n := compile(t, d, Config{Batch: 8, Loss: "mse"})
	n.Init(3)
	all := randomBatch(r, n, 21, false)
	before := slices.Clone(n.Params())
	for _, cuts := range [][]int{{8, 8, 5}, {1, 2, 8, 8, 2}, {5, 8, 8}} {
		seen := 0
		for _, rows := range cuts {
			b := &pipeline.Batch{Rows: rows, X: [][]float32{all.X[0][seen*6:][:rows*6]}}
			if err := n.Gather(b, int64(seen)); err != nil {
				t.Fatal(err)
			}
			seen += rows
		}
		hidden := activate("tanh", product(wide(all.X[0]), wide(n.Params()[:12]), 3, 4), 4) // biases start as 0
		for j := range 4 {
			var mean, variance float64
			count := float64(len(hidden) / 4)
			for i := j; i < len(hidden); i += 4 {
				mean += hidden[i] / count
			}
			for i := j; i < len(hidden); i += 4 {
				variance += (hidden[i] - mean) * (hidden[i] - mean) / count
			}
			if got := n.State(); math.Abs(float64(got[j])-mean) > 1e-6 || math.Abs(float64(got[4+j])-variance) > 1e-6 {
				t.Errorf("cut into %v: mean and variance %d are %g and %g, want %g and %g", cuts, j, got[j], got[4+j], mean, variance)
			}
		}
	}
	if !slices.Equal(before, n.Params()) {
		t.Error("the parameters changed")
	}
	b := &pipeline.Batch{Rows: 8, X: [][]float32{all.X[0][:48]}}
	if allocs := testing.AllocsPerRun(5, func() {
		if err := n.Gather(b, 8); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%g allocations", allocs)
	}
	wantError(t, n.Gather(&pipeline.Batch{Rows: 9, X: [][]float32{make([]float32, 54)}}, 0), pipeline.Internal, "9 rows")
	wantError(t, n.Gather(&pipeline.Batch{Rows: 1, X: [][]float32{make([]float32, 5)}}, 0), pipeline.BadSpec, "width 5")
}

func TestSummaryCountsWhatIsNotTrained(t *testing.T) {
	got := define(t, []int{4}, dense(3, "relu"), newBatchNormalization()).Summary()
	for _, want := range []string{"batch_normalization (batch_normalization)", "Total params: 27 (108 B)", "Trainable params: 21 (84 B)", "Non-trainable params: 6 (24 B)"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestLayersThatDoNotFitSayWhatTheyTake(t *testing.T) {
	for doc, want := range map[string][]string{
		"- batch_normalization: {momentum: 2}":                                   {"momentum is 2"},
		"- batch_normalization: {epsilon: 0}":                                    {"epsilon is 0"},
		"- batch_normalization: {moving_mean_initializer: random_normal}":        {"random_normal", "zeros"},
		"- layer_normalization: {epsilon: -1}":                                   {"epsilon is -1"},
		"- embedding: {input_dim: 3}":                                            {"output_dim 0"},
		"- embedding: {input_dim: 20000000, output_dim: 1}":                      {"16777216", "hash_bucket"},
		"- reshape: {target_shape: [3]}":                                         {"[3]", "4 numbers"},
		"- reshape: {target_shape: [-1, -1]}":                                    {"only one"},
		"- reshape: {target_shape: [0]}":                                         {"at least 1"},
		"- relu: {negative_slope: -1}":                                           {"at least 0"},
		"- leaky_relu: {max_value: 6}":                                           {"use relu"},
		"- elu: {alpha: -1}":                                                     {"alpha is -1"},
		"- gaussian_noise: {stddev: -1}":                                         {"stddev is -1"},
		"- lstm: {units: 3}":                                                     {"[steps, features]", "[4]"},
		"- reshape: {target_shape: [2, 2]}\n- lstm: {}":                          {"units is 0"},
		"- simple_rnn: {units: 3}":                                               {"[steps, features]", "[4]"},
		"- conv1d: {filters: 3, kernel_size: 2}":                                 {"sequences of shape [steps, channels]", "[4]", "reshape"},
		"- max_pooling1d: {pool_size: 257}":                                      {"pool_size of 257", "256 steps", "global_max_pooling1d"},
		"- max_pooling1d: {pool_size: 0}":                                        {"pool_size is 0"},
		"- average_pooling1d: {strides: -2}":                                     {"strides is -2"},
		"- average_pooling1d: {padding: causal}":                                 {`padding "causal"`, "same, valid"},
		"- max_pooling1d: {}":                                                    {"[steps, channels]", "[4]"},
		"- reshape: {target_shape: [2, 2]}\n- average_pooling1d: {pool_size: 3}": {"a window of 3 steps", "sequence of 2"},
		"- reshape: {target_shape: [2, 2, 1]}\n- global_max_pooling1d: {}":       {"[steps, channels]", "[2 2 1]"},
		"- global_average_pooling1d: {}":                                         {"[steps, channels]", "[4]", "reshape"},
		"- conv1d: {kernel_size: 2}":                                             {"filters is 0"},
		"- conv1d: {filters: 1}":                                                 {"kernel_size is 0"},
		"- conv1d: {filters: 1, kernel_size: 2, strides: -1}":                    {"strides is -1"},
		"- conv1d: {filters: 1, kernel_size: 2, padding: full}":                  {`padding "full"`, "causal, same, valid"},
		"- conv1d: {filters: 1, kernel_size: 2, strides: 2, dilation_rate: 3}":   {"strides 2 together with dilation_rate 3", "as Keras asks too"},
		"- reshape: {target_shape: [4, 1]}\n- conv1d: {filters: 1, kernel_size: 3, dilation_rate: 2}":                                 {"a window of 5 steps", "sequence of 4"},
		"- reshape: {target_shape: [2, 2]}\n- conv1d: {filters: 500000000, kernel_size: 2}":                                           {"too large"},
		"- bidirectional: {layer: {lstm: {units: 3}}}":                                                                                {"[steps, features]", "[4]"},
		"- bidirectional: {merge_mode: sum}":                                                                                          {"no layer", "{lstm: {units: 64}}"},
		"- bidirectional: {layer: {gru: {}}}":                                                                                         {"layer (gru): units is 0"},
		"- bidirectional: {layer: {gru: {units: 1}}, merge_mode: max}":                                                                {`merge_mode "max"`, "concat, sum, mul, ave"},
		"- bidirectional: {layer: {gru: {units: 1}}, backward_layer: {gru: {units: 1}}}":                                              {"the same way", "go_backwards: true"},
		"- bidirectional: {layer: {gru: {units: 1}}, backward_layer: {lstm: {units: 1, go_backwards: true, return_sequences: true}}}": {"return_sequences"},
		"- bidirectional: {layer: {gru: {units: 1}}, backward_layer: {gru: {units: 2, go_backwards: true}}}":                          {"1 units", "backward_layer 2"},
		"- reshape: {target_shape: [2, 2]}\n- gru: {units: 2, activation: gelu}":                                                      {"gelu", "tanh"},
		"- add: {}":                        {"at least two inputs"},
		"- subtract: {from: [in, in, in]}": {"two inputs, has 3"},
		"- dense: {units: 2, name: d}\n- add: {from: [in, d]}":                       {"equal shapes", "[4]", "[2]"},
		"- dense: {units: 2, name: d}\n- concatenate: {from: [in, d], axis: 2}":      {"axis is 2", "1 to 1"},
		"- reshape: {target_shape: [2, 2], name: r}\n- concatenate: {from: [r, in]}": {"[2 2]", "[4]"},
		"- dense: {units: 2, name: in}":                                              {"used twice"},
		"- dense: {units: 2, from: [out]}":                                           {`reads "out"`},
		"- dense: {units: 2, kernel_regularizer: {l2: -1}}":                          {"l2 -1"},
		"- dense: {units: 2, kernel_initializer: 'random_normal(std=1)'}":            {`no "std"`, "random_normal(stddev=0.02)"},
	} {
		_, err := FromLayers(parse(t, doc), []Input{{Name: "in", Shape: []int{4}}})
		var e *pipeline.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(e.Error()+" "+e.Hint, w) {
				t.Errorf("%s: %q does not say %q", doc, e.Error()+" "+e.Hint, w)
			}
		}
	}
}

func TestListsOfLayersMayBranch(t *testing.T) {
	d, err := FromLayers(parse(t, `
- embedding: {input_dim: 10, output_dim: 4, from: [user]}
- flatten: {name: who}
- dense: {units: 8, activation: relu, from: [numbers], name: deep}
- dense: {units: 4}
- concatenate: {from: [who, dense, numbers]}
- dense: {units: 1, activation: sigmoid, name: click}
- dense: {units: 3, from: [deep]}
`), []Input{{Name: "user"}, {Name: "numbers", Shape: []int{5}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range d.Layers {
		got = append(got, l.Name+"<-"+strings.Join(l.From, ","))
	}
	want := []string{"embedding<-user", "who<-embedding", "deep<-numbers", "dense<-deep", "concatenate<-who,dense,numbers", "click<-concatenate", "dense_1<-deep"}
	if !slices.Equal(got, want) || !slices.Equal(d.Outputs, []string{"click", "dense_1"}) {
		t.Errorf("layers %v, outputs %v", got, d.Outputs)
	}
}
