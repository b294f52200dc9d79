package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/internal/box/boxtest"
	"dkpipe/sparkconn"
)

// onBox is a folder with the quickstart on a real Spark and a real HDFS: source, dataset and model are on HDFS.
func onBox(t *testing.T, changes ...string) *cluster {
	t.Helper()
	b := boxtest.Shared(t, "spark", "hdfs")
	root := "hdfs:///" + strings.ReplaceAll(t.Name(), "/", "-") + "-" + filepath.Base(filepath.Dir(t.TempDir()))
	changes = append([]string{"{csv: digits.csv}", "{csv: '" + root + "/digits.csv'}", "out/model", root + "/model", "out/dataset", root + "/dataset"}, changes...)
	c := &cluster{dir: quickstart(t, changes...), box: b, env: []string{"SPARK_REMOTE=" + b.Spark, "HADOOP_CONF_DIR=" + b.Conf, "TMPDIR=" + t.TempDir()}}
	p := start(t, c.dir, c.env, "data", "put", "digits.csv", root+"/digits.csv")
	if code := p.wait(t); code != 0 {
		t.Fatalf("data put: exit code %d\n%s", code, &p.stderr)
	}
	return c
}

// model is the root of the job's models.
func (c *cluster) model(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(text), "hdfs:///")
	root, _, _ := strings.Cut(string(text)[at:], "/digits.csv")
	return root + "/model"
}

// cat gives the content of a file on the cluster.
func (c *cluster) cat(t *testing.T, uri string) []byte {
	t.Helper()
	p := start(t, c.dir, c.env, "data", "cat", uri)
	if code := p.wait(t); code != 0 {
		t.Fatalf("data cat: exit code %d\n%s", code, &p.stderr)
	}
	return p.stdout.Bytes()
}

func (c *cluster) temp() string { return strings.TrimPrefix(c.env[2], "TMPDIR=") }

// TestLiveTraining streams the rows out of Spark instead of writing files, to goroutines and to worker processes. The model
// is as good as from files, the published dataset says that it has no rows, and nothing is left on this machine.
func TestLiveTraining(t *testing.T) {
	c := onBox(t, "shards: 4}", "shards: 4, live: true}")
	for _, launch := range []string{"in-process", "process"} {
		t.Run(launch, func(t *testing.T) {
			r := c.run(t, 0, "run", "-f", "job.yaml", "--set", "train.launch="+launch)
			if r.Rows["train"]+r.Rows["test"] != 1797 || r.Metrics["test"]["accuracy"] < 0.93 {
				t.Errorf("rows %v, metrics %v", r.Rows, r.Metrics)
			}
			var samples int64
			for _, w := range r.Workers {
				samples += w.Samples
			}
			if want := 20 * r.Rows["train"]; samples != want {
				t.Errorf("%d samples were trained on, want %d", samples, want)
			}
			e := c.run(t, 3, "evaluate", "--model", r.Model, "--data", r.Dataset)
			if !strings.Contains(e.Error.Message, "dataset.live") {
				t.Errorf("evaluate on a dataset without rows: %+v", e.Error)
			}
			root := strings.TrimSuffix(r.Model[:strings.LastIndexByte(r.Model, '/')], "/model")
			p := c.run(t, 0, "predict", "--model", r.Model, "--in", root+"/digits.csv", "--out", "predictions-"+launch+".csv")
			if p.Rows["predicted"] != 1797 {
				t.Errorf("%d rows were predicted", p.Rows["predicted"])
			}
			if left, err := os.ReadDir(c.temp()); err != nil || len(left) > 0 {
				t.Errorf("left in the folder for temporary files: %v, %v", left, err)
			}
		})
	}
	if e := c.run(t, 2, "preprocess", "-f", "job.yaml"); !strings.Contains(e.Error.Message, "dataset.live") {
		t.Errorf("preprocess of a live dataset: %+v", e.Error)
	}
	if r := c.run(t, 0, "train", "-f", "job.yaml"); r.Rows["train"] == 0 {
		t.Error("train alone did not stream the rows")
	}
}

// TestAKilledLiveRunLeavesNothing kills the coordinator in the middle of training. Its workers end, and the next run removes
// the local copies that it left, and what it held in Spark.
func TestAKilledLiveRunLeavesNothing(t *testing.T) {
	c := onBox(t, "shards: 4}", "shards: 4, live: true}", "epochs: 20", "epochs: 10000", "workers: 2", "workers: 2\n  launch: process")
	events := filepath.Join(c.dir, "events.jsonl")
	p := start(t, c.dir, c.env, "run", "-f", "job.yaml", "--events", events, "--json")
	var pids []int
	for id := range 2 {
		e := event(t, events, "worker_started", func(m map[string]any) bool { return m["worker"] == float64(id) })
		pids = append(pids, int(e["pid"].(float64)))
	}
	event(t, events, "epoch", nil)
	if left, err := filepath.Glob(filepath.Join(c.temp(), runFolderPrefix+"*", "*")); err != nil || len(left) < 2 {
		t.Fatalf("no local files of the run: %v, %v", left, err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	for _, pid := range pids {
		waitGone(t, pid)
	}
	model := c.model(t)
	var left []leftWork
	if err := json.Unmarshal(c.cat(t, model+"/_left.json"), &left); err != nil || len(left) != 1 || left[0].Rows == nil {
		t.Fatalf("the killed run has left the note %+v, %v", left, err)
	}
	join := c.box.Spark + "/;session_id=" + left[0].Session
	if err := onSpark(t, join).Exec(t.Context(), "", "SELECT count(*) FROM "+left[0].Rows.Table); err != nil {
		t.Fatalf("the rows of the killed run: %v", err)
	}
	r := c.run(t, 0, "run", "-f", "job.yaml", "--set", "train.epochs=1", "--set", "gate.at_least=0")
	if slices.Contains(c.list(t, model), "_left.json") {
		t.Error("the note is still there")
	}
	if s, err := sparkconn.Dial(t.Context(), join, sparkconn.Options{}); err == nil {
		if err := s.Exec(t.Context(), "", "SELECT count(*) FROM "+left[0].Rows.Table); err == nil {
			t.Error("the rows of the killed run are still in Spark")
		}
		s.Close()
	}
	if !strings.HasSuffix(r.Model, "v000001") {
		t.Errorf("the killed run has left a model: the next is %s", r.Model)
	}
	if left, err := os.ReadDir(c.temp()); err != nil || len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v, %v", left, err)
	}
}

// waitGone waits until a process has ended; one that nobody has waited for yet has ended, too. A worker has a few seconds to
// notice that its coordinator is gone.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	late := time.After(20 * time.Second) // less than a worker's patience with a server that is gone
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("process %d still runs", pid)
		}
	}
}
