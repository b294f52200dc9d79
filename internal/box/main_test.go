package box

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// superviseWord makes the test binary a supervisor, as the program's own command is one.
const superviseWord = "box-supervise"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == superviseWord {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := Supervise(ctx, os.Stdin, os.Stdout)
		stop()
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// needServers skips a test where the servers cannot run, unless they are required.
func needServers(t *testing.T, which ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers; run without -short")
	}
	for _, program := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		for _, w := range which {
			if strings.Contains(os.Getenv("DKPIPE_REQUIRE"), w) {
				t.Fatalf("DKPIPE_REQUIRE asks for %s, and there is no %s on PATH", w, program)
			}
		}
		t.Skipf("no %s on PATH: install openjdk-17-jdk-headless and maven to run this test", program)
	}
}
