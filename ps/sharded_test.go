package ps_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

// conn is a worker of a spread server, all in one process.
type conn struct {
	*ps.Sharded
	srv *ps.Server
}

func (c conn) Exchange(ctx context.Context, cm ps.Commit, dst []float32) (ps.Ack, error) {
	return c.Sharded.Exchange(ctx, cm, dst, c.srv.Decide)
}

func (c conn) Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error) {
	return c.srv.Next(ctx, w, incarnation)
}

// spread moves the parameters of srv to n stores.
func spread(t testing.TB, srv *ps.Server, rule ps.Rule, n int) (stores []*ps.Store, worker func() *ps.Sharded) {
	t.Helper()
	var keepers []ps.Keeper
	var blocks []ps.Blocks
	for range n {
		s, err := ps.NewStore(rule)
		if err != nil {
			t.Fatal(err)
		}
		stores, keepers, blocks = append(stores, s), append(keepers, s), append(blocks, s)
	}
	if _, err := srv.Spread(keepers); err != nil {
		t.Fatal(err)
	}
	return stores, func() *ps.Sharded {
		table, _ := srv.Table()
		s, err := ps.NewSharded(srv.Len(), table, blocks)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// One server and several keep the same contract.
func TestSpreadServerKeepsTheContract(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			pstest.TestServer(t, func(t *testing.T, srv *ps.Server) func(ps.Worker) (pstest.Conn, uint64) {
				_, worker := spread(t, srv, srv.Rule(), n)
				return func(w ps.Worker) (pstest.Conn, uint64) {
					life, err := srv.Join(w)
					if err != nil {
						t.Fatal(err)
					}
					return conn{worker(), srv}, life
				}
			})
		})
	}
}

// Every parameter is on one server, the servers' shares differ by one block at most, and one server more takes its share and
// moves nothing between the others.
func TestPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		params, block, n := rapid.IntRange(0, 5000).Draw(t, "params"), rapid.IntRange(1, 40).Draw(t, "block"), rapid.IntRange(1, 9).Draw(t, "servers")
		p, err := ps.NewPartition(params, block, n)
		if err != nil {
			t.Fatal(err)
		}
		blocks := (params + block - 1) / block
		seen := make([]int, params)
		for s := range n {
			size := 0
			for _, r := range p.Ranges(s) {
				size += r.Hi - r.Lo
				for i := r.Lo; i < r.Hi; i++ {
					seen[i]++
				}
			}
			if size != p.Size(s) || size > block*((blocks+n-1)/n) {
				t.Fatalf("server %d has %d elements, says %d, of %d blocks", s, size, p.Size(s), blocks)
			}
		}
		if slices.ContainsFunc(seen, func(n int) bool { return n != 1 }) {
			t.Fatal("a parameter is not on exactly one server")
		}
		whole := make([]float32, 2*params)
		for i := range whole {
			whole[i] = float32(i)
		}
		back := make([]float32, 2*params)
		for s := range n {
			part := make([]float32, 2*p.Size(s))
			p.Gather(s, part, whole, 2)
			p.Scatter(s, back, part, 2)
		}
		if !slices.Equal(back, whole) {
			t.Fatal("gathering and scattering changes the vector")
		}
	})
	owner := func(n int) []int {
		p, err := ps.NewPartition(1000, 1, n)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]int, 1000)
		for s := range n {
			for _, r := range p.Ranges(s) {
				for i := r.Lo; i < r.Hi; i++ {
					out[i] = s
				}
			}
		}
		return out
	}
	for n := 1; n < 20; n++ {
		before, moved := owner(n), 0
		for i, now := range owner(n + 1) {
			switch {
			case now == before[i]:
			case now == n:
				moved++
			default:
				t.Fatalf("from %d to %d servers, block %d moves from %d to %d", n, n+1, i, before[i], now)
			}
		}
		if moved != 1000/(n+1) {
			t.Errorf("from %d to %d servers %d of 1000 blocks move", n, n+1, moved)
		}
	}
	if _, err := ps.NewPartition(10, 1, 0); err == nil {
		t.Error("no server is enough")
	}
}

