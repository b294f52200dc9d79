package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/internal/box"
	"dkpipe/pipeline"
)

// TestBytesThatRotOnDatanodes flips bytes in block files on the disks of a real HDFS. With one bad replica of each file the
// commands give what they gave before; with every replica bad they end with exit code 3 and name the file, and not one
// wrong byte is put out.
func TestBytesThatRotOnDatanodes(t *testing.T) {
	c := onBox(t, "epochs: 20", "epochs: 2", "at_least: 0.9", "at_least: 0")
	good := c.run(t, 0, "run", "-f", "job.yaml", "--set", "spark.remote=''")
	model, shard := good.Model+"/weights.safetensors", good.Dataset+"/test/part-00000.parquet"
	root := strings.TrimSuffix(good.Dataset, "/dataset/v000001")
	control := func(command, name string) {
		t.Helper()
		if _, err := box.Control(t.Context(), c.box.Dir, "flip "+strings.TrimPrefix(name, "hdfs://")+" 0 "+command); err != nil {
			t.Fatal(err)
		}
	}
	evaluate := func(code int) result {
		return c.run(t, code, "evaluate", "--model", good.Model, "--data", good.Dataset)
	}
	for _, name := range []string{model, shard, root + "/digits.csv"} {
		control("0 1000", name)
	}
	if r := evaluate(0); r.Metrics["test"]["accuracy"] != good.Metrics["test"]["accuracy"] {
		t.Errorf("with one bad replica the accuracy is %v, it was %v", r.Metrics, good.Metrics["test"])
	}
	p := c.run(t, 0, "predict", "--model", good.Model, "--in", root+"/digits.csv", "--out", "right.csv")
	if p.Rows["predicted"] != 1797 {
		t.Errorf("%d rows were predicted", p.Rows["predicted"])
	}
	control("all 1001", root+"/digits.csv")
	bad := c.run(t, 3, "predict", "--model", good.Model, "--in", root+"/digits.csv", "--out", "wrong.csv")
	if bad.Error.Kind != pipeline.Corrupt || !strings.Contains(bad.Error.Message, "digits.csv") {
		t.Errorf("predict: %+v", bad.Error)
	}
	if _, err := os.Stat(filepath.Join(c.dir, "wrong.csv")); err == nil {
		t.Error("predictions of wrong rows were published")
	}
	out := start(t, c.dir, c.env, "data", "cat", root+"/digits.csv")
	if code := out.wait(t); code != 3 {
		t.Errorf("data cat: exit code %d", code)
	}
	original, err := os.ReadFile(filepath.Join(c.dir, "digits.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(original), out.stdout.String()) {
		t.Error("data cat put out bytes that are not in the file")
	}
	for _, name := range []string{shard, model} {
		control("all 1001", name)
		if r := evaluate(3); r.Error.Kind != pipeline.Corrupt || !strings.Contains(r.Error.Message, filepath.Base(name)) {
			t.Errorf("evaluate: %+v", r.Error)
		}
	}
	if r := c.run(t, 3, "data", "verify", good.Dataset); !strings.Contains(r.Error.Message, "part-00000.parquet") {
		t.Errorf("data verify: %+v", r.Error)
	}
}
