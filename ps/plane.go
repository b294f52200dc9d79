package ps

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Keeper is a data server as the coordinator sees it: a *Store in the same process, or one behind a socket.
type Keeper interface {
	// Load takes over a state; its vectors belong to the keeper from now on.
	Load(State) error
	// Apply hands on a decree without waiting for anything. A keeper that cannot apply it later says so elsewhere.
	Apply(epoch uint64, d Decree) error
	// Save orders the state as it is when every decree handed on so far has been applied, without waiting for anything. The
	// function that it gives waits until the vectors of the state are filled, those that are not nil.
	Save(*State) (wait func() error)
}

// Blocks is a data server as a worker sees it.
type Blocks interface {
	// Stage takes a delta to the data server; bad is the first element that cannot be applied (MaxDelta), or -1.
	Stage(ctx context.Context, t Task, delta []float32) (bad int, err error)
	// Fetch fills dst with the reply.
	Fetch(ctx context.Context, t Task, dst []float32) error
}

// Plane is the data servers of one coordinator: together they hold the parameters that Server.Spread took from it.
type Plane struct {
	part    *Partition
	keepers []Keeper
	slots   int // of the rule
	block   int
	epoch   uint64
	tried   atomic.Uint64 // the last epoch that a load was tried under, whether or not it came to its end
	last    uint64        // number of the last decree of the epoch
	guard   func(server int, err error)
}

// final is the state of all data servers at one version.
type final struct {
	version       uint64
	centre, slots []float32
}

func (c *Core) finalAt(version uint64) bool { return c.final != nil && c.final.version == version }

// gather fetches the state when the last piece of work was booked, before anybody is told: a data server that is lost from
// then on takes nothing with it.
func (c *Core) gather() {
	if c.plane == nil || c.failed != nil || c.finalAt(c.version) || !c.work.complete() {
		return
	}
	f := &final{version: c.version, centre: make([]float32, c.size), slots: make([]float32, c.plane.slots*c.size)}
	if c.failed = c.plane.save(f.version, f.centre, f.slots)(); c.failed == nil {
		c.final = f
	}
}

// Table tells workers where the blocks are.
type Table struct {
	Epoch   uint64
	Block   int
	Servers int
	Decree  uint64 // the last one so far
}

func newPlane(c *Core, keepers []Keeper) (*Plane, error) {
	part, err := NewPartition(len(c.centre), c.block, len(keepers))
	if err != nil {
		return nil, err
	}
	p := &Plane{part: part, keepers: keepers, slots: c.rule.Slots(), block: c.block}
	return p, nil
}

// tried is the last epoch that a load was tried under, 0 without data servers.
func (c *Core) tried() uint64 {
	if c.plane == nil {
		return 0
	}
	return c.plane.tried.Load()
}

// Table says where the parameters are; its Epoch is 0 when they are here.
func (c *Core) Table() Table {
	if c.plane == nil {
		return Table{}
	}
	return Table{Epoch: c.plane.epoch, Block: c.block, Servers: len(c.plane.keepers), Decree: c.plane.last}
}

// each runs f for every server at once.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// load gives every server its part, under a new epoch. After an error the plane is as it was.
func (p *Plane) load(version uint64, centre, slots []float32) error {
	epoch := p.tried.Add(1)
	err := p.fill(epoch, version, centre, slots)
	if err == nil {
		p.epoch, p.last = epoch, 0
	}
	return err
}

func (p *Plane) fill(epoch, version uint64, centre, slots []float32) error {
	return each(len(p.keepers), func(s int) error {
		n := p.part.Size(s)
		st := State{Epoch: epoch, Version: version, Block: p.block, Centre: make([]float32, n), Slots: make([]float32, p.slots*n)}
		p.part.Gather(s, st.Centre, centre, 1)
		p.part.Gather(s, st.Slots, slots, p.slots)
		if err := p.keepers[s].Load(st); err != nil {
			return p.lost(s, epoch, err)
		}
		return nil
	})
}

func (p *Plane) apply(d Decree) error {
	for s, k := range p.keepers {
		if err := k.Apply(p.epoch, d); err != nil {
			return p.lost(s, p.tried.Load(), err)
		}
	}
	return nil
}

