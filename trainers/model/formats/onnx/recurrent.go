package onnx

import (
	"slices"
	"strings"

	"dkpipe/trainers/model"
)

// cell says what of an ONNX recurrent operator differs between the kinds.
type cell struct {
	kind      string // RNN, LSTM, GRU
	base      *model.Recurrent
	functions []string // activations, in ONNX' order
	order     []int    // Keras' gates in ONNX' order
	attrs     []attr
}

func cellOf(op model.Op) cell {
	switch op := op.(type) {
	case *model.SimpleRNN:
		return cell{kind: "RNN", base: &op.Recurrent, functions: []string{op.Activation}, order: []int{0}}
	case *model.LSTM: // Keras has the gates input, forget, candidate, output; ONNX input, output, forget, candidate
		return cell{kind: "LSTM", base: &op.Recurrent, order: []int{0, 3, 1, 2},
			functions: []string{op.RecurrentActivation, op.Activation, op.Activation}} // of gates, of the candidate, of the cell's state
	case *model.GRU: // both have the gates update, reset, candidate
		after := 0
		if op.ResetAfter {
			after = 1
		}
		return cell{kind: "GRU", base: &op.Recurrent, functions: []string{op.RecurrentActivation, op.Activation}, order: []int{0, 1, 2},
			attrs: []attr{{"linear_before_reset", after}}}
	}
	return cell{}
}

// gated turns a kernel [features, gates·units] round, with its gates in another order.
func gated(p param, units int, order ...int) *tensor {
	features, width := p.shape[0], p.shape[1]
	out := make([]float32, len(p.data))
	for to, from := range order {
		for u := range units {
			for f := range features {
				out[(to*units+u)*features+f] = p.data[f*width+from*units+u]
			}
		}
	}
	return &tensor{name: p.name, shape: []int{1, width, features}, floats: out}
}

// put adds a tensor under a name of its own.
func (b *builder) put(t *tensor) string { return b.weights(t.name, t.shape, t.floats) }

// reorder picks gates of a bias.
func reorder(bias []float32, units int, order ...int) []float32 {
	out := make([]float32, 0, len(bias))
	for _, from := range order {
		out = append(out, bias[from*units:(from+1)*units]...)
	}
	return out
}

// weights adds the tensors of a recurrent operator. Its bias has two halves, of the products with the kernel and with the
// recurrent kernel; only a GRU that resets after has both.
func (c cell) weights(b *builder, p map[string]param) []string {
	units := c.base.Units
	all := []string{b.put(gated(p["kernel"], units, c.order...)), b.put(gated(p["recurrent_kernel"], units, c.order...))}
	if bias, ok := p["bias"]; ok {
		width := len(c.order) * units
		both := append(reorder(bias.data[:width], units, c.order...), bias.data[width:]...)
		both = append(both, make([]float32, 2*width-len(both))...)
		all = append(all, b.weights(bias.name, []int{1, 2 * width}, both))
	}
	return all
}

// activations are the attributes that name the functions and give their parameters.
func (c cell) activations(l model.Layer) ([]attr, error) {
	var ops []string
	var alphas, betas []float32
	for _, name := range c.functions {
		f, alpha, beta := gate(name)
		if f == "" {
			return nil, unsupported("export to keras or safetensors", "layer %s (%s): activation %q has no equivalent in a recurrent layer", l.Name, l.Op.Kind(), name)
		}
		ops = append(ops, f)
		switch f { // only these have parameters; the lists skip the others
		case "Affine", "HardSigmoid":
			alphas, betas = append(alphas, alpha), append(betas, beta)
		case "LeakyRelu", "Elu":
			alphas = append(alphas, alpha)
		}
	}
	attrs := []attr{{"activations", ops}}
	if len(alphas) > 0 {
		attrs = append(attrs, attr{"activation_alpha", alphas})
	}
	if len(betas) > 0 {
		attrs = append(attrs, attr{"activation_beta", betas})
	}
	return attrs, nil
}

// recurrent translates a recurrent layer over rows of shape [steps, features]. With backwards, its results for all steps
// come from the last step to the first, else from the first to the last, whichever way it goes.
func (b *builder) recurrent(op model.Op, p map[string]param, x tensorValue, shape []int, l model.Layer, backwards bool) (tensorValue, error) {
	c := cellOf(op)
	attrs, err := c.activations(l)
	if err != nil {
		return tensorValue{}, err
	}
	attrs = slices.Concat(c.attrs, attrs, []attr{{"hidden_size", c.base.Units}})
	if c.base.GoBackwards {
		attrs = append(attrs, attr{"direction", "reverse"})
	}
	inputs := append([]string{b.transposed(x.name, 1, 0, 2)}, c.weights(b, p)...)
	all, end := b.name(c.kind), b.name(c.kind)
	b.addMany(c.kind, inputs, []string{all, end}, attrs...)
	if !c.base.ReturnSequences { // [1, N, units]
		return tensorValue{name: b.node("Squeeze", []string{end, b.indices(0)}), shape: shape}, nil
	}
	steps := b.node("Squeeze", []string{all, b.indices(1)}) // [steps, N, units], in the order of x
	if backwards {
		steps = b.node("Slice", []string{steps, b.indices(-1), b.indices(-1 - x.shape[0]), b.indices(0), b.indices(-1)})
	}
	return tensorValue{name: b.transposed(steps, 1, 0, 2), shape: shape}, nil
}

// directions translates the two layers of a bidirectional one. The results of both are in the order of the forward one's.
func (b *builder) directions(op *model.Bidirectional, p map[string]param, x tensorValue, shape []int, l model.Layer) ([]tensorValue, error) {
	side := func(name string) map[string]param {
		own := map[string]param{}
		for key, v := range p {
			if key, ok := strings.CutPrefix(key, name+"/"); ok {
				own[key] = v
			}
		}
		return own
	}
	f, r := op.Directions()
	backwards := cellOf(f).base.GoBackwards
	forward, err := b.recurrent(f, side("forward_layer"), x, shape, l, backwards)
	if err != nil {
		return nil, err
	}
	backward, err := b.recurrent(r, side("backward_layer"), x, shape, l, backwards)
	return []tensorValue{forward, backward}, err
}
