// Package expr holds the typed expression tree that every fitted transformer compiles to.
//
// A tree is data: it is stored as JSON in a dataset's manifest and in a model bundle, rendered to Spark SQL by
// sparkconn, and evaluated over Arrow by pipeline/local. Both back ends give the same numbers, because this package
// defines each operator once, in the table of ops.go, and holds the examples that each back end must reproduce, in
// testdata/golden.json.
//
// A transformer is a Step (step.go): it asks for statistics and gives a Fitted, which holds trees (node.go, build.go).
// Check (check.go) types a tree over a schema; it is the gate for trees that come from files. The package imports
// nothing of dkpipe.
package expr
