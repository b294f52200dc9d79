package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/model/modeltest"
)

// A lossCase is a loss with options, the end of the model it is for, and its targets.
type lossCase struct {
	loss       model.Loss
	class      string
	config     map[string]any
	activation string
	target     func(r *rand.Rand, row []float32) // fills one vector
}

func anyTarget(r *rand.Rand, row []float32) {
	for i := range row {
		row[i] = float32(r.NormFloat64())
	}
}

func positiveTarget(r *rand.Rand, row []float32) {
	for i := range row {
		row[i] = 3 * r.Float32()
	}
}

func binaryTarget(r *rand.Rand, row []float32) {
	for i := range row {
		row[i] = float32(r.IntN(2))
	}
}

func signTarget(r *rand.Rand, row []float32) {
	for i := range row {
		row[i] = float32(2*r.IntN(2) - 1)
	}
}

func oneHot(r *rand.Rand, row []float32) {
	clear(row)
	row[r.IntN(len(row))] = 1
}

func shares(r *rand.Rand, row []float32) {
	var sum float32
	for i := range row {
		row[i] = 0.1 + r.Float32()
		sum += row[i]
	}
	for i := range row {
		row[i] /= sum
	}
}

func classOfFour(r *rand.Rand, row []float32) { row[0] = float32(r.IntN(4)) }

func lossCases() []lossCase {
	config := func(name string, value any) map[string]any { return map[string]any{name: value} }
	return []lossCase{
		{model.Loss{Name: "binary_crossentropy"}, "BinaryCrossentropy", nil, "sigmoid", binaryTarget},
		{model.Loss{Name: "binary_crossentropy", FromLogits: true}, "BinaryCrossentropy", config("from_logits", true), "linear", binaryTarget},
		{model.Loss{Name: "binary_crossentropy", LabelSmoothing: 0.2}, "BinaryCrossentropy", config("label_smoothing", 0.2), "sigmoid", binaryTarget},
		{model.Loss{Name: "categorical_crossentropy"}, "CategoricalCrossentropy", nil, "softmax", oneHot},
		{model.Loss{Name: "categorical_crossentropy"}, "CategoricalCrossentropy", nil, "sigmoid", shares},
		{model.Loss{Name: "categorical_crossentropy", FromLogits: true}, "CategoricalCrossentropy", config("from_logits", true), "linear", shares},
		{model.Loss{Name: "categorical_crossentropy", LabelSmoothing: 0.3}, "CategoricalCrossentropy", config("label_smoothing", 0.3), "softmax", oneHot},
		{model.Loss{Name: "categorical_hinge"}, "CategoricalHinge", nil, "linear", oneHot},
		{model.Loss{Name: "cosine_similarity"}, "CosineSimilarity", nil, "linear", anyTarget},
		{model.Loss{Name: "hinge"}, "Hinge", nil, "tanh", signTarget},
		{model.Loss{Name: "hinge"}, "Hinge", nil, "linear", binaryTarget}, // 0 and 1 become -1 and 1
		{model.Loss{Name: "huber"}, "Huber", nil, "linear", anyTarget},
		{model.Loss{Name: "huber", Delta: 0.3}, "Huber", config("delta", 0.3), "linear", anyTarget},
		{model.Loss{Name: "kl_divergence"}, "KLDivergence", nil, "softmax", shares},
		{model.Loss{Name: "log_cosh"}, "LogCosh", nil, "linear", anyTarget},
		{model.Loss{Name: "mean_absolute_error"}, "MeanAbsoluteError", nil, "linear", anyTarget},
		{model.Loss{Name: "mean_absolute_percentage_error"}, "MeanAbsolutePercentageError", nil, "linear", anyTarget},
		{model.Loss{Name: "mean_squared_error"}, "MeanSquaredError", nil, "linear", anyTarget},
		{model.Loss{Name: "mean_squared_logarithmic_error"}, "MeanSquaredLogarithmicError", nil, "softplus", positiveTarget},
		{model.Loss{Name: "poisson"}, "Poisson", nil, "softplus", positiveTarget},
		{model.Loss{Name: "sparse_categorical_crossentropy"}, "SparseCategoricalCrossentropy", nil, "softmax", classOfFour},
		{model.Loss{Name: "sparse_categorical_crossentropy", FromLogits: true}, "SparseCategoricalCrossentropy", config("from_logits", true), "linear", classOfFour},
		{model.Loss{Name: "squared_hinge"}, "SquaredHinge", nil, "linear", signTarget},
	}
}

