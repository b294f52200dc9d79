package main

import (
	"context"
	"errors"
	"strings"

	"dkpipe/pipeline"
)

// failure is an error as people and machines see it.
type failure struct {
	Kind    pipeline.Kind `json:"kind"`
	Message string        `json:"message"`
	Hint    string        `json:"hint"`
}

// failed reads kind and hint off an error. Packages carry them as methods, so that they need not share a type.
func failed(ctx context.Context, err error) failure {
	f := failure{Kind: pipeline.Internal, Message: err.Error()}
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		f.Kind = pipeline.Kind(k.ErrorKind())
	}
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) {
		f.Hint = h.ErrorHint()
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		f = failure{Kind: pipeline.Interrupted, Message: "interrupted", Hint: "nothing half-written is visible; run the same command again"}
	case errors.Is(err, context.DeadlineExceeded) && f.Kind == pipeline.Internal:
		f.Kind = pipeline.Timeout
	}
	switch f.Kind {
	case pipeline.Unreachable, pipeline.Denied, pipeline.Timeout, pipeline.Busy, pipeline.NoSpace, pipeline.Internal:
		f.Message = strings.ReplaceAll(f.Message, "\n", "; ") // an error, and another one while clearing up
	}
	return f
}

// exitCode is the one place where kinds become exit codes. The root command's help repeats the table.
func exitCode(k pipeline.Kind) int {
	switch k {
	case "":
		return 0
	case pipeline.Usage, pipeline.BadSpec, pipeline.Unsupported, pipeline.MissingColumn:
		return 2
	case pipeline.Data, pipeline.Corrupt, pipeline.Changed, pipeline.Expectation:
		return 3
	case pipeline.Unreachable, pipeline.Denied, pipeline.Timeout:
		return 4
	case pipeline.Busy:
		return 5
	case pipeline.Gate:
		return 6
	case pipeline.Interrupted:
		return 130
	}
	return 1 // diverged, no_space, internal
}

const exitCodesHelp = `Exit codes:
  0    done, or this slot was done before
  1    training diverged, no space left, or a defect of dkpipe
  2    the command line or the spec is wrong, or a column is missing
  3    the data is wrong: bad values, corrupt or changed files, a broken expectation
  4    a server or a store does not answer, or a right is missing
  5    another run holds the lock
  6    the model is below its gate: its version is kept, LATEST is not moved
  130  interrupted, after saving what can be saved`
