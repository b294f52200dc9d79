package kerasjson_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasjson"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/model/modeltest"
)

// drawn is a random graph of every kind of layer.
func drawn(t *testing.T, seed uint64) []kerastest.Graph {
	t.Helper()
	var graphs []kerastest.Graph
	for i, kind := range model.Kinds() {
		g, ok := kerastest.Draw(kind, rand.New(rand.NewPCG(seed, uint64(i))))
		if !ok {
			t.Fatalf("kerastest has no case for %s", kind)
		}
		graphs = append(graphs, g)
	}
	return graphs
}

// What Keras writes of every layer, with random settings, is read as the same layer.
func TestWhatKerasWritesIsRead(t *testing.T) {
	oracle := kerastest.Start(t)
	for seed := range uint64(3) {
		g := kerastest.Join(drawn(t, seed)...)
		want, err := modeltest.Definition(g)
		if err != nil {
			t.Fatal(err)
		}
		data, err := oracle.Build(g)
		if err != nil {
			t.Fatal(err)
		}
		got, err := kerasjson.Unmarshal(data)
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != want.Name || !slices.Equal(got.Outputs, want.Outputs) || !reflect.DeepEqual(got.Inputs, want.Inputs) || len(got.Layers) != len(want.Layers) {
			t.Fatalf("%s has inputs %v, outputs %v and %d layers; want %s, %v, %v, %d", got.Name, got.Inputs, got.Outputs, len(got.Layers),
				want.Name, want.Inputs, want.Outputs, len(want.Layers))
		}
		byName := map[string]model.Layer{}
		for _, l := range got.Layers {
			byName[l.Name] = l
		}
		for i, l := range want.Layers { // Keras lists layers by their depth
			writeStrides(l.Op)
			if !reflect.DeepEqual(byName[l.Name], l) {
				t.Errorf("%s of %v was read as %+v %+v, want %+v %+v", g.Layers[i].Class, g.Layers[i].Keras, byName[l.Name], byName[l.Name].Op, l, l.Op)
			}
		}
	}
}

// writeStrides writes the default of strides out, as Keras does.
func writeStrides(op model.Op) {
	var p *model.Pooling
	switch op := op.(type) {
	case *model.MaxPooling2D:
		p = &op.Pooling
	case *model.AveragePooling2D:
		p = &op.Pooling
	case *model.MaxPooling1D:
		op.Strides = op.Stride()
		return
	case *model.AveragePooling1D:
		op.Strides = op.Stride()
		return
	default:
		return
	}
	if p.Strides == (model.Pair{}) {
		p.Strides = p.PoolSize
	}
}

// What we write of every layer is loaded by Keras and predicts the same: as a functional model, and where it is a chain
// as a Sequential.
func TestWhatWeWriteIsLoadedByKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	graphs := drawn(t, 7)
	for i, kind := range model.Kinds() {
		t.Run(kind, func(t *testing.T) { predictsTheSame(t, oracle, graphs[i]) })
	}
	t.Run("together", func(t *testing.T) { predictsTheSame(t, oracle, kerastest.Join(graphs...)) })
}

func predictsTheSame(t *testing.T, oracle *kerastest.Oracle, g kerastest.Graph) {
	d, err := modeltest.Definition(g)
	if err != nil {
		t.Fatal(err)
	}
	data, err := kerasjson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	class := "Functional"
	if len(g.Inputs) == 1 && !slices.ContainsFunc(g.Layers, func(l kerastest.Layer) bool { return len(l.From) > 1 }) {
		class = "Sequential"
	}
	if !strings.Contains(string(data), fmt.Sprintf("\"class_name\": %q", class)) {
		t.Errorf("it was not written as %s", class)
	}
	const rows = 3
	n, err := model.Compile(d, model.Config{Batch: rows})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	modeltest.Scramble(n, r)
	weights, err := modeltest.Weights(d, n)
	if err != nil {
		t.Fatal(err)
	}
	batch, x := modeltest.Batch(g, rows, r)
	want, err := oracle.Forward(kerastest.Model{JSON: data, Weights: weights}, x...)
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
