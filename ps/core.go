package ps

import (
	"cmp"
	"fmt"
	"slices"
)

// DefaultBlock is the number of parameters in a block: 256 KiB, which stays in a core's cache while the rule works on
// centre, slots, delta and reply of one block.
const DefaultBlock = 64 << 10

// Options says how a Core works. The zero value is an asynchronous server without units of data.
type Options struct {
	Mode Mode
	// Workers is the number of workers that are expected to join, numbered from 0; shard s is preferably worked by
	// worker s mod Workers. More may join later. 0 means 1.
	Workers int
	// Shards and Epochs make the units: every shard once in every epoch. Without shards, Next says Done at once.
	Shards int
	Epochs int
	// Steps ends the run as Stop does, with the commit or the round by which that many local steps are in the centre, those
	// before a Restore included. Asynchronous workers still commit the window that they are in. 0 does not.
	Steps int64
	// Quorum closes a round when that many members have committed (K of N). Who comes later is part of a later round, with
	// the staleness that this means. 0 waits for all. Rounds mode only.
	Quorum int
	// Bound makes a commit wait while its worker is more than Bound commits ahead of the slowest one that is at work (stale
	// synchronous parallel: Ho et al., NIPS 2013). 0 does not bound. Async mode only.
	Bound int
	// Staleness says what becomes of deltas that come late.
	Staleness Staleness
	// WarmUp is how many samples the lowest of the workers does alone, before the others get their first unit (Dean et al.,
	// NIPS 2012, section 4.1).
	WarmUp int64
	// Window, when not 0, makes the core assign local steps by speed (dynamic local updates: Liu et al. 2024, arXiv
	// 2401.09135): the fastest worker does Window steps between two commits, one of half its speed half as many.
	Window int
	// Sharing lets a worker that has no units of its own left take those of others that are still at work, in Rounds mode too.
	// Who does what then depends on who is quick, so a run does not repeat itself bit for bit.
	Sharing bool
	// Block is the number of parameters in a block; 0 means DefaultBlock.
	Block int
	// Generation tells the lives of the server apart: it must be greater after every Restore, so that a worker that
	// knew the server before its crash is not taken for one that joined after. It becomes the upper half of
	// incarnations. Every Rollback counts it up: a server that is restored from a snapshot that was taken before a
	// Rollback has to leave room for that, as it does when it takes the clock.
	Generation uint32
}

// Stats counts what went through a core since its start, restored lives included.
type Stats struct {
	Commits         uint64 // commits acknowledged, without repeats
	Duplicates      uint64 // repeats answered
	Rejected        uint64 // commits whose delta was refused
	Dropped         uint64 // commits whose delta was too stale
	Samples         int64  // samples in applied commits
	Steps           int64  // local steps in applied commits
	RejectedSamples int64  // samples in refused ones
	DroppedSamples  int64  // samples in those too stale
}

// Answer is the answer to a call that was deferred. Ack is set for a commit, Unit and Turn for a Next.
type Answer struct {
	Worker      Worker
	Incarnation uint64
	Next        bool // the call was Next, else Commit
	Ack         Ack
	Unit        Unit
	Turn        Turn
	Err         error
}

// Core is a parameter server without its surroundings. It is not safe for concurrent use; Server is.
type Core struct {
	rule    Rule
	centred bool // the rule's reply is the centre
	based   bool // the rule is a BaseRule
	mode    Mode
	workers int
	policy  policy
	block   int
	centre  []float32
	slots   []float32 // block by block: the slots of a block lie together
	version uint64
	lives   uint64 // the last incarnation given out
	gen     uint32
	members []*member // by worker number
	work    work
	stats   Stats
	stopped bool
	full    bool // stopped by Options.Steps
	aborted error
	paused  bool // aborted holds until Rollback
	answers []Answer
	log     func(Commit, Ack) // the shell's; called for every acknowledged commit that is no repeat
	ends    func(epoch int)   // the shell's; called when an epoch and all before it are complete
	applier applier
	deltas  []contribution // of the round that is applied
	opts    Options        // as it was made with
	size    int            // parameters
	plane   *Plane         // holds centre and slots, when it is not nil
	failed  error          // of the plane
	final   *final         // what the plane held when all work was done

	steering Steering
}

type state uint8

const (
	expected state = iota // one of Options.Workers that has not joined yet
	gone                  // left or given up
	busy                  // computing, or about to ask
	parked                // waiting in Next
	over                  // told that the run is over
)

// member is what the core knows about one worker number.
type member struct {
	id          Worker
	state       state
	incarnation uint64
	why         string    // of the last leaving
	seq         uint64    // of the last acknowledged commit
	ack         Ack       // its ack
	kept        []float32 // the reply to it, when the rule's reply is not the centre
	plain       bool      // the reply to it was the centre all the same
	from        []float32 // the centre that it got last, for a BaseRule
	clock       uint64    // windows that it has committed, for Options.Bound
	speed       float64   // steps a second, smoothed, for Options.Window
	finished    bool      // it left after it had seen the end of the run
	late        bool      // it joined while a round was open, and belongs to the next one
	missed      bool      // that round is over, and it has had no unit since
	at          uint64    // the decree that made the reply to it, with data servers
	seen        uint64    // version + 1 of the centre that it got last; 0 for none
	held        []int     // units handed out and not complete
	flushed     bool      // told to flush, and nothing was committed since

	pending  bool // a commit of it waits for the round
	commit   Commit
	dst      []float32
	rejected string

	asking   uint64 // number of the Next it waits in
	asked    uint64 // number of the last Next that was answered; 0 for none
	lastUnit Unit   // that answer, for a repeat
	lastTurn Turn
}

