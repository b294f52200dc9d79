package kerasjson

import (
	"encoding/json"
	"fmt"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// spread holds the fields of every initializer that has any; which of them count depends on the class.
type spread struct {
	Mean         float64 `json:"mean"`
	Stddev       float64 `json:"stddev"`
	Minval       float64 `json:"minval"`
	Maxval       float64 `json:"maxval"`
	Scale        float64 `json:"scale"`
	Mode         string  `json:"mode"`
	Distribution string  `json:"distribution"`
	Value        float64 `json:"value"`

	InputAxes  json.RawMessage `json:"input_axes"`
	OutputAxes json.RawMessage `json:"output_axes"`
}

// classes joins Keras' class names to ours.
func classes() []struct {
	class string
	name  model.Initializer
} {
	return []struct {
		class string
		name  model.Initializer
	}{
		{"Zeros", model.Zeros}, {"Ones", model.Ones},
		{"GlorotUniform", model.GlorotUniform}, {"GlorotNormal", model.GlorotNormal},
		{"HeUniform", model.HeUniform}, {"HeNormal", model.HeNormal},
		{"LecunUniform", model.LecunUniform}, {"LecunNormal", model.LecunNormal},
		{"RandomUniform", model.RandomUniform}, {"RandomNormal", model.RandomNormal}, {"TruncatedNormal", model.TruncatedNormal},
	}
}

func initializerObject(name model.Initializer) object {
	o := object{Module: "keras.initializers"}
	for _, c := range classes() {
		if c.name == name {
			o.ClassName = c.class
		}
	}
	switch name {
	case model.Zeros, model.Ones:
		o.Config = map[string]any{}
	case model.RandomUniform:
		o.Config = map[string]any{"minval": -0.05, "maxval": 0.05, "seed": nil}
	case model.RandomNormal, model.TruncatedNormal:
		o.Config = map[string]any{"mean": 0.0, "stddev": 0.05, "seed": nil}
	default:
		o.Config = map[string]any{"seed": nil}
	}
	return o
}

// parseInitializer reads a name, an object, or null, which means the layer's default. A seed is ignored: the run's
// seed decides. Numbers that our initializers do not have are refused.
func parseInitializer(raw json.RawMessage, fallback model.Initializer) (model.Initializer, error) {
	if isNull(raw) {
		return fallback, nil
	}
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return initializerByName(name)
	}
	var o struct {
		ClassName string          `json:"class_name"`
		Config    json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return "", fmt.Errorf("an initializer is neither a name nor an object: %w", err)
	}
	s := spread{Stddev: 0.05, Minval: -0.05, Maxval: 0.05, Scale: 1, Mode: "fan_in", Distribution: "truncated_normal"}
	if len(o.Config) > 0 {
		if err := json.Unmarshal(o.Config, &s); err != nil {
			return "", fmt.Errorf("initializer %s: %w", o.ClassName, err)
		}
	}
	if !isNull(s.InputAxes) || !isNull(s.OutputAxes) {
		return "", refuse("initializer %s with input_axes or output_axes", o.ClassName)
	}
	switch o.ClassName {
	case "VarianceScaling":
		return s.variance()
	case "Constant":
		switch s.Value {
		case 0:
			return model.Zeros, nil
		case 1:
			return model.Ones, nil
		}
		return "", refuse("initializer Constant with value %g", s.Value)
	}
	i, err := initializerByName(o.ClassName)
	if err != nil {
		return "", err
	}
	switch i {
	case model.RandomUniform:
		if s.Minval != -0.05 || s.Maxval != 0.05 {
			return "", refuse("initializer RandomUniform from %g to %g", s.Minval, s.Maxval)
		}
	case model.RandomNormal, model.TruncatedNormal:
		if s.Mean != 0 || s.Stddev != 0.05 {
			return "", refuse("initializer %s with mean %g and stddev %g", o.ClassName, s.Mean, s.Stddev)
		}
	}
	return i, nil
}

// variance maps the general form, which Keras 2.0 to 2.2 wrote for all glorot, he and lecun initializers.
func (s spread) variance() (model.Initializer, error) {
	kind := "uniform"
	switch s.Distribution {
	case "uniform":
	case "normal", "truncated_normal":
		kind = "normal"
	default:
		return "", refuse("initializer VarianceScaling with distribution %q", s.Distribution)
	}
	for _, k := range []struct {
		scale  float64
		mode   string
		family string
	}{{1, "fan_avg", "glorot_"}, {2, "fan_in", "he_"}, {1, "fan_in", "lecun_"}} {
		if s.Scale == k.scale && s.Mode == k.mode {
			return model.Initializer(k.family + kind), nil
		}
	}
	return "", refuse("initializer VarianceScaling with scale %g and mode %q", s.Scale, s.Mode)
}

// initializerByName takes GlorotUniform, glorot_uniform and the short names of Keras 2.
func initializerByName(name string) (model.Initializer, error) {
	switch strings.ToLower(name) {
	case "zero":
		return model.Zeros, nil
	case "one":
		return model.Ones, nil
	case "uniform":
		return model.RandomUniform, nil
	case "normal":
		return model.RandomNormal, nil
	}
	flat := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for _, c := range classes() {
		if flat(c.class) == flat(name) {
			return c.name, nil
		}
	}
	return "", refuse("initializer %q", name)
}

func refuse(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf(format, args...) + " is not supported"}
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
