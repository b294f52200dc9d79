package optim

import (
	"fmt"
	"math"
	"strings"
)

// Error reports a name or a field that an optimizer cannot take.
type Error struct {
	Message string
	Hint    string
}

func (e *Error) Error() string { return e.Message }

// ErrorKind makes the command line exit as for a wrong job file.
func (e *Error) ErrorKind() string { return "spec" }

// ErrorHint gives the next step, or the empty string.
func (e *Error) ErrorHint() string { return e.Hint }

// A range check on one field. NaN is in no range.
type bound struct {
	field    string
	value    float64
	ok       bool
	expected string
}

func positive(field string, v float64) bound {
	return bound{field, v, v >= 0x1p-126 && v <= math.MaxFloat32, "a number above 0 that float32 can hold"}
}

func atLeastZero(field string, v float64) bound {
	return bound{field, v, v >= 0 && !math.IsInf(v, 1), "a number of at least 0"}
}

// share is a decay or momentum factor: 0 remembers nothing, 1 would never forget.
func share(field string, v float64) bound {
	return bound{field, v, v >= 0 && v < 1, "at least 0 and below 1"}
}

// checkBounds reports the first value that is out of range.
func checkBounds(bounds ...bound) error {
	for _, b := range bounds {
		if !b.ok {
			return &Error{Message: fmt.Sprintf("%s is %g, must be %s", b.field, b.value, b.expected)}
		}
	}
	return nil
}

// Nearest gives the candidate with the fewest edits to name, or "" when none is near.
func Nearest(name string, candidates []string) string {
	best, bestDist := "", 3
	for _, c := range candidates {
		if d := edits(strings.ToLower(name), c); d < bestDist && d < len(c) {
			best, bestDist = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
