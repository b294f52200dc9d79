package onnx

import (
	"fmt"
	"slices"
	"strings"

	"dkpipe/trainers/model"
)

// tensorValue is the result of a layer. shape is that of one row with channels last, whatever order the tensor has.
type tensorValue struct {
	name  string
	shape []int
	first bool // an image or a sequence with channels first: [N, channels, height, width] or [N, channels, steps]
}

// layers translates the definition and names its outputs.
func (b *builder) layers(inputs []tensorValue) error {
	d := b.m.Definition
	shapes := d.Shapes()
	values := map[string]tensorValue{}
	for i, in := range d.Inputs {
		values[in.Name] = inputs[i]
	}
	for i, l := range d.Layers {
		in := make([]tensorValue, len(l.From))
		for k, name := range l.From {
			in[k] = values[name]
		}
		v, err := b.layer(i, l, in, shapes[l.Name])
		if err != nil {
			return err
		}
		values[l.Name] = v
	}
	for i, name := range d.Outputs {
		if slices.Contains(d.Outputs[:i], name) {
			return unsupported("", "the model has the output %q twice", name)
		}
		v := b.last(values[name])
		b.add("Identity", []string{v.name}, name)
		b.output(name, float32s, v.shape)
	}
	if b.valid != "" {
		name := b.name("valid")
		b.add("Identity", []string{b.valid}, name)
		b.output(name, bools, []int{1})
	}
	return nil
}

// last gives a value with its channels last.
func (b *builder) last(v tensorValue) tensorValue {
	if !v.first {
		return v
	}
	return tensorValue{name: b.transposed(v.name, toLast(len(v.shape))...), shape: v.shape}
}

// toLast is the order of dimensions, with the batch, that brings the channels of rows of n dimensions last, and toFirst the
// one that brings them first.
func toLast(n int) []int {
	perm := []int{0}
	for d := 2; d <= n; d++ {
		perm = append(perm, d)
	}
	return append(perm, 1)
}

func toFirst(n int) []int {
	perm := []int{0, n}
	for d := 1; d < n; d++ {
		perm = append(perm, d)
	}
	return perm
}

// channelsFirst gives an image or a sequence with its channels first.
func (b *builder) channelsFirst(v tensorValue) tensorValue {
	if v.first {
		return v
	}
	return tensorValue{name: b.transposed(v.name, toFirst(len(v.shape))...), shape: v.shape, first: true}
}

// transposed gives a tensor in another order, once for every tensor.
func (b *builder) transposed(name string, perm ...int) string {
	key := fmt.Sprint("transpose ", perm, name)
	if b.consts[key] == "" {
		b.consts[key] = b.node("Transpose", []string{name}, attr{"perm", perm})
	}
	return b.consts[key]
}

// param gives the model's variables of a layer by their names: the live data, with its shape.
type param struct {
	name  string
	shape []int
	data  []float32
}

func (b *builder) params(layer int) map[string]param {
	out := map[string]param{}
	for _, v := range b.vars[layer] {
		p := param{name: v.Name, shape: v.Shape}
		if v.State {
			p.data = b.m.State[v.Off : v.Off+v.Len]
		} else {
			p.data = b.m.Params[v.Off : v.Off+v.Len]
		}
		out[strings.TrimPrefix(v.Name, b.m.Definition.Layers[layer].Name+"/")] = p
	}
	return out
}

func (b *builder) use(p param) string { return b.weights(p.name, p.shape, p.data) }

