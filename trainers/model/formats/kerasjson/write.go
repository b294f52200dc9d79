package kerasjson

import (
	"encoding/json"
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// object is one serialized Keras object: an envelope round a config.
type object struct {
	Module         string     `json:"module"`
	ClassName      string     `json:"class_name"`
	Config         any        `json:"config"`
	RegisteredName *string    `json:"registered_name"`
	BuildConfig    *buildConf `json:"build_config,omitempty"`
}

type buildConf struct {
	InputShape []*int `json:"input_shape"`
}

type sequentialConfig struct {
	Name            string   `json:"name"`
	Trainable       bool     `json:"trainable"`
	DType           string   `json:"dtype"`
	Layers          []object `json:"layers"`
	BuildInputShape []*int   `json:"build_input_shape"`
}

type inputConfig struct {
	BatchShape []*int `json:"batch_shape"`
	DType      string `json:"dtype"`
	Sparse     bool   `json:"sparse"`
	Name       string `json:"name"`
}

// layerConfig begins every layer's config.
type layerConfig struct {
	Name      string `json:"name"`
	Trainable bool   `json:"trainable"`
	DType     string `json:"dtype"`
}

type denseConfig struct {
	layerConfig
	Units             int    `json:"units"`
	Activation        string `json:"activation"`
	UseBias           bool   `json:"use_bias"`
	KernelInitializer object `json:"kernel_initializer"`
	BiasInitializer   object `json:"bias_initializer"`
	KernelRegularizer *int   `json:"kernel_regularizer"` // always null, as the following
	BiasRegularizer   *int   `json:"bias_regularizer"`
	KernelConstraint  *int   `json:"kernel_constraint"`
	BiasConstraint    *int   `json:"bias_constraint"`
}

type activationConfig struct {
	layerConfig
	Activation string `json:"activation"`
}

type dropoutConfig struct {
	layerConfig
	Rate       float64 `json:"rate"`
	Seed       *int64  `json:"seed"`
	NoiseShape *int    `json:"noise_shape"`
}

type flattenConfig struct {
	layerConfig
	DataFormat string `json:"data_format"`
}

// Marshal gives the definition as a Keras 3 Sequential, indented. A definition that is not a chain from one input to
// one output is an error of kind Unsupported.
func Marshal(d *model.Definition) ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	if len(d.Inputs) != 1 || len(d.Outputs) != 1 {
		return nil, notSequential(d)
	}
	shape := batchShape(d.Inputs[0].Shape)
	layers := []object{{Module: "keras.layers", ClassName: "InputLayer",
		Config: inputConfig{BatchShape: shape, DType: "float32", Name: d.Inputs[0].Name}}}
	from := d.Inputs[0].Name
	shapes := d.Shapes()
	for _, l := range d.Layers {
		if len(l.From) != 1 || l.From[0] != from {
			return nil, notSequential(d)
		}
		o, err := layerObject(l)
		if err != nil {
			return nil, err
		}
		o.BuildConfig = &buildConf{batchShape(shapes[from])}
		layers = append(layers, o)
		from = l.Name
	}
	if d.Outputs[0] != from {
		return nil, notSequential(d)
	}
	return json.MarshalIndent(object{Module: "keras", ClassName: "Sequential",
		Config:      sequentialConfig{Name: d.Name, Trainable: true, DType: "float32", Layers: layers, BuildInputShape: shape},
		BuildConfig: &buildConf{shape},
	}, "", " ")
}

func notSequential(d *model.Definition) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("model %s is not a chain of layers: it cannot be written as a Keras Sequential", d.Name)}
}

func layerObject(l model.Layer) (object, error) {
	base := layerConfig{l.Name, true, "float32"}
	o := object{Module: "keras.layers"}
	switch op := l.Op.(type) {
	case *model.Dense:
		o.ClassName = "Dense"
		o.Config = denseConfig{layerConfig: base, Units: op.Units, Activation: op.Activation, UseBias: op.UseBias,
			KernelInitializer: initializerObject(op.KernelInitializer), BiasInitializer: initializerObject(op.BiasInitializer)}
	case *model.Activation:
		o.ClassName, o.Config = "Activation", activationConfig{base, op.Activation}
	case *model.Dropout:
		o.ClassName, o.Config = "Dropout", dropoutConfig{layerConfig: base, Rate: op.Rate, Seed: op.Seed}
	case *model.Flatten:
		o.ClassName, o.Config = "Flatten", flattenConfig{base, "channels_last"}
	default:
		return o, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("layer %s (%s) cannot be written as Keras JSON", l.Name, l.Op.Kind())}
	}
	return o, nil
}

// batchShape puts the batch dimension, null, before a row's shape.
func batchShape(shape []int) []*int {
	out := make([]*int, 1, len(shape)+1)
	for i := range shape {
		out = append(out, &shape[i])
	}
	return out
}
