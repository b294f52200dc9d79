// Package pipeline is the vocabulary of the data path: the few types that a batch meets between a source and a
// gradient, and the doors between the packages that handle it. It holds no behaviour worth the name. This page is
// the life of a batch; it is the first thing to read.
//
// # From source to gradient
//
//	source   CSV, Parquet, Arrow, JSON, IDX, on disk or HDFS      a table or a query in Spark
//	            │ Opener, Blob                                        │ Spark Connect
//	engine   pipeline/local                                        sparkconn
//	            │ Fit: statistics -> Plan.Fitted (data, as JSON)      │
//	            │ Write: Rows                                         │ Write: files
//	shards   dataset.Writer (Sink)                                 Spark's own writer
//	            └───────────────┬─────────────────────────────────────┘
//	         train/part-00000.parquet … and manifest.json, published in one step, never changed afterwards
//	                            │ Feed.Open(shard, cursor)
//	reader   BatchReader.Next -> *Batch                            one goroutine, one shard, one epoch
//	                            │
//	step     model.Replica.Step(batch)                             forward, backward: a flat gradient
//	                            │ a window of steps
//	commit   trainers.Server.Exchange(delta, positions)            the Cursor rides with the samples it counts
//
// A spec becomes a [Plan]. [Engine.Fit] reads the source, checks what the spec expects of it, and computes statistics
// from training rows alone; the result is the same plan with its fitted transformers, which are data and not code.
// [Engine.Write] runs the fitted plan. The embedded engine hands blocks of [Rows] to a [Sink]; an engine on a cluster
// writes files itself. Either way a row's part, its shard and its place in the shard follow from the hash of its key,
// equal on both engines, so the order in which rows arrived is forgotten here.
//
// The manifest lists every shard with its length and SHA-256. A [Feed] gives them out as [Shard] values, plain data
// that may travel to other processes, and opens one for a [BatchReader] at a [Cursor]. The order of an epoch's rows
// is a function of seed, shard, epoch and the feed's budget. It does not depend on how many workers there are or which
// of them reads, so a Cursor names a row, and a shard that a lost worker leaves half read is finished by another from the cursor of
// the last commit that the parameter server acknowledged. No sample is lost, and none counts twice.
//
// # Who owns the memory
//
//   - Blob: bytes read belong to who passed the slice to ReadAt. Nothing is mapped.
//   - Rows: the engine's, and reused for the next block. A Sink copies what it keeps before Write returns.
//   - Batch: the reader's. It is valid until the next call of Next or Close. A consumer does not keep it and does not
//     write into it: it may be a view of rows that other readers see too.
//   - A feed holds no more rows than its budget, whatever the size of the dataset. Once warm, Next allocates nothing.
//   - Arrow and Parquet end inside the engines and the feed: what leaves them is []float32, row-major.
//
// # What can go wrong
//
// Errors are [*Error] values, or carry the same two methods, and name the file, the row or the column. Their [Kind]
// decides the exit code and is the same in a log, in --json and over the wire.
//
//   - MissingColumn, Data, Expectation: the source is not what the spec says. Fit and Write fail before anything is
//     published; the last good version stays.
//   - Corrupt: bytes do not have the hash that the manifest promises, or a file is cut off. No batch of that shard was
//     given out.
//   - Changed: a shard was verified and later had other bytes, or processes look at different versions of a dataset.
//   - Unreachable, Denied, Timeout, NoSpace: the store's, passed on.
//   - io.EOF from Next is the end of the epoch of that shard, and no failure.
//
// Errors of a reader are sticky: what it said once it says again. It is closed all the same.
//
// # What cancels
//
// Every call that can wait takes a context, and the context given to Opener.Open or Feed.Open stays in force for what
// was opened: when it is cancelled, ReadAt and Next fail with an error that is context.Canceled by errors.Is. A read
// that is under way in a store may take until its next packet to notice. Close ends the goroutine that a reader owns
// and waits for it; it may be called twice, after an error, and in the middle of an epoch. Cancelling Engine.Write or
// Sink.Finish leaves nothing behind but an unpublished stage folder, which the next run removes.
//
// # Where to read on
//
// batch.go and blob.go hold the doors of feeding, plan.go those of preparing, errors.go the kinds. Each door has a
// conformance suite in pipetest, which is its contract in executable form.
package pipeline
