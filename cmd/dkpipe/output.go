package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// output is stdout. It remembers the first write that failed, so that a result that got lost is no success.
type output struct {
	w   io.Writer
	err error
}

// Write passes on; after an error it takes everything and passes nothing on: half a line more helps nobody.
func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	o.err = err
	return n, err
}

// warnings is a log that remembers the warnings it has shown: those of the report that a person has seen already are not
// repeated at the end.
type warnings struct {
	slog.Handler
	seen *sync.Map // text of a warning -> true
}

func newWarnings(h slog.Handler) *warnings { return &warnings{Handler: h, seen: &sync.Map{}} }

// Handle logs a record.
func (w *warnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		w.seen.Store(r.Message, true)
	}
	return w.Handler.Handle(ctx, r)
}

// WithAttrs keeps the memory.
func (w *warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &warnings{Handler: w.Handler.WithAttrs(attrs), seen: w.seen}
}

// WithGroup keeps the memory.
func (w *warnings) WithGroup(name string) slog.Handler {
	return &warnings{Handler: w.Handler.WithGroup(name), seen: w.seen}
}

// has tells whether a warning was shown; never when there is no terminal.
func (w *warnings) has(text string) bool {
	if w == nil {
		return false
	}
	_, ok := w.seen.Load(text)
	return ok
}
