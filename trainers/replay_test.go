package trainers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
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
		{"downpour", "{window: 3, adagrad: {gamma: 0.01}}"},
		{"agn", "window: 3"},
		{"agn", "{window: 3, overlap: true}"},
		{"agn", "{window: 2, staleness_bound: 1, overlap: true}"},
		{"agn", "{window: 2, staleness_bound: 2}"},
		{"agn", "{window: {seconds: 0.00002}}"},
		{"dynsgd", "{window: 2, staleness_drop: 3}"},
		{"distance_adag", "{window: 3, warm_up: 0.1}"},
		{"aeasgd", "window: 3"},
		{"eamsgd", "{window: 3, momentum: 0.3}"},
		{"async_local", "window: 6"},
		{"local_sgd", "window: 3"},
		{"local_sgd", "{window: 3, quorum: 2}"},
		{"sync_sgd", "quorum: 2"},
	} {
		t.Run(c.name+" "+c.fields, func(t *testing.T) {
			for workers := 2; workers <= 4; workers++ {
				cfg, r, log := recorded(t, algorithm(t, c.name, c.fields), func(cfg *trainers.Config, _ *trainertest.Feed) { cfg.Workers = workers })
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

// TestWhatIsDecidedAfterTheEndIsNotInTheLog: the last epochs of a run are measured when its workers have gone.
func TestWhatIsDecidedAfterTheEndIsNotInTheLog(t *testing.T) {
	for _, v := range []*trainers.Validation{
		{EarlyStopping: &trainers.EarlyStopping{Patience: 1}},
		{Plateau: &trainers.Plateau{Factor: 0.5, Patience: 1, Initial: 1}},
	} {
		over, measured := make(chan struct{}), 0
		v.Evaluate = func(context.Context, []float32) (trainers.Metrics, error) {
			if measured++; measured > 1 { // the last epoch may begin when the first is measured
				<-over
			}
			return trainers.Metrics{{Name: "loss", Value: 1}}, nil
		}
		cfg, r, log := recorded(t, trainers.AGN{}, func(cfg *trainers.Config, _ *trainertest.Feed) {
			cfg.Optimizer = descent(optim.Constant(0.0005))
			cfg.Validation, cfg.Observer = v, &atEpoch{epoch: 3, then: sync.OnceFunc(func() { close(over) })}
		})
		replayed(t, cfg, r, log)
	}
}

// atEpoch does something when an epoch is done.
type atEpoch struct {
	epoch int
	then  func()
}

func (*atEpoch) Progress(trainers.Progress) {}
func (a *atEpoch) EpochDone(e trainers.Epoch, _ []float32) {
	if e.Epoch >= a.epoch {
		a.then()
	}
}
func (*atEpoch) WorkerLost(ps.Worker, error) {}

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

// TestARunThatIsStoppedBeforeTheFirstBatchOfAUnitIsReplayed: the worker has a window open from the unit before, and commits it
// without a step of the new one.
func TestARunThatIsStoppedBeforeTheFirstBatchOfAUnitIsReplayed(t *testing.T) {
	for _, c := range []struct{ name, fields string }{
		{"agn", "window: 3"}, {"agn", "{window: 3, overlap: true}"}, {"agn", "{window: 3, staleness_bound: 1}"}, {"aeasgd", "window: 3"}, {"local_sgd", "window: 3"},
	} {
		cut := 0
		for shard := range 6 {
			cfg, r, log := recorded(t, algorithm(t, c.name, c.fields), func(cfg *trainers.Config, feed *trainertest.Feed) {
				stop := &canceller{after: 1 << 40}
				stop.ctx, stop.cancel = context.WithCancel(t.Context())
				cfg.Observer = stop
				cfg.Workers = 2
				stir := feed.Fault
				feed.Fault = func(ctx context.Context, s int, at pipeline.Cursor) error {
					if s == shard && at.Epoch == 1 && at.Row == 0 {
						stop.cancel()
						<-ctx.Done()
						return ctx.Err()
					}
					return stir(ctx, s, at)
				}
			})
			if !r.Interrupted {
				t.Fatal("the run was not interrupted")
			}
			for _, u := range r.Snapshot.Units {
				if at, err := pipeline.ParseCursor(u.Cursor); err == nil && !u.Done && at.Row == 0 {
					cut++
				}
			}
			replayed(t, cfg, r, log)
		}
		if cut == 0 {
			t.Errorf("%s %s: no run was stopped before the first batch of a unit", c.name, c.fields)
		}
	}
}

// TestAReplayThatIsCancelledSaysSo, wherever it was, and not that it differs.
func TestAReplayThatIsCancelledSaysSo(t *testing.T) {
	cfg, _, log := recorded(t, algorithm(t, "agn", "window: 3"), nil)
	feed := cfg.Feed.(*trainertest.Feed)
	for at := int64(1); at < 140; at += 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var batches atomic.Int64
		feed.Fault = func(context.Context, int, pipeline.Cursor) error {
			if batches.Add(1) == at {
				cancel()
			}
			return nil
		}
		if _, err := trainers.Replay(ctx, cfg, bytes.NewReader(log)); !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled at batch %d: %v", at, err)
		}
		cancel()
	}
}

// TestARunWithADivergedWorkerIsReplayed: what one worker's numbers came to is part of the run.
func TestARunWithADivergedWorkerIsReplayed(t *testing.T) {
	for _, fields := range []string{"{window: 3, staleness_bound: 1}", "{window: 3, overlap: true, staleness_bound: 1}", "{window: 1, staleness_bound: 1}"} {
		cfg, r, log := recorded(t, algorithm(t, "agn", fields), func(cfg *trainers.Config, _ *trainertest.Feed) {
			replica := cfg.Replica
			cfg.Replica = func(w ps.Worker) (model.Replica, error) {
				m, err := replica(w)
				if err == nil && w == 2 {
					m = &sick{m.(*trainertest.Model), 4}
				}
				return m, err
			}
			cfg.Launch = together(*cfg)
		})
		if len(r.Lost) != 1 {
			t.Fatalf("lost %v", r.Lost)
		}
		cfg.Launch = nil
		replayed(t, cfg, r, log)
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

// TestTheOrderLogOfALargeModelIsNothing: a network of 545,810 parameters, windows of 10, real arithmetic.
func TestTheOrderLogOfALargeModelIsNothing(t *testing.T) {
	feed := &trainertest.Feed{Inputs: 784, Outputs: 10, NumShards: 4, BatchSize: 16, Seed: 1, X: make([]float32, 784*960), Y: make([]float32, 10*960)}
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range feed.X {
		feed.X[i] = rnd.Float32()
	}
	for i := range 960 {
		feed.Y[10*i+rnd.IntN(10)] = 1
	}
	var log bytes.Buffer
	cfg := trainers.Config{Algorithm: trainers.AGN{}, Workers: 2, Window: 10, Epochs: 2, Feed: feed, Optimizer: adam, OrderLog: &log,
		Replica: func(w ps.Worker) (model.Replica, error) { return deep(t, 784, []int{500, 300}, 16, uint64(w)), nil }}
	r := train(t, cfg)
	var exchanged int64
	for _, w := range r.Workers {
		exchanged += w.Commits * 2 * 4 * int64(len(r.Params))
	}
	t.Logf("%d parameters, %d bytes of log for %d bytes exchanged", len(r.Params), log.Len(), exchanged)
	if len(r.Params) != 545810 || int64(log.Len())*1000 > exchanged {
		t.Errorf("%d parameters, %d bytes of log for %d bytes exchanged", len(r.Params), log.Len(), exchanged)
	}
	cfg.OrderLog = nil
	replayed(t, cfg, r, log.Bytes())
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
