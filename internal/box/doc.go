// Package box starts a real Spark Connect server and a real HDFS on this machine, for tests and for trying things out.
//
// The one idea: a box is a folder and a supervisor. The folder holds everything that the servers write and box.json,
// which says where they listen; the supervisor is a process that holds the standard input of every server. A server
// whose standard input ends, ends itself, so nothing outlives the supervisor, however it was killed; and when a
// server dies, the supervisor ends and box.json says why.
//
// What runs is Spark and Hadoop from Maven Central with a small Java program in front (folder harness), which
// starts servers and carries out the commands of fault tests. By default one JVM holds all of it. All listeners are
// on 127.0.0.1 with ports that the kernel chooses, so any number of boxes run side by side.
//
// Up starts a box and returns, leaving a detached supervisor; Run supervises in the caller. Status, Env, Control and
// Down work on the folder, from any process. Every start begins with an empty HDFS.
package box
