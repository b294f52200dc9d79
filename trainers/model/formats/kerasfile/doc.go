// Package kerasfile reads and writes the files in which Keras keeps a whole model: the .keras archive and, reading only,
// the older .h5, whole or weights alone.
//
// Its one idea: the definition is package kerasjson's, the bytes are package hdf5's, and what lies between is where
// Keras puts the tensors of a layer. Since Keras 2.12 that is a path of counted class names (layers/dense_1/vars/0),
// before it a list of names in attributes (layer_names, weight_names); both are resolved from the model's JSON.
//
// Nothing in a file is executed: a layer or option that this program does not have is refused by name. Files with
// weights in NumPy's format, which can hold pickles, are refused.
package kerasfile
