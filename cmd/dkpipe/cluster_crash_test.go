package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/sparkconn"
)

// smallJob is a job whose parts are all on the cluster and whose work is next to nothing. ROOT is its folder.
const smallJob = `name: small
source: {parquet: "ROOT/raw"}
transform:
  - min_max: {input: v, output: features, from: [0, 16]}
  - one_hot: {input: label, output: target, size: 3}
columns: {x: [features], y: [target], keep: [id]}
split: {key: id, seed: 1, train: 0.8, test: 0.2}
dataset: {path: "ROOT/dataset", shards: 1, keep_versions: 1}
model: {layers: [{dense: {units: 3, activation: softmax}}]}
train: {trainer: single, epochs: 1, batch_size: 64, optimizer: {sgd: {learning_rate: 0.1}}, loss: categorical_crossentropy, metrics: [accuracy], seed: 1}
output: {path: "ROOT/model", keep_versions: 1}
`

// smallRows are the rows of smallJob's source.
const smallRows = "SELECT id, transform(sequence(0, 3), i -> CAST(pmod(id * 7 + i, 16) AS FLOAT)) AS v, CAST(id % 3 AS INT) AS label FROM range(600)"

// smallCluster is smallJob in a folder of the test's own on the box, with its source.
type smallCluster struct {
	cluster
	root string
}

func onSmallCluster(t *testing.T, changes ...string) *smallCluster {
	t.Helper()
	b := boxtest.Shared(t, "spark", "hdfs")
	return smallOn(t, b, b.Spark, changes...)
}

// smallOn takes a box and the connection string of its Spark.
func smallOn(t *testing.T, b box.Box, remote string, changes ...string) *smallCluster {
	t.Helper()
	c := &smallCluster{cluster: cluster{dir: t.TempDir(), box: b, env: []string{"SPARK_REMOTE=" + remote, "HADOOP_CONF_DIR=" + b.Conf}}}
	c.root = "hdfs:///" + strings.ReplaceAll(t.Name(), "/", "-") + "-" + filepath.Base(filepath.Dir(c.dir))
	text := smallJob
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the job has no %q", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	write("job.yaml", strings.ReplaceAll(text, "ROOT", c.root))(t, c.dir)
	t.Cleanup(func() { c.inProcess(t, "data", "rm", "-r", "-f", c.root) })
	c.sql(t, "INSERT OVERWRITE DIRECTORY '"+c.root+"/raw' USING parquet "+smallRows)
	return c
}

// sql runs a statement on the box's Spark.
func (c *cluster) sql(t *testing.T, statement string) {
	t.Helper()
	s, err := sparkconn.Dial(t.Context(), c.getenv("SPARK_REMOTE"), sparkconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Exec(t.Context(), "", statement); err != nil {
		t.Fatal(err)
	}
}

// inProcess runs dkpipe in this process, which is quicker, and gives exit code and result.
func (c *cluster) inProcess(t *testing.T, args ...string) (int, result) {
	t.Helper()
	var out bytes.Buffer
	code := newApp(&out, io.Discard, c.getenv).main(context.WithoutCancel(t.Context()), append(args, "--json")) // cleaning up comes after its end
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("dkpipe %s: %v\n%s", strings.Join(args, " "), err, &out)
	}
	return code, r
}

