package kerasjson

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// Sizes along a sequence are a list of one or the number, and what older versions did not know is left out.
func TestSizesAlongASequence(t *testing.T) {
	const layers = `{"class_name":"Reshape","config":{"name":"r","target_shape":[4,1]}},` +
		`{"class_name":"Conv1D","config":{"name":"c","filters":2,"kernel_size":3%[1]s}},{"class_name":"MaxPooling1D","config":{"name":"p","pool_size":2%[1]s}}`
	list := strings.NewReplacer(`_size":3`, `_size":[3]`, `_size":2`, `_size":[2]`, `"strides":1.0`, `"strides":[1]`, `"strides":1`, `"strides":[1]`)
	for more, strides := range map[string]int{"": 0, `,"strides":1`: 1, `,"strides":null`: 0, `,"padding":"same","strides":1.0,"data_format":"channels_last"`: 1} {
		text := fmt.Sprintf(frame, fmt.Sprintf(layers, more))
		d, err := Unmarshal([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		c, p := d.Layers[1].Op.(*model.Conv1D), d.Layers[2].Op.(*model.MaxPooling1D)
		if c.KernelSize != 3 || c.Strides != 1 || c.DilationRate != 1 || p.PoolSize != 2 || p.Strides != strides {
			t.Errorf("%s was read as %+v and %+v", text, c, p)
		}
		if other, err := Unmarshal([]byte(list.Replace(text))); err != nil || !reflect.DeepEqual(d, other) {
			t.Errorf("with lists: %v", err)
		}
	}
}

func TestConvolutionsAndPoolingsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		text  string
		kind  pipeline.Kind
		words []string
	}{
		{fmt.Sprintf(frame, `{"class_name":"Conv2D","config":{"name":"l","filters":2,"kernel_size":[3,3],"groups":2}}`), pipeline.Unsupported, []string{"groups 2"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv2D","config":{"name":"l","filters":2,"kernel_size":[3,3],"data_format":"channels_first"}}`), pipeline.Unsupported, []string{"channels_first"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv2D","config":{"name":"l","filters":2,"kernel_size":[3]}}`), pipeline.Corrupt, []string{"kernel_size"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1D","config":{"name":"l","filters":2,"kernel_size":[3],"groups":2}}`), pipeline.Unsupported, []string{`"l" (Conv1D)`, "groups 2"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1D","config":{"name":"l","filters":2,"kernel_size":3,"data_format":"channels_first"}}`), pipeline.Unsupported, []string{"channels_first"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1D","config":{"name":"l","filters":2,"kernel_size":[3,3]}}`), pipeline.Corrupt, []string{"kernel_size", "one whole number"}},
		{fmt.Sprintf(frame, `{"class_name":"MaxPooling1D","config":{"name":"l","pool_size":[2,2]}}`), pipeline.Corrupt, []string{`"l" (MaxPooling1D)`, "pool_size", "one whole number"}},
		{fmt.Sprintf(frame, `{"class_name":"AveragePooling1D","config":{"name":"l","pool_size":2,"strides":1.5}}`), pipeline.Corrupt, []string{"strides is 1.5"}},
		{fmt.Sprintf(frame, `{"class_name":"GlobalMaxPooling1D","config":{"name":"l","data_format":"channels_first"}}`), pipeline.Unsupported, []string{"channels_first"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1D","config":{"name":"l","filters":2}}`), pipeline.BadSpec, []string{"layer l (conv1d)", "kernel_size is 0"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1D","config":{"name":"l","filters":2,"kernel_size":2,"padding":"full"}}`), pipeline.Unsupported, []string{`padding "full"`, "causal, same, valid"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1D","config":{"name":"l","filters":2,"kernel_size":2}}`), pipeline.Unsupported, []string{"[steps, channels]", "[4]"}},
		{fmt.Sprintf(frame, `{"class_name":"SeparableConv1D","config":{"name":"l","filters":2,"kernel_size":2}}`), pipeline.Unsupported, []string{`"SeparableConv1D"`, "Conv1D"}},
		{fmt.Sprintf(frame, `{"class_name":"Conv1DTranspose","config":{"name":"l","filters":2,"kernel_size":2}}`), pipeline.Unsupported, []string{`"Conv1DTranspose"`, "Conv1D"}},
	} {
		_, err := Unmarshal([]byte(c.text))
		wantKind(t, err, c.kind, c.words...)
	}
}
