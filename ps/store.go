package ps

import (
	"context"
	"fmt"
	"sync"
)

// Task says for which commit a worker stages a delta at a data server, or fetches a reply from it.
type Task struct {
	Worker      Worker
	Incarnation uint64
	Seq         uint64
	// Decree is waited for: the newest that the worker knows of when it stages, that of its ack when it fetches.
	Decree uint64
	Epoch  uint64 // of the table that the worker has; one of an older table is fenced off
	// Conn numbers the connections that a worker's tasks come over; what comes late over an old one is refused.
	Conn uint64
}

// Decree is one step of the centre, as the coordinator decided it. All data servers apply the same decrees in the same
// order, each to its blocks, so that together they are at any version what one server would have been, bit for bit.
type Decree struct {
	Number  uint64 // 1, 2, 3, … within an epoch
	Version uint64 // of the centre after it
	Read    bool   // nothing is applied: the reply to the one of Parts is the centre
	Mean    bool   // of a round, else Parts has one commit
	Share   int    // what the sum of a round is divided by
	Commit  Commit // as the rule gets it; without vectors
	Parts   []Part // in worker order
}

// Part is one staged delta in a decree.
type Part struct {
	Worker      Worker
	Incarnation uint64
	Seq         uint64
	Scale       float32
}

// State is what a data server holds: its blocks, one after the other, at one version.
type State struct {
	Epoch   uint64
	Version uint64
	Block   int
	Centre  []float32
	Slots   []float32
}

// Store is a data server without its surroundings: blocks of the parameters and nothing else. Who is in the run, which
// commit counts and in which order is the coordinator's to say: workers stage deltas here, decrees apply them, workers
// fetch replies. All methods may be called by any goroutine.
type Store struct {
	rule  Rule
	based bool

	mu      sync.Mutex
	changed chan struct{} // closed when the epoch changes or a decree was applied
	last    uint64        // decree
	state   State
	members map[Worker]*stage
	work    applier
	deltas  []contribution // of the step that is applied
}

// stage is what a data server keeps of one worker: two vectors, and one more each for rules that need it.
type stage struct {
	incarnation uint64
	conn        uint64
	seq         uint64    // of delta
	applied     uint64    // the last commit that was
	delta       []float32 // nil, or staged
	spare       []float32
	reply       []float32 // of the rule to applied, which took the place of the delta
	replied     uint64    // the decree that made it
	centre      []float32 // as it was when it was read
	read        uint64    // the decree that made it
	from        []float32 // for a BaseRule
}

var (
	_ Keeper = (*Store)(nil)
	_ Blocks = (*Store)(nil)
)

// NewStore makes an empty data server for a rule; Load fills it.
func NewStore(rule Rule) (*Store, error) {
	if rule == nil {
		return nil, &Error{Kind: "internal", Message: "data server: no rule"}
	}
	s := &Store{rule: rule, changed: make(chan struct{}), members: map[Worker]*stage{}}
	if r, ok := rule.(BaseRule); ok {
		s.based = r.UsesBase()
	}
	return s, nil
}

// Load takes over a state, whose vectors belong to the store from now on. What was staged is forgotten.
func (s *Store) Load(st State) error {
	if len(st.Slots) != s.rule.Slots()*len(st.Centre) || st.Block < 1 {
		return &Error{Kind: "corrupt", Message: fmt.Sprintf("data server: %d state elements for %d parameters in blocks of %d, the rule keeps %d each",
			len(st.Slots), len(st.Centre), st.Block, s.rule.Slots()), Hint: "coordinator and data servers must be given the same trainer"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.Epoch <= s.state.Epoch {
		return stale(st.Epoch, s.state.Epoch)
	}
	s.state = st
	s.work = newApplier(s.rule, st.Block)
	s.last = 0
	clear(s.members)
	s.wake()
	return nil
}

// Apply applies a decree. One that was applied before is not applied again.
func (s *Store) Apply(epoch uint64, d Decree) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case epoch != s.state.Epoch:
		return stale(epoch, s.state.Epoch)
	case d.Number <= s.last:
		return nil
	case d.Number != s.last+1 || len(d.Parts) == 0 || len(d.Parts) > 1 && (d.Read || !d.Mean):
		return &Error{Kind: "internal", Message: fmt.Sprintf("data server at decree %d was told decree %d of %d deltas", s.last, d.Number, len(d.Parts)), Err: ErrProtocol}
	}
	if d.Read {
		s.read(d)
	} else if err := s.step(d); err != nil {
		return err
	}
	s.last, s.state.Version = d.Number, d.Version
	s.wake()
	return nil
}

