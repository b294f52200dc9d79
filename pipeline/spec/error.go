package spec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxProblems is how many problems one Error shows; the rest is counted.
const maxProblems = 10

// Pos is a place in a job file, or a flag of the command line that set a value.
type Pos struct {
	File         string // as it was given to Read; for a value that a flag set, the flag: --set train.window=3
	Line, Column int    // from 1, in characters; 0 for a flag
	Field        string // path from the root: transform[1].min_max.input
}

// String gives job.yaml:12:5: train.window, the form that editors jump to.
func (p Pos) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Field != "" {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(p.Field)
	}
	return b.String()
}

// Problem is one thing that is wrong with a job file.
type Problem struct {
	Pos  Pos
	Text string // what is wrong: unknown field; did you mean batch_size?
	Hint string // the next step, or empty
}

// String gives the place and what is wrong with it.
func (p Problem) String() string {
	if at := p.Pos.String(); at != "" {
		return at + ": " + p.Text
	}
	return p.Text
}

// Error is everything that is wrong with a job file: one problem a line, in the order of the file, problems of flags
// after those of the file. It is of kind "spec".
type Error struct {
	Problems []Problem // at least one, at most ten
	More     int       // problems left out
}

// Error gives one line a problem: job.yaml:12:5: train.batch_sise: unknown field; did you mean batch_size?
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", e.More)
	}
	return b.String()
}

// ErrorKind makes the command line exit as for a wrong job file.
func (e *Error) ErrorKind() string { return "spec" }

// ErrorHint gives the first next step, or the empty string.
func (e *Error) ErrorHint() string {
	for _, p := range e.Problems {
		if p.Hint != "" {
			return p.Hint
		}
	}
	return ""
}

// Join makes one error of several, so that a caller who decodes many Items can report all that is wrong at once.
// The problems of every *Error are merged in the order of the file. When another kind of error is among them, the
// first such error is given instead, because problems of the file may only follow from it. Nil errors do not count.
func Join(errs ...error) error {
	var all []Problem
	more := 0
	for _, err := range errs {
		if err == nil {
			continue
		}
		var e *Error
		if !errors.As(err, &e) {
			return err
		}
		all = append(all, e.Problems...)
		more += e.More
	}
	return newError(all, more)
}

// newError sorts and cuts problems; it gives nil when there are none.
func newError(problems []Problem, more int) error {
	if len(problems) == 0 {
		return nil
	}
	sorted := slices.Clone(problems)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		if flagA, flagB := a.Pos.Line == 0, b.Pos.Line == 0; flagA != flagB {
			if flagA {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	sorted = slices.CompactFunc(sorted, func(a, b Problem) bool { return a.String() == b.String() })
	if n := len(sorted); n > maxProblems {
		sorted, more = sorted[:maxProblems:maxProblems], more+n-maxProblems
	}
	return &Error{Problems: sorted, More: more}
}

// quote gives text in double quotes, cut when it is long.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return strconv.Quote(s)
}
