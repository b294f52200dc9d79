package publish

import (
	"context"
	"errors"
	"io/fs"

	"dkpipe/hdfsio"
)

// Leave writes down what is to be done in this holder's place if it dies, for whoever holds the lock after it; empty: there
// is nothing to do any more. What it replaces must be done, or be part of the new note.
func (l *Lock) Leave(ctx context.Context, note []byte) error {
	name := l.path(leftName)
	if len(note) > 0 {
		return l.put(ctx, "note", name, note)
	}
	if err := l.Check(ctx); err != nil {
		return err
	}
	return l.step("note removed", func() error { return l.fs.Remove(ctx, name) })
}

// Left gives what a holder that died has left to do; empty: nothing.
func (l *Lock) Left(ctx context.Context) ([]byte, error) {
	note, err := hdfsio.ReadFile(ctx, l.fs, l.path(leftName), maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return note, err
}
