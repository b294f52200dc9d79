package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"dkpipe/internal/box/boxtest"
	"dkpipe/pipeline"
	"dkpipe/sparkconn"
)

// checksOf decodes what doctor --json says, by name.
func checksOf(t *testing.T, stdout []byte) map[string]check {
	t.Helper()
	var said struct {
		Command string
		Checks  []check
	}
	if err := json.Unmarshal(stdout, &said); err != nil || said.Command != "doctor" {
		t.Fatalf("%v in %s", err, stdout)
	}
	checks := map[string]check{}
	for _, c := range said.Checks {
		if _, twice := checks[c.Name]; twice {
			t.Errorf("two checks are called %q", c.Name)
		}
		if c.Status == "fail" && c.Kind == "" || c.Status != "fail" && c.Kind != "" {
			t.Errorf("%+v: a kind is what a failure has", c)
		}
		checks[c.Name] = c
	}
	return checks
}

// doctor examines the quickstart with other settings and another environment.
func doctor(t *testing.T, dir string, env []string, code int, args ...string) map[string]check {
	t.Helper()
	p := start(t, dir, env, append([]string{"doctor", "--json"}, args...)...)
	if got := p.wait(t); got != code {
		t.Fatalf("doctor %v: exit code %d, want %d\n%s\n%s", args, got, code, &p.stdout, &p.stderr)
	}
	return checksOf(t, p.stdout.Bytes())
}

func TestDoctorWithoutASpecLooksAtTheMachine(t *testing.T) {
	c := doctor(t, t.TempDir(), nil, 0)
	for _, name := range []string{"dkpipe", "kernels", "loopback", "temporary folder"} {
		if c[name].Status != "ok" {
			t.Errorf("%s: %+v", name, c[name])
		}
	}
	p := start(t, t.TempDir(), nil, "doctor")
	if code := p.wait(t); code != 0 || !strings.Contains(p.stdout.String(), "loopback") || strings.Contains(p.stdout.String(), "{") {
		t.Errorf("for people: exit code %d\n%s", code, &p.stdout)
	}
}

func TestDoctorOfALocalJob(t *testing.T) {
	dir := quickstart(t)
	c := doctor(t, dir, nil, 0, "-f", "job.yaml")
	for name, detail := range map[string]string{"spec": "job.yaml", "source": "columns fit", "dataset": "out/dataset can be written", "output LATEST": "no version yet", "train": "agn"} {
		if c[name].Status != "ok" || !strings.Contains(c[name].Detail, detail) {
			t.Errorf("%s: %+v", name, c[name])
		}
	}
	if _, err := os.Stat(dir + "/out"); !os.IsNotExist(err) {
		t.Errorf("doctor made a folder: %v", err)
	}
	c = doctor(t, dir, nil, 3, "-f", "job.yaml", "--set", "source.csv=absent.csv")
	if c["source"].Status != "fail" || c["source"].Kind != pipeline.Data || c["dataset"].Status != "ok" {
		t.Errorf("%+v", c)
	}
}

