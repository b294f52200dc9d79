package kerasjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// describe lists inputs, layers and outputs, a line each; regularizers that add nothing and nil pointers are left out.
func describe(d *model.Definition) []string {
	var lines []string
	for _, in := range d.Inputs {
		lines = append(lines, fmt.Sprintf("%s %s %v", d.Name, in.Name, in.Shape))
	}
	for _, l := range d.Layers {
		fields := strings.TrimPrefix(fmt.Sprintf("%+v", l.Op), "&")
		if drop, ok := l.Op.(*model.Dropout); ok && drop.Seed != nil {
			fields = fmt.Sprintf("{Rate:%g Seed:%d}", drop.Rate, *drop.Seed)
		}
		if both, ok := l.Op.(*model.Bidirectional); ok {
			f, g := both.Directions()
			fields = fmt.Sprintf("%s %s%+v %s%+v", both.MergeMode, f.Kind(), f, g.Kind(), g)
		}
		for _, nothing := range []string{"Regularizer:{L1:0 L2:0}", "Seed:<nil>"} {
			fields = regexp.MustCompile(" ?[A-Z]?[a-z]*"+regexp.QuoteMeta(nothing)).ReplaceAllString(fields, "")
		}
		lines = append(lines, fmt.Sprintf("%s<-%s %s %s", l.Name, strings.Join(l.From, ","), l.Op.Kind(), fields))
	}
	return append(lines, "-> "+strings.Join(d.Outputs, ","))
}

