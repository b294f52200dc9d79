// Package pipeline is the vocabulary of the data path.
package pipeline
