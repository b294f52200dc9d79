package kerasjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"dkpipe/pipeline"
)

// reference names one result of a layer: the only one, of its only call.
type reference struct{ layer string }

// functional reads a graph of layers.
func (r *reader) functional(m envelope) error {
	var c struct {
		Name         string          `json:"name"`
		Trainable    *bool           `json:"trainable"`
		Layers       []envelope      `json:"layers"`
		InputLayers  json.RawMessage `json:"input_layers"`
		OutputLayers json.RawMessage `json:"output_layers"`
	}
	if err := json.Unmarshal(m.Config, &c); err != nil {
		return corrupt("the model's config: %v", err)
	}
	if len(c.Layers) == 0 || len(c.Layers) > maxLayers {
		return corrupt("the model has %d layers", len(c.Layers))
	}
	r.def.Name = c.Name
	if c.Name == "" {
		r.def.Name = "functional"
	}
	r.frozen = r.frozen || c.Trainable != nil && !*c.Trainable
	inputs, err := r.endpoints("input_layers", c.InputLayers)
	if err != nil {
		return err
	}
	for i, l := range c.Layers {
		cfg, name, err := r.config(l, fmt.Sprintf("%s_%d", l.ClassName, i))
		if err == nil {
			err = r.node(l, cfg, name)
		}
		if err != nil {
			return inLayer(name, l.ClassName, err)
		}
	}
	if r.def.Outputs, err = r.endpoints("output_layers", c.OutputLayers); err != nil {
		return err
	}
	for i := range r.def.Outputs {
		r.def.Outputs[i] = r.result(r.def.Outputs[i])
	}
	return r.orderInputs(inputs)
}

// node appends an input or a layer of a graph.
func (r *reader) node(l envelope, cfg *config, name string) error {
	if l.ClassName == "InputLayer" {
		return r.input(cfg, name)
	}
	from, err := r.links(l.InboundNodes)
	if err != nil {
		return err
	}
	for i := range from {
		from[i] = r.result(from[i])
	}
	if isModel(l.ClassName) {
		return r.nested(l, name, from)
	}
	return r.layer(l.ClassName, cfg, name, from)
}

// orderInputs brings the inputs into the order in which the model takes them.
func (r *reader) orderInputs(names []string) error {
	all := r.def.Inputs
	r.def.Inputs = nil
	for _, name := range names {
		found := false
		for _, in := range all {
			if in.Name == name {
				r.def.Inputs = append(r.def.Inputs, in)
				found = true
			}
		}
		if !found {
			return corrupt("input_layers names %q, which is no input", name)
		}
	}
	if len(r.def.Inputs) != len(all) {
		return corrupt("the model has %d input layers, input_layers names %d", len(all), len(names))
	}
	return nil
}

// endpoints reads input_layers or output_layers: a list of references, or since Keras 3 one alone.
func (r *reader) endpoints(key string, raw json.RawMessage) ([]string, error) {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: key + " with names of their own is not supported",
			Hint: "give the model's inputs and outputs as lists"}
	}
	if ref, err := r.parseReference(raw); err == nil {
		return []string{ref.layer}, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, corrupt("%s is no list of layers: %s", key, shorten(raw))
	}
	var names []string
	for _, item := range list {
		ref, err := r.parseReference(item)
		if err != nil {
			return nil, err
		}
		names = append(names, ref.layer)
	}
	return names, nil
}

// parseReference reads [name, call, result], which may be followed by arguments of the call.
func (r *reader) parseReference(raw json.RawMessage) (reference, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil || len(parts) < 3 || len(parts) > 4 {
		return reference{}, corrupt("a reference to a layer is %s", shorten(raw))
	}
	var ref reference
	var call, result int
	if json.Unmarshal(parts[0], &ref.layer) != nil || json.Unmarshal(parts[1], &call) != nil || json.Unmarshal(parts[2], &result) != nil {
		return reference{}, corrupt("a reference to a layer is %s", shorten(raw))
	}
	if len(parts) == 4 {
		if err := noArguments(parts[3]); err != nil {
			return reference{}, err
		}
	}
	// Keras 2 counts the making of a model as its first call. How often it is called here, its own inbound_nodes say.
	if _, isModel := r.outputs[ref.layer]; call > 0 && !isModel {
		return reference{}, shared(ref.layer)
	}
	if call < 0 || result != 0 {
		return reference{}, refuse("result %d of call %d of layer %q", result, call, ref.layer)
	}
	return ref, nil
}

