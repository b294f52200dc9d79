package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"

	"github.com/goccy/go-yaml"
)

// parse reads a list of layers as the job file does: one-key maps, fields decoded strictly.
func parse(t *testing.T, doc string) []LayerItem {
	t.Helper()
	var list []map[string]any
	if err := yaml.Unmarshal([]byte(doc), &list); err != nil {
		t.Fatal(err)
	}
	var items []LayerItem
	for _, m := range list {
		for name, body := range m {
			raw, err := yaml.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			items = append(items, LayerItem{Name: name, Decode: func(into any) error {
				if body == nil {
					return nil
				}
				return yaml.UnmarshalWithOptions(raw, into, yaml.Strict())
			}})
		}
	}
	return items
}

func TestFromLayers(t *testing.T) {
	d, err := FromLayers(parse(t, `
- flatten:
- dense: {units: 500, activation: relu}
- dropout: {rate: 0.2, seed: 7}
- dense: {units: 10, use_bias: false, kernel_initializer: he_normal}
- activation: softmax
- activation: {activation: linear}
`), []Input{{Shape: []int{28, 28, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range d.Layers {
		got = append(got, fmt.Sprintf("%s<-%s", l.Name, strings.Join(l.From, ",")))
	}
	want := []string{"flatten<-input", "dense<-flatten", "dropout<-dense", "dense_1<-dropout", "activation<-dense_1", "activation_1<-activation"}
	if !slices.Equal(got, want) {
		t.Errorf("layers %v", got)
	}
	if first := d.Layers[1].Op.(*Dense); *first != *dense(500, "relu") {
		t.Errorf("dense %+v", *first)
	}
	plain := *dense(10, "linear")
	plain.UseBias, plain.KernelInitializer = false, HeNormal
	if second := d.Layers[3].Op.(*Dense); *second != plain {
		t.Errorf("dense_1 %+v", *second)
	}
	if drop := d.Layers[2].Op.(*Dropout); drop.Rate != 0.2 || *drop.Seed != 7 {
		t.Errorf("dropout %+v", *drop)
	}
	if a := d.Layers[4].Op.(*Activation); a.Activation != "softmax" {
		t.Errorf("activation %+v", *a)
	}
	if in, out := d.Widths(); !slices.Equal(in, []int{784}) || !slices.Equal(out, []int{10}) || !slices.Equal(d.Outputs, []string{"activation_1"}) {
		t.Errorf("widths %v and %v, outputs %v", in, out, d.Outputs)
	}
}

func TestAScalarColumnIsARowOfOne(t *testing.T) {
	d, err := FromLayers(parse(t, "- dense: {units: 3}"), []Input{{}})
	if err != nil {
		t.Fatal(err)
	}
	if in, _ := d.Widths(); !slices.Equal(in, []int{1}) {
		t.Errorf("input widths %v", in)
	}
}

// A file can ask for any number of parameters; the sum must not overflow.
func TestTooManyParametersAreRefused(t *testing.T) {
	l := dense(1<<15, "linear")
	_, err := define(t, []int{1 << 15}, l, l).Layout()
	wantError(t, err, pipeline.BadSpec, "layer dense", "parameters")
}

func TestBadLayersAreNamed(t *testing.T) {
	for _, c := range []struct {
		doc   string
		kind  pipeline.Kind
		words []string
	}{
		{"- dens: {units: 3}", pipeline.Unsupported, []string{`"dens"`, `did you mean "dense"?`}},
		{"- lambda: {}", pipeline.Unsupported, []string{`"lambda"`, "activation, ", "dense, dropout, "}},
		{"- dense: {}", pipeline.BadSpec, []string{"model.layers[0] (dense)", "units is 0"}},
		{"- dense: {units: -1}", pipeline.BadSpec, []string{"units is -1"}},
		{"- dense: {units: 2000000000}", pipeline.BadSpec, []string{"units is 2000000000"}},
		{"- dense: {units: 1000000000}", pipeline.BadSpec, []string{"too large"}},
		{"- flatten:\n- dense: {units: 2, activation: rellu}", pipeline.Unsupported, []string{"model.layers[1]", `did you mean "relu"?`}},
		{"- dense: {units: 2, kernel_initializer: xavier}", pipeline.Unsupported, []string{"xavier", "glorot_uniform"}},
		{"- dropout: {rate: 1}", pipeline.BadSpec, []string{"rate is 1"}},
		{"- dropout: {rate: .nan}", pipeline.BadSpec, []string{"rate is NaN"}},
		{"- activation: {}", pipeline.Unsupported, []string{"activation"}},
		{"[]", pipeline.BadSpec, []string{"no layers"}},
	} {
		_, err := FromLayers(parse(t, c.doc), []Input{{Shape: []int{4}}})
		wantError(t, err, c.kind, c.words...)
	}
	if _, err := FromLayers(parse(t, "- dense: {unit: 3}"), []Input{{Shape: []int{4}}}); err == nil || !strings.Contains(err.Error(), "unit") {
		t.Errorf("an unknown field gave %v", err)
	}
	_, err := FromLayers(parse(t, "- dense: {units: 3}"), []Input{{Shape: []int{2}}, {Shape: []int{3}}})
	wantError(t, err, pipeline.BadSpec, "2 inputs", "from: input_1")
	_, err = FromLayers(parse(t, "- dense: {units: 3}"), []Input{{Shape: []int{0}}})
	wantError(t, err, pipeline.BadSpec, "[0]")
}

func TestUnsoundDefinitionsAreRefused(t *testing.T) {
	in := []Input{{"in", []int{3}}}
	for name, c := range map[string]struct {
		d     Definition
		words string
	}{
		"empty":       {Definition{Name: "m"}, "needs inputs"},
		"same name":   {Definition{Inputs: in, Layers: []Layer{{Name: "in", From: []string{"in"}, Op: dense(1, "relu")}}, Outputs: []string{"in"}}, "used twice"},
		"reads later": {Definition{Inputs: in, Layers: []Layer{{Name: "a", From: []string{"b"}, Op: dense(1, "relu")}, {Name: "b", From: []string{"in"}, Op: dense(1, "relu")}}, Outputs: []string{"a"}}, `"b"`},
		"dead end":    {Definition{Inputs: in, Layers: []Layer{{Name: "a", From: []string{"in"}, Op: dense(1, "relu")}, {Name: "b", From: []string{"in"}, Op: dense(1, "relu")}}, Outputs: []string{"a"}}, "b: nothing reads it"},
		"no output":   {Definition{Inputs: in, Layers: []Layer{{Name: "a", From: []string{"in"}, Op: dense(1, "relu")}}, Outputs: []string{"z"}}, "output z"},
		"two inputs":  {Definition{Inputs: in, Layers: []Layer{{Name: "a", From: []string{"in", "in"}, Op: dense(1, "relu")}}, Outputs: []string{"a"}}, "one input, has 2"},
		"no op":       {Definition{Inputs: in, Layers: []Layer{{Name: "a", From: []string{"in"}, Op: nil}}, Outputs: []string{"a"}}, "does nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, c.d.Check(), pipeline.BadSpec, c.words)
			if !strings.Contains(c.d.Summary(), c.words) {
				t.Errorf("summary: %s", c.d.Summary())
			}
		})
	}
}

func TestCheckWidthsNamesBothSides(t *testing.T) {
	d := define(t, []int{8, 8}, &Flatten{}, dense(10, "softmax"))
	if err := d.CheckWidths([]int{64}, []int{10}); err != nil {
		t.Error(err)
	}
	if err := d.CheckWidths([]int{64}, nil); err != nil {
		t.Error(err)
	}
	wantError(t, d.CheckWidths([]int{65}, []int{10}), pipeline.BadSpec, "64", "65", "columns.x")
	wantError(t, d.CheckWidths([]int{64}, []int{9}), pipeline.BadSpec, "10", "9", "columns.y")
	wantError(t, d.CheckWidths([]int{64}, []int{5, 5}), pipeline.BadSpec, "10", "[5, 5]")
}

// Two inputs, two outputs, a value with two readers.
func TestDefinitionsMayBranch(t *testing.T) {
	d := &Definition{
		Name:   "two heads",
		Inputs: []Input{{"a", []int{3}}, {"b", []int{2}}},
		Layers: []Layer{
			{Name: "trunk", From: []string{"a"}, Op: dense(4, "tanh")},
			{Name: "left", From: []string{"trunk"}, Op: dense(2, "linear")},
			{Name: "right", From: []string{"trunk"}, Op: dense(1, "linear")},
			{Name: "other", From: []string{"b"}, Op: dense(1, "sigmoid")},
		},
		Outputs: []string{"left", "right", "other"},
	}
	n := compile(t, d, Config{Batch: 3, Loss: "mse"})
	n.Init(1)
	b := &pipeline.Batch{Rows: 2, X: [][]float32{{.1, .2, .3, -.4, .5, .6}, {1, 2, 3, -4}}, Y: [][]float32{{1, 0, 0, 1}, {2, 3}, {0, 1}}}
	loss := func() float64 {
		l, err := n.Step(b)
		if err != nil {
			t.Fatal(err)
		}
		return float64(l)
	}
	loss()
	grads := slices.Clone(n.Grads())
	for i, g := range grads { // float32 differences are coarse, but a missing branch would be far off
		const h = 1e-2
		p := n.Params()[i]
		n.Params()[i] = p + h
		up := loss()
		n.Params()[i] = p - h
		down := loss()
		n.Params()[i] = p
		if want := (up - down) / (2 * h); want-float64(g) > 2e-3 || float64(g)-want > 2e-3 {
			t.Errorf("gradient[%d] (%s) = %g, difference %g", i, nameAt(n, i), g, want)
		}
	}
	out := [][]float32{make([]float32, 4), make([]float32, 2), make([]float32, 2)}
	if err := n.Predict(b, out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if !slices.Equal(out[i], n.Output(i)[:len(out[i])]) {
			loss() // the last step ran with a changed parameter
			if !slices.Equal(out[i], n.Output(i)[:len(out[i])]) {
				t.Errorf("output %d: predict %v, step %v", i, out[i], n.Output(i))
			}
		}
	}
}

func TestSummary(t *testing.T) {
	got := define(t, []int{28, 28}, &Flatten{}, dense(500, "relu"), dense(10, "softmax")).Summary()
	want := `Model: "sequential"
Layer (type)      Output Shape     Param #   Connected to
input (input)     (None, 28, 28)   0         
flatten (flatten) (None, 784)      0         input
dense (dense)     (None, 500)      392,500   flatten
dense_1 (dense)   (None, 10)       5,010     dense
Total params: 397,510 (1.52 MB)
`
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if squeeze(got) != squeeze(want) {
		t.Errorf("got\n%s", got)
	}
	lines := strings.Split(got, "\n")
	for _, l := range lines[2:6] {
		if strings.Index(l, "(None") != strings.Index(lines[1], "Output Shape") {
			t.Errorf("columns are not aligned:\n%s", got)
		}
	}
}

// A layer that holds others has them with their defaults, and is frozen and named as any.
func TestBidirectionalInALayerList(t *testing.T) {
	d, err := FromLayers(parse(t, `
- bidirectional: {layer: {lstm: {units: 3, return_sequences: true}}, merge_mode: sum, name: both, trainable: false}
- bidirectional: {layer: {simple_rnn: {units: 2}}, backward_layer: {gru: {units: 2, go_backwards: true}}}
`), []Input{{Name: "in", Shape: []int{4, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	lstm := newLSTM()
	lstm.Units, lstm.ReturnSequences = 3, true
	first := d.Layers[0]
	if got := first.Op.(*Bidirectional); first.Name != "both" || !first.Frozen || *got.Layer.Op.(*LSTM) != *lstm || got.MergeMode != "sum" || got.BackwardLayer.Op != nil {
		t.Errorf("%+v: %+v", first, got)
	}
	if got := d.Shapes(); !slices.Equal(got["both"], []int{4, 3}) || !slices.Equal(got["bidirectional"], []int{4}) {
		t.Errorf("shapes %v", got)
	}
	var names []string
	vars, err := d.Variables()
	for _, v := range vars {
		names = append(names, fmt.Sprint(v.Name, v.Shape, v.State))
	}
	want := []string{
		"both/forward_layer/kernel[2 12] true", "both/forward_layer/recurrent_kernel[3 12] true", "both/forward_layer/bias[12] true",
		"both/backward_layer/kernel[2 12] true", "both/backward_layer/recurrent_kernel[3 12] true", "both/backward_layer/bias[12] true",
		"bidirectional/forward_layer/kernel[3 2] false", "bidirectional/forward_layer/recurrent_kernel[2 2] false", "bidirectional/forward_layer/bias[2] false",
		"bidirectional/backward_layer/kernel[3 6] false", "bidirectional/backward_layer/recurrent_kernel[2 6] false", "bidirectional/backward_layer/bias[2 6] false",
	}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("variables %q: %v", names, err)
	}
	for doc, want := range map[string]string{
		"- bidirectional: {layer: {dense: {units: 3}}}":          "no recurrent layer dense",
		"- bidirectional: {layer: {lstm: {unit: 3}}}":            "unit",
		"- bidirectional: {layer: {}}":                           "want one layer",
		"- bidirectional: {layer: {lstm: {units: 1}, gru: {}}}":  "want one layer",
		"- bidirectional: {layer: {bidirectional: {}}, name: b}": "no recurrent layer bidirectional",
	} {
		if _, err := FromLayers(parse(t, doc), []Input{{Shape: []int{4, 2}}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// Go programs can put anything into a Direction.
func TestADirectionIsRecurrent(t *testing.T) {
	lstm := newLSTM()
	lstm.Units = 1
	for _, b := range []*Bidirectional{{Layer: Direction{dense(1, "linear")}, MergeMode: "sum"}, {Layer: Direction{lstm}, BackwardLayer: Direction{dense(1, "linear")}, MergeMode: "sum"}} {
		wantError(t, b.check(), pipeline.Unsupported, "dense", "gru, lstm, simple_rnn")
	}
}