// layer translates one layer; shape is that of its result.
func (b *builder) layer(i int, l model.Layer, in []tensorValue, shape []int) (tensorValue, error) {
	x := in[0]
	switch op := l.Op.(type) {
	case *model.Dropout, *model.GaussianNoise: // nothing in inference
		return x, nil
	case *model.Flatten:
		return b.reshaped(x, shape), nil
	case *model.Reshape:
		return b.reshaped(x, shape), nil
	case *model.Dense:
		return b.activation(b.dense(b.params(i), b.last(x), shape), l, op.Activation)
	case *model.Conv1D:
		w := window{[]int{op.KernelSize}, []int{op.Strides}, []int{op.DilationRate}, op.Padding}
		return b.activation(b.conv(w, b.params(i), b.channelsFirst(x), shape), l, op.Activation)
	case *model.Conv2D:
		w := window{op.KernelSize[:], op.Strides[:], op.DilationRate[:], op.Padding}
		return b.activation(b.conv(w, b.params(i), b.channelsFirst(x), shape), l, op.Activation)
	case *model.MaxPooling1D:
		return b.pool("MaxPool", poolWindow1D(op.Pooling1D), b.channelsFirst(x), shape), nil
	case *model.AveragePooling1D:
		return b.pool("AveragePool", poolWindow1D(op.Pooling1D), b.channelsFirst(x), shape), nil
	case *model.GlobalAveragePooling1D:
		return b.global("GlobalAveragePool", op.KeepDims, b.channelsFirst(x), shape), nil
	case *model.GlobalMaxPooling1D:
		return b.global("GlobalMaxPool", op.KeepDims, b.channelsFirst(x), shape), nil
	case *model.MaxPooling2D:
		return b.pool("MaxPool", poolWindow(op.Pooling), b.channelsFirst(x), shape), nil
	case *model.AveragePooling2D:
		return b.pool("AveragePool", poolWindow(op.Pooling), b.channelsFirst(x), shape), nil
	case *model.GlobalAveragePooling2D:
		return b.global("GlobalAveragePool", op.KeepDims, b.channelsFirst(x), shape), nil
	case *model.GlobalMaxPooling2D:
		return b.global("GlobalMaxPool", op.KeepDims, b.channelsFirst(x), shape), nil
	case *model.Activation:
		return b.activation(x, l, op.Activation)
	case *model.Rectifier:
		return b.rectifier(op, x), nil
	case *model.ELU:
		x.name = b.node("Elu", []string{x.name}, attr{"alpha", float32(op.Alpha)})
		return x, nil
	case *model.BatchNormalization:
		return b.batchNorm(op, b.params(i), x), nil
	case *model.LayerNormalization:
		return b.layerNorm(op, b.params(i), b.last(x)), nil
	case *model.Embedding:
		ids := b.cast(b.last(x).name, int64s)
		return tensorValue{name: b.node("Gather", []string{b.use(b.params(i)["embeddings"]), ids}), shape: shape}, nil
	case *model.Concatenate:
		return b.concatenate(op, in, shape), nil
	case *model.Merge:
		return b.merge(op.How, in), nil
	case *model.SimpleRNN, *model.LSTM, *model.GRU:
		return b.recurrent(op, b.params(i), b.last(x), shape, l, cellOf(op).base.GoBackwards)
	case *model.Bidirectional:
		both, err := b.directions(op, b.params(i), b.last(x), shape, l)
		if err != nil {
			return tensorValue{}, err
		}
		return b.layer(i, model.Layer{Name: l.Name, Op: op.Merge()}, both, shape)
	}
	return tensorValue{}, unsupported("export to keras or safetensors", "layer %s (%s) has no equivalent", l.Name, l.Op.Kind())
}

// reshaped gives a row another shape; rows are in channels-last order.
func (b *builder) reshaped(x tensorValue, shape []int) tensorValue {
	x = b.last(x)
	if slices.Equal(x.shape, shape) {
		return x
	}
	return tensorValue{name: b.node("Reshape", []string{x.name, b.indices(append([]int{0}, shape...)...)}), shape: shape}
}

func (b *builder) dense(p map[string]param, x tensorValue, shape []int) tensorValue {
	out := tensorValue{shape: shape}
	bias, biased := p["bias"]
	inputs := []string{x.name, b.use(p["kernel"])}
	if len(x.shape) == 1 {
		if biased {
			inputs = append(inputs, b.use(bias))
		}
		out.name = b.node("Gemm", inputs)
		return out
	}
	out.name = b.node("MatMul", inputs)
	if biased {
		out.name = b.node("Add", []string{out.name, b.use(bias)})
	}
	return out
}

// window is what slides over a sequence or an image, with a number for each of its directions.
type window struct {
	size, strides, dilation []int
	padding                 string // valid, same or causal
}

// attrs are those of operators with a window. Padding stands before the beginnings of all directions and then after their
// ends; an odd one goes to the end, as in Keras.
func (w window) attrs(in, out []int) []attr {
	n := len(w.size)
	pads := make([]int, 2*n)
	for i := range n {
		beside := (w.size[i] - 1) * w.dilation[i]
		switch w.padding {
		case "same":
			total := max((out[i]-1)*w.strides[i]+beside+1-in[i], 0)
			pads[i], pads[n+i] = total/2, total-total/2
		case "causal":
			pads[i] = beside
		}
	}
	return []attr{{"kernel_shape", w.size}, {"strides", w.strides}, {"pads", pads}}
}

func poolWindow(p model.Pooling) window {
	strides := p.Strides
	if strides == (model.Pair{}) {
		strides = p.PoolSize
	}
	return window{p.PoolSize[:], strides[:], []int{1, 1}, p.Padding}
}

func poolWindow1D(p model.Pooling1D) window {
	return window{[]int{p.PoolSize}, []int{p.Stride()}, []int{1}, p.Padding}
}

func (b *builder) conv(w window, p map[string]param, x tensorValue, shape []int) tensorValue {
	k := p["kernel"]
	n := len(k.shape) - 2
	channels, filters := k.shape[n], k.shape[n+1] // after the sizes of the window
	cells := len(k.data) / (channels * filters)
	turned := make([]float32, len(k.data))
	for i, v := range k.data {
		f, c := i%filters, i/filters%channels
		turned[(f*channels+c)*cells+i/(filters*channels)] = v
	}
	inputs := []string{x.name, b.weights(k.name, append([]int{filters, channels}, k.shape[:n]...), turned)}
	if bias, ok := p["bias"]; ok {
		inputs = append(inputs, b.use(bias))
	}
	name := b.node("Conv", inputs, append(w.attrs(x.shape, shape), attr{"dilations", w.dilation})...)
	return tensorValue{name: name, shape: shape, first: true}
}

