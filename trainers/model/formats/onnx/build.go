package onnx

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
)

// Model is what becomes a file.
type Model struct {
	Definition *model.Definition
	Params     []float32 // as Definition.Layout
	State      []float32 // as Definition.StateLayout

	// Transform is what raw rows go through, and X names the columns that come out of it and are the model's inputs.
	// Without X the file has the inputs of the model itself.
	Transform []expr.Fitted
	X         []string
	// Types holds the types of raw columns. A column that is not in it gets a type that fits what is done to it: a
	// number is Float64, a vector Float32.
	Types map[string]expr.Type

	Version  string            // of the program that writes
	Doc      string            // for people
	Metadata map[string]string // kept in the file
}

// Build translates a model. Nothing is written yet, so whatever cannot be expressed is reported before a file exists.
// m's parameters must not change until the file is written.
func Build(m Model) (*File, error) {
	vars, err := m.Definition.Variables()
	if err != nil {
		return nil, err
	}
	b := &builder{m: m, used: map[string]bool{}, consts: map[string]string{}}
	params, state := 0, 0
	b.vars = make([][]model.Variable, len(m.Definition.Layers))
	for _, v := range vars {
		b.vars[v.Layer] = append(b.vars[v.Layer], v)
		if v.State {
			state += v.Len
		} else {
			params += v.Len
		}
	}
	if params != len(m.Params) || state != len(m.State) {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the model has %d parameters and %d of state, given are %d and %d",
			params, state, len(m.Params), len(m.State))}
	}
	for _, name := range m.Definition.Outputs { // outputs keep the names of their layers
		b.used[name] = true
	}
	inputs, err := b.inputs()
	if err != nil {
		return nil, err
	}
	if err := b.layers(inputs); err != nil {
		return nil, err
	}
	return b.file()
}

// builder collects the graph.
type builder struct {
	m      Model
	vars   [][]model.Variable // by layer
	nodes  []operator
	out    File
	used   map[string]bool   // names of values
	consts map[string]string // constants that are there, by what they hold
	valid  string            // the value of the output valid, or empty
}

// name gives a name that no other value has.
func (b *builder) name(want string) string {
	name := want
	for i := 1; b.used[name]; i++ {
		name = want + ":" + strconv.Itoa(i)
	}
	b.used[name] = true
	return name
}

// node adds an operator with one result and gives the result's name.
func (b *builder) node(op string, inputs []string, attrs ...attr) string {
	out := b.name(op)
	b.add(op, inputs, out, attrs...)
	return out
}

// add adds an operator whose result has a given name.
func (b *builder) add(op string, inputs []string, out string, attrs ...attr) {
	b.addMany(op, inputs, []string{out}, attrs...)
}

// operator is one node, encoded.
type operator struct {
	inputs, outputs []string
	body            message
}

func (b *builder) addMany(op string, inputs, outputs []string, attrs ...attr) {
	var m message
	for _, in := range inputs {
		m.text(nodeInput, in)
	}
	for _, out := range outputs {
		m.text(nodeOutput, out)
	}
	m.text(nodeName, "n"+strconv.Itoa(len(b.nodes)))
	m.text(nodeOpType, op)
	for _, a := range attrs {
		m.sub(nodeAttribute, a.encode())
	}
	if op == "LabelEncoder" {
		m.text(nodeDomain, mlDomain)
	}
	b.nodes = append(b.nodes, operator{inputs, outputs, m})
}

// sweep leaves out what no output needs, such as the replacement of a NULL that never comes.
func (b *builder) sweep() {
	needed := map[string]bool{}
	for _, v := range b.out.Outputs {
		needed[v.Name] = true
	}
	var kept []operator
	for _, n := range slices.Backward(b.nodes) { // nodes stand behind what they read
		if !slices.ContainsFunc(n.outputs, func(name string) bool { return needed[name] }) {
			continue
		}
		for _, in := range n.inputs {
			needed[in] = true
		}
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	b.nodes = kept
	b.out.tensors = slices.DeleteFunc(b.out.tensors, func(t *tensor) bool { return !needed[t.name] })
}

func (b *builder) constant(t *tensor) string {
	t.name = b.name("c")
	b.out.tensors = append(b.out.tensors, t)
	return t.name
}

// weights adds a tensor of the model under its own name.
func (b *builder) weights(name string, shape []int, data []float32) string {
	t := &tensor{name: b.name(name), shape: shape, floats: data}
	b.out.tensors = append(b.out.tensors, t)
	return t.name
}

// shared adds a constant once, however often it is asked for.
func (b *builder) shared(t *tensor) string {
	key := fmt.Sprintf("%v %v %v %v %v %q %t %t %t", t.shape, t.floats, t.wide, t.ints, t.raw, t.text, t.floats != nil, t.wide != nil, t.ints != nil)
	if name, ok := b.consts[key]; ok {
		return name
	}
	b.consts[key] = b.constant(t)
	return b.consts[key]
}

// indices is a constant list of int64.
func (b *builder) indices(v ...int) string {
	t := &tensor{shape: []int{len(v)}, ints: make([]int64, len(v))}
	for i, x := range v {
		t.ints[i] = int64(x)
	}
	return b.shared(t)
}

// number is a constant float32 that broadcasts over anything.
func (b *builder) number(v float32) string { return b.shared(&tensor{floats: []float32{v}}) }

func (b *builder) cast(x string, to elem) string {
	return b.node("Cast", []string{x}, attr{"to", int(to)})
}

func (b *builder) input(name string, kind elem, shape []int) string {
	b.out.Inputs = append(b.out.Inputs, Value{Name: name, Type: kind.String(), Shape: shape, kind: kind})
	return name
}

func (b *builder) output(name string, kind elem, shape []int) {
	b.out.Outputs = append(b.out.Outputs, Value{Name: name, Type: kind.String(), Shape: shape, kind: kind})
}

func (e elem) String() string {
	switch e {
	case float32s:
		return "float32"
	case float64s:
		return "float64"
	case int64s:
		return "int64"
	case texts:
		return "string"
	}
	return "bool"
}

// file puts the parts together.
func (b *builder) file() (*File, error) {
	b.sweep()
	f := &b.out
	f.Nodes = len(b.nodes)
	f.head.int(modelIRVersion, irVersion)
	f.head.text(modelProducerName, "dkpipe")
	f.head.text(modelProducerVersion, b.m.Version)
	f.head.text(modelDoc, b.m.Doc)
	for _, o := range []struct {
		domain  string
		version int64
	}{{"", opset}, {mlDomain, mlOpset}} {
		var m message
		m.text(opsetDomain, o.domain)
		m.int(opsetVersion, o.version)
		f.tail.sub(modelOpset, m)
	}
	for _, key := range slices.Sorted(maps.Keys(b.m.Metadata)) {
		var m message
		m.text(entryKey, key)
		m.text(entryValue, b.m.Metadata[key])
		f.tail.sub(modelMetadata, m)
	}
	for _, n := range b.nodes {
		f.graph.sub(graphNode, n.body)
	}
	f.graph.text(graphName, b.m.Definition.Name)
	for _, v := range f.Inputs {
		f.graph.sub(graphInput, v.encode())
	}
	for _, v := range f.Outputs {
		f.graph.sub(graphOutput, v.encode())
	}
	return f, f.finish()
}

func unsupported(hint, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: "ONNX: " + fmt.Sprintf(format, args...), Hint: hint}
}
