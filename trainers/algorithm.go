package trainers

import (
	"context"

	"dkpipe/ps"
)

// Algorithm is one training method: the worker's half here, the server's half as a ps.Rule. One file each.
// An Algorithm is plain data and safe for concurrent use.
type Algorithm interface {
	// Name is the name in the spec.
	Name() string
	// Rule is the server's half.
	Rule() ps.Rule
	// Mode says whether commits are answered at once or in rounds.
	Mode() ps.Mode
	// Delta fills delta with what the worker commits after steps local steps took it from base to x. It may move x
	// (elastic methods do).
	Delta(delta, x, base []float32, steps int)
	// Adopt takes the server's reply: afterwards x is where the worker goes on from, and base what the next Delta
	// starts from.
	Adopt(x, base, reply []float32)
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
