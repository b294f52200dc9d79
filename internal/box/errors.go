package box

import (
	"context"
	"errors"
)

// The kinds of errors that a box gives.
const (
	kindUsage       = "usage"
	kindUnsupported = "unsupported"
	kindUnreachable = "unreachable"
	kindDenied      = "denied"
	kindTimeout     = "timeout"
	kindBusy        = "busy"
	kindInternal    = "internal"
	kindInterrupted = "interrupted"
)

// Error is what the functions of this package return: what went wrong, of what kind it is, and what to do about it.
// It travels from the supervisor to its callers as JSON.
type Error struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`        // names the thing and the place
	Hint    string `json:"hint,omitempty"` // the next step, or empty
	Err     error  `json:"-"`              // the cause, or nil
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

// portable gives err as one that can be sent to another process: the cause becomes part of the message.
func portable(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Kind: e.Kind, Message: e.Error(), Hint: e.Hint}
	}
	return &Error{Kind: kindOf(err), Message: err.Error()}
}

// kindOf finds the kind of an error that is not of this package.
func kindOf(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return kindInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return kindTimeout
	default:
		return kindInternal
	}
}
