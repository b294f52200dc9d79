// Package checkpoint is the state of a parameter server as bytes: ps.Snapshot written to a stream and read from one.
//
// It knows nothing about files: whoever writes one sees to it that it is whole before it counts (hdfsio/publish). Reading
// trusts nothing: every length is bounded before memory is taken for it, every section carries a checksum, and the whole
// ends with its SHA-256, so that a truncated, mixed or damaged file is an error and never other parameters.
package checkpoint
