package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
	"dkpipe/pipeline"
)

// twoUsers is an HDFS on which Spark is the user spark, dkpipe ann or eve, and new files are closed to others. ann and
// spark share the group team; annas and eves are groups of one.
type twoUsers struct {
	box.Box
	dir string // with the quickstart's spec, made small
}

func newTwoUsers(t *testing.T, hadoop ...string) *twoUsers {
	t.Helper()
	properties := map[string]string{
		"fs.permissions.umask-mode":                  "027",
		"hadoop.user.group.static.mapping.overrides": "hdfs=supergroup;ann=annas,team;spark=spark,team;eve=eves",
	}
	for i := 0; i < len(hadoop); i += 2 {
		properties[hadoop[i]] = hadoop[i+1]
	}
	b := boxtest.Start(t, box.Options{User: "hdfs", SparkUser: "spark", Datanodes: 2, Hadoop: properties})
	u := &twoUsers{Box: b, dir: quickstart(t, "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0")}
	u.mkdir(t, "/jobs", "hdfs", "supergroup", "755")
	return u
}

// web asks the NameNode's web service as the superuser.
func (u *twoUsers) web(t *testing.T, method, name, op string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+u.Namenodes[0].HTTP+"/webhdfs/v1"+name+"?user.name=hdfs&op="+op, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || err != nil {
		t.Fatalf("%s %s: %s %v", op, name, resp.Status, err)
	}
	return body
}

// list gives the access control list of a folder.
func (u *twoUsers) list(t *testing.T, name string) string {
	t.Helper()
	var said struct{ AclStatus struct{ Entries []string } }
	if err := json.Unmarshal(u.web(t, http.MethodGet, name, "GETACLSTATUS"), &said); err != nil {
		t.Fatal(err)
	}
	return strings.Join(said.AclStatus.Entries, " ")
}

func (u *twoUsers) mkdir(t *testing.T, name, owner, group, mode string) {
	t.Helper()
	u.web(t, http.MethodPut, name, "MKDIRS&permission="+mode)
	u.web(t, http.MethodPut, name, "SETOWNER&owner="+owner+"&group="+group)
}

// as runs dkpipe as a user of HDFS.
func (u *twoUsers) as(t *testing.T, user string, code int, args ...string) result {
	t.Helper()
	return u.with(t, user, nil, code, args...)
}

func (u *twoUsers) with(t *testing.T, user string, env []string, code int, args ...string) result {
	t.Helper()
	p := start(t, u.dir, append(env, "HADOOP_USER_NAME="+user, "HADOOP_CONF_DIR="+u.Conf, "SPARK_REMOTE="+u.Spark), append(args, "--json")...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe %s as %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), user, got, code, &p.stdout, &p.stderr)
	}
	if code == -1 {
		return result{}
	}
	return p.result(t)
}

// whole is the command line of a whole job on HDFS, with all its paths below root but the source.
func whole(source, root string) []string {
	return []string{"run", "-f", "job.yaml", "--set", "source={csv: \"" + source + "\"}",
		"--set", "dataset={path: \"hdfs://" + root + "/dataset\", shards: 2, keep_versions: 1},output={path: \"hdfs://" + root + "/model\"}"}
}

// preparing is the first half of it.
func preparing(source, root string) []string {
	args := whole(source, root)
	args[0] = "preprocess"
	return args
}

