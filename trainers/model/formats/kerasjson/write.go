package kerasjson

import (
	"bytes"
	"encoding/json"
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// object is one serialized Keras object: an envelope round a config.
type object struct {
	Module         string     `json:"module"`
	ClassName      string     `json:"class_name"`
	Config         any        `json:"config"`
	RegisteredName *string    `json:"registered_name"`
	BuildConfig    *buildConf `json:"build_config,omitempty"`
	Name           string     `json:"name,omitempty"`          // in a graph
	InboundNodes   *[]call    `json:"inbound_nodes,omitempty"` // in a graph
}

type buildConf struct {
	InputShape any `json:"input_shape"`
}

// call is one use of a layer.
type call struct {
	Args   []any          `json:"args"`
	Kwargs map[string]any `json:"kwargs"`
}

// fields is an object whose keys keep their order.
type fields []field

type field struct {
	key   string
	value any
}

// MarshalJSON writes an object.
func (f fields) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(x.key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(x.value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Marshal gives the definition as Keras 3 writes it, indented: a Sequential if it is a chain from one input to one
// output, else a functional model. Activations that Keras has no name for are written under ours, which Read takes and
// Keras refuses; Portable finds them.
func Marshal(d *model.Definition) ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	o, err := writeModel(d)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(o, "", " ")
}

func writeModel(d *model.Definition) (object, error) {
	if isChain(d) {
		return writeSequential(d)
	}
	return writeFunctional(d)
}

// isChain tells whether every layer reads the one before it.
func isChain(d *model.Definition) bool {
	if len(d.Inputs) != 1 || len(d.Outputs) != 1 {
		return false
	}
	from := d.Inputs[0].Name
	for _, l := range d.Layers {
		if len(l.From) != 1 || l.From[0] != from {
			return false
		}
		from = l.Name
	}
	return d.Outputs[0] == from
}

func inputObject(in model.Input) object {
	return object{Module: "keras.layers", ClassName: "InputLayer",
		Config: fields{{"batch_shape", batchShape(in.Shape)}, {"dtype", "float32"}, {"sparse", false}, {"name", in.Name}}}
}

func writeSequential(d *model.Definition) (object, error) {
	shape := batchShape(d.Inputs[0].Shape)
	layers := []object{inputObject(d.Inputs[0])}
	shapes := d.Shapes()
	for _, l := range d.Layers {
		o, err := layerObject(l, shapes)
		if err != nil {
			return object{}, err
		}
		layers = append(layers, o)
	}
	return object{Module: "keras", ClassName: "Sequential",
		Config:      fields{{"name", d.Name}, {"trainable", true}, {"dtype", "float32"}, {"layers", layers}, {"build_input_shape", shape}},
		BuildConfig: &buildConf{shape},
	}, nil
}

func writeFunctional(d *model.Definition) (object, error) {
	shapes := d.Shapes()
	tensor := func(name string) object {
		return object{ClassName: "__keras_tensor__", Config: fields{{"shape", batchShape(shapes[name])}, {"dtype", "float32"}, {"keras_history", history(name)}}}
	}
	var layers []any
	var inputs, outputs [][]any
	for _, in := range d.Inputs {
		o := inputObject(in)
		o.Name, o.InboundNodes = in.Name, &[]call{}
		layers = append(layers, o)
		inputs = append(inputs, history(in.Name))
	}
	for _, l := range d.Layers {
		o, err := layerObject(l, shapes)
		if err != nil {
			return object{}, err
		}
		c := call{Args: []any{tensorJSON(tensor(l.From[0]))}, Kwargs: map[string]any{}}
		if takesList(l.Op) {
			list := make([]any, len(l.From))
			for i, from := range l.From {
				list[i] = tensorJSON(tensor(from))
			}
			c.Args[0] = list
		}
		o.Name, o.InboundNodes = l.Name, &[]call{c}
		layers = append(layers, o)
	}
	for _, name := range d.Outputs {
		outputs = append(outputs, history(name))
	}
	registered := "Functional"
	return object{Module: "keras.src.models.functional", ClassName: "Functional", RegisteredName: &registered,
		Config: fields{{"name", d.Name}, {"trainable", true}, {"layers", layers}, {"input_layers", inputs}, {"output_layers", outputs}},
	}, nil
}

// history names the only result of a layer's only call.
func history(layer string) []any { return []any{layer, 0, 0} }

// tensorJSON leaves out what a layer's envelope has and a tensor's has not.
func tensorJSON(o object) fields {
	return fields{{"class_name", o.ClassName}, {"config", o.Config}}
}

// takesList tells the layers that are called with a list of tensors.
func takesList(op model.Op) bool {
	switch op.(type) {
	case *model.Merge, *model.Concatenate:
		return true
	}
	return false
}

// batchShape puts the batch dimension, null, before a row's shape.
func batchShape(shape []int) []*int {
	out := make([]*int, 1, len(shape)+1)
	for i := range shape {
		out = append(out, &shape[i])
	}
	return out
}

// Portable reports what of a definition Keras itself has no name for, as an error of kind Unsupported that names the
// layer: a file with it can be read here, not there.
func Portable(d *model.Definition) error {
	for _, l := range d.Layers {
		for _, name := range activationsOf(l.Op) {
			if name == "gelu_tanh" || name == "hard_sigmoid_keras2" {
				return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("layer %s: Keras 3 has no activation like %s", l.Name, name),
					Hint: "export the model as ONNX, or train it with another activation"}
			}
		}
	}
	return nil
}

func activationsOf(op model.Op) []string {
	switch op := op.(type) {
	case *model.Activation:
		return []string{op.Activation}
	case *model.Dense:
		return []string{op.Activation}
	case *model.Conv1D:
		return []string{op.Activation}
	case *model.Conv2D:
		return []string{op.Activation}
	case *model.Bidirectional:
		forward, backward := op.Directions()
		return append(activationsOf(forward), activationsOf(backward)...)
	case *model.SimpleRNN:
		return []string{op.Activation}
	case *model.LSTM:
		return []string{op.Activation, op.RecurrentActivation}
	case *model.GRU:
		return []string{op.Activation, op.RecurrentActivation}
	}
	return nil
}
