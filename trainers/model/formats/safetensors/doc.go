// Package safetensors writes and reads named float32 tensors in the safetensors format: eight bytes of header length,
// a JSON header, raw little-endian data without gaps.
//
// Its one idea: a file is written front to back to any io.Writer and read at any offset from an io.ReaderAt, so
// weights go to HDFS and come back in pieces without a copy of the file in memory. Nothing in a file is trusted:
// every length is bounded, and overlaps, gaps and names used twice are refused, as the format's description asks.
package safetensors
