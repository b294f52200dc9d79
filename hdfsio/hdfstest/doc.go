// Package hdfstest holds what every hdfsio.FS must do, as one suite that each implementation calls, and Faults, an FS
// that goes wrong on command, for the tests of whoever stores something.
package hdfstest
