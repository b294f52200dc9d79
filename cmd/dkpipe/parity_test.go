package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
)

// slowFeed takes its time for every batch.
type slowFeed struct {
	pipeline.Feed
	by time.Duration
}

func (f slowFeed) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	r, err := f.Feed.Open(ctx, s, from)
	return slowReader{r, f.by}, err
}

type slowReader struct {
	pipeline.BatchReader
	by time.Duration
}

func (r slowReader) Next() (*pipeline.Batch, error) {
	time.Sleep(r.by)
	return r.BatchReader.Next()
}

// slowReplica takes its time for every step.
type slowReplica struct {
	model.Replica
	by time.Duration
}

func (r slowReplica) Step(b *pipeline.Batch) (float32, error) {
	time.Sleep(r.by)
	return r.Replica.Step(b)
}

// slowAlgorithm takes its time at the server, slowLink on the way there.
type slowAlgorithm struct {
	trainers.Algorithm
	by time.Duration
}

func (a slowAlgorithm) Rule(workers int) ps.Rule { return slowRule{a.Algorithm.Rule(workers), a.by} }

type slowRule struct {
	ps.Rule
	by time.Duration
}

func (r slowRule) Apply(centre, slots, delta, reply []float32, c ps.Commit) {
	time.Sleep(r.by)
	r.Rule.Apply(centre, slots, delta, reply, c)
}

type slowLink struct {
	*ps.Server
	by time.Duration
}

func (l slowLink) Exchange(ctx context.Context, c ps.Commit, dst []float32) (ps.Ack, error) {
	time.Sleep(l.by)
	return l.Server.Exchange(ctx, c, dst)
}

// prepareParity makes the quickstart's dataset and a job for parity.
func prepareParity(t *testing.T, sets ...string) *job {
	t.Helper()
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", "dataset.shards=4")
	a := newApp(io.Discard, io.Discard, func(string) string { return "" })
	a.log = slog.New(slog.DiscardHandler)
	c := a.parityCommand()
	f := &specFlags{}
	f.file, f.set, f.flags = filepath.Join(dir, "job.yaml"), sets, c.Flags()
	j, err := a.newJob("parity", f, spec.ForTrain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.closeQuietly(context.Background()) })
	return j
}

// inGoroutines runs workers in this process, and with what is between them and the server.
func inGoroutines(cfg *trainers.Config, link time.Duration) func(context.Context, *ps.Server, ps.Worker) error {
	return func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		replica, err := cfg.Replica(w)
		if err != nil {
			return err
		}
		opt, err := cfg.Optimizer(len(replica.Params()))
		if err != nil {
			return err
		}
		incarnation, err := srv.Join(w)
		if err != nil {
			return err
		}
		_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: slowLink{srv, link}, Worker: w, Incarnation: incarnation,
			Workers: cfg.Workers, Window: cfg.Window, Feed: cfg.Feed, Replica: replica, Optimizer: opt})
		return err
	}
}

// TestParityNamesTheBottleneck slows down one thing at a time, on purpose.
func TestParityNamesTheBottleneck(t *testing.T) {
	const by = 3 * time.Millisecond
	for want, slow := range map[string]func(*trainers.Config){
		"feed":    func(c *trainers.Config) { c.Feed, c.Launch = slowFeed{c.Feed, by}, inGoroutines(c, 0) },
		"compute": func(c *trainers.Config) { slowCompute(c, by) },
		"link":    func(c *trainers.Config) { c.Launch = inGoroutines(c, 2*by) },
		"server": func(c *trainers.Config) {
			m := c.Algorithm.(*meteredAlgorithm)
			m.Algorithm = slowAlgorithm{m.Algorithm, 5 * by}
			c.Launch = inGoroutines(c, 0)
		},
	} {
		t.Run(want, func(t *testing.T) {
			// With launch process a link is looked for; the workers are started by slow, where it can slow them down.
			j := prepareParity(t, "train.launch=process,train.epochs=2,train.window=2")
			r, err := j.runParity(t.Context(), []int{1, 2}, 1, slow)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range r.Rows {
				if row.Bottleneck != want {
					t.Errorf("%d workers: the bottleneck is named %s, want %s: %+v", row.Workers, row.Bottleneck, want, row.Shares)
				}
				s := row.Shares
				if sum := s.Feed + s.Compute + s.Link + s.Server + s.Peers; math.Abs(sum-1) > 1e-9 {
					t.Errorf("%d workers: the shares add up to %g", row.Workers, sum)
				}
			}
			if s := r.Rows[1].SpeedUp; want == "server" && s > 1.6 {
				t.Errorf("two workers are %.2f times as fast as one, although the server does one thing at a time", s)
			}
		})
	}
}

