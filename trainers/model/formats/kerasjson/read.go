package kerasjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// maxLayers bounds what a file can make the reader build.
const maxLayers = 10_000

// Options say what a file does not.
type Options struct {
	// KerasVersion is the version of Keras that wrote the file, such as 2.15.0, where it is kept elsewhere: in an
	// archive's metadata.json, in an attribute. Empty: the text tells.
	KerasVersion string
}

// envelope is what surrounds every serialized object. Fields of newer and older versions are ignored.
type envelope struct {
	Module         string          `json:"module"`
	ClassName      string          `json:"class_name"`
	RegisteredName string          `json:"registered_name"`
	Name           string          `json:"name"`
	Config         json.RawMessage `json:"config"`
	KerasVersion   string          `json:"keras_version"`
	InboundNodes   json.RawMessage `json:"inbound_nodes"`
	BuildConfig    struct {
		InputShape json.RawMessage `json:"input_shape"`
	} `json:"build_config"`
}

// Unmarshal is Read without options.
func Unmarshal(data []byte) (*model.Definition, error) { return Read(data, Options{}) }

// Read reads a Sequential or functional model. Errors are of kind Corrupt when the text is not a model at all, and
// Unsupported when it is one that cannot be run as it was meant; those name the layer and the key.
func Read(data []byte, o Options) (*model.Definition, error) {
	var m envelope
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, corrupt("not a Keras model: %v", err)
	}
	r := &reader{def: &model.Definition{}, old: isOld(m, data, o), outputs: map[string]string{}}
	var err error
	switch m.ClassName {
	case "Sequential":
		err = r.sequential(m)
	case "Model", "Functional":
		err = r.functional(m)
	case "":
		return nil, corrupt("not a Keras model: there is no class_name")
	default:
		err = &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("a Keras model of class %q is not supported", m.ClassName),
			Hint: "a class of its own is Python code; give the model as a Sequential or a functional model"}
	}
	if err != nil {
		return nil, err
	}
	if len(r.def.Layers) == 0 {
		return nil, corrupt("the model has an input and no layer")
	}
	if err := r.def.Check(); err != nil {
		return nil, err
	}
	if err := r.checkJoints(); err != nil {
		return nil, err
	}
	return r.def, r.checkAxes()
}

// isOld tells Keras 2 from Keras 3. Only Keras 2 names its version in the text or the shape of an input
// batch_input_shape.
func isOld(m envelope, data []byte, o Options) bool {
	version := m.KerasVersion
	if version == "" {
		version = o.KerasVersion
	}
	if version != "" {
		return strings.HasPrefix(version, "2.")
	}
	return bytes.Contains(data, []byte(`"batch_input_shape"`))
}

// reader collects a definition.
type reader struct {
	def  *model.Definition
	old  bool // Keras 2
	axes []claim

	frozen  bool              // trainable is false of this model or of one that it lies in
	depth   int               // in how many models this one lies
	outputs map[string]string // of models in this one: by name, the layer that is their output
	joints  []joint
	tail    string // of a chain: the last result
}

// claim is a layer that works on one axis, which must turn out to be the last.
type claim struct {
	layer, class string
	from         string // whose shape counts
	axis         int
}

// checkAxes compares claimed axes with the shapes, which are known at the end only.
func (r *reader) checkAxes() error {
	shapes := r.def.Shapes()
	for _, c := range r.axes {
		if rank := len(shapes[c.from]); c.axis != -1 && c.axis != rank {
			return inLayer(c.layer, c.class, &pipeline.Error{Kind: pipeline.Unsupported,
				Message: fmt.Sprintf("axis %d of shape %v is not supported", c.axis, shapes[c.from]), Hint: "only the last axis is; save the model with channels_last"})
		}
	}
	return nil
}

// sequential reads a chain of layers. Before Keras 2.2.3 the config was the bare list of layers.
func (r *reader) sequential(m envelope) error {
	var c struct {
		Name            string          `json:"name"`
		Trainable       *bool           `json:"trainable"`
		Layers          []envelope      `json:"layers"`
		BuildInputShape json.RawMessage `json:"build_input_shape"`
	}
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(m.Config), []byte("[")) {
		err = json.Unmarshal(m.Config, &c.Layers)
	} else {
		err = json.Unmarshal(m.Config, &c)
	}
	if err != nil {
		return corrupt("the model's config: %v", err)
	}
	if len(c.Layers) == 0 || len(c.Layers) > maxLayers {
		return corrupt("the model has %d layers", len(c.Layers))
	}
	r.def.Name = c.Name
	if c.Name == "" {
		r.def.Name = "sequential"
	}
	r.frozen = r.frozen || c.Trainable != nil && !*c.Trainable
	fallback := c.BuildInputShape
	if isNull(fallback) {
		fallback = m.BuildConfig.InputShape
	}
	for i, l := range c.Layers {
		cfg, name, err := r.config(l, fmt.Sprintf("%s_%d", strings.ToLower(l.ClassName), i))
		if err == nil {
			err = r.chain(l, cfg, name, fallback)
			r.tail = r.result(name)
		}
		if err != nil {
			return inLayer(name, l.ClassName, err)
		}
	}
	if len(r.def.Layers) > 0 {
		r.def.Outputs = []string{r.tail}
	}
	return nil
}

