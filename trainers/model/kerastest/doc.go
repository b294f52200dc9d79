// Package kerastest compares with the real Keras, and with ONNX Runtime and scikit-learn, in tests.
//
// Its one idea: a test binary has one Python process that answers questions, so that Keras is loaded once. A question
// is a method of Oracle; models go in and out as Keras JSON, numbers as Tensors. Keras computes in float64 for Run, so
// that a difference is ours.
//
// The Python is the one that .ci/python makes. Without it tests are skipped, unless DKPIPE_REQUIRE holds "keras".
package kerastest
