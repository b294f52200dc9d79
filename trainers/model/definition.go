package model

import (
	"fmt"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Definition is a model as data: what goes in, the layers in an order in which every layer comes after what it reads,
// and what comes out. It holds no weights.
type Definition struct {
	Name    string // for people; "sequential" unless a file says otherwise
	Inputs  []Input
	Layers  []Layer
	Outputs []string // names of layers
}

// Input is a named input. Shape is of one row, without the batch: [784], or [28, 28, 1].
type Input struct {
	Name  string
	Shape []int
}

// Layer is a named operation on the results of others. Of a frozen one nothing is trained: its weights are part of the
// network's State, so that neither optimizers nor exchanges between workers touch them, its regularizers add nothing, and
// a batch normalization works as in inference, as in Keras.
type Layer struct {
	Name   string
	From   []string // names of inputs or layers
	Op     Op
	Frozen bool // trainable: false
}

// Op is what a layer does: *Dense, *Activation, *Dropout and so on. Its fields are data; a zero field is not a default,
// so make one with NewOp.
type Op interface {
	// Kind is the layer's name in a job file: dense, dropout.
	Kind() string
	// check reports the first field whose value cannot be used.
	check() error
	// shape gives the shape of one row of the result for the shapes of the inputs, or an error that says what the
	// layer takes.
	shape(in [][]int) ([]int, error)
	// variables lists what is trained and what is kept besides (variable.state), in the order in which Keras saves it.
	variables(in [][]int) []variable
	// build adds the layer to a graph.
	build(l *layerGraph, in []graph.Node) (graph.Node, error)
}

// variable is one tensor of a layer.
type variable struct {
	name  string
	shape []int
	init  Initializer
	reg   Regularizer // of what is trained
	ones  [2]int      // from here to there it starts as 1, whatever init says
	state bool        // never trained, such as a moving mean: it lives in the network's State
}

// layerGraph is what a layer may use while it is built.
type layerGraph struct {
	b        *graph.Builder
	in       [][]int      // shapes of one row of the inputs
	params   []graph.Node // one a variable that is trained unless the layer is frozen, in the order of variables
	state    []int        // places of the other variables in the state vector, in the order of variables
	training bool
	frozen   bool
	alone    bool   // nobody else reads the first input, and it is no output
	seed     uint64 // differs between layers
}

// seedOr is the seed of what a layer draws: its own, if it has one.
func (l *layerGraph) seedOr(own *int64) uint64 {
	if own != nil {
		return uint64(*own)
	}
	return l.seed
}

// activate ends a layer whose rows have this shape with a named activation.
func (l *layerGraph) activate(x graph.Node, activation string, shape []int) (graph.Node, error) {
	return l.b.Activation(x, activation, lastOf(shape))
}

// first gives the first error of several checks.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// one gives the shape of the only input, for layers that take one.
func one(in [][]int) ([]int, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("takes one input, has %d", len(in))
	}
	return in[0], nil
}

// kinds lists every layer with its defaults. A new layer is one file and one line here.
func kinds() []Op {
	all := []Op{
		&Activation{},
		&AveragePooling1D{newPooling1D()},
		&AveragePooling2D{newPooling()},
		newBatchNormalization(),
		&Bidirectional{MergeMode: "concat"},
		&Concatenate{Axis: -1},
		newConv1D(),
		newConv2D(),
		&Dense{Activation: "linear", UseBias: true, KernelInitializer: GlorotUniform, BiasInitializer: Zeros},
		&Dropout{},
		&ELU{Alpha: 1},
		&Embedding{EmbeddingsInitializer: RandomUniform},
		&Flatten{},
		&GaussianNoise{},
		&GlobalAveragePooling1D{},
		&GlobalAveragePooling2D{},
		&GlobalMaxPooling1D{},
		&GlobalMaxPooling2D{},
		newGRU(),
		newLayerNormalization(),
		&Rectifier{Leaky: true, NegativeSlope: 0.3},
		newLSTM(),
		&MaxPooling1D{newPooling1D()},
		&MaxPooling2D{newPooling()},
		&Rectifier{},
		&Reshape{},
		newSimpleRNN(),
	}
	for _, how := range mergers() {
		all = append(all, &Merge{How: how})
	}
	return all
}

// Kinds lists the layers that a job file can name, in alphabetical order.
func Kinds() []string {
	var names []string
	for _, op := range kinds() {
		names = append(names, op.Kind())
	}
	slices.Sort(names)
	return names
}

// NewOp gives the named layer with its defaults. An unknown name is an error of kind Unsupported that lists the known ones.
func NewOp(kind string) (Op, error) {
	for _, op := range kinds() {
		if op.Kind() == kind {
			return op, nil
		}
	}
	return nil, unknown(pipeline.Unsupported, "layer", kind, Kinds())
}

// Check reports the first thing that makes the definition unusable: names used twice, a layer that reads what comes
// later, a field out of range, shapes that do not fit, a layer that leads nowhere.
func (d *Definition) Check() error {
	_, err := d.shapes()
	return err
}

