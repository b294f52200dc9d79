package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Bidirectional runs two recurrent layers over the same sequence, one from its start and one from its end, and joins
// their results, as keras.layers.Bidirectional. With sequences, the results of a step are joined, whichever of the
// layers came to it first.
type Bidirectional struct {
	Layer         Direction `yaml:"layer"`
	BackwardLayer Direction `yaml:"backward_layer"` // default: as layer, the other way round
	MergeMode     string    `yaml:"merge_mode"`     // concat (the default), sum, mul or ave
}

// Direction is one of the layers of a Bidirectional, a *SimpleRNN, *LSTM or *GRU. A job file has it as it has any layer:
// {lstm: {units: 64}}.
type Direction struct {
	Op Op
}

// recurrent is what a Direction can hold.
type recurrent interface {
	Op
	common() *Recurrent
}

var (
	_ Op        = (*Bidirectional)(nil)
	_ recurrent = (*SimpleRNN)(nil)
	_ recurrent = (*LSTM)(nil)
	_ recurrent = (*GRU)(nil)
)

// recurrentKinds lists the layers that a Direction can hold.
func recurrentKinds() string {
	var names []string
	for _, op := range kinds() {
		if _, ok := op.(recurrent); ok {
			names = append(names, op.Kind())
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// UnmarshalYAML reads the kind of a layer with its fields.
func (d *Direction) UnmarshalYAML(decode func(into any) error) error {
	var named map[string]any
	if err := decode(&named); err != nil {
		return err
	}
	if len(named) != 1 {
		return fmt.Errorf("want one layer with its fields, as in {lstm: {units: 64}}; known: %s", recurrentKinds())
	}
	for kind := range named {
		op, err := NewOp(kind)
		if _, ok := op.(recurrent); err != nil || !ok {
			return fmt.Errorf("there is no recurrent layer %s; known: %s", kind, recurrentKinds())
		}
		fields := reflect.ValueOf(op).Elem()
		item := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Op", Type: fields.Type(), Tag: reflect.StructTag(fmt.Sprintf("yaml:%q", kind))}}))
		item.Elem().Field(0).Set(fields)
		if err := decode(item.Interface()); err != nil {
			return err
		}
		fields.Set(item.Elem().Field(0))
		d.Op = op
	}
	return nil
}

// Kind is bidirectional.
func (*Bidirectional) Kind() string { return "bidirectional" }

// Directions gives the two layers.
func (b *Bidirectional) Directions() (forward, backward Op) {
	layer, ok := b.Layer.Op.(recurrent)
	if !ok || b.BackwardLayer.Op != nil {
		return b.Layer.Op, b.BackwardLayer.Op
	}
	turned := reflect.New(reflect.TypeOf(layer).Elem())
	turned.Elem().Set(reflect.ValueOf(layer).Elem())
	backward = turned.Interface().(Op)
	c := backward.(recurrent).common()
	c.GoBackwards = !c.GoBackwards
	return layer, backward
}

// Merge gives the layer that joins the results; nil for a mode that there is not.
func (b *Bidirectional) Merge() Op {
	switch b.MergeMode {
	case "concat":
		return &Concatenate{Axis: -1}
	case "sum":
		return &Merge{How: "add"}
	case "mul":
		return &Merge{How: "multiply"}
	case "ave":
		return &Merge{How: "average"}
	}
	return nil
}

func (b *Bidirectional) check() error {
	f, g := b.Directions()
	for _, d := range []struct {
		field string
		op    Op
	}{{"layer", f}, {"backward_layer", g}} {
		if d.op == nil {
			return fmt.Errorf("there is no %s: write layer: {lstm: {units: 64}}, or another of %s", d.field, recurrentKinds())
		}
		if _, ok := d.op.(recurrent); !ok {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("%s is %s, which is not supported", d.field, d.op.Kind()), Hint: "supported: " + recurrentKinds()}
		}
		if err := d.op.check(); err != nil {
			return badLayer(fmt.Sprintf("%s (%s)", d.field, d.op.Kind()), err)
		}
	}
	forward, backward := f.(recurrent).common(), g.(recurrent).common()
	switch {
	case b.Merge() == nil:
		return unknown(pipeline.Unsupported, "merge_mode", b.MergeMode, []string{"concat", "sum", "mul", "ave"})
	case forward.Units != backward.Units: // Keras takes the second for as wide as the first
		return fmt.Errorf("layer has %d units and backward_layer %d: both need as many", forward.Units, backward.Units)
	case forward.ReturnSequences != backward.ReturnSequences:
		return fmt.Errorf("layer and backward_layer differ in return_sequences")
	case forward.GoBackwards == backward.GoBackwards:
		return fmt.Errorf("layer and backward_layer go the same way: backward_layer takes go_backwards: true")
	}
	return nil
}

func (b *Bidirectional) shape(in [][]int) ([]int, error) {
	side, err := b.sideShape(in)
	if err != nil {
		return nil, err
	}
	return b.Merge().shape([][]int{side, side})
}

// sideShape checks the input of both layers and gives the shape of their results, which is the same.
func (b *Bidirectional) sideShape(in [][]int) ([]int, error) {
	forward, backward := b.Directions()
	if _, err := forward.shape(in); err != nil {
		return nil, err
	}
	return backward.shape(in)
}

func (b *Bidirectional) variables(in [][]int) []variable {
	forward, backward := b.Directions()
	all := forward.variables(in)
	n := len(all)
	all = append(all, backward.variables(in)...)
	for i := range all {
		side := "forward_layer/" // as Keras calls them
		if i >= n {
			side = "backward_layer/"
		}
		all[i].name = side + all[i].name
	}
	return all
}

func (b *Bidirectional) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	forward, backward := b.Directions()
	n := len(forward.variables(l.in))
	side := *l
	side.alone, side.params = false, l.params[:n]
	f, err := forward.build(&side, in)
	if err != nil {
		return f, err
	}
	side.params = l.params[n:]
	g, err := backward.build(&side, in)
	if err == nil && backward.(recurrent).common().ReturnSequences {
		g, err = l.b.Reverse(g, l.in[0][0])
	}
	if err != nil {
		return g, err
	}
	s, err := b.sideShape(l.in)
	if err != nil {
		return g, err
	}
	side.in = [][]int{s, s}
	return b.Merge().build(&side, []graph.Node{f, g})
}
