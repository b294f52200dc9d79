package trainers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
)

// stores are data servers in this process that can be lost. They are a trainers.DataServers.
type stores struct {
	rule   ps.Rule
	broken int // so many replacements are lost at once, too
	lost   func(int, error)

	mu  sync.Mutex
	all []*mortal
	new int // replacements
}

// mortal is a ps.Store, a way to it for both sides, until it is killed.
type mortal struct {
	*ps.Store
	ctx  context.Context
	kill context.CancelFunc
}

var errDead = errors.New("the store is dead")

func (s *stores) make() *mortal {
	store, err := ps.NewStore(s.rule)
	if err != nil {
		panic(err) // of a nil rule
	}
	m := &mortal{Store: store}
	m.ctx, m.kill = context.WithCancel(context.Background())
	return m
}

func (m *mortal) Load(s ps.State) error {
	if m.ctx.Err() != nil {
		return errDead
	}
	return m.Store.Load(s)
}

func (m *mortal) Apply(epoch uint64, d ps.Decree) error {
	if m.ctx.Err() != nil {
		return errDead
	}
	return m.Store.Apply(epoch, d)
}

func (m *mortal) Save(s *ps.State) (wait func() error) {
	if m.ctx.Err() != nil {
		return func() error { return errDead }
	}
	return m.Store.Save(s)
}

func (s *stores) Open(_ context.Context, lost func(int, error)) ([]ps.Keeper, error) {
	s.lost = lost
	var keepers []ps.Keeper
	for i := range s.all {
		s.all[i] = s.make()
		keepers = append(keepers, s.all[i])
	}
	return keepers, nil
}

func (s *stores) Replace(_ context.Context, i int) (ps.Keeper, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.new++
	s.all[i] = s.make()
	if s.broken > 0 {
		s.broken--
		s.all[i].kill()
	}
	return s.all[i], nil
}

func (s *stores) at(i int) *mortal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[i]
}

// lose kills stores at once. One whose loss is silent is found out by who needs it.
func (s *stores) lose(silent bool, which ...int) {
	dead := map[int]*mortal{}
	for _, i := range which {
		dead[i] = s.at(i)
		dead[i].kill()
	}
	for i, m := range dead {
		s.mu.Lock()
		if !silent && s.all[i] == m {
			s.lost(i, errDead)
		}
		s.mu.Unlock()
	}
}

// share is a worker's way to store i, whichever it is now.
type share struct {
	s *stores
	i int
}

func (b share) Stage(ctx context.Context, t ps.Task, delta []float32) (int, error) {
	m := b.s.at(b.i)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	if _, epoch := m.Size(); epoch < t.Epoch {
		return -1, context.Canceled // it was not loaded yet
	}
	return m.Stage(ctx, t, delta)
}

func (b share) Fetch(ctx context.Context, t ps.Task, dst []float32) error {
	m := b.s.at(b.i)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	return m.Fetch(ctx, t, dst)
}

// patient is a worker's connection that waits when the run does, as one over a socket.
type patient struct {
	spreadConn
}

// settle waits for a suspended run, and gives the error of a life that is over then.
func (p patient) settle(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !errors.Is(err, ps.ErrSuspended) && !errors.Is(err, context.Canceled) {
		return err
	}
	for range 100 { // who noticed the loss first may not have told the server yet
		if resumed := p.srv.Suspended(); resumed != nil {
			<-resumed
			break
		}
		select {
		case <-p.srv.Finished():
			return err
		case <-time.After(time.Millisecond):
		}
	}
	return &ps.Error{Kind: "timeout", Message: "the life is over", Err: ps.ErrFenced}
}

func (p patient) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	ack, err := p.spreadConn.Exchange(ctx, c, dst)
	return ack, p.settle(ctx, err)
}

func (p patient) Next(ctx context.Context, w ps.Worker, life uint64) (ps.Unit, ps.Turn, error) {
	u, turn, err := p.spreadConn.Next(ctx, w, life)
	return u, turn, p.settle(ctx, err)
}

