package model

import (
	"fmt"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Activation applies a function: elementwise, or softmax over flat rows. In a job file it may be written as a bare
// word: {activation: relu}.
type Activation struct {
	Activation string `yaml:"activation"` // linear, relu, sigmoid, tanh, elu (alpha 1), softplus, softmax
}

var (
	_ Op     = (*Activation)(nil)
	_ worder = (*Activation)(nil)
)

// Activations lists the names of the activation functions.
func Activations() []string { return graph.Activations() }

func checkActivation(name string) error {
	if slices.Contains(graph.Activations(), name) {
		return nil
	}
	return unknown(pipeline.Unsupported, "activation", name, graph.Activations())
}

// Kind is activation.
func (*Activation) Kind() string { return "activation" }

func (a *Activation) setWord(word string) { a.Activation = word }

func (a *Activation) check() error { return checkActivation(a.Activation) }

func (a *Activation) shape(in [][]int) ([]int, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("takes one input, has %d", len(in))
	}
	if a.Activation == "softmax" && len(in[0]) != 1 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("softmax takes flat rows, gets shape %v", in[0]),
			Hint: "put a flatten layer before it"}
	}
	return in[0], nil
}

func (*Activation) variables([][]int) []variable { return nil }

func (a *Activation) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.Activation(in[0], a.Activation)
}
