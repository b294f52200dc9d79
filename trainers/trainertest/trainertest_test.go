package trainertest_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"go.uber.org/goleak"

	"dkpipe/pipeline"
	"dkpipe/pipeline/pipetest"
	"dkpipe/trainers/trainertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFeedIsAFeed(t *testing.T) {
	pipetest.TestFeed(t, func(*testing.T) pipetest.FeedCase {
		feed, _ := trainertest.Linear(103, 3, 2, 5)
		feed.NumShards, feed.BatchSize = 4, 7
		feed.Weight = make([]float32, 103)
		for i := range feed.Weight {
			feed.Weight[i] = float32(i)
		}
		return pipetest.FeedCase{Feed: feed, BatchSize: 7, X: []int{3}, Y: []int{2}, Weight: true, Rows: 103, Shuffled: true}
	})
}

func TestFaultsComeWhereTheyAreScripted(t *testing.T) {
	feed, _ := trainertest.Linear(10, 3, 2, 5)
	feed.BatchSize = 4
	broken := errors.New("broken")
	feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
		if at.Row == 4 {
			return broken
		}
		return nil
	}
	shards, err := feed.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := feed.Open(t.Context(), shards[0], pipeline.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Next(); err != nil || b.Rows != 4 {
		t.Fatalf("first batch: %+v, %v", b, err)
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		feed.Fault = nil // the error is sticky all the same
	}
}

// TestModelHasTheGradientOfItsLoss compares with central differences. The loss is quadratic, so they are exact but for
// rounding.
func TestModelHasTheGradientOfItsLoss(t *testing.T) {
	feed, minimum := trainertest.Linear(16, 3, 2, 5)
	b := &pipeline.Batch{Rows: 16, X: [][]float32{feed.X}, Y: [][]float32{feed.Y}}
	m := trainertest.NewLinear(3, 2, 1)
	if _, err := m.Step(b); err != nil {
		t.Fatal(err)
	}
	grads := append([]float32(nil), m.Grads()...)
	loss := func() float64 {
		l, err := m.Step(b)
		if err != nil {
			t.Fatal(err)
		}
		return float64(l)
	}
	const h = 0.125
	for i, g := range grads {
		p := m.Params()
		at := p[i]
		p[i] = at + h
		up := loss()
		p[i] = at - h
		down := loss()
		p[i] = at
		if want := (up - down) / (2 * h); math.Abs(float64(g)-want) > 1e-5 {
			t.Errorf("parameter %d: gradient %v, difference quotient %v", i, g, want)
		}
	}
	copy(m.Params(), minimum)
	if l := loss(); l > 1e-10 {
		t.Errorf("the loss at the minimum is %v", l)
	}
}
