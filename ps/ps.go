package ps

// Worker numbers the workers of a run from 0.
type Worker int32

// Position says how far a worker has come in one unit of work. It rides with the commit that contains those samples,
// so "applied" and "this data is done" are one fact.
type Position struct {
	Unit   int
	Cursor []byte // opaque to the server: pipeline.Cursor in its wire form; copied
	Done   bool   // nothing of the unit is left
}

// Commit is one push of a worker, and at the same time its pull: the reply carries the new centre.
// (Worker, Incarnation, Seq) identifies it: a repeat is answered as the first time and not applied again.
type Commit struct {
	Worker      Worker
	Incarnation uint64 // of the worker's life; any other than the present one is fenced off
	Seq         uint64 // 1, 2, 3, … within an incarnation; 0 pulls without pushing
	Base        uint64 // version of the centre that the delta started from
	Steps       int    // local steps in the delta; a commit of 0 steps does not count in the mean of a round
	Samples     int64  // samples in the delta
	// Positions move with the apply. Each names a unit that this worker holds, once.
	Positions []Position
	// Delta has as many elements as there are parameters. It is nil when Seq is 0, and may be nil in a commit that
	// only moves positions: nothing is applied then, and the reply is the centre. It belongs to the caller and is
	// not kept after Exchange returned.
	Delta  []float32
	Report Report

	// The rest is set by the core before Rule.Apply; what the sender wrote there is not looked at.

	Staleness uint64  // versions that went by since Base
	Rate      float64 // Steering.Rate, for a rule that takes steps of an optimizer
	Scale     float32 // what Options.Staleness makes of the delta: Rule.Apply gets it multiplied already
	Peers     int     // workers that share the run: those expected or in, and those who saw its end
	// From is, for a BaseRule, the centre that the worker was given last: the same elements as the other vectors.
	From []float32
}

// Report is what a worker tells about the window of a commit. The server hands it to its observer and forgets it.
type Report struct {
	Epoch    int
	Loss     float64   // mean over the samples of the window
	Metrics  []float64 // as the run's metrics list, means over the window
	ComputeS float64   // seconds of the window spent computing
	WaitS    float64   // seconds spent waiting for the previous exchange
	FeedS    float64   // seconds spent waiting for data
	Wire     Wire
}

// Wire says how a commit travelled. The zero value: it did not leave the process.
type Wire struct {
	Sent     int64   // bytes of the delta, and of deltas before it that had to be sent again
	Received int64   // bytes of the reply
	Codec    string  // of the delta
	Link     float64 // bytes in a second, as measured by the worker to choose a codec; else 0
}

// Ack answers a Commit.
type Ack struct {
	Version   uint64 // of the centre in the reply, or that the reply belongs to
	Staleness uint64 // versions that went by between Base and the apply
	Duplicate bool   // the commit had been applied before
	// Rejected says why the delta was not applied ("delta has NaN, infinity or more than 1.2e+18 at element 17"); empty when it was.
	// The positions have moved all the same, because those samples are spent; the reply is the centre, and the
	// worker goes on from it.
	Rejected string
	// Dropped says that the delta was not applied because it was too stale (Options.Staleness); otherwise as Rejected.
	Dropped bool
	// Window is how many local steps the worker is to do until its next commit; 0 leaves it to the worker.
	Window int
	Rate   float64 // Steering.Rate
	Stop   bool    // the run is over: finish, do not start another window
	// Decree numbers the step in which the data servers made the reply; 0 when there are none. See Sharded.
	Decree uint64
}

// Steering is what the coordinator of a run tells all of its workers while it goes on.
type Steering struct {
	// Rate is what learning rates are multiplied by; 0 means that nothing was said, which is as 1. It goes out with every
	// ack and every unit, so all workers have it at the next call that they make.
	Rate float64
	// Epochs, when it is not 0, is how many epochs may have begun: who asks for a unit of a later one waits until it
	// grows. So what is decided at the end of an epoch holds from the next one's first step on.
	Epochs int
}

// Rule is the server's half of a training algorithm. It is pure: same arguments, same bytes. It is implemented
// beside the worker's half in package trainers, one file an algorithm.
type Rule interface {
	// Slots is the number of state vectors a block has beside its centre.
	Slots() int
	// Apply folds delta into centre and fills reply, all of one block and of equal length; slots holds Slots()
	// vectors of that length, one after the other, and starts as zeros. reply is the new centre, or the elastic
	// difference, as the worker's half expects. The core takes no delta with an element that is not finite or not below
	// MaxDelta, and starts from a finite centre; Apply has to leave a finite one. No two of the four share memory. In Rounds mode delta is the mean
	// of a round, and c has Worker -1, the sum of the samples, and the most steps and the greatest staleness of any
	// member.
	Apply(centre, slots, delta, reply []float32, c Commit)
}

// BaseRule is implemented by a Rule that compares the centre with the one that the worker started from, Commit.From. The
// core then keeps that one for every worker: one vector a worker, and nothing more on the wire. Asynchronous only.
type BaseRule interface {
	Rule
	UsesBase() bool
}

// CentreRule is implemented by a Rule whose reply is always the new centre. The core then answers a repeated commit
// with the centre as it is now. For any other rule it must keep a copy of the last reply to every worker, which costs
// one more vector a worker and one more copy a commit.
type CentreRule interface {
	Rule
	RepliesCentre() bool
}

// Mode says when a commit is answered.
type Mode int

const (
	// Async applies and answers every commit when it comes.
	Async Mode = iota
	// Rounds waits until every active member has committed, applies the mean of the deltas, taken in worker order,
	// as one commit, and then answers all of them (bulk synchronous). A member that leaves is no longer waited for,
	// nor is one that waits in Next because there is no work for it. Those of Options.Workers that have not joined
	// yet are waited for until they join or are given up by Leave. With Options.Quorum a round waits for fewer.
	Rounds
)

// Unit is a piece of data to be worked through by one worker: one shard in one epoch.
type Unit struct {
	ID     int // Epoch*shards + Shard
	Epoch  int
	Shard  int
	Cursor []byte  // where to start: nil at the beginning, else as the last applied commit left it; the caller's own
	Rate   float64 // Steering.Rate
	// Pull is set when the worker waited for the unit and the centre is no longer the one that it got last: it pulls
	// (Seq 0) before the first step. In rounds all members so start from the same point.
	Pull bool
}

// Turn answers a worker that asks for its next unit.
type Turn int

const (
	// Work: a unit was handed out.
	Work Turn = iota
	// Flush: nothing to hand out before the caller has committed the samples it still holds, with a Done position
	// for each of its units; commit and ask again.
	Flush
	// Done: the run is over.
	Done
	// Wait: only from Core: the call is deferred and an Answer follows. A Server waits instead.
	Wait
)
