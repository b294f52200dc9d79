// Package pipetest holds what every implementation of pipeline's doors must pass, and fakes that pass it.
//
// TestFeed and TestEngine are conformance suites: an implementation calls them from its own tests with a function that
// makes a fresh one. MemStore is a store in memory, Recorder a Sink that keeps the rows it gets.
package pipetest
