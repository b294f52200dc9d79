package trainers_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

func runConfig(a trainers.Algorithm, workers int) (trainers.Config, *trainertest.Feed) {
	feed := problem()
	return trainers.Config{
		Algorithm: a, Workers: workers, Epochs: 3, Feed: feed,
		Replica: func(w ps.Worker) (model.Replica, error) {
			return trainertest.NewLinear(inputs, outputs, uint64(w)), nil
		},
		Optimizer: func(int) (optim.Optimizer, error) { return trainertest.Descent{Rate: rate}, nil },
	}, feed
}

func TestImpossibleRunsAreRefusedWithTheNextStep(t *testing.T) {
	for name, c := range map[string]struct {
		change        func(*trainers.Config)
		message, hint string
	}{
		"no trainer":          {func(c *trainers.Config) { c.Algorithm = nil }, "no trainer", "New"},
		"no workers":          {func(c *trainers.Config) { c.Workers = 0 }, "train.workers is 0", "1 or more"},
		"no epochs":           {func(c *trainers.Config) { c.Epochs = 0 }, "train.epochs is 0", "1 or more"},
		"negative window":     {func(c *trainers.Config) { c.Window = -1 }, "train.window is -1", "default of agn (10)"},
		"single with two":     {func(c *trainers.Config) { c.Algorithm = trainers.Single{} }, "one worker, not 2", "train.workers to 1"},
		"too many must stay":  {func(c *trainers.Config) { c.MinWorkers = 3 }, "3 workers are to stay of 2", "does not start"},
		"no feed":             {func(c *trainers.Config) { c.Feed = nil }, "needs a feed", ""},
		"no optimizer":        {func(c *trainers.Config) { c.Optimizer = nil }, "need an optimizer", ""},
		"negative rejections": {func(c *trainers.Config) { c.MaxRejects = -1 }, "-1 rejected", "0"},
	} {
		cfg, _ := runConfig(trainers.AGN{}, 2)
		c.change(&cfg)
		_, err := trainers.Train(t.Context(), cfg)
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != pipeline.BadSpec || !strings.Contains(e.Message, c.message) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: got %#v", name, err)
		}
	}
}

func TestASplitWithoutRowsIsAnErrorOfTheData(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Feed = &trainertest.Feed{Inputs: inputs, Outputs: outputs, NumShards: 2}
	_, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.Data)
}

func wantKind(t *testing.T, err error, kind pipeline.Kind) {
	t.Helper()
	var e interface{ ErrorKind() string }
	if !errors.As(err, &e) || e.ErrorKind() != string(kind) {
		t.Errorf("got %v, want an error of kind %s", err, kind)
	}
}

func TestAllWorkersStartFromTheSameCentre(t *testing.T) {
	cfg, feed := runConfig(trainers.Averaging{}, 4)
	cfg.Epochs = 1
	cfg.Optimizer = func(int) (optim.Optimizer, error) { return trainertest.Descent{Rate: 0}, nil }
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody moves, so the mean of four equal vectors is that vector, although the replicas were made unequal.
	if want := trainertest.NewLinear(inputs, outputs, 0).Params(); !slices.Equal(r.Params, want) {
		t.Errorf("the centre is %v, it started as %v", r.Params, want)
	}
	if r.Workers[0].Commits != 1 || r.Samples != feed.Rows() {
		t.Errorf("worker 0 made %d commits in one epoch", r.Workers[0].Commits)
	}
}

func TestAveragingCommitsOnceAnEpochWhateverTheWindow(t *testing.T) {
	cfg, _ := runConfig(trainers.Averaging{}, 2)
	cfg.Window = 1
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Workers {
		if w.Commits != int64(cfg.Epochs) {
			t.Errorf("worker %d made %d commits in %d epochs", w.ID, w.Commits, cfg.Epochs)
		}
	}
	if lint := trainers.Lint(cfg); len(lint) != 1 || !strings.Contains(lint[0], "not used") {
		t.Errorf("lint says %q", lint)
	}
}

