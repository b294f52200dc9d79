package main

import (
	"context"
	"io"
	"runtime"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
)

// isRaw tells raw rows from a prepared dataset, by the name: a file, a glob, or something that Spark reads.
func isRaw(data string) bool {
	if strings.HasPrefix(data, tablePrefix) || strings.HasPrefix(data, queryPrefix) || strings.ContainsAny(data, "*?") {
		return true
	}
	_, err := formatOf(data)
	return err == nil
}

// evaluateRaw measures a model on raw rows, which its own fitted transformers turn into inputs and targets.
func (j *job) evaluateRaw(ctx context.Context, o evaluateOptions, b *bundle.Bundle, where place, metrics []string) error {
	in, err := j.openRows(ctx, o.data, o.remote, o.types, b)
	if err != nil {
		return err
	}
	defer in.close()
	replay, err := local.NewReplay(in.table, b.Transform, pipeline.Columns{X: b.X, Y: b.Y})
	if err != nil {
		return err
	}
	var x, y []int
	for i, c := range replay.Columns() {
		if i < len(b.X) {
			x = append(x, c.Width())
		} else {
			y = append(y, c.Width())
		}
	}
	if err := b.Model.CheckWidths(x, nil); err != nil {
		return err
	}
	if err := b.Model.CheckTargets(bundleLosses(b), y); err != nil {
		return err
	}
	nets, err := networksOf(b.Model, b.Ensemble, b.Params, b.State, spec.Train{BatchSize: 256, Kernel: j.app.kernel("auto")})
	if err != nil {
		return err
	}
	r, err := together(nets, b.Ensemble, measuredBy(b.Ensemble), runtime.GOMAXPROCS(0))
	if err != nil {
		return err
	}
	bar := j.bars.start("evaluate", 0)
	feed := &rawFeed{table: in.table, replay: replay, inputs: len(b.X), progress: tableProgress(in.table, bar)}
	e, err := trainers.Evaluate(ctx, trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{r}, Shapes: outputShapes(b.Model),
		Losses: bundleLosses(b), Metrics: metrics})
	bar.done(err == nil, thousands(e.Rows)+" rows")
	if err != nil {
		return in.explain(err)
	}
	j.report.Model, j.report.Dropped = where.String(), replay.Skipped()
	j.report.Rows = map[string]int64{"raw": e.Rows}
	j.report.measured("raw", e)
	return nil
}

// rawFeed gives raw rows as one shard that is read once, as they come.
type rawFeed struct {
	table    *local.Table
	replay   *local.Replay
	inputs   int
	progress func(rows int64)
}

// Shards gives the one shard.
func (f *rawFeed) Shards(context.Context) ([]pipeline.Shard, error) {
	return []pipeline.Shard{{Path: "raw rows"}}, nil
}

// Open begins to read.
func (f *rawFeed) Open(ctx context.Context, _ pipeline.Shard, _ pipeline.Cursor) (pipeline.BatchReader, error) {
	return &rawReader{rawFeed: f, advance: func() error {
		_, err := f.table.Next(ctx)
		return err
	}}, nil
}

// rawReader reads a rawFeed.
type rawReader struct {
	*rawFeed
	advance func() error // to the table's next rows
	batch   pipeline.Batch
	row     int64
}

// Next gives the rows of the table's next batch that the transformers leave.
func (r *rawReader) Next() (*pipeline.Batch, error) {
	for {
		if err := r.advance(); err == io.EOF && r.row == 0 {
			return nil, &pipeline.Error{Kind: pipeline.Data, Message: "none of the rows is left after the model's transformers",
				Hint: "look at its filters and handle_invalid: skip with dkpipe model inspect"}
		} else if err != nil {
			return nil, err
		}
		rows, _, err := r.replay.Batch()
		if err != nil {
			return nil, err
		}
		if rows.N == 0 {
			continue
		}
		r.batch = pipeline.Batch{Rows: rows.N, X: rows.Vectors[:r.inputs], Y: rows.Vectors[r.inputs:]}
		r.row += int64(rows.N)
		r.progress(r.row)
		return &r.batch, nil
	}
}

// Cursor is the position of the next batch.
func (r *rawReader) Cursor() pipeline.Cursor { return pipeline.Cursor{Row: r.row} }

// Close does nothing: the table is closed by who opened it.
func (r *rawReader) Close() error { return nil }
