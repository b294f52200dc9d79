// Package trainers is the training engine: data-parallel training of one model by many workers around a parameter
// server.
//
// Its one idea: a training method is two small halves, the worker's (Local) and the server's (ps.Rule), and everything
// else is the same for all of them. An Algorithm joins the halves in one file; Work is the loop that every worker
// runs, in a goroutine, in a process of its own or on another machine; Train is the coordinator that starts workers,
// survives the loss of some and gives the result. Who may go on when, what becomes of late commits and how long a window
// is are asked of the engine by a Policy, whatever the algorithm.
//
// The life of a window, which is the time between two commits of one worker:
//
//	Server.Next      a unit of data: one shard in one epoch, from a cursor
//	Feed.Open        its batches
//	Replica.Step     gradient of one batch at x          \  Window times, across
//	Local.Step       x moves (usually by the optimizer)  /  the borders of units
//	Local.Delta      what the window learned, from base to x
//	Server.Exchange  one push and pull: delta and cursors go out, the reply comes back
//	Local.Adopt      x goes on from the reply
//
// The cursor of the data rides with the commit that contains it, so a sample counts as done exactly when what it
// taught is part of the centre. A worker that dies loses its open window; its data is handed to another one from
// the last acknowledged cursor on.
//
// Lint says before a run which settings are on the wrong side of the delay law (CriticalGain), and Simulate runs the real
// thing in virtual time, with hundreds of workers of any speed in one process. Algorithms in rounds repeat themselves bit
// for bit; any other run does by its order log (Replay).
//
// To add a method, write one file with both halves and add one line to the list in New; a program that has its own (see
// examples/optimizer) passes it to Train. Package trainertest holds the suite that every method must pass.
package trainers
