package dataset

// prefetch asks for cache lines of 64 bytes from p on. It reads nothing, so it may point behind the end of a slice.
//
//go:noescape
func prefetch(p *float32, lines int)
