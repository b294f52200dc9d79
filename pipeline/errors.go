package pipeline

// Kind says what sort of thing went wrong. The command line turns a kind into an exit code in one place;
// the job server and --json print it as it is.
type Kind string

// The kinds, in the order of the exit codes that they lead to.
const (
	Usage         Kind = "usage"          // a flag or an argument is wrong
	BadSpec       Kind = "spec"           // the job file is wrong
	Unsupported   Kind = "unsupported"    // right in general, but not done here
	MissingColumn Kind = "missing_column" // the source lacks a column that the spec names
	Data          Kind = "data"           // a value in the source cannot be used
	Corrupt       Kind = "corrupt"        // bytes are not what their format or hash promises
	Changed       Kind = "changed"        // a file is not the one that was listed
	Expectation   Kind = "expect"         // the spec's expectations do not hold
	Unreachable   Kind = "unreachable"    // a server does not answer
	Denied        Kind = "denied"         // a right is missing
	Timeout       Kind = "timeout"        // a deadline passed
	Busy          Kind = "busy"           // another run holds the lock
	Gate          Kind = "gate"           // the model is not good enough to publish
	Diverged      Kind = "diverged"       // training produced NaN or infinity
	NoSpace       Kind = "no_space"       // the store is full
	Internal      Kind = "internal"       // a defect of dkpipe
	Interrupted   Kind = "interrupted"    // asked to stop
)

// Error is an error with a kind, the place it happened and what to do next.
// Packages that may not import this one carry the same two methods on a type of their own;
// who looks for a kind uses errors.As with an interface of these methods.
type Error struct {
	Kind    Kind
	Message string // names the thing and the place: "digits.csv, line 12: 65 fields, header has 66"
	Hint    string // the next step, or empty
	Err     error  // the cause, or nil
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
func (e *Error) ErrorKind() string { return string(e.Kind) }

// ErrorHint gives the next step, or the empty string.
func (e *Error) ErrorHint() string { return e.Hint }
