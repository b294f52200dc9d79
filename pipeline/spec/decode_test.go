package spec

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// columnsOrGlob is a list of names, or one text that is a glob: what a transformer's inputs look like.
type columnsOrGlob struct {
	names []string
	glob  string
}

func (c *columnsOrGlob) UnmarshalYAML(decode func(any) error) error {
	if decode(&c.glob) == nil {
		return nil
	}
	return decode(&c.names)
}

// size is a number or a pair.
type size [2]int

func (s *size) UnmarshalYAML(decode func(any) error) error {
	if decode(&s[0]) == nil {
		s[1] = s[0]
		return nil
	}
	var pair [2]int
	if decode(&pair) != nil {
		return errors.New("want a number, or [height, width]")
	}
	*s = pair
	return nil
}

type common struct {
	Output  string `yaml:"output" spec:"required"`
	Invalid string `yaml:"handle_invalid" spec:"enum=error|skip|keep"`
}

type fields struct {
	common
	Inputs  columnsOrGlob      `yaml:"inputs" spec:"required"`
	Kernel  size               `yaml:"kernel"`
	From    *[2]float64        `yaml:"from"`
	Rate    float32            `yaml:"rate" spec:"min=0,below=1"`
	Size    uint8              `yaml:"size" spec:"above=0"`
	Splits  []float64          `yaml:"splits" spec:"inf"`
	Names   []string           `yaml:"names" spec:"single"`
	Shape   []int              `yaml:"shape" spec:"filled,min=1"`
	Wait    time.Duration      `yaml:"wait"`
	Weights map[int]float64    `yaml:"weights"`
	Value   any                `yaml:"value"`
	Inner   struct{ A, B int } `yaml:"-"`
	Nested  *struct {
		Depth int `yaml:"depth" spec:"required"`
	} `yaml:"nested"`
	Steps []struct {
		Name string `yaml:"name" spec:"required"`
		N    int    `yaml:"n"`
	} `yaml:"steps"`
	Plain int // no tag, so no file can set it
}

func TestItemDecodesEveryForm(t *testing.T) {
	it := item(t, `output: o
inputs: "p*"
kernel: [3, 5]
from: [0, 16]
rate: 0.5
size: 255
splits: [-.inf, 0, .inf]
names: a
shape: [2, 3]
wait: 1m30s
weights: {0: 1, 7: 2.5}
value: {a: [1, x]}
nested: {depth: 2}
steps: [{name: a}, {name: b, n: 4}]`, Options{})
	got := fields{common: common{Invalid: "error"}}
	if err := it.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := fields{
		common: common{"o", "error"}, Inputs: columnsOrGlob{glob: "p*"}, Kernel: size{3, 5}, From: &[2]float64{0, 16}, Rate: 0.5, Size: 255,
		Splits: []float64{math.Inf(-1), 0, math.Inf(1)}, Names: []string{"a"}, Shape: []int{2, 3}, Wait: 90 * time.Second,
		Weights: map[int]float64{0: 1, 7: 2.5}, Value: map[string]any{"a": []any{int64(1), "x"}},
	}
	want.Nested = &struct {
		Depth int `yaml:"depth" spec:"required"`
	}{2}
	want.Steps = got.Steps
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if len(got.Steps) != 2 || got.Steps[0].Name != "a" || got.Steps[1].N != 4 {
		t.Errorf("steps %+v", got.Steps)
	}

	it = item(t, "output: o\ninputs: [a, b]\nkernel: 3\nnames: [a, b]\nfrom: null\n", Options{})
	got = fields{From: &[2]float64{1, 2}}
	if err := it.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Inputs.names, []string{"a", "b"}) || got.Kernel != (size{3, 3}) || len(got.Names) != 2 {
		t.Errorf("got %+v", got)
	}
	if got.From == nil || *got.From != [2]float64{1, 2} {
		t.Errorf("null changed a default: %v", got.From)
	}
}

