//go:build !amd64

package kernel

// native is empty: there is assembly for amd64 alone.
func native() []Set { return nil }
