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

// envelope is what surrounds every serialized object. Fields of newer and older versions are ignored.
type envelope struct {
	ClassName   string          `json:"class_name"`
	Config      json.RawMessage `json:"config"`
	BuildConfig struct {
		InputShape []*int `json:"input_shape"`
	} `json:"build_config"`
}

// Unmarshal reads a Sequential model. Errors are of kind Corrupt when the text is not a model at all, and Unsupported
// when it is one that cannot be run as it was meant; those name the layer and the key.
func Unmarshal(data []byte) (*model.Definition, error) {
	var m envelope
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, corrupt("not a Keras model: %v", err)
	}
	switch m.ClassName {
	case "Sequential":
	case "Model", "Functional":
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "a functional Keras model is not supported", Hint: "give it as a Sequential, a chain of layers"}
	case "":
		return nil, corrupt("not a Keras model: there is no class_name")
	default:
		return nil, refuse("a Keras model of class %q", m.ClassName)
	}
	d := &model.Definition{Name: "sequential"}
	layers, fallback, err := sequential(m, d)
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 || len(layers) > maxLayers {
		return nil, corrupt("the model has %d layers", len(layers))
	}
	for i, l := range layers {
		cfg := config{}
		if err := json.Unmarshal(l.Config, &cfg); err != nil {
			return nil, corrupt("layer %d (%s): the config is not an object: %v", i, l.ClassName, err)
		}
		name, err := cfg.text("name", fmt.Sprintf("%s_%d", strings.ToLower(l.ClassName), i))
		if err != nil {
			return nil, inLayer(name, l.ClassName, err)
		}
		if err := addLayer(d, l, cfg, name, fallback); err != nil {
			return nil, inLayer(name, l.ClassName, err)
		}
	}
	if len(d.Layers) == 0 {
		return nil, corrupt("the model has an input and no layer")
	}
	d.Outputs = []string{d.Layers[len(d.Layers)-1].Name}
	return d, d.Check()
}

// sequential gives the layers and the input shape that the model itself states, if any. Before Keras 2.2.3 the
// config was the bare list of layers.
func sequential(m envelope, d *model.Definition) (layers []envelope, fallback []*int, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(m.Config), []byte("[")) {
		err = json.Unmarshal(m.Config, &layers)
	} else {
		var c struct {
			Name            string     `json:"name"`
			Layers          []envelope `json:"layers"`
			BuildInputShape []*int     `json:"build_input_shape"`
		}
		err = json.Unmarshal(m.Config, &c)
		if c.Name != "" {
			d.Name = c.Name
		}
		layers, fallback = c.Layers, c.BuildInputShape
	}
	if err != nil {
		return nil, nil, corrupt("the model's config: %v", err)
	}
	if fallback == nil {
		fallback = m.BuildConfig.InputShape
	}
	return layers, fallback, nil
}

// addLayer appends one layer, and before the first one the input, wherever its shape stands.
func addLayer(d *model.Definition, l envelope, cfg config, name string, fallback []*int) error {
	if l.ClassName == "InputLayer" {
		if len(d.Inputs) > 0 {
			return refuse("a second input")
		}
		shape, err := cfg.inputShape()
		if err == nil && shape == nil {
			err = corrupt("it has no shape")
		}
		if err != nil {
			return err
		}
		d.Inputs = []model.Input{{Name: name, Shape: shape}}
		return cfg.rest("name", "batch_shape", "batch_input_shape", "shape")
	}
	own, err := cfg.inputShape()
	if err != nil {
		return err
	}
	if len(d.Inputs) == 0 {
		if own == nil {
			if own, err = rowShape(l.BuildConfig.InputShape); err != nil {
				return err
			}
		}
		if own == nil {
			if own, err = rowShape(fallback); err != nil {
				return err
			}
		}
		if own == nil {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: "the model does not say the shape of its input", Hint: "build the model in Keras before saving it"}
		}
		d.Inputs = []model.Input{{Name: name + "_input", Shape: own}}
	}
	from := d.Inputs[0].Name
	if n := len(d.Layers); n > 0 {
		from = d.Layers[n-1].Name
	}
	op, known, err := cfg.op(l.ClassName)
	if err != nil {
		return err
	}
	d.Layers = append(d.Layers, model.Layer{Name: name, From: []string{from}, Op: op})
	return cfg.rest(append(known, "name", "batch_input_shape", "batch_shape")...)
}

// config is one layer's config, key by key.
type config map[string]json.RawMessage

// supported lists the classes that op knows, for people.
func supported() []string {
	return []string{"Activation", "Dense", "Dropout", "ELU", "Flatten", "InputLayer", "ReLU", "Softmax"}
}

// op gives the layer of a class and the keys that were looked at.
func (c config) op(class string) (model.Op, []string, error) {
	switch class {
	case "Dense":
		return c.dense()
	case "Activation":
		a, err := c.activation()
		return &model.Activation{Activation: a}, []string{"activation"}, err
	case "Dropout":
		o := &model.Dropout{}
		if isNull(c["rate"]) {
			return nil, nil, corrupt("there is no rate")
		}
		if err := json.Unmarshal(c["rate"], &o.Rate); err != nil {
			return nil, nil, corrupt("rate: %v", err)
		}
		if !isNull(c["seed"]) {
			o.Seed = new(int64)
			if err := json.Unmarshal(c["seed"], o.Seed); err != nil {
				return nil, nil, corrupt("seed: %v", err)
			}
		}
		return o, []string{"rate", "seed"}, nil
	case "Flatten":
		err := c.only("data_format", "channels_last")
		return &model.Flatten{}, []string{"data_format"}, err
	case "ReLU":
		return &model.Activation{Activation: "relu"}, nil, nil
	case "Softmax":
		axis, err := c.number("axis", -1)
		if err == nil && axis != -1 && axis != 1 { // 1 is the last one of flat rows; others are refused by the check
			err = refuse("axis %g", axis)
		}
		return &model.Activation{Activation: "softmax"}, []string{"axis"}, err
	case "ELU":
		alpha, err := c.number("alpha", 1)
		if err == nil && alpha != 1 {
			err = refuse("alpha %g", alpha)
		}
		return &model.Activation{Activation: "elu"}, []string{"alpha"}, err
	}
	return nil, nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("layers of class %q are not supported", class),
		Hint: "supported classes: " + strings.Join(supported(), ", ")}
}

