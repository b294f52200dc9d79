package ps_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerKeepsTheContract(t *testing.T) {
	pstest.TestServer(t, func(t *testing.T, srv *ps.Server) func(ps.Worker) (pstest.Conn, uint64) {
		return func(w ps.Worker) (pstest.Conn, uint64) {
			life, err := srv.Join(w)
			if err != nil {
				t.Fatal(err)
			}
			return srv, life
		}
	})
}

// recorder notes memberships and calls in the order in which it is told.
type recorder struct{ lines []string }

func (r *recorder) Committed(ps.Commit, ps.Ack)      {}
func (r *recorder) EpochDone(int, uint64, []float32) {}
func (r *recorder) Took(c ps.Call) {
	r.lines = append(r.lines, fmt.Sprint(c.Kind, c.Worker, c.Steps, c.Staleness))
}
func (r *recorder) Membership(w ps.Worker, _ uint64, joined bool, _ string) {
	r.lines = append(r.lines, fmt.Sprintf("member%d %v", w, joined))
}

func TestARecorderIsToldEveryCallOnceInOrder(t *testing.T) {
	core, err := ps.NewCore([]float32{0}, pstest.Add{}, ps.Options{Workers: 2, Shards: 1, Epochs: 1})
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	srv := ps.NewServer(core, rec)
	dst := make([]float32, 1)
	join := func(w ps.Worker) uint64 {
		life, err := srv.Join(w)
		if err != nil {
			t.Fatal(err)
		}
		return life
	}
	a, b := join(0), join(1)
	exchange := func(c ps.Commit) {
		t.Helper()
		if _, err := srv.Exchange(t.Context(), c, dst); err != nil {
			t.Fatal(err)
		}
	}
	exchange(ps.Commit{Worker: 0, Incarnation: a})
	first := ps.Commit{Worker: 0, Incarnation: a, Seq: 1, Steps: 3, Delta: []float32{1}}
	exchange(first)
	exchange(first) // a repeat
	exchange(ps.Commit{Worker: 1, Incarnation: b, Seq: 1, Steps: 2, Delta: []float32{1}})
	for range 2 { // the second is a repeat
		if _, _, err := srv.Ask(t.Context(), 0, a, 1); err != nil {
			t.Fatal(err)
		}
	}
	short, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, _, err := srv.Ask(short, 1, b, 1)
		waits <- err
	}()
	for srv.Progress().Waiting == 0 {
		runtime.Gosched()
	}
	cancel()
	<-waits
	if _, err := srv.Exchange(t.Context(), ps.Commit{Worker: 1, Incarnation: b, Seq: 7}, dst); err == nil {
		t.Fatal("a gap was taken")
	}
	srv.Stop()
	if err := srv.Leave(1, b, "done"); err != nil {
		t.Fatal(err)
	}
	srv.Expire(time.Now())
	want := []string{"member0 true", "member1 true", "1 0 0 0", "2 0 3 0", "2 1 2 1", "3 0 0 0", "3 1 0 0", "4 1 0 0", "5 -1 0 0", "member1 false"}
	if !slices.Equal(rec.lines, want) {
		t.Errorf("told\n%q, want\n%q", rec.lines, want)
	}
}

// Workers join again after a Rollback, and who does not is given up, also when the run goes back once more meanwhile. The time
// begins when the run goes on, and a worker in the same process has as much as it wants.
func TestWorkersComeBackAfterARollback(t *testing.T) {
	core, err := ps.NewCore([]float32{0}, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	srv := ps.NewServer(core, nil)
	now := time.Unix(1000, 0)
	lives := map[ps.Worker]uint64{}
	join := func(all ...ps.Worker) {
		t.Helper()
		for _, w := range all {
			life, err := srv.Join(w)
			if err == nil && w < 2 {
				err = srv.Touch(w, life, now.Add(time.Second))
			}
			if err != nil {
				t.Fatal(err)
			}
			lives[w] = life
		}
	}
	expire := func(after time.Duration, want ...ps.Worker) {
		t.Helper()
		if now = now.Add(after); !slices.Equal(srv.Expire(now), want) {
			t.Fatalf("the wrong ones expire, not %v", want)
		}
	}
	saved := srv.Snapshot()
	back := func(after time.Duration) {
		t.Helper()
		srv.Abort(errors.New("a data server is lost"))
		expire(after)
		if err := srv.Rollback(saved); err != nil {
			t.Fatal(err)
		}
	}
	join(0, 1, 2)
	back(time.Hour)
	expire(0)
	join(0, 2)
	expire(time.Second)
	back(0)
	expire(time.Second)
	expire(ps.ComeBack, 1)
	join(0, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pushed := make(chan error, 1)
	push := func(w ps.Worker) error {
		_, err := srv.Exchange(ctx, ps.Commit{Worker: w, Incarnation: lives[w], Seq: 1, Steps: 1, Delta: []float32{1}}, make([]float32, 1))
		return err
	}
	go func() { pushed <- push(0) }()
	if err := errors.Join(push(2), <-pushed); err != nil {
		t.Error(err)
	}
}