// shapes checks the definition and gives the shape of one row of every input and layer by name.
func (d *Definition) shapes() (map[string][]int, error) {
	shapes := map[string][]int{}
	read := map[string]bool{}
	if len(d.Inputs) == 0 || len(d.Layers) == 0 || len(d.Outputs) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("model %s needs inputs, layers and outputs", d.Name)}
	}
	for _, in := range d.Inputs {
		if _, ok := shapes[in.Name]; ok {
			return nil, badLayer(in.Name, fmt.Errorf("the name is used twice"))
		}
		if in.Name == "" {
			return nil, badLayer("input", fmt.Errorf("it has no name"))
		}
		if size(in.Shape) < 1 || size(in.Shape) > maxFloats {
			return nil, badLayer("input "+in.Name, fmt.Errorf("shape %v has no usable size", in.Shape))
		}
		shapes[in.Name] = in.Shape
	}
	for _, l := range d.Layers {
		if _, ok := shapes[l.Name]; ok || l.Name == "" {
			return nil, badLayer("layer "+l.Name, fmt.Errorf("the name is empty or used twice"))
		}
		if l.Op == nil {
			return nil, badLayer("layer "+l.Name, fmt.Errorf("it does nothing"))
		}
		if err := l.Op.check(); err != nil {
			return nil, badLayer(fmt.Sprintf("layer %s (%s)", l.Name, l.Op.Kind()), err)
		}
		in, err := inputShapes(shapes, l)
		if err != nil {
			return nil, err
		}
		out, err := l.Op.shape(in)
		if err != nil {
			return nil, badLayer(fmt.Sprintf("layer %s (%s)", l.Name, l.Op.Kind()), err)
		}
		for _, name := range l.From {
			read[name] = true
		}
		shapes[l.Name] = out
	}
	for _, name := range d.Outputs {
		if !slices.ContainsFunc(d.Layers, func(l Layer) bool { return l.Name == name }) {
			return nil, badLayer("output "+name, fmt.Errorf("there is no such layer"))
		}
		read[name] = true
	}
	for name := range shapes {
		if !read[name] {
			return nil, badLayer(name, fmt.Errorf("nothing reads it and it is no output"))
		}
	}
	return shapes, nil
}

func inputShapes(shapes map[string][]int, l Layer) ([][]int, error) {
	var in [][]int
	for _, name := range l.From {
		s, ok := shapes[name]
		if !ok {
			return nil, badLayer("layer "+l.Name, fmt.Errorf("it reads %q, which does not come before it", name))
		}
		in = append(in, s)
	}
	return in, nil
}

// Widths gives the number of floats in a row of every input and output. The definition must be sound.
func (d *Definition) Widths() (inputs, outputs []int) {
	shapes, err := d.shapes()
	if err != nil {
		return nil, nil
	}
	for _, in := range d.Inputs {
		inputs = append(inputs, size(in.Shape))
	}
	for _, name := range d.Outputs {
		outputs = append(outputs, size(shapes[name]))
	}
	return inputs, outputs
}

// CheckWidths compares the model with the widths of a dataset's x and y columns, so that a mismatch is found before
// anything is trained. y nil compares the inputs only.
func (d *Definition) CheckWidths(x, y []int) error {
	if err := d.Check(); err != nil {
		return err
	}
	inputs, outputs := d.Widths()
	if !slices.Equal(inputs, x) {
		return &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("the model takes inputs of width %s, the dataset has x columns of width %s", widths(inputs), widths(x)),
			Hint:    "change the model's input shape or columns.x"}
	}
	if y != nil && !slices.Equal(outputs, y) {
		return &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("the model gives outputs of width %s, the dataset has y columns of width %s", widths(outputs), widths(y)),
			Hint:    "change the units of the last layer or columns.y"}
	}
	return nil
}

func widths(w []int) string {
	if len(w) == 1 {
		return fmt.Sprint(w[0])
	}
	return strings.ReplaceAll(fmt.Sprint(w), " ", ", ")
}

// maxFloats bounds every tensor of a definition, which may come from a file: 4 GiB of float32.
const maxFloats = 1 << 30

// size is the number of elements of a shape, or -1 if a dimension is not positive or the product is above maxFloats.
func size(shape []int) int {
	n := 1
	for _, d := range shape {
		if d < 1 || d > maxFloats/n {
			return -1
		}
		n *= d
	}
	return n
}

// badLayer names the layer that an error belongs to. A cause that already has a kind keeps it.
func badLayer(where string, err error) error {
	e := &pipeline.Error{Kind: pipeline.BadSpec, Message: where, Err: err}
	if k, ok := err.(*pipeline.Error); ok {
		return &pipeline.Error{Kind: k.Kind, Message: where + ": " + k.Message, Hint: k.Hint, Err: k.Err}
	}
	return e
}

// Shapes gives the shape of one row of every input and layer by name; nil when the definition is not sound.
func (d *Definition) Shapes() map[string][]int {
	shapes, err := d.shapes()
	if err != nil {
		return nil
	}
	return shapes
}
