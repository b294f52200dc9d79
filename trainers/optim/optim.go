package optim

import (
	"fmt"
	"math"
	"strings"
)

// Optimizer is a local update rule over flat vectors. It keeps its state between calls and belongs to one goroutine.
type Optimizer interface {
	// Apply moves params by one step down grads. Both have the length the optimizer was made for. It does not
	// allocate and does not change grads.
	Apply(params, grads []float32)
	// Slots gives the live state vectors (momenta, step counters and the like), for checkpoints: copying saved
	// values back into a new optimizer of the same settings continues the run. It may be empty. The order and the
	// lengths depend only on the settings and on the length of the parameter vector.
	Slots() [][]float32
}

// A maker decodes an algorithm's fields over its defaults, checks them and gives an optimizer for n parameters.
type maker struct {
	name string
	make func(decode func(any) error, n int) (Optimizer, error)
}

func makers() []maker {
	return []maker{
		{"adam", newAdam},
		{"sgd", newSGD},
	}
}

// Names lists the optimizers in alphabetical order.
func Names() []string {
	var names []string
	for _, m := range makers() {
		names = append(names, m.name)
	}
	return names
}

// New makes the named optimizer for a flat vector of n parameters. decode fills a pointer to a struct with yaml tags
// that already holds the defaults, and leaves fields alone that the user did not name; nil means all defaults.
// Errors of decode are passed on as they are; others are of type *Error.
func New(name string, decode func(any) error, n int) (Optimizer, error) {
	if decode == nil {
		decode = func(any) error { return nil }
	}
	for _, m := range makers() {
		if m.name == name {
			return m.make(decode, n)
		}
	}
	e := &Error{Message: fmt.Sprintf("there is no optimizer %q", name), Hint: "use one of " + strings.Join(Names(), ", ")}
	if near := Nearest(name, Names()); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q? The optimizers are %s", near, strings.Join(Names(), ", "))
	}
	return nil, e
}

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
	return bound{field, v, v > 0 && !math.IsInf(v, 1), "a number above 0"}
}

// share is a decay or momentum factor: 0 remembers nothing, 1 would never forget.
func share(field string, v float64) bound {
	return bound{field, v, v >= 0 && v < 1, "at least 0 and below 1"}
}

func checkBounds(optimizer string, bounds ...bound) error {
	for _, b := range bounds {
		if !b.ok {
			return &Error{Message: fmt.Sprintf("optimizer %s: %s is %g, must be %s", optimizer, b.field, b.value, b.expected)}
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
