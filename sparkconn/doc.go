// Package sparkconn runs pipelines on Spark, by way of Spark Connect: a pipeline.Engine whose numbers equal those of
// pipeline/local, and a pipeline.Feed of live streams.
//
// The idea: a plan becomes SQL text, and everything that matters happens on the cluster. Rows come to this process
// only as statistics or as shards that were asked for.
//
//   - remote.go, session.go, execute.go, query.go: the connection. A Session speaks the protocol itself, over gRPC.
//   - sql.go, sqlops.go, lambda.go: trees of pipeline/expr as Spark SQL, checked by the golden corpus on a real server.
//   - source.go, chain.go: a source and the steps over it as one chain of SELECTs.
//   - engine.go, explain.go, fit.go, stats.go, expect.go, guard.go, write.go, tasks.go, progress.go: the engine.
//   - live.go: the feed.
//
// # Why protocol messages, not data frames
//
// The protocol messages are those of spark-connect-go, set and read by field name because their Go types are internal
// to that module. Its DataFrame calls are not used: they hold whole results in memory, lose what a broken stream had
// still to give, never release operations, know no tags, no interrupt and no options of writers, and keep the client's
// session id to themselves. Statements as text need one message; the rest is the life of an operation (execute.go):
// every operation is reattachable, carries a tag, counts as done only at ResultComplete, and is released at its end,
// which also ends its job when the context is over.
package sparkconn
