package model_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/model/modeltest"
)

// Every layer computes what Keras computes: outputs in inference mode, and in a training step the loss, every gradient
// and what is kept besides.
func TestEveryLayerIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	for _, kind := range model.Kinds() {
		t.Run(kind, func(t *testing.T) {
			var graphs, random []kerastest.Graph
			for seed := range uint64(6) {
				g, ok := kerastest.Draw(kind, rand.New(rand.NewPCG(seed, 0)))
				if !ok {
					t.Fatalf("kerastest has no case for %s", kind)
				}
				if g.Random {
					random = append(random, g)
				} else {
					graphs = append(graphs, g)
				}
			}
			if len(random) > 0 {
				compareForward(t, oracle, kerastest.Join(random...))
			}
			if len(graphs) > 0 {
				compareStep(t, oracle, kerastest.Join(graphs...))
			}
		})
	}
}

func compareForward(t *testing.T, oracle *kerastest.Oracle, g kerastest.Graph) {
	t.Helper()
	d, err := modeltest.Definition(g)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 5
	n, err := model.Compile(d, model.Config{Batch: rows})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	modeltest.Scramble(n, r)
	weights, err := modeltest.Weights(d, n)
	if err != nil {
		t.Fatal(err)
	}
	batch, x := modeltest.Batch(g, rows, r)
	want, err := oracle.Forward(kerastest.Model{Graph: &g, Weights: weights}, x...)
	if err != nil {
		t.Fatal(err)
	}
	_, widths := d.Widths()
	out := make([][]float32, len(widths))
	for i, w := range widths {
		out[i] = make([]float32, rows*w)
	}
	if err := n.Predict(batch, out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		modeltest.Near(t, g.Outputs[i], out[i], want[i].Values())
	}
}

// compareStep compares a step with the mean squared error of every output and weights of rows.
func compareStep(t *testing.T, oracle *kerastest.Oracle, g kerastest.Graph) {
	t.Helper()
	d, err := modeltest.Definition(g)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 5
	n, err := model.Compile(d, model.Config{Batch: rows, Loss: "mean_squared_error"})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	modeltest.Scramble(n, r)
	weights, err := modeltest.Weights(d, n)
	if err != nil {
		t.Fatal(err)
	}
	batch, x := modeltest.Batch(g, rows, r)
	step := kerastest.Step{X: x, Loss: "mean_squared_error"}
	_, widths := d.Widths()
	out := make([][]float32, len(widths))
	for i, w := range widths {
		out[i] = make([]float32, rows*w)
		y := make([]float32, rows*w)
		for j := range y {
			y[j] = float32(r.NormFloat64())
		}
		batch.Y = append(batch.Y, y)
		step.Y = append(step.Y, modeltest.Tensor(rows, d.Shapes()[g.Outputs[i]], y))
	}
	for range rows {
		batch.Weight = append(batch.Weight, float32(2*r.Float64()))
	}
	step.SampleWeight = batch.Weight
	want, err := oracle.Gradients(kerastest.Model{Graph: &g, Weights: weights}, step)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Predict(batch, out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		modeltest.Near(t, "output "+g.Outputs[i], out[i], want.Outputs[i].Values())
	}
	loss, err := n.Step(batch)
	if err != nil {
		t.Fatal(err)
	}
	modeltest.Near(t, "loss", []float32{loss}, []float64{want.Loss})
	compareVariables(t, d, n, want)
}

func batchOf(rows int, x []float32) *pipeline.Batch {
	return &pipeline.Batch{Rows: rows, X: [][]float32{x}}
}

// compareVariables compares gradients and state. A gradient is judged beside the largest one of its part of a joined
// graph, which its name begins with.
func compareVariables(t *testing.T, d *model.Definition, n *model.Network, want kerastest.Result) {
	t.Helper()
	vars, err := d.Variables()
	if err != nil {
		t.Fatal(err)
	}
	byName, largest := map[string][]float64{}, map[string]float64{}
	part := func(name string) string { return strings.SplitN(name, "_", 2)[0] }
	for _, g := range want.Gradients {
		byName[g.Name] = g.Values()
		largest[part(g.Name)] = max(largest[part(g.Name)], modeltest.Largest(g.Values()))
	}
	for _, s := range want.State {
		byName[s.Name] = s.Values()
	}
	for _, v := range vars {
		if v.State {
			modeltest.Near(t, "state "+v.Name, n.State()[v.Off:v.Off+v.Len], byName[v.Name])
		} else {
			modeltest.NearBeside(t, "gradient "+v.Name, n.Grads()[v.Off:v.Off+v.Len], byName[v.Name], largest[part(v.Name)])
		}
	}
}