// TestDoctorOfASparkJob: everything that the job needs is there.
func TestDoctorOfASparkJob(t *testing.T) {
	b := boxtest.Shared(t, "spark", "hdfs")
	dir := quickstart(t)
	root := b.HDFS + "/" + strings.ToLower(t.Name())
	env := []string{"SPARK_REMOTE=" + b.Spark, "HADOOP_CONF_DIR=" + b.Conf}
	data(t, dir, 0, "put", "digits.csv", root+"/digits.csv")
	t.Cleanup(func() { data(t, dir, 0, "rm", "-r", "-f", root) })
	c := doctor(t, dir, env, 0, "-f", "job.yaml", "--set", "source.csv="+root+"/digits.csv,dataset.path="+root+"/new/dataset,output.path="+root+"/new/model")
	for name, detail := range map[string]string{
		"spark port":     strings.TrimPrefix(b.Spark, "sc://"),
		"spark":          "Spark 4.",
		"spark ansi":     "on in dkpipe's session",
		"spark avro":     "answers",
		"spark clock":    "ours",
		"spark user":     "for HDFS Spark is the user " + b.SparkUser,
		"hdfs namenode":  b.Namenodes[0].Address,
		"hdfs":           "there dkpipe is the user " + b.User,
		"hdfs datanodes": b.Datanodes[0].Address,
		"hdfs clock":     "ours",
		"source":         "Spark (" + b.SparkUser + ") may read " + root + "/digits.csv",
		"dataset":        root + "/new/dataset can be written",
		"dataset rights": "Spark and dkpipe are both the HDFS user " + b.User,
		"output":         root + "/new/model can be written",
		"executors":      "4 of 4 tasks reached this machine at 127.0.0.1",
	} {
		if c[name].Status != "ok" || !strings.Contains(c[name].Detail, detail) {
			t.Errorf("%s: %+v, want %q", name, c[name], detail)
		}
	}
	if left := data(t, dir, 0, "ls", "-R", root).Entries; len(left) != 1 {
		t.Errorf("doctor left something: %+v", left)
	}
	// A dataset on this machine is checked as well: Spark's may be another.
	c = doctor(t, dir, env, 0, "-f", "job.yaml")
	if k := c["dataset rights"]; k.Status != "ok" || k.Detail != "what Spark writes there, dkpipe reads, renames and removes" {
		t.Errorf("%+v", k)
	}
	c = doctor(t, dir, env, 3, "-f", "job.yaml", "--set", "source.csv=absent.csv")
	if k := c["source"]; k.Status != "fail" || k.Kind != pipeline.Data || c["dataset rights"].Status != "ok" {
		t.Errorf("%+v", c)
	}
}

// TestDoctorNamesServersThatAreDown: a failure with its kind and within seconds, while the other checks still run.
func TestDoctorNamesServersThatAreDown(t *testing.T) {
	closed := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	spark, namenode := closed(), closed()
	c := doctor(t, quickstart(t), []string{"SPARK_REMOTE=sc://" + spark}, 4, "-f", "job.yaml", "--set", "dataset.path=hdfs://"+namenode+"/x")
	for name, want := range map[string]check{
		"spark port":    {Status: "fail", Kind: pipeline.Unreachable, Detail: "no connection: " + spark + " (connection refused)"},
		"hdfs namenode": {Status: "fail", Kind: pipeline.Unreachable, Detail: "no connection: " + namenode + " (connection refused)"},
		"source":        {Status: "warn", Detail: "not checked: Spark, which reads it, does not answer"},
		"dataset":       {Status: "warn", Detail: "not checked: the store of hdfs://" + namenode + "/x does not answer"},
		"output":        {Status: "ok", Detail: "out/model can be written"},
		"train":         {Status: "ok", Detail: "agn, 2 workers"},
	} {
		got := c[name]
		if got.Status == "fail" && got.Hint == "" {
			t.Errorf("%s: no next step", name)
		}
		if got.Name, got.Hint = "", ""; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}

	// A server that takes connections and says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel takes connections for it
	begin := time.Now()
	c = doctor(t, quickstart(t), []string{"SPARK_REMOTE=sc://" + l.Addr().String()}, 4, "-f", "job.yaml")
	if k := c["spark"]; k.Status != "fail" || k.Kind != pipeline.Unreachable && k.Kind != pipeline.Timeout || c["spark port"].Status != "ok" || c["output"].Status != "ok" {
		t.Errorf("%+v", c)
	}
	if took := time.Since(begin); took > 2*checkTime {
		t.Errorf("it took %s", took)
	}
}

