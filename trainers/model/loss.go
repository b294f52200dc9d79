package model

import (
	"fmt"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Loss is what training makes small at one output, with the formulas of Keras 3. Its options have Keras' names; one
// that the loss does not have is refused.
type Loss struct {
	Name           string  `yaml:"-" json:"name"`                                    // one of Losses, or an alias of it such as mse
	Weight         float64 `yaml:"-" json:"weight,omitempty"`                        // of this output in the sum; 0 means 1
	FromLogits     bool    `yaml:"from_logits" json:"from_logits,omitempty"`         // of crossentropies: the output has no softmax or sigmoid
	LabelSmoothing float64 `yaml:"label_smoothing" json:"label_smoothing,omitempty"` // of categorical and binary crossentropy: 0 to 1
	Delta          float64 `yaml:"delta" json:"delta,omitempty" spec:"min=0"`        // of huber; 0 means 1
}

// Losses lists the names of the losses, in alphabetical order and without aliases.
func Losses() []string { return graph.Losses() }

// CanonicalLoss gives the one name of a loss that has several: mse is mean_squared_error.
func CanonicalLoss(name string) string { return graph.CanonicalLoss(name) }

// Check reports a name or an option that cannot be used.
func (l Loss) Check() error {
	name := graph.CanonicalLoss(l.Name)
	if !slices.Contains(graph.Losses(), name) {
		return unknown(pipeline.Unsupported, "loss", l.Name, graph.Losses())
	}
	bad := func(format string, args ...any) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: "loss " + l.Name + ": " + fmt.Sprintf(format, args...)}
	}
	cross := name == "binary_crossentropy" || name == "categorical_crossentropy" || name == "sparse_categorical_crossentropy"
	switch {
	case l.FromLogits && !cross:
		return bad("it has no from_logits")
	case l.LabelSmoothing != 0 && (!cross || graph.SparseLoss(name)):
		return bad("it has no label_smoothing")
	case !(l.LabelSmoothing >= 0 && l.LabelSmoothing <= 1):
		return bad("label_smoothing is %g, must be from 0 to 1", l.LabelSmoothing)
	case l.Delta != 0 && name != "huber":
		return bad("it has no delta")
	case !(l.Delta >= 0):
		return bad("delta is %g, must be above 0", l.Delta)
	case !(l.Weight >= 0):
		return bad("its weight is %g, must be above 0", l.Weight)
	}
	return nil
}

func (l Loss) config() graph.LossConfig {
	return graph.LossConfig{Name: l.Name, FromLogits: l.FromLogits, Smoothing: l.LabelSmoothing, Delta: l.Delta}
}

// TargetWidth is the number of floats in a row of the target, for an output whose rows have this shape: one number a
// vector of the last dimension when the loss takes the index of a class, else as many as the output has.
func (l Loss) TargetWidth(shape []int) int {
	if graph.SparseLoss(graph.CanonicalLoss(l.Name)) {
		return size(shape) / lastOf(shape)
	}
	return size(shape)
}

// Func gives the loss of one row of an output whose rows have this shape, without its Weight, for evaluation. A target
// that is no class, where one is asked for, gives NaN. The function belongs to one goroutine and does not allocate.
func (l Loss) Func(shape []int) (func(output, target []float32) float64, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	return l.config().RowFunc(size(shape), lastOf(shape)), nil
}

// lastOf is the last dimension of a shape; a scalar has one of 1.
func lastOf(shape []int) int {
	if len(shape) == 0 {
		return 1
	}
	return shape[len(shape)-1]
}

