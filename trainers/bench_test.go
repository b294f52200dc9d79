package trainers_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
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
	for _, name := range trainers.Names() {
		b.Run(name, func(b *testing.B) {
			local := algorithm(b, name, "").Local(4, trainertest.Descent{Rate: 0})
			local.Step(x, base) // makes what it keeps
			b.SetBytes(4 * n)
			b.ReportAllocs()
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
	centre, delta, reply, from := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	for _, name := range trainers.Names() {
		b.Run(name, func(b *testing.B) {
			rule, err := trainers.Rule(algorithm(b, name, ""), 4, adam)
			if err != nil {
				b.Fatal(err)
			}
			slots := make([]float32, rule.Slots()*n)
			version := uint64(0)
			b.SetBytes(4 * n)
			b.ReportAllocs()
			for b.Loop() {
				rule.Apply(centre, slots, delta, reply, ps.Commit{Base: version, Scale: 1, Peers: 4, From: from})
				version++
			}
		})
	}
}

// BenchmarkManyWorkers is the rate of exchanges of a model of a million parameters, and how evenly the workers share it
// (Jain's index), with nothing to compute: 8 workers, and 200, on one server and on four in this process. The last figure
// is the rate of 200 workers over that of 8, the median of interleaved rounds.
func BenchmarkManyWorkers(b *testing.B) {
	for _, servers := range []int{1, 4} {
		for _, workers := range []int{8, 200} {
			b.Run(fmt.Sprintf("servers=%d/workers=%d", servers, workers), func(b *testing.B) {
				rate, jain := manyWorkers(b, servers, workers, b.N)
				b.ReportMetric(rate, "exchanges/s")
				b.ReportMetric(jain, "Jain")
			})
		}
		b.Run(fmt.Sprintf("servers=%d/200-against-8", servers), func(b *testing.B) {
			var ratios, evenness []float64
			for b.Loop() {
				few, _ := manyWorkers(b, servers, 8, 2000)
				many, jain := manyWorkers(b, servers, 200, 2000)
				ratios, evenness = append(ratios, many/few), append(evenness, jain)
			}
			slices.Sort(ratios)
			slices.Sort(evenness)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(evenness[len(evenness)/2], "Jain")
		})
	}
}

// manyWorkers makes exchanges and gives their rate and Jain's index of the workers' parts.
func manyWorkers(b *testing.B, servers, workers, exchanges int) (rate, jain float64) {
	const params = 1 << 20
	rule := trainers.AGN{}.Rule(workers)
	core, err := ps.NewCore(make([]float32, params), rule, ps.Options{Workers: workers})
	if err != nil {
		b.Fatal(err)
	}
	srv := ps.NewServer(core, nil)
	var keepers []ps.Keeper
	var blocks []ps.Blocks
	for range servers {
		s, err := ps.NewStore(rule)
		if err != nil {
			b.Fatal(err)
		}
		keepers, blocks = append(keepers, s), append(blocks, s)
	}
	if _, err := srv.Spread(keepers); err != nil {
		b.Fatal(err)
	}
	table, _ := srv.Table()
	delta := make([]float32, params)
	counts := make([]int64, workers)
	var left atomic.Int64
	left.Store(int64(exchanges) + int64(workers))
	var started, done sync.WaitGroup
	start := make(chan struct{})
	started.Add(workers)
	for w := range ps.Worker(workers) {
		sharded, err := ps.NewSharded(params, table, blocks)
		if err != nil {
			b.Fatal(err)
		}
		life, err := srv.Join(w)
		if err != nil {
			b.Fatal(err)
		}
		done.Go(func() {
			conn, dst := spreadConn{sharded, srv}, make([]float32, params)
			c := ps.Commit{Worker: w, Incarnation: life, Steps: 1, Samples: 1, Delta: delta}
			for first := true; left.Add(-1) >= 0; first = false {
				c.Seq++
				a, err := conn.Exchange(context.Background(), c, dst)
				if err != nil {
					b.Error(err)
					return
				}
				c.Base = a.Version
				if first { // buffers are made
					started.Done()
					<-start
					continue
				}
				counts[w]++
			}
		})
	}
	started.Wait()
	began := time.Now()
	close(start)
	done.Wait()
	took := time.Since(began)
	var sum, squares float64
	for _, n := range counts {
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	return sum / took.Seconds(), sum * sum / (float64(workers) * squares)
}