func TestARunEndsWhenTooFewWorkersAreLeft(t *testing.T) {
	for _, c := range []struct{ workers, least, lost int }{{1, 0, 1}, {3, 0, 3}, {3, 3, 1}, {3, 2, 2}} {
		cfg, feed := runConfig(trainers.AGN{}, c.workers)
		cfg.MinWorkers, cfg.Window = c.least, 1
		broken := &pipeline.Error{Kind: pipeline.Unreachable, Message: "namenode nn1 does not answer", Hint: "start it"}
		feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
			if at.Epoch == 1 {
				return broken
			}
			return nil
		}
		r, err := trainers.Train(t.Context(), cfg)
		wantKind(t, err, pipeline.Unreachable)
		var e *pipeline.Error
		if !errors.Is(err, error(broken)) || !errors.As(err, &e) || e.Hint != "start it" {
			t.Errorf("%+v: got %v", c, err)
		}
		if len(r.Lost) != c.lost && c.workers > 1 {
			t.Errorf("%+v: lost %v", c, r.Lost)
		}
		if len(r.Params) != inputs+1 || r.Samples == 0 {
			t.Errorf("%+v: the result of %d samples does not hold what was reached", c, r.Samples)
		}
	}
}

func TestErrorsThatWouldMeetEveryWorkerEndTheRunAtOnce(t *testing.T) {
	for _, kind := range []pipeline.Kind{pipeline.BadSpec, pipeline.Changed, pipeline.Corrupt} {
		cfg, feed := runConfig(trainers.AGN{}, 3)
		cfg.Epochs = 1 << 30 // the others would go on for ever
		feed.Fault = func(_ context.Context, shard int, at pipeline.Cursor) error {
			if shard == 1 && at.Epoch == 1 {
				return &pipeline.Error{Kind: kind, Message: "memory/1"}
			}
			return nil
		}
		r, err := trainers.Train(t.Context(), cfg)
		wantKind(t, err, kind)
		if len(r.Lost) != 0 {
			t.Errorf("%s: lost %v", kind, r.Lost)
		}
	}
}

// sick is a model whose gradients are NaN from some step on, as one in broken memory.
type sick struct {
	*trainertest.Model
	well int // steps; counted down
}

func (s *sick) Step(b *pipeline.Batch) (float32, error) {
	loss, err := s.Model.Step(b)
	if s.well--; s.well < 0 {
		s.Grads()[0] = float32(math.NaN())
	}
	return loss, err
}

// together is a launcher of workers that begin when all have joined. With a bound, each then gets its part of the work.
func together(cfg trainers.Config) func(context.Context, *ps.Server, ps.Worker) error {
	var all sync.WaitGroup
	all.Add(cfg.Workers)
	return func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		incarnation, err := srv.Join(w)
		all.Done()
		if err != nil {
			return err
		}
		m, err := cfg.Replica(w)
		if err != nil {
			return err
		}
		opt, err := cfg.Optimizer(len(m.Params()))
		if err != nil {
			return err
		}
		all.Wait()
		_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: srv, Worker: w, Incarnation: incarnation,
			Workers: cfg.Workers, Window: cfg.Window, Feed: cfg.Feed, Replica: m, Optimizer: opt})
		return err
	}
}

// TestAWorkerThatSendsNaNIsGivenUp: with windows of one step the server refuses its commits, and after three in a row it is
// given up; with longer ones its own loss tells. The others do the rest, without its numbers, and every row that was not spent
// counts once. When most are sick, the run has diverged.
func TestAWorkerThatSendsNaNIsGivenUp(t *testing.T) {
	for name, fields := range map[string]string{"agn": "staleness_bound: 1", "local_sgd": "", "dynsgd": "staleness_bound: 1"} {
		for _, c := range []struct{ workers, sick, window, spent int }{{2, 1, 1, 3}, {3, 1, 1, 3}, {3, 1, 4, 0}, {3, 2, 1, 0}, {2, 2, 1, 0}} {
			cfg, feed := runConfig(algorithm(t, name, fields), c.workers)
			cfg.Epochs, cfg.Window = 40, c.window
			replica := cfg.Replica
			cfg.Replica = func(w ps.Worker) (model.Replica, error) {
				m, err := replica(w)
				if err == nil && int(w) >= c.workers-c.sick {
					m = &sick{m.(*trainertest.Model), 5}
				}
				return m, err
			}
			cfg.Launch = together(cfg)
			r, err := trainers.Train(t.Context(), cfg)
			for _, v := range r.Params {
				if v-v != 0 {
					t.Fatalf("%s %+v: the centre is %v", name, c, r.Params)
				}
			}
			if c.workers-c.sick < c.sick {
				wantKind(t, err, pipeline.Diverged)
				continue
			}
			if err != nil {
				t.Fatalf("%s %+v: %v", name, c, err)
			}
			if len(r.Lost) == 0 {
				t.Fatalf("%s %+v: nobody was given up: %+v", name, c, r.Workers)
			}
			if len(r.Lost) != c.sick || int(r.Lost[0].Worker) != c.workers-1 {
				t.Errorf("%s %+v: lost %v", name, c, r.Lost)
			}
			wantKind(t, r.Lost[0].Err, pipeline.Diverged)
			if s := r.Snapshot.Stats; s.RejectedSamples != int64(6*c.spent) || s.Samples+s.RejectedSamples != 40*feed.Rows() {
				t.Errorf("%s %+v: %+v, want %d samples", name, c, s, 40*feed.Rows())
			}
		}
	}
}

