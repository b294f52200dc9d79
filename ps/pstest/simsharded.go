package pstest

import (
	"context"
	"math/bits"

	"dkpipe/ps"
)

// step is what a message is about, with data servers: a commit is staged at all of them, decided by the coordinator and
// fetched from all of them.
type step uint8

const (
	whole step = iota // to the coordinator; without data servers there are no others
	stage
	fetch
)

// sharded is the part of a message that concerns data servers.
type sharded struct {
	kind     step
	server   int
	conn     uint64
	decree   uint64
	epoch    uint64
	rejected bool
	bad      bool // in the reply to stage
}

// progress is how far a worker has come with its call.
type progress struct {
	kind   step
	left   uint64 // servers that have not answered, a bit each
	bad    bool   // one of them found NaN
	known  uint64 // the newest decree that the worker heard of
	epoch  uint64
	ack    ps.Ack
	result []float32
}

// spread moves the parameters to data servers.
func (s *sim) spread() error {
	if s.Servers == 0 {
		return nil
	}
	var keepers []ps.Keeper
	for range s.Servers {
		store, err := ps.NewStore(s.Rule)
		if err != nil {
			return err
		}
		s.stores, keepers = append(s.stores, store), append(keepers, store)
	}
	var err error
	if s.part, err = ps.NewPartition(len(s.initial), min(s.options().Block, len(s.initial)), s.Servers); err != nil {
		return err
	}
	return s.core.Spread(keepers)
}

// commit lets a commit arrive at the core.
func (s *sim) commit(c call) (ps.Ack, bool, error) {
	if len(s.stores) == 0 {
		return s.core.Commit(c.commit, c.dst)
	}
	why := ""
	if c.shard.rejected {
		why = "NaN"
	}
	if c.commit.Delta != nil {
		c.commit.Delta = []float32{}
	}
	return s.core.Decide(c.commit, why)
}

// serveShard lets a message arrive at a data server. The coordinator has told it of everything that it decided, so that it
// never waits.
func (s *sim) serveShard(r *reply) error {
	i := r.shard.server
	if i >= len(s.stores) {
		return ps.ErrFenced // there is no such server any more
	}
	t := ps.Task{Worker: r.w.id, Incarnation: r.life, Seq: r.commit.Seq, Decree: r.shard.decree, Epoch: r.shard.epoch, Conn: r.shard.conn}
	part := make([]float32, s.part.Size(i))
	if r.shard.kind == stage {
		s.part.Gather(i, part, r.commit.Delta, 1)
		bad, err := s.stores[i].Stage(context.Background(), t, part)
		r.shard.bad = bad >= 0
		return err
	}
	r.dst = part
	return s.stores[i].Fetch(context.Background(), t, part)
}

// begin starts a call: a commit with a delta is staged first.
func (w *simWorker) begin() {
	p := &w.shard
	*p = progress{known: p.known, epoch: p.epoch}
	if n := len(w.sim.stores); n > 0 && w.call.commit.Delta != nil {
		p.kind, p.left = stage, 1<<n-1
	}
}

// repeat sends what has not been answered, over new connections.
func (w *simWorker) repeat() {
	s, p := w.sim, &w.shard
	if p.kind == whole {
		c := w.again()
		c.shard.rejected = p.bad
		s.calls = append(s.calls, c)
		return
	}
	for left := p.left; left != 0; left &= left - 1 {
		s.conns++
		c := w.again()
		c.shard = sharded{kind: p.kind, server: bits.TrailingZeros64(left), conn: s.conns, decree: p.known, epoch: p.epoch}
		if p.kind == fetch {
			c.shard.decree = p.ack.Decree
		}
		s.calls = append(s.calls, c)
	}
}

// expects says whether a reply is one to what was asked last.
func (w *simWorker) expects(r reply) bool {
	p := &w.shard
	return r.shard.kind == p.kind && (p.kind == whole || p.left&(1<<r.shard.server) != 0) && (p.kind != fetch || r.shard.decree == p.ack.Decree)
}

// advance goes on to the next step of the call and says whether it is done; then r holds the whole answer.
func (w *simWorker) advance(r *reply) bool {
	s, p := w.sim, &w.shard
	switch {
	case len(s.stores) == 0 || r.ask > 0:
		return true
	case p.kind == whole:
		p.kind, p.left, p.ack, p.known = fetch, 1<<len(s.stores)-1, r.ack, max(p.known, r.ack.Decree)
		p.result = make([]float32, len(s.initial))
		if r.commit.Seq > 0 {
			s.acked[name(r.commit)] = true
		}
		w.repeat()
		return false
	}
	p.left &^= 1 << r.shard.server
	p.bad = p.bad || r.shard.bad
	if p.kind == fetch {
		s.part.Scatter(r.shard.server, p.result, r.dst, 1)
	}
	if p.left != 0 {
		return false
	}
	if p.kind == stage {
		p.kind = whole
		w.repeat()
		return false
	}
	r.ack, r.dst = p.ack, p.result
	return true
}

// joined takes over the table of the data servers.
func (w *simWorker) joined() {
	s := w.sim
	if len(s.stores) > 0 {
		_, w.shard.epoch = s.stores[0].Size()
		w.shard.known = s.core.Table().Decree
	}
}
