package model

import (
	"fmt"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// Embedding replaces every number of its input, an id from 0 to input_dim - 1, by a trained vector, as
// keras.layers.Embedding. Ids are whole numbers in a float32 column; one that is out of bounds or no whole number ends
// the run with an error that names the row.
type Embedding struct {
	InputDim              int         `yaml:"input_dim"`              // number of ids, 1 to 16,777,216: float32 tells them apart up to there
	OutputDim             int         `yaml:"output_dim"`             // width of the vectors, >= 1
	EmbeddingsInitializer Initializer `yaml:"embeddings_initializer"` // default random_uniform
	EmbeddingsRegularizer Regularizer `yaml:"embeddings_regularizer"`
}

var _ Op = (*Embedding)(nil)

// maxIDs is how many ids float32 can hold without gaps.
const maxIDs = 1 << 24

// Kind is embedding.
func (*Embedding) Kind() string { return "embedding" }

func (e *Embedding) check() error {
	if e.InputDim < 1 || e.OutputDim < 1 {
		return fmt.Errorf("input_dim is %d and output_dim %d, both must be at least 1", e.InputDim, e.OutputDim)
	}
	if e.InputDim > maxIDs {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("input_dim is %d; ids are float32, which tells whole numbers apart up to %d", e.InputDim, maxIDs),
			Hint: "hash the ids into fewer buckets (hash_bucket)"}
	}
	if size([]int{e.InputDim, e.OutputDim}) < 0 {
		return fmt.Errorf("a table of %d × %d is too large", e.InputDim, e.OutputDim)
	}
	return first(e.EmbeddingsInitializer.check(), e.EmbeddingsRegularizer.check())
}

func (e *Embedding) shape(in [][]int) ([]int, error) {
	x, err := one(in)
	if err != nil {
		return nil, err
	}
	out := append(slices.Clone(x), e.OutputDim)
	if size(out) < 0 {
		return nil, fmt.Errorf("a result of shape %v is too large", out)
	}
	return out, nil
}

func (e *Embedding) variables([][]int) []variable {
	return []variable{{name: "embeddings", shape: []int{e.InputDim, e.OutputDim}, init: e.EmbeddingsInitializer, reg: e.EmbeddingsRegularizer}}
}

func (e *Embedding) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	return l.b.Embedding(in[0], l.params[0])
}
