package boxtest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that remembers how it was ended.
type recorder struct {
	testing.TB
	failed, skipped string
}

func (*recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skip(args ...any) {
	r.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

// record runs what may end a test.
func record(t *testing.T, run func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r
}

func TestAMissingServerSkipsUnlessItIsRequired(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	for require, fails := range map[string]bool{"": false, "spark": false, "hdfs": true, "spark,hdfs": true} {
		t.Setenv("DKPIPE_REQUIRE", require)
		r := record(t, func(tb testing.TB) { Need(tb, "hdfs") })
		if fails != (r.failed != "") || fails == (r.skipped != "") {
			t.Errorf("DKPIPE_REQUIRE=%q: failed %q, skipped %q", require, r.failed, r.skipped)
		}
	}
}

func TestASharedBoxThatDoesNotRunIsNeverSkipped(t *testing.T) {
	t.Setenv("DKPIPE_BOX", t.TempDir())
	r := record(t, func(tb testing.TB) { Shared(tb, "hdfs") })
	if !strings.Contains(r.failed, "DKPIPE_BOX") {
		t.Errorf("failed %q, skipped %q", r.failed, r.skipped)
	}
}
