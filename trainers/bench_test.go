package trainers_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// BenchmarkEngine compares an epoch of one AGN worker against a loop that reads the same batches and calls Step and
// Apply and nothing else. It reports the ratio over interleaved rounds and the time that the engine adds to a step, with the
// start of the server and the exchanges of all windows.
func BenchmarkEngine(b *testing.B) {
	for _, units := range []int{32, 256} {
		for _, window := range []int{1, 10} {
			b.Run(fmt.Sprintf("units=%d/window=%d", units, window), func(b *testing.B) { benchmarkEngine(b, units, window) })
		}
	}
}

func benchmarkEngine(b *testing.B, units, window int) {
	feed, _ := digits(b)
	feed.NumShards = 1
	direct, engine := network(b, units, 1), network(b, units, 1)
	steps := (int(feed.Rows()) + feed.BatchSize - 1) / feed.BatchSize
	opt, err := adam(len(direct.Params()))
	if err != nil {
		b.Fatal(err)
	}
	var alone, whole time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		if err := plainEpoch(b.Context(), feed, direct, opt); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if err := engineEpoch(b.Context(), feed, engine, opt, window); err != nil {
			b.Fatal(err)
		}
		alone += middle.Sub(start)
		whole += time.Since(middle)
	}
	n := float64(b.N * steps)
	b.ReportMetric(whole.Seconds()/alone.Seconds(), "ratio")
	b.ReportMetric(float64(alone.Nanoseconds())/n, "direct-ns/step")
	b.ReportMetric(float64((whole-alone).Nanoseconds())/n, "added-ns/step")
}

// engineEpoch is one epoch of a worker with a server of its own.
func engineEpoch(ctx context.Context, feed pipeline.Feed, m model.Replica, opt optim.Optimizer, window int) error {
	core, err := ps.NewCore(m.Params(), trainers.AGN{}.Rule(1), ps.Options{Shards: 1, Epochs: 1})
	if err != nil {
		return err
	}
	srv := ps.NewServer(core, nil)
	incarnation, err := srv.Join(0)
	if err != nil {
		return err
	}
	_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: trainers.AGN{}, Server: srv, Incarnation: incarnation, Window: window,
		Feed: feed, Replica: m, Optimizer: opt})
	return err
}

func plainEpoch(ctx context.Context, feed pipeline.Feed, m model.Replica, opt optim.Optimizer) error {
	r, err := feed.Open(ctx, pipeline.Shard{ID: 0, Path: "memory/0"}, pipeline.Cursor{})
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		batch, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := m.Step(batch); err != nil {
			return err
		}
		opt.Apply(m.Params(), m.Grads())
	}
}

// BenchmarkDelta is the worker's half of an exchange, in bytes of parameters a second.
func BenchmarkDelta(b *testing.B) {
	const n = 1 << 20
	x, base, delta := make([]float32, n), make([]float32, n), make([]float32, n)
	for _, a := range []trainers.Algorithm{trainers.Single{}, trainers.Downpour{}, trainers.AGN{}} {
		b.Run(a.Name(), func(b *testing.B) {
			local := a.Local(4, nil)
			b.SetBytes(4 * n)
			for b.Loop() {
				local.Delta(delta, x, base, 10)
				local.Adopt(x, base)
			}
		})
	}
}

// BenchmarkRule is the server's half, block by block as the server calls it.
func BenchmarkRule(b *testing.B) {
	const n = ps.DefaultBlock
	centre, delta, reply := make([]float32, n), make([]float32, n), make([]float32, n)
	for _, a := range []trainers.Algorithm{trainers.Single{}, trainers.AGN{}} {
		b.Run(a.Name(), func(b *testing.B) {
			rule := a.Rule(4)
			b.SetBytes(4 * n)
			for b.Loop() {
				rule.Apply(centre, nil, delta, reply, ps.Commit{})
			}
		})
	}
}
