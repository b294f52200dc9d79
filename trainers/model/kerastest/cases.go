package kerastest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Draw makes a random small graph around a layer of the kind: what is before it is trained, so that the gradient has
// to pass through, and it ends with a vector. False: there is no case for this kind.
func Draw(kind string, r *rand.Rand) (Graph, bool) {
	c, ok := cases()[kind]
	if !ok {
		return Graph{}, false
	}
	b := &builder{r: r, graph: Graph{Name: kind}, used: map[string]int{}}
	c.draw(b)
	return b.graph, true
}

// Kinds lists the kinds that Draw knows.
func Kinds() []string { return slices.Sorted(maps.Keys(cases())) }

// builder puts a graph together.
type builder struct {
	r     *rand.Rand
	graph Graph
	used  map[string]int
	last  string // what add reads
}

// input adds an input.
func (b *builder) input(classes int, shape ...int) string {
	b.last = fmt.Sprintf("input_%d", len(b.graph.Inputs))
	b.graph.Inputs = append(b.graph.Inputs, Input{b.last, shape, classes})
	return b.last
}

// features adds an input with a trained layer after it, so that the layer under test has a gradient to give on. The
// last dimension of shape is what comes out.
func (b *builder) features(shape ...int) string {
	in := slices.Clone(shape)
	in[len(in)-1] = 3
	b.input(0, in...)
	return b.add("dense", fields{"units": shape[len(shape)-1]})
}

type fields = map[string]any

// add adds a layer that reads from, or else what was added last.
func (b *builder) add(kind string, f fields, from ...string) string {
	return b.addKeras(kind, f, f, from...)
}

// addKeras is add for fields that Keras writes in another way.
func (b *builder) addKeras(kind string, f, keras fields, from ...string) string {
	if from == nil {
		from = []string{b.last}
	}
	name := kind
	if n := b.used[kind]; n > 0 {
		name = fmt.Sprintf("%s_%d", kind, n)
	}
	b.used[kind]++
	if keras == nil {
		keras = fields{}
	}
	b.graph.Layers = append(b.graph.Layers, Layer{Name: name, Kind: kind, Class: cases()[kind].class, From: from, Fields: f, Keras: keras})
	b.last = name
	return name
}

// end makes a vector of what was added last, and that the output.
func (b *builder) end(flat bool) {
	if !flat {
		b.add("flatten", nil)
	}
	b.add("dense", fields{"units": 2})
	b.graph.Outputs = append(b.graph.Outputs, b.last)
}

func (b *builder) between(low, high int) int { return low + b.r.IntN(high-low+1) }

func (b *builder) coin() bool { return b.r.IntN(2) == 0 }

func pick[T any](b *builder, of ...T) T { return of[b.r.IntN(len(of))] }

// regularizer adds l1 and l2 of a variable on both sides, or nothing.
func (b *builder) regularizer(name string, f, keras fields) {
	if b.coin() {
		l1, l2 := 0.01*b.r.Float64(), 0.01*b.r.Float64()
		f[name] = fields{"l1": l1, "l2": l2}
		keras[name] = fields{"module": "keras.regularizers", "class_name": "L1L2", "config": fields{"l1": l1, "l2": l2}, "registered_name": nil}
	}
}

// image adds a feature map that is large enough for a window.
func (b *builder) image(least int) {
	b.features(b.between(least, 8), b.between(least, 8), b.between(1, 5))
}

// A layerCase is the class of a layer in Keras and how to draw one.
type layerCase struct {
	class string
	draw  func(b *builder)
}

func cases() map[string]layerCase {
	return map[string]layerCase{
		"activation":               {"Activation", drawActivation},
		"add":                      {"Add", drawMerge("add", 3)},
		"average":                  {"Average", drawMerge("average", 3)},
		"average_pooling1d":        {"AveragePooling1D", drawPooling1D("average_pooling1d")},
		"average_pooling2d":        {"AveragePooling2D", drawPooling("average_pooling2d")},
		"batch_normalization":      {"BatchNormalization", drawBatchNormalization},
		"bidirectional":            {"Bidirectional", drawBidirectional},
		"concatenate":              {"Concatenate", drawConcatenate},
		"conv1d":                   {"Conv1D", drawConv1D},
		"conv2d":                   {"Conv2D", drawConv2D},
		"dense":                    {"Dense", drawDense},
		"dropout":                  {"Dropout", drawDropout},
		"elu":                      {"ELU", drawELU},
		"embedding":                {"Embedding", drawEmbedding},
		"flatten":                  {"Flatten", drawFlatten},
		"gaussian_noise":           {"GaussianNoise", drawGaussianNoise},
		"global_average_pooling1d": {"GlobalAveragePooling1D", drawGlobal1D("global_average_pooling1d")},
		"global_average_pooling2d": {"GlobalAveragePooling2D", drawGlobal("global_average_pooling2d")},
		"global_max_pooling1d":     {"GlobalMaxPooling1D", drawGlobal1D("global_max_pooling1d")},
		"global_max_pooling2d":     {"GlobalMaxPooling2D", drawGlobal("global_max_pooling2d")},
		"gru":                      {"GRU", drawRecurrent("gru")},
		"layer_normalization":      {"LayerNormalization", drawLayerNormalization},
		"leaky_relu":               {"LeakyReLU", drawLeakyReLU},
		"lstm":                     {"LSTM", drawRecurrent("lstm")},
		"max_pooling1d":            {"MaxPooling1D", drawPooling1D("max_pooling1d")},
		"max_pooling2d":            {"MaxPooling2D", drawPooling("max_pooling2d")},
		"maximum":                  {"Maximum", drawMerge("maximum", 3)},
		"minimum":                  {"Minimum", drawMerge("minimum", 3)},
		"multiply":                 {"Multiply", drawMerge("multiply", 3)},
		"relu":                     {"ReLU", drawReLU},
		"reshape":                  {"Reshape", drawReshape},
		"simple_rnn":               {"SimpleRNN", drawRecurrent("simple_rnn")},
		"subtract":                 {"Subtract", drawMerge("subtract", 2)},
	}
}