func TestClocksAreComparedWithinTheTimeOfTheQuestion(t *testing.T) {
	at := func(s float64) time.Time { return time.UnixMilli(1_000_000 + int64(s*1000)) }
	for _, c := range []struct {
		clock          float64
		status, detail string
	}{
		{0, "ok", "its agrees with ours"},
		{1, "ok", "its agrees with ours"},
		{-0.5, "ok", "its is 500ms behind ours"},
		{3, "ok", "its is 2s ahead of ours"},
		{5, "warn", "its is 4s ahead of ours"},
		{-100, "warn", "its is 1m40s behind ours"},
	} {
		if got := clockCheck("clock", "its", at(c.clock), at(0), at(1)); got.Status != c.status || got.Detail != c.detail || (got.Hint != "") != (c.status == "warn") {
			t.Errorf("%g s: %+v", c.clock, got)
		}
	}
}

func TestVersionsOfSparkThatAreKnown(t *testing.T) {
	for version, status := range map[string]string{"3.5.5": "ok", "4.0.1": "ok", "4.3.0": "ok", "3.6.0": "warn", "5.0.0": "warn", "40.1": "warn"} {
		if got := versionCheck(version, "sc://h"); got.Status != status {
			t.Errorf("%s: %+v", version, got)
		}
	}
}

func TestOneOfSeveralPortsIsWorthAWarning(t *testing.T) {
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut.Close()
	a, b := open.Addr().String(), shut.Addr().String()
	for _, c := range []struct {
		addresses []string
		status    string
		kind      pipeline.Kind
	}{{[]string{a}, "ok", ""}, {[]string{a, b}, "warn", ""}, {[]string{b, b}, "fail", pipeline.Unreachable}} {
		if got := portsCheck(t.Context(), "ports", "next", c.addresses); got.Status != c.status || got.Kind != c.kind || (c.status != "ok") != strings.Contains(got.Detail, b) {
			t.Errorf("%v: %+v", c.addresses, got)
		}
	}
}

// TestOnlyThoseWhoKnowTheWordAreCounted: somebody else may find the port that doctor opens.
func TestOnlyThoseWhoKnowTheWordAreCounted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := listenFor(l, "abc")
	for _, word := range []string{"abc\n", "abd\n", "abcabc\n", "", "abc\n"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()                  // the other side may have hung up, having heard enough
		if _, err := conn.Read(make([]byte, 1)); err == nil { // until it hangs up
			t.Error("it answers")
		}
		conn.Close()
	}
	l.Close()
	if n := heard(); n != 2 {
		t.Errorf("%d were counted, want 2", n)
	}
}

func TestARightIsGivenByACommand(t *testing.T) {
	d := sparkconn.Denial{User: "spark", Rights: "ann:team:drwxr-x---", Path: "/a/b"}
	for _, c := range []struct{ access, name, want string }{
		{"EXECUTE", "/a/b", "hdfs dfs -setfacl -m user:spark:--x /a/b && hdfs dfs -setfacl -m user:spark:--x /a/b/c && hdfs dfs -setfacl -m user:spark:--x /a/b/c/d"},
		{"WRITE", "/a/b", "hdfs dfs -setfacl -m user:spark:rwx,default:user:spark:rwx /a/b"},
		{"READ", "/a/b", "hdfs dfs -setfacl -m user:spark:r-- /a/b"},
		{"READ", "/a", "hdfs dfs -setfacl -R -m user:spark:r-x,default:user:spark:r-x /a"},
		{"READ_EXECUTE", "/a/b", "hdfs dfs -setfacl -R -m user:spark:r-x,default:user:spark:r-x /a/b"},
	} {
		d.Access = c.access
		var more []string
		if c.access == "EXECUTE" {
			more = between("/a/b", "/a/b/c/d/root")
		}
		if got := giving(d, c.name, more...); got != "as ann or the superuser: "+c.want {
			t.Errorf("%s on %s: %s", c.access, c.name, got)
		}
	}
	if got := between("/elsewhere", "/a/b"); got != nil {
		t.Errorf("%v", got)
	}
	if got := between("/", "/a/b"); len(got) != 1 || got[0] != "/a" {
		t.Errorf("%v", got)
	}
}
