package publish

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"

	"pgregory.net/rapid"
)

// undated hides the deadline of a test, which has no meaning in a bubble of synctest.
type undated struct{ testing.TB }

// TestReadersSeeACompleteVersionAtEveryInstant does random runs, rollbacks and retentions on a store that fails at
// random calls, with answers lost, writes cut short and processes that die. Between any two calls of the store a
// reader looks: LATEST names a complete version and the hashes match. In the end a run without faults succeeds.
func TestReadersSeeACompleteVersionAtEveryInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(undated{t}, func(t *rapid.T) {
			f, m := memory()
			ctx := context.Background()
			instant := func(context.Context, string) {
				if err := sound(ctx, m, root); err != nil {
					panic(err) // ends the call in the middle; rapid reports it
				}
			}
			opt := Options{Wait: 2 * time.Minute}
			published := 0
			for i := range rapid.IntRange(1, 5).Draw(t, "runs") {
				f.Clear()
				f.Add(hdfstest.Fault{Hook: instant})
				for range rapid.IntRange(0, 2).Draw(t, "faults") {
					f.Add(drawFault(t))
				}
				switch rapid.IntRange(0, 3).Draw(t, "trouble") {
				case 0:
					f.FreezeAfter(rapid.IntRange(1, 90).Draw(t, "dies after"), rapid.Bool().Draw(t, "lost"), syscall.EPIPE)
				case 1:
					f.Space(rapid.Int64Range(0, 4000).Draw(t, "space"))
				}
				tag := fmt.Sprint("run", rapid.IntRange(0, i).Draw(t, "slot"))
				var err error
				if published > 1 && rapid.Bool().Draw(t, "rollback") {
					err = rollback(ctx, f, opt)
				} else if _, err = run(ctx, f, root, tag, opt); err == nil {
					published++
				}
				instant(ctx, "")
				if err != nil && hdfsio.KindOf(err) == hdfsio.KindBusy {
					t.Fatalf("run %d: %v", i, err)
				}
			}
			f.Clear()
			for _, tag := range []string{"last", "very last"} {
				v, err := run(ctx, f, root, tag, opt)
				if err != nil {
					t.Fatal(err)
				}
				if found, err := Latest(ctx, m, root); err != nil || found.Version != v || found.Warning != "" {
					t.Fatalf("LATEST is %s (%q, %v), want %s", found.Version, found.Warning, err, v)
				}
			}
			if err := clean(ctx, m, root); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// drawFault draws a call that fails, with or without being done.
func drawFault(t *rapid.T) hdfstest.Fault {
	ops := []hdfstest.Op{hdfstest.Open, hdfstest.Create, hdfstest.Stat, hdfstest.List, hdfstest.Mkdir, hdfstest.Rename, hdfstest.Remove, hdfstest.Write, hdfstest.Close}
	return hdfstest.Fault{
		Op:   rapid.SampledFrom(ops).Draw(t, "op"),
		Nth:  rapid.IntRange(1, 12).Draw(t, "nth"),
		Err:  rapid.SampledFrom([]error{syscall.ECONNRESET, syscall.ETIMEDOUT, syscall.EIO, syscall.EACCES}).Draw(t, "err"),
		Done: rapid.Bool().Draw(t, "done"),
		Part: rapid.IntRange(0, 5).Draw(t, "part"),
	}
}

// rollback is the run of a command that goes back to the version before.
func rollback(ctx context.Context, fsys hdfsio.FS, opt Options) error {
	l, err := Acquire(ctx, fsys, root, opt)
	if err != nil {
		return err
	}
	defer l.Release(ctx)
	_, _, err = l.Rollback(ctx, 0)
	return err
}
