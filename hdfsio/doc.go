// Package hdfsio offers one small file system over HDFS, local folders and memory.
package hdfsio