func TestALauncherHearsThatTheRunIsOver(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Launch = func(ctx context.Context, _ *ps.Server, w ps.Worker) error {
		if w == 0 {
			return &pipeline.Error{Kind: pipeline.Changed, Message: "shard 3"}
		}
		<-ctx.Done() // a process that waits for its worker
		return ctx.Err()
	}
	r, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.Changed)
	if len(r.Lost) != 0 {
		t.Errorf("lost %v", r.Lost)
	}
}

func TestAnInterruptedRunHasTheCentreSoFar(t *testing.T) {
	for _, a := range []trainers.Algorithm{trainers.AGN{}, trainers.Averaging{}} {
		cfg, feed := runConfig(a, 3)
		ctx, cancel := context.WithCancel(t.Context())
		var once sync.Once
		feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
			if at.Epoch == 1 && at.Row == 12 {
				once.Do(cancel)
			}
			return nil
		}
		r, err := trainers.Train(ctx, cfg)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		if last := r.History[len(r.History)-1]; !r.Interrupted || len(r.Lost) != 0 || !last.Partial || last.Samples == 0 {
			t.Errorf("%s: interrupted %v, lost %v, history %+v", a.Name(), r.Interrupted, r.Lost, r.History)
		}
		var samples int64
		for _, e := range r.History {
			samples += e.Samples
		}
		if samples != r.Samples {
			t.Errorf("%s: history has %d samples, the result %d", a.Name(), samples, r.Samples)
		}
	}
}

func TestARunThatIsStoppedBeforeItStartsIsInterrupted(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := trainers.Train(ctx, cfg)
	if err != nil || !r.Interrupted || r.Samples != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestALauncherThatNeverStartsItsWorkerDoesNotHoldUpTheOthers(t *testing.T) {
	for _, a := range []trainers.Algorithm{trainers.AGN{}, trainers.Averaging{}} {
		cfg, feed := runConfig(a, 3)
		replica, optimizer := cfg.Replica, cfg.Optimizer
		cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
			if w == 1 {
				return errors.New("no such host")
			}
			m, _ := replica(w)
			opt, _ := optimizer(len(m.Params()))
			incarnation, err := srv.Join(w)
			if err != nil {
				return err
			}
			// It does not leave: that is Train's business when a worker is gone.
			_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: a, Server: srv, Worker: w, Incarnation: incarnation,
				Workers: 3, Feed: feed, Replica: m, Optimizer: opt})
			return err
		}
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		if len(r.Lost) != 1 || r.Lost[0].Worker != 1 || r.Samples != 3*feed.Rows() || r.Workers[1].Commits != 0 {
			t.Errorf("%s: lost %v after %d samples", a.Name(), r.Lost, r.Samples)
		}
	}
}

func TestWorkersThatLeaveWithoutAnErrorBeforeTheEndAreMissed(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Launch = func(context.Context, *ps.Server, ps.Worker) error { return nil }
	_, err := trainers.Train(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "0 of 2 workers left") {
		t.Errorf("got %v", err)
	}
}

func TestAnOptimizerThatCannotBeMadeEndsTheRun(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 2)
	cfg.Optimizer = func(int) (optim.Optimizer, error) {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: `optimizer "adm" is not known`}
	}
	_, err := trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.BadSpec)
}

func TestASnapshotOfAnotherRunIsRefused(t *testing.T) {
	cfg, _ := runConfig(trainers.AGN{}, 1)
	r, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.From, cfg.Epochs = r.Snapshot, 7
	_, err = trainers.Train(t.Context(), cfg)
	wantKind(t, err, pipeline.Corrupt)
}

