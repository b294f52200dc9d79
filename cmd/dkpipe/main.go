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
	"time"
)

// interruptible is a context that the first signal ends, in an orderly way. A moment after it the default handling is back,
// so that one more signal ends the process at once. Not before: whoever signals the process and then its whole group, as
// timeout(1) does, sends two together.
func interruptible() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	return ctx
}

func main() {
	ctx := interruptible()
	// Buffers are made once and used again, so collecting twice as often costs little and halves what lies dead.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	a := newApp(os.Stdout, os.Stderr, os.Getenv)
	os.Exit(a.main(ctx, os.Args[1:]))
}
