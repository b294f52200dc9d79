// Package boxtest gives tests a real Spark and a real HDFS.
//
// The one idea: a test says what it needs and gets a box, the one that DKPIPE_BOX names or one of its own. Where the
// servers cannot run the test is skipped, unless DKPIPE_REQUIRE says that this may not happen.
package boxtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/internal/box"
)

// Need skips the test where servers cannot be started: there is no java, javac or mvn, or -short was given. When
// DKPIPE_REQUIRE, a list with commas, holds one of the servers ("spark", "hdfs"), it fails the test instead.
func Need(t testing.TB, servers ...string) {
	t.Helper()
	reason := missing()
	if reason == "" {
		return
	}
	required := strings.Split(os.Getenv("DKPIPE_REQUIRE"), ",")
	for _, s := range servers {
		if slices.Contains(required, s) {
			t.Fatalf("DKPIPE_REQUIRE asks for %s: %s", s, reason)
		}
	}
	t.Skip("needs " + strings.Join(servers, " and ") + ": " + reason)
}

// missing says why servers cannot be started, or nothing.
func missing() string {
	if testing.Short() {
		return "-short starts no servers"
	}
	for program, pkg := range map[string]string{"javac": "openjdk-17-jdk-headless", "mvn": "maven"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if program == "javac" {
			if _, err := exec.LookPath(filepath.Join(os.Getenv("JAVA_HOME"), "bin", program)); err == nil {
				continue
			}
		}
		return "there is no " + program + " (Debian, Ubuntu: apt-get install " + pkg + ")"
	}
	return ""
}

// Shared gives the running box whose folder DKPIPE_BOX names, for tests that break nothing and use names of their
// own; without one it starts a box for this test. The servers are "spark" and "hdfs", or one of them.
func Shared(t testing.TB, servers ...string) box.Box {
	t.Helper()
	dir := os.Getenv("DKPIPE_BOX")
	if dir == "" {
		o := box.Options{}
		if len(servers) == 1 {
			o.Only = servers[0]
		}
		return Start(t, o)
	}
	b, err := box.Status(dir)
	if err != nil {
		t.Fatalf("DKPIPE_BOX: %v", err)
	}
	if b.State != box.Running {
		t.Fatalf("DKPIPE_BOX: the box in %s is %s: %s", dir, b.State, b.Error)
	}
	if slices.Contains(servers, "spark") && b.Spark == "" || slices.Contains(servers, "hdfs") && b.HDFS == "" {
		t.Fatalf("DKPIPE_BOX: the box in %s has spark %q and hdfs %q, the test needs %v", dir, b.Spark, b.HDFS, servers)
	}
	return b
}

// Start starts a box that ends with the test, or sooner by box.Down. Without a Dir it gets one of its own, without a
// version of Spark that of DKPIPE_SPARK.
func Start(t testing.TB, o box.Options) box.Box {
	t.Helper()
	switch o.Only {
	case "":
		Need(t, "spark", "hdfs")
	default:
		Need(t, o.Only)
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.SparkVersion == "" {
		o.SparkVersion = os.Getenv("DKPIPE_SPARK")
	}
	if o.Progress == nil {
		o.Progress = func(text string) { t.Log(text) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan box.Box, 1)
	ended := make(chan error, 1)
	go func() { ended <- box.Run(ctx, o, func(b box.Box) { ready <- b }) }()
	select {
	case b := <-ready:
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Logf("the box in %s: %v", o.Dir, err)
			}
		})
		return b
	case err := <-ended:
		cancel()
		t.Fatal(err)
		return box.Box{}
	}
}
