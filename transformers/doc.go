// Package transformers turns the entries under transform in a spec into steps that an engine can fit and run.
//
// A transformer is one file and one line in the table of New. It reads its fields, says which statistics it needs,
// and gives expression trees (package expr) for its outputs; it never sees a row. What it gives is data, so a fitted
// transformer is replayed years later without this package.
package transformers
