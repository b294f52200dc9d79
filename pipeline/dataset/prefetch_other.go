//go:build !amd64

package dataset

// prefetch is a hint; where it is not given, copying is a little slower.
func prefetch(*float32, int) {}
