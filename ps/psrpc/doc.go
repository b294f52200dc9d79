// Package psrpc puts a ps.Server on a socket. Server is the one end, Client the other; a Client offers a worker the same
// two calls that ps.Server does, Exchange and Next.
//
// Control messages are protobuf (package pspb). Parameters are not: on the one long-lived Exchange stream of a worker
// they travel as frames of raw little-endian float32, which the codec of this package passes to the transport without
// copying them, and copies on arrival straight to where they belong. On a slow link they are packed (Codec): what a lossy
// codec leaves out of a commit stays with the worker and rides with the next one.
//
// An exchange is not pipelined: the whole delta arrives, the rule is applied under one lock, the whole reply goes back. A delta
// counts wholly or not at all, and may be refused for its last element, so nothing of it can be applied before all of it is
// there. What that costs is in BENCHMARKS.md, beside the same bytes over a bare socket. The reply's first blocks could leave
// while later ones are applied; that would keep up the server's lock, or a copy of the reply, for the time of sending.
//
// The parameters may be spread over several processes (DataServer). The coordinator, the Server that workers join, then
// keeps members, units of data and the order of commits, and tells the data servers what to apply (Keeper); a Client finds
// their addresses in the answer to its Join and exchanges with all of them at once.
//
// A connection may break at any point of a call. The client connects again and repeats the call under the same number,
// and the core sees to it that it counts once. A life of a worker ends when it leaves, when its heartbeats stay away for
// a lease, or when its session breaks, as it does when its process is killed, and does not come back within a short grace. The
// session has a connection of its own, so that a large commit on a slow link does not hold up heartbeats.
//
// Every call must carry the ticket of the run, because the other users of the machine can reach the port too. Without more
// both ends keep to loopback and unix sockets. Beyond them they speak TLS: an Authority, made for the run, signs for its
// servers, and its tickets carry its fingerprint, so that nothing else has to be handed out. The ticket is handed to a worker's process in its environment or in an inherited
// file, never in its arguments.
package psrpc
