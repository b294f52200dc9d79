package ps

import (
	"errors"
	"fmt"
)

// Causes that callers look for with errors.Is.
var (
	// ErrFenced: this life of the worker is over, because it left, its lease ran out, or a newer incarnation joined.
	// The worker may join again; what it had not got acknowledged has gone back to the queue.
	ErrFenced = errors.New("incarnation is over")
	// ErrLength: a vector has not the number of elements that the server has parameters.
	ErrLength = errors.New("wrong length")
	// ErrProtocol: a call that a correct worker does not make: a gap in the sequence, a position in a unit it does
	// not hold.
	ErrProtocol = errors.New("protocol violated")
	// ErrSuperseded: the same worker repeated the call while this one was waiting; the newer call gets the answer.
	ErrSuperseded = errors.New("superseded by a repeated call")
	// ErrSuspended: a data server was lost and another one is to take its place (Server.Guard). The call may be repeated when
	// the run goes on, which is when Server.Suspended says.
	ErrSuspended = errors.New("a data server is being replaced")
)

// Error is an error with a kind (see the command line's exit codes) and the next step.
type Error struct {
	Kind    string
	Message string
	Hint    string
	Err     error // the cause, or nil
}

// Error gives the message and, when there is one, its cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorKind gives the kind as text.
func (e *Error) ErrorKind() string { return e.Kind }

// ErrorHint gives the next step, or the empty string.
func (e *Error) ErrorHint() string { return e.Hint }

func fenced(w Worker, incarnation uint64, why string) error {
	return &Error{
		Kind:    "timeout",
		Message: fmt.Sprintf("worker %d, incarnation %d (%s)", w, incarnation, why),
		Hint:    "join again",
		Err:     ErrFenced,
	}
}

func protocol(w Worker, format string, args ...any) error {
	return &Error{
		Kind:    "internal",
		Message: fmt.Sprintf("worker %d: ", w) + fmt.Sprintf(format, args...),
		Err:     ErrProtocol,
	}
}

// wrongLength names the worker, or nobody when w is negative.
func wrongLength(w Worker, what string, got, want int) error {
	who := "parameter server"
	if w >= 0 {
		who = fmt.Sprintf("worker %d", w)
	}
	return &Error{
		Kind:    "internal",
		Message: fmt.Sprintf("%s: %s has %d elements, the server has %d parameters", who, what, got, want),
		Hint:    "worker and server must be given the same model",
		Err:     ErrLength,
	}
}
