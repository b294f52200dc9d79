package optim

// Optimizer is a local update rule over flat vectors. It keeps its state between calls and belongs to one goroutine.
type Optimizer interface {
	// Apply moves params by one step down grads. Both have the length the optimizer was made for.
	Apply(params, grads []float32)
	// Slots gives the live state vectors (momenta and the like), for checkpoints; it may be empty.
	Slots() [][]float32
}