// deaf runs workers that do not hear when ctx is cancelled, as one on another machine: only the server reaches them.
func deaf(cfg trainers.Config) func(context.Context, *ps.Server, ps.Worker) error {
	return func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
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
		_, err = trainers.Work(context.WithoutCancel(ctx), trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: srv, Worker: w,
			Incarnation: incarnation, Workers: cfg.Workers, Window: cfg.Window, Feed: cfg.Feed, Replica: m, Optimizer: opt})
		return err
	}
}

func TestTheServerEndsWorkersThatNobodyElseReaches(t *testing.T) {
	for _, fail := range []bool{false, true} {
		cfg, feed := runConfig(trainers.AGN{}, 2)
		cfg.Epochs, cfg.Window = 1<<30, 1 // ends only when it is ended
		ctx, cancel := context.WithCancel(t.Context())
		feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
			if at.Epoch < 2 {
				return nil
			}
			if fail {
				return &pipeline.Error{Kind: pipeline.Changed, Message: "memory/1"}
			}
			cancel()
			return nil
		}
		if fail { // in one worker only
			broken := feed.Fault
			var once sync.Once
			feed.Fault = func(ctx context.Context, shard int, at pipeline.Cursor) (err error) {
				if at.Epoch >= 2 {
					once.Do(func() { err = broken(ctx, shard, at) })
				}
				return err
			}
		}
		cfg.Launch = deaf(cfg)
		r, err := trainers.Train(ctx, cfg)
		cancel()
		if fail {
			wantKind(t, err, pipeline.Changed)
		} else if err != nil || !r.Interrupted {
			t.Errorf("interrupted %v, %v", r.Interrupted, err)
		}
	}
}

// still is a model with a moving mean of its first input, as batch normalization has one, that also notes which
// parameters it saw last.
type still struct {
	*trainertest.Model
	mean []float32
}

func (s *still) State() []float32 { return s.mean }

func (s *still) Step(b *pipeline.Batch) (float32, error) {
	var sum float32
	for i := range b.Rows {
		sum += b.X[0][i*inputs]
	}
	s.mean[1] = s.Params()[0]
	s.mean[0] += 0.01 * (sum/float32(b.Rows) - s.mean[0])
	return s.Model.Step(b)
}

func (s *still) Gather(b *pipeline.Batch, seen int64) error {
	if seen == 0 {
		s.mean[0] = 0
	}
	var sum float32
	for i := range b.Rows {
		sum += b.X[0][i*inputs]
	}
	s.mean[1] = s.Params()[0]
	s.mean[0] += (sum - float32(b.Rows)*s.mean[0]) / float32(seen+int64(b.Rows))
	return nil
}

func TestTheStateBelongsToTheCentre(t *testing.T) {
	for _, workers := range []int{1, 3} {
		cfg, feed := runConfig(trainers.AGN{}, workers)
		var want float64
		for i := range int(feed.Rows()) {
			feed.X[i*inputs] += 5
			want += float64(feed.X[i*inputs])
		}
		want /= float64(feed.Rows())
		cfg.Epochs = 40 // 800 steps of one worker
		cfg.Optimizer = func(int) (optim.Optimizer, error) { return trainertest.Descent{Rate: 0.01}, nil }
		cfg.Replica = func(w ps.Worker) (model.Replica, error) {
			return &still{trainertest.NewLinear(inputs, outputs, uint64(w)), make([]float32, 2)}, nil
		}
		if workers > 1 {
			cfg.Launch = deaf(cfg) // with replicas of its own, as workers elsewhere
		}
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if workers > 1 && r.State[1] != r.Params[0] {
			t.Errorf("%d workers: the state was computed with parameter %v, the centre has %v", workers, r.State[1], r.Params[0])
		}
		if limit := map[bool]float64{false: 0.1, true: 1e-4}[workers > 1]; len(r.State) != 2 || math.Abs(float64(r.State[0])-want) > limit {
			t.Errorf("%d workers: state %v, the mean of the data is %.3f", workers, r.State, want)
		}
	}
}