func read(t *testing.T, file string) *model.Definition {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Unmarshal(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d
}

const (
	orthogonal = " KernelInitializer:glorot_uniform RecurrentInitializer:orthogonal BiasInitializer:zeros}"
	glorot     = " UseBias:true KernelInitializer:glorot_uniform BiasInitializer:zeros}"
	moving     = " Center:true Scale:true BetaInitializer:zeros GammaInitializer:ones MovingMeanInitializer:zeros MovingVarianceInitializer:ones}"
)

// inKeras3 is what the files of Keras 3 hold.
func inKeras3() []string {
	return []string{
		"mine input_layer [4 3]",
		"flatten<-input_layer flatten {}",
		"dense<-flatten dense {Units:5 Activation:relu UseBias:true KernelInitializer:he_normal BiasInitializer:zeros}",
		"dropout<-dense dropout {Rate:0.25 Seed:3}",
		"dense_1<-dropout dense {Units:4 Activation:linear UseBias:false KernelInitializer:he_uniform BiasInitializer:zeros}",
		"activation<-dense_1 activation {Activation:tanh}",
		"re_lu<-activation relu {Leaky:false MaxValue:<nil> NegativeSlope:0 Threshold:0}",
		"elu<-re_lu elu {Alpha:1}",
		"dense_2<-elu dense {Units:2 Activation:linear" + glorot,
		"softmax<-dense_2 activation {Activation:softmax}",
		"-> softmax",
	}
}

// expected says what the files hold.
func expected() map[string][]string {
	return map[string][]string{
		"keras-3.0.5.json":  inKeras3(),
		"keras-3.15.1.json": inKeras3(),
		"keras-2.1.json": {
			"sequential dense_1_input [12]",
			"dense_1<-dense_1_input dense {Units:5 Activation:relu" + glorot,
			"dropout_1<-dense_1 dropout {Rate:0.25}",
			"dense_2<-dropout_1 dense {Units:2 Activation:linear UseBias:true KernelInitializer:he_normal BiasInitializer:zeros}",
			"activation_1<-dense_2 activation {Activation:softmax}",
			"-> activation_1",
		},
		"keras-2.7.json": {
			"sequential flatten_input [4 3]",
			"flatten<-flatten_input flatten {}",
			"dense<-flatten dense {Units:2 Activation:sigmoid UseBias:false KernelInitializer:glorot_uniform BiasInitializer:zeros}",
			"-> dense",
		},
		"keras-2.0-mnist-cnn.json": {
			"sequential conv2d_1_input [28 28 1]",
			"conv2d_1<-conv2d_1_input conv2d {Convolution:{Filters:32 Padding:valid Activation:linear" + glorot + " KernelSize:[3 3] Strides:[1 1] DilationRate:[1 1]}",
			"activation_1<-conv2d_1 activation {Activation:relu}",
			"conv2d_2<-activation_1 conv2d {Convolution:{Filters:32 Padding:valid Activation:linear" + glorot + " KernelSize:[3 3] Strides:[1 1] DilationRate:[1 1]}",
			"activation_2<-conv2d_2 activation {Activation:relu}",
			"max_pooling2d_1<-activation_2 max_pooling2d {Pooling:{PoolSize:[2 2] Strides:[2 2] Padding:valid}}",
			"flatten_1<-max_pooling2d_1 flatten {}",
			"dense_1<-flatten_1 dense {Units:225 Activation:linear" + glorot,
			"activation_3<-dense_1 activation {Activation:relu}",
			"dense_2<-activation_3 dense {Units:10 Activation:linear" + glorot,
			"activation_4<-dense_2 activation {Activation:softmax}",
			"-> activation_4",
		},
		"keras-2.0-gru.json": {
			"sequential gru_1_input [6 3]",
			"gru_1<-gru_1_input gru {Gated:{Recurrent:{Units:5 Activation:tanh UseBias:true ReturnSequences:false GoBackwards:false" +
				" KernelInitializer:glorot_uniform RecurrentInitializer:orthogonal BiasInitializer:zeros} RecurrentActivation:hard_sigmoid_keras2} ResetAfter:false}",
			"leaky_re_lu_1<-gru_1 leaky_relu {Leaky:true MaxValue:<nil> NegativeSlope:0.30000001192092896 Threshold:0}",
			"dense_1<-leaky_re_lu_1 dense {Units:1 Activation:hard_sigmoid_keras2" + glorot,
			"-> dense_1",
		},
		"keras-2.15-recurrent.json": {
			"sequential x [4 3]",
			"bidirectional<-x bidirectional ave lstm&{Gated:{Recurrent:{Units:3 Activation:tanh UseBias:true ReturnSequences:true GoBackwards:false" + orthogonal +
				" RecurrentActivation:sigmoid} UnitForgetBias:true} lstm&{Gated:{Recurrent:{Units:3 Activation:tanh UseBias:true ReturnSequences:true GoBackwards:true" + orthogonal +
				" RecurrentActivation:sigmoid} UnitForgetBias:true}",
			"simple_rnn<-bidirectional simple_rnn {Recurrent:{Units:4 Activation:tanh UseBias:true ReturnSequences:true GoBackwards:true" + orthogonal + "}",
			"bidirectional_1<-simple_rnn bidirectional concat gru&{Gated:{Recurrent:{Units:2 Activation:tanh UseBias:true ReturnSequences:false GoBackwards:false" + orthogonal +
				" RecurrentActivation:sigmoid} ResetAfter:true} lstm&{Gated:{Recurrent:{Units:2 Activation:tanh UseBias:true ReturnSequences:false GoBackwards:true" + orthogonal +
				" RecurrentActivation:hard_sigmoid_keras2} UnitForgetBias:true}",
			"dense_2<-bidirectional_1 dense {Units:1 Activation:linear" + glorot,
			"-> dense_2",
		},
		"keras-2.15-convolutions.json": {
			"sequential_1 x [12 3]",
			"conv1d<-x conv1d {Convolution:{Filters:4 Padding:causal Activation:relu" + glorot + " KernelSize:3 Strides:1 DilationRate:2}",
			"max_pooling1d<-conv1d max_pooling1d {Pooling1D:{PoolSize:3 Strides:1 Padding:valid}}",
			"conv1d_1<-max_pooling1d conv1d {Convolution:{Filters:5 Padding:same Activation:linear UseBias:false KernelInitializer:glorot_uniform BiasInitializer:zeros}" +
				" KernelSize:2 Strides:2 DilationRate:1}",
			"average_pooling1d<-conv1d_1 average_pooling1d {Pooling1D:{PoolSize:2 Strides:2 Padding:same}}",
			"conv1d_2<-average_pooling1d conv1d {Convolution:{Filters:3 Padding:valid Activation:tanh" + glorot + " KernelSize:2 Strides:1 DilationRate:1}",
			"global_max_pooling1d<-conv1d_2 global_max_pooling1d {GlobalPooling:{KeepDims:true}}",
			"global_average_pooling1d<-global_max_pooling1d global_average_pooling1d {GlobalPooling:{KeepDims:false}}",
			"dense_3<-global_average_pooling1d dense {Units:2 Activation:linear" + glorot,
			"-> dense_3",
		},
		"keras-3.15-everything.json": {
			"everything image [8 8 1]",
			"conv2d<-image conv2d {Convolution:{Filters:4 Padding:same Activation:silu UseBias:true" +
				" KernelInitializer:he_normal BiasInitializer:constant(value=0.1) KernelRegularizer:{L1:0 L2:0.001} BiasRegularizer:{L1:0.01 L2:0}} KernelSize:[3 3] Strides:[1 1] DilationRate:[1 1]}",
			"bn<-conv2d batch_normalization {Momentum:0.99 Epsilon:0.001 Center:true Scale:false BetaInitializer:zeros GammaInitializer:ones" +
				" MovingMeanInitializer:zeros MovingVarianceInitializer:ones}",
			"leaky<-bn leaky_relu {Leaky:true MaxValue:<nil> NegativeSlope:0.1 Threshold:0}",
			"pool<-leaky average_pooling2d {Pooling:{PoolSize:[2 2] Strides:[2 2] Padding:valid}}",
			"noise<-pool gaussian_noise {Stddev:0.1}",
			"reshape<-noise reshape {TargetShape:[16 4]}",
			"ln<-reshape layer_normalization {Epsilon:0.001 Center:true Scale:true BetaInitializer:zeros GammaInitializer:ones}",
			"lstm<-ln lstm {Gated:{Recurrent:{Units:6 Activation:tanh UseBias:true ReturnSequences:true GoBackwards:false" +
				" KernelInitializer:glorot_uniform RecurrentInitializer:orthogonal BiasInitializer:zeros} RecurrentActivation:sigmoid} UnitForgetBias:true}",
			"gru<-lstm gru {Gated:{Recurrent:{Units:5 Activation:tanh UseBias:true ReturnSequences:false GoBackwards:false" +
				" KernelInitializer:glorot_uniform RecurrentInitializer:orthogonal BiasInitializer:zeros} RecurrentActivation:sigmoid} ResetAfter:true}",
			"relu6<-gru relu {Leaky:false MaxValue:0x NegativeSlope:0 Threshold:0}",
			"elu<-relu6 elu {Alpha:0.5}",
			"multiply<-elu,gru multiply {How:multiply}",
			"softmax<-multiply activation {Activation:softmax}",
			"out<-softmax dense {Units:2 Activation:gelu" + glorot,
			"-> out",
		},
	}
}

// Files as several versions of Keras write them.
func TestFilesOfManyKerasVersions(t *testing.T) {
	pointer := regexp.MustCompile("0xc?[0-9a-f]+")
	for file, want := range expected() {
		got := describe(read(t, file))
		for i, line := range got {
			got[i] = pointer.ReplaceAllString(line, "0x")
		}
		if !slices.Equal(got, want) {
			for i, line := range got {
				if i >= len(want) || line != want[i] {
					t.Errorf("%s: line %d is\n%s", file, i, line)
				}
			}
		}
	}
}

func TestEveryFileSurvivesWriting(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < len(expected()) {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		d := read(t, filepath.Base(file))
		again, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(again)
		if err != nil || !reflect.DeepEqual(back, d) {
			t.Errorf("%s changed on the way out and in: %v", file, err)
		}
	}
}

// The models of the notebooks that made distributed Keras known, with the numbers of parameters that Keras printed.
func TestParametersOfKnownModels(t *testing.T) {
	for file, want := range map[string]int{
		"keras-2.0-mnist-mlp.json": 1_037_760, "keras-2.0-mnist-cnn.json": 1_048_853, "keras-2.0-higgs-mlp.json": 267_002, "keras-2.2-higgs-deep.json": 517_502,
	} {
		layout, err := read(t, file).Layout()
		if err != nil {
			t.Fatal(err)
		}
		last := layout[len(layout)-1]
		if got := last.Off + last.Len; got != want {
			t.Errorf("%s: %d parameters, want %d", file, got, want)
		}
	}
}

// One wide and deep model as five versions write it: links, shapes and names are written in four ways.
func TestAFunctionalModelOfEveryEraIsTheSame(t *testing.T) {
	want := []string{
		"user [1]", "item [1]", "numbers [6]",
		"user_vector<-user embedding {InputDim:1000 OutputDim:8 EmbeddingsInitializer:random_uniform}",
		"item_vector<-item embedding {InputDim:500 OutputDim:8 EmbeddingsInitializer:random_uniform}",
		"flatten<-user_vector flatten {}",
		"flatten_1<-item_vector flatten {}",
		"concatenate<-flatten,flatten_1,numbers concatenate {Axis:-1}",
		"deep_1<-concatenate dense {Units:32 Activation:relu" + glorot,
		"batch_normalization<-deep_1 batch_normalization {Momentum:0.99 Epsilon:0.001" + moving,
		"dropout<-batch_normalization dropout {Rate:0.2}",
		"deep_2<-dropout dense {Units:16 Activation:relu" + glorot,
		"wide<-numbers dense {Units:16 Activation:linear" + glorot,
		"add<-wide,deep_2 add {How:add}",
		"click<-add dense {Units:1 Activation:sigmoid" + glorot,
		"kind<-deep_2 dense {Units:3 Activation:softmax" + glorot,
		"-> click,kind",
	}
	for _, version := range []string{"2.2", "2.12", "2.15", "3.0", "3.15"} {
		d := read(t, "keras-"+version+"-wide-and-deep.json")
		for _, l := range d.Layers {
			if dense, ok := l.Op.(*model.Dense); ok && strings.HasPrefix(version, "2") && strings.HasPrefix(l.Name, "deep") {
				if dense.KernelRegularizer != (model.Regularizer{L2: 9.999999747378752e-05}) {
					t.Errorf("%s: %s has regularizer %v", version, l.Name, dense.KernelRegularizer)
				}
				dense.KernelRegularizer = model.Regularizer{}
			}
		}
		got := describe(d)
		for i := range 3 {
			_, got[i], _ = strings.Cut(got[i], " ") // the model's name
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s", version, strings.Join(got, "\n"))
		}
	}
}

// hard_sigmoid is another function in Keras 3. An archive of Keras 2.15 keeps its version in another file.
func TestHardSigmoidIsThatOfTheFilesEra(t *testing.T) {
	text := fmt.Sprintf(frame, `{"class_name":"Activation","config":{"name":"a","activation":"hard_sigmoid"}}`)
	old := strings.Replace(text, "batch_shape", "batch_input_shape", 1)
	versioned := strings.Replace(text, `"class_name":"Sequential"`, `"keras_version":"2.1.3","class_name":"Sequential"`, 1)
	for _, c := range []struct {
		text, version, want string
	}{
		{text, "", "hard_sigmoid"}, {text, "3.4.1", "hard_sigmoid"}, {text, "2.15.0", "hard_sigmoid_keras2"}, {old, "", "hard_sigmoid_keras2"},
		{versioned, "", "hard_sigmoid_keras2"},
	} {
		d, err := Read([]byte(c.text), Options{KerasVersion: c.version})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Layers[0].Op.(*model.Activation).Activation; got != c.want {
			t.Errorf("version %q: %s, want %s", c.version, got, c.want)
		}
		if err := Portable(d); (err == nil) != (c.want == "hard_sigmoid") {
			t.Errorf("%s: portable: %v", c.want, err)
		}
	}
}

func TestEveryInitializerAndActivationSurvives(t *testing.T) {
	for _, init := range model.Initializers() {
		if init == "variance_scaling" {
			init = "variance_scaling(scale=3, mode=fan_out, distribution=untruncated_normal)"
		}
		for _, activation := range model.Activations() {
			d := chain(&model.Dense{Units: 3, Activation: activation, UseBias: true, KernelInitializer: model.Initializer(init), BiasInitializer: model.Ones})
			data, err := Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Unmarshal(data)
			if err != nil || !reflect.DeepEqual(back, d) {
				t.Errorf("%s, %s: %v", init, activation, err)
			}
		}
	}
}

func chain(ops ...model.Op) *model.Definition {
	d := &model.Definition{Name: "m", Inputs: []model.Input{{Name: "in", Shape: []int{4}}}}
	from := "in"
	for i, op := range ops {
		name := fmt.Sprintf("l%d", i)
		d.Layers = append(d.Layers, model.Layer{Name: name, From: []string{from}, Op: op})
		from = name
	}
	d.Outputs = []string{from}
	return d
}

// What is written must hold nothing that Keras 3.0 did not know, or it refuses the file.
func TestOnlyOldKeysAreWritten(t *testing.T) {
	seed := int64(4)
	data, err := Marshal(chain(&model.Flatten{}, &model.Dense{Units: 2, Activation: "relu", KernelInitializer: model.GlorotUniform, BiasInitializer: model.Zeros},
		&model.Dropout{Rate: 0.5, Seed: &seed}, &model.Activation{Activation: "softmax"}))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Config struct {
			Layers []struct {
				ClassName string                     `json:"class_name"`
				Module    string                     `json:"module"`
				Config    map[string]json.RawMessage `json:"config"`
			} `json:"layers"`
		} `json:"config"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]string{
		"InputLayer": "batch_shape dtype name sparse",
		"Flatten":    "data_format dtype name trainable",
		"Dense":      "activation bias_constraint bias_initializer bias_regularizer dtype kernel_constraint kernel_initializer kernel_regularizer name trainable units use_bias",
		"Dropout":    "dtype name noise_shape rate seed trainable",
		"Activation": "activation dtype name trainable",
	}
	for _, l := range m.Config.Layers {
		var keys []string
		for k := range l.Config {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != allowed[l.ClassName] || l.Module != "keras.layers" {
			t.Errorf("%s of %s has %s", l.ClassName, l.Module, got)
		}
		if string(l.Config["dtype"]) != `"float32"` {
			t.Errorf("%s has dtype %s", l.ClassName, l.Config["dtype"])
		}
	}
}

// Every layer that there is can be written and read.
func TestEveryLayerSurvives(t *testing.T) {
	reg := model.Regularizer{L1: 0.5, L2: 0.25}
	six, seed := 6.0, int64(3)
	shapes := map[string][]int{"embedding": {3}, "lstm": {4, 2}, "gru": {4, 2}, "simple_rnn": {4, 2}, "bidirectional": {4, 2}, "conv1d": {4, 2},
		"max_pooling1d": {4, 2}, "average_pooling1d": {4, 2}, "global_max_pooling1d": {4, 2}, "global_average_pooling1d": {4, 2}}
	for _, kind := range model.Kinds() {
		op, err := model.NewOp(kind)
		if err != nil {
			t.Fatal(err)
		}
		shape, ok := shapes[kind]
		if !ok {
			shape = []int{4, 4, 2}
		}
		from := []string{"in"}
		switch op := op.(type) {
		case *model.Dense:
			op.Units, op.KernelRegularizer, op.BiasRegularizer = 2, reg, model.Regularizer{L1: 1}
		case *model.Activation:
			op.Activation = "mish"
		case *model.Conv1D:
			op.Filters, op.KernelSize, op.DilationRate, op.Padding, op.BiasRegularizer = 2, 3, 2, "causal", reg
		case *model.Conv2D:
			op.Filters, op.KernelSize, op.DilationRate, op.Padding = 2, model.Pair{2, 3}, model.Pair{1, 2}, "same"
		case *model.MaxPooling2D:
			op.Strides = model.Pair{1, 2}
		case *model.AveragePooling2D:
			op.Strides = model.Pair{2, 1}
		case *model.MaxPooling1D:
			op.PoolSize, op.Strides = 3, 1
		case *model.AveragePooling1D:
			op.Strides, op.Padding = 3, "same"
		case *model.GlobalAveragePooling1D:
			op.KeepDims = true
		case *model.GlobalMaxPooling2D:
			op.KeepDims = true
		case *model.Embedding:
			op.InputDim, op.OutputDim, op.EmbeddingsInitializer = 4, 2, "random_uniform(minval=-0.1, maxval=0.2)"
		case *model.Reshape:
			op.TargetShape = []int{-1, 2}
		case *model.Bidirectional:
			op.Layer.Op, op.BackwardLayer.Op, op.MergeMode = oneWay(t, "lstm", false), oneWay(t, "gru", true), "ave"
		case *model.SimpleRNN:
			op.Units, op.Activation, op.BiasRegularizer = 2, "relu", reg
		case *model.LSTM:
			op.Units, op.RecurrentRegularizer, op.UnitForgetBias = 2, reg, false
		case *model.GRU:
			op.Units, op.ReturnSequences, op.GoBackwards, op.Activation = 2, true, true, "relu"
		case *model.Rectifier:
			op.NegativeSlope = 0.125
			if !op.Leaky {
				op.MaxValue, op.Threshold = &six, 1
			}
		case *model.GaussianNoise:
			op.Stddev, op.Seed = 0.5, &seed
		case *model.BatchNormalization:
			op.GammaRegularizer, op.MovingVarianceInitializer = reg, "constant(value=2)"
		case *model.Concatenate:
			op.Axis = 2
			from = append(from, "other")
		case *model.Merge:
			from = append(from, "other")
		}
		d := &model.Definition{Name: "m", Inputs: []model.Input{{Name: "in", Shape: shape}}, Outputs: []string{"l"},
			Layers: []model.Layer{{Name: "l", From: from, Op: op}}}
		if len(from) > 1 {
			d.Inputs = append(d.Inputs, model.Input{Name: "other", Shape: shape})
		}
		data, err := Marshal(d)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		back, err := Unmarshal(data)
		if err != nil || !reflect.DeepEqual(back, d) {
			t.Errorf("%s came back different: %v\n%s", kind, err, data)
		}
	}
}

func TestWhatIsNotAChainIsAFunctionalModel(t *testing.T) {
	d := chain(&model.Flatten{}, &model.Flatten{}, &model.Flatten{})
	d.Layers[2].From = []string{"l0"}
	d.Outputs = []string{"l1", "l2"}
	data, err := Marshal(d)
	if err != nil || !strings.Contains(string(data), `"class_name": "Functional"`) {
		t.Fatalf("%v in %.100s", err, data)
	}
	back, err := Unmarshal(data)
	if err != nil || !reflect.DeepEqual(back, d) {
		t.Errorf("came back different: %v", err)
	}
	if _, err := Marshal(&model.Definition{}); err == nil {
		t.Error("an empty definition was written")
	}
}

func wantKind(t *testing.T, err error, kind pipeline.Kind, words ...string) {
	t.Helper()
	var e *pipeline.Error
	if !errors.As(err, &e) {
		t.Errorf("got %v, want kind %s", err, kind)
		return
	}
	text := e.Error() + " " + e.Hint
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
	if e.Kind != kind {
		t.Errorf("kind %s, want %s: %s", e.Kind, kind, text)
	}
}

const frame = `{"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,4],"name":"in"}},%s]}}`

// graphOf is a functional model of an input and one layer, a.
func graphOf(inputs, outputs, nodes string) string {
	return fmt.Sprintf(`{"class_name":"Functional","config":{"name":"m","layers":[
		{"class_name":"InputLayer","config":{"batch_input_shape":[null,4],"dtype":"float32","name":"in"},"name":"in","inbound_nodes":[]},
		{"class_name":"Flatten","config":{"name":"a"},"name":"a","inbound_nodes":%s}],"input_layers":%s,"output_layers":%s}}`, nodes, inputs, outputs)
}

func TestWhatWouldBeLostIsRefused(t *testing.T) {
	denseWith := func(extra string) string {
		return fmt.Sprintf(frame, `{"class_name":"Dense","config":{"name":"d","units":2,`+extra+`}}`)
	}
	for _, c := range []struct {
		text  string
		kind  pipeline.Kind
		words []string
	}{
		{denseWith(`"kernel_regularizer":{"class_name":"OrthogonalRegularizer","config":{}}`), pipeline.Unsupported, []string{`"d" (Dense)`, "kernel_regularizer", "OrthogonalRegularizer"}},
		{denseWith(`"activity_regularizer":{"class_name":"L2","config":{"l2":0.01}}`), pipeline.Unsupported, []string{`"d" (Dense)`, "activity_regularizer", "L2"}},
		{denseWith(`"kernel_constraint":{"class_name":"MaxNorm","config":{"max_value":2,"axis":0}}`), pipeline.Unsupported, []string{"kernel_constraint", "MaxNorm"}},
		{denseWith(`"activation":{"module":"keras.layers","class_name":"LeakyReLU","config":{"negative_slope":0.1}}`), pipeline.Unsupported, []string{"activation", "LeakyReLU"}},
		{denseWith(`"lora_rank":4`), pipeline.Unsupported, []string{"lora_rank = 4"}},
		{denseWith(`"trainable":"no"`), pipeline.Corrupt, []string{"trainable"}},
		{denseWith(`"dtype":"mixed_float16"`), pipeline.Unsupported, []string{"mixed_float16"}},
		{denseWith(`"dtype":{"class_name":"DTypePolicy","config":{"name":"bfloat16"}}`), pipeline.Unsupported, []string{"bfloat16"}},
		{denseWith(`"activation":"log_softmax"`), pipeline.Unsupported, []string{`"log_softmax"`, "relu"}},
		{denseWith(`"activation":{"class_name":"MyOp","config":{}}`), pipeline.Unsupported, []string{"MyOp"}},
		{denseWith(`"kernel_initializer":{"class_name":"RandomNormal","config":{"mean":0.0,"stddev":-1.0}}`), pipeline.BadSpec, []string{"stddev is below 0"}},
		{denseWith(`"kernel_initializer":{"class_name":"VarianceScaling","config":{"scale":3,"mode":"fan_out","distribution":"cauchy"}}`), pipeline.BadSpec, []string{"distribution"}},
		{denseWith(`"kernel_initializer":{"class_name":"Constant","config":{"value":[1,2]}}`), pipeline.Unsupported, []string{"Constant", "[1,2]"}},
		{denseWith(`"kernel_initializer":{"class_name":"HeNormal","config":{"input_axes":[0]}}`), pipeline.Unsupported, []string{"input_axes"}},
		{denseWith(`"kernel_initializer":"MyInit"`), pipeline.Unsupported, []string{"kernel_initializer", "MyInit"}},
		{denseWith(`"output_dim":3`), pipeline.Unsupported, []string{"Keras 1"}},
		{denseWith(`"units":2.5`), pipeline.Corrupt, []string{"2.5"}},
		{denseWith(`"units":"two"`), pipeline.Corrupt, []string{"units"}},
		{fmt.Sprintf(frame, `{"class_name":"Lambda","config":{"name":"l"}}`), pipeline.Unsupported, []string{`"Lambda"`, "Dense"}},
		{fmt.Sprintf(frame, `{"class_name":"Dropout","config":{"name":"l","rate":0.5,"noise_shape":[1,4]}}`), pipeline.Unsupported, []string{"noise_shape"}},
		{fmt.Sprintf(frame, `{"class_name":"Dropout","config":{"name":"l"}}`), pipeline.Corrupt, []string{"rate"}},
		{fmt.Sprintf(frame, `{"class_name":"Softmax","config":{"name":"l","axis":2}}`), pipeline.Unsupported, []string{"axis 2", "[4]"}},
		{fmt.Sprintf(frame, `{"class_name":"BatchNormalization","config":{"name":"l","axis":[-2]}}`), pipeline.Unsupported, []string{"axis -2"}},
		{fmt.Sprintf(frame, `{"class_name":"BatchNormalization","config":{"name":"l","renorm":true}}`), pipeline.Unsupported, []string{"renorm = true"}},
		{fmt.Sprintf(frame, `{"class_name":"BatchNormalization","config":{"name":"l","synchronized":true}}`), pipeline.Unsupported, []string{"synchronized = true"}},
		{fmt.Sprintf(frame, `{"class_name":"LayerNormalization","config":{"name":"l","rms_scaling":true}}`), pipeline.Unsupported, []string{"rms_scaling = true"}},
		{fmt.Sprintf(frame, `{"class_name":"Embedding","config":{"name":"l","input_dim":3,"output_dim":2,"mask_zero":true}}`), pipeline.Unsupported, []string{"mask_zero"}},
		{fmt.Sprintf(frame, `{"class_name":"Embedding","config":{"name":"l","output_dim":2}}`), pipeline.Corrupt, []string{"input_dim"}},
		{fmt.Sprintf(frame, `{"class_name":"Concatenate","config":{"name":"l","axis":0}}`), pipeline.Unsupported, []string{"axis 0"}},
		{fmt.Sprintf(frame, `{"class_name":"Sequential","config":{"name":"l","layers":[]}}`), pipeline.Corrupt, []string{`"l" (Sequential)`, "0 layers"}},
		{fmt.Sprintf(frame, nestedModel("", "[null,5]", "Flatten")), pipeline.Corrupt, []string{`"l"`, "[5]", "[4]"}},
		{fmt.Sprintf(frame, nestedModel("", "[null,4]", "Lambda")), pipeline.Unsupported, []string{`"l" (Sequential)`, `"f" (Lambda)`}},
		{fmt.Sprintf(frame, strings.Repeat(`{"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,4],"name":"in"}},`, 20)+
			`{"class_name":"Flatten","config":{"name":"f"}}`+strings.Repeat(`]}}`, 20)), pipeline.Corrupt, []string{"nested more than 16"}},
		{fmt.Sprintf(frame, `{"module":"my.layers","class_name":"Dense","config":{"name":"l","units":2}}`), pipeline.Unsupported, []string{"my.layers.Dense"}},
		{fmt.Sprintf(frame, `{"registered_name":"Custom>Dense","class_name":"Dense","config":{"name":"l","units":2}}`), pipeline.Unsupported, []string{"Custom>Dense"}},
		{fmt.Sprintf(frame, `{"module":"keras.src.ops.numpy","class_name":"Concatenate","config":{"name":"l"}}`), pipeline.Unsupported, []string{"keras.src.ops.numpy.Concatenate"}},
		{fmt.Sprintf(frame, `{"class_name":"Flatten","config":{"name":"l","data_format":"channels_first"}}`), pipeline.Unsupported, []string{"channels_first"}},
		{fmt.Sprintf(frame, `{"class_name":"InputLayer","config":{"batch_shape":[null,4],"name":"in2"}}`), pipeline.Unsupported, []string{"second input"}},
		{`{"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,null,3]}}]}}`, pipeline.Unsupported, []string{"variable size"}},
		{`{"class_name":"Sequential","config":[{"class_name":"Dense","config":{"units":2}}]}`, pipeline.Unsupported, []string{"shape of its input"}},
		{`{"class_name":"Functional","config":{}}`, pipeline.Corrupt, []string{"0 layers"}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[[["in",0,0,{}]],[["in",0,0,{}]]]`), pipeline.Unsupported, []string{`"a" (Flatten)`, "called 2 times", "shared"}},
		{graphOf(`[["in",0,0]]`, `[["a",1,0]]`, `[[["in",0,0,{}]]]`), pipeline.Unsupported, []string{`"a"`, "shared"}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[[["in",0,1,{}]]]`), pipeline.Unsupported, []string{"result 1", `"in"`}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[[["in",0,0,{"training":false}]]]`), pipeline.Unsupported, []string{"training = false"}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[{"args":[7],"kwargs":{}}]`), pipeline.Unsupported, []string{"a call with 7"}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[{"args":[],"kwargs":{}}]`), pipeline.Corrupt, []string{"no inputs"}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[]`), pipeline.Corrupt, []string{"inbound_nodes"}},
		{graphOf(`{"x":["in",0,0]}`, `[["a",0,0]]`, `[[["in",0,0,{}]]]`), pipeline.Unsupported, []string{"input_layers", "lists"}},
		{graphOf(`[["on",0,0]]`, `[["a",0,0]]`, `[[["in",0,0,{}]]]`), pipeline.Corrupt, []string{`"on"`, "no input"}},
		{graphOf(`[["in",0,0]]`, `[["b",0,0]]`, `[[["in",0,0,{}]]]`), pipeline.BadSpec, []string{"output b"}},
		{graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[[["b",0,0,{}]]]`), pipeline.BadSpec, []string{`"b"`}},
		{`{"class_name":"MyModel","config":{}}`, pipeline.Unsupported, []string{"MyModel"}},
		{`{"class_name":"Sequential","config":[]}`, pipeline.Corrupt, []string{"0 layers"}},
		{`{"a":1}`, pipeline.Corrupt, []string{"class_name"}},
		{`hello`, pipeline.Corrupt, []string{"not a Keras model"}},
		{`{"class_name":"Sequential","config":7}`, pipeline.Corrupt, []string{"config"}},
	} {
		_, err := Unmarshal([]byte(c.text))
		wantKind(t, err, c.kind, c.words...)
	}
}

func TestUnknownKeysPassWhenTheySayNothing(t *testing.T) {
	text := fmt.Sprintf(frame, `{"class_name":"Dense","config":{"name":"d","units":2.0,"activation":{"module":"builtins","class_name":"function","config":"tanh","registered_name":"function"},"quantization_config":null,"some_flag":false,"list":[],"kernel_initializer":null}}`)
	d, err := Unmarshal([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := *d.Layers[0].Op.(*model.Dense); got != (model.Dense{Units: 2, Activation: "tanh", UseBias: true, KernelInitializer: model.GlorotUniform, BiasInitializer: model.Zeros}) {
		t.Errorf("%+v", got)
	}
}

// Whatever the text, Unmarshal must not panic, and what it accepts must be writable and come back the same.
func FuzzUnmarshal(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			f.Add(data)
		}
	}
	f.Add([]byte(fmt.Sprintf(frame, `{"class_name":"Dense","config":{"units":2}}`)))
	f.Add([]byte(bidirectional(`"merge_mode":"mul",`, `,"go_backwards":true`)))
	f.Add([]byte(graphOf(`[["in",0,0]]`, `[["a",0,0]]`, `[[["in",0,0,{}]]]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Unmarshal(data)
		if err != nil {
			return
		}
		again, err := Marshal(d)
		if err != nil {
			t.Fatalf("accepted, but not writable: %v", err)
		}
		back, err := Unmarshal(again)
		if err != nil || !reflect.DeepEqual(back, d) {
			t.Fatalf("came back different: %v", err)
		}
	})
}
