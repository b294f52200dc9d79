//go:build linux || darwin

package box

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKit makes a JDK and a Maven of shell scripts and puts them before all others. Maven counts its calls in the
// file that is returned and brings a JAR with web pages; java is what the test gives.
func fakeKit(t *testing.T, java, mvn string) (calls string) {
	t.Helper()
	home := t.TempDir()
	calls = filepath.Join(home, "calls")
	jar := filepath.Join(home, minicluster+"0.jar")
	f, err := os.Create(jar)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for _, name := range []string{"other/", "webapps/", "webapps/hdfs/", "webapps/hdfs/index.html"} {
		if err := add(w, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close(), os.Mkdir(filepath.Join(home, "bin"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if mvn == "" {
		mvn = `for a; do case $a in -DoutputDirectory=*) cp ` + jar + ` "${a#*=}";; esac; done`
	}
	for name, text := range map[string]string{
		"release":   `JAVA_VERSION="17.0.99"`,
		"bin/java":  "#!/bin/sh\n" + java,
		"bin/javac": "#!/bin/sh\nwhile [ \"$1\" != -d ]; do shift; done; mkdir \"$2\"; echo class > \"$2/A.class\"",
		"bin/mvn":   "#!/bin/sh\necho called >> " + calls + "\n" + mvn,
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("JAVA_HOME", home)
	t.Setenv("PATH", filepath.Join(home, "bin")+":"+os.Getenv("PATH"))
	return calls
}

func countCalls(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "called")
}

func TestPrepareByManyAtOnceFetchesOnce(t *testing.T) {
	calls := fakeKit(t, "exit 1", "")
	o := Options{Cache: t.TempDir()}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			jars, err := Prepare(t.Context(), o)
			if err != nil || jars.Count != 1 {
				t.Errorf("%+v, %v", jars, err)
			}
		})
	}
	all.Wait()
	if n := countCalls(t, calls); n != 1 {
		t.Errorf("Maven was called %d times", n)
	}
	jars, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.OpenReader(jars.Harness)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"META-INF/MANIFEST.MF", "A.class", "log4j2.properties", "webapps/hdfs/index.html"} {
		f, err := r.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := io.ReadAll(f)
		f.Close()
		if name == "META-INF/MANIFEST.MF" && (err != nil || !strings.Contains(string(text), "Main-Class: dkpipe.box.Harness\r\n")) {
			t.Errorf("%s, %v", text, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(o.Cache, "*.stage"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestPrepareAsksMavenTwiceAndSaysWhatItSaid(t *testing.T) {
	calls := fakeKit(t, "exit 1", "echo '[ERROR] no route to repository'; exit 1")
	_, err := Prepare(t.Context(), Options{Cache: t.TempDir()})
	if kind(err) != kindUnreachable || !strings.Contains(err.Error(), "no route to repository") {
		t.Errorf("%v", err)
	}
	if n := countCalls(t, calls); n != 2 {
		t.Errorf("Maven was called %d times", n)
	}
}

func TestPrepareNamesThePackageThatIsMissing(t *testing.T) {
	fakeKit(t, "exit 1", "")
	home := os.Getenv("JAVA_HOME")
	hint := func() string {
		_, err := Prepare(t.Context(), Options{Cache: t.TempDir()})
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Fatalf("%v", err)
		}
		return e.Hint
	}
	if err := os.Remove(filepath.Join(home, "bin", "mvn")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(home, "bin"))
	if h := hint(); !strings.Contains(h, "apt-get install maven") {
		t.Errorf("without Maven: %s", h)
	}
	if err := os.WriteFile(filepath.Join(home, "release"), []byte(`JAVA_VERSION="1.8.0_402"`), 0o644); err != nil {
		t.Fatal(err)
	}
	if h := hint(); !strings.Contains(h, "openjdk-17") {
		t.Errorf("with Java 8: %s", h)
	}
	if err := os.Remove(filepath.Join(home, "bin", "javac")); err != nil {
		t.Fatal(err)
	}
	if h := hint(); !strings.Contains(h, "openjdk-17-jdk-headless") {
		t.Errorf("without a compiler: %s", h)
	}
}

func TestWaitingForAnotherProcessEndsWithTheContext(t *testing.T) {
	fakeKit(t, "exit 1", "")
	cache := t.TempDir()
	lock, held, err := openLock(filepath.Join(cache, "lock"))
	if err != nil || !held {
		t.Fatal(held, err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = Prepare(ctx, Options{Cache: cache, Progress: func(string) { cancel() }}) // says that it waits
	if kind(err) != kindInterrupted {
		t.Errorf("%v", err)
	}
}

// fakeServers is a box whose java is a shell script.
func fakeServers(t *testing.T, java string) Options {
	t.Helper()
	fakeKit(t, "case $* in *record.stage*) exit 1;; esac\n"+java, "")
	return Options{Dir: filepath.Join(t.TempDir(), "box"), Cache: t.TempDir(), Only: "hdfs"}
}

const startsWell = `echo '- namenode 127.0.0.1:1 127.0.0.1:2'; echo '- datanode 127.0.0.1:3 /nowhere'; echo '- client fs.defaultFS hdfs://127.0.0.1:1'; echo ok
`

func TestAStartThatFailsShowsTheEndOfTheLog(t *testing.T) {
	for name, c := range map[string]struct{ java, kind, text string }{
		"dies":           {"echo 'Error: no memory for a heap' >&2; exit 1", kindInternal, "no memory for a heap"},
		"says why":       {"echo 'err java.io.IOException: the disk is full'; exit 1", kindInternal, "the disk is full"},
		"port taken":     {"echo 'java.net.BindException: Address already in use' >&2; exit 1", kindBusy, "Address already in use"},
		"speaks riddles": {"echo '- dance on'; echo ok; read line", kindInternal, "dance on"},
	} {
		t.Run(name, func(t *testing.T) {
			o := fakeServers(t, c.java)
			err := Run(t.Context(), o, nil)
			if kind(err) != c.kind || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
			b, err := Status(o.Dir)
			if err != nil || b.State != Failed || !strings.Contains(b.Error, c.text) {
				t.Errorf("%+v, %v", b, err)
			}
		})
	}
}

func TestAStartThatTakesTooLongIsEnded(t *testing.T) {
	o := fakeServers(t, "read line")
	o.Timeout = 50 * time.Millisecond
	if err := Run(t.Context(), o, nil); kind(err) != kindTimeout {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Timeout = time.Hour
	o.Progress = func(s string) {
		if strings.HasPrefix(s, "starting") {
			cancel()
		}
	}
	if err := Run(ctx, o, nil); kind(err) != kindInterrupted {
		t.Errorf("%v", err)
	}
}

func TestAServerThatIgnoresItsEndIsKilled(t *testing.T) {
	o := fakeServers(t, startsWell+`read check; echo ok; while :; do read line || sleep 1000; done`)
	ctx, cancel := context.WithCancel(t.Context())
	if err := Run(ctx, o, func(Box) { cancel() }); err != nil {
		t.Error(err)
	}
	if b, err := Status(o.Dir); err != nil || b.State != Stopped {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestDownAndControlReachTheSupervisor(t *testing.T) {
	o := fakeServers(t, startsWell+`while read line; do case $line in
	check*|safemode*) echo ok;;
	blocks*) echo '- blk_1 0 5 127.0.0.1:3'; echo ok;;
	*) echo "err no: $line";; esac; done`)
	ready, ended := make(chan Box, 1), make(chan error, 1)
	go func() { ended <- Run(t.Context(), o, func(b Box) { ready <- b }) }()
	b := <-ready
	if text, err := Control(t.Context(), b.Dir, "blocks /a"); err != nil || !strings.Contains(text, `"blk_1"`) {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := Control(t.Context(), b.Dir, "startnn 0"); err == nil || !strings.Contains(err.Error(), "no: startnn 0") {
		t.Errorf("%v", err)
	}
	if err := Run(t.Context(), o, nil); kind(err) != kindBusy {
		t.Errorf("a second box in the folder: %v", err)
	}
	if err := Down(t.Context(), b.Dir); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := Run(t.Context(), o, func(b Box) { go func() { ended <- Down(context.Background(), b.Dir) }() }); err != nil {
		t.Errorf("the next box in the folder: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFlipInvertsOneByte(t *testing.T) {
	blockDir := t.TempDir()
	file := filepath.Join(blockDir, "subdir0", "blk_1")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("abcde"), 0o644),
		os.WriteFile(file+"_1001.meta", []byte("sums"), 0o644)); err != nil {
		t.Fatal(err)
	}
	s := &supervisor{box: Box{Datanodes: []Datanode{{Address: "127.0.0.1:3", Dir: blockDir}}}}
	found, err := s.blockFile("127.0.0.1:3", "blk_1")
	if err != nil || found != file {
		t.Fatal(found, err)
	}
	if err := invertByte(found, 2); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "ab"+string([]byte{^byte('c')})+"de" {
		t.Errorf("%q, %v", text, err)
	}
	if err := invertByte(found, 5); err == nil {
		t.Error("a byte behind the end was inverted")
	}
	for _, wrong := range [][2]string{{"127.0.0.1:4", "blk_1"}, {"127.0.0.1:3", "blk_2"}} {
		if found, err := s.blockFile(wrong[0], wrong[1]); err == nil {
			t.Errorf("%v: %s", wrong, fmt.Sprint(found))
		}
	}
}
