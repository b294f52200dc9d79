package kerasjson

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// layerObject writes one layer with the shapes that it was built for.
func layerObject(l model.Layer, shapes map[string][]int) (object, error) {
	o := bareObject(l)
	if o.ClassName == "" {
		return object{}, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("layer %s (%s) cannot be written as Keras JSON", l.Name, l.Op.Kind())}
	}
	var built any = batchShape(shapes[l.From[0]])
	if takesList(l.Op) {
		var all []any
		for _, from := range l.From {
			all = append(all, batchShape(shapes[from]))
		}
		built = all
	}
	o.BuildConfig = &buildConf{built}
	return o, nil
}

// bareObject is a layer without shapes.
func bareObject(l model.Layer) object {
	class, config := layerConfig(l)
	base := fields{{"name", l.Name}, {"trainable", !l.Frozen}, {"dtype", "float32"}}
	return object{Module: "keras.layers", ClassName: class, Config: append(base, config...)}
}

// layerConfig gives a layer's class and what its config has beside name, trainable and dtype: keys that Keras 3.0 knew.
func layerConfig(l model.Layer) (class string, config fields) {
	switch op := l.Op.(type) {
	case *model.Dense:
		return "Dense", append(fields{{"units", op.Units}, {"activation", model.CanonicalActivation(op.Activation)}, {"use_bias", op.UseBias}},
			kernelAndBias(op.KernelInitializer, op.BiasInitializer, op.KernelRegularizer, op.BiasRegularizer)...)
	case *model.Conv1D:
		return "Conv1D", append(convolution(op.Convolution), fields{{"kernel_size", []int{op.KernelSize}}, {"strides", []int{op.Strides}}, {"dilation_rate", []int{op.DilationRate}}}...)
	case *model.Conv2D:
		return "Conv2D", append(convolution(op.Convolution), fields{{"kernel_size", op.KernelSize}, {"strides", op.Strides}, {"dilation_rate", op.DilationRate}}...)
	case *model.MaxPooling2D:
		return "MaxPooling2D", pooling(op.Pooling)
	case *model.AveragePooling2D:
		return "AveragePooling2D", pooling(op.Pooling)
	case *model.MaxPooling1D:
		return "MaxPooling1D", pooling1D(op.Pooling1D)
	case *model.AveragePooling1D:
		return "AveragePooling1D", pooling1D(op.Pooling1D)
	case *model.GlobalAveragePooling2D:
		return "GlobalAveragePooling2D", globalPooling(op.GlobalPooling)
	case *model.GlobalMaxPooling2D:
		return "GlobalMaxPooling2D", globalPooling(op.GlobalPooling)
	case *model.GlobalAveragePooling1D:
		return "GlobalAveragePooling1D", globalPooling(op.GlobalPooling)
	case *model.GlobalMaxPooling1D:
		return "GlobalMaxPooling1D", globalPooling(op.GlobalPooling)
	case *model.Activation:
		return "Activation", fields{{"activation", model.CanonicalActivation(op.Activation)}}
	case *model.Dropout:
		return "Dropout", fields{{"rate", op.Rate}, {"seed", op.Seed}, {"noise_shape", nil}}
	case *model.GaussianNoise:
		return "GaussianNoise", fields{{"stddev", op.Stddev}, {"seed", op.Seed}}
	case *model.Flatten:
		return "Flatten", fields{{"data_format", "channels_last"}}
	case *model.Reshape:
		return "Reshape", fields{{"target_shape", op.TargetShape}}
	case *model.Rectifier:
		if op.Leaky {
			return "LeakyReLU", fields{{"negative_slope", op.NegativeSlope}}
		}
		return "ReLU", fields{{"max_value", op.MaxValue}, {"negative_slope", op.NegativeSlope}, {"threshold", op.Threshold}}
	case *model.ELU:
		return "ELU", fields{{"alpha", op.Alpha}}
	case *model.Concatenate:
		return "Concatenate", fields{{"axis", op.Axis}}
	case *model.Merge:
		for class, how := range mergers() {
			if how == op.How {
				return class, nil
			}
		}
	case *model.Embedding:
		return "Embedding", fields{{"input_dim", op.InputDim}, {"output_dim", op.OutputDim}, {"embeddings_initializer", initializerObject(op.EmbeddingsInitializer)},
			{"embeddings_regularizer", regularizerObject(op.EmbeddingsRegularizer)}, {"embeddings_constraint", nil}, {"mask_zero", false}}
	case *model.BatchNormalization:
		return "BatchNormalization", append(fields{{"axis", -1}, {"momentum", op.Momentum}}, append(
			normalization(op.Epsilon, op.Center, op.Scale, op.BetaInitializer, op.GammaInitializer, op.BetaRegularizer, op.GammaRegularizer),
			field{"moving_mean_initializer", initializerObject(op.MovingMeanInitializer)},
			field{"moving_variance_initializer", initializerObject(op.MovingVarianceInitializer)})...)
	case *model.LayerNormalization:
		return "LayerNormalization", append(fields{{"axis", -1}},
			normalization(op.Epsilon, op.Center, op.Scale, op.BetaInitializer, op.GammaInitializer, op.BetaRegularizer, op.GammaRegularizer)...)
	case *model.Bidirectional:
		forward, backward := op.Directions()
		return "Bidirectional", fields{{"merge_mode", op.MergeMode}, {"layer", bareObject(model.Layer{Name: "forward_" + forward.Kind(), Op: forward, Frozen: l.Frozen})},
			{"backward_layer", bareObject(model.Layer{Name: "backward_" + backward.Kind(), Op: backward, Frozen: l.Frozen})}}
	case *model.SimpleRNN:
		return "SimpleRNN", recurrent(op.Recurrent)
	case *model.LSTM:
		return "LSTM", append(gated(op.Gated), field{"unit_forget_bias", op.UnitForgetBias})
	case *model.GRU:
		return "GRU", append(gated(op.Gated), field{"reset_after", op.ResetAfter})
	}
	return "", nil
}

