// Package dataset keeps prepared rows at rest and feeds them to training: a manifest, shards, and nothing else.
//
// A dataset version is a folder that is never changed after it was published. manifest.json lists its columns, the
// fitted transformers that made them, and every shard with its length and SHA-256. A shard is a Parquet file whose
// feature columns are fixed-length byte arrays of little-endian float32 (encoding f32le): no levels, no dictionary,
// no compression, so that reading is hashing and copying. Shards written by Spark hold array<float> (list), Avro
// blocks (avro_f32) or bytes (u8) instead; the reader takes all four.
//
// Writer is the pipeline.Sink that makes shards: each one is sorted by the hash of the row's key, whatever the order
// the rows came in and whatever their number, within a memory budget.
//
// Feed is the pipeline.Feed that reads them: it trusts no byte that the manifest does not vouch for, shuffles with a
// seed so that a position in an epoch means the same row to every worker, and holds no more memory than it was given.
package dataset
