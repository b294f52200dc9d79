package sparkconn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/pipetest"
)

// livePlan is a plan of 700 rows with inputs of widths 1 and 3, an output and a weight.
func livePlan() pipeline.Plan {
	p := sqlOver("SELECT id, CAST(id AS FLOAT) AS x, array(CAST(id AS DOUBLE), 1D, -2.5D) AS v, id % 7 AS y, 1D + id % 3 AS w FROM range(0, 700, 1, 3)")
	p.Columns = pipeline.Columns{X: []string{"x", "v"}, Y: []string{"y"}, Weight: "w", Keep: []string{"id"}}
	p.Fitted = []expr.Fitted{}
	return p
}

func materialized(t *testing.T, s *Session, p pipeline.Plan) Live {
	t.Helper()
	live, err := Engine{Session: s}.Materialize(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return live
}

func TestALiveFeedKeepsItsPromises(t *testing.T) {
	s := dialReal(t)
	live := materialized(t, s, livePlan())
	rows := int64(0)
	for _, sh := range live.Shards {
		if sh.Split == "train" {
			rows += sh.Rows
		}
	}
	for name, opt := range map[string]FeedOptions{
		"shuffled": {BatchSize: 32, Shuffle: true, Seed: 5},
		"in the order of files, without room to keep them": {BatchSize: 17, SpoolBytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			pipetest.TestFeed(t, func(t *testing.T) pipetest.FeedCase {
				opt.Dir = t.TempDir()
				f, err := OpenLive(t.Context(), s, live, opt)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := f.Close(); err != nil {
						t.Error(err)
					}
					if left, err := os.ReadDir(opt.Dir); err != nil || len(left) > 0 {
						t.Errorf("%v is left, %v", left, err)
					}
				})
				return pipetest.FeedCase{Feed: f, BatchSize: opt.BatchSize, X: []int{1, 3}, Y: []int{1}, Weight: true, Rows: rows, Shuffled: opt.Shuffle}
			})
		})
	}
	if err := live.Drop(t.Context(), s); err != nil {
		t.Error(err)
	}
}

func TestALiveDatasetHasTheRowsOfFilesInTheirOrder(t *testing.T) {
	s := dialReal(t)
	p := livePlan()
	live := materialized(t, s, p)
	data, err := json.Marshal(live)
	if err != nil {
		t.Fatal(err)
	}
	var there Live // in another process
	if err := json.Unmarshal(data, &there); err != nil {
		t.Fatal(err)
	}
	worker, err := Dial(t.Context(), realServers(t).Spark+"/;session_id="+there.Session, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	stage, read := stageIn(t, []string{"train", "test"})
	w, err := Engine{Session: s}.Write(t.Context(), p, stage)
	if err != nil {
		t.Fatal(err)
	}
	files, err := read(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"train", "test"} {
		f, err := OpenLive(t.Context(), worker, there, FeedOptions{Split: part, BatchSize: 50, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		shards, err := f.Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, sh := range shards {
			r, err := f.Open(t.Context(), sh, pipeline.Cursor{})
			if err != nil {
				t.Fatal(err)
			}
			for {
				b, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for i := range b.Rows {
					want := files[0].Vectors
					files = files[1:]
					if b.X[0][i] != want[0][0] || b.X[1][3*i] != want[1][0] || b.X[1][3*i+2] != -2.5 || b.Y[0][i] != want[2][0] || b.Weight[i] != want[3][0] {
						t.Fatalf("%s: row %v, in the files %v", sh.Path, b.X[0][i], want)
					}
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(files) != 0 {
		t.Errorf("%d rows of the files are missing", len(files))
	}
}

func TestALargeLiveShardIsRefusedWithTheNumberToSet(t *testing.T) {
	e := Engine{Session: dialReal(t)}
	p := livePlan()
	const limit = 1000
	_, err := e.Materialize(t.Context(), p, limit)
	wantError(t, err, pipeline.BadSpec, "train/shard-0000", "24 bytes", "the limit is 1000 bytes")
	var refused *pipeline.Error
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if n, _ := fmt.Sscanf(refused.Hint, "set dataset.shards to at least %d", &p.Shards); n != 1 || p.Shards <= 3 {
		t.Fatalf("no number in %q", refused.Hint)
	}
	live, err := e.Materialize(t.Context(), p, limit)
	if err != nil {
		t.Fatalf("with the number that was named: %v", err)
	}
	for _, s := range live.Shards {
		if s.Bytes > limit || s.Bytes != 24*s.Rows {
			t.Errorf("%s has %d rows of %d bytes", s.Path, s.Rows, s.Bytes)
		}
	}
	if err := live.Drop(t.Context(), e.Session); err != nil {
		t.Error(err)
	}
}

func TestABadRowOfALiveDatasetIsNamed(t *testing.T) {
	p := livePlan()
	p.Source.Text = "SELECT id, if(id = 77, double('NaN'), 1D) AS x FROM range(100)"
	p.Columns = pipeline.Columns{X: []string{"x"}}
	_, err := Engine{Session: dialReal(t)}.Materialize(t.Context(), p, 0)
	wantError(t, err, pipeline.Data, "the row with id 77", `column "x" is NaN`)
}