func (s *Store) read(d Decree) {
	m := s.member(d.Parts[0].Worker)
	if inc := d.Parts[0].Incarnation; m.incarnation < inc {
		m.begin(inc)
	}
	if m.centre == nil {
		m.centre = make([]float32, len(s.state.Centre))
	}
	copy(m.centre, s.state.Centre)
	m.read = d.Number
	s.remember(m)
}

func (s *Store) step(d Decree) error {
	s.deltas = s.deltas[:0]
	for i, p := range d.Parts {
		m := s.members[p.Worker]
		if i > 0 && p.Worker <= d.Parts[i-1].Worker {
			return protocol(p.Worker, "its delta is in a decree twice, or out of order")
		}
		if s.based && (d.Mean || m != nil && m.from == nil) {
			return protocol(p.Worker, "the rule looks at what it was given last, and it was given nothing, or is in a round")
		}
		if m == nil || m.incarnation != p.Incarnation || m.delta == nil || m.seq != p.Seq {
			return &Error{Kind: "internal", Message: fmt.Sprintf("data server has no delta of worker %d, incarnation %d, commit %d", p.Worker, p.Incarnation, p.Seq), Err: ErrProtocol}
		}
		s.deltas = append(s.deltas, contribution{delta: m.delta, scale: p.Scale, reply: m.delta})
	}
	if d.Mean {
		s.work.mean(s.state.Centre, s.state.Slots, s.deltas, d.Share, d.Commit)
	} else {
		s.work.one(s.state.Centre, s.state.Slots, s.deltas[0], s.members[d.Parts[0].Worker].from, d.Commit)
	}
	for _, p := range d.Parts {
		m := s.members[p.Worker]
		m.applied, m.replied = p.Seq, d.Number
		if m.spare == nil {
			m.spare = m.reply
		}
		m.reply, m.delta = m.delta, nil
		s.remember(m)
	}
	return nil
}

func (s *Store) member(w Worker) *stage {
	m := s.members[w]
	if m == nil {
		m = new(stage)
		s.members[w] = m
	}
	return m
}

// begin starts a new life; the vectors of the old one are used again.
func (m *stage) begin(incarnation uint64) {
	spare := m.spare
	if spare == nil {
		spare = m.delta
	}
	*m = stage{incarnation: incarnation, conn: m.conn, spare: spare, centre: m.centre, from: m.from}
}

// Save copies the state, of which the decrees before have been applied. It leaves out slots when dst has none.
func (s *Store) Save(dst *State) (wait func() error) {
	err := s.save(dst)
	return func() error { return err }
}

func (s *Store) save(dst *State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(dst.Centre) != len(s.state.Centre) || dst.Slots != nil && len(dst.Slots) != len(s.state.Slots) {
		return wrongLength(-1, "the destination", len(dst.Centre), len(s.state.Centre))
	}
	if dst.Epoch != s.state.Epoch {
		return stale(dst.Epoch, s.state.Epoch)
	}
	dst.Version, dst.Block = s.state.Version, s.state.Block
	copy(dst.Centre, s.state.Centre)
	copy(dst.Slots, s.state.Slots)
	return nil
}

// Size is the number of parameters held, and the epoch of the table that they were placed by.
func (s *Store) Size() (int, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.state.Centre), s.state.Epoch
}