// NewCore makes a server whose centre starts as a copy of params. It refuses options that make no sense.
func NewCore(params []float32, rule Rule, o Options) (*Core, error) {
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Block == 0 {
		o.Block = DefaultBlock
	}
	if err := o.check(rule); err != nil {
		return nil, err
	}
	if i := nonFinite(params); i >= 0 {
		return nil, &Error{Kind: "diverged", Message: fmt.Sprintf("parameter server: parameter %d is %g at the start", i, params[i]),
			Hint: "start from weights that are finite"}
	}
	c := &Core{
		rule: rule, mode: o.Mode, workers: o.Workers, block: min(o.Block, max(len(params), 1)), gen: o.Generation,
		centre: slices.Clone(params),
		slots:  make([]float32, rule.Slots()*len(params)),
		lives:  uint64(o.Generation) << 32,
		work:   work{workers: o.Workers, shards: o.Shards, epochs: o.Epochs},
		policy: policy{quorum: o.Quorum, bound: uint64(o.Bound), staleness: o.Staleness, warmUp: o.WarmUp, window: o.Window, sharing: o.Sharing},
	}
	if r, ok := rule.(CentreRule); ok {
		c.centred = r.RepliesCentre()
	}
	if r, ok := rule.(BaseRule); ok {
		c.based = r.UsesBase()
	}
	c.applier = newApplier(rule, c.block)
	c.opts, c.size = o, len(params)
	for w := range o.Workers {
		c.members = append(c.members, &member{id: Worker(w), state: expected})
	}
	return c, nil
}

// Len is the number of parameters.
func (c *Core) Len() int { return c.size }

// Version counts the applied commits, or rounds.
func (c *Core) Version() uint64 { return c.version }

// Centre copies the centre to dst and gives its version.
func (c *Core) Centre(dst []float32) (uint64, error) {
	version, wait := c.order(dst)
	return version, wait()
}

// order is Centre in two parts: with data servers, dst is filled when wait returns, which needs no lock.
func (c *Core) order(dst []float32) (version uint64, wait func() error) {
	err := error(nil)
	switch {
	case len(dst) != c.size:
		err = wrongLength(-1, "the destination", len(dst), c.size)
	case c.plane == nil:
		copy(dst, c.centre)
	case c.finalAt(c.version):
		copy(dst, c.final.centre)
	case c.failed != nil: // not all data servers are at this version
		err = c.failed
	default:
		return c.version, c.plane.save(c.version, dst, nil)
	}
	return c.version, func() error { return err }
}

// Stats gives the counters.
func (c *Core) Stats() Stats { return c.stats }

// Epochs is the number of epochs that are complete together with all before them.
func (c *Core) Epochs() int { return c.work.first }

// Complete says that there were units and all of them are done.
func (c *Core) Complete() bool { return c.work.complete() }

// Joined gives the workers that are in, in order.
func (c *Core) Joined() []Worker {
	var in []Worker
	for _, m := range c.members {
		if m.in() {
			in = append(in, m.id)
		}
	}
	return in
}

// Answers hands out the answers that became ready since it was last called, in the order in which they did. The slice
// is valid until the next call of any method.
func (c *Core) Answers() []Answer {
	a := c.answers
	c.answers = c.answers[:0]
	return a
}

// Join starts a new life of w and gives its incarnation. A life that had not left is ended as by Leave.
func (c *Core) Join(w Worker) (uint64, error) {
	if c.aborted != nil {
		return 0, c.aborted
	}
	if w < 0 {
		return 0, protocol(w, "workers are numbered from 0")
	}
	i, found := c.search(w)
	if !found {
		c.members = slices.Insert(c.members, i, &member{id: w, state: gone})
	}
	m := c.members[i]
	if m.in() {
		c.leave(m, "it joined again")
	}
	c.lives++
	late := c.mode == Rounds && m.state != expected && c.open()
	*m = member{id: w, state: busy, incarnation: c.lives, late: late, held: m.held[:0], kept: m.kept, from: m.from}
	m.clock = c.slowest(m)
	c.remember(m)
	if c.based {
		c.read(m)
	}
	c.settle()
	return m.incarnation, nil
}

// Leave ends a life of w: its open round is given up, and its units go back to the queue at the position of its last
// acknowledged commit. With incarnation 0 it gives up a worker that never joined. A life that is over already gives
// ErrFenced.
func (c *Core) Leave(w Worker, incarnation uint64, why string) error {
	m := c.find(w)
	if m != nil && m.state == expected && incarnation == 0 {
		m.state, m.why = gone, why
		c.settle()
		return nil
	}
	m, err := c.member(w, incarnation)
	if err != nil {
		return err
	}
	c.leave(m, why)
	c.settle()
	return nil
}

