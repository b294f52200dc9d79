package kerastest

import "maps"

// activation draws one; some have a kink.
func (b *builder) activation() string {
	return pick(b, "linear", "relu", "sigmoid", "tanh", "softmax", "elu", "gelu", "silu", "softplus", "selu")
}

func drawActivation(b *builder) {
	b.features(b.between(1, 6))
	b.add("activation", fields{"activation": b.activation()})
	b.end(true)
}

func drawDense(b *builder) {
	shape := []int{b.between(1, 5)}
	if b.coin() {
		shape = []int{b.between(1, 4), b.between(1, 5)}
	}
	b.features(shape...)
	f := fields{"units": b.between(1, 20), "activation": b.activation(), "use_bias": b.coin()}
	keras := maps.Clone(f)
	b.regularizer("kernel_regularizer", f, keras)
	if f["use_bias"] == true {
		b.regularizer("bias_regularizer", f, keras)
	}
	b.addKeras("dense", f, keras)
	b.end(len(shape) == 1)
}

func drawDropout(b *builder) {
	b.features(b.between(1, 6))
	f := fields{"rate": pick(b, 0, 0, 0.5)}
	b.graph.Random = f["rate"] != 0.
	b.add("dropout", f)
	b.end(true)
}

func drawFlatten(b *builder) {
	b.features(b.between(1, 3), b.between(1, 3), b.between(1, 3))
	b.add("flatten", nil)
	b.end(true)
}

// window draws the sizes of a window over an image of at least 5 × 5.
func (b *builder) window(f fields, size string, atMost int) {
	f[size] = []int{b.between(1, atMost), b.between(1, atMost)}
	f["padding"] = pick(b, "valid", "same")
	if b.coin() {
		f["strides"] = []int{b.between(1, 3), b.between(1, 3)}
	}
}

func drawConv2D(b *builder) {
	b.image(5)
	f := fields{"filters": b.between(1, 20), "activation": b.activation(), "use_bias": b.coin()}
	b.window(f, "kernel_size", 5)
	if f["strides"] == nil && b.coin() {
		f["kernel_size"], f["dilation_rate"] = []int{2, 3}, []int{b.between(1, 3), b.between(1, 2)}
	}
	keras := maps.Clone(f)
	b.regularizer("kernel_regularizer", f, keras)
	b.addKeras("conv2d", f, keras)
	b.end(false)
}

func drawConv1D(b *builder) {
	b.features(b.between(5, 14), b.between(1, 5))
	f := fields{"filters": b.between(1, 20), "activation": b.activation(), "use_bias": b.coin(), "kernel_size": b.between(1, 5), "padding": pick(b, "valid", "same", "causal")}
	switch b.between(0, 2) {
	case 0:
		f["strides"] = b.between(1, 3)
	case 1:
		f["kernel_size"], f["dilation_rate"] = b.between(2, 3), b.between(1, 2)
	}
	keras := maps.Clone(f)
	b.regularizer("kernel_regularizer", f, keras)
	b.addKeras("conv1d", f, keras)
	b.end(false)
}

func drawPooling(kind string) func(b *builder) {
	return func(b *builder) {
		b.image(4)
		f := fields{}
		b.window(f, "pool_size", 4)
		b.add(kind, f)
		b.end(false)
	}
}

func drawGlobal(kind string) func(b *builder) {
	return func(b *builder) {
		b.image(1)
		b.add(kind, nil)
		b.end(true)
	}
}

func drawPooling1D(kind string) func(b *builder) {
	return func(b *builder) {
		b.features(b.between(4, 14), b.between(1, 5))
		if b.coin() { // computed with it
			b.add("conv1d", fields{"filters": b.between(1, 5), "kernel_size": b.between(1, 3), "padding": "causal", "activation": "relu"})
		}
		f := fields{"pool_size": b.between(1, 4), "padding": pick(b, "valid", "same")}
		if b.coin() {
			f["strides"] = b.between(1, 3)
		}
		b.add(kind, f)
		b.end(false)
	}
}

func drawGlobal1D(kind string) func(b *builder) {
	return func(b *builder) {
		b.features(b.between(1, 8), b.between(1, 5))
		keep := b.coin()
		b.add(kind, fields{"keepdims": keep})
		b.end(!keep)
	}
}

// anywhere adds a vector, a sequence or an image, and tells whether it is a vector.
func (b *builder) anywhere() (flat bool) {
	shape := []int{b.between(1, 4), b.between(1, 4), b.between(1, 5)}[b.between(0, 2):]
	b.features(shape...)
	return len(shape) == 1
}

func drawBatchNormalization(b *builder) {
	flat := b.anywhere()
	f := fields{"momentum": pick(b, 0.99, 0.5), "epsilon": pick(b, 1e-3, 0.1), "center": b.coin(), "scale": b.coin()}
	keras := maps.Clone(f)
	if f["scale"] == true {
		b.regularizer("gamma_regularizer", f, keras)
	}
	b.addKeras("batch_normalization", f, keras)
	b.end(flat)
}

