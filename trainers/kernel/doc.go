// Package kernel holds the float32 kernels that all training time is spent in: matrix products, convolutions, poolings,
// and vector updates.
//
// Its one idea: a Set is a family of kernels that are single-threaded and agree with each other, so a program picks
// one at start and nothing above this package knows which. Parallelism comes from running several workers, never
// from threads inside a product, because two multi-threaded workers on two cores are slower than one.
//
// There are three: avx512 and avx2 are assembly for amd64, run where the processor and its operating system allow;
// gonum runs everywhere. The assembly is written by generators: gen_tiles.go makes the products, gen_vectors.go the
// rest. The two assembly sets give the same bits as each other, for every shape, so a model trained on one machine is
// the model trained on another with either of them.
//
// Every Set passes the same conformance tables (see the tests), whose references are plain loops, mostly in float64.
package kernel
