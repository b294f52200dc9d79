package model

import "dkpipe/pipeline"

// Replica is one worker's copy of a model: parameters, gradients and the compiled forward and backward passes.
// It belongs to one goroutine. Params, Grads and State are live views of flat vectors: pulling new parameters is one
// copy into Params.
type Replica interface {
	// Params is the flat parameter vector; Layout says which part belongs to which tensor.
	Params() []float32
	// Grads has the same layout; it holds the mean gradient of the last Step until the next one, which overwrites all of it:
	// in between a worker may keep something else there.
	Grads() []float32
	// State holds what is not trained, such as batch-norm statistics and the weights of frozen layers; it may be empty.
	// It is not exchanged between workers. A replica whose steps change any of it needs a method Gather as well, like
	// Network's, by which a run computes at its end what belongs to the parameters that came out of it; one whose steps
	// do not has a method Settled that says so.
	State() []float32
	// Step runs forward and backward over a batch of at most the compiled size and gives the mean loss.
	// It does not change Params, and does not allocate. The loss may be NaN or infinite: that is for the caller to
	// judge. A batch that does not fit the model is an error that names both widths.
	Step(b *pipeline.Batch) (loss float32, err error)
	// Predict fills out with the model's outputs in inference mode, one slice an output: Rows × width. The batch may
	// have any number of rows; targets are not looked at. Only the first call allocates.
	Predict(b *pipeline.Batch, out [][]float32) error
}

// Descender is an extra power of a Replica that can do without a vector for the gradient. A type that embeds one and has a Step of its
// own needs a Descend of its own, too.
type Descender interface {
	Replica
	// Descend is Step, except that it hands the gradient to update while it computes it: grads is the mean gradient of the
	// parameters at, at+1, …, as they come; every parameter once, at a time when nothing of the step depends on it any more,
	// so that update may change it. grads is valid during the call. With lazy, parameters whose gradient is zero may be left
	// out: a step then takes no time for the rows of an embedding that are not in the batch. Without a finite loss update is
	// not called.
	Descend(b *pipeline.Batch, lazy bool, update func(at int, grads []float32)) (loss float32, err error)
}

// ParamSpec names one tensor inside the flat vector. It is also the layout of weight files and of the wire.
type ParamSpec struct {
	Name  string // layer/variable: dense/kernel
	Shape []int
	Off   int // index of its first element in the flat vector
	Len   int
}
