package model

import (
	"fmt"
	"reflect"
	"slices"

	"dkpipe/pipeline"
)

// LayerItem is one entry of a job file's list of layers: a name and fields that are not decoded yet.
//
// Beside the fields of the layer, every entry may have three more: name (default: the kind, with _1, _2 and so on after
// the first), trainable (false freezes the layer), and from, the name of an input or a layer above, or a list of them
// (default: the layer above; of the first entry the input, when there is only one). With them a list describes any model
// without cycles:
//
//   - embedding: {input_dim: 1000, output_dim: 8, from: user}
//   - flatten: {name: who}
//   - dense: {units: 64, activation: relu, from: features, name: deep}
//   - concatenate: {from: [who, deep]}
//   - dense: {units: 1, activation: sigmoid}
//
// A layer that holds another has it as a field of that form, {name: {fields}}, with none of the three:
//
//   - bidirectional: {layer: {lstm: {units: 64}}, merge_mode: sum}
type LayerItem struct {
	Name   string
	Decode func(into any) error // strict, into a pointer to a struct with yaml tags; nil when there are no fields
}

// FromLayers makes a definition of a list of layers. inputs are the x columns, whose names may be empty: input, or
// input_1, input_2 and so on. A scalar column, of shape [], is a row of one number. The outputs are the layers that no
// other reads, in their order. The result is checked. Errors of Decode are passed on as they are.
func FromLayers(items []LayerItem, inputs []Input) (*Definition, error) {
	if len(items) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: "the model has no layers", Hint: "list at least one under model.layers"}
	}
	d := &Definition{Name: "sequential"}
	for i, in := range inputs {
		if in.Name == "" {
			in.Name = "input"
			if len(inputs) > 1 {
				in.Name = fmt.Sprintf("input_%d", i+1)
			}
		}
		if in.Shape = slices.Clone(in.Shape); len(in.Shape) == 0 {
			in.Shape = []int{1}
		}
		d.Inputs = append(d.Inputs, in)
	}
	read := map[string]bool{}
	for i, item := range items {
		l, err := d.layer(item)
		if err != nil {
			return nil, inItem(i, item.Name, err)
		}
		switch {
		case l.Name == "":
			l.Name = d.freeName(item.Name)
		case d.taken(l.Name):
			return nil, inItem(i, item.Name, &layerFault{fmt.Errorf("the name %s is used twice", l.Name)})
		}
		for _, from := range l.From {
			read[from] = true
		}
		d.Layers = append(d.Layers, l)
	}
	for _, l := range d.Layers {
		if !read[l.Name] {
			d.Outputs = append(d.Outputs, l.Name)
		}
	}
	return d, d.Check()
}

// taken tells whether an input or a layer has the name.
func (d *Definition) taken(name string) bool {
	return slices.ContainsFunc(d.Inputs, func(in Input) bool { return in.Name == name }) ||
		slices.ContainsFunc(d.Layers, func(l Layer) bool { return l.Name == name })
}

// freeName gives kind, kind_1, kind_2 and so on: the first that nothing has yet.
func (d *Definition) freeName(kind string) string {
	name := kind
	for n := 1; d.taken(name); n++ {
		name = fmt.Sprintf("%s_%d", kind, n)
	}
	return name
}

// inItem names an entry before an error of ours; those of Decode have a place already.
func inItem(i int, name string, err error) error {
	if ours, ok := err.(*layerFault); ok {
		return badLayer(fmt.Sprintf("model.layers[%d] (%s)", i, name), ours.err)
	}
	return err
}

// layerFault marks an error that says nothing of the place.
type layerFault struct{ err error }

func (e *layerFault) Error() string { return e.err.Error() }

// CheckLayer finds what is wrong with an entry whatever the inputs of the model: its name, its fields and their values. The
// error does not say which entry it is.
func CheckLayer(item LayerItem) error {
	_, err := readLayer(item)
	if ours, ok := err.(*layerFault); ok {
		return ours.err
	}
	return err
}

// readLayer decodes one entry.
func readLayer(item LayerItem) (Layer, error) {
	op, err := NewOp(item.Name)
	if err != nil {
		return Layer{}, err
	}
	l := Layer{Op: op}
	if item.Decode != nil {
		if err := l.decode(item.Decode); err != nil {
			return Layer{}, err
		}
	}
	if err := op.check(); err != nil {
		return Layer{}, &layerFault{err}
	}
	return l, nil
}

// layer reads one entry, and what it reads.
func (d *Definition) layer(item LayerItem) (Layer, error) {
	l, err := readLayer(item)
	if err != nil || len(l.From) > 0 {
		return l, err
	}
	switch {
	case len(d.Layers) > 0:
		l.From = []string{d.Layers[len(d.Layers)-1].Name}
	case len(d.Inputs) == 1:
		l.From = []string{d.Inputs[0].Name}
	default:
		var names []string
		for _, in := range d.Inputs {
			names = append(names, in.Name)
		}
		return Layer{}, &layerFault{&pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("the model has %d inputs, and the first layer does not say which it reads", len(names)),
			Hint:    fmt.Sprintf("add from: %s to its fields, or join the columns with assemble or concatenate", names[0])}}
	}
	return l, nil
}

// worder is a layer that can also be written as a bare word, as in {activation: relu}.
type worder interface{ setWord(word string) }

// decode decodes the fields of a layer together with those that every entry has.
func (l *Layer) decode(decode func(any) error) error {
	fields := reflect.ValueOf(l.Op).Elem()
	plain := reflect.New(fields.Type())
	plain.Elem().Set(fields)
	if decode(plain.Interface()) == nil { // none of the common ones
		fields.Set(plain.Elem())
		return nil
	}
	all := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "Op", Type: fields.Type(), Tag: `yaml:",inline"`},
		{Name: "Name", Type: reflect.TypeFor[string](), Tag: `yaml:"name" spec:"filled"`},
		{Name: "From", Type: reflect.TypeFor[[]string](), Tag: `yaml:"from" spec:"single,filled"`},
		{Name: "Trainable", Type: reflect.TypeFor[bool](), Tag: `yaml:"trainable"`},
	})).Elem()
	all.Field(0).Set(fields)
	all.Field(3).SetBool(true)
	err := decode(all.Addr().Interface())
	if w, ok := l.Op.(worder); ok && err != nil {
		var word string
		if decode(&word) == nil && word != "" {
			w.setWord(word)
			return nil
		}
	}
	if err != nil {
		return err
	}
	fields.Set(all.Field(0))
	l.Name, l.From, l.Frozen = all.Field(1).String(), all.Field(2).Interface().([]string), !all.Field(3).Bool()
	return nil
}
