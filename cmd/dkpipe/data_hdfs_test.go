package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/internal/box/boxtest"
	"dkpipe/pipeline"
)

// TestDataOnHDFS moves a table and a model to a real HDFS and back, looks at them there, and finds a byte that is not
// as published.
func TestDataOnHDFS(t *testing.T) {
	b := boxtest.Shared(t, "hdfs")
	dir := fourIDX(t, quickstart(t))
	root := fmt.Sprintf("%s/%s-%d", b.HDFS, strings.ToLower(t.Name()), os.Getpid())
	t.Cleanup(func() { data(t, dir, 0, "rm", "-r", "-f", root) })

	data(t, dir, 0, "import", "--in", "raw", "--out", root+"/table")
	data(t, dir, 2, "import", "--in", "raw", "--out", root+"/table")
	r := data(t, dir, 0, "import", "--in", "raw", "--out", root+"/table", "--force", "--rows-per-file", "3")
	var names, listed []string
	for _, e := range r.Entries {
		names = append(names, e.Path)
	}
	for _, e := range data(t, dir, 0, "ls", "-R", root).Entries {
		if e.Type == "file" {
			listed = append(listed, e.Path)
		}
	}
	if !slices.Equal(names, listed) || len(names) != 3 {
		t.Errorf("wrote %q, there are %q", names, listed)
	}
	j := newApp(os.Stdout, os.Stderr, os.Getenv).looseJob("data test")
	defer j.stores.Close()
	if _, got := rows(t, j, pipeline.Parquet, names...); !slices.Equal(got, mnistRows()) {
		t.Errorf("%q", got)
	}
	if du := data(t, dir, 0, "du", "-s", root); du.Bytes != r.Bytes || du.Files != 3 {
		t.Errorf("du %+v", du)
	}
	data(t, dir, 0, "get", root+"/table/part-0000{0,2}.parquet", "some/")
	if got := tree(t, filepath.Join(dir, "some")); len(got) != 2 {
		t.Errorf("%d files", len(got))
	}

	run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.epochs=1,gate.at_least=0")
	data(t, dir, 0, "put", "out/model", "out/dataset", root)
	data(t, dir, 0, "verify", root+"/model", root+"/dataset")
	data(t, dir, 0, "get", root+"/model", "back")
	if want, got := tree(t, filepath.Join(dir, "out/model")), tree(t, filepath.Join(dir, "back")); !maps.Equal(want, got) {
		t.Error("the model came back as another one")
	}
	const weights = "out/model/v000001/weights.safetensors"
	flip(t, filepath.Join(dir, weights), 1000)
	data(t, dir, 2, "put", weights, root+"/model/v000001/")
	data(t, dir, 0, "put", "--force", weights, root+"/model/v000001/")
	bad := data(t, dir, 3, "verify", root+"/model")
	if want := root + "/model/v000001/weights.safetensors has SHA-256 "; bad.Error.Kind != pipeline.Corrupt || !strings.HasPrefix(bad.Error.Message, want) {
		t.Errorf("%+v", bad.Error)
	}
}