func (b *builder) pool(kind string, w window, x tensorValue, shape []int) tensorValue {
	attrs := w.attrs(x.shape, shape)
	if kind == "AveragePool" {
		attrs = append(attrs, attr{"count_include_pad", 0})
	}
	return tensorValue{name: b.node(kind, []string{x.name}, attrs...), shape: shape, first: true}
}

func (b *builder) global(kind string, keep bool, x tensorValue, shape []int) tensorValue {
	v := tensorValue{name: b.node(kind, []string{x.name}), shape: shape, first: true}
	if !keep {
		v.name, v.first = b.node("Flatten", []string{v.name}, attr{"axis", 1}), false
	}
	return v
}

// orConstant gives a variable, or a constant in its place where the layer has none.
func (b *builder) orConstant(p param, ok bool, n int, value float32) string {
	if ok {
		return b.use(p)
	}
	all := make([]float32, n)
	for i := range all {
		all[i] = value
	}
	return b.shared(&tensor{shape: []int{n}, floats: all})
}

func (b *builder) batchNorm(op *model.BatchNormalization, p map[string]param, x tensorValue) tensorValue {
	channels := x.shape[len(x.shape)-1]
	if !x.first && len(x.shape) == 3 {
		x = b.channelsFirst(x)
	}
	gamma, scaled := p["gamma"]
	beta, shifted := p["beta"]
	inputs := []string{"", b.orConstant(gamma, scaled, channels, 1), b.orConstant(beta, shifted, channels, 0), b.use(p["moving_mean"]), b.use(p["moving_variance"])}
	eps := attr{"epsilon", float32(op.Epsilon)}
	if x.first || len(x.shape) == 1 {
		inputs[0] = x.name
		x.name = b.node("BatchNormalization", inputs, eps)
		return x
	}
	// Other rows are taken as many rows of one vector each.
	flat := b.node("Reshape", []string{x.name, b.indices(-1, channels)})
	inputs[0] = flat
	y := b.node("BatchNormalization", inputs, eps)
	x.name = b.node("Reshape", []string{y, b.indices(append([]int{-1}, x.shape...)...)})
	return x
}

func (b *builder) layerNorm(op *model.LayerNormalization, p map[string]param, x tensorValue) tensorValue {
	n := x.shape[len(x.shape)-1]
	gamma, scaled := p["gamma"]
	inputs := []string{x.name, b.orConstant(gamma, scaled, n, 1)}
	if beta, ok := p["beta"]; ok {
		inputs = append(inputs, b.use(beta))
	}
	x.name = b.node("LayerNormalization", inputs, attr{"axis", -1}, attr{"epsilon", float32(op.Epsilon)})
	return x
}

// together brings all values into one order: channels first when all are.
func (b *builder) together(in []tensorValue) []tensorValue {
	out := slices.Clone(in)
	if slices.ContainsFunc(in, func(v tensorValue) bool { return !v.first }) {
		for i := range out {
			out[i] = b.last(out[i])
		}
	}
	return out
}

func names(in []tensorValue) []string {
	var out []string
	for _, v := range in {
		out = append(out, v.name)
	}
	return out
}

func (b *builder) concatenate(op *model.Concatenate, in []tensorValue, shape []int) tensorValue {
	in = b.together(in)
	axis := op.Axis
	if axis < 0 {
		axis += len(shape) + 1
	}
	if in[0].first {
		axis = toLast(len(shape))[axis]
	}
	return tensorValue{name: b.node("Concat", names(in), attr{"axis", axis}), shape: shape, first: in[0].first}
}

func (b *builder) merge(how string, in []tensorValue) tensorValue {
	in = b.together(in)
	x := in[0]
	switch how {
	case "average":
		x.name = b.node("Mean", names(in))
	case "maximum":
		x.name = b.node("Max", names(in))
	case "minimum":
		x.name = b.node("Min", names(in))
	default:
		op := map[string]string{"add": "Add", "subtract": "Sub", "multiply": "Mul"}[how]
		for _, y := range in[1:] {
			x.name = b.node(op, []string{x.name, y.name})
		}
	}
	return x
}

func (b *builder) rectifier(op *model.Rectifier, x tensorValue) tensorValue {
	in := []string{x.name}
	switch {
	case op.Threshold == 0 && op.NegativeSlope == 0 && op.MaxValue == nil:
		x.name = b.node("Relu", in)
	case op.Threshold == 0 && op.NegativeSlope == 0:
		x.name = b.node("Clip", []string{x.name, b.number(0), b.number(float32(*op.MaxValue))})
	case op.Threshold == 0 && op.MaxValue == nil:
		x.name = b.node("LeakyRelu", in, attr{"alpha", float32(op.NegativeSlope)})
	default:
		above := x.name
		if op.MaxValue != nil {
			above = b.node("Min", []string{x.name, b.number(float32(*op.MaxValue))})
		}
		th := b.number(float32(op.Threshold))
		below := b.node("Mul", []string{b.node("Sub", []string{x.name, th}), b.number(float32(op.NegativeSlope))})
		x.name = b.choose(b.node("Less", []string{x.name, th}), below, above)
	}
	return x
}
