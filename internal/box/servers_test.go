//go:build linux

package box_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dkpipe/internal/box"
	"dkpipe/internal/box/boxtest"
)

// up starts a box with a supervisor process, which the test may kill.
func up(t *testing.T, o box.Options) box.Box {
	t.Helper()
	boxtest.Need(t, "spark", "hdfs")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Supervisor = []string{exe, superviseWord}
	o.Progress = func(s string) { t.Log(s) }
	b, err := box.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Down(t.Context(), o.Dir); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		_ = syscall.Kill(b.PID, syscall.SIGKILL)
		reap(b.PID)
	})
	return b
}

// reap takes a supervisor, which is a child of the test, from the list of processes once it has ended.
func reap(pid int) {
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &status, 0, nil)
}

// await waits until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("still not: " + what)
		}
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// processesOf finds the processes whose command line names the folder: all JVMs of a box, and its executors.
func processesOf(t *testing.T, dir string) []int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range lines {
		text, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(text), dir+"/") && !strings.Contains(string(text), dir+"\x00") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(name, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func control(t *testing.T, b box.Box, command string) string {
	t.Helper()
	text, err := box.Control(t.Context(), b.Dir, command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return text
}

// webhdfs does one request with the namenode's web server, following it to a datanode.
func webhdfs(t *testing.T, b box.Box, method, path, op, body string) (int, string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	address := "http://" + b.Namenodes[0].HTTP + "/webhdfs/v1" + path + "?user.name=" + url.QueryEscape(b.User) + "&op=" + op
	for {
		r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if next := resp.Header.Get("Location"); resp.StatusCode == http.StatusTemporaryRedirect {
			address = next
			continue
		}
		if err != nil {
			text = append(text, err.Error()...)
		}
		return resp.StatusCode, string(text)
	}
}

func answers(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func put(t *testing.T, b box.Box, path, body string) {
	t.Helper()
	if code, text := webhdfs(t, b, http.MethodPut, path, "CREATE&overwrite=true", body); code != http.StatusCreated {
		t.Fatalf("create %s: %d %s", path, code, text)
	}
}

func query(t *testing.T, b box.Box, sql string) uint64 {
	t.Helper()
	n, err := box.Query(t.Context(), strings.TrimPrefix(b.Spark, "sc://"), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func TestUpGivesServersThatAnswerAndDownEndsThem(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	b := up(t, box.Options{Dir: filepath.Join(t.TempDir(), strings.Repeat("a-long-name-", 12))})
	t.Logf("ready after %v, %s", time.Since(begin).Round(10*time.Millisecond), memory(t, b))
	if n := query(t, b, "SELECT * FROM range(7)"); n != 7 {
		t.Errorf("Spark gives %d rows", n)
	}
	put(t, b, "/user/"+b.User+"/a.txt", "abc")
	query(t, b, "INSERT OVERWRITE DIRECTORY '"+b.HDFS+"/tmp/out' USING parquet SELECT * FROM range(9)")
	if n := query(t, b, "SELECT * FROM parquet.`/tmp/out`"); n != 9 {
		t.Errorf("Spark reads %d rows from HDFS", n)
	}
	checkStatus(t, b)
	onlyOnLoopback(t, b)
	onlyInDir(t, b)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = box.Up(t.Context(), box.Options{Dir: b.Dir, Supervisor: []string{exe, superviseWord}})
	if e, ok := errors.AsType[*box.Error](err); !ok || e.Kind != "busy" || !strings.Contains(e.Error(), b.Dir) {
		t.Errorf("a second box in the folder: %v", err)
	}

	begin = time.Now()
	if err := box.Down(t.Context(), b.Dir); err != nil {
		t.Fatal(err)
	}
	t.Logf("down after %v", time.Since(begin).Round(10*time.Millisecond))
	reap(b.PID)
	if left := processesOf(t, b.Dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	after, err := box.Status(b.Dir)
	if err != nil || after.State != box.Stopped || len(after.Processes) > 0 {
		t.Errorf("%+v, %v", after, err)
	}
	if _, err := box.Env(b.Dir); err == nil {
		t.Error("a stopped box has an environment")
	}
	if err := box.Down(t.Context(), b.Dir); err != nil {
		t.Errorf("a second Down: %v", err)
	}
}

func checkStatus(t *testing.T, b box.Box) {
	t.Helper()
	s, err := box.Status(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", s) != fmt.Sprintf("%+v", b) || s.State != box.Running {
		t.Errorf("Up said    %+v\nStatus says %+v", b, s)
	}
	text, err := os.ReadFile(filepath.Join(b.Dir, "box.json"))
	if err != nil {
		t.Fatal(err)
	}
	var onDisk box.Box
	if err := json.Unmarshal(text, &onDisk); err != nil || fmt.Sprintf("%+v", onDisk) != fmt.Sprintf("%+v", b) {
		t.Errorf("box.json: %s, %v", text, err)
	}
	site, err := os.ReadFile(filepath.Join(b.Conf, "core-site.xml"))
	if err != nil || !strings.Contains(string(site), "<value>"+b.HDFS+"</value>") {
		t.Errorf("core-site.xml: %s, %v", site, err)
	}
	env, err := box.Env(b.Dir)
	if err != nil || len(env) != 3 || env[0] != "export SPARK_REMOTE="+b.Spark || env[1] != "export HADOOP_CONF_DIR="+b.Conf {
		t.Errorf("%q, %v", env, err)
	}
}

// memory tells the resident memory of the JVMs.
func memory(t *testing.T, b box.Box) string {
	t.Helper()
	var all []string
	for _, p := range b.Processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		rss, _, _ := strings.Cut(rest, "\n")
		all = append(all, p.Name+" "+strings.TrimSpace(rss))
	}
	return strings.Join(all, ", ")
}

// onlyOnLoopback finds the listening sockets of the box's processes and looks at their addresses.
func onlyOnLoopback(t *testing.T, b box.Box) {
	t.Helper()
	inodes := map[string]bool{}
	for _, pid := range processesOf(t, b.Dir) {
		for _, target := range openFiles(pid) {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				inodes[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	listening := 0
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line) // local address in hexadecimal is 1, state is 3 (0A: listening), inode is 9
			if len(f) < 10 || f[3] != "0A" || !inodes[f[9]] {
				continue
			}
			listening++
			if !strings.HasPrefix(f[1], "0100007F:") {
				t.Errorf("a listener is at %s of %s", f[1], table)
			}
		}
	}
	if listening < 4 { // Spark Connect, the namenode's RPC, the datanode's transfers, ...
		t.Errorf("only %d listeners were found", listening)
	}
}

func openFiles(pid int) []string {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var targets []string
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

// onlyInDir looks for files of the box's processes that are open for writing elsewhere, and for the traces that JVMs
// and Jetty leave in the system's temporary folder.
func onlyInDir(t *testing.T, b box.Box) {
	t.Helper()
	for _, p := range b.Processes {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.PID))
		for _, fdinfo := range fds {
			target, err := os.Readlink(strings.Replace(fdinfo, "/fdinfo/", "/fd/", 1))
			info, err2 := os.ReadFile(fdinfo)
			if err != nil || err2 != nil || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "/dev/") {
				continue
			}
			_, rest, _ := strings.Cut(string(info), "flags:")
			octal, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
			flags, err := strconv.ParseInt(octal, 8, 64)
			if err != nil {
				t.Fatal(err)
			}
			if flags&(syscall.O_WRONLY|syscall.O_RDWR) != 0 && !strings.HasPrefix(target, b.Dir+"/") {
				t.Errorf("%s writes to %s", p.Name, target)
			}
		}
		traces, _ := filepath.Glob(filepath.Join(os.TempDir(), "hsperfdata_*", strconv.Itoa(p.PID)))
		if len(traces) > 0 {
			t.Errorf("%s left %v", p.Name, traces)
		}
	}
}

func TestAKilledSupervisorTakesItsServersAlong(t *testing.T) {
	t.Parallel()
	b := up(t, box.Options{Only: "hdfs"})
	kill(t, b.PID)
	reap(b.PID)
	await(t, "the JVM is gone", func() bool { return gone(b.Processes[0].PID) })
	s, err := box.Status(b.Dir)
	if err != nil || s.State != box.Failed || !strings.Contains(s.Error, "supervisor") {
		t.Errorf("%+v, %v", s, err)
	}
	if err := box.Down(t.Context(), b.Dir); err != nil {
		t.Errorf("Down of what was killed: %v", err)
	}
}

func TestAKilledJVMEndsTheBoxWhichSaysSo(t *testing.T) {
	t.Parallel()
	b := up(t, box.Options{Only: "hdfs"})
	kill(t, b.Processes[0].PID)
	reap(b.PID) // returns when the supervisor has ended
	s, err := box.Status(b.Dir)
	if err != nil || s.State != box.Failed || !strings.Contains(s.Error, "signal: killed") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestDownKillsASupervisorThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b := up(t, box.Options{Only: "hdfs"})
	if err := syscall.Kill(b.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := box.Down(t.Context(), b.Dir); err != nil {
		t.Fatal(err)
	}
	reap(b.PID)
	await(t, "all processes are gone", func() bool { return len(processesOf(t, b.Dir)) == 0 })
}

func TestExecutorsEndWithWhateverIsKilled(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"supervisor", "jvm"} {
		t.Run(victim, func(t *testing.T) {
			b := up(t, box.Options{Only: "spark", Executors: 1})
			query(t, b, "SELECT count(*) FROM range(10)") // runs on an executor
			if n := len(processesOf(t, b.Dir)); n < 3 {   // supervisor, JVM, executor
				t.Fatalf("%d processes", n)
			}
			if victim == "jvm" {
				kill(t, b.Processes[0].PID)
			} else {
				kill(t, b.PID)
			}
			reap(b.PID)
			await(t, "all processes are gone", func() bool { return len(processesOf(t, b.Dir)) == 0 })
		})
	}
}

func TestASupervisorWhoseParentGaveUpLeavesNothing(t *testing.T) {
	t.Parallel()
	boxtest.Need(t, "hdfs")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := box.Options{Dir: t.TempDir(), Only: "hdfs", Supervisor: []string{exe, superviseWord}, Timeout: time.Millisecond}
	_, err = box.Up(t.Context(), o)
	if e, ok := errors.AsType[*box.Error](err); !ok || e.Kind != "timeout" {
		t.Errorf("a start with no time: %v", err)
	}
	if left := processesOf(t, o.Dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestSeparateProcessesDieAndComeBackAlone(t *testing.T) {
	t.Parallel()
	b := up(t, box.Options{Separate: true, Datanodes: 2})
	t.Log(memory(t, b))
	if len(b.Processes) != 4 || len(b.Datanodes) != 2 {
		t.Fatalf("%+v", b)
	}
	put(t, b, "/tmp/a.txt", "abc")
	query(t, b, "SELECT * FROM text.`/tmp/a.txt`")
	onlyOnLoopback(t, b)

	control(t, b, "kill datanode0")
	s, err := box.Status(b.Dir)
	if err != nil || s.State != box.Running || len(s.Processes) != 3 {
		t.Errorf("after the end of a datanode: %+v, %v", s, err)
	}
	if answers(b.Datanodes[0].Address) || !answers(b.Datanodes[1].Address) {
		t.Error("not only the first datanode is gone")
	}
	control(t, b, "startdn 0")
	if !answers(b.Datanodes[0].Address) {
		t.Error("the first datanode did not come back to its port")
	}
	s, err = box.Status(b.Dir)
	if err != nil || len(s.Processes) != 4 || s.Datanodes[0] != b.Datanodes[0] {
		t.Errorf("after its return: %+v, %v", s, err)
	}
	control(t, b, "killnn")
	control(t, b, "startnn")
	s, err = box.Status(b.Dir)
	if err != nil || s.HDFS != b.HDFS || s.Namenodes[0].Address != b.Namenodes[0].Address {
		t.Errorf("after the namenode's return: %+v, %v", s, err)
	}
	control(t, b, "pause datanode1") // what is frozen must not stay behind either
	kill(t, b.PID)
	reap(b.PID)
	await(t, "all processes are gone", func() bool { return len(processesOf(t, b.Dir)) == 0 })
}

func TestFaultsOfTheNamespaceAndTheBlocks(t *testing.T) {
	t.Parallel()
	b := boxtest.Start(t, box.Options{
		Only: "hdfs", Datanodes: 2,
		Hadoop: map[string]string{"dfs.client.retry.window.base": "10"}, // the reader behind WebHDFS gives up sooner
	})
	put(t, b, "/tmp/a.txt", strings.Repeat("a", 1000))

	var blocks []box.Block
	if err := json.Unmarshal([]byte(control(t, b, "blocks /tmp/a.txt")), &blocks); err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 1 || blocks[0].Length != 1000 || len(blocks[0].Replicas) != 2 {
		t.Fatalf("%+v", blocks)
	}
	for _, d := range b.Datanodes {
		if d.Address != blocks[0].Replicas[0] && d.Address != blocks[0].Replicas[1] {
			t.Errorf("no replica at %s: %+v", d.Address, blocks)
		}
	}
	if _, text := webhdfs(t, b, http.MethodGet, "/tmp/a.txt", "OPEN", ""); text != strings.Repeat("a", 1000) {
		t.Errorf("before the fault: %q", text)
	}
	files := strings.Split(control(t, b, "flip /tmp/a.txt 0 all 500"), "\n")
	if len(files) != 2 {
		t.Fatalf("%q", files)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || text[500] != 'a'^0xff || text[499] != 'a' {
			t.Errorf("%s: byte 500 is %x, %v", f, text[500], err)
		}
	}
	if _, text := webhdfs(t, b, http.MethodGet, "/tmp/a.txt", "OPEN", ""); text == strings.Repeat("a", 1000) {
		t.Error("the fault was not seen")
	}

	control(t, b, "safemode enter")
	if code, _ := webhdfs(t, b, http.MethodPut, "/tmp/d", "MKDIRS", ""); code < 400 {
		t.Errorf("a change in safe mode: %d", code)
	}
	control(t, b, "safemode leave")
	if code, text := webhdfs(t, b, http.MethodPut, "/tmp/d", "MKDIRS", ""); code != http.StatusOK {
		t.Errorf("a change after it: %d %s", code, text)
	}

	control(t, b, "ackdelay 300")
	begin := time.Now()
	put(t, b, "/tmp/late.txt", "x")
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("a write with late acknowledgements took %v", took)
	}
	control(t, b, "ackdelay 0")

	control(t, b, "stopdn 1")
	if answers(b.Datanodes[1].Address) || !answers(b.Datanodes[0].Address) {
		t.Error("not only the second datanode is gone")
	}
	control(t, b, "startdn 1")
	if !answers(b.Datanodes[1].Address) {
		t.Error("the second datanode did not come back to its port")
	}
	for _, wrong := range []string{"stopdn", "stopdn 2", "stopdn x", "flip /tmp/a.txt 1 0", "flip /tmp/a.txt 0 2", "blocks /nowhere", "dance", "kill nobody", "flip /tmp/a.txt 0 0 5000"} {
		if text, err := box.Control(t.Context(), b.Dir, wrong); err == nil {
			t.Errorf("%s: %q and no error", wrong, text)
		}
	}
}

func TestTwoNamenodesStandInForEachOther(t *testing.T) {
	t.Parallel()
	b := boxtest.Start(t, box.Options{Only: "hdfs", HA: true})
	if b.HDFS != "hdfs://box" || len(b.Namenodes) != 2 {
		t.Fatalf("%+v", b)
	}
	site, err := os.ReadFile(filepath.Join(b.Conf, "hdfs-site.xml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range b.Namenodes {
		if !strings.Contains(string(site), n.Address) {
			t.Errorf("hdfs-site.xml does not name %s", n.Address)
		}
	}
	put(t, b, "/tmp/a.txt", "abc")
	control(t, b, "killnn 0")
	control(t, b, "active 1")
	second := b
	second.Namenodes = b.Namenodes[1:]
	if owner, _ := status(t, second, "/tmp/a.txt"); owner != b.User {
		t.Errorf("after the change: %q", owner)
	}
	control(t, b, "startnn 0")
	control(t, b, "standby 1")
	control(t, b, "active 0")
	if owner, _ := status(t, b, "/tmp/a.txt"); owner != b.User {
		t.Errorf("after the change back: %q", owner)
	}
	if code, text := webhdfs(t, second, http.MethodGet, "/tmp/a.txt", "GETFILESTATUS", ""); code < 400 {
		t.Errorf("the standby answers: %s", text)
	}
}

func TestSparkMayBeAnotherUserOfHDFS(t *testing.T) {
	t.Parallel()
	b := boxtest.Start(t, box.Options{
		User: "alice", SparkUser: "spark",
		Hadoop: map[string]string{"fs.permissions.umask-mode": "027"},
	})
	query(t, b, "INSERT OVERWRITE DIRECTORY '/tmp/out' USING parquet SELECT * FROM range(3)")
	if owner, mode := status(t, b, "/tmp/out"); owner != "spark" || mode != "750" {
		t.Errorf("Spark's folder is %s's with %s", owner, mode)
	}
	put(t, b, "/user/alice/private.txt", "x")
	if n := query(t, b, "SELECT * FROM text.`/user/alice/private.txt`"); n != 1 {
		t.Errorf("Spark reads %d lines of what everybody may read", n)
	}
	if code, text := webhdfs(t, b, http.MethodPut, "/user/alice/private.txt", "SETPERMISSION&permission=640", ""); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if owner, mode := status(t, b, "/user/alice/private.txt"); owner != "alice" || mode != "640" {
		t.Errorf("the client's file is %s's with %s", owner, mode)
	}
	_, err := box.Query(t.Context(), strings.TrimPrefix(b.Spark, "sc://"), "SELECT * FROM text.`/user/alice/private.txt`")
	if err == nil || !strings.Contains(err.Error(), "private.txt") {
		t.Errorf("Spark reads what is not its own: %v", err)
	}
}

func status(t *testing.T, b box.Box, path string) (owner, mode string) {
	t.Helper()
	code, text := webhdfs(t, b, http.MethodGet, path, "GETFILESTATUS", "")
	var reply struct {
		FileStatus struct{ Owner, Permission string }
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil || code != http.StatusOK {
		t.Fatalf("%s: %d %s %v", path, code, text, err)
	}
	return reply.FileStatus.Owner, reply.FileStatus.Permission
}

func TestBoxesRunSideBySide(t *testing.T) {
	t.Parallel()
	a := boxtest.Start(t, box.Options{Only: "hdfs", User: "ann"})
	b := boxtest.Start(t, box.Options{Only: "hdfs", User: "bob"})
	for _, c := range []struct {
		in   box.Box
		want string
	}{{a, "not a file"}, {b, "does not exist"}} {
		if _, err := box.Control(t.Context(), c.in.Dir, "blocks /user/ann"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("the home of ann in the box of %s: %v", c.in.User, err)
		}
	}
}
