package sparkconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestAStatementThatIsCancelledAtOnceEnds cancels a write of rows that take 15 s while Spark is still planning it, which is when
// Spark was seen to lose an interrupt. The rows leave their number in a property of Spark's JVM.
func TestAStatementThatIsCancelledAtOnceEnds(t *testing.T) {
	look := dialReal(t)
	last := func(key string) int {
		got, err := look.table(t.Context(), "the last row", "", "SELECT reflect('java.lang.System', 'getProperty', '"+key+"', '0')")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(got.cols[0].texts[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const rows = 300 // of each of two tasks
	for _, after := range []time.Duration{10, 40, 70, 100, 130} {
		s := dialReal(t)
		key := "row-" + uuid.NewString()
		ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
		err := s.Exec(ctx, "", fmt.Sprintf("INSERT OVERWRITE DIRECTORY 'file://%s' USING parquet SELECT /*+ REPARTITION(2, id) */ id FROM range(0, %d, 1, 2)"+
			" WHERE reflect('java.lang.Thread', 'sleep', 50L) IS NOT NULL AND reflect('java.lang.System', 'setProperty', '%s', CAST(id AS STRING)) IS NOT NULL",
			t.TempDir(), 2*rows, key))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("after %d ms: %v", after, err)
		}
		// As long as rows are made, one is made every 25 ms; a look may take until there are no more.
		until(t, "no row is made any more", func() bool {
			was := last(key)
			time.Sleep(time.Second)
			return last(key) == was
		})
		if n := last(key); n%rows > rows*9/10 {
			t.Errorf("cancelled after %d ms the job went on to row %d", after, n)
		}
	}
}

// TestTheServerReportsSoonThatAJobRuns: what waits for that waits less than a second.
func TestTheServerReportsSoonThatAJobRuns(t *testing.T) {
	s := dialReal(t)
	if strings.HasPrefix(s.Version(), "3.") {
		t.Skip("Spark " + s.Version() + " does not report progress")
	}
	early := false // there was a report before the first of two tasks was done, which takes 1.5 s
	err := s.execute(t.Context(), "a slow query", "", sqlPlan("SELECT reflect('java.lang.Thread', 'sleep', 10L) FROM range(0, 300, 1, 2)"),
		watch(func(p Progress) { early = early || p.Tasks == 0 }, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !early {
		t.Error("no report while the job's first tasks ran")
	}
}
