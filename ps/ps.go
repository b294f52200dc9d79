package ps

// Worker numbers the workers of a run from 0.
type Worker int32

// Position says how far a worker has come in one unit of work. It rides with the commit that contains those samples,
// so "applied" and "this data is done" are one fact.
type Position struct {
	Unit   int
	Cursor []byte // opaque to the server: pipeline.Cursor in its wire form
	Done   bool   // nothing of the unit is left
}

// Commit is one push of a worker, and at the same time its pull: the reply carries the new centre.
// (Worker, Incarnation, Seq) identifies it: a repeat is answered as the first time and not applied again.
type Commit struct {
	Worker      Worker
	Incarnation uint64 // of the worker's life; an older one is fenced off
	Seq         uint64 // 1, 2, 3, … within an incarnation; 0 pulls without pushing
	Base        uint64 // version of the centre that the delta started from
	Steps       int    // local steps in the delta
	Samples     int64  // samples in the delta
	Positions   []Position
	Delta       []float32 // nil when Seq is 0; owned by the caller, not kept after Exchange returned
	Staleness   uint64    // set by the core before Rule.Apply: versions that went by since Base
	Report      Report
}

// Report is what a worker tells about the window of a commit. The server hands it to its observer and forgets it.
type Report struct {
	Epoch    int
	Loss     float64   // mean over the samples of the window
	Metrics  []float64 // as the run's metrics list, means over the window
	ComputeS float64   // seconds of the window spent computing
	WaitS    float64   // seconds spent waiting for the previous exchange
	FeedS    float64   // seconds spent waiting for data
}

// Ack answers a Commit.
type Ack struct {
	Version   uint64 // of the centre in the reply
	Staleness uint64 // versions that went by between Base and the apply
	Duplicate bool   // the commit had been applied before
	Rejected  string // not applied, and why ("delta has NaN"); the reply is the centre, the worker goes on from it
	Stop      bool   // the run is over: finish, do not start another window
}

// Rule is the server's half of a training algorithm. It is pure: same arguments, same bytes. It is implemented
// beside the worker's half in package trainers, one file an algorithm.
type Rule interface {
	// Slots is the number of state vectors a block has beside its centre.
	Slots() int
	// Apply folds delta into centre and fills reply, all of one block and of equal length; slots holds Slots()
	// vectors of that length, one after the other. reply is the new centre, or the elastic difference, as the
	// worker's half expects. reply may not alias centre.
	Apply(centre, slots, delta, reply []float32, c Commit)
}

// Mode says when a commit is answered.
type Mode int

const (
	// Async applies and answers every commit when it comes.
	Async Mode = iota
	// Rounds waits until every active member has committed, applies the mean of the deltas, taken in worker order,
	// as one commit, and then answers all of them (bulk synchronous). A member that leaves is no longer waited for.
	Rounds
)

// Unit is a piece of data to be worked through by one worker: one shard in one epoch.
type Unit struct {
	ID     int // Epoch*shards + Shard
	Epoch  int
	Shard  int
	Cursor []byte // where to start: nil at the beginning, else as the last acknowledged commit left it
}

// Turn answers a worker that asks for its next unit.
type Turn int

const (
	// Work: a unit was handed out.
	Work Turn = iota
	// Flush: nothing to hand out before the caller has committed the samples it still holds; commit and ask again.
	Flush
	// Done: the run is over.
	Done
)
