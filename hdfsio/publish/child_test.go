package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dkpipe/hdfsio"
)

// startChild starts this test program as a process that does one job.
func startChild(t *testing.T, job string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PUBLISH_TEST_CHILD="+job)
	cmd.Stderr = os.Stderr
	if job == "exit" {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

// child is the program of a child process.
func child(job string) int {
	ctx := context.Background()
	switch job {
	case "exit":
		return 0
	case "crash": // root, tag, number of the point
		n, err := strconv.Atoi(os.Args[3])
		if err != nil {
			return 2
		}
		opt := fast
		opt.At = func(string) {
			if n--; n == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		if _, err := run(ctx, &hdfsio.Local{}, os.Args[1], os.Args[2], opt); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "pin": // root; reads the first version for ever
		_, err := PinVersion(ctx, &hdfsio.Local{}, os.Args[1], 1, Options{})
		fmt.Println("pinned", err)
		select {}
	case "hold": // root; publishes after a line on stdin
		l, err := Acquire(ctx, &hdfsio.Local{}, os.Args[1], fast)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer l.Release(ctx)
		s, err := l.Stage(ctx)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		err = s.WriteFile(ctx, "weights", []byte("held"))
		fmt.Println("holds", err)
		bufio.NewReader(os.Stdin).ReadString('\n')
		if _, err = s.Publish(ctx, nil); err == nil {
			err = l.MoveLatest(ctx, s.Version())
		}
		fmt.Println(errors.Is(err, ErrLost), strings.ReplaceAll(fmt.Sprint(err), "\n", " "))
		return 0
	}
	return 2
}
