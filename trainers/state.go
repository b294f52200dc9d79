package trainers

import (
	"context"
	"fmt"
	"io"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// calibrationRows is how many rows at least are run to estimate a model's state, unless the split has fewer: the error
// of a mean over so many is below a hundredth of a deviation.
const calibrationRows = 20_000

// state gives the replica's state that belongs to the centre.
//
// State (moving statistics of batch normalization) is not exchanged and not averaged: what each worker has belongs to
// parameters that were never the centre, and variances about different means do not average to a variance. It is
// computed at the end instead, as the statistics of the training rows in the centre, which is the estimate that such
// layers are meant to have (Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3). The rule is the same for
// every algorithm and number of workers. A single worker in this process has walked the centre's own way; its moving
// averages are kept, as Keras keeps them, unless the centre is an earlier one, or the worker has begun in the middle: a
// checkpoint does not hold them.
func (r *run) state(ctx context.Context, centre []float32, earlier bool) ([]float32, error) {
	if len(r.first.State()) == 0 {
		return nil, nil
	}
	copy(r.first.Params(), centre)
	if !settled(r.first) && (r.cfg.Workers > 1 || r.cfg.Launch != nil || r.cfg.From != nil || earlier) {
		if ctx.Err() != nil { // a run that was interrupted still gets a model that works, within the time that it has to end
			var cancel func()
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), r.cfg.grace())
			defer cancel()
		}
		if err := calibrate(ctx, r.first, r.cfg.Feed); err != nil && ctx.Err() == nil {
			return nil, err
		}
	}
	return slices.Clone(r.first.State()), nil
}

// GatherState computes the state of a replica for the parameters that it has, from the training rows; a replica whose
// state no step changes is left alone.
func GatherState(ctx context.Context, r model.Replica, training pipeline.Feed) error {
	if len(r.State()) == 0 || settled(r) {
		return nil
	}
	return calibrate(ctx, r, training)
}

// settled tells whether no step changes a replica's state, which then is right as it is: weights of frozen layers.
func settled(r model.Replica) bool {
	s, ok := r.(interface{ Settled() bool })
	return ok && s.Settled()
}

// gatherer is a replica that can compute its state for fixed parameters. seen counts the rows before a batch.
type gatherer interface {
	Gather(b *pipeline.Batch, seen int64) error
}

// calibrate runs one pass over the data, or as much as is needed of it, through a replica, whose parameters do not
// change, and leaves the state that belongs to them. Shards hold random rows, so the first ones will do.
func calibrate(ctx context.Context, r model.Replica, feed pipeline.Feed) error {
	g, ok := r.(gatherer)
	if !ok {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("a %T has state and cannot gather it", r)}
	}
	shards, err := feed.Shards(ctx)
	if err != nil {
		return err
	}
	seen := int64(0)
	for _, s := range shards {
		if seen, err = calibrateShard(ctx, g, feed, s, seen); err != nil || seen >= calibrationRows {
			return err
		}
	}
	return nil
}

func calibrateShard(ctx context.Context, g gatherer, feed pipeline.Feed, s pipeline.Shard, seen int64) (_ int64, err error) {
	reader, err := feed.Open(ctx, s, pipeline.Cursor{})
	if err != nil {
		return seen, err
	}
	defer func() {
		if e := reader.Close(); err == nil {
			err = e
		}
	}()
	for seen < calibrationRows {
		b, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return seen, err
		}
		if err := g.Gather(b, seen); err != nil {
			return seen, err
		}
		seen += int64(b.Rows)
		if err := ctx.Err(); err != nil {
			return seen, err
		}
	}
	return seen, nil
}
