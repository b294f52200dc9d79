package kerasjson

import (
	"reflect"
	"testing"

	"dkpipe/trainers/model"
)

// What Keras writes of a compiled model, in its JSON and in training_config of an .h5 file, and what is no such thing.
func TestWhatAModelWasCompiledWith(t *testing.T) {
	logits := model.Loss{Name: "sparse_categorical_crossentropy", FromLogits: true}
	for text, want := range map[string]*Compiled{
		`{"class_name":"Sequential","compile_config":{"optimizer":{"module":"keras.optimizers","class_name":"AdamW","config":{"learning_rate":0.001}},"loss":"mse"}}`: {"adamw", []model.Loss{{Name: "mean_squared_error"}}},
		`{"loss":"categorical_crossentropy","optimizer_config":{"class_name":"RMSprop","config":{}}}`:                                                                 {"rmsprop", []model.Loss{{Name: "categorical_crossentropy"}}},
		`{"compile_config":{"loss":{"q":{"class_name":"SparseCategoricalCrossentropy","config":{"from_logits":true}},"p":"mae"}}}`:                                    {"", []model.Loss{{Name: "mean_absolute_error"}, logits}},
		`{"compile_config":{"loss":[{"class_name":"function","config":"mse"},{"class_name":"SparseCategoricalCrossentropy","config":{"from_logits":true}}]}}`:         {"", []model.Loss{{Name: "mean_squared_error"}, logits}},
		`{"compile_config":{"loss":{"p":"mse"}}}`: nil, // q has none
		`{"compile_config":null}`:                 nil,
		`{"class_name":"Sequential"}`:             nil,
		`[1]`:                                     nil,
		`{"compile_config":{"optimizer":{"class_name":3},"loss":[[["mse"]]]}}`: nil,
	} {
		if got := ReadCompiled([]byte(text), []string{"p", "q"}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}
