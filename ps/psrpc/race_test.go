//go:build race

package psrpc

// raceEnabled: the race detector makes sync.Pool drop buffers, so allocation is not measured under it.
const raceEnabled = true
