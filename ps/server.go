package ps

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Observer is told what happens, in the order in which it happens. It is called with the server's lock held: it must be
// quick and must not call the server. Slices are only valid during the call.
type Observer interface {
	// Committed is called once for every commit that is acknowledged: repeats and pulls are not reported. In ack
	// order, the applied deltas fold to the centre. c has no Delta.
	Committed(c Commit, a Ack)
	// Membership is called when a worker joins (why is empty) and when it leaves or is given up.
	Membership(w Worker, incarnation uint64, joined bool, why string)
	// EpochDone is called when an epoch and all before it are complete, before anything else is applied.
	EpochDone(epoch int, version uint64, centre []float32)
}

// Recorder is an Observer that is also told of every call, in the order in which the core took them, and of memberships in
// between. Workers that make the same calls in the same order to a server that starts the same get the same bits: this is
// all that has to be kept of an asynchronous run to repeat it.
type Recorder interface {
	Observer
	// Took is called with the server's lock held, after the core took the call, whether or not it was answered at once.
	// Repeats of a call are not told.
	Took(c Call)
}

// Rewinder is an Observer that is also told when the server went back to a snapshot. What was committed since then is void;
// the workers' memberships end after it. It is called like the methods of Observer.
type Rewinder interface {
	Observer
	Rewound(to *Snapshot)
}

// Call is one call of a worker, or of whoever ends the run.
type Call struct {
	Kind        CallKind
	Worker      Worker
	Incarnation uint64
	Steps       int    // of a commit
	Staleness   uint64 // of a commit, when it came
	Steering    Steering
}

// CallKind says which call it was.
type CallKind uint8

const (
	CallPull     CallKind = iota + 1 // Exchange without a push
	CallCommit                       // Exchange
	CallNext                         // Next or Ask
	CallWithdraw                     // the worker's last call waited and was taken back
	CallStop                         // Stop, of no worker
	CallSteer                        // Steer, of no worker
)

// Server makes a Core safe for concurrent use and lets calls wait for their deferred answers. It starts no goroutine.
// All methods may be called by any goroutine; one worker makes one call of Exchange or Next at a time.
type Server struct {
	mu       sync.Mutex
	core     *Core
	size     int // these three do not change with a Rollback
	rule     Rule
	workers  int
	obs      Observer
	rec      Recorder // obs, or nil
	waiters  map[Worker]*waiter
	leases   map[Worker]lease
	finished chan struct{}
	ended    bool // finished is closed
	guard    func(server int, err error)
	resumed  chan struct{} // closed when the run goes on; nil unless it is suspended
}

type waiter struct{ ch chan Answer }

// lease is how long a life is believed in. After a Rollback the workers that had one get one to come back, of incarnation 0; it
// begins when Expire looks at it first, which is when it has an end.
type lease struct {
	incarnation uint64
	until       time.Time
}

// ComeBack is how long a worker that had a lease may take to join again after a Rollback, before it is given up.
const ComeBack = 30 * time.Second

// NewServer serves a core, which from now on belongs to it. obs may be nil.
func NewServer(core *Core, obs Observer) *Server {
	s := &Server{core: core, size: core.size, rule: core.rule, workers: core.workers, obs: obs, waiters: map[Worker]*waiter{}, leases: map[Worker]lease{}, finished: make(chan struct{})}
	s.rec, _ = obs.(Recorder)
	if obs != nil {
		core.log = func(c Commit, a Ack) {
			c.Delta = nil
			obs.Committed(c, a)
		}
		core.ends = s.epochDone
	}
	s.after()
	return s
}

// Join starts a new life of w and gives its incarnation; an earlier life is fenced off. The worker then pulls the
// centre by an Exchange with Seq 0.
func (s *Server) Join(w Worker) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	if m := s.core.find(w); m != nil && m.in() && s.core.aborted == nil {
		s.leave(w, m.incarnation, "it joined again")
	}
	incarnation, err := s.core.Join(w)
	if err == nil {
		delete(s.leases, w)
		if s.obs != nil {
			s.obs.Membership(w, incarnation, true, "")
		}
	}
	return incarnation, err
}

// Leave ends a life of w; see Core.Leave. Its waiting call gets ErrFenced.
func (s *Server) Leave(w Worker, incarnation uint64, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	return s.leave(w, incarnation, why)
}