// onStores makes a run keep its parameters on n stores.
func onStores(t *testing.T, cfg *trainers.Config, n int) *stores {
	t.Helper()
	rule, err := trainers.Rule(cfg.Algorithm, cfg.Workers, cfg.Optimizer)
	if err != nil {
		t.Fatal(err)
	}
	s := &stores{rule: rule, all: make([]*mortal, n)}
	cfg.Servers = s
	whole := cfg
	cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		_, err := trainers.Stay(ctx, func(ctx context.Context) (trainers.WorkerConfig, error) {
			var none trainers.WorkerConfig
			m, err := whole.Replica(w)
			if err != nil {
				return none, err
			}
			opt, err := whole.Optimizer(len(m.Params()))
			if err != nil {
				return none, err
			}
			life, err := srv.Join(w)
			for errors.Is(err, ps.ErrSuspended) {
				if resumed := srv.Suspended(); resumed != nil {
					<-resumed
				}
				life, err = srv.Join(w)
			}
			if err != nil {
				return none, err
			}
			var blocks []ps.Blocks
			for i := range n {
				blocks = append(blocks, share{s, i})
			}
			table, _ := srv.Table()
			sharded, err := ps.NewSharded(srv.Len(), table, blocks)
			if err != nil {
				return none, err
			}
			return trainers.WorkerConfig{Algorithm: whole.Algorithm, Server: patient{spreadConn{sharded, srv}}, Worker: w, Incarnation: life, Workers: whole.Workers,
				Window: whole.Window, Feed: whole.Feed, Replica: m, Optimizer: opt}, nil
		})
		return err
	}
	return s
}

// plain is an optimizer without a state: what is done again comes out the same.
func plain(n int) (optim.Optimizer, error) {
	return optim.New("sgd", func(into any) error {
		into.(*optim.SGD).LearningRate = optim.Constant(0.01)
		return nil
	}, n)
}

// serverLosses tells a test what a run has told.
type serverLosses struct {
	mu   sync.Mutex
	lost []int
	back []trainers.Recovery
}

func (*serverLosses) Progress(trainers.Progress)          {}
func (*serverLosses) EpochDone(trainers.Epoch, []float32) {}
func (*serverLosses) WorkerLost(ps.Worker, error)         {}
func (l *serverLosses) ServerLost(server int, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, server)
}
func (l *serverLosses) WentBack(r trainers.Recovery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.back = append(l.back, r)
}

// wantBooks checks that every row counts once an epoch, in all books of a run.
func wantBooks(t *testing.T, r trainers.Result, epochs int, rows int64) {
	t.Helper()
	want := int64(epochs) * rows
	var workers, commits int64
	for _, w := range r.Workers {
		workers, commits = workers+w.Samples, commits+w.Commits
	}
	if r.Samples != want || workers != want || r.Snapshot.Stats.Samples != want {
		t.Errorf("%d samples, the workers' books have %d, the server's %d, want %d", r.Samples, workers, r.Snapshot.Stats.Samples, want)
	}
	var counted int64
	for i, e := range r.History {
		counted += e.Commits
		if e.Epoch != i+1 || e.Samples != rows || e.Partial {
			t.Errorf("line %d of the history: %+v", i+1, e)
		}
	}
	if len(r.History) != epochs || counted != commits {
		t.Errorf("%d lines of history with %d commits, want %d with %d", len(r.History), counted, epochs, commits)
	}
}