// rounds runs three workers over six rounds of numbers whose sums depend on every rounding, and gives the centre.
func rounds(t *testing.T, rule ps.Rule, servers int) []float32 {
	const n, workers = 101, 3
	core := newCore(t, make([]float32, n), rule, ps.Options{Mode: ps.Rounds, Workers: workers, Block: 7, Staleness: ps.Staleness{Power: 0.5}})
	srv := ps.NewServer(core, nil)
	worker := func() *ps.Sharded { return nil }
	if servers > 0 {
		_, worker = spread(t, srv, rule, servers)
	}
	lives := make([]uint64, workers)
	for w := range lives {
		var err error
		if lives[w], err = srv.Join(ps.Worker(w)); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for w, life := range lives {
		exchange := srv.Exchange
		if servers > 0 {
			exchange = conn{worker(), srv}.Exchange
		}
		all.Go(func() {
			dst, delta := make([]float32, n), make([]float32, n)
			ack, err := exchange(t.Context(), ps.Commit{Worker: ps.Worker(w), Incarnation: life}, dst)
			for seq := range uint64(6) {
				if err != nil {
					break
				}
				for i := range delta {
					delta[i] = (float32(math.Sin(float64(i*7+w*3)+float64(seq))) - dst[i]) / 3
				}
				ack, err = exchange(t.Context(), ps.Commit{Worker: ps.Worker(w), Incarnation: life, Seq: seq + 1, Base: ack.Version, Steps: 1, Delta: delta}, dst)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	centre := make([]float32, n)
	if v, err := srv.Centre(centre); err != nil || v != 6 {
		t.Fatal(v, err)
	}
	return centre
}

// Rounds on any number of servers are one server's, bit for bit.
func TestRoundsAreBitEqualOnAnyNumberOfServers(t *testing.T) {
	for _, rule := range []ps.Rule{pstest.Add{}, pstest.Elastic{Alpha: 0.3}} {
		want := rounds(t, rule, 0)
		for _, n := range []int{1, 2, 4, 7} {
			got := rounds(t, rule, n)
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%T, %d servers: element %d is %v, on one server %v", rule, n, i, got[i], want[i])
				}
			}
		}
	}
}

// A data server that lost what it had stops the run with its number; after a rollback to the checkpoint the workers join again,
// and commits that the checkpoint had not are made again and count once.
func TestLostDataServerGoesBackToTheCheckpoint(t *testing.T) {
	rule := pstest.Elastic{Alpha: 0.5}
	srv := ps.NewServer(newCore(t, []float32{0, 0, 0, 0}, rule, ps.Options{Shards: 2, Epochs: 1, Block: 1}), nil)
	stores, worker := spread(t, srv, rule, 2)
	dst := make([]float32, 4)
	life, err := srv.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	w := conn{worker(), srv}
	push := func(w conn, life, seq, base uint64, x float32) (ps.Ack, error) {
		u, turn, err := w.Next(t.Context(), 0, life)
		if err != nil || turn != ps.Work {
			t.Fatal(turn, err)
		}
		return w.Exchange(t.Context(), ps.Commit{Incarnation: life, Seq: seq, Base: base, Steps: 1, Samples: 5, Delta: []float32{x, x, x, x},
			Positions: []ps.Position{{Unit: u.ID, Done: true}}}, dst)
	}
	if _, err := push(w, life, 1, 0, 8); err != nil {
		t.Fatal(err)
	}
	saved := srv.Snapshot()
	if !slices.Equal(saved.Centre, []float32{4, 4, 4, 4}) || !slices.Equal(saved.Slots, []float32{1, 1, 1, 1}) {
		t.Fatalf("%+v", saved)
	}
	// The second commit arrives at one of the servers only: the other is gone.
	u, _, err := w.Next(t.Context(), 0, life)
	if err != nil {
		t.Fatal(err)
	}
	task := ps.Task{Incarnation: life, Seq: 2, Decree: 1, Epoch: 1}
	if _, err := stores[0].Stage(t.Context(), task, make([]float32, 2)); err != nil {
		t.Fatal(err)
	}
	if err := srv.Rollback(saved); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Exchange(t.Context(), ps.Commit{Incarnation: life, Seq: 2, Base: 1, Steps: 1, Samples: 5, Delta: make([]float32, 4),
		Positions: []ps.Position{{Unit: u.ID, Done: true}}}, dst); !errors.Is(err, ps.ErrFenced) {
		t.Fatalf("a commit after the rollback: %v", err)
	}
	if life, err = srv.Join(0); err != nil {
		t.Fatal(err)
	}
	w = conn{worker(), srv}
	ack, err := w.Exchange(t.Context(), ps.Commit{Incarnation: life}, dst)
	if err != nil || ack.Version != 1 || dst[3] != 4 {
		t.Fatalf("%+v, %v, %v", ack, dst, err)
	}
	if _, err := push(w, life, 1, 1, 0); err != nil {
		t.Fatal(err)
	}
	if p := srv.Progress(); p.Stats.Samples != 10 || p.EpochDone != 1 {
		t.Errorf("%+v", p)
	}
	if s := srv.Snapshot(); !slices.Equal(s.Centre, []float32{2, 2, 2, 2}) || !slices.Equal(s.Slots, []float32{2, 2, 2, 2}) {
		t.Errorf("%+v", s)
	}
}

// A decree that a data server cannot follow ends the run, and names the server.
func TestBrokenDataServerEndsTheRun(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{0, 0}, pstest.Add{}, ps.Options{Block: 1}), nil)
	stores, worker := spread(t, srv, pstest.Add{}, 2)
	life, err := srv.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stores[1:] { // another coordinator took it
		if err := s.Load(ps.State{Epoch: 9, Block: 1, Centre: make([]float32, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := srv.Decide(t.Context(), ps.Commit{Incarnation: life, Seq: 1, Steps: 1, Delta: []float32{}}, ""); err == nil || !strings.Contains(err.Error(), "data server 0") {
		t.Fatalf("%v", err)
	}
	_, err = conn{worker(), srv}.Exchange(t.Context(), ps.Commit{Incarnation: life}, make([]float32, 2))
	if err == nil {
		t.Fatal("the run goes on")
	}
	<-srv.Finished()
}

// A rollback that failed at one data server can be tried again, although the other took the state.
func TestFailedRollbackIsRepeated(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{1, 2}, pstest.Add{}, ps.Options{Block: 1}), nil)
	stores, worker := spread(t, srv, pstest.Add{}, 2)
	saved := srv.Snapshot()
	for _, broken := range []ps.Keeper{refusing{stores[1]}, refusing{stores[1]}} {
		if err := srv.Replace(1, broken, saved); err == nil {
			t.Fatal("a load that failed is not told")
		}
	}
	if err := srv.Replace(1, stores[1], saved); err != nil {
		t.Fatal(err)
	}
	life, err := srv.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, 2)
	if _, err := (conn{worker(), srv}).Exchange(t.Context(), ps.Commit{Incarnation: life, Seq: 1, Steps: 1, Delta: []float32{1, 1}}, dst); err != nil || dst[1] != 3 {
		t.Fatal(dst, err)
	}
}

// refusing is a data server that takes no state.
type refusing struct{ *ps.Store }

func (refusing) Load(ps.State) error { return errors.New("no memory") }

// A data server that is told what no coordinator says gives an error.
func TestStoreRefusesDecreesThatMakeNoSense(t *testing.T) {
	for _, d := range []ps.Decree{
		{Number: 1, Version: 1, Parts: []ps.Part{{Worker: 0, Incarnation: 1, Seq: 1, Scale: 1}}},
		{Number: 1, Version: 1, Mean: true, Share: 1, Parts: []ps.Part{{Worker: 0, Incarnation: 1, Seq: 1, Scale: 1}}},
	} {
		s, err := ps.NewStore(pstest.Look{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Load(ps.State{Epoch: 1, Block: 1, Centre: make([]float32, 1), Slots: make([]float32, 3)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stage(t.Context(), ps.Task{Incarnation: 1, Seq: 1, Epoch: 1}, []float32{1}); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(1, d); !errors.Is(err, ps.ErrProtocol) {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

// A checkpoint whose data server takes its time holds up nobody: looks, joins and heartbeats are answered meanwhile, and so are
// commits, which are not in it.
func TestSlowSnapshotHoldsUpNobody(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{1}, pstest.Add{}, ps.Options{Workers: 2}), nil)
	store, err := ps.NewStore(pstest.Add{})
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowKeeper{Store: store, ordered: make(chan struct{}), given: make(chan struct{})}
	if _, err := srv.Spread([]ps.Keeper{slow}); err != nil {
		t.Fatal(err)
	}
	saved := make(chan *ps.Snapshot)
	go func() { saved <- srv.Snapshot() }()
	<-slow.ordered
	life, err := srv.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Touch(0, life, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	table, _ := srv.Table()
	blocks, err := ps.NewSharded(1, table, []ps.Blocks{store})
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, 1)
	if _, err := (conn{blocks, srv}).Exchange(t.Context(), ps.Commit{Incarnation: life, Seq: 1, Steps: 1, Delta: []float32{1}}, dst); err != nil || dst[0] != 2 {
		t.Fatal(dst, err)
	}
	if p := srv.Progress(); p.Version != 1 {
		t.Fatalf("%+v", p)
	}
	close(slow.given)
	if s := <-saved; s.Version != 0 || !slices.Equal(s.Centre, []float32{1}) {
		t.Fatalf("%+v", s)
	}
}

// slowKeeper copies the state when it is ordered and gives it when it may.
type slowKeeper struct {
	*ps.Store
	ordered, given chan struct{}
	err            error // given in the place of the state
}

func (k *slowKeeper) Save(s *ps.State) func() error {
	wait := k.Store.Save(s)
	close(k.ordered)
	return func() error {
		<-k.given
		return errors.Join(wait(), k.err)
	}
}

// An aborted run that was taken back goes on: it is not finished any more, and can be taken back again.
func TestRollbackAfterAbort(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{1}, pstest.Add{}, ps.Options{Shards: 1, Epochs: 1}), nil)
	saved := srv.Snapshot()
	srv.Abort(errors.New("a data server is lost"))
	<-srv.Finished()
	for range 2 {
		if err := srv.Rollback(saved); err != nil {
			t.Fatal(err)
		}
		select {
		case <-srv.Finished():
			t.Fatal("finished while it goes on")
		default:
		}
	}
	life, err := srv.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	u, _, err := srv.Next(t.Context(), 0, life)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Exchange(t.Context(), ps.Commit{Incarnation: life, Seq: 1, Steps: 1, Delta: []float32{1}, Positions: []ps.Position{{Unit: u.ID, Done: true}}}, make([]float32, 1)); err != nil {
		t.Fatal(err)
	}
	<-srv.Finished()
	if err := srv.Rollback(saved); err == nil {
		t.Error("a run that has done its work goes back")
	}
}

// What a server is made for can be asked while it goes back to a checkpoint: for the race detector.
func TestSizesAreReadDuringARollback(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{1}, pstest.Add{}, ps.Options{}), nil)
	saved := srv.Snapshot()
	var all sync.WaitGroup
	all.Go(func() {
		for range 100 {
			if srv.Len() != 1 || srv.Workers() != 1 || srv.Rule() == nil {
				t.Error("something else")
			}
		}
	})
	for range 100 {
		if err := srv.Rollback(saved); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
}

// What is heard late of a data server that was replaced is not about the one in its place: nobody is told, and the run goes on.
func TestALateErrorIsNotAboutTheServerInItsPlace(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{1}, pstest.Add{}, ps.Options{}), nil)
	told := 0
	srv.Guard(func(int, error) { told++ })
	store, err := ps.NewStore(pstest.Add{})
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowKeeper{Store: store, ordered: make(chan struct{}), given: make(chan struct{}), err: errors.New("broken pipe")}
	saved := srv.Snapshot()
	if _, err := srv.Spread([]ps.Keeper{slow}); err != nil {
		t.Fatal(err)
	}
	late := make(chan *ps.Snapshot)
	go func() { late <- srv.Snapshot() }()
	<-slow.ordered
	srv.Lose(0, errors.New("killed"))
	other, err := ps.NewStore(pstest.Add{})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Replace(0, other, saved); err != nil {
		t.Fatal(err)
	}
	close(slow.given)
	if s := <-late; s.Centre != nil || told != 1 || srv.Suspended() != nil {
		t.Fatalf("%+v, told %d times, suspended %v", s, told, srv.Suspended() != nil)
	}
	if s := srv.Snapshot(); !slices.Equal(s.Centre, []float32{1}) {
		t.Fatalf("%+v", s)
	}
}

// While a run waits for another data server, nobody asks those that are left, which may not all have got the last step: none of
// them is lost for it.
func TestASuspendedRunAsksNoDataServer(t *testing.T) {
	srv := ps.NewServer(newCore(t, []float32{1, 2, 3}, pstest.Add{}, ps.Options{Block: 1}), nil)
	var told []int
	srv.Guard(func(server int, _ error) { told = append(told, server) })
	stores, worker := spread(t, srv, pstest.Add{}, 3)
	life, err := srv.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	w := worker()
	if err := stores[1].Load(ps.State{Epoch: 99, Block: 1, Centre: make([]float32, 1)}); err != nil { // it stops at the next step
		t.Fatal(err)
	}
	if _, err := (conn{w, srv}).Exchange(t.Context(), ps.Commit{Incarnation: life, Seq: 1, Steps: 1}, make([]float32, 3)); !errors.Is(err, ps.ErrSuspended) {
		t.Fatal(err)
	}
	if s := srv.Snapshot(); s.Centre != nil {
		t.Errorf("%+v", s)
	}
	if _, err := srv.Centre(make([]float32, 3)); err == nil {
		t.Error("a centre")
	}
	if !slices.Equal(told, []int{1}) {
		t.Errorf("lost: %d", told)
	}
}