func (s *Server) leave(w Worker, incarnation uint64, why string) error {
	err := s.core.Leave(w, incarnation, why)
	if err == nil {
		delete(s.leases, w)
		if s.obs != nil {
			s.obs.Membership(w, incarnation, false, why)
		}
	}
	return err
}

// Exchange pushes c and fills dst with the rule's reply. In Rounds mode it waits for the round. When ctx ends first,
// the commit is taken back unless it has been applied already; it is safe to repeat it with the same Seq.
// It does not keep c.Delta, c.Positions or dst after it returned. dst may be c.Delta itself, whole; the reply then takes
// its place, and a call that gave an error has left it as it was.
func (s *Server) Exchange(ctx context.Context, c Commit, dst []float32) (Ack, error) {
	if err := ctx.Err(); err != nil {
		return Ack{}, err
	}
	return s.exchange(ctx, c, dst, check(c.Delta)) // reads no state: outside the lock
}

// Decide is Exchange for a commit whose delta is at the data servers: c.Delta is empty and not nil in its place, and rejected
// says why it cannot be applied. See Sharded.Exchange.
func (s *Server) Decide(ctx context.Context, c Commit, rejected string) (Ack, error) {
	if err := ctx.Err(); err != nil {
		return Ack{}, err
	}
	return s.exchange(ctx, c, nil, rejected)
}

func (s *Server) exchange(ctx context.Context, c Commit, dst []float32, rejected string) (Ack, error) {
	s.mu.Lock()
	staleness := s.core.version - c.Base
	again := s.core.pendingAgain(c.Worker, c.Seq)
	ack, deferred, err := s.core.commit(c, dst, rejected)
	switch {
	case err != nil || ack.Duplicate || again:
	case c.Seq == 0:
		s.took(Call{Kind: CallPull, Worker: c.Worker, Incarnation: c.Incarnation})
	default:
		s.took(Call{Kind: CallCommit, Worker: c.Worker, Incarnation: c.Incarnation, Steps: c.Steps, Staleness: staleness})
	}
	var w *waiter
	if deferred {
		w = s.wait(c.Worker)
	}
	s.after()
	if m := s.core.find(c.Worker); m != nil && !m.waits() {
		s.supersede(c.Worker) // a Next that this commit took back
	}
	s.mu.Unlock()
	if !deferred {
		return ack, err
	}
	a, err := s.await(ctx, w, c.Worker, c.Incarnation)
	if err != nil {
		return Ack{}, err
	}
	return a.Ack, a.Err
}

// Next gives w its next unit of data. It waits while others may still hand theirs back.
func (s *Server) Next(ctx context.Context, w Worker, incarnation uint64) (Unit, Turn, error) {
	return s.Ask(ctx, w, incarnation, 0)
}

// Ask is Next for a caller that may have to repeat a call because the answer got lost: ask numbers the calls of an
// incarnation from 1, and a repeat gets the same answer.
func (s *Server) Ask(ctx context.Context, w Worker, incarnation, ask uint64) (Unit, Turn, error) {
	if err := ctx.Err(); err != nil {
		return Unit{}, Done, err
	}
	s.mu.Lock()
	again := s.core.askedAgain(w, ask)
	u, turn, err := s.core.Next(w, incarnation, ask)
	if err == nil && !again {
		s.took(Call{Kind: CallNext, Worker: w, Incarnation: incarnation})
	}
	var wt *waiter
	if err == nil && turn == Wait {
		wt = s.wait(w)
	}
	s.after()
	s.mu.Unlock()
	if wt == nil {
		return u, turn, err
	}
	a, err := s.await(ctx, wt, w, incarnation)
	if err != nil {
		return Unit{}, Done, err
	}
	if a.Err != nil {
		return Unit{}, Done, a.Err
	}
	return a.Unit, a.Turn, nil
}

// Stop ends the run gently: acks say Stop, and Next says Done. Workers commit what they have and leave.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	s.core.Stop()
	s.took(Call{Kind: CallStop, Worker: -1})
}

// Steer tells all workers something with the answer to the next call that each of them makes; see Steering.
func (s *Server) Steer(to Steering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	s.core.Steer(to)
	s.took(Call{Kind: CallSteer, Worker: -1, Steering: to})
}

func (s *Server) took(c Call) {
	if s.rec != nil {
		s.rec.Took(c)
	}
}

// Abort ends the run at once: all waiting and later calls get err.
func (s *Server) Abort(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	s.core.Abort(err)
}

