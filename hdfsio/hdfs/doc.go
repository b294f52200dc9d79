// Package hdfs is the hdfsio.FS of a real HDFS.
//
// The one idea: the library github.com/colinmarc/hdfs speaks to the NameNode and writes files, and nobody but this
// package ever sees it. It has no deadlines, hides failures of writes until the end of a block, and hands out bytes
// whose checksum is wrong; so it is kept behind guards here, and reading does not go through it at all:
//
//   - Calls. Every call runs on a client of its own out of a pool, with a deadline and the caller's context. A client
//     whose call failed below the protocol, timed out or was cancelled is closed and never used again, because late
//     answers would be taken for those of later calls. A call is repeated only when the error says that this may help
//     and when doing it twice is the same as doing it once. A rename is never repeated: its error says that the outcome
//     is not known, and package publish settles that by looking.
//   - Reads. Block locations come from a remote call of our own and bytes from a reader of our own, which checks every
//     chunk against its CRC before it gives it away, and turns to the next replica when one is broken, slow or gone.
//     A wrong byte never reaches the caller; when all replicas are bad, the error has the kind corrupt.
//   - Writes. After the first failure a file is poisoned: Write and Close fail for good, and Abort removes it. The
//     acknowledgements of the datanodes are watched as they arrive. Close returns nil only when the NameNode has the
//     file complete with the same identity and the length that was written.
//   - Configuration. Load reads Hadoop's XML files as Hadoop does, and Resolve keeps the name services of one file apart.
//
// Not served, and refused by name: Kerberos, encrypted data transfer, erasure-coded files, files in encryption zones,
// files without checksums, viewfs.
package hdfs
