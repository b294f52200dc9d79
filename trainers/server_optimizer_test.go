package trainers_test

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// TestTheServersOptimizerIsTheOneOfTheJob compares synchronous SGD's rule with the optimizer itself, step by step and bit by
// bit, for every optimizer there is, with the state going through slots that are cut into blocks.
func TestTheServersOptimizerIsTheOneOfTheJob(t *testing.T) {
	const n = 13
	for _, name := range optim.Names() {
		build := func(n int) (optim.Optimizer, error) { return optim.New(name, nil, n) }
		rule, err := trainers.Rule(trainers.SyncSGD{}, 3, build)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		alone, err := build(n)
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(1, 1))
		want, start := make([]float32, n), make([]float32, n)
		for i := range want {
			want[i] = float32(rnd.NormFloat64())
		}
		copy(start, want)
		core, err := ps.NewCore(start, rule, ps.Options{Mode: ps.Rounds, Block: 4})
		if err != nil {
			t.Fatal(err)
		}
		life, err := core.Join(0)
		if err != nil {
			t.Fatal(err)
		}
		got, grads := make([]float32, n), make([]float32, n)
		for step := range 20 {
			for i := range grads {
				grads[i] = float32(rnd.NormFloat64())
			}
			alone.Apply(want, grads)
			if _, _, err := core.Commit(ps.Commit{Worker: 0, Incarnation: life, Seq: uint64(step + 1), Base: core.Version(), Steps: 1, Samples: 1,
				Delta: grads}, got); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s, step %d: the server has %v, the optimizer alone %v", name, step+1, got, want)
			}
			if step == 9 { // the server's process ends; another one goes on
				snapshot := core.Snapshot()
				again, err := trainers.Rule(trainers.SyncSGD{}, 3, build)
				if err != nil {
					t.Fatal(err)
				}
				if core, err = ps.NewCore(start, again, ps.Options{Mode: ps.Rounds, Block: 4, Generation: 1}); err != nil {
					t.Fatal(err)
				}
				if err := core.Restore(snapshot); err != nil {
					t.Fatal(err)
				}
				if life, err = core.Join(0); err != nil {
					t.Fatal(err)
				}
				_, _, err = core.Commit(ps.Commit{Worker: 0, Incarnation: life, Seq: 1, Base: core.Version()}, got) // moves nothing
				if err != nil {
					t.Fatal(err)
				}
				for seq := uint64(2); seq <= 10; seq++ {
					if _, _, err := core.Commit(ps.Commit{Worker: 0, Incarnation: life, Seq: seq, Base: core.Version()}, got); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

func TestAnOptimizerThatLooksAtTheWholeVectorIsRefused(t *testing.T) {
	for _, clip := range []func(*optim.SGD){func(s *optim.SGD) { s.ClipNorm = 1 }, func(s *optim.SGD) { s.GlobalClipNorm = 1 }} {
		cfg, _ := runConfig(trainers.SyncSGD{}, 2)
		cfg.Optimizer = func(n int) (optim.Optimizer, error) {
			return optim.New("sgd", func(into any) error { clip(into.(*optim.SGD)); return nil }, n)
		}
		_, err := trainers.Train(t.Context(), cfg)
		wantKind(t, err, pipeline.BadSpec)
	}
	cfg, _ := runConfig(trainers.SyncSGD{}, 2)
	cfg.Optimizer = func(n int) (optim.Optimizer, error) {
		return optim.New("sgd", func(into any) error { into.(*optim.SGD).ClipValue = 1; return nil }, n)
	}
	if _, err := trainers.Train(t.Context(), cfg); err != nil {
		t.Errorf("clipvalue, which works element by element: %v", err)
	}
}

// stripes is a feed whose shards lie side by side: the n-th batches of all shards together are the n-th batch of the one
// shard that it has with one part.
type stripes struct {
	y            []float32 // rows × width
	width, parts int
	batch        int // rows in a batch of all parts together
}

func (f *stripes) Shards(context.Context) ([]pipeline.Shard, error) {
	shards := make([]pipeline.Shard, f.parts)
	for i := range shards {
		shards[i] = pipeline.Shard{ID: i, Rows: int64(len(f.y) / f.width / f.parts)}
	}
	return shards, nil
}

func (f *stripes) Open(_ context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	return &stripe{feed: f, part: s.ID, at: from}, nil
}

type stripe struct {
	feed *stripes
	part int
	at   pipeline.Cursor
}

func (r *stripe) Next() (*pipeline.Batch, error) {
	f := r.feed
	each := f.batch / f.parts
	first := int(r.at.Row)/each*f.batch + r.part*each
	if first >= len(f.y)/f.width {
		return nil, io.EOF
	}
	r.at.Row += int64(each)
	return &pipeline.Batch{Rows: each, X: [][]float32{make([]float32, each)}, Y: [][]float32{f.y[first*f.width : (first+each)*f.width]}}, nil
}

func (r *stripe) Cursor() pipeline.Cursor { return r.at }

func (r *stripe) Close() error { return nil }

// TestSynchronousSGDIsTheSequentialMethodWithALargerBatch: four workers with batches of 5 against one with batches of 20
// (Goyal et al. 2017, arXiv 1706.02677, section 2.1), over the same rows in the same order.
func TestSynchronousSGDIsTheSequentialMethodWithALargerBatch(t *testing.T) {
	rows, _ := trainertest.Targets(400, 8, 2, 5)
	run := func(a trainers.Algorithm, workers int) []float32 {
		r, err := trainers.Train(t.Context(), trainers.Config{Algorithm: a, Workers: workers, Epochs: 3,
			Feed:    &stripes{y: rows.Y, width: 8, parts: workers, batch: 20},
			Replica: func(ps.Worker) (model.Replica, error) { return trainertest.NewBowl(8, 10), nil }, Optimizer: adam})
		if err != nil {
			t.Fatal(err)
		}
		return r.Params
	}
	want := run(trainers.Single{}, 1)
	for _, workers := range []int{1, 2, 4, 5} {
		for i, got := range run(trainers.SyncSGD{}, workers) {
			if d := got - want[i]; d > 1e-5 || d < -1e-5 {
				t.Errorf("%d workers: parameter %d is %v, of the sequential method %v", workers, i, got, want[i])
			}
		}
	}
	if a, b := run(trainers.LocalSGD{Policy: trainers.Policy{Every: trainers.Span{Steps: 1}}}, 4), want; slices.Equal(a, b) {
		t.Error("local SGD with adam gives the same bits: the comparison shows nothing")
	}
}