// losses gives the loss of every output, or none when the network is not to be trained.
func (d *Definition) losses(cfg Config) ([]Loss, error) {
	all := cfg.Losses
	if len(all) == 0 {
		if cfg.Loss == "" {
			return nil, nil
		}
		for range d.Outputs {
			all = append(all, Loss{Name: cfg.Loss})
		}
	}
	if len(all) != len(d.Outputs) {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("%d losses for the %d outputs of the model", len(all), len(d.Outputs)), Hint: "give one loss an output"}
	}
	shapes, err := d.shapes()
	if err != nil {
		return nil, err
	}
	for i, l := range all {
		if err := l.Check(); err != nil {
			return nil, err
		}
		if err := d.checkLoss(l, d.Outputs[i], shapes[d.Outputs[i]]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// checkLoss finds what cannot be meant: one class, or logits that are none.
func (d *Definition) checkLoss(l Loss, output string, shape []int) error {
	name := graph.CanonicalLoss(l.Name)
	if name != "binary_crossentropy" && lastOf(shape) == 1 && (name == "categorical_crossentropy" || graph.SparseLoss(name)) {
		return &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("%s needs an output a class, output %s has width 1", l.Name, output),
			Hint:    "use binary_crossentropy, or as many units as there are classes"}
	}
	if a := d.finalActivation(output); l.FromLogits && (a == "softmax" || a == "sigmoid") {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s from_logits of output %s, which ends with %s", l.Name, output, a),
			Hint: "remove from_logits, or the activation"}
	}
	return nil
}

// finalActivation names the activation that a layer ends with; empty for a layer that has none.
func (d *Definition) finalActivation(layer string) string {
	for _, l := range d.Layers {
		if l.Name != layer {
			continue
		}
		if a, ok := l.Op.(activated); ok {
			return graph.Canonical(a.activation())
		}
		if len(l.From) == 1 {
			if _, same := l.Op.(passing); same {
				return d.finalActivation(l.From[0])
			}
		}
	}
	return ""
}

// activated is a layer that ends with an activation.
type activated interface{ activation() string }

// passing is a layer that changes no value: flatten, reshape.
type passing interface{ passes() }

// LossWarnings says what is allowed and likely to be a slip: a cross-entropy of an output that is no probability.
// Keras computes it all the same, of what is cut off at 0 and 1, and so do we.
func (d *Definition) LossWarnings(losses []Loss) []string {
	var all []string
	for i, l := range losses {
		if i >= len(d.Outputs) {
			break
		}
		want := "softmax"
		switch graph.CanonicalLoss(l.Name) {
		case "binary_crossentropy":
			want = "sigmoid"
		case "categorical_crossentropy", "sparse_categorical_crossentropy":
		default:
			continue
		}
		if a := d.finalActivation(d.Outputs[i]); a == "linear" && !l.FromLogits {
			all = append(all, fmt.Sprintf("output %s is linear, and %s takes probabilities: set from_logits: true, or end the model with %s", d.Outputs[i], l.Name, want))
		}
	}
	return all
}

// CheckTargets compares the widths of a dataset's y columns with what the losses take, so that a mismatch is found
// before anything is trained.
func (d *Definition) CheckTargets(losses []Loss, y []int) error {
	losses, err := d.losses(Config{Losses: losses})
	if err != nil {
		return err
	}
	shapes := d.Shapes()
	want := make([]int, len(losses))
	for i, l := range losses {
		want[i] = l.TargetWidth(shapes[d.Outputs[i]])
	}
	if slices.Equal(want, y) {
		return nil
	}
	hint := "change the units of the last layer or columns.y"
	if len(want) == 1 && len(y) == 1 && y[0] == 1 && graph.CanonicalLoss(losses[0].Name) == "categorical_crossentropy" {
		hint = "one_hot the label, or use sparse_categorical_crossentropy, which takes the index of the class"
	}
	what := "the model gives outputs"
	if _, outputs := d.Widths(); !slices.Equal(want, outputs) {
		what = "the losses take targets"
	}
	return &pipeline.Error{Kind: pipeline.BadSpec, Hint: hint,
		Message: fmt.Sprintf("%s of width %s, the dataset has y columns of width %s", what, widths(want), widths(y))}
}
