package trainers

import (
	"context"
	"io"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// calibrationSteps is how many batches are run to estimate a model's state: after them a moving average with momentum
// 0.99 has forgotten all but 1 % of where it started.
const calibrationSteps = 500

// state gives the replica's state that belongs to the centre.
//
// State (moving statistics of batch normalization) is not exchanged: what each worker has belongs to parameters that
// were never the centre, and deltas of variances do not add up. It is computed at the end instead, by running batches
// through the centre, which is the estimate that such layers are meant to have (Wu and Johnson, Rethinking "Batch" in
// BatchNorm, 2021, section 3). A single worker in this process has walked the centre's own way; its state is kept.
func (r *run) state(ctx context.Context, centre []float32) ([]float32, error) {
	if len(r.first.State()) == 0 {
		return nil, nil
	}
	copy(r.first.Params(), centre)
	if r.cfg.Workers > 1 || r.cfg.Launch != nil {
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

// calibrate runs batches through a replica, whose parameters do not change, to bring its state up to date.
func calibrate(ctx context.Context, r model.Replica, feed pipeline.Feed) error {
	shards, err := feed.Shards(ctx)
	if err != nil {
		return err
	}
	steps := 0
	for epoch, before := 0, -1; steps < calibrationSteps && steps > before; epoch++ {
		before = steps
		for _, s := range shards {
			n, err := calibrateShard(ctx, r, feed, s, epoch, calibrationSteps-steps)
			if steps += n; err != nil || steps >= calibrationSteps {
				return err
			}
		}
	}
	return nil
}

func calibrateShard(ctx context.Context, r model.Replica, feed pipeline.Feed, s pipeline.Shard, epoch, limit int) (steps int, err error) {
	reader, err := feed.Open(ctx, s, pipeline.Cursor{Epoch: epoch})
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := reader.Close(); err == nil {
			err = e
		}
	}()
	for steps < limit {
		b, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return steps, err
		}
		if _, err := r.Step(b); err != nil {
			return steps, err
		}
		steps++
	}
	return steps, nil
}
