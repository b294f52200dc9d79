package kerasjson

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// nestedModel is a model l of one layer f, for the place of a layer.
func nestedModel(keys, shape, class string) string {
	return `{"class_name":"Sequential","config":{"name":"l",` + keys + `"layers":[{"class_name":"InputLayer","config":{"batch_shape":` + shape + `,"name":"in"}},` +
		`{"class_name":"` + class + `","config":{"name":"f"}}]}}`
}

// Models in models become layers of one model, and names of the inside do not meet names of the outside.
func TestModelsInModels(t *testing.T) {
	text := fmt.Sprintf(frame, nestedModel("", "[null,4]", "Flatten")+`,{"class_name":"Dense","config":{"name":"f","units":2}},`+
		strings.Replace(strings.Replace(nestedModel("", "[null,2]", "Softmax"), `"l"`, `"m"`, 1), `"Softmax","config":{"name":"f"}`, `"Sequential","config":{"name":"deep","layers":[
{"class_name":"InputLayer","config":{"batch_shape":[null,2],"name":"in"}},{"class_name":"Dense","config":{"name":"d","units":3}}]}`, 1))
	d, err := Unmarshal([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range d.Layers {
		got = append(got, l.Name+"<-"+strings.Join(l.From, ","))
	}
	if want := []string{"l.f<-in", "f<-l.f", "m.deep.d<-f"}; !slices.Equal(got, want) || d.Outputs[0] != "m.deep.d" {
		t.Errorf("layers %q, outputs %q", got, d.Outputs)
	}
}