func TestItemErrorsHavePlacesAndNames(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{"output: o", "job.yaml:2:5: transform[0].op.inputs: missing"},
		{"inputs: a\noutputt: o", "job.yaml:4:7: transform[0].op.outputt: unknown field; did you mean output?"},
		{"output: o\ninputs: {a: b}", "job.yaml:4:15: transform[0].op.inputs: want a list of texts, got fields (name: value)"},
		{"output: o\ninputs: [a, 3]", "job.yaml:4:19: transform[0].op.inputs[1]: want text, got the number 3"},
		{"output: o\ninputs: a\nkernel: x", "job.yaml:5:15: transform[0].op.kernel: want a number, or [height, width]"},
		{"output: o\ninputs: a\nfrom: [1]", "job.yaml:5:13: transform[0].op.from: want 2 elements, got 1"},
		{"output: o\ninputs: a\nfrom: 1", "job.yaml:5:13: transform[0].op.from: want a list of numbers, got the number 1"},
		{"output: o\ninputs: a\nrate: 1", "job.yaml:5:13: transform[0].op.rate: want at least 0 and less than 1, got 1"},
		{"output: o\ninputs: a\nrate: 1e300", "job.yaml:5:13: transform[0].op.rate: want a finite number, got 1e300"},
		{"output: o\ninputs: a\nsize: 256", "job.yaml:5:13: transform[0].op.size: 256 is out of range"},
		{"output: o\ninputs: a\nsize: 0", "job.yaml:5:13: transform[0].op.size: want more than 0, got 0"},
		{"output: o\ninputs: a\nsplits: [.nan]", "job.yaml:5:16: transform[0].op.splits[0]: NaN has no place here"},
		{"output: o\ninputs: a\nshape: []", "job.yaml:5:14: transform[0].op.shape: is empty"},
		{"output: o\ninputs: a\nshape: [2, 0]", "job.yaml:5:18: transform[0].op.shape[1]: want at least 1, got 0"},
		{"output: o\ninputs: a\nwait: 3", "job.yaml:5:13: transform[0].op.wait: want a time such as 90s, got the number 3"},
		{"output: o\ninputs: a\nweights: {1: 2, 0x1: 3}", "job.yaml:5:23: transform[0].op.weights.0x1: written twice, in other digits"},
		{"output: o\ninputs: a\nnested: {}", "job.yaml:5:7: transform[0].op.nested.depth: missing"},
		{"output: o\ninputs: a\nsteps: [{n: 1}]", "job.yaml:5:15: transform[0].op.steps[0].name: missing"},
		{"output: o\ninputs: a\nsteps:\n  - n: 1", "job.yaml:6:11: transform[0].op.steps[0].name: missing"},
		{"output: o\ninputs: a\nhandle_invalid: keeep", `job.yaml:5:23: transform[0].op.handle_invalid: "keeep" is not one of: error, skip, keep; did you mean keep?`},
		{"output: o\ninputs: a\nplain: 3", "job.yaml:5:7: transform[0].op.plain: unknown field; known: output, handle_invalid, inputs, kernel, from, rate, " +
			"size, splits, names, shape, wait, weights, value, nested, steps"},
		{"rate: 2\nsize: x", "job.yaml:2:5: transform[0].op.output: missing\njob.yaml:2:5: transform[0].op.inputs: missing\n" +
			"job.yaml:3:13: transform[0].op.rate: want at least 0 and less than 1, got 2\n" +
			`job.yaml:4:13: transform[0].op.size: want a whole number, got the text "x"`},
	} {
		var into fields
		err := item(t, c.body, Options{}).Decode(&into)
		var e *Error
		if !errors.As(err, &e) || e.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.body, err, c.want)
		}
	}
}

