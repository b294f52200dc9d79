package box_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"dkpipe/internal/box"
)

// superviseWord makes the test binary a supervisor, as a command of the program does.
const superviseWord = "box-supervise"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == superviseWord {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := box.Supervise(ctx, os.Stdin, os.Stdout)
		stop()
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
