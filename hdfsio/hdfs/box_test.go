package hdfs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dkpipe/hdfsio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is a real HDFS on this machine, as box.json describes it.
type box struct {
	HDFS      string `json:"hdfs"`
	Datanodes []struct {
		Address string `json:"address"`
		Dir     string `json:"dir"`
	} `json:"datanodes"`
	Dir       string `json:"dir"`
	User      string `json:"user"`
	Processes []struct {
		Name string `json:"name"`
	} `json:"processes"`
}

// theBox gives the HDFS that the environment names.
func theBox(t testing.TB) box {
	t.Helper()
	file := os.Getenv("DKPIPE_BOX")
	if file == "" {
		if slices.Contains(strings.Split(os.Getenv("DKPIPE_REQUIRE"), ","), "hdfs") {
			t.Fatal("DKPIPE_REQUIRE wants a real HDFS, but DKPIPE_BOX names no box.json")
		}
		t.Skip("DKPIPE_BOX names no box.json of a real HDFS (dkpipe box up)")
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, "box.json")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b box
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatal(err)
	}
	if b.HDFS == "" {
		t.Fatalf("%s is a box without an HDFS", file)
	}
	return b
}

// needs skips a test that the box is too small for.
func (b box) needs(t testing.TB, datanodes int) {
	t.Helper()
	if len(b.Datanodes) < datanodes {
		t.Skipf("the box has %d datanodes; this needs %d (dkpipe box up --datanodes %d)", len(b.Datanodes), datanodes, datanodes)
	}
}

// separate skips a test that ends or stops single servers.
func (b box) separate(t testing.TB) {
	t.Helper()
	for _, p := range b.Processes {
		if p.Name == "namenode" {
			return
		}
	}
	t.Skip("the box is one process; this needs servers of their own (dkpipe box up --separate)")
}

// control gives the box a command of a fault test.
func (b box) control(t testing.TB, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	answer, err := b.tryControl(ctx, command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return answer
}

func (b box) tryControl(ctx context.Context, command string) (string, error) {
	sockets, err := filepath.Glob(filepath.Join(b.Dir, "*.sock"))
	if err != nil || len(sockets) != 1 {
		return "", fmt.Errorf("control socket of the box in %s: %v, %v", b.Dir, sockets, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", sockets[0])
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(d); err != nil {
			return "", err
		}
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var reply struct {
		Text  string          `json:"text"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return "", err
	}
	if len(reply.Error) > 0 && string(reply.Error) != "null" {
		return "", errors.New(string(reply.Error))
	}
	return reply.Text, nil
}

// options of a client of the box; the user is the superuser.
func (b box) options(t testing.TB) Options {
	t.Helper()
	env := func(name string) string {
		switch name {
		case "HADOOP_CONF_DIR":
			return filepath.Join(b.Dir, "conf")
		case "HADOOP_USER_NAME":
			return b.User
		}
		return ""
	}
	conf, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	u, err := hdfsio.Parse(b.HDFS + "/")
	if err != nil {
		t.Fatal(err)
	}
	o, err := conf.Resolve(u.Authority)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// dial connects to the box; change may be nil.
func (b box) dial(t testing.TB, change func(*Options)) *FS {
	t.Helper()
	o := b.options(t)
	if change != nil {
		change(&o)
	}
	f, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

var folders atomic.Int64

// folder makes an empty folder for a test.
func folder(t testing.TB, f *FS) string {
	t.Helper()
	dir := fmt.Sprintf("/dkpipe-test/%d-%d-%d", os.Getpid(), time.Now().UnixNano(), folders.Add(1))
	if err := f.Mkdir(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := f.Remove(ctx, dir); err != nil {
			t.Logf("left behind: %v", err)
		}
	})
	return dir
}
