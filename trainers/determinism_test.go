package trainers_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// manyServers runs workers in this process against a centre that is spread over n servers.
func manyServers(t *testing.T, cfg trainers.Config, n int) func(context.Context, *ps.Server, ps.Worker) error {
	var once sync.Once
	var failed error
	var blocks []ps.Blocks
	return func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		once.Do(func() {
			var keepers []ps.Keeper
			for range n {
				s, err := ps.NewStore(srv.Rule())
				if err != nil {
					failed = err
					return
				}
				keepers, blocks = append(keepers, s), append(blocks, s)
			}
			_, failed = srv.Spread(keepers)
		})
		if failed != nil {
			return failed
		}
		table, _ := srv.Table()
		sharded, err := ps.NewSharded(srv.Len(), table, blocks)
		if err != nil {
			return err
		}
		return lifeOf(ctx, cfg, srv, spreadConn{sharded, srv}, w)
	}
}

// spreadConn is a worker's way to a centre that is spread.
type spreadConn struct {
	sharded *ps.Sharded
	srv     *ps.Server
}

func (c spreadConn) Exchange(ctx context.Context, cm ps.Commit, dst []float32) (ps.Ack, error) {
	return c.sharded.Exchange(ctx, cm, dst, c.srv.Decide)
}

func (c spreadConn) Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error) {
	return c.srv.Next(ctx, w, incarnation)
}

func lifeOf(ctx context.Context, cfg trainers.Config, srv *ps.Server, conn trainers.Server, w ps.Worker) error {
	m, err := cfg.Replica(w)
	if err != nil {
		return err
	}
	opt, err := cfg.Optimizer(len(m.Params()))
	if err != nil {
		return err
	}
	incarnation, err := srv.Join(w)
	if err != nil {
		return err
	}
	_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: conn, Worker: w, Incarnation: incarnation,
		Workers: cfg.Workers, Window: cfg.Window, Feed: cfg.Feed, Replica: m, Optimizer: opt})
	return err
}

// large is a run whose centre has two blocks of the usual size, so that more than one server has something.
func large(a trainers.Algorithm) trainers.Config {
	const inputs, outputs = 4095, 32 // 131072 parameters
	feed, _ := trainertest.Linear(60, inputs, outputs, 3)
	feed.NumShards, feed.BatchSize = 4, 3
	var calls atomic.Int64
	feed.Fault = func(context.Context, int, pipeline.Cursor) error { // stirs the order in which workers commit
		for range rand.N(8) * int(calls.Add(1)%3) {
			runtime.Gosched()
		}
		return nil
	}
	return trainers.Config{Algorithm: a, Workers: 4, Epochs: 2, Feed: feed,
		Replica: func(w ps.Worker) (model.Replica, error) {
			return trainertest.NewLinear(inputs, outputs, uint64(w)), nil
		},
		Optimizer: func(n int) (optim.Optimizer, error) {
			return optim.New("adam", func(into any) error {
				into.(*optim.Adam).LearningRate = optim.Constant(0.01)
				return nil
			}, n)
		}}
}

func TestSynchronousRunsAreBitEqualOnAnyNumberOfServers(t *testing.T) {
	for _, name := range []string{"averaging", "sync_sgd", "local_sgd", "diloco"} {
		var first []float32
		for _, servers := range []int{0, 1, 2, 5, 0} {
			cfg := large(algorithm(t, name, ""))
			cfg.Window = 0
			if servers > 0 {
				cfg.Launch = manyServers(t, cfg, servers)
			}
			r, err := trainers.Train(t.Context(), cfg)
			if err != nil {
				t.Fatalf("%s on %d servers: %v", name, servers, err)
			}
			if first == nil {
				first = r.Params
			} else if !slices.Equal(first, r.Params) {
				t.Errorf("%s on %d servers ends elsewhere", name, servers)
			}
		}
	}
}

func TestSynchronousRulesDoNotDependOnTheBlocks(t *testing.T) {
	for _, c := range []struct{ name, fields string }{{"averaging", ""}, {"sync_sgd", ""}, {"local_sgd", ""}, {"diloco", ""}, {"local_sgd", "warm_up: 0.2"}} {
		a := algorithm(t, c.name, c.fields)
		var first []float32
		for _, block := range []int{0, 1, 2, 3, 7} {
			feed, _ := trainertest.Linear(120, 4, 2, 3)
			feed.NumShards, feed.BatchSize = 6, 5
			cfg := trainers.Config{Algorithm: a, Workers: 3, Epochs: 4, Feed: feed, Replica: func(w ps.Worker) (model.Replica, error) {
				return trainertest.NewLinear(4, 2, uint64(w)), nil
			}, Optimizer: adam}
			if block > 0 { // a snapshot from before the first step says how the blocks are
				rule, err := trainers.Rule(a, 3, adam)
				if err != nil {
					t.Fatal(err)
				}
				core, err := ps.NewCore(trainertest.NewLinear(4, 2, 0).Params(), rule, ps.Options{Mode: a.Mode(), Shards: 6, Epochs: 4, Block: block})
				if err != nil {
					t.Fatal(err)
				}
				cfg.From = core.Snapshot()
			}
			r, err := trainers.Train(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = r.Params
			} else if !slices.Equal(first, r.Params) {
				t.Errorf("%s %s in blocks of %d ends at %v, not %v", c.name, c.fields, block, r.Params, first)
			}
		}
	}
}

func TestARunOnSeveralServersIsReplayedOnOne(t *testing.T) {
	for _, c := range []struct{ name, fields string }{{"agn", "window: 2"}, {"dynsgd", "{window: 2, overlap: true}"}, {"aeasgd", "window: 2"}, {"distance_adag", "window: 2"}} {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s %s %d", c.name, c.fields, servers), func(t *testing.T) {
				cfg := large(algorithm(t, c.name, c.fields))
				var log bytes.Buffer
				cfg.OrderLog = &log
				cfg.Launch = manyServers(t, cfg, servers)
				r, err := trainers.Train(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				cfg.Launch = nil
				replayed(t, cfg, r, log.Bytes())
			})
		}
	}
}
