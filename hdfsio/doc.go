// Package hdfsio offers one small file system over HDFS, local folders and memory.
//
// The one idea: whoever stores or reads anything in this program does it through FS, eight calls that all three
// kinds of store can keep their word on. What the stores cannot do alike is left out: there is no append, no
// in-place change, no lock and no permission bit. What they can do alike is promised exactly, and hdfstest.TestFS
// holds every implementation to it:
//
//   - Create is exclusive: of any number of callers one succeeds.
//   - Rename is one step. Over a file it replaces, over a folder that is not empty it fails, so moving a prepared
//     folder to its final name publishes it whole, once. Package publish builds on these two.
//   - A file counts only when Close of its Writer returned nil; then its bytes and its name are as durable as the
//     store can make them.
//   - Errors name operation and path, satisfy errors.Is for the classes of io/fs, and carry a kind (see Error).
//
// Names are slash-separated paths on one store. Parse splits what a user writes (hdfs://ns/p, file:///p, a plain
// path) into store and path, and Stores opens the store.
package hdfsio