// TestALostDataServerTakesTheRunBack loses one or all data servers in the middle of a run: it goes back to the last copy of its
// state, the books too, and a run in rounds comes out as if nothing had happened.
func TestALostDataServerTakesTheRunBack(t *testing.T) {
	const epochs, rows = 6, 60
	for _, c := range []struct {
		name, fields string
		keep         bool // a checkpoint every few steps, or nothing since the beginning
		silent       bool
		which        []int
		broken       int
	}{
		{"local_sgd", "window: 2", false, false, []int{1}, 0},
		{"local_sgd", "window: 2", true, false, []int{0, 1, 2}, 0},
		{"local_sgd", "window: 2", true, false, []int{2}, 1},
		{"sync_sgd", "", true, false, []int{0}, 0},
		{"agn", "window: 2", false, true, []int{0, 2}, 0},
		{"agn", "{window: 2, overlap: true}", true, false, []int{1}, 2},
		{"aeasgd", "window: 2", true, false, []int{1}, 0},
	} {
		t.Run(fmt.Sprintf("%s %v %v %d", c.name, c.keep, c.which, c.broken), func(t *testing.T) {
			make := func() trainers.Config {
				cfg := large(algorithm(t, c.name, c.fields))
				cfg.Epochs, cfg.Optimizer, cfg.KeepEvery = epochs, plain, time.Hour
				return cfg
			}
			cfg := make()
			var want trainers.Result
			if cfg.Algorithm.Mode() == ps.Rounds {
				calm := make()
				onStores(t, &calm, 3)
				var err error
				if want, err = trainers.Train(t.Context(), calm); err != nil {
					t.Fatal(err)
				}
			}
			s := onStores(t, &cfg, 3)
			s.broken = c.broken
			var saved []*ps.Snapshot
			if c.keep {
				cfg.Checkpoint = &trainers.Checkpointing{EverySteps: 7, Save: func(_ context.Context, s *ps.Snapshot, _ *trainers.Past) { saved = append(saved, s) }}
			}
			told := &serverLosses{}
			cfg.Observer = told
			var log bytes.Buffer
			cfg.OrderLog = &log
			once := sync.OnceFunc(func() { go s.lose(c.silent, c.which...) })
			feed := cfg.Feed.(interface {
				pipeline.Feed
				Rows() int64
			})
			cfg.Feed = faulty{feed, func(at pipeline.Cursor) {
				if at.Epoch == 3 {
					once()
				}
			}}
			got, err := trainers.Train(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			wantBooks(t, got, epochs, rows)
			lost := len(c.which) + c.broken
			if len(got.Recoveries) == 0 || len(got.Recoveries) > lost || len(told.back) != len(got.Recoveries) || s.new < len(c.which) {
				t.Errorf("recoveries %+v, told %v and %+v, %d replaced", got.Recoveries, told.lost, told.back, s.new)
			}
			first := got.Recoveries[0]
			if most := int64(epochs * rows); first.Samples < 0 || first.Samples > most || !c.keep && first.Samples == 0 {
				t.Errorf("%d samples were lost", first.Samples)
			}
			if len(saved) > 0 && saved[len(saved)-1].Centre == nil {
				t.Error("a checkpoint has no parameters")
			}
			if cfg.Algorithm.Mode() == ps.Rounds && !slices.Equal(got.Params, want.Params) {
				t.Error("the run came out differently")
			}
			if got.OrderLogErr == nil || !strings.Contains(got.OrderLogErr.Error(), "went back") {
				t.Errorf("the order log: %v", got.OrderLogErr)
			}
		})
	}
}

// faulty looks at every batch that is read.
type faulty struct {
	pipeline.Feed
	look func(pipeline.Cursor)
}

func (f faulty) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	r, err := f.Feed.Open(ctx, s, from)
	f.look(from)
	return r, err
}

// TestADataServerThatKeepsDyingEndsTheRun: there is no use in trying for ever, and the error says what is wrong.
func TestADataServerThatKeepsDyingEndsTheRun(t *testing.T) {
	cfg := large(algorithm(t, "agn", "window: 2"))
	cfg.Optimizer, cfg.KeepEvery = plain, time.Hour
	s := onStores(t, &cfg, 2)
	s.broken = 1000
	once := sync.OnceFunc(func() { go s.lose(false, 1) })
	cfg.Feed = faulty{cfg.Feed, func(pipeline.Cursor) { once() }}
	_, err := trainers.Train(t.Context(), cfg)
	var k interface{ ErrorKind() string }
	if !errors.As(err, &k) || k.ErrorKind() != "unreachable" || !strings.Contains(err.Error(), "data server 1") {
		t.Errorf("%v", err)
	}
}

// TestADataServerLostAtTheEndLosesNothing: when all work is done, the coordinator has everything.
func TestADataServerLostAtTheEndLosesNothing(t *testing.T) {
	cfg := large(algorithm(t, "local_sgd", "window: 2"))
	cfg.Optimizer, cfg.KeepEvery = plain, time.Hour
	onStores(t, &cfg, 2)
	want, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := onStores(t, &cfg, 2)
	launch := cfg.Launch
	cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		err := launch(ctx, srv, w)
		s.at(0).kill()
		return err
	}
	got, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantBooks(t, got, cfg.Epochs, 60)
	if !slices.Equal(got.Params, want.Params) || len(got.Recoveries) > 0 {
		t.Errorf("the run came out differently: %+v", got.Recoveries)
	}
}
