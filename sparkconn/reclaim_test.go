package sparkconn

import (
	"context"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// isCached looks, from a session of its own, whether Spark has the rows of a plan.
func isCached(t *testing.T, p pipeline.Plan) bool {
	t.Helper()
	s := dialReal(t)
	cached := false
	err := Engine{Session: s}.run(t.Context(), p, func(ctx context.Context, r *run) error {
		r.src.nested = true
		c, outputs, err := r.finished(false, false)
		if err != nil {
			return err
		}
		got, err := r.table(t.Context(), "explain", "EXPLAIN "+rowsSQL(c, outputs, p.Shards, true))
		if err == nil {
			cached = strings.Contains(strings.Join(got.cols[0].texts, "\n"), "InMemoryRelation")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return cached
}

// TestAnAbandonedLiveDatasetIsReclaimed: with the session of the process that died, and when that is gone and Spark still has
// the rows.
func TestAnAbandonedLiveDatasetIsReclaimed(t *testing.T) {
	file := csvPlan(t, "id,x\n1,2\n2,3\n3,5\n")
	file.Fitted = []expr.Fitted{}
	for name, p := range map[string]pipeline.Plan{"query": livePlan(), "file": file} {
		p.Shards = 4 + len(name) // rows that no other test keeps
		for _, session := range []string{"lives", "has ended"} {
			t.Run(name+", the session "+session, func(t *testing.T) {
				dead, err := Dial(t.Context(), realServers(t).Spark, Options{})
				if err != nil {
					t.Fatal(err)
				}
				live := materialized(t, dead, p)
				if session == "has ended" {
					if err := dead.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if !isCached(t, p) {
					t.Fatal("the rows are not in Spark")
				}
				s := dialReal(t)
				for range 2 { // what was reclaimed before is no error
					if err := (Engine{Session: s}).Reclaim(t.Context(), p, Engine{Session: dead}.Work(), live.Table); err != nil {
						t.Fatal(err)
					}
				}
				if isCached(t, p) {
					t.Error("Spark still has the rows")
				}
				if session == "lives" {
					if err := dead.Exec(t.Context(), "", "SELECT 1"); err == nil || !strings.Contains(err.Error(), "SESSION_CLOSED") {
						if !strings.HasPrefix(dead.Version(), "3.") { // it cannot release sessions
							t.Errorf("the session was not released: %v", err)
						}
					}
					if err := dead.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
