package model_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/goccy/go-yaml"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/model/modeltest"
	"dkpipe/trainers/optim"
)

// train_on_batch of Keras, with everything in float64.
const trainInKeras = `
def main(args, arrays):
    with Precision("float64"):
        model = make_model(args["model"], "float64")
        set_weights(model, by_layer(list(arrays.items()), "weight"))
        model.compile(optimizer=keras.optimizers.deserialize(args["optimizer"]), loss=args["loss"])
        for x, y in zip(arrays["x"].astype("float64"), arrays["y"].astype("float64")):
            model.train_on_batch(x, y)
        return None, {name: v.value for name, v in layer_variables(model)}
`

// Ten steps of training end where Keras' training ends: batch normalization with its moving statistics, a branch, and
// an optimizer with a schedule, weight decay and clipping by tensor.
func TestTrainingIsThatOfKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	layer := func(name, kind, class string, fields map[string]any, from ...string) kerastest.Layer {
		if fields == nil {
			fields = map[string]any{}
		}
		return kerastest.Layer{Name: name, Kind: kind, Class: class, From: from, Fields: fields, Keras: fields}
	}
	type f = map[string]any
	g := kerastest.Graph{Name: "residual", Inputs: []kerastest.Input{{Name: "image", Shape: []int{6, 6, 2}}}, Outputs: []string{"out"}, Layers: []kerastest.Layer{
		layer("conv", "conv2d", "Conv2D", f{"filters": 4, "kernel_size": []int{3, 3}, "padding": "same", "use_bias": false}, "image"),
		layer("norm", "batch_normalization", "BatchNormalization", f{"momentum": 0.8}, "conv"),
		layer("relu", "relu", "ReLU", nil, "norm"),
		layer("conv2", "conv2d", "Conv2D", f{"filters": 4, "kernel_size": []int{3, 3}, "padding": "same", "activation": "tanh"}, "relu"),
		layer("sum", "add", "Add", nil, "relu", "conv2"),
		layer("pool", "max_pooling2d", "MaxPooling2D", nil, "sum"),
		layer("flat", "flatten", "Flatten", nil, "pool"),
		layer("out", "dense", "Dense", f{"units": 3, "activation": "softmax"}, "flat"),
	}}
	schedule := f{"initial_learning_rate": 0.001, "decay_steps": 6, "warmup_target": 0.02, "warmup_steps": 3}
	for _, c := range []struct {
		name, class string
		fields      f
	}{
		{"sgd", "SGD", f{"momentum": 0.9, "nesterov": true, "clipnorm": 0.1}},
		{"adamw", "AdamW", f{"weight_decay": 0.01, "global_clipnorm": 0.5}},
		{"rmsprop", "RMSprop", f{"centered": true, "epsilon": 1e-3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fields["learning_rate"] = f{"cosine_decay": schedule}
			d, n, batches, arrays := trainingData(t, g)
			text, err := oracle.Build(g)
			if err != nil {
				t.Fatal(err)
			}
			config := f{}
			for k, v := range c.fields {
				config[k] = v
			}
			config["learning_rate"] = f{"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "config": schedule, "registered_name": nil}
			_, want, err := oracle.Python(trainInKeras, f{"model": string(text), "loss": "categorical_crossentropy",
				"optimizer": f{"module": "keras.optimizers", "class_name": c.class, "config": config, "registered_name": nil}}, arrays...)
			if err != nil {
				t.Fatal(err)
			}
			var lengths []int
			for _, p := range n.Layout() {
				lengths = append(lengths, p.Len)
			}
			o, err := optim.New(c.name, func(into any) error {
				doc, err := json.Marshal(c.fields)
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
			for i, w := range want {
				if have[i].Name != w.Name {
					t.Fatalf("variable %d is %s, Keras has %s", i, have[i].Name, w.Name)
				}
				modeltest.Near(t, w.Name, have[i].Data, w.Values())
			}
		})
	}
}

// trainingData makes a network of the graph, ten batches for it, and both as arrays for Keras.
func trainingData(t *testing.T, g kerastest.Graph) (*model.Definition, *model.Network, []*pipeline.Batch, []kerastest.Tensor) {
	t.Helper()
	d, err := modeltest.Definition(g)
	if err != nil {
		t.Fatal(err)
	}
	const steps, rows, classes = 10, 8, 3
	n, err := model.Compile(d, model.Config{Batch: rows, Loss: "categorical_crossentropy"})
	if err != nil {
		t.Fatal(err)
	}
	n.Init(4)
	var arrays []kerastest.Tensor
	weights, err := modeltest.Weights(d, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range weights {
		w.Name, w.Data = "weight:"+w.Name, append([]float32(nil), w.Data...)
		arrays = append(arrays, w)
	}
	r := rand.New(rand.NewPCG(8, 8))
	x := kerastest.Tensor{Name: "x", Shape: append([]int{steps, rows}, g.Inputs[0].Shape...)}
	y := kerastest.Tensor{Name: "y", Shape: []int{steps, rows, classes}}
	var batches []*pipeline.Batch
	for range steps {
		b, _ := modeltest.Batch(g, rows, r)
		target := make([]float32, rows*classes)
		for i := range rows {
			target[i*classes+r.IntN(classes)] = 1
		}
		b.Y = [][]float32{target}
		x.Data, y.Data = append(x.Data, b.X[0]...), append(y.Data, target...)
		batches = append(batches, b)
	}
	return d, n, batches, append(arrays, x, y)
}
