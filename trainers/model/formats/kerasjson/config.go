package kerasjson

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// config is one layer's config, key by key. It remembers which keys were looked at, and the first error.
type config struct {
	raw  map[string]json.RawMessage
	old  bool // Keras 2
	seen map[string]bool
	err  error
	axis *int // the axis that the layer says it works on

	frozen bool // what the layer holds says that it is not trained
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func sortedKeys(m map[string]json.RawMessage) []string { return slices.Sorted(maps.Keys(m)) }

// decode reads a key into a value that holds the default; null and a missing key leave it.
func (c *config) decode(key string, into any) {
	c.seen[key] = true
	raw := c.raw[key]
	if c.err != nil || isNull(raw) {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil {
		c.err = corrupt("%s: %v", key, err)
	}
}

func (c *config) text(key, fallback string) string {
	c.decode(key, &fallback)
	return fallback
}

func (c *config) number(key string, fallback float64) float64 {
	c.decode(key, &fallback)
	return fallback
}

func (c *config) truth(key string, fallback bool) bool {
	c.decode(key, &fallback)
	return fallback
}

// whole reads a whole number, which may be written with a fraction of 0. need says that it must be there.
func (c *config) whole(key string, fallback int, need bool) int {
	f := c.number(key, float64(fallback))
	if c.err == nil && need && isNull(c.raw[key]) {
		c.err = corrupt("there is no %s", key)
	}
	if c.err == nil && (f != float64(int(f)) || f > 1<<40 || f < -1<<40) {
		c.err = corrupt("%s is %g", key, f)
	}
	return int(f)
}

func (c *config) seed() *int64 {
	c.seen["seed"] = true
	if isNull(c.raw["seed"]) {
		return nil
	}
	s := new(int64)
	c.decode("seed", s)
	return s
}

// pair reads a size in rows and columns: a list of two, or one number for both.
func (c *config) pair(key string, fallback model.Pair) model.Pair {
	c.sizes(key, "two whole numbers", fallback[:])
	return fallback
}

// steps reads a size along a sequence: a list of one, or the number.
func (c *config) steps(key string, fallback int) int {
	size := []int{fallback}
	c.sizes(key, "one whole number", size)
	return size[0]
}

// sizes reads a list as long as into, which holds the default, or one number for all.
func (c *config) sizes(key, want string, into []int) {
	c.seen[key] = true
	raw := c.raw[key]
	if c.err != nil || isNull(raw) {
		return
	}
	var single float64
	var list []float64
	if json.Unmarshal(raw, &single) == nil {
		list = slices.Repeat([]float64{single}, len(into))
	} else if json.Unmarshal(raw, &list) != nil || len(list) != len(into) {
		c.err = corrupt("%s is %s, want %s", key, shorten(raw), want)
		return
	}
	for i, f := range list {
		if f != float64(int(f)) || f > 1<<30 || f < -1<<30 {
			c.err = corrupt("%s is %s, want %s", key, shorten(raw), want)
			return
		}
		into[i] = int(f)
	}
}

// only accepts one value of a text key.
func (c *config) only(key, value string) {
	if s := c.text(key, value); c.err == nil && s != value {
		c.err = &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("%s %s is not supported", key, shorten(c.raw[key])),
			Hint: fmt.Sprintf("build the layer with %s %q and save the model again", key, value)}
	}
}

// ignore passes keys that say nothing about what the layer computes.
func (c *config) ignore(keys ...string) {
	for _, k := range keys {
		c.seen[k] = true
	}
}

// lastAxis notes the axis, a number or a list of one, to be compared with the shape.
func (c *config) lastAxis(key string) {
	c.seen[key] = true
	axis := -1
	raw := c.raw[key]
	var list []int
	if c.err == nil && json.Unmarshal(raw, &list) == nil && len(list) == 1 {
		axis = list[0]
	} else {
		c.decode(key, &axis)
	}
	c.axis = &axis
}

// activation reads a name, null (linear), or an object that names a built-in function.
func (c *config) activation(key, fallback string) string {
	c.seen[key] = true
	raw, there := c.raw[key]
	switch {
	case c.err != nil || !there:
		return fallback
	case isNull(raw):
		return "linear"
	}
	var name string
	if json.Unmarshal(raw, &name) != nil {
		var o struct {
			ClassName string `json:"class_name"`
			Config    string `json:"config"`
		}
		if json.Unmarshal(raw, &o) != nil || o.ClassName != "function" {
			c.err = refuse("%s %s", key, shorten(raw))
			return fallback
		}
		name = o.Config
	}
	name = model.CanonicalActivation(name)
	if c.old && name == "hard_sigmoid" { // Keras 3 changed its slope
		name = "hard_sigmoid_keras2"
	}
	if !slices.Contains(model.Activations(), name) {
		c.err = &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("activation %q is not supported", name),
			Hint: "supported: " + strings.Join(model.Activations(), ", ")}
	}
	return name
}

func (c *config) initializer(key string, fallback model.Initializer) model.Initializer {
	c.seen[key] = true
	if c.err != nil {
		return fallback
	}
	var i model.Initializer
	if i, c.err = parseInitializer(c.raw[key], fallback); c.err != nil {
		c.err = named(key, c.err)
	}
	return i
}

func (c *config) regularizer(key string) model.Regularizer {
	c.seen[key] = true
	if c.err != nil {
		return model.Regularizer{}
	}
	var r model.Regularizer
	if r, c.err = parseRegularizer(c.raw[key]); c.err != nil {
		c.err = named(key, c.err)
	}
	return r
}

// named puts a key before an error.
func named(key string, err error) error {
	if e, ok := err.(*pipeline.Error); ok {
		return &pipeline.Error{Kind: e.Kind, Message: key + ": " + e.Message, Hint: e.Hint, Err: e.Err}
	}
	return corrupt("%s: %v", key, err)
}

// inputShape reads the shape of a row from whichever key the version used; nil when there is none.
func (c *config) inputShape() []int {
	c.ignore("batch_shape", "batch_input_shape", "shape")
	var shape []int
	for _, key := range []string{"batch_shape", "batch_input_shape"} {
		if c.err == nil && shape == nil {
			shape, c.err = rowShape(c.raw[key])
		}
	}
	if c.err != nil || shape != nil || isNull(c.raw["shape"]) {
		return shape
	}
	var dims []json.RawMessage
	if err := json.Unmarshal(c.raw["shape"], &dims); err != nil {
		c.err = corrupt("shape: %v", err)
		return nil
	}
	batch, err := json.Marshal(append([]json.RawMessage{json.RawMessage("null")}, dims...))
	if err != nil {
		c.err = corrupt("shape: %v", err)
		return nil
	}
	shape, c.err = rowShape(batch)
	return shape
}

// rest gives the first error so far, and refuses every key that nobody looked at and that is neither null, false nor
// empty. Keys are taken in order, so the message does not change between runs.
func (c *config) rest() error {
	if c.err != nil {
		return c.err
	}
	c.ignore("name", "trainable")
	for _, key := range sortedKeys(c.raw) {
		if c.seen[key] {
			continue
		}
		ok := false
		switch string(c.raw[key]) {
		case "null", "false", `""`, "[]", "{}", "0", "0.0":
			ok = true
		default:
			ok = key == "dtype" && isFloat32(c.raw[key]) || key == "input_dtype" && isFloat32(c.raw[key])
		}
		if !ok {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("%s = %s is not supported", key, shorten(c.raw[key])),
				Hint: "build the layer without " + key + " and save the model again"}
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
