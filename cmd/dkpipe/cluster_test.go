package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
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
// seeds the mean test accuracy is at least 0.86 and at most a point below one worker's in the same run.
func TestClusterJob(t *testing.T) {
	c := newCluster(t)
	first := c.run(t, 0, "run", "-f", "job.yaml", "--set", "train.seed=1")
	if n := first.Rows["train"] + first.Rows["test"]; n != 70000 {
		t.Errorf("%d rows were prepared, want 70000", n)
	}
	sum := first.Metrics["test"]["accuracy"]
	for seed := 2; seed <= 3; seed++ {
		r := c.run(t, 0, "train", "-f", "job.yaml", "--set", fmt.Sprintf("train.seed=%d", seed))
		sum += r.Metrics["test"]["accuracy"]
	}
	single := c.run(t, 0, "train", "-f", "job.yaml", "--set", "train.trainer=single,train.workers=1,train.window=1")
	mean, one := sum/3, single.Metrics["test"]["accuracy"]
	t.Logf("two worker processes: %.4f (mean of 3 seeds); one worker: %.4f", mean, one)
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
}
