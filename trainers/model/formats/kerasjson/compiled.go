package kerasjson

import (
	"encoding/json"
	"strings"

	"dkpipe/trainers/model"
)

// Compiled is what a model was compiled with in Keras, as far as it can be told: names as in a job file. It says how the
// model was trained there, and nothing about what it computes.
type Compiled struct {
	Optimizer string       `json:"optimizer,omitempty"`
	Losses    []model.Loss `json:"losses,omitempty"` // one an output, or one for all
}

// ReadCompiled finds it in a model's JSON (compile_config), or in the training_config of an .h5 file. outputs are the names
// of the model's outputs. Nil: the text does not say.
func ReadCompiled(data []byte, outputs []string) *Compiled {
	type config struct {
		Optimizer json.RawMessage `json:"optimizer"`
		Old       json.RawMessage `json:"optimizer_config"`
		Loss      json.RawMessage `json:"loss"`
	}
	var all struct {
		config
		Compile config `json:"compile_config"`
	}
	if json.Unmarshal(data, &all) != nil {
		return nil
	}
	var c Compiled
	for _, part := range []config{all.Compile, all.config} {
		for _, raw := range []json.RawMessage{part.Optimizer, part.Old} {
			if name, _ := called(raw); c.Optimizer == "" {
				c.Optimizer = strings.ToLower(name)
			}
		}
		if c.Losses == nil {
			c.Losses = compiledLosses(part.Loss, outputs)
		}
	}
	if c.Optimizer == "" && c.Losses == nil {
		return nil
	}
	return &c
}

// called gives the name of an object of Keras: a text, a class, or a function.
func called(raw json.RawMessage) (name string, config json.RawMessage) {
	var o struct {
		ClassName string          `json:"class_name"`
		Config    json.RawMessage `json:"config"`
	}
	if json.Unmarshal(raw, &name) == nil || json.Unmarshal(raw, &o) != nil {
		return name, nil
	}
	if o.ClassName == "function" && json.Unmarshal(o.Config, &name) == nil {
		return name, nil
	}
	return o.ClassName, o.Config
}

// compiledLosses reads one loss, a list of them, or one for each name; nil when one of them has no name.
func compiledLosses(raw json.RawMessage, outputs []string) []model.Loss {
	if name, config := called(raw); name != "" {
		l := model.Loss{Name: lossName(name)}
		var o struct {
			FromLogits bool `json:"from_logits"`
		}
		if json.Unmarshal(config, &o) == nil {
			l.FromLogits = o.FromLogits
		}
		return []model.Loss{l}
	}
	var list []json.RawMessage
	var byName map[string]json.RawMessage
	if json.Unmarshal(raw, &list) != nil && json.Unmarshal(raw, &byName) == nil {
		for _, name := range outputs {
			list = append(list, byName[name])
		}
	}
	var losses []model.Loss
	for _, item := range list {
		if name, _ := called(item); name == "" {
			return nil
		}
		losses = append(losses, compiledLosses(item, nil)...)
	}
	return losses
}

// lossName makes a job file's name of a class: MeanSquaredError is mean_squared_error.
func lossName(class string) string {
	var b strings.Builder
	for i, r := range class {
		if r >= 'A' && r <= 'Z' && i > 0 && class[i-1] >= 'a' && class[i-1] <= 'z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return model.CanonicalLoss(strings.ToLower(b.String()))
}