func shared(layer string) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("layer %q is called several times (shared), which is not supported", layer),
		Hint: "give every call a layer of its own"}
}

// noArguments takes what a layer was called with besides its inputs: nothing that is set, but for what means nothing.
func noArguments(raw json.RawMessage, meaningless ...string) error {
	if isNull(raw) {
		return nil
	}
	var args map[string]json.RawMessage
	if err := json.Unmarshal(raw, &args); err != nil {
		return corrupt("the arguments of a call are %s", shorten(raw))
	}
	for _, key := range sortedKeys(args) {
		if !isNull(args[key]) && !slices.Contains(meaningless, key) {
			return refuse("a call with %s = %s", key, shorten(args[key]))
		}
	}
	return nil
}

// links reads inbound_nodes: the calls of a layer, of which there must be one.
func (r *reader) links(raw json.RawMessage) ([]string, error) {
	var calls []json.RawMessage
	if isNull(raw) || json.Unmarshal(raw, &calls) != nil || len(calls) == 0 {
		return nil, corrupt("inbound_nodes is %s", shorten(raw))
	}
	if len(calls) > 1 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("it is called %d times (shared), which is not supported", len(calls)),
			Hint: "give every call a layer of its own"}
	}
	if bytes.HasPrefix(bytes.TrimSpace(calls[0]), []byte("{")) {
		return r.newLinks(calls[0])
	}
	var refs []json.RawMessage // Keras 2
	if err := json.Unmarshal(calls[0], &refs); err != nil || len(refs) == 0 {
		return nil, corrupt("inbound_nodes is %s", shorten(raw))
	}
	var names []string
	for _, item := range refs {
		ref, err := r.parseReference(item)
		if err != nil {
			return nil, err
		}
		names = append(names, ref.layer)
	}
	return names, nil
}

// newLinks reads a call as Keras 3 writes it: arguments that are tensors or lists of tensors.
func (r *reader) newLinks(raw json.RawMessage) ([]string, error) {
	var call struct {
		Args   []json.RawMessage `json:"args"`
		Kwargs json.RawMessage   `json:"kwargs"`
	}
	if err := json.Unmarshal(raw, &call); err != nil {
		return nil, corrupt("inbound_nodes: %v", err)
	}
	if err := noArguments(call.Kwargs, "training"); err != nil { // Keras 3 writes a call's default, and training overrules it
		return nil, err
	}
	var tensors []json.RawMessage
	for _, arg := range call.Args {
		if !bytes.HasPrefix(bytes.TrimSpace(arg), []byte("[")) {
			tensors = append(tensors, arg)
			continue
		}
		var list []json.RawMessage
		if err := json.Unmarshal(arg, &list); err != nil {
			return nil, corrupt("inbound_nodes: %v", err)
		}
		tensors = append(tensors, list...)
	}
	if len(tensors) == 0 {
		return nil, corrupt("a call has no inputs")
	}
	var names []string
	for _, t := range tensors {
		var k struct {
			ClassName string `json:"class_name"`
			Config    struct {
				History json.RawMessage `json:"keras_history"`
			} `json:"config"`
		}
		if err := json.Unmarshal(t, &k); err != nil || k.ClassName != "__keras_tensor__" {
			return nil, refuse("a call with %s", shorten(t))
		}
		ref, err := r.parseReference(k.Config.History)
		if err != nil {
			return nil, err
		}
		names = append(names, ref.layer)
	}
	return names, nil
}