func (c *Core) leave(m *member, why string) {
	if m.waits() {
		c.answers = append(c.answers, Answer{Worker: m.id, Incarnation: m.incarnation, Next: m.state == parked,
			Err: fenced(m.id, m.incarnation, why)})
	}
	for _, id := range m.held {
		c.work.giveBack(id)
	}
	m.held = m.held[:0]
	m.drop()
	m.state, m.why, m.finished = gone, why, m.state == over
}

// Withdraw takes back the deferred call of a worker that no longer waits for its answer: a commit is taken out of the
// open round, and a waiting Next is forgotten. It does nothing when no call is deferred. The worker is waited for
// again until it repeats the call or leaves.
func (c *Core) Withdraw(w Worker, incarnation uint64) {
	m, err := c.member(w, incarnation)
	if err != nil {
		return
	}
	c.abandon(m)
}

func (c *Core) abandon(m *member) {
	m.drop()
	if m.state == parked {
		m.state = busy
	}
}

// Stop ends the run gently: every ack from now on says Stop, and Next says Done.
func (c *Core) Stop() {
	c.stopped, c.full = true, false
	c.settle()
}

// limit stops the run when it has done its steps.
func (c *Core) limit() {
	if c.opts.Steps > 0 && c.stats.Steps >= c.opts.Steps && !c.stopped {
		c.stopped, c.full = true, true
	}
}

// Steer tells all workers something, in the place of what they were told before.
func (c *Core) Steer(s Steering) {
	c.steering = s
	c.settle()
}

// Abort ends the run at once: deferred calls and all calls from now on get err. The first call counts.
func (c *Core) Abort(err error) {
	if c.aborted != nil && !c.paused || err == nil {
		return
	}
	c.paused = false
	c.stopCalls(err)
}

// suspend is Abort until a Rollback.
func (c *Core) suspend(cause error) {
	if c.aborted != nil {
		return
	}
	c.paused = true
	c.stopCalls(&Error{Kind: "unreachable", Message: "the run waits: " + cause.Error(), Err: ErrSuspended})
}

// stopCalls ends all calls, deferred and later ones, with an error.
func (c *Core) stopCalls(err error) {
	c.aborted = err
	for _, m := range c.members {
		if m.waits() {
			c.answers = append(c.answers, Answer{Worker: m.id, Incarnation: m.incarnation, Next: m.state == parked, Err: err})
			c.abandon(m)
		}
	}
}

// pendingAgain says whether a commit is one that is deferred already.
func (c *Core) pendingAgain(w Worker, seq uint64) bool {
	m := c.find(w)
	return m != nil && m.pending && m.commit.Seq == seq
}

// askedAgain says whether a call of Next is one that was answered already, or is deferred.
func (c *Core) askedAgain(w Worker, ask uint64) bool {
	m := c.find(w)
	return m != nil && ask != 0 && (ask == m.asked || m.state == parked && ask == m.asking)
}

// settle answers what has become answerable: it closes the round if nobody is missing, takes commits that waited for
// slower workers, hands units to those who wait for them, and goes on as long as one makes the other possible.
func (c *Core) settle() {
	if c.aborted != nil {
		return
	}
	defer func() {
		switch {
		case c.failed == nil:
		case c.plane != nil && c.plane.guard != nil:
			c.suspend(c.failed)
		default:
			c.Abort(c.failed)
		}
	}()
	for {
		closed := c.closeRound() || c.admit()
		released := c.release()
		if !closed && !released {
			return
		}
	}
}

func (c *Core) over() bool { return c.failed == nil && (c.stopped || c.work.complete()) }

func (c *Core) find(w Worker) *member {
	if w >= 0 && int(w) < len(c.members) && c.members[w].id == w {
		return c.members[w]
	}
	if i, found := c.search(w); found {
		return c.members[i]
	}
	return nil
}

func (c *Core) search(w Worker) (int, bool) {
	return slices.BinarySearchFunc(c.members, w, func(m *member, w Worker) int { return cmp.Compare(m.id, w) })
}

// member finds the living member, or says why there is none.
func (c *Core) member(w Worker, incarnation uint64) (*member, error) {
	if c.aborted != nil {
		return nil, c.aborted
	}
	m := c.find(w)
	switch {
	case m == nil || m.incarnation == 0:
		return nil, fenced(w, incarnation, "it has not joined")
	case m.incarnation != incarnation:
		return nil, fenced(w, incarnation, fmt.Sprintf("the present one is %d", m.incarnation))
	case !m.in():
		return nil, fenced(w, incarnation, m.why)
	}
	return m, nil
}

func (m *member) in() bool { return m.state >= busy }

// waits says whether a call is deferred.
func (m *member) waits() bool { return m.pending || m.state == parked }

// drop forgets a commit that waits for the round.
func (m *member) drop() {
	m.pending, m.commit, m.dst, m.rejected = false, Commit{}, nil, ""
}

func (c *Core) anyIn() bool {
	for _, m := range c.members {
		if m.in() {
			return true
		}
	}
	return false
}
