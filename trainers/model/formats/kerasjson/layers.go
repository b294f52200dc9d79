package kerasjson

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// readers gives for every class of Keras the function that reads its config.
func readers() map[string]func(c *config) model.Op {
	all := map[string]func(c *config) model.Op{
		"Activation":             (*config).activationLayer,
		"AveragePooling1D":       func(c *config) model.Op { return &model.AveragePooling1D{Pooling1D: c.pooling1D()} },
		"AveragePooling2D":       func(c *config) model.Op { return &model.AveragePooling2D{Pooling: c.pooling()} },
		"BatchNormalization":     (*config).batchNormalization,
		"Bidirectional":          (*config).bidirectional,
		"Concatenate":            (*config).concatenate,
		"Conv1D":                 (*config).conv1D,
		"Conv2D":                 (*config).conv2D,
		"Dense":                  (*config).dense,
		"Dropout":                (*config).dropout,
		"ELU":                    (*config).elu,
		"Embedding":              (*config).embedding,
		"Flatten":                (*config).flatten,
		"GRU":                    (*config).gru,
		"GaussianNoise":          (*config).gaussianNoise,
		"GlobalAveragePooling1D": func(c *config) model.Op { return &model.GlobalAveragePooling1D{GlobalPooling: c.globalPooling()} },
		"GlobalAveragePooling2D": func(c *config) model.Op { return &model.GlobalAveragePooling2D{GlobalPooling: c.globalPooling()} },
		"GlobalMaxPooling1D":     func(c *config) model.Op { return &model.GlobalMaxPooling1D{GlobalPooling: c.globalPooling()} },
		"GlobalMaxPooling2D":     func(c *config) model.Op { return &model.GlobalMaxPooling2D{GlobalPooling: c.globalPooling()} },
		"LSTM":                   (*config).lstm,
		"LayerNormalization":     (*config).layerNormalization,
		"LeakyReLU":              (*config).leakyReLU,
		"MaxPooling1D":           func(c *config) model.Op { return &model.MaxPooling1D{Pooling1D: c.pooling1D()} },
		"MaxPooling2D":           func(c *config) model.Op { return &model.MaxPooling2D{Pooling: c.pooling()} },
		"ReLU":                   (*config).relu,
		"Reshape":                (*config).reshape,
		"SimpleRNN":              func(c *config) model.Op { return &model.SimpleRNN{Recurrent: c.recurrent()} },
		"Softmax":                (*config).softmax,
	}
	for class, how := range mergers() {
		all[class] = func(*config) model.Op { return &model.Merge{How: how} }
	}
	return all
}

// mergers joins Keras' classes to our kinds.
func mergers() map[string]string {
	return map[string]string{"Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Average": "average", "Maximum": "maximum", "Minimum": "minimum"}
}

// Classes lists the classes of layers that Read knows.
func Classes() []string {
	return slices.Sorted(maps.Keys(readers()))
}

// op reads the layer of a class.
func (c *config) op(class string) (model.Op, error) {
	if _, old := c.raw["output_dim"]; old && class == "Dense" {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the file is of Keras 1", Hint: "load it with Keras 2 and save it again"}
	}
	read, ok := readers()[class]
	if !ok {
		return nil, unknownClass(class)
	}
	op := read(c)
	return op, c.err
}

func unknownClass(class string) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("layers of class %q are not supported", class),
		Hint: "supported classes: " + strings.Join(Classes(), ", ")}
}

// checkOrigin refuses classes that only share a name with one of Keras: of the user, or functions on tensors, which
// have other defaults. Of those, the ones that combine two tensors mean what the layers mean.
func checkOrigin(l envelope) error {
	_, merger := mergers()[l.ClassName]
	switch module := l.Module; {
	case strings.Contains(l.RegisteredName, ">"):
		return unknownClass(l.RegisteredName)
	case strings.HasPrefix(module, "keras.src.ops") || strings.HasPrefix(module, "keras.ops"):
		if !merger || l.ClassName == "Average" {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("the function %s.%s is not supported", module, l.ClassName),
				Hint: "use a layer: " + strings.Join(Classes(), ", ")}
		}
	case module == "" || module == "keras" || strings.HasPrefix(module, "keras.") || strings.HasPrefix(module, "tf_keras") || strings.HasPrefix(module, "tensorflow."):
	default:
		return unknownClass(module + "." + l.ClassName)
	}
	return nil
}