func slowCompute(c *trainers.Config, by time.Duration) {
	replica := c.Replica
	c.Replica = func(w ps.Worker) (model.Replica, error) {
		r, err := replica(w)
		return slowReplica{r, by}, err
	}
	c.Launch = inGoroutines(c, 0)
}

// TestParityReportsAllRuns runs the command as a person would, with workers in this process and in processes.
func TestParityReportsAllRuns(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml", "--set", "dataset.shards=4")
	for _, launch := range []string{"in-process", "process"} {
		p := start(t, dir, nil, "parity", "-f", "job.yaml", "--launch", launch, "--workers", "1,2", "--seeds", "2", "--json")
		if code := p.wait(t); code != 0 {
			t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
		}
		var r parityReport
		if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, &p.stdout)
		}
		if len(r.Runs) != 4 || len(r.Rows) != 2 || r.Metric != "accuracy" || r.Split != "test" || r.Launch != launch || r.Trainer != "agn" {
			t.Fatalf("report %+v", r)
		}
		one, two := r.Rows[0], r.Rows[1]
		if one.Value < 0.93 || two.Value < 0.93 || one.SpeedUp != 1 || one.Interval != nil || one.Gap != 0 {
			t.Errorf("rows %+v, %+v", one, two)
		}
		if two.Interval == nil || two.Gap < two.Interval[0] || two.Gap > two.Interval[1] || math.Abs(two.Gap-(two.Value-one.Value)) > 1e-9 {
			t.Errorf("the gap %g of %g and %g is not in its interval %v", two.Gap, one.Value, two.Value, two.Interval)
		}
		if math.Abs(two.Efficiency-two.SpeedUp/2) > 1e-9 || math.Abs(two.SpeedUp-two.Rate/one.Rate) > 1e-9 {
			t.Errorf("speed-up %g, efficiency %g, rates %g and %g", two.SpeedUp, two.Efficiency, one.Rate, two.Rate)
		}
		if launch == "in-process" && two.Shares.Link != 0 {
			t.Errorf("goroutines have no link, and %+v", two.Shares)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out/model")); !os.IsNotExist(err) {
		t.Errorf("parity has left a model: %v", err)
	}
	for _, bad := range [][]string{{"--workers", "2"}, {"--workers", "1,2,1"}, {"--workers", "0,2"}, {"--seeds", "0"}, {"--launch", "join"}} {
		if r := run(t, dir, 2, append([]string{"parity", "-f", "job.yaml"}, bad...)...); r.Error == nil || r.Error.Hint == "" {
			t.Errorf("%v: %+v", bad, r.Error)
		}
	}
}

// TestIntervalsAreStudents compares with the textbook's table: t(0.975) is 12.706 for one degree of freedom, 4.303 for two.
func TestIntervalsAreStudents(t *testing.T) {
	if interval([]float64{1}) != nil {
		t.Error("one value has an interval")
	}
	got := interval([]float64{-1, 1}) // deviation sqrt 2, half = t * sqrt 2 / sqrt 2
	if math.Abs(got[1]-12.7062) > 1e-3 || math.Abs(got[0]+12.7062) > 1e-3 {
		t.Errorf("the interval of -1 and 1 is %v", *got)
	}
	got = interval([]float64{1, 2, 3}) // deviation 1
	if half := 4.30265 / math.Sqrt(3); math.Abs(got[0]-2+half) > 1e-3 || math.Abs(got[1]-2-half) > 1e-3 {
		t.Errorf("the interval of 1, 2, 3 is %v", *got)
	}
}

// TestTheParityTableIsForPeople looks at the columns.
func TestTheParityTableIsForPeople(t *testing.T) {
	r := parityReport{Trainer: "agn", Launch: "process", Metric: "accuracy", Split: "test", Cores: 2}
	for _, n := range []int{1, 2} {
		for seed := range int64(2) {
			r.Runs = append(r.Runs, parityRun{Workers: n, Seed: seed, Value: 0.9 + 0.01*float64(n)*float64(seed), Rate: 1000 * float64(n), Shares: timeShares{Compute: 0.7, Link: 0.3}})
		}
	}
	r.summarise([]int{1, 2})
	var b strings.Builder
	r.print(&b)
	for _, want := range []string{"agn, launch process", "speed-up", "2.00x", "100 %", "compute", "+0.0050"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &b)
		}
	}
}
