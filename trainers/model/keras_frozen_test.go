package model_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"

	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/model/modeltest"
	"dkpipe/trainers/optim"
)

// Every layer computes what Keras computes when it is frozen, with trained layers before and after it: outputs, loss,
// the gradients of the others, and that nothing of it moves.
func TestEveryFrozenLayerIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	var graphs []kerastest.Graph
	for i, kind := range model.Kinds() {
		for seed := range uint64(2) {
			g, ok := kerastest.Draw(kind, rand.New(rand.NewPCG(20+seed, uint64(i))))
			if !ok {
				t.Fatalf("kerastest has no case for %s", kind)
			}
			if !g.Random {
				graphs = append(graphs, freeze(g, kind, seed == 1))
			}
		}
	}
	for part := range slices.Chunk(graphs, 15) {
		compareStep(t, oracle, kerastest.Join(part...))
	}
}

// freeze freezes the layers of a kind, and what comes before them, too, if that is asked for.
func freeze(g kerastest.Graph, kind string, before bool) kerastest.Graph {
	last := len(g.Layers) - 1 // the end is trained
	for i := range g.Layers[:last] {
		g.Layers[i].Frozen = before || g.Layers[i].Kind == kind
	}
	return g
}

// Fine-tuning ends where it ends in Keras: the body of a network is frozen, with a batch normalization in it, and weight
// decay, clipping and regularizers leave it alone.
func TestFineTuningIsThatOfKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	type f = map[string]any
	layer := func(name, kind, class string, frozen bool, fields f, keras f, from string) kerastest.Layer {
		return kerastest.Layer{Name: name, Kind: kind, Class: class, From: []string{from}, Fields: fields, Keras: keras, Frozen: frozen}
	}
	conv := f{"filters": 4, "kernel_size": []int{3, 3}, "padding": "same", "activation": "relu"}
	out := f{"units": 3, "activation": "softmax"}
	decayed, inKeras := f{"units": 6, "kernel_regularizer": f{"l2": 0.1}}, f{"units": 6, "kernel_regularizer": f{"module": "keras.regularizers", "class_name": "L2", "config": f{"l2": 0.1}, "registered_name": nil}}
	g := kerastest.Graph{Name: "tuned", Inputs: []kerastest.Input{{Name: "image", Shape: []int{6, 6, 2}}}, Outputs: []string{"out"}, Layers: []kerastest.Layer{
		layer("conv", "conv2d", "Conv2D", false, conv, conv, "image"),
		layer("conv2", "conv2d", "Conv2D", true, conv, conv, "conv"),
		layer("norm", "batch_normalization", "BatchNormalization", true, f{}, f{}, "conv2"),
		layer("pool", "max_pooling2d", "MaxPooling2D", false, f{}, f{}, "norm"),
		layer("norm2", "batch_normalization", "BatchNormalization", false, f{}, f{}, "pool"),
		layer("flat", "flatten", "Flatten", false, f{}, f{}, "norm2"),
		layer("hidden", "dense", "Dense", true, decayed, inKeras, "flat"),
		layer("out", "dense", "Dense", false, out, out, "hidden"),
	}}
	text, err := oracle.Build(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, clip := range []string{"clipnorm", "global_clipnorm"} {
		d, n, batches, arrays := trainingData(t, g)
		fields := f{"learning_rate": 0.01, "weight_decay": 0.05, clip: 0.2}
		_, want, err := oracle.Python(trainInKeras, f{"model": string(text), "loss": "categorical_crossentropy",
			"optimizer": f{"module": "keras.optimizers", "class_name": "Adam", "config": fields, "registered_name": nil}}, arrays...)
		if err != nil {
			t.Fatal(err)
		}
		var lengths []int
		for _, p := range n.Layout() {
			lengths = append(lengths, p.Len)
		}
		o, err := optim.New("adam", func(into any) error {
			doc, err := json.Marshal(fields)
			if err != nil {
				return err
			}
			return yaml.UnmarshalWithOptions(doc, into, yaml.Strict())
		}, lengths...)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			if _, err := n.Step(b); err != nil {
				t.Fatal(err)
			}
			o.Apply(n.Params(), n.Grads())
		}
		have, err := modeltest.Weights(d, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			i := slices.IndexFunc(have, func(h kerastest.Tensor) bool { return h.Name == w.Name })
			if i < 0 {
				t.Fatalf("there is no variable %s", w.Name)
			}
			modeltest.Near(t, clip+": "+w.Name, have[i].Data, w.Values())
		}
	}
}
