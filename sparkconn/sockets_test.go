//go:build linux

package sparkconn

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/sparkconn/sparktest"

	"github.com/apache/arrow-go/v18/arrow"
	"google.golang.org/grpc/codes"
)

// sockets counts the sockets that this process has open.
func sockets(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// TestNoSocketIsLeft: however it ended, what was dialled is closed, and Close gives back the rest.
func TestNoSocketIsLeft(t *testing.T) {
	locked := sparktest.Start(t, sparktest.Options{Token: "s3cret"})
	old := sparktest.Start(t, sparktest.Options{Version: "3.3.2"})
	fake := sparktest.Start(t, sparktest.Options{})
	refused := func(remote string) func(*testing.T) {
		return func(t *testing.T) {
			if s, err := Dial(t.Context(), remote, Options{DialTimeout: 5 * time.Second}); err == nil {
				s.Close()
				t.Error("no error")
			}
		}
	}
	with := func(op sparktest.Operation, each func(cancel context.CancelFunc) error) func(*testing.T) {
		return func(t *testing.T) {
			s, err := Dial(t.Context(), fake.Remote, Options{Patience: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			op.Batches = batches(t, 3)
			fake.Play(op)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if err := s.Query(ctx, "", "SELECT 1", func(arrow.RecordBatch) error { return each(cancel) }); err == nil {
				t.Error("no error")
			}
		}
	}
	nothing := func(context.CancelFunc) error { return nil }
	for name, end := range map[string]func(*testing.T){
		"nothing listens":     refused("sc://127.0.0.1:1"),
		"a wrong token":       refused(locked.Remote + "/;token=hush"),
		"TLS":                 refused(fake.Remote + "/;use_ssl=true"),
		"an old server":       refused(old.Remote),
		"an error of a query": with(sparktest.Operation{Streams: []sparktest.Stream{{Send: 1, Then: sparktest.Refuse, Code: codes.Internal, Message: "no"}}}, nothing),
		"a lost operation":    with(sparktest.Operation{Streams: []sparktest.Stream{{Send: 1, Then: sparktest.End}, {Unknown: true}}}, nothing),
		"a server that is gone": with(sparktest.Operation{Streams: []sparktest.Stream{{Send: 1, Then: sparktest.Cut}, {Then: sparktest.Cut}, {Then: sparktest.Cut}, {Then: sparktest.Cut},
			{Then: sparktest.Cut}, {Then: sparktest.Cut}, {Then: sparktest.Cut}, {Then: sparktest.Cut}, {Then: sparktest.Cut}}}, nothing),
		"a query that is cancelled": with(sparktest.Operation{Streams: []sparktest.Stream{{Send: 1, Then: sparktest.Hang}}}, func(cancel context.CancelFunc) error { cancel(); return nil }),
		"a consumer's error":        with(sparktest.Operation{}, func(context.CancelFunc) error { return &pipeline.Error{Kind: pipeline.Data} }),
	} {
		t.Run(name, func(t *testing.T) {
			before := sockets(t)
			end(t)
			tick := time.NewTicker(5 * time.Millisecond) // the other side, which is in this process, closes a moment later
			defer tick.Stop()
			deadline := time.After(10 * time.Second)
			for sockets(t) > before {
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatalf("%d sockets before, %d after", before, sockets(t))
				}
			}
		})
	}
}
