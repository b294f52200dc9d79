package kerasjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

func describe(d *model.Definition) []string {
	lines := []string{fmt.Sprintf("%s %s %v", d.Name, d.Inputs[0].Name, d.Inputs[0].Shape)}
	for _, l := range d.Layers {
		text := fmt.Sprintf("%s<-%s %s", l.Name, l.From[0], l.Op.Kind())
		switch op := l.Op.(type) {
		case *model.Dense:
			text += strings.NewReplacer(" KernelRegularizer:{L1:0 L2:0}", "", " BiasRegularizer:{L1:0 L2:0}", "").Replace(fmt.Sprintf(" %+v", *op))
		case *model.Activation:
			text += " " + op.Activation
		case *model.Dropout:
			text += fmt.Sprintf(" %g", op.Rate)
			if op.Seed != nil {
				text += fmt.Sprintf(" seed %d", *op.Seed)
			}
		}
		lines = append(lines, text)
	}
	return lines
}

// Files as several versions of Keras write them.
func TestFilesOfManyKerasVersions(t *testing.T) {
	three := []string{
		"mine input_layer [4 3]",
		"flatten<-input_layer flatten",
		"dense<-flatten dense {Units:5 Activation:relu UseBias:true KernelInitializer:he_normal BiasInitializer:zeros}",
		"dropout<-dense dropout 0.25 seed 3",
		"dense_1<-dropout dense {Units:4 Activation:linear UseBias:false KernelInitializer:he_uniform BiasInitializer:zeros}",
		"activation<-dense_1 activation tanh",
		"re_lu<-activation activation relu",
		"elu<-re_lu activation elu",
		"dense_2<-elu dense {Units:2 Activation:linear UseBias:true KernelInitializer:glorot_uniform BiasInitializer:zeros}",
		"softmax<-dense_2 activation softmax",
	}
	want := map[string][]string{
		"keras-3.0.5.json":  three,
		"keras-3.15.1.json": three,
		"keras-2.1.json": {
			"sequential dense_1_input [12]",
			"dense_1<-dense_1_input dense {Units:5 Activation:relu UseBias:true KernelInitializer:glorot_uniform BiasInitializer:zeros}",
			"dropout_1<-dense_1 dropout 0.25",
			"dense_2<-dropout_1 dense {Units:2 Activation:linear UseBias:true KernelInitializer:he_normal BiasInitializer:zeros}",
			"activation_1<-dense_2 activation softmax",
		},
		"keras-2.7.json": {
			"sequential flatten_input [4 3]",
			"flatten<-flatten_input flatten",
			"dense<-flatten dense {Units:2 Activation:sigmoid UseBias:false KernelInitializer:glorot_uniform BiasInitializer:zeros}",
		},
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, %d expectations: %v", len(files), len(want), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Unmarshal(data)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if got := describe(d); !slices.Equal(got, want[filepath.Base(file)]) {
			t.Errorf("%s:\n%s", file, strings.Join(got, "\n"))
		}
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

func TestEveryInitializerAndActivationSurvives(t *testing.T) {
	for _, init := range model.Initializers() {
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

func TestWhatIsNotAChainIsNotWritten(t *testing.T) {
	d := chain(&model.Flatten{}, &model.Flatten{}, &model.Flatten{})
	d.Layers[2].From = []string{"l0"}
	d.Outputs = []string{"l1", "l2"}
	_, err := Marshal(d)
	wantKind(t, err, pipeline.Unsupported, "not a chain")
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

func TestWhatWouldBeLostIsRefused(t *testing.T) {
	denseWith := func(extra string) string {
		return fmt.Sprintf(frame, `{"class_name":"Dense","config":{"name":"d","units":2,`+extra+`}}`)
	}
	for _, c := range []struct {
		text  string
		kind  pipeline.Kind
		words []string
	}{
		{denseWith(`"kernel_regularizer":{"class_name":"L2","config":{"l2":0.01}}`), pipeline.Unsupported, []string{`"d" (Dense)`, "kernel_regularizer", "L2"}},
		{denseWith(`"lora_rank":4`), pipeline.Unsupported, []string{"lora_rank = 4"}},
		{denseWith(`"trainable":false`), pipeline.Unsupported, []string{"trainable = false"}},
		{denseWith(`"dtype":"mixed_float16"`), pipeline.Unsupported, []string{"mixed_float16"}},
		{denseWith(`"dtype":{"class_name":"DTypePolicy","config":{"name":"bfloat16"}}`), pipeline.Unsupported, []string{"bfloat16"}},
		{denseWith(`"activation":"swish"`), pipeline.Unsupported, []string{`"swish"`, "relu"}},
		{denseWith(`"activation":{"class_name":"MyOp","config":{}}`), pipeline.Unsupported, []string{"MyOp"}},
		{denseWith(`"kernel_initializer":{"class_name":"RandomNormal","config":{"mean":0.0,"stddev":1.0}}`), pipeline.Unsupported, []string{"stddev 1"}},
		{denseWith(`"kernel_initializer":{"class_name":"VarianceScaling","config":{"scale":3,"mode":"fan_in","distribution":"normal"}}`), pipeline.Unsupported, []string{"scale 3"}},
		{denseWith(`"kernel_initializer":{"class_name":"HeNormal","config":{"input_axes":[0]}}`), pipeline.Unsupported, []string{"input_axes"}},
		{denseWith(`"kernel_initializer":"Orthogonal"`), pipeline.Unsupported, []string{"Orthogonal"}},
		{denseWith(`"output_dim":3`), pipeline.Unsupported, []string{"Keras 1"}},
		{denseWith(`"units":2.5`), pipeline.Corrupt, []string{"2.5"}},
		{denseWith(`"units":"two"`), pipeline.Corrupt, []string{"units"}},
		{fmt.Sprintf(frame, `{"class_name":"Lambda","config":{"name":"l"}}`), pipeline.Unsupported, []string{`"Lambda"`, "Dense"}},
		{fmt.Sprintf(frame, `{"class_name":"Dropout","config":{"name":"l","rate":0.5,"noise_shape":[1,4]}}`), pipeline.Unsupported, []string{"noise_shape"}},
		{fmt.Sprintf(frame, `{"class_name":"Dropout","config":{"name":"l"}}`), pipeline.Corrupt, []string{"rate"}},
		{fmt.Sprintf(frame, `{"class_name":"ReLU","config":{"name":"l","max_value":6.0}}`), pipeline.Unsupported, []string{"max_value = 6.0"}},
		{fmt.Sprintf(frame, `{"class_name":"ELU","config":{"name":"l","alpha":0.5}}`), pipeline.Unsupported, []string{"alpha 0.5"}},
		{fmt.Sprintf(frame, `{"class_name":"Flatten","config":{"name":"l","data_format":"channels_first"}}`), pipeline.Unsupported, []string{"channels_first"}},
		{fmt.Sprintf(frame, `{"class_name":"InputLayer","config":{"batch_shape":[null,4],"name":"in2"}}`), pipeline.Unsupported, []string{"second input"}},
		{`{"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,null,3]}}]}}`, pipeline.Unsupported, []string{"variable size"}},
		{`{"class_name":"Sequential","config":[{"class_name":"Dense","config":{"units":2}}]}`, pipeline.Unsupported, []string{"shape of its input"}},
		{`{"class_name":"Functional","config":{}}`, pipeline.Unsupported, []string{"functional"}},
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
