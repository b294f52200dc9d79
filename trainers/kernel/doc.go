// Package kernel holds the float32 kernels that all training time is spent in: matrix products and vector updates.
//
// Its one idea: a Set is a family of kernels that are single-threaded and agree with each other, so a program picks
// one at start and nothing above this package knows which. Parallelism comes from running several workers, never
// from threads inside a product, because two multi-threaded workers on two cores are slower than one.
//
// Every Set passes the same conformance table (see the tests), whose reference is a float64 triple loop.
package kernel