func (c *config) dense() model.Op {
	return &model.Dense{
		Units: c.whole("units", 0, true), Activation: c.activation("activation", "linear"), UseBias: c.truth("use_bias", true),
		KernelInitializer: c.initializer("kernel_initializer", model.GlorotUniform), BiasInitializer: c.initializer("bias_initializer", model.Zeros),
		KernelRegularizer: c.regularizer("kernel_regularizer"), BiasRegularizer: c.regularizer("bias_regularizer"),
	}
}

// convolution reads what Conv1D and Conv2D share.
func (c *config) convolution() model.Convolution {
	c.only("data_format", "channels_last")
	if groups := c.whole("groups", 1, false); c.err == nil && groups != 1 {
		c.err = refuse("groups %d", groups)
	}
	return model.Convolution{
		Filters: c.whole("filters", 0, true), Padding: c.text("padding", "valid"),
		Activation: c.activation("activation", "linear"), UseBias: c.truth("use_bias", true),
		KernelInitializer: c.initializer("kernel_initializer", model.GlorotUniform), BiasInitializer: c.initializer("bias_initializer", model.Zeros),
		KernelRegularizer: c.regularizer("kernel_regularizer"), BiasRegularizer: c.regularizer("bias_regularizer"),
	}
}

func (c *config) conv1D() model.Op {
	return &model.Conv1D{Convolution: c.convolution(), KernelSize: c.steps("kernel_size", 0), Strides: c.steps("strides", 1), DilationRate: c.steps("dilation_rate", 1)}
}

func (c *config) conv2D() model.Op {
	return &model.Conv2D{Convolution: c.convolution(), KernelSize: c.pair("kernel_size", model.Pair{}), Strides: c.pair("strides", model.Pair{1, 1}),
		DilationRate: c.pair("dilation_rate", model.Pair{1, 1})}
}

func (c *config) pooling() model.Pooling {
	c.only("data_format", "channels_last")
	return model.Pooling{PoolSize: c.pair("pool_size", model.Pair{2, 2}), Strides: c.pair("strides", model.Pair{}), Padding: c.text("padding", "valid")}
}

func (c *config) pooling1D() model.Pooling1D {
	c.only("data_format", "channels_last")
	return model.Pooling1D{PoolSize: c.steps("pool_size", 2), Strides: c.steps("strides", 0), Padding: c.text("padding", "valid")}
}

func (c *config) globalPooling() model.GlobalPooling {
	c.only("data_format", "channels_last")
	return model.GlobalPooling{KeepDims: c.truth("keepdims", false)}
}

func (c *config) activationLayer() model.Op {
	return &model.Activation{Activation: c.activation("activation", "linear")}
}

func (c *config) dropout() model.Op {
	if c.err == nil && isNull(c.raw["rate"]) {
		c.err = corrupt("there is no rate")
	}
	return &model.Dropout{Rate: c.number("rate", 0), Seed: c.seed()}
}

func (c *config) gaussianNoise() model.Op {
	return &model.GaussianNoise{Stddev: c.number("stddev", 0), Seed: c.seed()}
}

func (c *config) flatten() model.Op {
	c.only("data_format", "channels_last")
	return &model.Flatten{}
}

func (c *config) reshape() model.Op {
	r := &model.Reshape{TargetShape: []int{}}
	c.decode("target_shape", &r.TargetShape)
	return r
}

func (c *config) relu() model.Op {
	r := &model.Rectifier{NegativeSlope: c.number("negative_slope", 0), Threshold: c.number("threshold", 0)}
	if c.seen["max_value"] = true; !isNull(c.raw["max_value"]) {
		r.MaxValue = new(float64)
		c.decode("max_value", r.MaxValue)
	}
	return r
}

func (c *config) leakyReLU() model.Op {
	slope := c.number("alpha", 0.3) // Keras 2
	return &model.Rectifier{Leaky: true, NegativeSlope: c.number("negative_slope", slope)}
}

func (c *config) elu() model.Op { return &model.ELU{Alpha: c.number("alpha", 1)} }

