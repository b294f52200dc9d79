// Command dkpipe preprocesses data on Spark or in an embedded engine, trains neural networks data-parallel with a
// parameter server, and publishes models on HDFS or in a folder.
//
// Each subcommand is one file. build.go is the only place where names in a spec become types; exit.go is the only
// place where errors become exit codes.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// The first signal asks for an orderly end; after it the default handling is back, so a second one ends at once.
	context.AfterFunc(ctx, stop)
	// Buffers are made once and used again, so collecting twice as often costs little and halves what lies dead.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	a := newApp(os.Stdout, os.Stderr, os.Getenv)
	os.Exit(a.main(ctx, os.Args[1:]))
}
