// Package graph turns a model into a static list of kernel calls.
//
// Its one idea: gorgonia holds the expression graph, checks types and differentiates it symbolically; our own
// operations do the work, and our own executor (Plan) runs them in a fixed order over buffers that were allocated
// once. gorgonia's machines, dual values, solvers and initialisers are never used: they allocate megabytes a step and
// hand over between threads, which halves the speed of two workers on two cores.
//
// Every value is a row-major float32 matrix of Rows × width (images are rows of height·width·channels), so flattening
// costs nothing. A Plan is compiled for a largest number of rows and runs with any smaller number on the same
// buffers, because each operation takes the number of rows at run time. Operations are pure: an operation writes its
// own output only, and its gradient is one more operation for each input, so a value may have any number of readers.
//
// A Builder and the Plan that it makes belong to one goroutine. Two of them share nothing but the kernel set.
package graph
