package trainers_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
)

// TestAPausedWorkerIsGivenUpAndComesBack: worker 1 stands still in the middle of a window, its lease runs out, others take its
// data; then it goes on, is fenced off, and joins again. Every sample counts once, and the run can be replayed.
func TestAPausedWorkerIsGivenUpAndComesBack(t *testing.T) {
	for _, c := range []struct{ name, fields string }{{"agn", "window: 3"}, {"agn", "{window: 3, overlap: true}"}, {"local_sgd", "window: 3"}, {"aeasgd", "window: 3"}} {
		cfg, feed := runConfig(algorithm(t, c.name, c.fields), 3)
		cfg.Epochs = 8
		var once sync.Once
		paused, on := make(chan struct{}), make(chan struct{})
		feed.Fault = func(_ context.Context, shard int, at pipeline.Cursor) error {
			if shard == 1 && at.Epoch == 2 && at.Row == 6 {
				once.Do(func() {
					close(paused)
					<-on
				})
			}
			return nil
		}
		var log bytes.Buffer
		cfg.OrderLog = &log
		whole := cfg
		var mu sync.Mutex
		lives := map[ps.Worker]int{}
		var given []ps.Worker
		var expire sync.Once
		cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
			expire.Do(func() { // the coordinator's clock: who is paused does not renew its lease
				go func() {
					<-paused
					mu.Lock()
					given = srv.Expire(time.Now().Add(time.Hour))
					mu.Unlock()
					close(on)
				}()
			})
			_, err := trainers.Stay(ctx, func(context.Context) (trainers.WorkerConfig, error) {
				m, err := whole.Replica(w)
				if err != nil {
					return trainers.WorkerConfig{}, err
				}
				opt, err := whole.Optimizer(len(m.Params()))
				if err != nil {
					return trainers.WorkerConfig{}, err
				}
				incarnation, err := srv.Join(w)
				if err != nil {
					return trainers.WorkerConfig{}, err
				}
				mu.Lock()
				lives[w]++
				mu.Unlock()
				return trainers.WorkerConfig{Algorithm: whole.Algorithm, Server: srv, Worker: w, Incarnation: incarnation, Workers: whole.Workers,
					Feed: whole.Feed, Replica: m, Optimizer: opt}, srv.Touch(w, incarnation, time.Now().Add(time.Minute))
			})
			return err
		}
		r, err := trainers.Train(t.Context(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var samples int64
		for _, w := range r.Workers {
			samples += w.Samples
		}
		if r.Samples != 8*feed.Rows() || samples != r.Samples || r.Snapshot.Stats.Samples != r.Samples {
			t.Errorf("%s %s: %d samples, workers have %d, the server %d, want %d", c.name, c.fields, r.Samples, samples, r.Snapshot.Stats.Samples, 8*feed.Rows())
		}
		if len(given) == 0 || lives[given[0]] != 2 {
			t.Errorf("%s %s: given up %v, lives %v", c.name, c.fields, given, lives)
		}
		cfg.Launch = nil
		feed.Fault = nil
		replayed(t, cfg, r, log.Bytes())
	}
}

func TestAWorkerThatIsAlwaysFencedOffGivesUp(t *testing.T) {
	feed := problem()
	lives := 0
	_, err := trainers.Stay(t.Context(), func(context.Context) (trainers.WorkerConfig, error) {
		lives++
		srv := newScripted(trainers.AGN{}, feed)
		srv.before = func(context.Context, ps.Commit) (ps.Ack, error) {
			return ps.Ack{}, &ps.Error{Kind: "timeout", Err: ps.ErrFenced}
		}
		return worker(trainers.AGN{}, srv, feed), nil
	})
	if !errors.Is(err, ps.ErrFenced) || lives != 3 {
		t.Errorf("%d lives, %v", lives, err)
	}
}
