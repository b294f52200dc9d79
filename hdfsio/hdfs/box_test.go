package hdfs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dkpipe/hdfsio"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		breakable.stop()
		os.Exit(code)
	}))
}

// box is a real HDFS on this machine, as box.json describes it.
type box struct {
	HDFS      string `json:"hdfs"`
	Datanodes []struct {
		Address string `json:"address"`
		Dir     string `json:"dir"`
	} `json:"datanodes"`
	Dir  string `json:"dir"`
	User string `json:"user"`
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
	b, err := readBox(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readBox reads box.json, or the one in a folder.
func readBox(file string) (box, error) {
	var b box
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, "box.json")
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err == nil && b.HDFS == "" {
		err = fmt.Errorf("%s is a box without an HDFS", file)
	}
	return b, err
}

// needs skips a test that the box is too small for.
func (b box) needs(t testing.TB, datanodes int) {
	t.Helper()
	if len(b.Datanodes) < datanodes {
		t.Skipf("the box has %d datanodes; this needs %d (dkpipe box up --datanodes %d)", len(b.Datanodes), datanodes, datanodes)
	}
}

// breakable are the boxes that tests may break, because nobody else uses them. They start when first needed.
var breakable ownBoxes

type ownBoxes struct {
	mu   sync.Mutex
	open map[string]*ownBox
}

type ownBox struct {
	box  box
	err  error
	cmd  *exec.Cmd
	dir  string
	keep bool // it was there before
}

// separateBox gives a box whose servers are processes of their own.
func separateBox(t testing.TB) box {
	return breakable.get(t, "DKPIPE_FAULT_BOX", `{"Only":"hdfs","Datanodes":3,"Separate":true,"Dir":%q}`)
}

// haBox gives a box with two NameNodes.
func haBox(t testing.TB) box {
	return breakable.get(t, "DKPIPE_FAULT_BOX_HA", `{"Only":"hdfs","Datanodes":1,"HA":true,"Heap":"400m","Dir":%q}`)
}

// get gives the box that a variable names, or starts one.
func (o *ownBoxes) get(t testing.TB, variable, options string) box {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts servers of its own, which takes a while")
	}
	theBox(t) // whoever has no servers has none to break either
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.open[variable]
	if b == nil {
		if b = new(ownBox); os.Getenv(variable) != "" {
			b.box, b.err = readBox(os.Getenv(variable))
			b.keep = true
		} else {
			b.err = b.start(options)
		}
		if o.open == nil {
			o.open = make(map[string]*ownBox)
		}
		o.open[variable] = b
	}
	if b.err != nil {
		t.Fatalf("a box of its own: %v", b.err)
	}
	return b.box
}

// start builds dkpipe and runs the supervisor of a box.
func (b *ownBox) start(options string) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "hdfs-test"); err != nil {
		return err
	}
	program := filepath.Join(b.dir, "dkpipe")
	if out, err := exec.Command("go", "build", "-o", program, "dkpipe/cmd/dkpipe").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	input := filepath.Join(b.dir, "options.json")
	if err := os.WriteFile(input, fmt.Appendf(nil, options, filepath.Join(b.dir, "box")), 0o600); err != nil {
		return err
	}
	in, err := os.Open(input)
	if err != nil {
		return err
	}
	defer in.Close()
	out, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	b.cmd = exec.Command(program, "box", "supervise")
	b.cmd.Stdin, b.cmd.Stdout, b.cmd.Stderr = in, theirs, os.Stderr
	err = b.cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	if err := out.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	for reports := json.NewDecoder(out); ; {
		var r struct {
			Box   *box
			Error json.RawMessage
		}
		if err := reports.Decode(&r); err != nil {
			return err
		}
		if r.Error != nil {
			return errors.New(string(r.Error))
		}
		if r.Box != nil {
			b.box = *r.Box
			return nil
		}
	}
}

// stop ends what was started; a supervisor that ends takes its servers along.
func (o *ownBoxes) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.open {
		if b.cmd != nil && b.cmd.Process != nil {
			b.cmd.Process.Signal(os.Interrupt)
			b.cmd.Wait()
		}
		if !b.keep && b.dir != "" {
			os.RemoveAll(b.dir)
		}
	}
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
