package kerasjson

import (
	"encoding/json"
	"fmt"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// maxNesting bounds how deep models lie in models.
const maxNesting = 16

// isModel tells the classes that hold layers.
func isModel(class string) bool {
	return class == "Sequential" || class == "Functional" || class == "Model"
}

// nested appends the layers of a model that lies in another one, under the names model.layer. What reads the model reads
// its output.
func (r *reader) nested(l envelope, name string, from []string) error {
	if r.depth >= maxNesting {
		return corrupt("models are nested more than %d deep", maxNesting)
	}
	var c struct {
		DType json.RawMessage `json:"dtype"`
	}
	if len(l.Config) > 0 && l.Config[0] == '{' {
		if err := json.Unmarshal(l.Config, &c); err != nil {
			return corrupt("the model's config: %v", err)
		}
	}
	if !isNull(c.DType) && !isFloat32(c.DType) {
		return refuse("dtype %s", shorten(c.DType))
	}
	in := &reader{def: &model.Definition{}, old: r.old, frozen: r.frozen, depth: r.depth + 1, outputs: map[string]string{}}
	read := in.functional
	if l.ClassName == "Sequential" {
		read = in.sequential
	}
	if err := read(l); err != nil {
		return err
	}
	switch {
	case len(in.def.Inputs) != len(from):
		return corrupt("it has %d inputs and is called with %d", len(in.def.Inputs), len(from))
	case len(in.def.Outputs) != 1:
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("a model with %d outputs inside a model is not supported", len(in.def.Outputs)),
			Hint: "build one model of the layers of both"}
	}
	names := map[string]string{} // of the inner results, as the outer model has them
	for i, input := range in.def.Inputs {
		names[input.Name] = from[i]
		r.joints = append(r.joints, joint{name, from[i], input.Shape})
	}
	for _, inner := range in.def.Layers {
		names[inner.Name] = name + "." + inner.Name
	}
	for _, inner := range in.def.Layers {
		inner.Name = names[inner.Name]
		inner.From = slices.Clone(inner.From)
		for i, f := range inner.From {
			inner.From[i] = names[f]
			if inner.From[i] == "" {
				return corrupt("layer %q reads %q, which is not there", inner.Name, f)
			}
		}
		r.def.Layers = append(r.def.Layers, inner)
	}
	for _, a := range in.axes {
		a.layer, a.from = names[a.layer], names[a.from]
		r.axes = append(r.axes, a)
	}
	for _, j := range in.joints {
		j.model, j.from = name+"."+j.model, names[j.from]
		r.joints = append(r.joints, j)
	}
	if r.outputs[name] = names[in.def.Outputs[0]]; r.outputs[name] == "" {
		return corrupt("its output %q is not there", in.def.Outputs[0])
	}
	return nil
}

// joint is where a model in a model takes what comes from outside.
type joint struct {
	model, from string
	shape       []int
}

// checkJoints compares what models in the model take with what they get, once all shapes are known.
func (r *reader) checkJoints() error {
	shapes := r.def.Shapes()
	for _, j := range r.joints {
		if got := shapes[j.from]; !slices.Equal(got, j.shape) {
			return corrupt("model %q takes rows of shape %v and gets %v", j.model, j.shape, got)
		}
	}
	return nil
}

// result gives the layer that a reference means: of a model in the model, its output.
func (r *reader) result(name string) string {
	if out, ok := r.outputs[name]; ok {
		return out
	}
	return name
}