func kernelAndBias(ki, bi model.Initializer, kr, br model.Regularizer) fields {
	return fields{{"kernel_initializer", initializerObject(ki)}, {"bias_initializer", initializerObject(bi)},
		{"kernel_regularizer", regularizerObject(kr)}, {"bias_regularizer", regularizerObject(br)},
		{"kernel_constraint", nil}, {"bias_constraint", nil}}
}

func convolution(c model.Convolution) fields {
	return append(fields{{"filters", c.Filters}, {"padding", c.Padding}, {"data_format", "channels_last"}, {"groups", 1},
		{"activation", model.CanonicalActivation(c.Activation)}, {"use_bias", c.UseBias}},
		kernelAndBias(c.KernelInitializer, c.BiasInitializer, c.KernelRegularizer, c.BiasRegularizer)...)
}

func pooling(p model.Pooling) fields {
	strides := p.Strides
	if strides == (model.Pair{}) { // as large as the pool
		strides = p.PoolSize
	}
	return fields{{"pool_size", p.PoolSize}, {"padding", p.Padding}, {"strides", strides}, {"data_format", "channels_last"}}
}

func pooling1D(p model.Pooling1D) fields {
	return fields{{"pool_size", []int{p.PoolSize}}, {"padding", p.Padding}, {"strides", []int{p.Stride()}}, {"data_format", "channels_last"}}
}

func globalPooling(p model.GlobalPooling) fields {
	return fields{{"data_format", "channels_last"}, {"keepdims", p.KeepDims}}
}

func normalization(epsilon float64, center, scale bool, bi, gi model.Initializer, br, gr model.Regularizer) fields {
	return fields{{"epsilon", epsilon}, {"center", center}, {"scale", scale}, {"beta_initializer", initializerObject(bi)},
		{"gamma_initializer", initializerObject(gi)}, {"beta_regularizer", regularizerObject(br)}, {"gamma_regularizer", regularizerObject(gr)},
		{"beta_constraint", nil}, {"gamma_constraint", nil}}
}

func recurrent(r model.Recurrent) fields {
	return fields{{"units", r.Units}, {"activation", model.CanonicalActivation(r.Activation)}, {"use_bias", r.UseBias},
		{"return_sequences", r.ReturnSequences}, {"return_state", false}, {"go_backwards", r.GoBackwards}, {"stateful", false}, {"unroll", false},
		{"kernel_initializer", initializerObject(r.KernelInitializer)}, {"recurrent_initializer", initializerObject(r.RecurrentInitializer)},
		{"bias_initializer", initializerObject(r.BiasInitializer)}, {"kernel_regularizer", regularizerObject(r.KernelRegularizer)},
		{"recurrent_regularizer", regularizerObject(r.RecurrentRegularizer)}, {"bias_regularizer", regularizerObject(r.BiasRegularizer)},
		{"kernel_constraint", nil}, {"recurrent_constraint", nil}, {"bias_constraint", nil}, {"dropout", 0.0}, {"recurrent_dropout", 0.0}}
}

func gated(g model.Gated) fields {
	return append(recurrent(g.Recurrent), field{"recurrent_activation", model.CanonicalActivation(g.RecurrentActivation)})
}