// Finished is closed when nothing is left to do: all units are complete, or the run was stopped and every worker has
// left, or it was aborted. A Rollback after an abort makes a new channel: who gives up a run only when nobody takes it back asks
// again, or uses Guard.
func (s *Server) Finished() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished
}

// Centre copies the centre to dst, whole commits only, and gives its version.
func (s *Server) Centre(dst []float32) (uint64, error) {
	s.mu.Lock()
	version, wait := s.core.order(dst)
	s.mu.Unlock()
	return version, wait()
}

// Snapshot copies the whole state for a checkpoint.
func (s *Server) Snapshot() *Snapshot { return s.SnapshotWith(nil) }

// SnapshotWith is Snapshot with a look at what belongs to it: nothing is committed between the two. look is called with the
// server's lock held, must be quick and may not call the server; nil does without.
func (s *Server) SnapshotWith(look func()) *Snapshot {
	s.mu.Lock()
	snapshot, wait := s.core.snapshot()
	if look != nil {
		look()
	}
	tried := s.core.tried()
	s.mu.Unlock()
	if err := wait(); err != nil { // data servers may take their time: others do not wait for them
		s.mu.Lock()
		defer s.mu.Unlock()
		defer s.after()
		s.core.lose(tried, err)
		snapshot.Centre, snapshot.Slots = nil, nil
	}
	return snapshot
}

// Spread moves the parameters to data servers; see Core.Spread. Workers then exchange through Sharded, whose table this gives.
func (s *Server) Spread(keepers []Keeper) (Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.core.Spread(keepers); err != nil {
		return Table{}, err
	}
	s.core.plane.guard = s.guard
	return s.core.Table(), nil
}

// Table says where the parameters are; false when they are here.
func (s *Server) Table() (Table, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Table(), s.core.plane != nil
}

// Rollback goes back to a snapshot while the run goes on; see Core.Rollback. A run that has finished stays finished, unless it
// was aborted. Workers that had a lease have ComeBack to join again, or Expire gives them up.
func (s *Server) Rollback(snapshot *Snapshot) error { return s.Replace(-1, nil, snapshot) }

// Guard makes the loss of a data server a pause: calls get ErrSuspended until Replace, Rollback or Abort. lost is told which
// one, perhaps more than once, by whoever finds out, at any time; it may be called with the server's lock held, must be quick
// and may not call the server. Guard comes before Spread.
func (s *Server) Guard(lost func(server int, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard = lost
}

// Lose says that a data server is lost. It suspends a run that has a guard and ends any other.
func (s *Server) Lose(server int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	p := s.core.plane
	if p == nil || s.ended {
		return
	}
	tried := s.core.tried()
	s.core.lose(tried, p.lost(server, tried, err))
}

// Suspended gives a channel that is closed when a suspended run goes on or ends; nil when it is not suspended.
func (s *Server) Suspended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumed
}

// Replace is Rollback with another data server in the place of one that was lost, or in the place of none when it is
// negative. The address that workers reach it at has to stay.
func (s *Server) Replace(server int, by Keeper, snapshot *Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	if server >= 0 {
		if err := s.swap(server, by); err != nil {
			return err
		}
	}
	if s.ended && s.core.aborted == nil {
		return &Error{Kind: "internal", Message: "parameter server: the run has finished, it cannot go back"}
	}
	in := s.core.members
	if err := s.core.Rollback(snapshot); err != nil {
		return err
	}
	if r, ok := s.obs.(Rewinder); ok {
		r.Rewound(snapshot)
	}
	if s.ended {
		s.ended, s.finished = false, make(chan struct{})
	}
	for _, m := range in {
		if _, leased := s.leases[m.id]; leased && m.in() {
			s.leases[m.id] = lease{} // those of a Rollback before it go on
		}
		if m.in() && s.obs != nil {
			s.obs.Membership(m.id, m.incarnation, false, "the server went back to a checkpoint")
		}
	}
	return nil
}

// Swap puts another data server in the place of one that was lost. It is empty until Rollback.
func (s *Server) Swap(server int, by Keeper) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.swap(server, by)
}

func (s *Server) swap(server int, by Keeper) error {
	p := s.core.plane
	if p == nil || server < 0 || server >= len(p.keepers) {
		return &Error{Kind: "internal", Message: fmt.Sprintf("parameter server: there is no data server %d to replace", server)}
	}
	p.keepers[server] = by
	p.tried.Add(1)
	return nil
}