// save orders the state at one version; slots may be nil. The function that it gives waits for it and may be called without
// the lock that guards the core.
func (p *Plane) save(version uint64, centre, slots []float32) (wait func() error) {
	tried := p.tried.Load()
	states := make([]State, len(p.keepers))
	waits := make([]func() error, len(p.keepers))
	for s, k := range p.keepers {
		n := p.part.Size(s)
		states[s] = State{Epoch: p.epoch, Centre: make([]float32, n)}
		if slots != nil {
			states[s].Slots = make([]float32, p.slots*n)
		}
		waits[s] = k.Save(&states[s])
	}
	return func() error {
		return each(len(waits), func(s int) error {
			if err := waits[s](); err != nil {
				return p.lost(s, tried, err)
			}
			st := states[s]
			if st.Version != version {
				return p.lost(s, tried, &Error{Kind: "internal", Message: fmt.Sprintf("it is at version %d, not %d", st.Version, version)})
			}
			p.part.Scatter(s, centre, st.Centre, 1)
			if slots != nil {
				p.part.Scatter(s, slots, st.Slots, p.slots)
			}
			return nil
		})
	}
}

// lost is the error of a data server that does not do what it should, after its guard was told, unless the run has begun to go
// back since what it did not do was ordered: that was another server, or another state. Several may be lost at once.
func (p *Plane) lost(s int, tried uint64, err error) error {
	if p.guard != nil && p.tried.Load() == tried {
		p.guard(s, err)
	}
	kind := "unreachable"
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		kind = k.ErrorKind()
	}
	return &Error{Kind: kind, Message: fmt.Sprintf("data server %d is lost", s), Hint: "go on from the last checkpoint", Err: err}
}

// Sharded exchanges with several data servers at once and answers as one server. It belongs to one worker.
type Sharded struct {
	part   *Partition
	blocks []Blocks
	table  Table
	parts  [][]float32
	known  uint64 // the newest decree that this worker heard of
}

// NewSharded makes the worker's side for the servers of a table, in its order. The table is to be as new as the worker's life.
func NewSharded(params int, t Table, blocks []Blocks) (*Sharded, error) {
	part, err := NewPartition(params, t.Block, len(blocks))
	if err != nil {
		return nil, err
	}
	s := &Sharded{part: part, blocks: blocks, table: t, parts: make([][]float32, len(blocks)), known: t.Decree}
	for i := range s.parts {
		s.parts[i] = make([]float32, part.Size(i))
	}
	return s, nil
}

// Exchange stages the delta at every data server, lets the coordinator decide about the commit, and fetches the reply. decide
// gets the commit with an empty delta in the place of a staged one, and why it cannot be applied. Repeating an Exchange that
// gave an error is safe, as it is with one server.
func (s *Sharded) Exchange(ctx context.Context, c Commit, dst []float32, decide func(ctx context.Context, c Commit, rejected string) (Ack, error)) (Ack, error) {
	if len(dst) != s.part.params || c.Delta != nil && len(c.Delta) != s.part.params {
		return Ack{}, wrongLength(c.Worker, "the delta or the reply buffer", max(len(c.Delta), len(dst)), s.part.params)
	}
	t := Task{Worker: c.Worker, Incarnation: c.Incarnation, Seq: c.Seq, Decree: s.known, Epoch: s.table.Epoch}
	rejected := ""
	if c.Delta != nil && c.Seq > 0 {
		var err error
		if rejected, err = s.stage(ctx, t, c.Delta); err != nil {
			return Ack{}, err
		}
		c.Delta = []float32{}
	}
	for {
		ack, err := decide(ctx, c, rejected)
		if err != nil {
			return Ack{}, err
		}
		s.known = max(s.known, ack.Decree)
		t.Decree = ack.Decree
		err = each(len(s.blocks), func(i int) error {
			if err := s.blocks[i].Fetch(ctx, t, s.parts[i]); err != nil {
				return err
			}
			s.part.Scatter(i, dst, s.parts[i], 1)
			return nil
		})
		if !errors.Is(err, ErrSuperseded) { // else a repeat that was long on its way got another reply; one more has its own
			ack.Decree = 0 // of no use to the worker
			return ack, err
		}
	}
}

// stage takes a delta to all servers and says why it cannot be applied, or nothing.
func (s *Sharded) stage(ctx context.Context, t Task, delta []float32) (rejected string, err error) {
	bad := make([]int, len(s.blocks))
	err = each(len(s.blocks), func(i int) (err error) {
		s.part.Gather(i, s.parts[i], delta, 1)
		bad[i], err = s.blocks[i].Stage(ctx, t, s.parts[i])
		return err
	})
	first := s.part.params
	for i, b := range bad {
		if b >= 0 {
			first = min(first, s.part.global(i, b))
		}
	}
	if err != nil || first == s.part.params {
		return "", err
	}
	return whyRejected(first), nil
}
