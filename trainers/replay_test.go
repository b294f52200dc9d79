package trainers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
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

// recorded is a run on a model of many parameters, and its order log.
func recorded(t *testing.T, a trainers.Algorithm, change func(*trainers.Config, *trainertest.Feed)) (trainers.Config, trainers.Result, []byte) {
	t.Helper()
	feed, _ := trainertest.Linear(240, 255, 8, 3) // 2048 parameters
	feed.NumShards, feed.BatchSize = 6, 5
	cfg := trainers.Config{
		Algorithm: a, Workers: 4, Epochs: 3, Feed: feed,
		Replica:   func(w ps.Worker) (model.Replica, error) { return trainertest.NewLinear(255, 8, uint64(w)), nil },
		Optimizer: func(int) (optim.Optimizer, error) { return trainertest.Descent{Rate: 0.0005}, nil },
	}
	var calls atomic.Int64
	feed.Fault = func(_ context.Context, shard int, _ pipeline.Cursor) error {
		for range calls.Add(int64(shard)) % 7 {
			runtime.Gosched()
		}
		return nil
	}
	if change != nil {
		change(&cfg, feed)
	}
	var log bytes.Buffer
	cfg.OrderLog = &log
	ctx := t.Context()
	if c, ok := cfg.Observer.(*canceller); ok {
		ctx = c.ctx
	}
	r, err := trainers.Train(ctx, cfg)
	if err != nil || r.OrderLogErr != nil {
		t.Fatal(err, r.OrderLogErr)
	}
	feed.Fault = nil
	return cfg, r, log.Bytes()
}

// canceller is an observer that stops its run after some commits.
type canceller struct {
	ctx    context.Context
	cancel context.CancelFunc
	after  int64
}

func (c *canceller) Progress(p trainers.Progress) {
	if p.Commits >= c.after {
		c.cancel()
	}
}
func (*canceller) EpochDone(trainers.Epoch, []float32) {}
func (*canceller) WorkerLost(ps.Worker, error)         {}

func TestAnyRunIsReplayedBitForBit(t *testing.T) {
	for _, c := range []struct{ name, fields string }{
		{"downpour", "window: 1"},
		{"agn", "window: 3"},
		{"agn", "{window: 3, overlap: true}"},
		{"agn", "{window: 2, staleness_bound: 1, overlap: true}"},
		{"agn", "{window: 2, staleness_bound: 2}"},
		{"agn", "{window: {seconds: 0.00002}}"},
		{"dynsgd", "{window: 2, staleness_drop: 3}"},
		{"distance_adag", "{window: 3, warm_up: 0.1}"},
		{"eamsgd", "{window: 3, momentum: 0.3}"},
		{"async_local", "window: 6"},
		{"local_sgd", "window: 3"},
		{"local_sgd", "{window: 3, quorum: 2}"},
		{"sync_sgd", "quorum: 2"},
	} {
		t.Run(c.name+" "+c.fields, func(t *testing.T) {
			for range 3 {
				cfg, r, log := recorded(t, algorithm(t, c.name, c.fields), nil)
				replayed(t, cfg, r, log)
			}
		})
	}
}

func replayed(t *testing.T, cfg trainers.Config, r trainers.Result, log []byte) {
	t.Helper()
	again, err := trainers.Replay(t.Context(), cfg, bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Snapshot.Centre, again.Params) || r.Snapshot.Version != again.Snapshot.Version {
		t.Errorf("the replay ends at version %d after %d samples, the run at %d after %d", again.Snapshot.Version, again.Samples, r.Snapshot.Version, r.Samples)
	}
}

func TestAnInterruptedRunIsReplayedAndSoIsWhatGoesOnFromIt(t *testing.T) {
	for _, text := range []string{"window: 3", "{window: 3, overlap: true}", "{window: 2, staleness_bound: 1}"} {
		a := algorithm(t, "agn", text)
		cfg, r, log := recorded(t, a, func(cfg *trainers.Config, _ *trainertest.Feed) {
			c := &canceller{after: 9}
			c.ctx, c.cancel = context.WithCancel(t.Context())
			cfg.Observer = c
		})
		if !r.Interrupted {
			t.Fatal("the run was not interrupted")
		}
		replayed(t, cfg, r, log)
		rest, end, log := recorded(t, a, func(cfg *trainers.Config, _ *trainertest.Feed) { cfg.From = r.Snapshot })
		again, err := trainers.Replay(t.Context(), rest, bytes.NewReader(log))
		if err != nil || !slices.Equal(end.Params, again.Params) || end.Interrupted {
			t.Errorf("%s: the rest is not replayed: %v", text, err)
		}
	}
}

