// Package kerasjson writes and reads model definitions as Keras does with to_json: architecture, no weights.
//
// Its one idea: read tolerantly, write narrowly. The reader takes the Sequential and functional forms of Keras 2.0 to
// 3.x; keys that it does not know pass when they are null, false or empty, and are refused by name when they are set,
// because then they mean something that would be lost. Nothing in a file is ever executed. The writer uses only what
// Keras 3.0 already knew, so every Keras 3 loads it.
//
// Keras 2 and Keras 3 mean different things by the same words in one place: hard_sigmoid. The reader tells them apart
// and keeps what the file meant.
package kerasjson
