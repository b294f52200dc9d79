package model

import (
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Activation applies a function: elementwise, or softmax over the last dimension. In a job file it may be written as
// a bare word: {activation: relu}.
type Activation struct {
	Activation string `yaml:"activation"` // one of Activations, as Keras 3 defines it with its defaults
}

var (
	_ Op        = (*Activation)(nil)
	_ worder    = (*Activation)(nil)
	_ activated = (*Activation)(nil)
)

// Activations lists the names of the activation functions. gelu_tanh is Keras' gelu with approximate, and
// hard_sigmoid_keras2 the steeper one that Keras 2 called hard_sigmoid.
func Activations() []string { return graph.Activations() }

// CanonicalActivation gives the one name of an activation that has several: swish is silu.
func CanonicalActivation(name string) string { return graph.Canonical(name) }

func checkActivation(name string) error {
	if slices.Contains(graph.Activations(), graph.Canonical(name)) {
		return nil
	}
	return unknown(pipeline.Unsupported, "activation", name, graph.Activations())
}

// Kind is activation.
func (*Activation) Kind() string { return "activation" }

func (a *Activation) setWord(word string) { a.Activation = word }

func (a *Activation) check() error { return checkActivation(a.Activation) }

func (a *Activation) activation() string { return a.Activation }

func (a *Activation) shape(in [][]int) ([]int, error) { return one(in) }

func (*Activation) variables([][]int) []variable { return nil }

func (a *Activation) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.activate(in[0], a.Activation, l.in[0])
}
