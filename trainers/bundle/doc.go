// Package bundle saves and loads everything that belongs to a trained model: definition, weights, fitted
// transformers, metrics, history and the job file, as seven files of one folder. An ensemble, several models of one definition, has a file of
// weights for each.
//
// Its one idea: bundle.json lists every other file with its size and SHA-256 and is written last, so a bundle is whole
// or it is not one, and a changed byte is found before a number is computed from it. The package knows no store: it
// writes through Store and reads through Opener, so the same bundle lies in a folder, on HDFS or in memory. Making a
// folder visible in one step is the business of who calls Save.
package bundle
