package trainers_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/trainertest"
)

// meeting is a feed whose shards open only when so many of them are wanted at the same time.
type meeting struct {
	pipeline.Feed
	missing atomic.Int32
	met     chan struct{}
}

func (m *meeting) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	if m.missing.Add(-1) == 0 {
		close(m.met)
	}
	select {
	case <-m.met:
		return m.Feed.Open(ctx, s, from)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Minute):
		return nil, errors.New("nobody else came")
	}
}

// Evaluate works on as many shards at a time as it has replicas.
func TestEvaluateWorksOnSeveralShardsAtOnce(t *testing.T) {
	feed, best := trainertest.Linear(500, 5, 3, 11)
	feed.NumShards, feed.BatchSize = 6, 16
	for n := 1; n <= 3; n++ {
		m := &meeting{Feed: feed, met: make(chan struct{})}
		m.missing.Store(int32(n))
		var replicas []model.Replica
		for i := range n {
			replicas = append(replicas, trainertest.NewLinear(5, 3, uint64(i)))
		}
		got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: m, Replicas: replicas, Params: best, Loss: "mse"})
		if err != nil || got.Rows != 500 {
			t.Errorf("%d replicas: %d rows, %v", n, got.Rows, err)
		}
	}
}