func TestBareItemsHaveNoFields(t *testing.T) {
	s := read(t, "model: {layers: [flatten, {dense: }, {dropout: 0.5}]}\n", Options{})
	var dense struct {
		Units int `yaml:"units" spec:"required"`
	}
	for i, want := range []string{
		"job.yaml:1:18: model.layers[0].units: missing",
		"job.yaml:1:28: model.layers[1].dense.units: missing",
		"job.yaml:1:48: model.layers[2].dropout: want fields (name: value), got the number 0.5",
	} {
		if err := s.Model.Layers[i].Decode(&dense); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := s.Model.Layers[0].Decode(&struct{}{}); err != nil {
		t.Errorf("flatten: %v", err)
	}
	var rate float64
	if err := s.Model.Layers[2].Decode(&rate); err != nil || rate != 0.5 {
		t.Errorf("a body that is a number: %v, %v", rate, err)
	}
}

func TestItemDecodeRefusesWhatIsNoPointer(t *testing.T) {
	it := item(t, "a: 1", Options{})
	for _, into := range []any{nil, fields{}, (*fields)(nil)} {
		if err := it.Decode(into); err == nil {
			t.Errorf("%T: no error", into)
		}
	}
	for _, into := range []any{
		&struct {
			A int `yaml:"a" spec:"mni=3"`
		}{},
		&struct {
			A int `yaml:"a" spec:"min=x"`
		}{},
		&struct {
			A chan int `yaml:"a"`
		}{},
		&struct {
			A error `yaml:"a"`
		}{},
	} {
		if err := it.Decode(into); err == nil {
			t.Errorf("%T: no error", into)
		}
	}
}

func TestItemPlaces(t *testing.T) {
	it := item(t, "from: [1, 2]\nsteps:\n  - {n: 3}", Options{Set: []string{"transform.0.op.to=[3, 4]"}})
	for field, want := range map[string]string{
		"":           "job.yaml:2:5: transform[0].op",
		"absent":     "job.yaml:2:5: transform[0].op",
		"from":       "job.yaml:3:13: transform[0].op.from",
		"from[1]":    "job.yaml:3:17: transform[0].op.from[1]",
		"steps[0].n": "job.yaml:5:15: transform[0].op.steps[0].n",
		"to":         "--set transform.0.op.to=[3, 4]",
		"to[1]":      "--set transform.0.op.to=[3, 4]: transform[0].op.to[1]",
	} {
		if got := it.At(field).String(); got != want {
			t.Errorf("%q: got %s, want %s", field, got, want)
		}
	}
	err := it.Fail("from", "swap the two", "%d is not less than %d", 2, 1)
	var hint interface{ ErrorHint() string }
	if err.Error() != "job.yaml:3:13: transform[0].op.from: 2 is not less than 1" || !errors.As(err, &hint) || hint.ErrorHint() != "swap the two" {
		t.Errorf("Fail: %v", err)
	}
	err = it.Unknown("transformer", []string{"min_max", "opp"})
	if err.Error() != "job.yaml:2:5: transform[0].op: there is no transformer op; did you mean opp?" {
		t.Errorf("Unknown: %v", err)
	}
	if (Item{Name: "x"}).At("a") != (Pos{}) {
		t.Error("an item made by hand has a place")
	}
}

func TestSectionsKnowTheirPlace(t *testing.T) {
	s := read(t, "name: x\ntrain: {loss: mse}\nmodel:\n  keras: m\n", Options{Set: []string{"gate={metric: loss, at_most: 1}"}})
	for got, want := range map[string]string{
		s.Train.Pos.String(): "job.yaml:2:1: train",
		s.Model.Pos.String(): "job.yaml:3:1: model",
		s.Gate.Pos.String():  "--set gate={metric: loss, at_most: 1}",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestJoinReportsAllItemsInFileOrder(t *testing.T) {
	s := read(t, "transform:\n  - a: {x: 1}\n  - b: {y: 1}\n", Options{})
	second, first := s.Transform[1].Decode(&struct{}{}), s.Transform[0].Decode(&struct{}{})
	err := Join(second, nil, first, first)
	want := "job.yaml:2:9: transform[0].a.x: unknown field; there are no fields here\n" +
		"job.yaml:3:9: transform[1].b.y: unknown field; there are no fields here"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	other := errors.New("no such folder")
	if err := Join(first, other); !errors.Is(err, other) {
		t.Errorf("another kind of error is hidden: %v", err)
	}
	if Join(nil, nil) != nil {
		t.Error("an error from nothing")
	}
	var many []error
	for i := range 30 {
		many = append(many, newError([]Problem{{Pos: Pos{File: "f", Line: 30 - i, Column: 1}, Text: "x"}}, 0))
	}
	lines := strings.Split(Join(many...).Error(), "\n")
	if len(lines) != maxProblems+1 || lines[0] != "f:1:1: x" || lines[maxProblems] != "and 20 more" {
		t.Errorf("got %q", lines)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"trainer", "workers", "window", "epochs", "batch_size", "optimizer", "loss", "seed", "x", "y"}
	for name, want := range map[string]string{
		"windw": "window", "wrokers": "workers", "EPOCHS": "epochs", "batchsize": "batch_size", "batch-size": "batch_size", "optimiser": "optimizer",
		"bath": "", "batch": "batch_size", "los": "loss", "train": "trainer", "sede": "seed", "z": "", "learning_rate": "", "": "", "opt": "optimizer",
		"worker": "workers", "epoch": "epochs", "batch_sise": "batch_size", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestFieldsListsWhatSetCanChange(t *testing.T) {
	all := Fields()
	seen := map[string]bool{}
	for _, f := range all {
		if seen[f] {
			t.Errorf("%s is listed twice", f)
		}
		seen[f] = true
	}
	for _, want := range []string{"name", "params", "spark.remote", "source.csv", "transform", "split.train", "train.optimizer", "train.batch_size", "gate.at_least", "model.layers"} {
		if !seen[want] {
			t.Errorf("%s is not listed in %q", want, all)
		}
	}
}
