//go:build !race

package psrpc

const raceEnabled = false