// TestLostAndRestartedWorkersAreReplayed kills workers in the middle of windows; a launcher starts them again.
func TestLostAndRestartedWorkersAreReplayed(t *testing.T) {
	for _, mode := range []string{"agn", "local_sgd", "aeasgd"} {
		broken := errors.New("killed")
		var deaths atomic.Int64
		cfg, r, log := recorded(t, algorithm(t, mode, "window: 3"), func(cfg *trainers.Config, feed *trainertest.Feed) {
			stir := feed.Fault
			feed.Fault = func(ctx context.Context, shard int, at pipeline.Cursor) error {
				if at.Row == 20 && at.Epoch > 0 && shard%2 == 0 && deaths.Add(1) < 5 {
					return broken
				}
				return stir(ctx, shard, at)
			}
			whole := *cfg
			cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
				for {
					err := once(ctx, whole, srv, w)
					if !errors.Is(err, broken) || w == 3 {
						return err // worker 3 is not started again
					}
				}
			}
		})
		if deaths.Load() == 0 {
			t.Fatal("nobody died")
		}
		cfg.Launch = nil
		replayed(t, cfg, r, log)
	}
}

// once runs one life of a worker.
func once(ctx context.Context, cfg trainers.Config, srv *ps.Server, w ps.Worker) error {
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
	_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: srv, Worker: w, Incarnation: incarnation,
		Workers: cfg.Workers, Window: cfg.Window, Feed: cfg.Feed, Replica: m, Optimizer: opt})
	return err
}

func TestAnOrderLogIsAThousandthOfWhatIsExchanged(t *testing.T) {
	_, r, log := recorded(t, algorithm(t, "agn", "window: 3"), nil)
	var exchanged int64
	for _, w := range r.Workers {
		exchanged += w.Commits * 2 * 4 * int64(len(r.Params))
	}
	share := float64(len(log)) / float64(exchanged)
	t.Logf("%d bytes of log for %d bytes of parameters: %.4f %%", len(log), exchanged, 100*share)
	if share > 0.001 {
		t.Errorf("%d bytes of log for %d bytes exchanged", len(log), exchanged)
	}
}

func TestAReplayThatDiffersSaysSo(t *testing.T) {
	cfg, _, log := recorded(t, algorithm(t, "agn", "window: 3"), nil)
	for name, change := range map[string]func(*trainers.Config){
		"another rate": func(c *trainers.Config) {
			c.Optimizer = func(int) (optim.Optimizer, error) { return trainertest.Descent{Rate: 0.0001}, nil }
		},
		"another window": func(c *trainers.Config) { c.Algorithm = trainers.Downpour{} },
		"fewer epochs":   func(c *trainers.Config) { c.Epochs = 2 },
		"larger batches": func(c *trainers.Config) {
			feed := *c.Feed.(*trainertest.Feed)
			feed.BatchSize = 8
			c.Feed = &feed
		},
	} {
		other := cfg
		change(&other)
		_, err := trainers.Replay(t.Context(), other, bytes.NewReader(log))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantKind(t, err, pipeline.Changed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trainers.Replay(ctx, cfg, bytes.NewReader(log)); !errors.Is(err, context.Canceled) {
		t.Errorf("a replay that is cancelled gives %v", err)
	}
}

func TestABrokenOrderLogIsRefused(t *testing.T) {
	cfg, _, log := recorded(t, algorithm(t, "agn", "window: 3"), nil)
	for name, bytes := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "cut": log[:len(log)/2], "cut in the end": log[:len(log)-1], "longer": append(slices.Clone(log), 0),
		"worker of a stop": append([]byte("dkpipe-order/1\n"), 8*3+5),
	} {
		_, err := trainers.Replay(t.Context(), cfg, strings.NewReader(string(bytes)))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantKind(t, err, pipeline.Corrupt)
	}
}

func TestAnOrderLogThatCannotBeWrittenDoesNotStopTheRun(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.OrderLog = brokenWriter{}
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil || r.Interrupted {
		t.Fatal(err)
	}
	wantKind(t, r.OrderLogErr, pipeline.NoSpace)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func FuzzOrderLog(f *testing.F) {
	f.Add([]byte("dkpipe-order/1\n"))
	f.Add(append([]byte("dkpipe-order/1\n\x0e\x09\x0a\x03\x00\x0f\x00\x01"), make([]byte, 32)...))
	var once sync.Once
	var cfg trainers.Config
	f.Fuzz(func(t *testing.T, data []byte) {
		once.Do(func() {
			cfg, _ = runConfig(trainers.AGN{}, 2)
			cfg.Epochs = 1
		})
		if _, err := trainers.Replay(t.Context(), cfg, bytes.NewReader(data)); err == nil && len(data) < 60 {
			t.Errorf("%x is a replay", data)
		}
	})
}
