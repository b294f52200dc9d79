// Package pstest tests parameter servers: a conformance suite that a server must pass in whatever way it is reached
// (TestServer), a seeded simulator that runs a core through kills, pauses, lost, repeated and reordered messages and
// checks every promise of package ps afterwards (Simulate), and three small rules.
package pstest
