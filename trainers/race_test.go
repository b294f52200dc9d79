//go:build race

package trainers_test

// raceEnabled: trainings that take minutes take hours under the race detector, and say no more.
const raceEnabled = true
