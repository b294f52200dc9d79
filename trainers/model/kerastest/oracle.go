package kerastest

import (
	"encoding/json"
	"strings"
)

// Model is a Keras model as JSON with weights, named layer/variable. The weights of a layer stand in Keras' order
// (a batch normalization has gamma, beta, moving_mean, moving_variance); the order of the layers does not matter.
type Model struct {
	JSON    []byte
	Graph   *Graph // instead of JSON
	Weights []Tensor
}

// Step is one training step.
type Step struct {
	X, Y         []Tensor // one an input and an output, with the batch as first dimension
	SampleWeight []float32
	// Loss is a name, an object {"class_name", "config"}, or a list with one for every output.
	Loss        any
	LossWeights []float64 // one an output; nil: 1
	Inference   bool      // layers behave as in prediction: dropout does nothing, batch normalization uses what it has
}

// Result is what a step gives.
type Result struct {
	Loss      float64
	Gradients []Tensor // of what is trained, named layer/variable
	State     []Tensor // what is not trained, as it stands after the step
	Outputs   []Tensor // in inference mode, before the step
}

// Forward gives the outputs in inference mode.
func (o *Oracle) Forward(m Model, x ...Tensor) ([]Tensor, error) {
	r, err := o.Gradients(m, Step{X: x})
	return r.Outputs, err
}

// Gradients runs one training step forward and backward, in float64. Without a loss it only gives the outputs.
func (o *Oracle) Gradients(m Model, s Step) (Result, error) {
	args := map[string]any{"loss": s.Loss, "loss_weights": s.LossWeights, "training": !s.Inference}
	if m.Graph != nil {
		args["graph"] = m.Graph.words()
	} else {
		args["model"] = string(m.JSON)
	}
	tensors := rename("weight:", m.Weights)
	tensors = append(tensors, as("x", s.X)...)
	tensors = append(tensors, as("y", s.Y)...)
	if s.SampleWeight != nil {
		tensors = append(tensors, Tensor{Name: "w", Data: s.SampleWeight})
	}
	var r Result
	out, err := o.ask("run", args, tensors, &r)
	r.Gradients, r.State, r.Outputs = named("gradient:", out), named("state:", out), named("output", out)
	return r, err
}

// Optimize applies steps of gradients with an optimizer, a Keras object {"class_name", "config"}, in float64.
// Params and grads have equal names; a gradient's first dimension counts the steps. It gives the parameters after every
// step in the same form.
func (o *Oracle) Optimize(config any, params, grads []Tensor) ([]Tensor, error) {
	return o.ask("optimizer", map[string]any{"config": config}, append(rename("param:", params), rename("gradient:", grads)...), nil)
}

// Scored is one batch of targets and predictions.
type Scored struct {
	Y, P   Tensor
	Weight []float32
}

// Metrics feeds batches to Keras metrics, names or objects {"class_name", "config"}, and gives their results, one
// tensor each. Either all batches have weights or none.
func (o *Oracle) Metrics(metrics []any, batches ...Scored) ([]Tensor, error) {
	var tensors []Tensor
	for _, b := range batches {
		tensors = append(tensors, as("y", []Tensor{b.Y})...)
		tensors = append(tensors, as("p", []Tensor{b.P})...)
		if b.Weight != nil {
			tensors = append(tensors, Tensor{Name: "w", Data: b.Weight})
		}
	}
	return o.ask("metrics", map[string]any{"metrics": metrics}, tensors, nil)
}

// Loaded is what Keras found in a file.
type Loaded struct {
	Config  []byte // Keras JSON
	Class   string // Sequential, Functional
	Weights []Tensor
	Outputs []Tensor // of the x given, in float32
}

// Load reads a .keras or .h5 file; with x it predicts too.
func (o *Oracle) Load(path string, x ...Tensor) (Loaded, error) {
	var r struct{ Config, Class string }
	out, err := o.ask("load", map[string]any{"path": path}, as("x", x), &r)
	return Loaded{Config: []byte(r.Config), Class: r.Class, Weights: named("weight:", out), Outputs: named("output", out)}, err
}

// Save makes the model in Keras and writes it to path: .keras, .h5 or .weights.h5. compile holds the arguments of
// Keras' compile and may be nil. It gives the config as Keras writes it.
func (o *Oracle) Save(path string, m Model, compile map[string]any) ([]byte, error) {
	var r struct{ Config string }
	_, err := o.ask("save", map[string]any{"path": path, "model": string(m.JSON), "compile": compile}, rename("weight:", m.Weights), &r)
	return []byte(r.Config), err
}

// RunONNX checks an ONNX file as strictly as its library can and runs it in ONNX Runtime. Inputs are named as in the
// file and converted to the types it asks for.
func (o *Oracle) RunONNX(path string, inputs ...Tensor) ([]Tensor, error) {
	return o.ask("onnx", map[string]any{"path": path}, inputs, nil)
}

// Python runs code that defines main(args, arrays) and returns (a JSON value, a dict of arrays). np, keras, jax and
// json are imported; scikit-learn, h5py, onnx and onnxruntime can be. It can use the functions of oracle.py.
func (o *Oracle) Python(code string, args any, arrays ...Tensor) (json.RawMessage, []Tensor, error) {
	var result json.RawMessage
	out, err := o.ask("python", map[string]any{"code": code, "args": args}, arrays, &result)
	return result, out, err
}

func rename(prefix string, in []Tensor) []Tensor {
	var out []Tensor
	for _, t := range in {
		t.Name = prefix + t.Name
		out = append(out, t)
	}
	return out
}

func as(role string, in []Tensor) []Tensor {
	var out []Tensor
	for _, t := range in {
		t.Name = role
		out = append(out, t)
	}
	return out
}

// named picks the tensors with a prefix, and takes it off.
func named(prefix string, in []Tensor) []Tensor {
	var out []Tensor
	for _, t := range in {
		if name, ok := strings.CutPrefix(t.Name, prefix); ok {
			t.Name = name
			out = append(out, t)
		}
	}
	return out
}