// Stage takes a copy of a delta until a decree applies it. bad is the first element that cannot be applied (MaxDelta), or -1. A repeat
// takes the place of the first one; one of a commit that was applied is let go.
func (s *Store) Stage(ctx context.Context, t Task, delta []float32) (bad int, err error) {
	buf, err := s.Lend(t.Worker, len(delta))
	if err != nil {
		return -1, err
	}
	copy(buf, delta)
	_, bad, err = s.Take(ctx, t, buf)
	return bad, err
}

// Lend gives a buffer of n elements for a delta of w, to be handed back with Take.
func (s *Store) Lend(w Worker, n int) ([]float32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != len(s.state.Centre) {
		return nil, wrongLength(w, "the delta", n, len(s.state.Centre))
	}
	if m := s.members[w]; m != nil && m.spare != nil {
		buf := m.spare
		m.spare = nil
		return buf, nil
	}
	return make([]float32, n), nil
}

// Take is Stage for a delta that belongs to the store from now on; it gives another buffer for it, or the same one after an
// error or when the delta was of no use. ErrSuperseded: something of the same worker has come over a newer connection; it is no
// longer listened to over this one.
func (s *Store) Take(ctx context.Context, t Task, delta []float32) (spare []float32, bad int, err error) {
	bad = unfit(delta)
	m, err := s.await(ctx, t)
	if err != nil {
		return delta, bad, err
	}
	defer s.mu.Unlock()
	switch {
	case len(delta) != len(s.state.Centre):
		return delta, bad, wrongLength(t.Worker, "the delta", len(delta), len(s.state.Centre))
	case t.Conn < m.conn:
		return delta, bad, &Error{Kind: "internal", Message: fmt.Sprintf("worker %d: commit %d over an old connection", t.Worker, t.Seq), Err: ErrSuperseded}
	case t.Seq <= m.applied || bad >= 0:
		return delta, bad, nil
	}
	spare = m.delta
	if spare == nil {
		spare, m.spare = m.spare, nil
	}
	m.delta, m.seq, m.conn = delta, t.Seq, t.Conn
	if spare == nil {
		spare = make([]float32, len(delta))
	}
	return spare, bad, nil
}

// Fetch waits for a decree and fills dst with the reply that it made. ErrSuperseded: a later one made another for the same
// worker, so that the commit has to be repeated to learn its number.
func (s *Store) Fetch(ctx context.Context, t Task, dst []float32) error {
	m, err := s.await(ctx, t)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if len(dst) != len(s.state.Centre) {
		return wrongLength(t.Worker, "the reply buffer", len(dst), len(s.state.Centre))
	}
	switch t.Decree {
	case m.replied:
		copy(dst, m.reply)
	case m.read:
		copy(dst, m.centre)
	default:
		return &Error{Kind: "internal", Message: fmt.Sprintf("worker %d: the reply of decree %d", t.Worker, t.Decree), Err: ErrSuperseded}
	}
	return nil
}

// await waits until the table is as new as the task's and the decree there, and gives the worker's stage with the lock held.
func (s *Store) await(ctx context.Context, t Task) (*stage, error) {
	for {
		s.mu.Lock()
		if now := s.state.Epoch; t.Epoch < now {
			s.mu.Unlock()
			return nil, stale(t.Epoch, now)
		}
		if t.Epoch == s.state.Epoch && s.last >= t.Decree {
			break
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m := s.member(t.Worker)
	switch present := m.incarnation; {
	case t.Incarnation < present:
		s.mu.Unlock()
		return nil, fenced(t.Worker, t.Incarnation, fmt.Sprintf("the present one is %d", present))
	case t.Incarnation > present:
		m.begin(t.Incarnation)
	}
	return m, nil
}

func (s *Store) remember(m *stage) {
	if s.based {
		if m.from == nil {
			m.from = make([]float32, len(s.state.Centre))
		}
		copy(m.from, s.state.Centre)
	}
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// stale is an error for who has an old table: joining again gives the new one.
func stale(got, now uint64) error {
	return &Error{Kind: "timeout", Message: fmt.Sprintf("table %d of the data servers is not the present one, %d", got, now), Hint: "join again", Err: ErrFenced}
}
