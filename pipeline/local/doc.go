// Package local is the embedded engine: it runs a pipeline.Plan inside the process, without Spark.
//
// It reads CSV, Parquet, Arrow, JSON lines and IDX files through a pipeline.Opener as a stream of column batches in
// Arrow's memory layout, evaluates the trees of pipeline/expr over whole columns, computes the statistics that steps
// need in as few passes as their dependencies allow, and hands finished rows to a pipeline.Sink. Memory does not
// grow with the source: every buffer is used again for the next batch.
//
// A text file does not tell its types: the values of its first rows suggest them, and the steps that read a column have
// the last word (suit.go), so that a bad cell is named with its line instead of making its column text.
//
// The life of a batch: a file reader fills columns (csv.go, parquet.go, ...), a Table joins the files of a source,
// a machine (machine.go) runs the fitted steps over the columns, and Fit, Write or a Replay takes what comes out.
package local
