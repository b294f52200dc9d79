package onnx

import "dkpipe/trainers/model"

// recurrentWeights are the three tensors of an ONNX recurrent operator. A gate's rows follow each other; ONNX wants them
// as [directions, gates·units, features].
type recurrentWeights struct {
	kernel, recurrent, bias string // bias is empty when there is none
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

// lstmWeights: Keras has the gates input, forget, candidate, output; ONNX input, output, forget, candidate.
func (b *builder) lstmWeights(op *model.LSTM, p map[string]param) recurrentWeights {
	order := []int{0, 3, 1, 2}
	w := recurrentWeights{kernel: b.put(gated(p["kernel"], op.Units, order...)), recurrent: b.put(gated(p["recurrent_kernel"], op.Units, order...))}
	if bias, ok := p["bias"]; ok {
		both := append(reorder(bias.data, op.Units, order...), make([]float32, 4*op.Units)...)
		w.bias = b.weights(bias.name, []int{1, 8 * op.Units}, both)
	}
	return w
}

// gruWeights: both have the gates update, reset, candidate.
func (b *builder) gruWeights(op *model.GRU, p map[string]param) recurrentWeights {
	order := []int{0, 1, 2}
	w := recurrentWeights{kernel: b.put(gated(p["kernel"], op.Units, order...)), recurrent: b.put(gated(p["recurrent_kernel"], op.Units, order...))}
	if bias, ok := p["bias"]; ok {
		both := append([]float32(nil), bias.data...)
		if !op.ResetAfter {
			both = append(both, make([]float32, 3*op.Units)...)
		}
		w.bias = b.weights(bias.name, []int{1, 6 * op.Units}, both)
	}
	return w
}

// recurrent translates an LSTM or GRU over rows of shape [steps, features].
func (b *builder) recurrent(kind string, op *model.Recurrent, w recurrentWeights, x tensorValue, shape []int, l model.Layer, attrs ...attr) (tensorValue, error) {
	functions := []string{op.RecurrentActivation, op.Activation}
	if kind == "LSTM" {
		functions = append(functions, op.Activation) // of the candidate, and of the cell's state
	}
	var ops []string
	var alphas, betas []float32
	for _, name := range functions {
		f, alpha, beta := gate(name)
		if f == "" {
			return tensorValue{}, unsupported("export to keras or safetensors", "layer %s (%s): activation %q has no equivalent in a recurrent layer", l.Name, l.Op.Kind(), name)
		}
		ops = append(ops, f)
		switch f { // only these have parameters; the lists skip the others
		case "Affine", "HardSigmoid":
			alphas, betas = append(alphas, alpha), append(betas, beta)
		case "LeakyRelu", "Elu":
			alphas = append(alphas, alpha)
		}
	}
	attrs = append(attrs, attr{"hidden_size", op.Units}, attr{"activations", ops})
	if len(alphas) > 0 {
		attrs = append(attrs, attr{"activation_alpha", alphas})
	}
	if len(betas) > 0 {
		attrs = append(attrs, attr{"activation_beta", betas})
	}
	inputs := []string{b.transposed(x.name, 1, 0, 2), w.kernel, w.recurrent}
	if w.bias != "" {
		inputs = append(inputs, w.bias)
	}
	all, end := b.name(kind), b.name(kind)
	b.addMany(kind, inputs, []string{all, end}, attrs...)
	if !op.ReturnSequences { // [1, N, units]
		return tensorValue{name: b.node("Squeeze", []string{end, b.indices(0)}), shape: shape}, nil
	}
	steps := b.node("Squeeze", []string{all, b.indices(1)}) // [steps, N, units]
	return tensorValue{name: b.transposed(steps, 1, 0, 2), shape: shape}, nil
}
