// Package model turns a definition into a Replica: parameters and gradients as one flat vector each, and compiled
// forward and backward passes. Who takes gradients as they come (Descender) needs no vector for them.
//
// Its one idea: a Definition is plain data (from a YAML list of layers or a Keras file), a Network is that definition
// compiled for a kernel set, a batch size and a loss. Nothing of the graph library below shows in its door, so an
// optimizer, a parameter server and a checkpoint see float32 slices and a Layout.
//
// A layer is one file: its fields, its variables, its shape and how it is built. Package graph below holds the
// operations and the executor; formats holds the files that definitions and weights are read from and written to.
package model
