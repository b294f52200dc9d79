package local

import (
	"context"
	"errors"
	"io"

	"dkpipe/pipeline"
)

// Engine runs plans inside the process. The zero value works once Open is set; an Engine may be used by several
// goroutines at a time.
type Engine struct {
	Open pipeline.Opener // opens the files of a source
}

var _ pipeline.Engine = Engine{}

// progressEvery is how many rows pass between two calls of Stage.Progress.
const progressEvery = 1 << 14

// each reads the source from its start and calls f with every batch.
func (e Engine) each(ctx context.Context, t *Table, f func(b *batch) error) (err error) {
	for {
		b, err := t.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(b); err != nil {
			return err
		}
	}
}

// table opens the source; the caller's error and that of closing are joined.
func (e Engine) table(ctx context.Context, p pipeline.Plan, f func(t *Table) error) error {
	t, err := OpenTable(ctx, e.Open, p.Source)
	if err != nil {
		return err
	}
	stages, trained := unfitted(p.Steps, p.Columns), false
	if len(p.Steps) == 0 && len(p.Fitted) > 0 {
		stages, trained = fittedStages(p.Fitted, p.Columns), true
	}
	if err = t.suit(stages, trained); err == nil {
		err = f(t)
	}
	if cerr := t.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	return err
}
