package kerasjson

import (
	"encoding/json"
	"strings"

	"dkpipe/trainers/model"
)

// initializerClasses joins Keras' class names to ours.
func initializerClasses() []struct{ class, name string } {
	return []struct{ class, name string }{
		{"Zeros", "zeros"}, {"Ones", "ones"}, {"Constant", "constant"},
		{"GlorotUniform", "glorot_uniform"}, {"GlorotNormal", "glorot_normal"},
		{"HeUniform", "he_uniform"}, {"HeNormal", "he_normal"},
		{"LecunUniform", "lecun_uniform"}, {"LecunNormal", "lecun_normal"},
		{"RandomUniform", "random_uniform"}, {"RandomNormal", "random_normal"}, {"TruncatedNormal", "truncated_normal"},
		{"VarianceScaling", "variance_scaling"}, {"Orthogonal", "orthogonal"}, {"Identity", "identity"},
	}
}

func initializerObject(i model.Initializer) object {
	c, err := i.Config()
	o := object{Module: "keras.initializers", ClassName: string(i)}
	if err != nil {
		return o // the definition was checked, so there is none
	}
	for _, k := range initializerClasses() {
		if k.name == c.Name {
			o.ClassName = k.class
		}
	}
	options := c.Options()
	switch c.Name {
	case "zeros", "ones", "constant", "identity":
	default:
		options["seed"] = nil
	}
	o.Config = options
	return o
}

// parseInitializer reads a name, an object, or null, which means the layer's default. A seed is ignored: the run's
// seed decides.
func parseInitializer(raw json.RawMessage, fallback model.Initializer) (model.Initializer, error) {
	if isNull(raw) {
		return fallback, nil
	}
	var name string
	if json.Unmarshal(raw, &name) == nil {
		c, err := initializerByName(name)
		return c.Initializer(), err
	}
	var o struct {
		ClassName string          `json:"class_name"`
		Config    json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return "", corrupt("an initializer is neither a name nor an object: %v", err)
	}
	c, err := initializerByName(o.ClassName)
	if err != nil {
		return "", err
	}
	if err := initializerConfig(o.ClassName, o.Config, &c); err != nil {
		return "", err
	}
	i := family(c).Initializer()
	_, err = i.Config() // finds numbers that cannot be meant
	return i, err
}

// initializerConfig reads an initializer's own numbers and words.
func initializerConfig(class string, raw json.RawMessage, c *model.InitializerConfig) error {
	var keys map[string]json.RawMessage
	if !isNull(raw) {
		if err := json.Unmarshal(raw, &keys); err != nil {
			return corrupt("initializer %s: %v", class, err)
		}
	}
	numbers := map[string]*float64{"value": &c.Value, "mean": &c.Mean, "stddev": &c.Stddev, "minval": &c.Minval, "maxval": &c.Maxval, "gain": &c.Gain, "scale": &c.Scale}
	words := map[string]*string{"mode": &c.Mode, "distribution": &c.Distribution}
	known := c.Options()
	for _, key := range sortedKeys(keys) {
		value := keys[key]
		if key == "seed" || key == "dtype" || isNull(value) {
			continue
		}
		if _, ours := known[key]; !ours {
			return refuse("initializer %s with %s %s", class, key, shorten(value))
		}
		var err error
		if n, ok := numbers[key]; ok {
			err = json.Unmarshal(value, n)
		} else {
			err = json.Unmarshal(value, words[key])
		}
		if err != nil {
			return refuse("initializer %s with %s %s", class, key, shorten(value))
		}
	}
	if c.Distribution == "normal" { // as it was called before 2.2.3
		c.Distribution = "truncated_normal"
	}
	return nil
}

// family maps the general form, which Keras 2.0 to 2.2 wrote for all glorot, he and lecun initializers, to its name.
func family(c model.InitializerConfig) model.InitializerConfig {
	kind, ok := map[string]string{"uniform": "uniform", "truncated_normal": "normal"}[c.Distribution]
	if c.Name != "variance_scaling" || !ok {
		return c
	}
	for _, k := range []struct {
		scale  float64
		mode   string
		family string
	}{{1, "fan_avg", "glorot_"}, {2, "fan_in", "he_"}, {1, "fan_in", "lecun_"}} {
		if c.Scale == k.scale && c.Mode == k.mode {
			return model.InitializerConfig{Name: k.family + kind}
		}
	}
	return c
}

// initializerByName takes GlorotUniform, glorot_uniform and the short names of Keras 2.
func initializerByName(name string) (model.InitializerConfig, error) {
	short, ok := map[string]string{"zero": "zeros", "one": "ones", "uniform": "random_uniform", "normal": "random_normal",
		"orthogonalinitializer": "orthogonal", "identityinitializer": "identity"}[strings.ToLower(name)]
	if ok {
		return model.DefaultInitializer(short)
	}
	flat := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for _, k := range initializerClasses() {
		if flat(k.class) == flat(name) {
			return model.DefaultInitializer(k.name)
		}
	}
	return model.InitializerConfig{}, refuse("initializer %q", name)
}
