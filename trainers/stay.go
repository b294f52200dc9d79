package trainers

import (
	"context"
	"errors"

	"dkpipe/ps"
)

// uselessLives is how many lives in a row may end without one acknowledged commit before Stay gives up.
const uselessLives = 3

// Stay is Work for a worker that may be given up while it lives: one whose process was stopped for longer than its lease, or
// whose network was away. When the server fences it off, it begins another life and goes on, until the run is over.
//
// life joins the run and gives what Work needs. Each life is to have a new replica and a new optimizer, so that Replay can
// repeat it. What the worker had not got acknowledged has gone to others, so every sample still counts once.
func Stay(ctx context.Context, life func(ctx context.Context) (WorkerConfig, error)) (WorkerStats, error) {
	var all WorkerStats
	useless := 0
	for {
		cfg, err := life(ctx)
		if err != nil {
			return all, err
		}
		s, err := Work(ctx, cfg)
		all = all.and(s)
		if s.Commits > 0 {
			useless = 0
		} else {
			useless++
		}
		if !errors.Is(err, ps.ErrFenced) || ctx.Err() != nil || useless == uselessLives {
			return all, err
		}
	}
}

// and is the statistics of two lives of a worker.
func (s WorkerStats) and(t WorkerStats) WorkerStats {
	if n := s.Commits + t.Commits; n > 0 {
		t.StalenessMean = (s.StalenessMean*float64(s.Commits) + t.StalenessMean*float64(t.Commits)) / float64(n)
	}
	t.Samples += s.Samples
	t.Steps += s.Steps
	t.Commits += s.Commits
	t.Rejected += s.Rejected
	t.Dropped += s.Dropped
	t.ComputeS += s.ComputeS
	t.WaitS += s.WaitS
	t.FeedS += s.FeedS
	t.ExchangeS += s.ExchangeS
	return t
}