func drawLayerNormalization(b *builder) {
	flat := b.anywhere()
	b.add("layer_normalization", fields{"epsilon": pick(b, 1e-3, 0.1), "center": b.coin(), "scale": b.coin()})
	b.end(flat)
}

func drawELU(b *builder) {
	flat := b.anywhere()
	b.add("elu", fields{"alpha": b.r.Float64()})
	b.end(flat)
}

func drawLeakyReLU(b *builder) {
	flat := b.anywhere()
	b.add("leaky_relu", fields{"negative_slope": b.r.Float64()})
	b.end(flat)
}

func drawReLU(b *builder) {
	flat := b.anywhere()
	f := fields{}
	if b.coin() {
		f["max_value"] = 0.5 + b.r.Float64()
	}
	if b.coin() {
		f["negative_slope"] = 0.5 * b.r.Float64()
	}
	if b.coin() {
		f["threshold"] = 0.4 * b.r.Float64()
	}
	b.add("relu", f)
	b.end(flat)
}

func drawGaussianNoise(b *builder) {
	flat := b.anywhere()
	f := fields{"stddev": pick(b, 0, 0, 0.5)}
	b.graph.Random = f["stddev"] != 0.
	b.add("gaussian_noise", f)
	b.end(flat)
}

func drawReshape(b *builder) {
	b.features(2, 3, 4)
	b.add("reshape", fields{"target_shape": pick(b, []int{24}, []int{4, 6}, []int{-1, 8}, []int{3, 2, -1}, []int{12, 2})})
	b.end(false)
}

func drawEmbedding(b *builder) {
	classes := b.between(2, 9)
	b.input(classes, b.between(1, 4))
	f := fields{"input_dim": classes, "output_dim": b.between(1, 5)}
	keras := maps.Clone(f)
	b.regularizer("embeddings_regularizer", f, keras)
	b.addKeras("embedding", f, keras)
	b.end(false)
}

// drawMerge reads from several layers over one input.
func drawMerge(kind string, most int) func(b *builder) {
	return func(b *builder) {
		from := b.branches(most, b.between(1, 3), b.between(1, 4))
		b.add(kind, nil, from...)
		b.end(false)
	}
}

// branches are dense layers side by side.
func (b *builder) branches(most int, shape ...int) []string {
	b.features(shape...)
	common := b.last
	var from []string
	for range b.between(2, most) {
		from = append(from, b.add("dense", fields{"units": shape[len(shape)-1], "activation": "tanh"}, common))
	}
	return from
}

func drawConcatenate(b *builder) {
	from := b.branches(3, 2, 3)
	b.add("concatenate", fields{"axis": pick(b, -1, 1, 2, -2)}, from...)
	b.end(false)
}

// recurrent draws the fields of a recurrent layer.
func (b *builder) recurrent(kind string) (f, keras fields) {
	f = fields{"units": b.between(1, 5), "use_bias": b.coin(), "return_sequences": b.coin(), "go_backwards": b.coin(), "activation": pick(b, "tanh", "tanh", "relu")}
	switch kind {
	case "lstm":
		f["unit_forget_bias"], f["recurrent_activation"] = b.coin(), pick(b, "sigmoid", "hard_sigmoid")
	case "gru":
		f["reset_after"], f["recurrent_activation"] = b.coin(), pick(b, "sigmoid", "hard_sigmoid")
	}
	keras = maps.Clone(f)
	b.regularizer("kernel_regularizer", f, keras)
	b.regularizer("recurrent_regularizer", f, keras)
	return f, keras
}

func drawRecurrent(kind string) func(b *builder) {
	return func(b *builder) {
		b.features(b.between(1, 4), b.between(1, 4))
		f, keras := b.recurrent(kind)
		b.addKeras(kind, f, keras)
		b.end(f["return_sequences"] == false)
	}
}

func drawBidirectional(b *builder) {
	b.features(b.between(1, 4), b.between(1, 4))
	object := func(kind string, keras fields) fields {
		return fields{"module": "keras.layers", "class_name": cases()[kind].class, "config": keras, "registered_name": nil}
	}
	kind, mode := pick(b, "simple_rnn", "lstm", "gru"), pick(b, "concat", "sum", "mul", "ave")
	f, keras := b.recurrent(kind)
	f["go_backwards"], keras["go_backwards"] = false, false
	all, allKeras := fields{"merge_mode": mode, "layer": fields{kind: f}}, fields{"merge_mode": mode, "layer": object(kind, keras)}
	if b.coin() {
		other := pick(b, kind, "simple_rnn", "lstm", "gru")
		g, keras := b.recurrent(other)
		for _, side := range []fields{g, keras} {
			side["go_backwards"], side["return_sequences"], side["units"] = true, f["return_sequences"], f["units"]
		}
		all["backward_layer"], allKeras["backward_layer"] = fields{other: g}, object(other, keras)
	}
	b.addKeras("bidirectional", all, allKeras)
	b.end(f["return_sequences"] == false)
}
