package kerasjson

import (
	"fmt"
	"reflect"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// oneWay is a layer of a kind, from the start or from the end.
func oneWay(t *testing.T, kind string, backwards bool) model.Op {
	t.Helper()
	op, err := model.NewOp(kind)
	if err != nil {
		t.Fatal(err)
	}
	switch op := op.(type) {
	case *model.SimpleRNN:
		op.Units, op.GoBackwards = 3, backwards
	case *model.LSTM:
		op.Units, op.GoBackwards = 3, backwards
	case *model.GRU:
		op.Units, op.GoBackwards = 3, backwards
	}
	return op
}

// bidirectional is a layer l with the keys given, round an LSTM of 3 units with other keys.
func bidirectional(keys, inner string) string {
	return fmt.Sprintf(frame, `{"class_name":"Reshape","config":{"name":"r","target_shape":[2,2]}},{"class_name":"Bidirectional","config":{"name":"l",`+keys+`"layer":{"class_name":"LSTM","config":{"units":3`+inner+`}}}}`)
}

// Keras 2 writes the second layer only where it was given; Keras 3 writes it always. What says nothing new is left out.
func TestBothWaysThroughASequence(t *testing.T) {
	gru := `"backward_layer":{"class_name":"GRU","config":{"units":3,"go_backwards":true}},`
	for _, c := range []struct {
		text     string
		backward string // what is kept of it
		frozen   bool
	}{
		{bidirectional("", ""), "", false},
		{bidirectional(`"backward_layer":null,`, `,"go_backwards":true`), "", false},
		{bidirectional(`"backward_layer":{"class_name":"LSTM","config":{"units":3,"go_backwards":true}},`, ""), "", false},
		{bidirectional(`"backward_layer":{"class_name":"LSTM","config":{"units":3}},`, `,"go_backwards":true`), "", false},
		{bidirectional(gru, `,"batch_input_shape":[null,2,2]`), "gru", false},
		{bidirectional("", `,"trainable":false`), "", true},
		{bidirectional(`"trainable":false,`+gru, ""), "gru", true},
		{bidirectional(`"trainable":false,`+gru, `,"trainable":false`), "gru", true},
	} {
		d, err := Unmarshal([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		l := d.Layers[1]
		b, kept := l.Op.(*model.Bidirectional), ""
		if b.BackwardLayer.Op != nil {
			kept = b.BackwardLayer.Op.Kind()
		}
		if l.Frozen != c.frozen || kept != c.backward || b.MergeMode != "concat" {
			t.Errorf("%s was read as %+v, frozen: %v", c.text, b, l.Frozen)
		}
		data, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Unmarshal(data); err != nil || !reflect.DeepEqual(back, d) {
			t.Errorf("came back different: %v\n%s", err, data)
		}
	}
}

func TestRecurrentLayersThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		text  string
		kind  pipeline.Kind
		words []string
	}{
		{fmt.Sprintf(frame, `{"class_name":"LSTM","config":{"name":"l","units":2,"stateful":true}}`), pipeline.Unsupported, []string{"stateful = true"}},
		{fmt.Sprintf(frame, `{"class_name":"GRU","config":{"name":"l","units":2,"return_state":true}}`), pipeline.Unsupported, []string{"return_state = true"}},
		{fmt.Sprintf(frame, `{"class_name":"SimpleRNN","config":{"name":"l","units":2,"dropout":0.5}}`), pipeline.Unsupported, []string{`"l" (SimpleRNN)`, "dropout = 0.5"}},
		{fmt.Sprintf(frame, `{"class_name":"SimpleRNN","config":{"name":"l","units":2,"recurrent_activation":"sigmoid"}}`), pipeline.Unsupported, []string{"recurrent_activation"}},
		{fmt.Sprintf(frame, `{"class_name":"RNN","config":{"name":"l","cell":{"class_name":"LSTMCell","config":{"units":2}}}}`), pipeline.Unsupported, []string{`"RNN"`, "SimpleRNN"}},
		{fmt.Sprintf(frame, `{"class_name":"TimeDistributed","config":{"name":"l","layer":{}}}`), pipeline.Unsupported, []string{`"TimeDistributed"`, "LSTM"}},
		{fmt.Sprintf(frame, `{"class_name":"Masking","config":{"name":"l","mask_value":0.0}}`), pipeline.Unsupported, []string{`"Masking"`, "LSTM"}},
		{fmt.Sprintf(frame, `{"class_name":"LSTM","config":{"name":"l","units":2,"recurrent_dropout":0.2}}`), pipeline.Unsupported, []string{"recurrent_dropout = 0.2"}},
		{fmt.Sprintf(frame, `{"class_name":"LSTM","config":{"name":"l","units":2,"recurrent_activation":"gelu"}}`), pipeline.Unsupported, []string{"gelu", "sigmoid"}},
		{bidirectional(`"merge_mode":null,`, ""), pipeline.Unsupported, []string{`"l" (Bidirectional)`, "merge_mode null", "concat"}},
		{bidirectional(`"merge_mode":"max",`, ""), pipeline.Unsupported, []string{`merge_mode "max"`, "concat, sum, mul, ave"}},
		{bidirectional("", `,"stateful":true`), pipeline.Unsupported, []string{`"l" (Bidirectional)`, "layer (LSTM)", "stateful = true"}},
		{bidirectional("", `,"return_state":true`), pipeline.Unsupported, []string{"return_state = true"}},
		{bidirectional("", `,"dropout":0.5`), pipeline.Unsupported, []string{"layer (LSTM): dropout = 0.5"}},
		{bidirectional("", `,"trainable":"no"`), pipeline.Corrupt, []string{"layer (LSTM)", "trainable"}},
		{bidirectional("", `,"dtype":"float16"`), pipeline.Unsupported, []string{"layer (LSTM)", "float16"}},
		{bidirectional(`"backward_layer":{"class_name":"LSTM","config":{"units":3,"go_backwards":true,"trainable":false}},`, ""), pipeline.Unsupported, []string{"trainable: false of one direction"}},
		{bidirectional(`"backward_layer":{"class_name":"LSTM","config":{"units":3}},`, ""), pipeline.BadSpec, []string{"the same way"}},
		{bidirectional(`"backward_layer":{"class_name":"LSTM","config":{"units":3,"go_backwards":true,"return_sequences":true}},`, ""), pipeline.BadSpec, []string{"return_sequences"}},
		{bidirectional(`"backward_layer":{"class_name":"LSTM","config":{"units":4,"go_backwards":true}},`, ""), pipeline.BadSpec, []string{"3 units", "backward_layer 4"}},
		{bidirectional(`"backward_layer":{"class_name":"LSTM"},`, ""), pipeline.Corrupt, []string{"backward_layer (LSTM)", "config"}},
		{bidirectional(`"backward_layer":{"module":"mine","class_name":"LSTM","config":{"units":3}},`, ""), pipeline.Unsupported, []string{"backward_layer (LSTM)", "mine.LSTM"}},
		{bidirectional(`"backward_layer":{"class_name":"Dense","config":{"units":3}},`, ""), pipeline.Unsupported, []string{"backward_layer (Dense)", "GRU, LSTM, SimpleRNN"}},
		{fmt.Sprintf(frame, `{"class_name":"Bidirectional","config":{"name":"l","layer":{}}}`), pipeline.Corrupt, []string{`"l" (Bidirectional)`, "no layer"}},
		{fmt.Sprintf(frame, `{"class_name":"Bidirectional","config":{"name":"l","layer":{"class_name":"RNN","config":{}}}}`), pipeline.Unsupported, []string{"layer (RNN)", "LSTM"}},
		{fmt.Sprintf(frame, `{"class_name":"Bidirectional","config":{"name":"l","layer":7}}`), pipeline.Corrupt, []string{"layer"}},
	} {
		_, err := Unmarshal([]byte(c.text))
		wantKind(t, err, c.kind, c.words...)
	}
}