func (c *config) softmax() model.Op {
	c.lastAxis("axis")
	return &model.Activation{Activation: "softmax"}
}

func (c *config) concatenate() model.Op {
	axis := c.whole("axis", -1, false)
	if c.err == nil && axis == 0 {
		c.err = refuse("axis 0, the batch,")
	}
	return &model.Concatenate{Axis: axis}
}

func (c *config) embedding() model.Op {
	c.ignore("input_length") // the input's shape says it
	if c.truth("mask_zero", false) && c.err == nil {
		c.err = &pipeline.Error{Kind: pipeline.Unsupported, Message: "mask_zero is not supported", Hint: "train without masks: give 0 a vector of its own"}
	}
	return &model.Embedding{InputDim: c.whole("input_dim", 0, true), OutputDim: c.whole("output_dim", 0, true),
		EmbeddingsInitializer: c.initializer("embeddings_initializer", model.RandomUniform), EmbeddingsRegularizer: c.regularizer("embeddings_regularizer")}
}

func (c *config) batchNormalization() model.Op {
	c.lastAxis("axis")
	c.ignore("virtual_batch_size", "fused", "renorm_momentum", "renorm_clipping") // renorm and synchronized must be false
	return &model.BatchNormalization{Momentum: c.number("momentum", 0.99), Epsilon: c.number("epsilon", 1e-3),
		Center: c.truth("center", true), Scale: c.truth("scale", true),
		BetaInitializer: c.initializer("beta_initializer", model.Zeros), GammaInitializer: c.initializer("gamma_initializer", model.Ones),
		MovingMeanInitializer:     c.initializer("moving_mean_initializer", model.Zeros),
		MovingVarianceInitializer: c.initializer("moving_variance_initializer", model.Ones),
		BetaRegularizer:           c.regularizer("beta_regularizer"), GammaRegularizer: c.regularizer("gamma_regularizer")}
}

func (c *config) layerNormalization() model.Op {
	c.lastAxis("axis")
	return &model.LayerNormalization{Epsilon: c.number("epsilon", 1e-3), Center: c.truth("center", true), Scale: c.truth("scale", true),
		BetaInitializer: c.initializer("beta_initializer", model.Zeros), GammaInitializer: c.initializer("gamma_initializer", model.Ones),
		BetaRegularizer: c.regularizer("beta_regularizer"), GammaRegularizer: c.regularizer("gamma_regularizer")}
}

// recurrent reads what SimpleRNN, LSTM and GRU share.
func (c *config) recurrent() model.Recurrent {
	c.ignore("implementation", "unroll", "seed", "use_cudnn", "zero_output_for_mask", "time_major") // ways to compute the same
	if c.truth("time_major", false) && c.err == nil {
		c.err = refuse("time_major")
	}
	return model.Recurrent{
		Units: c.whole("units", 0, true), Activation: c.activation("activation", "tanh"), UseBias: c.truth("use_bias", true),
		ReturnSequences: c.truth("return_sequences", false), GoBackwards: c.truth("go_backwards", false),
		KernelInitializer: c.initializer("kernel_initializer", model.GlorotUniform), RecurrentInitializer: c.initializer("recurrent_initializer", model.Orthogonal),
		BiasInitializer: c.initializer("bias_initializer", model.Zeros), KernelRegularizer: c.regularizer("kernel_regularizer"),
		RecurrentRegularizer: c.regularizer("recurrent_regularizer"), BiasRegularizer: c.regularizer("bias_regularizer"),
	}
}

// gated reads what LSTM and GRU have beside. Keras 2 had gates of hard_sigmoid before TensorFlow 2, and wrote it.
func (c *config) gated() model.Gated {
	gate := "sigmoid"
	if c.old {
		gate = "hard_sigmoid_keras2"
	}
	return model.Gated{Recurrent: c.recurrent(), RecurrentActivation: c.activation("recurrent_activation", gate)}
}

func (c *config) lstm() model.Op {
	return &model.LSTM{Gated: c.gated(), UnitForgetBias: c.truth("unit_forget_bias", true)}
}

// gru: a file without reset_after is older than the key, and the layer then reset before.
func (c *config) gru() model.Op {
	return &model.GRU{Gated: c.gated(), ResetAfter: c.truth("reset_after", !c.old)}
}