// epochDone tells the observer. A centre that is elsewhere is fetched for it.
func (s *Server) epochDone(epoch int) {
	centre := s.core.centre
	if s.core.failed != nil {
		return // the epoch will be done again, or the run is over
	}
	if s.core.plane != nil {
		centre = make([]float32, s.core.size)
		if _, err := s.core.Centre(centre); err != nil { // here all others do wait: nothing may be applied before
			s.core.failed = err
			return
		}
	}
	s.obs.EpochDone(epoch, s.core.version, centre)
}

// Len is the number of parameters.
func (s *Server) Len() int { return s.size }

// Rule is the rule that the server applies.
func (s *Server) Rule() Rule { return s.rule }

// Workers is the number of workers that are expected to join.
func (s *Server) Workers() int { return s.workers }

// Progress is a look at a running server.
type Progress struct {
	Version   uint64
	EpochDone int // epochs that are complete together with all before them
	Epochs    int
	Joined    []Worker
	Waiting   int // calls that wait for a round or for work
	Stats     Stats
}

// Progress tells how far the run has come.
func (s *Server) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Progress{Version: s.core.version, EpochDone: s.core.work.first, Epochs: s.core.work.epochs, Joined: s.core.Joined(),
		Waiting: len(s.waiters), Stats: s.core.stats}
}

// Touch says that a life of w was heard of and is to be believed in until the given time. A worker that was never
// touched has no lease and never expires: one in the same process.
func (s *Server) Touch(w Worker, incarnation uint64, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.core.member(w, incarnation); err != nil {
		return err
	}
	s.leases[w] = lease{incarnation, until}
	return nil
}

// Expire lets those leave whose lease ended before now, and gives them in no particular order. While a run is suspended or
// aborted nobody can be heard of, and no lease ends.
func (s *Server) Expire(now time.Time) []Worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.after()
	if s.core.aborted != nil {
		return nil
	}
	var out []Worker
	for w, l := range s.leases {
		why := "its lease ran out"
		switch {
		case l.until.IsZero():
			s.leases[w] = lease{until: now.Add(ComeBack)}
			continue
		case !l.until.Before(now):
			continue
		case l.incarnation == 0:
			why = "it did not come back after a data server was lost"
		}
		if s.leave(w, l.incarnation, why) == nil {
			out = append(out, w)
		}
		delete(s.leases, w)
	}
	return out
}

// after hands out the answers that became ready and looks whether the run is finished. Every change of the core is
// followed by it before the lock is released.
func (s *Server) after() {
	for _, a := range s.core.Answers() {
		if w := s.waiters[a.Worker]; w != nil {
			delete(s.waiters, a.Worker)
			w.ch <- a // has room: a waiter gets one answer
		}
	}
	c := s.core
	switch {
	case c.paused && s.resumed == nil:
		s.resumed = make(chan struct{})
	case !c.paused && s.resumed != nil:
		close(s.resumed)
		s.resumed = nil
	}
	if !s.ended && !c.paused && (c.aborted != nil || c.work.complete() || c.stopped && !c.anyIn()) {
		s.ended = true
		close(s.finished)
	}
}

// wait makes the waiter for a deferred call of w, in the place of an older one.
func (s *Server) wait(w Worker) *waiter {
	s.supersede(w)
	wt := &waiter{ch: make(chan Answer, 1)}
	s.waiters[w] = wt
	return wt
}

// supersede tells an older call of w that still waits that a newer one took its place.
func (s *Server) supersede(w Worker) {
	if old := s.waiters[w]; old != nil {
		delete(s.waiters, w)
		old.ch <- Answer{Worker: w, Err: ErrSuperseded}
	}
}

// await waits for the answer. When ctx ends, the call is withdrawn, unless its answer came at the same moment: an answer
// that was given out is never lost.
func (s *Server) await(ctx context.Context, wt *waiter, w Worker, incarnation uint64) (Answer, error) {
	select {
	case a := <-wt.ch:
		return a, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case a := <-wt.ch:
		return a, nil
	default:
	}
	delete(s.waiters, w)
	s.core.Withdraw(w, incarnation)
	s.took(Call{Kind: CallWithdraw, Worker: w, Incarnation: incarnation})
	s.after()
	return Answer{}, ctx.Err()
}
