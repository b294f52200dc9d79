//go:build linux

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/uuid"

	"dkpipe/hdfsio"
	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/pipeline"
	"dkpipe/sparkconn"
)

// slowSource makes smallJob's rows with a wait for each, and leaves the number of the last row that it made, and when that
// was, in a property of Spark's JVM, where another session can look at it.
var slowSource = []string{`source: {parquet: "ROOT/raw"}`, `params: {millis: 0}
source:
  sql: |
    ` + smallRows + `
    WHERE reflect('java.lang.Thread', 'sleep', CAST({{millis}} AS BIGINT)) IS NOT NULL
      AND reflect('java.lang.System', 'setProperty', 'ROOT', concat(id, ' ', reflect('java.lang.System', 'currentTimeMillis'))) IS NOT NULL`}

// fails runs the job and checks exit code and message.
func (c *smallCluster) fails(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	if got := c.says(c.run(t, code, args...)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// control breaks or mends something in the box.
func (c *cluster) control(t *testing.T, command string) {
	t.Helper()
	if _, err := box.Control(t.Context(), c.box.Dir, command); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// stopped starts the job and waits until it has stopped itself at a point.
func (c *cluster) stopped(t *testing.T, point string, args ...string) *dkpipe {
	t.Helper()
	p := start(t, c.dir, append(c.env, stopAt+"="+point), append(args, "--json")...)
	await(t, "the process stops at "+point, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		state := string(stat[strings.LastIndexByte(string(stat), ')')+2])
		if state == "Z" {
			t.Fatalf("the process ended before %q: %d\n%s", point, p.wait(t), &p.stdout)
		}
		return state == "T"
	})
	return p
}

func (p *dkpipe) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// await waits until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("still not: " + what)
		}
	}
}

// lastRow is a row that slowSource made.
type lastRow struct {
	id   int
	made time.Time // by the clock of this machine, on which Spark is, too
}

