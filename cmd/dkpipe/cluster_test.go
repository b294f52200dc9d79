package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/sparkconn"
)

const fashionFolder = "/usr/share/datasets/fashion-mnist"

// cluster is a folder with the fashion example, and the environment that leads to the box.
type cluster struct {
	dir string
	env []string
	box box.Box
}

// newCluster copies the example and names a folder of the test's own on HDFS.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	b := boxtest.Shared(t, "spark", "hdfs")
	if _, err := os.Stat(fashionFolder); err != nil {
		if strings.Contains(os.Getenv("DKPIPE_REQUIRE"), "fashion") {
			t.Fatal(err)
		}
		t.Skip("needs Fashion-MNIST (Debian, Ubuntu: apt-get install dataset-fashion-mnist)")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "fashion", "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: t.TempDir(), box: b, env: []string{"SPARK_REMOTE=" + b.Spark, "HADOOP_CONF_DIR=" + b.Conf}}
	root := "hdfs:///" + filepath.Base(filepath.Dir(c.dir)) + "-" + strings.ReplaceAll(t.Name(), "/", "-")
	write("job.yaml", strings.ReplaceAll(string(text), "hdfs:///fashion", root))(t, c.dir)
	var files []string
	for _, part := range []string{"train", "t10k"} {
		files = append(files, filepath.Join(fashionFolder, part+"-images-idx3-ubyte.gz"), filepath.Join(fashionFolder, part+"-labels-idx1-ubyte.gz"))
	}
	p := start(t, c.dir, c.env, "data", "import", "--in", strings.Join(files, ","), "--out", root+"/raw")
	if code := p.wait(t); code != 0 {
		t.Fatalf("data import: exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	return c
}

func (c *cluster) run(t *testing.T, code int, args ...string) result {
	t.Helper()
	p := start(t, c.dir, c.env, append(args, "--json")...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	return p.result(t)
}

// TestClusterJob is the fashion example on the real servers: Spark prepares and writes shards to HDFS, two worker
// processes train from HDFS, the model is published there, and new processes evaluate and predict from there. Over three
// seeds, five in make test-full, the mean test accuracy is at least 0.86 and at most a point below one worker's in the same
// run. The same job then runs without files, on rows that stream out of Spark.
func TestClusterJob(t *testing.T) {
	c := newCluster(t)
	first := c.run(t, 0, "run", "-f", "job.yaml", "--set", "train.seed=1")
	if n := first.Rows["train"] + first.Rows["test"]; n != 70000 {
		t.Errorf("%d rows were prepared, want 70000", n)
	}
	sum, seeds := first.Metrics["test"]["accuracy"], 3
	if os.Getenv("DKPIPE_FULL") != "" {
		seeds = 5
	}
	for seed := 2; seed <= seeds; seed++ {
		r := c.run(t, 0, "train", "-f", "job.yaml", "--set", fmt.Sprintf("train.seed=%d", seed))
		sum += r.Metrics["test"]["accuracy"]
	}
	single := c.run(t, 0, "train", "-f", "job.yaml", "--set", "train.trainer=single,train.workers=1,train.window=1")
	mean, one := sum/float64(seeds), single.Metrics["test"]["accuracy"]
	t.Logf("two worker processes: %.4f (mean of %d seeds); one worker: %.4f", mean, seeds, one)
	if mean < 0.86 || mean < one-0.01 {
		t.Errorf("test accuracy %.4f; at least 0.86 and %.4f are promised", mean, one-0.01)
	}
	r := c.run(t, 0, "evaluate", "--model", first.Model, "--data", first.Dataset)
	if r.Metrics["test"]["accuracy"] != first.Metrics["test"]["accuracy"] {
		t.Errorf("evaluate from HDFS gives %g, the run said %g", r.Metrics["test"]["accuracy"], first.Metrics["test"]["accuracy"])
	}
	raw := strings.TrimSuffix(first.Dataset, "/dataset/v000001") + "/raw"
	p := c.run(t, 0, "predict", "--model", first.Model, "--in", raw+"/part-00001.parquet", "--out", raw+"-predictions.parquet", "--keep", "id,label")
	if p.Rows["predicted"] == 0 {
		t.Error("nothing was predicted")
	}
	table := "dkpipe_" + strings.ToLower(filepath.Base(filepath.Dir(c.dir)))
	p = c.run(t, 0, "predict", "--model", first.Model, "--in", raw+"/part-00001.parquet", "--out", "table:"+table, "--keep", "id,label")
	if back := c.run(t, 0, "evaluate", "--model", first.Model, "--data", "sql:SELECT * FROM parquet.`"+raw+"/part-00001.parquet`"); back.Rows["raw"] != p.Rows["predicted"] {
		t.Errorf("%v rows of the table were evaluated, %v were predicted", back.Rows, p.Rows)
	}
	if s, err := sparkconn.Dial(t.Context(), c.box.Spark, sparkconn.Options{}); err != nil {
		t.Error(err)
	} else {
		if err := s.Exec(t.Context(), "", "DROP TABLE "+table); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	live := c.run(t, 0, "run", "-f", "job.yaml", "--set", "dataset.live=true,train.seed=1")
	t.Logf("streamed out of Spark: %.4f", live.Metrics["test"]["accuracy"])
	if live.Rows["train"] != first.Rows["train"] || live.Rows["test"] != first.Rows["test"] {
		t.Errorf("live rows %v, in files %v", live.Rows, first.Rows)
	}
	if got := live.Metrics["test"]["accuracy"]; got < 0.86 || got < one-0.015 { // one seed
		t.Errorf("test accuracy %.4f of a model that was trained on streams", got)
	}
}
