package model_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/model/modeltest"
)

// Every initializer draws from the distribution of Keras: the two samples' distribution functions are nowhere further
// apart than those of equal distributions are once in a thousand times (Kolmogorov and Smirnov), and the bounds agree.
func TestEveryInitializerIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	for _, c := range []struct {
		layer kerastest.Layer
		in    []int
		shape []int // of the kernel
	}{
		{kerastest.Layer{Kind: "dense", Fields: map[string]any{"units": 120}}, []int{200}, []int{200, 120}},
		{kerastest.Layer{Kind: "conv1d", Fields: map[string]any{"filters": 96, "kernel_size": 5}}, []int{8, 48}, []int{5, 48, 96}},
		{kerastest.Layer{Kind: "conv2d", Fields: map[string]any{"filters": 48, "kernel_size": []int{5, 3}}}, []int{8, 8, 24}, []int{5, 3, 24, 48}},
	} {
		for _, name := range append(model.Initializers(), "constant(value=0.3)", "random_normal(mean=1, stddev=0.2)", "truncated_normal(mean=-1, stddev=0.3)",
			"random_uniform(minval=0, maxval=2)", "orthogonal(gain=2)", "identity(gain=3)", "variance_scaling(scale=2, mode=fan_out, distribution=uniform)",
			"variance_scaling(scale=0.5, mode=fan_avg, distribution=untruncated_normal)") {
			if strings.HasPrefix(name, "identity") && len(c.shape) != 2 {
				continue // there is none
			}
			t.Run(c.layer.Kind+"/"+name, func(t *testing.T) {
				config, err := model.Initializer(name).Config()
				if err != nil {
					t.Fatal(err)
				}
				options := config.Options()
				for _, random := range []string{"normal", "uniform", "scaling", "orthogonal"} {
					if strings.HasSuffix(config.Name, random) {
						options["seed"] = 7
					}
				}
				_, arrays, err := oracle.Python(`
def main(args, arrays):
    name = "".join(word.capitalize() for word in args["name"].split("_"))
    initializer = keras.initializers.get({"class_name": name, "config": args["options"]})
    return None, {"x": np.asarray(initializer(args["shape"], "float32")).ravel()}
`, map[string]any{"name": config.Name, "options": options, "shape": c.shape})
				if err != nil {
					t.Fatal(err)
				}
				c.layer.Name, c.layer.From, c.layer.Fields["kernel_initializer"] = "layer", []string{"in"}, name
				d, err := modeltest.Definition(kerastest.Graph{Name: "m", Inputs: []kerastest.Input{{Name: "in", Shape: c.in}}, Layers: []kerastest.Layer{c.layer}, Outputs: []string{"layer"}})
				if err != nil {
					t.Fatal(err)
				}
				n, err := model.Compile(d, model.Config{Batch: 1})
				if err != nil {
					t.Fatal(err)
				}
				n.Init(1)
				sameDistribution(t, n.Params()[:len(arrays[0].Data)], arrays[0].Data)
			})
		}
	}
}

func sameDistribution(t *testing.T, a, b []float32) {
	t.Helper()
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	n := len(a)
	apart, j := 0, 0
	for i := range a {
		if i+1 < n && a[i+1] == a[i] {
			continue // count equal values together
		}
		for j < n && b[j] <= a[i] {
			j++
		}
		apart = max(apart, i+1-j, j-i-1)
	}
	// Both samples have n values; 1.95 is the 0.1 % point of the limit distribution.
	if d, most := float64(apart)/float64(n), 1.95*math.Sqrt(2/float64(n)); d > most {
		t.Errorf("the distributions are %.4f apart, at most %.4f is chance; ours from %g to %g, Keras' from %g to %g", d, most, a[0], a[n-1], b[0], b[n-1])
	}
	// A bound that is off shows in the extremes long before it shows in the distance; a normal has none, its
	// extremes of so many values vary by a tenth.
	for _, e := range [][2]float32{{a[0], b[0]}, {a[n-1], b[n-1]}} {
		if d := math.Abs(float64(e[0] - e[1])); d > 0.2*math.Abs(float64(e[1])) {
			t.Errorf("the extremes are %g, Keras' are %g", e[0], e[1])
		}
	}
}

// Activations that Keras knows only as a function with arguments are compared with that.
func TestActivationsWithoutANameInKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	for name, code := range map[string]string{
		"gelu_tanh":           "keras.activations.gelu(x, approximate=True)",
		"hard_sigmoid_keras2": "np.clip(0.2 * x + 0.5, 0, 1)",
	} {
		d, err := modeltest.Definition(kerastest.Graph{Name: "m", Inputs: []kerastest.Input{{Name: "in", Shape: []int{4}}},
			Layers: []kerastest.Layer{{Name: "a", Kind: "activation", From: []string{"in"}, Fields: map[string]any{"activation": name}}}, Outputs: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		n, err := model.Compile(d, model.Config{Batch: 3})
		if err != nil {
			t.Fatal(err)
		}
		x := kerastest.Tensor{Name: "x", Shape: []int{3, 4}, Data: []float32{-4, -2.6, -2.4, -1, -0.3, 0, 0.1, 0.7, 1, 2.4, 2.6, 5}}
		_, want, err := oracle.Python(fmt.Sprintf("def main(args, arrays):\n  x = arrays['x'].astype('float64')\n  return None, {'y': np.asarray(%s)}", code), nil, x)
		if err != nil {
			t.Fatal(err)
		}
		out := [][]float32{make([]float32, 12)}
		if err := n.Predict(batchOf(3, x.Data), out); err != nil {
			t.Fatal(err)
		}
		modeltest.Near(t, name, out[0], want[0].Values())
	}
}

// Every other activation has its name in Keras, and its value and gradient. All run in one model.
func TestEveryActivationIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	g := kerastest.Graph{Name: "activations", Inputs: []kerastest.Input{{Name: "in", Shape: []int{3}}}}
	for _, name := range model.Activations() {
		if name == "gelu_tanh" || name == "hard_sigmoid_keras2" {
			continue
		}
		for _, l := range []kerastest.Layer{
			{Name: "dense_" + name, Kind: "dense", Class: "Dense", From: []string{"in"}, Fields: map[string]any{"units": 7}},
			{Name: name, Kind: "activation", Class: "Activation", From: []string{"dense_" + name}, Fields: map[string]any{"activation": name}},
		} {
			l.Keras = l.Fields
			g.Layers = append(g.Layers, l)
		}
		g.Outputs = append(g.Outputs, name)
	}
	if len(g.Outputs) < 15 {
		doc, _ := json.Marshal(g.Outputs)
		t.Fatalf("only %s", doc)
	}
	compareStep(t, oracle, g)
}
