// Package ps is the parameter server: one vector of parameters, the centre, that many workers push to and pull from.
//
// Core is the whole server as data: it has no socket, no clock, no goroutine and no randomness, so that a test can
// put it through any order of joins, commits, repeats and deaths. Calls that cannot be answered yet are deferred, and
// the core hands out their answers as data (Answer) when a later call makes them ready. Server is the shell that makes
// a core safe for many goroutines; ps/psrpc puts it on a socket.
//
// Three promises hold together:
//
//   - Exactly once. A commit is named by (worker, incarnation, sequence). A repeat is recognised and not applied
//     again. A worker that was given up lives on as an older incarnation, and everything it sends is refused
//     (ErrFenced) until it joins again.
//   - Parameters and data agree. The positions that a commit carries move in the same step as its delta is applied.
//     The work of a worker that died goes back to where its last applied commit left it, so each sample counts once
//     with respect to applied commits, however often a worker died while computing it.
//   - Rounds do not depend on timing. In Rounds mode the deltas of a round are averaged in the order of worker
//     numbers, and who belongs to a round is decided by the work there is, not by who was quick. The same run gives
//     the same bits.
//
// Parameters may be spread over several data servers (Server.Spread). The core then keeps everything but the vectors: it
// decides which commits count and in which order, and the data servers (Store) apply what it decided, each to its own
// blocks, all in the same order (Decree). A worker stages its delta at all of them, lets the core decide, and fetches the
// reply (Sharded). The bits are those of one server. When a data server is lost, the run waits (Server.Guard) and goes back to a
// snapshot, with another one in its place (Server.Replace).
//
// The life of a worker: Join, pull with sequence 0, then ask Next for a unit of data, work through it and commit every
// window; when Next says Flush, commit what is left and ask again; when it says Done, Leave.
package ps