func (c config) dense() (model.Op, []string, error) {
	if _, old := c["output_dim"]; old {
		return nil, nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the file is of Keras 1", Hint: "load it with Keras 2 and save it again"}
	}
	d := &model.Dense{UseBias: true}
	units, err := c.number("units", 0)
	if err != nil {
		return nil, nil, err
	}
	if d.Units = int(units); float64(d.Units) != units || d.Units < 1 {
		return nil, nil, corrupt("units is %g", units)
	}
	if d.Activation, err = c.activation(); err != nil {
		return nil, nil, err
	}
	if !isNull(c["use_bias"]) {
		if err := json.Unmarshal(c["use_bias"], &d.UseBias); err != nil {
			return nil, nil, corrupt("use_bias: %v", err)
		}
	}
	if d.KernelInitializer, err = parseInitializer(c["kernel_initializer"], model.GlorotUniform); err != nil {
		return nil, nil, err
	}
	if d.BiasInitializer, err = parseInitializer(c["bias_initializer"], model.Zeros); err != nil {
		return nil, nil, err
	}
	return d, []string{"units", "activation", "use_bias", "kernel_initializer", "bias_initializer"}, nil
}

// activation reads a name, null (linear), or an object that names a built-in function.
func (c config) activation() (string, error) {
	raw := c["activation"]
	if isNull(raw) {
		return "linear", nil
	}
	var name string
	if json.Unmarshal(raw, &name) != nil {
		var o struct {
			ClassName string `json:"class_name"`
			Config    string `json:"config"`
		}
		if json.Unmarshal(raw, &o) != nil || o.ClassName != "function" {
			return "", refuse("activation %s", shorten(raw))
		}
		name = o.Config
	}
	if !slices.Contains(model.Activations(), name) {
		return "", &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("activation %q is not supported", name),
			Hint: "supported: " + strings.Join(model.Activations(), ", ")}
	}
	return name, nil
}

// inputShape reads the shape of a row from whichever key the version used; nil when there is none.
func (c config) inputShape() ([]int, error) {
	for _, key := range []string{"batch_shape", "batch_input_shape"} {
		if isNull(c[key]) {
			continue
		}
		var dims []*int
		if err := json.Unmarshal(c[key], &dims); err != nil {
			return nil, corrupt("%s: %v", key, err)
		}
		return rowShape(dims)
	}
	if isNull(c["shape"]) {
		return nil, nil
	}
	var dims []*int
	if err := json.Unmarshal(c["shape"], &dims); err != nil {
		return nil, corrupt("shape: %v", err)
	}
	return rowShape(append([]*int{nil}, dims...))
}

// rowShape takes the batch dimension off.
func rowShape(dims []*int) ([]int, error) {
	if len(dims) == 0 {
		return nil, nil
	}
	shape := []int{}
	for _, d := range dims[1:] {
		if d == nil {
			return nil, refuse("an input of variable size")
		}
		shape = append(shape, *d)
	}
	return shape, nil
}

func (c config) text(key, fallback string) (string, error) {
	if isNull(c[key]) {
		return fallback, nil
	}
	var s string
	if err := json.Unmarshal(c[key], &s); err != nil {
		return fallback, corrupt("%s: %v", key, err)
	}
	return s, nil
}

func (c config) number(key string, fallback float64) (float64, error) {
	if isNull(c[key]) {
		return fallback, nil
	}
	var f float64
	if err := json.Unmarshal(c[key], &f); err != nil {
		return 0, corrupt("%s: %v", key, err)
	}
	return f, nil
}

// only accepts one value of a text key.
func (c config) only(key, value string) error {
	if s, err := c.text(key, value); err != nil || s == value {
		return err
	}
	return refuse("%s %s", key, shorten(c[key]))
}

// rest refuses every key that is neither known nor null, false or empty. Keys are taken in order, so the message does
// not change between runs.
func (c config) rest(known ...string) error {
	var keys []string
	for key := range c {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if slices.Contains(known, key) {
			continue
		}
		ok := false
		switch string(c[key]) {
		case "null", "false", `""`, "[]", "{}", "0", "0.0":
			ok = key != "trainable" // frozen layers are not trained, here they would be
		case "true":
			ok = key == "trainable"
		default:
			ok = key == "dtype" && isFloat32(c[key]) || key == "input_dtype" && isFloat32(c[key])
		}
		if !ok {
			return refuse("%s = %s", key, shorten(c[key]))
		}
	}
	return nil
}

// isFloat32 reads the two ways to write a data type: a name, or a policy object.
func isFloat32(raw json.RawMessage) bool {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return name == "float32"
	}
	var policy struct {
		Config struct {
			Name string `json:"name"`
		} `json:"config"`
	}
	return json.Unmarshal(raw, &policy) == nil && policy.Config.Name == "float32"
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

// inLayer puts the layer before an error.
func inLayer(name, class string, err error) error {
	where := fmt.Sprintf("layer %q (%s): ", name, class)
	if e, ok := err.(*pipeline.Error); ok {
		return &pipeline.Error{Kind: e.Kind, Message: where + e.Message, Hint: e.Hint, Err: e.Err}
	}
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: where + err.Error()}
}
