// Package sparktest is a scripted Spark Connect server on loopback, for what no real server can be made to do: cut a
// stream after some responses, forget an operation, answer for another one, refuse, hang, say goodbye.
//
// It keeps the promises of the protocol that a client relies on: responses are numbered, a stream that is attached
// again continues behind the response that the client names, and the last response says that the result is complete.
// It knows no SQL: every operation gives the batches of its script.
package sparktest