// Every loss is Keras' loss and has its gradient, with weights of rows and of outputs, for rows of one vector and of
// several; and its function for evaluation gives the same.
func TestEveryLossIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	for _, name := range model.Losses() {
		if !slices.ContainsFunc(lossCases(), func(c lossCase) bool { return c.loss.Name == name }) {
			t.Errorf("%s has no case", name)
		}
	}
	for _, shape := range [][]int{{3}, {2, 3}} {
		t.Run(fmt.Sprint(len(shape)), func(t *testing.T) { compareLosses(t, oracle, shape) })
	}
}

func compareLosses(t *testing.T, oracle *kerastest.Oracle, shape []int) {
	const rows, units = 6, 4
	vectors := rows
	for _, d := range shape[:len(shape)-1] {
		vectors *= d
	}
	r := rand.New(rand.NewPCG(3, 0))
	g := kerastest.Graph{Name: "losses", Inputs: []kerastest.Input{{Name: "in", Shape: shape}}}
	var losses []model.Loss
	var step kerastest.Step
	batch, x := modeltest.Batch(g, rows, r)
	step.X = x
	var objects []any
	for i, c := range lossCases() {
		name := fmt.Sprintf("out_%d", i)
		g.Layers = append(g.Layers, kerastest.Layer{Name: name, Kind: "dense", Class: "Dense", From: []string{"in"},
			Fields: map[string]any{"units": units, "activation": c.activation}, Keras: map[string]any{"units": units, "activation": c.activation}})
		g.Outputs = append(g.Outputs, name)
		l := c.loss
		l.Weight = 0.1 + r.Float64()
		losses = append(losses, l)
		if c.config == nil {
			c.config = map[string]any{}
		}
		objects = append(objects, map[string]any{"module": "keras.losses", "class_name": c.class, "config": c.config, "registered_name": nil})
		step.LossWeights = append(step.LossWeights, l.Weight)
		width := l.TargetWidth([]int{units})
		y := make([]float32, vectors*width)
		for v := range vectors {
			c.target(r, y[v*width:(v+1)*width])
		}
		batch.Y = append(batch.Y, y)
		target := append(slices.Clone(shape[:len(shape)-1]), units)
		if width == 1 {
			target = target[:len(target)-1] // the class of every vector
		}
		step.Y = append(step.Y, modeltest.Tensor(rows, target, y))
	}
	step.Loss = objects
	for range rows {
		batch.Weight = append(batch.Weight, 2*r.Float32())
	}
	step.SampleWeight = batch.Weight

	d, err := modeltest.Definition(g)
	if err != nil {
		t.Fatal(err)
	}
	n, err := model.Compile(d, model.Config{Batch: rows, Losses: losses})
	if err != nil {
		t.Fatal(err)
	}
	modeltest.Scramble(n, r)
	weights, err := modeltest.Weights(d, n)
	if err != nil {
		t.Fatal(err)
	}
	want, err := oracle.Gradients(kerastest.Model{Graph: &g, Weights: weights}, step)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := n.Step(batch)
	if err != nil {
		t.Fatal(err)
	}
	modeltest.Near(t, "loss", []float32{loss}, []float64{want.Loss})
	compareVariables(t, d, n, want)
	if got := evaluated(t, d, n, losses, batch); math.Abs(got-want.Loss) > 1e-5*math.Abs(want.Loss) {
		t.Errorf("by the functions for evaluation the loss is %g, Keras has %g", got, want.Loss)
	}
}

// evaluated is the loss of a batch from predictions and Loss.Func.
func evaluated(t *testing.T, d *model.Definition, n *model.Network, losses []model.Loss, batch *pipeline.Batch) float64 {
	t.Helper()
	_, widths := d.Widths()
	out := make([][]float32, len(widths))
	for i, w := range widths {
		out[i] = make([]float32, batch.Rows*w)
	}
	if err := n.Predict(batch, out); err != nil {
		t.Fatal(err)
	}
	var sum float64
	for i, l := range losses {
		shape := d.Shapes()[d.Outputs[i]]
		f, err := l.Func(shape)
		if err != nil {
			t.Fatal(err)
		}
		width := l.TargetWidth(shape)
		for row := range batch.Rows {
			sum += l.Weight * float64(batch.Weight[row]) * f(out[i][row*widths[i]:(row+1)*widths[i]], batch.Y[i][row*width:(row+1)*width]) / float64(batch.Rows)
		}
	}
	return sum
}