func (c *cluster) getenv(name string) string {
	for _, kv := range c.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// list gives the names in a folder on the cluster; a folder that is not there has none.
func (c *cluster) list(t *testing.T, uri string) []string {
	t.Helper()
	u, err := hdfsio.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	stores := newApp(io.Discard, io.Discard, c.getenv).newStores()
	defer stores.Close()
	fsys, err := stores.FS(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := fsys.ReadDir(t.Context(), u.Path)
	if err != nil && hdfsio.KindOf(err) != hdfsio.KindData {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// readers checks what readers get at any time: two whole versions that belong together. It gives the model's version.
func (c *smallCluster) readers(t *testing.T, at string) string {
	t.Helper()
	if code, r := c.inProcess(t, "data", "verify", c.root+"/dataset", c.root+"/model"); code != 0 {
		t.Fatalf("at %q: data verify: exit code %d, %+v", at, code, r.Error)
	}
	code, r := c.inProcess(t, "evaluate", "--model", c.root+"/model", "--data", c.root+"/dataset")
	if code != 0 || r.Rows["test"] == 0 {
		t.Fatalf("at %q: evaluate: exit code %d, %+v", at, code, r.Error)
	}
	return r.Model[strings.LastIndexByte(r.Model, '/')+1:]
}

// clean checks that a run has left nothing of its own and of dead runs. Versions that a recovered slot has made needless
// go with the next run that makes one: after such a run there is one.
func (c *smallCluster) clean(t *testing.T, at string, made bool) {
	t.Helper()
	for _, root := range []string{c.root + "/dataset", c.root + "/model"} {
		var versions, other []string
		for _, name := range c.list(t, root) {
			switch {
			case strings.HasPrefix(name, "v0"):
				versions = append(versions, name)
			case name == "_left.json" && !made: // a note for the next run that has Spark do something
			case !slices.Contains([]string{"LATEST", "_epochs", "_history.jsonl", "_pins", "_slots"}, name):
				other = append(other, name)
			}
		}
		if len(other) > 0 || made && len(versions) != 1 {
			t.Fatalf("at %q: the next run leaves %v and %v in %s", at, versions, other, root)
		}
		if claims := c.list(t, root+"/_epochs"); len(claims) != 1 {
			t.Fatalf("at %q: the next run leaves %v in %s/_epochs", at, claims, root)
		}
		// A run whose slot was done does not come to the dataset, and a file that was just begun could be of a live reader.
		pins := slices.DeleteFunc(c.list(t, root+"/_pins"), func(name string) bool { return strings.HasPrefix(name, ".tmp-") })
		if made && len(pins) > 0 {
			t.Fatalf("at %q: the next run leaves %v in %s/_pins", at, pins, root)
		}
	}
}

// distinct leaves out the points at which nothing has changed since the one before: between "after" one step and "before"
// the next, nothing is done that anybody could see.
func distinct(points []string) []string {
	var out []string
	for i, p := range points {
		if strings.Contains(p, ": after#") && i+1 < len(points) && strings.Contains(points[i+1], ": before#") {
			continue
		}
		out = append(out, p)
	}
	return out
}

// TestKilledAtAnyPointOnTheCluster kills runs whose source, dataset and model are on a real HDFS and whose engine is a real
// Spark. After every kill readers find whole versions; the next run takes the locks of the dead one over at once, goes on
// where it can, and in the end nothing is left but one version.
//
// A run on Spark takes a second or two, so the sweep differs from TestKilledAtAnyPoint, which kills at every point and
// lets every run be followed by one that succeeds. Here the run that recovers from one kill is the one that is killed at
// the next point; points between which nothing happens count once; of the steps after a slot is recorded, which need a
// new slot and so Spark each time, every fourth is taken; and without --slot only the points at which most lies about.
func TestKilledAtAnyPointOnTheCluster(t *testing.T) {
	t.Parallel()
	c := onSmallCluster(t)
	job := []string{"run", "-f", "job.yaml"}
	begin := time.Now()

	// The very first run: there is a whole dataset without a name, and nobody must take it.
	p := start(t, c.dir, append(c.env, crashAt+"=version renamed: after#1"), job...)
	if code := p.wait(t); code != -1 {
		t.Fatalf("exit code %d\n%s", code, &p.stderr)
	}
	for says, command := range map[string][]string{
		"LATEST has never named one of the versions here": {"train", "-f", filepath.Join(c.dir, "job.yaml")},
		"no version is here":                              {"evaluate", "--model", c.root + "/model", "--data", c.root + "/dataset"},
	} {
		if code, r := c.inProcess(t, command...); code != 3 || !strings.Contains(r.Error.Message, says) {
			t.Fatalf("%s before any run has ended: exit code %d, %+v", command[0], code, r.Error)
		}
	}
	c.run(t, 0, append(job, "--slot", "first")...)
	c.clean(t, "the first run", true)
	log := filepath.Join(c.dir, "points")
	if p := start(t, c.dir, append(c.env, crashLog+"="+log), append(job, "--slot", "second")...); p.wait(t) != 0 {
		t.Fatalf("stderr: %s", &p.stderr)
	}
	points := lines(t, log)
	if len(points) < 120 {
		t.Fatalf("only %d crash points: %v", len(points), points)
	}

	s := &sweep{c: c, job: job}
	tail := false // the slot is recorded
	for i, point := range distinct(points) {
		if point == "preprocessed#1" {
			tail = false
		}
		if !(tail && i%4 != 0 || testing.Short() && i%5 != 0) {
			s.kill(t, point)
		}
		tail = tail || strings.Contains(point, "slot renamed: before")
	}
	s.finish(t, "the end")
	slots := s.kills
	s.slotless = true
	for _, point := range []string{"file closed: before#1", "LATEST renamed: before#1", "model: file closed: before#3", "model: LATEST renamed: before#1"} {
		s.kill(t, point)
	}
	s.finish(t, "the end without slots")
	t.Logf("%d points, %d distinct; %d kills with slots and %d without, %d runs in %s", len(points), len(distinct(points)), slots, s.kills-slots, s.runs, time.Since(begin).Round(time.Second))
}

// sweep kills run after run.
type sweep struct {
	c        *smallCluster
	job      []string
	slotless bool
	slot     int
	kills    int
	runs     int
}

func (s *sweep) args() []string {
	if s.slotless {
		return s.job
	}
	return append(slices.Clone(s.job), "--slot", fmt.Sprintf("2026-11-22T%03d", s.slot))
}

// kill lets a run die at a point. A slot that is done without coming there is finished by that run; then a new one is begun.
func (s *sweep) kill(t *testing.T, point string) {
	t.Helper()
	before := s.c.readers(t, "before "+point)
	for range 2 {
		s.runs++
		p := start(t, s.c.dir, append(s.c.env, crashAt+"="+point), s.args()...)
		code := p.wait(t)
		now := s.c.readers(t, point)
		if now < before {
			t.Fatalf("at %q: readers got %s before the kill and get %s now", point, before, now)
		}
		if code == -1 {
			s.kills++
			return
		}
		if code != 0 || s.slotless {
			t.Fatalf("at %q: exit code %d, the process was not killed there\n%s", point, code, &p.stderr)
		}
		s.c.clean(t, point, false)
		s.slot++
	}
	t.Fatalf("a run with a new slot does not come to %q", point)
}

// finish runs to success.
func (s *sweep) finish(t *testing.T, at string) {
	t.Helper()
	s.runs++
	r := s.c.run(t, 0, s.args()...)
	if now := s.c.readers(t, at); !strings.HasSuffix(r.Model, now) {
		t.Fatalf("at %s: the run made %s, readers get %s", at, r.Model, now)
	}
	s.c.clean(t, at, true)
	s.slot++
}
