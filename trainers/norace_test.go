//go:build !race

package trainers_test

const raceEnabled = false