// below lists what is below a folder, as the superuser sees it.
func (u *twoUsers) below(t *testing.T, root string) []string {
	t.Helper()
	p := start(t, u.dir, []string{"HADOOP_USER_NAME=hdfs", "HADOOP_CONF_DIR=" + u.Conf}, "data", "ls", "-R", "hdfs://"+root, "--json")
	if code := p.wait(t); code != 0 {
		t.Fatalf("ls %s: exit code %d: %s %s", root, code, &p.stdout, &p.stderr)
	}
	var list struct{ Entries []struct{ Path string } }
	if err := json.Unmarshal(p.stdout.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list.Entries {
		_, name, _ := strings.Cut(e.Path, root+"/")
		names = append(names, name)
	}
	return names
}

// nothingMade checks that a job that stopped has left nothing in a root but the record of its lock.
func (u *twoUsers) nothingMade(t *testing.T, root string) {
	t.Helper()
	for _, name := range u.below(t, root) {
		if name != "_epochs" && path.Dir(name) != "_epochs" {
			t.Errorf("%s: the run that stopped left %s", root, name)
		}
	}
}

// denied checks an error's message and hint, with a word for the root.
func denied(t *testing.T, r result, message, hint string) {
	t.Helper()
	if r.Error == nil || r.Error.Kind != pipeline.Denied || r.Error.Message != message || r.Error.Hint != hint {
		t.Errorf("%+v\nwant message %q\nand hint     %q", r.Error, message, hint)
	}
}

// obey does what a hint says, with Hadoop's own program.
func (u *twoUsers) obey(t *testing.T, user, hint string) {
	t.Helper()
	_, commands, ok := strings.Cut(hint, "superuser: ")
	if !ok {
		t.Fatalf("the hint names no command: %s", hint)
	}
	jars, err := box.Prepare(t.Context(), box.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for c := range strings.SplitSeq(commands, " && ") {
		args, ok := strings.CutPrefix(c, "hdfs dfs ")
		if !ok {
			t.Fatalf("%q is no command of HDFS", c)
		}
		cmd := exec.CommandContext(t.Context(), "java", append([]string{"-XX:TieredStopAtLevel=1", "-cp", u.Conf + ":" + jars.Libraries + "/*",
			"org.apache.hadoop.fs.FsShell"}, strings.Fields(args)...)...)
		cmd.Env = append(os.Environ(), "HADOOP_USER_NAME="+user)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
}

// TestTwoUsersOfHDFS: with umask 027, where neither may touch what the other made, jobs work wholly or stop before any
// work with the command that helps.
func TestTwoUsersOfHDFS(t *testing.T) {
	u := newTwoUsers(t)
	u.mkdir(t, "/jobs/team", "ann", "team", "770")
	u.mkdir(t, "/jobs/ann", "ann", "annas", "755")
	u.as(t, "ann", 0, "data", "put", "digits.csv", "hdfs:///jobs/team/digits.csv")
	t.Run("one group", u.oneGroup)
	t.Run("no group", u.noGroup)
	t.Run("the superuser", u.asSuperuser)
	t.Run("a closed folder above", u.closedFolderAbove)
	t.Run("a closed source", u.closedSource)
	t.Run("a source with one closed file", u.oneClosedFile)
	t.Run("garbage of somebody else's", u.garbageOfOthers)
	t.Run("a root of somebody else's", u.rootOfOthers)
	t.Run("doctor", u.doctor)
}

// In one group Spark's user comes as far as the root and may write nowhere: dkpipe gives it the folder of a version.
func (u *twoUsers) oneGroup(t *testing.T) {
	args := whole("hdfs:///jobs/team/digits.csv", "/jobs/team")
	first := u.as(t, "ann", 0, args...)
	u.with(t, "ann", []string{crashAt + "=shards written#1"}, -1, args...)
	if !slices.ContainsFunc(u.below(t, "/jobs/team/dataset"), func(n string) bool { return strings.HasPrefix(n, ".stage-") && strings.HasSuffix(n, ".parquet") }) {
		t.Fatal("the killed run has left no stage with files of Spark's")
	}
	second := u.as(t, "ann", 0, args...)
	if first.Rows["train"]+first.Rows["test"] != 1797 || second.Rows["train"] != first.Rows["train"] {
		t.Errorf("rows %v, then %v", first.Rows, second.Rows)
	}
	u.as(t, "ann", 0, "data", "verify", second.Dataset, second.Model)
	u.as(t, "ann", 0, "evaluate", "--model", second.Model, "--data", second.Dataset)
	for _, name := range u.below(t, "/jobs/team/dataset") {
		if strings.HasPrefix(name, ".") || strings.HasPrefix(name, path.Base(first.Dataset)) {
			t.Errorf("%s was not collected", name)
		}
	}
}

// Without a common group it does not even come to the root, nor to the folder above, which dkpipe makes and opens; but no further.
func (u *twoUsers) noGroup(t *testing.T) {
	r := u.as(t, "ann", 0, whole("hdfs:///jobs/team/digits.csv", "/jobs/ann/own")...)
	for name, want := range map[string]string{"": "user:spark:--x group::r-x", "/dataset": "user:spark:--x group::r-x", "/model": ""} {
		if got := u.list(t, "/jobs/ann/own"+name); got != want {
			t.Errorf("%s/jobs/ann/own has the list %q, want %q", name, got, want)
		}
	}
	u.as(t, "ann", 0, "evaluate", "--model", r.Model, "--data", r.Dataset)
}

func (u *twoUsers) asSuperuser(t *testing.T) {
	u.mkdir(t, "/jobs/super", "hdfs", "supergroup", "755")
	u.as(t, "hdfs", 0, preparing("hdfs:///jobs/team/digits.csv", "/jobs/super")...)
}

func (u *twoUsers) closedFolderAbove(t *testing.T) {
	u.mkdir(t, "/jobs/eve", "eve", "eves", "700")
	u.mkdir(t, "/jobs/eve/deep", "eve", "eves", "700")
	u.as(t, "eve", 0, "data", "put", "digits.csv", "hdfs:///jobs/eve/digits.csv")
	r := u.as(t, "eve", 4, whole("hdfs:///jobs/team/digits.csv", "/jobs/eve/deep")...)
	denied(t, r, "dataset hdfs:///jobs/eve/deep/dataset: Spark is the HDFS user spark, who may not enter /jobs/eve (eve:eves:drwx------)",
		"as eve or the superuser: hdfs dfs -setfacl -m user:spark:--x /jobs/eve")
	u.nothingMade(t, "/jobs/eve/deep/dataset")
	u.nothingMade(t, "/jobs/eve/deep/model")
	u.obey(t, "eve", r.Error.Hint)
	u.as(t, "eve", 0, preparing("hdfs:///jobs/team/digits.csv", "/jobs/eve/deep")...)
}

// dkpipe put the file there with its own umask; Spark reads the source.
func (u *twoUsers) closedSource(t *testing.T) {
	u.as(t, "ann", 0, "data", "put", "digits.csv", "hdfs:///jobs/ann/digits.csv")
	r := u.as(t, "ann", 4, whole("hdfs:///jobs/ann/digits.csv", "/jobs/ann/more")...)
	denied(t, r, "source: Spark is the HDFS user spark, who may not read /jobs/ann/digits.csv (ann:annas:-rw-r-----)",
		"as ann or the superuser: hdfs dfs -setfacl -m user:spark:r-- /jobs/ann/digits.csv")
	u.nothingMade(t, "/jobs/ann/more/dataset")
	live := u.as(t, "ann", 4, append(whole("hdfs:///jobs/ann/digits.csv", "/jobs/ann/more"), "--set", "dataset.live=true")...)
	denied(t, live, r.Error.Message, r.Error.Hint)
	query := u.as(t, "ann", 4, append(whole("", "/jobs/ann/more"), "--set", "source={sql: \"SELECT * FROM csv.`hdfs:///jobs/ann/digits.csv`\"}")...)
	denied(t, query, r.Error.Message, "as ann or the superuser: hdfs dfs -setfacl -R -m user:spark:r-x,default:user:spark:r-x /jobs/ann")
	u.nothingMade(t, "/jobs/ann/more/dataset")
	u.obey(t, "ann", r.Error.Hint)
	u.as(t, "ann", 0, preparing("hdfs:///jobs/ann/digits.csv", "/jobs/ann/more")...)
}

func (u *twoUsers) oneClosedFile(t *testing.T) {
	u.mkdir(t, "/jobs/days", "ann", "annas", "755")
	for i := range 3 {
		u.as(t, "ann", 0, "data", "put", "digits.csv", fmt.Sprintf("hdfs:///jobs/days/%d.csv", i))
	}
	u.web(t, http.MethodPut, "/jobs/days/0.csv", "SETPERMISSION&permission=644")
	u.web(t, http.MethodPut, "/jobs/days/2.csv", "SETPERMISSION&permission=644")
	r := u.as(t, "ann", 4, whole("hdfs:///jobs/days/*.csv", "/jobs/ann/days")...)
	denied(t, r, "source: Spark is the HDFS user spark, who may not read /jobs/days/1.csv (ann:annas:-rw-r-----)",
		"as ann or the superuser: hdfs dfs -setfacl -R -m user:spark:r-x,default:user:spark:r-x /jobs/days")
	u.nothingMade(t, "/jobs/ann/days/dataset")
	u.obey(t, "ann", r.Error.Hint)
	u.as(t, "ann", 0, preparing("hdfs:///jobs/days/*.csv", "/jobs/ann/days")...)
}

func (u *twoUsers) garbageOfOthers(t *testing.T) {
	const stage = "/jobs/team/dataset/.stage-v000009-eve"
	u.mkdir(t, stage+"/data/part", "eve", "eves", "700")
	u.web(t, http.MethodPut, stage+"/data", "SETOWNER&owner=eve&group=eves")
	const old = "/jobs/team/dataset/v000001" // older than what is kept
	u.mkdir(t, old+"/train", "eve", "eves", "700")
	u.web(t, http.MethodPut, old, "SETOWNER&owner=eve&group=eves")
	args := preparing("hdfs:///jobs/team/digits.csv", "/jobs/team")
	const command = "superuser: hdfs dfs -rm -r -skipTrash hdfs://"
	for n, names := range [][]string{{stage, "/jobs/team/dataset/.trash-v000001-"}, {stage, "; and 1 more; "}} { // each run tries again
		r := u.as(t, "ann", 0, args...)
		text := strings.Join(r.Warnings, "\n")
		for _, name := range append(names, command) {
			if !strings.Contains(text, name) {
				t.Errorf("run %d: the warnings %q do not name %s", n, r.Warnings, name)
			}
		}
		u.as(t, "ann", 0, "data", "verify", r.Dataset)
	}
	for _, name := range u.below(t, "/jobs/team/dataset") {
		if strings.HasPrefix(name, ".") {
			u.web(t, http.MethodPut, "/jobs/team/dataset/"+name, "SETOWNER&owner=ann&group=team")
		}
	}
	if r := u.as(t, "ann", 0, args...); len(r.Warnings) > 0 {
		t.Errorf("warnings %q when nothing is in the way", r.Warnings)
	}
	for _, name := range u.below(t, "/jobs/team/dataset") {
		if strings.HasPrefix(name, ".") {
			t.Errorf("left: %s", name)
		}
	}
}

func (u *twoUsers) rootOfOthers(t *testing.T) {
	u.mkdir(t, "/jobs/other", "eve", "eves", "755")
	r := u.as(t, "ann", 4, whole("hdfs:///jobs/team/digits.csv", "/jobs/other")...)
	if r.Error.Kind != pipeline.Denied || !strings.Contains(r.Error.Message, "user=ann, access=WRITE") || !strings.Contains(r.Error.Message, `"/jobs/other"`) {
		t.Errorf("%+v", r.Error)
	}
	if left := u.below(t, "/jobs/other"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// doctor looks at the same set-ups.
func (u *twoUsers) doctor(t *testing.T) {
	examine := func(user string, code int, source, root string) map[string]check {
		args := whole(source, root)
		args[0] = "doctor"
		p := start(t, u.dir, []string{"HADOOP_USER_NAME=" + user, "HADOOP_CONF_DIR=" + u.Conf, "SPARK_REMOTE=" + u.Spark}, append(args, "--json")...)
		if got := p.wait(t); got != code {
			t.Fatalf("doctor as %s on %s: exit code %d, want %d\n%s\n%s", user, root, got, code, &p.stdout, &p.stderr)
		}
		return checksOf(t, p.stdout.Bytes())
	}
	before := u.below(t, "/jobs")
	c := examine("ann", 0, "hdfs:///jobs/team/digits.csv", "/jobs/team")
	for name, want := range map[string]string{
		"spark user":     "for HDFS Spark is the user spark",
		"source":         "Spark (spark) may read hdfs:///jobs/team/digits.csv, and so may dkpipe (ann), columns fit the transformers",
		"dataset":        "hdfs:///jobs/team/dataset can be written by ann; /jobs/team/dataset is ann:team:drwxr-x---",
		"dataset rights": "what Spark (spark) writes there, dkpipe (ann) reads, renames and removes",
		"output":         "hdfs:///jobs/team/model can be written by ann; /jobs/team/model is ann:team:drwxr-x---",
	} {
		if c[name].Status != "ok" || c[name].Detail != want {
			t.Errorf("%s: %+v, want %q", name, c[name], want)
		}
	}
	u.mkdir(t, "/jobs/shut/letters", "eve", "eves", "700")
	u.web(t, http.MethodPut, "/jobs/shut", "SETOWNER&owner=eve&group=eves")
	u.web(t, http.MethodPut, "/jobs/shut", "SETPERMISSION&permission=700")
	c = examine("eve", 4, "hdfs:///jobs/team/digits.csv", "/jobs/shut")
	if k := c["dataset rights"]; k.Status != "fail" || k.Kind != pipeline.Denied || k.Hint != "as eve or the superuser: hdfs dfs -setfacl -m user:spark:--x /jobs/shut" {
		t.Errorf("%+v", k)
	}
	if k := c["source"]; k.Status != "ok" || !strings.Contains(k.Detail, "dkpipe (eve) may not") {
		t.Errorf("%+v", k)
	}
	c = examine("eve", 4, "hdfs:///jobs/team/digits.csv", "/jobs/ann")
	if k := c["dataset"]; k.Status != "fail" || k.Kind != pipeline.Denied || !strings.Contains(k.Detail, "dkpipe is the HDFS user eve, who may not write in /jobs/ann (ann:annas:drwxr-xr-x)") {
		t.Errorf("%+v", k)
	}
	// A root that ann made, and Spark's user has not entered yet: the first run opens it, doctor does not.
	u.mkdir(t, "/jobs/ann/fresh/dataset", "ann", "annas", "750")
	u.web(t, http.MethodPut, "/jobs/ann/fresh", "SETPERMISSION&permission=755")
	c = examine("ann", 4, "hdfs:///jobs/team/digits.csv", "/jobs/ann/fresh") // 4: the model's folder is the superuser's
	if k := c["dataset rights"]; k.Status != "ok" || !strings.Contains(k.Detail, "Spark (spark) may not enter yet; /jobs/ann/fresh/dataset is dkpipe's (ann)") {
		t.Errorf("%+v", k)
	}
	u.web(t, http.MethodDelete, "/jobs/ann/fresh", "DELETE&recursive=true")
	u.web(t, http.MethodDelete, "/jobs/shut", "DELETE&recursive=true")
	if after := u.below(t, "/jobs"); !slices.Equal(before, after) {
		t.Errorf("doctor left something:\nbefore %v\nafter  %v", before, after)
	}

	if _, err := box.Control(t.Context(), u.Dir, "stopdn 0"); err != nil {
		t.Fatal(err)
	}
	dir, _ := filepath.Abs(u.dir)
	p := start(t, dir, []string{"HADOOP_USER_NAME=hdfs", "HADOOP_CONF_DIR=" + u.Conf, "SPARK_REMOTE=" + u.Spark}, append([]string{"doctor"}, append(whole("hdfs:///jobs/team/digits.csv", "/jobs/team")[1:], "--json")...)...)
	p.wait(t) // whether a write goes through with the other datanode is chance
	c = checksOf(t, p.stdout.Bytes())
	if k := c["hdfs datanodes"]; k.Status != "warn" || !strings.Contains(k.Detail, "1 of 2 do not take connections: "+u.Datanodes[0].Address) {
		t.Errorf("%+v", k)
	}
	if k := c["source"]; k.Status != "ok" {
		t.Errorf("the source has another replica: %+v", k)
	}
}

// TestTwoUsersWithoutAccessControlLists: only a group and a umask that suits it would do; what is missing is named, and
// what Spark's user has made, and dkpipe's may not remove, is gone all the same.
func TestTwoUsersWithoutAccessControlLists(t *testing.T) {
	u := newTwoUsers(t, "dfs.namenode.acls.enabled", "false")
	u.mkdir(t, "/jobs/team", "ann", "team", "770")
	u.mkdir(t, "/jobs/ann", "ann", "annas", "755")
	u.as(t, "ann", 0, "data", "put", "digits.csv", "hdfs:///jobs/team/digits.csv")
	hint := func(root string) string {
		return "this HDFS has no access control lists: set dfs.namenode.acls.enabled=true on the NameNode, or put ann and spark into one group, " +
			"hdfs dfs -chgrp -R GROUP " + root + " && hdfs dfs -chmod g+rx " + root + ", and start Spark with spark.hadoop.fs.permissions.umask-mode=007"
	}
	r := u.as(t, "ann", 4, whole("hdfs:///jobs/team/digits.csv", "/jobs/ann")...)
	denied(t, r, "dataset hdfs:///jobs/ann/dataset: Spark is the HDFS user spark, who may not enter /jobs/ann/dataset (ann:annas:drwxr-x---)", hint("/jobs/ann/dataset"))
	u.nothingMade(t, "/jobs/ann/dataset")
	r = u.as(t, "ann", 4, whole("hdfs:///jobs/team/digits.csv", "/jobs/team")...)
	denied(t, r, "dataset hdfs:///jobs/team/dataset: dkpipe is the HDFS user ann, who may not remove what Spark's user spark writes: a folder of Spark's is spark:team:drwxr-x---",
		hint("/jobs/team/dataset"))
	u.nothingMade(t, "/jobs/team/dataset")
}