// last looks into Spark's JVM for the last row that slowSource made. The look takes as long as Spark has other work.
func (c *smallCluster) last(t *testing.T, s *sparkconn.Session) (r lastRow) {
	t.Helper()
	err := s.Query(t.Context(), "", "SELECT reflect('java.lang.System', 'getProperty', '"+c.root+"')", func(rec arrow.RecordBatch) error {
		var millis int64
		_, err := fmt.Sscan(rec.Column(0).(*array.String).Value(0), &r.id, &millis)
		r.made = time.UnixMilli(millis)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// writing starts a slow job, with a wait of so many milliseconds a row, waits until Spark has written some of its rows, and gives a session to look with.
func (c *smallCluster) writing(t *testing.T, millis int) (*dkpipe, *sparkconn.Session) {
	t.Helper()
	s, err := sparkconn.Dial(t.Context(), c.getenv("SPARK_REMOTE"), sparkconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Query(t.Context(), "", "SELECT reflect('java.lang.System', 'setProperty', '"+c.root+"', '0 0')", func(arrow.RecordBatch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	p := start(t, c.dir, c.env, append(theJob, "--param", fmt.Sprintf("millis=%d", millis), "--json")...)
	await(t, "Spark writes", func() bool { return c.last(t, s).id%300 >= 5 }) // a few rows of one of its two tasks
	return p, s
}

// quota limits the space below a folder, in bytes times replicas; -1: no limit.
func (c *cluster) quota(t *testing.T, uri string, space int64) {
	t.Helper()
	u, err := hdfsio.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("http://%s/webhdfs/v1%s?op=SETQUOTA&user.name=%s&namespacequota=-1&storagespacequota=%d",
		c.box.Namenodes[0].HTTP, u.Path, url.QueryEscape(c.box.User), space)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the quota of %s: %s", uri, resp.Status)
	}
}

const sparkToken = "s3cret"

// TestFaultsOfTheServers breaks servers of its own under runs: whatever they do, readers get whole versions, the run says
// what is wrong, and the next one leaves nothing of it.
func TestFaultsOfTheServers(t *testing.T) {
	t.Parallel() // much of it is waiting
	b := boxtest.Start(t, box.Options{Separate: true, Spark: map[string]string{"spark.connect.authenticate.token": sparkToken}})
	c := smallOn(t, b, b.Spark+"/;token="+sparkToken, slowSource...)
	c.run(t, 0, theJob...)
	for _, sub := range []struct {
		name string
		test func(*testing.T, *smallCluster)
	}{
		{"token", testTokens}, {"safe mode", testSafeMode}, {"quota", testQuota}, {"rights", testMissingRight},
		{"namenode restarts", testNamenodeRestarts}, {"namenode stays away", testNamenodeStaysAway}, {"spark dies", testSparkDies},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.test(t, c) })
	}
}

var theJob = []string{"run", "-f", "job.yaml"}

func testTokens(t *testing.T, c *smallCluster) {
	const next = "\nnext: put the server's token into spark.remote: ;token=…"
	for remote, want := range map[string]string{
		c.box.Spark:                  "denied: connecting to sc://ADDRESS: No authentication token provided",
		c.box.Spark + "/;token=hush": "denied: connecting to sc://ADDRESS: Invalid authentication token",
	} {
		c.fails(t, 4, want+next, append(theJob, "--set", `spark.remote="`+remote+`"`)...)
	}
}

// unharmed checks that a run that failed has changed nothing for readers, and that the next one leaves nothing of it.
func (c *smallCluster) unharmed(t *testing.T, at, before string) {
	t.Helper()
	if now := c.readers(t, at); now != before {
		t.Errorf("at %q: readers get %s, before it was %s", at, now, before)
	}
	c.run(t, 0, theJob...)
	c.clean(t, at, true)
}

// after stops a run at a point, breaks something, and lets it go on to its end.
func (c *smallCluster) after(t *testing.T, point string, fault func()) (int, result) {
	t.Helper()
	p := c.stopped(t, point, theJob...)
	fault()
	p.signal(t, syscall.SIGCONT)
	code := p.wait(t)
	return code, p.result(t)
}

func testSafeMode(t *testing.T, c *smallCluster) {
	const next = "\nnext: the NameNode is in safe mode and takes no changes: wait until it has seen its blocks, or look with hdfs dfsadmin -safemode get"
	before := c.readers(t, "before")
	c.control(t, "safemode enter")
	c.fails(t, 4, "unreachable: create ROOT/model/_epochs/N: Name node is in safe mode"+next, theJob...)
	c.control(t, "safemode leave")
	for point, want := range map[string]string{
		"shards written#1":         "unreachable: create ROOT/dataset/STAGE/manifest.json: Name node is in safe mode",
		"LATEST written: before#1": "unreachable: create ROOT/dataset/TEMPORARY: Name node is in safe mode",
		"model: bundle written#1":  "unreachable: create ROOT/model/STAGE/TEMPORARY: Name node is in safe mode",
	} {
		code, r := c.after(t, point, func() { c.control(t, "safemode enter") })
		c.control(t, "safemode leave")
		if got := c.says(r); code != 4 || !strings.HasPrefix(got, want) || !strings.HasSuffix(got, next) {
			t.Errorf("at %q: exit code %d, %s\nwant %s…%s", point, code, got, want, next)
		}
	}
	c.unharmed(t, "safe mode", before)
}

func testQuota(t *testing.T, c *smallCluster) {
	before := c.readers(t, "before")
	for point, part := range map[string]string{
		"stage marker renamed: after#1":        "dataset", // Spark meets it
		"shards written#1":                     "dataset",
		"model: stage marker renamed: after#1": "model",
	} {
		root := c.root + "/" + part
		code, r := c.after(t, point, func() { c.quota(t, root, 100<<10) })
		c.quota(t, root, -1)
		got := c.says(r)
		want := "The DiskSpace quota of ROOT/" + part + " is exceeded: quota = 102400 B = 100 KB but diskspace consumed = "
		if code != 1 || !strings.HasPrefix(got, "no_space: ") || !strings.Contains(got, want) || !strings.Contains(got, "hdfs dfsadmin -setSpaceQuota") {
			t.Errorf("at %q: exit code %d, %s\nwant %s", point, code, got, want)
		}
	}
	c.unharmed(t, "quota", before)
}

func testMissingRight(t *testing.T, c *smallCluster) {
	const next = "\nnext: give this user the right (hdfs dfs -chmod, -chown, -setfacl), or set HADOOP_USER_NAME to one that has it"
	eve := *c
	eve.env = append(c.env[:len(c.env):len(c.env)], "HADOOP_USER_NAME=eve")
	eve.fails(t, 4, `denied: create ROOT/model/_epochs/N: Permission denied: user=eve, access=WRITE, inode="ROOT/model/_epochs":`+c.box.User+`:supergroup:drwxr-xr-x`+next, theJob...)
	eve.fails(t, 4, `denied: mkdir ROOT/new/model/_epochs: Permission denied: user=eve, access=WRITE, inode="ROOT":`+c.box.User+`:supergroup:drwxr-xr-x`+next,
		append(theJob, "--set", "dataset.path="+c.root+"/new/dataset,output.path="+c.root+"/new/model")...)
	// Who may only read a dataset may train on it.
	eve.run(t, 0, "train", "-f", "job.yaml", "--set", "output.path=hdfs:///tmp/eve")
	if made := c.list(t, c.root+"/new"); len(made) > 0 {
		t.Errorf("there is %v", made)
	}
}

// testNamenodeRestarts: a run outlives the restart, or says that it did not, and publishes a whole version or none.
func testNamenodeRestarts(t *testing.T, c *smallCluster) {
	for _, point := range []string{"version renamed: before#1", "model: LATEST written: after#1"} {
		before := c.readers(t, "before")
		p := c.stopped(t, point, theJob...)
		c.control(t, "killnn")
		p.signal(t, syscall.SIGCONT)
		c.control(t, "startnn")
		code := p.wait(t)
		r := p.result(t)
		t.Logf("the namenode restarts at %q: exit code %d in %.1f s, %s", point, code, r.Seconds, c.says(r))
		now := c.readers(t, point)
		switch {
		case code == 0 && strings.HasSuffix(r.Model, now) && now > before:
		case code == 4 && r.Error.Kind == pipeline.Unreachable && now >= before:
		default:
			t.Errorf("at %q: exit code %d, %s; readers got %s and get %s", point, code, c.says(r), before, now)
		}
		// Spark's client of HDFS finds out with its next call that the connection is gone, and fails that.
		const lost = "unreachable: trying to write: End of File Exception between local host is: "
		next := start(t, c.dir, c.env, append(theJob, "--json")...)
		if code := next.wait(t); code != 0 && (code != 4 || !strings.HasPrefix(c.says(next.result(t)), lost)) {
			t.Errorf("the run after the restart: exit code %d, %s", code, c.says(next.result(t)))
		}
		c.run(t, 0, theJob...)
		c.clean(t, point, true)
	}
}

func testNamenodeStaysAway(t *testing.T, c *smallCluster) {
	before := c.readers(t, "before")
	begin := time.Now()
	code, r := c.after(t, "version renamed: before#1", func() { c.control(t, "killnn") })
	took := time.Since(begin)
	const want = "unreachable: publish ROOT/dataset/v"
	got := c.says(r) // the kill meets a call that is under way, or there is no connection for the next one
	if cut := strings.Contains(got, "the answer was lost"); code != 4 || !strings.HasPrefix(got, want) || !cut && !strings.Contains(got, "no connection to a NameNode: ADDRESS: connect: connection refused") {
		t.Errorf("exit code %d, got  %s\nwant %s…", code, got, want)
	}
	if t.Logf("the run ended %s after the namenode", took); took > 60*time.Second {
		t.Errorf("the run ended %s after the namenode", took)
	}
	c.control(t, "startnn")
	code, _ = c.inProcess(t, "data", "ls", c.root) // waits until the namenode has seen its blocks
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.unharmed(t, "a namenode that stays away", before)
}

func testSparkDies(t *testing.T, c *smallCluster) {
	before := c.readers(t, "before")
	p, _ := c.writing(t, 50)
	c.control(t, "kill spark")
	begin := time.Now()
	code := p.wait(t)
	const next = "\nnext: the server ended or was stopped: look into its log, start it, and run again"
	if got, want := c.says(p.result(t)), "unreachable: writing shards: Spark at sc://ADDRESS does not answer: connection refused"+next; code != 4 || got != want {
		t.Errorf("exit code %d, got  %s\nwant %s", code, got, want)
	}
	if took := time.Since(begin); took > 40*time.Second {
		t.Errorf("the run ended %s after Spark", took)
	}
	if now := c.readers(t, "spark dies"); now != before {
		t.Errorf("readers get %s, before it was %s", now, before)
	}
	// The next run need not be one on Spark.
	write("local.yaml", "spark: {remote: \"\"}\n"+strings.ReplaceAll(smallJob, "ROOT", c.root))(t, c.dir)
	c.run(t, 0, "run", "-f", "local.yaml")
	c.clean(t, "spark dies", true)
}

// TestInterruptedWhileSparkWrites: SIGINT ends a run in the middle of Spark's work, and Spark's work with it.
func TestInterruptedWhileSparkWrites(t *testing.T) {
	t.Parallel()
	c := onSmallCluster(t, slowSource...)
	p, s := c.writing(t, 50)
	begin := time.Now()
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 130 {
		t.Errorf("exit code %d, %s", code, &p.stdout)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the run ended %s after the signal", took)
	}
	if got, want := c.says(p.result(t)), "interrupted: interrupted\nnext: nothing half-written is visible; run the same command again"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if late := c.still(t, s).made.Sub(begin); late > 2*time.Second {
		t.Errorf("Spark made rows for %s after the signal", late)
	}
	if code, r := c.inProcess(t, "data", "verify", c.root+"/dataset"); code != 3 {
		t.Errorf("exit code %d, %+v", code, r.Error)
	}
	c.run(t, 0, theJob...)
	c.clean(t, "an interrupted write", true)
}

// still waits until Spark makes no more rows, and gives the last one.
func (c *smallCluster) still(t *testing.T, s *sparkconn.Session) lastRow {
	t.Helper()
	var last lastRow
	since := time.Now()
	await(t, "Spark makes no more rows", func() bool {
		if r := c.last(t, s); r != last {
			last, since = r, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	return last
}

// TestKilledWhileSparkWrites: SIGKILL leaves Spark at work for nobody, here for ten minutes. The next run ends that before
// it asks Spark for anything, in a session of its own and in one that was given, and nothing of it is left.
func TestKilledWhileSparkWrites(t *testing.T) {
	t.Parallel()
	for name, session := range map[string]string{"own": "", "given": "/;session_id=" + uuid.NewString() + ";user_id=ann"} {
		t.Run(name, func(t *testing.T) {
			b := boxtest.Shared(t, "spark", "hdfs")
			// One slow task: the other slot of the box is for looking.
			c := smallOn(t, b, b.Spark+session, append(slices.Clone(slowSource), "range(600)", "range(0, 600, 1, 1)")...)
			c.run(t, 0, theJob...)
			before := c.readers(t, "before")
			p, s := c.writing(t, 1000)
			p.signal(t, syscall.SIGKILL)
			if code := p.wait(t); code != -1 {
				t.Fatalf("exit code %d", code)
			}
			if now := c.readers(t, "the kill"); now != before {
				t.Errorf("readers get %s, before it was %s", now, before)
			}
			if names := c.list(t, c.root+"/dataset"); !slices.Contains(names, "_left.json") {
				t.Errorf("the killed run has left no note: %v", names)
			}
			r := c.run(t, 0, theJob...)
			end := time.Now()
			if now := c.readers(t, "the next run"); !strings.HasSuffix(r.Model, now) || now == before {
				t.Errorf("readers get %s, before it was %s, the run made %s", now, before, r.Model)
			}
			if late := c.still(t, s).made.Sub(end); late > 0 {
				t.Errorf("Spark made rows for the dead run until %s after the next one", late)
			}
			c.clean(t, "a write that nobody waited for", true)
		})
	}
}
