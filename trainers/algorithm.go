package trainers

import (
	"context"
	"math"

	"dkpipe/ps"
	"dkpipe/trainers/optim"
)

// Algorithm is one training method: plain data, safe for concurrent use, one file each. It has five methods because
// it joins two halves that run in different processes and says how they meet; none of them has a sensible default.
// workers is the number of workers of the run, as its configuration gives it.
type Algorithm interface {
	// Name is the name in the spec.
	Name() string
	// Mode says whether commits are answered at once or in rounds.
	Mode() ps.Mode
	// Window is the default number of local steps between two commits. 0 means that a worker commits only when the
	// server asks for it, which is at the end of an epoch in Rounds mode.
	Window(workers int) int
	// Rule makes the server's half.
	Rule(workers int) ps.Rule
	// Local makes the worker's half for one worker. opt is the worker's own optimizer; its state stays with the
	// worker over exchanges.
	Local(workers int, opt optim.Optimizer) Local
}

// Local is the worker's half of an algorithm. It belongs to one worker's goroutine and may keep state of its own.
// All slices have the length of the flat parameter vector, and none is kept after the call.
type Local interface {
	// Step moves x by one local step; grads is the mean gradient of one batch at x.
	Step(x, grads []float32)
	// Delta fills delta with what the worker commits after steps local steps, at least one, took it from base to x.
	// It may move x.
	Delta(delta, x, base []float32, steps int)
	// Adopt takes the rule's reply, which is in base when it is called. Afterwards x is where the worker goes on
	// from, and base what the next Delta starts from. When the server answers with the centre instead (a pull, a
	// commit that was rejected, dropped or had no steps), the engine copies it into x and base without a call.
	Adopt(x, base []float32)
}

// Adder is an extra power of a Local whose deltas are changes that the rule adds to the centre, as they are or made
// smaller, and whose worker goes on from the centre. Late deltas may then be scaled, dropped or put into another round, and
// an exchange may be under way while the worker goes on: the engine expects what it committed to be part of the next
// centre.
type Adder interface {
	Local
	// Adds does nothing; it marks the type.
	Adds()
}

// Piecewise is an extra power of a Local that can do without two of the worker's vectors: the gradient, which comes piece by
// piece then (model.Descender), and the delta. Delta may be called with delta being base itself, if the Local is an Adder,
// whose Adopt is then not called as it goes on from the centre anyway, or else with delta being x itself.
type Piecewise interface {
	Local
	// Pieces gives what takes the steps in the place of Step; nil where that is not possible, such as with an optimizer that has
	// to see the whole gradient. delta is what Delta will be called with, as long as the parameters: a Local that does not look
	// at base may build it up there.
	Pieces(delta []float32) Mover
}

// Mover takes a step piece by piece.
type Mover interface {
	// Begin starts a step.
	Begin()
	// Update moves x, which are the parameters at, at+1, …, by the step; grads is their mean gradient of one batch. Every
	// parameter gets one Update a step.
	Update(at int, x, grads []float32)
	// Lazy tells whether an Update with a gradient of zero changes nothing, so that it may be left out.
	Lazy() bool
}

// Resetter is an extra power of a Local with state of its own: Reset is called when the server refused a commit because its
// numbers were not finite, and x was set to the centre, so that what spoiled them is forgotten.
type Resetter interface{ Reset() }

// Due is an extra power of a Local that decides for itself when a window ends, such as one of your own. Without it a window ends after its number of steps or seconds.
type Due interface {
	// Due reports after every step whether to commit now; steps counts the open window, seconds is its age.
	Due(steps int, seconds float64) bool
}

// Checker is an extra power of an Algorithm that knows which settings do not work.
type Checker interface {
	// Check gives warnings about settings that are likely to diverge, each with a value that is not, and an error of
	// kind spec for impossible ones.
	Check(workers, window int) (warnings []string, err error)
}

// OnServer is an extra power of an Algorithm that runs the job's optimizer on the server. Its rule is then made by
// ServerRule, and Local is given the optimizer all the same.
type OnServer interface {
	// ServerRule is Rule with a way to make the optimizer for a number of parameters.
	ServerRule(workers int, optimizer func(params int) (optim.Optimizer, error)) (ps.Rule, error)
}

// Rule makes the server's half of an algorithm, wherever the server is. optimizer makes what train.optimizer names, for a
// number of parameters; it may be nil for an algorithm that is not OnServer.
func Rule(a Algorithm, workers int, optimizer func(params int) (optim.Optimizer, error)) (ps.Rule, error) {
	if s, ok := a.(OnServer); ok && optimizer != nil {
		return s.ServerRule(workers, optimizer)
	}
	return a.Rule(workers), nil
}

// Server takes commits and gives back the centre. *ps.Server is one in the same process, *psrpc.Client one over a
// socket; a conformance suite in ps/pstest holds for both.
type Server interface {
	// Exchange pushes c and fills dst, whose length is the number of parameters, with the rule's reply. It blocks
	// while a round is open. Cancelling ctx gives up waiting; the commit may have been applied all the same, and
	// repeating it with the same Seq is safe.
	Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error)
	// Next gives the worker its next unit of data. It blocks while other workers may still hand theirs back.
	Next(ctx context.Context, w ps.Worker, incarnation uint64) (ps.Unit, ps.Turn, error)
}

// single says whether a setting stays what it is in float32, which servers and workers compute in: 0, or a positive number that
// is neither so small that it loses digits or becomes 0, nor infinite. What divides by a lost one makes NaN.
func single(v float64) bool {
	const smallest = 0x1p-126
	return v == 0 || v >= smallest && v <= math.MaxFloat32
}