// config opens a layer's config and finds its name.
func (r *reader) config(l envelope, fallback string) (*config, string, error) {
	cfg := &config{old: r.old, seen: map[string]bool{}}
	if l.Name != "" {
		fallback = l.Name
	}
	if isModel(l.ClassName) && bytes.HasPrefix(bytes.TrimSpace(l.Config), []byte("[")) { // before Keras 2.2.3
		return cfg, fallback, nil
	}
	if err := json.Unmarshal(l.Config, &cfg.raw); err != nil {
		return nil, fallback, corrupt("the config is not an object: %v", err)
	}
	name := cfg.text("name", fallback)
	if cfg.err != nil {
		return nil, name, cfg.err
	}
	return cfg, name, checkOrigin(l)
}

// chain appends one layer to the last one, and before the first one the input, wherever its shape stands.
func (r *reader) chain(l envelope, cfg *config, name string, fallback json.RawMessage) error {
	d := r.def
	if l.ClassName == "InputLayer" {
		if len(d.Inputs) > 0 {
			return refuse("a second input")
		}
		return r.input(cfg, name)
	}
	if len(d.Inputs) == 0 {
		own := cfg.inputShape()
		for _, raw := range []json.RawMessage{l.BuildConfig.InputShape, fallback} {
			if own == nil && cfg.err == nil {
				own, cfg.err = rowShape(raw)
			}
		}
		if cfg.err != nil {
			return cfg.err
		}
		if own == nil {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: "the model does not say the shape of its input", Hint: "build the model in Keras before saving it"}
		}
		d.Inputs = []model.Input{{Name: name + "_input", Shape: own}}
	}
	from := d.Inputs[0].Name
	if len(d.Layers) > 0 {
		from = r.tail
	}
	if isModel(l.ClassName) {
		return r.nested(l, name, []string{from})
	}
	return r.layer(l.ClassName, cfg, name, []string{from})
}

// input reads an InputLayer. Ids may have a type of whole numbers; a batch holds them as float32 all the same.
func (r *reader) input(cfg *config, name string) error {
	shape := cfg.inputShape()
	if cfg.err == nil && shape == nil {
		return corrupt("it has no shape")
	}
	cfg.seen["dtype"] = true
	if raw := cfg.raw["dtype"]; !isNull(raw) && !isFloat32(raw) {
		if t := cfg.text("dtype", ""); !slices.Contains([]string{"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float64", "bool"}, t) {
			return refuse("dtype %s", shorten(raw))
		}
	}
	if err := cfg.rest(); err != nil {
		return err
	}
	r.def.Inputs = append(r.def.Inputs, model.Input{Name: name, Shape: shape})
	return nil
}

// layer appends a layer that reads from.
func (r *reader) layer(class string, cfg *config, name string, from []string) error {
	// Of the first layer the shape is known by now, and others need none; Keras 2 writes [null, null] to every Embedding.
	cfg.ignore("batch_shape", "batch_input_shape", "shape")
	op, err := cfg.op(class)
	if err == nil {
		err = cfg.rest()
	}
	if err != nil {
		return err
	}
	frozen := !cfg.truth("trainable", true)
	if cfg.err != nil {
		return cfg.err
	}
	if cfg.axis != nil {
		r.axes = append(r.axes, claim{name, class, from[0], *cfg.axis})
	}
	r.def.Layers = append(r.def.Layers, model.Layer{Name: name, From: from, Op: op, Frozen: frozen || cfg.frozen || r.frozen})
	return nil
}

// rowShape takes the batch dimension off a shape; nil when there is none.
func rowShape(raw json.RawMessage) ([]int, error) {
	if isNull(raw) {
		return nil, nil
	}
	var dims []*int
	if err := json.Unmarshal(raw, &dims); err != nil {
		return nil, corrupt("the shape %s: %v", shorten(raw), err)
	}
	if len(dims) == 0 {
		return nil, nil
	}
	shape := []int{}
	for _, d := range dims[1:] {
		if d == nil {
			return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "an input of variable size is not supported", Hint: "give every dimension a number: keras.Input((28, 28, 1))"}
		}
		shape = append(shape, *d)
	}
	return shape, nil
}

// shorten keeps a value from the file from filling the screen.
func shorten(raw json.RawMessage) string {
	s := strings.ToValidUTF8(string(raw), "?")
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:57], "") + "..."
	}
	return s
}

func corrupt(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: "Keras JSON: " + fmt.Sprintf(format, args...)}
}

func refuse(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf(format, args...) + " is not supported"}
}

// inLayer puts the layer before an error.
func inLayer(name, class string, err error) error {
	where := fmt.Sprintf("layer %q (%s): ", name, class)
	if e, ok := err.(*pipeline.Error); ok {
		return &pipeline.Error{Kind: e.Kind, Message: where + e.Message, Hint: e.Hint, Err: e.Err}
	}
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: where + err.Error()}
}