func TestAnInterruptedRunHasAStateToo(t *testing.T) {
	cfg, feed := runConfig(trainers.AGN{}, 2)
	cfg.Replica = func(w ps.Worker) (model.Replica, error) {
		return &still{trainertest.NewLinear(inputs, outputs, uint64(w)), make([]float32, 2)}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	feed.Fault = func(_ context.Context, _ int, at pipeline.Cursor) error {
		if at.Epoch == 1 {
			cancel()
		}
		return nil
	}
	r, err := trainers.Train(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || len(r.State) != 2 || r.State[1] != r.Params[0] {
		t.Errorf("interrupted %v, state %v for %v", r.Interrupted, r.State, r.Params)
	}
}

func TestHistoryLinesHoldNoNumberThatJSONHasNot(t *testing.T) {
	line, err := json.Marshal(trainers.Epoch{Epoch: 1, Loss: trainers.Number(math.NaN())})
	if err != nil || string(line) != `{"epoch":1,"loss":null,"samples":0,"commits":0,"staleness_mean":0,"seconds":0}` {
		t.Errorf("%s, %v", line, err)
	}
}

func TestLintKnowsTheDelayLaw(t *testing.T) {
	for _, c := range []struct {
		a               trainers.Algorithm
		workers, window int
		says            string
	}{
		{trainers.Downpour{}, 2, 5, ""},
		{trainers.Downpour{}, 3, 5, "downpour with 3 workers"},
		{trainers.Downpour{}, 20, 1, ""},
		{trainers.Downpour{}, 8, 0, "window of 5"},
		{trainers.AGN{}, 40, 25, "likely to diverge; with a window of 25 it may; set window to 40 or more"},
		{trainers.AGN{}, 40, 26, "may ring; set window to 40 or more"},
		{trainers.AGN{}, 40, 40, ""},
		{trainers.AGN{}, 2, 1, "set window to 2 or more"},
		{trainers.AGN{}, 2, 2, ""},
		{trainers.DistanceADAG{}, 20, 13, "may ring; set window to 20 or more"},
		{trainers.AGN{}, 100, 0, ""},
		{trainers.Single{}, 1, 0, ""},
	} {
		got := strings.Join(trainers.Lint(trainers.Config{Algorithm: c.a, Workers: c.workers, Window: c.window}), "\n")
		if (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s, %d workers, window %d: %q, want %q", c.a.Name(), c.workers, c.window, got, c.says)
		}
	}
}

// TestCriticalGain simulates c[t+1] = c[t] - k c[t-(n-1)] on both sides of the limit, and checks the table of the
// delay law: 0.445, 0.209, 0.0805, 0.0398 for 4, 8, 20 and 40 workers.
func TestCriticalGain(t *testing.T) {
	for n, want := range map[int]float64{1: 2, 2: 1, 4: 0.445, 8: 0.209, 20: 0.0805, 40: 0.0398} {
		k := trainers.CriticalGain(n)
		if math.Abs(k-want) > 0.0005 {
			t.Errorf("%d workers: %.5f, want %.4f", n, k, want)
		}
		for _, side := range []float64{0.97, 1.03} {
			c := make([]float64, n) // ring of the last n values
			for i := range c {
				c[i] = 1
			}
			const steps = 100_000
			last := 0.0
			for i := range steps {
				next := c[(i+n-1)%n] - side*k*c[i%n]
				c[i%n] = next
				if i >= steps-4*n {
					last = max(last, math.Abs(next))
				}
			}
			if stable := last < 1e-3; stable != (side < 1) {
				t.Errorf("%d workers, %.2f of the limit: %g after %d commits", n, side, last, steps)
			}
		}
		if 1/float64(trainers.AGN{}.Window(n)) >= k {
			t.Errorf("%d workers: the default window of agn is not stable", n)
		}
	}
}

func TestNew(t *testing.T) {
	for name, want := range map[string]string{"agn": "agn", "adag": "agn", "single": "single", "downpour": "downpour", "averaging": "averaging"} {
		a, err := trainers.New(name, nil)
		if err != nil || a.Name() != want {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	for name, hint := range map[string]string{"downpor": `"downpour"`, "ADAG": `"adag"`, "sngle": `"single"`, "xyzzy-trainer": "known trainers: single, averaging"} {
		_, err := trainers.New(name, nil)
		wantKind(t, err, pipeline.BadSpec)
		var e *pipeline.Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint, hint) {
			t.Errorf("%s: hint of %#v does not hold %s", name, err, hint)
		}
	}
	wrong := errors.New("job.yaml:12:5: train.trainer.agn.alpha: unknown field")
	if _, err := trainers.New("agn", func(any) error { return wrong }); err != wrong {
		t.Errorf("an error of decode became %v", err)
	}
}
