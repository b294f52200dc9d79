package sparkconn

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dkpipe/pipeline"
)

func TestAServerTellsItsSettingsItsClockAndItsUser(t *testing.T) {
	s := dialReal(t)
	conf, err := s.Conf(t.Context(), "spark.sql.ansi.enabled", "dkpipe.not.set")
	if _, set := conf["dkpipe.not.set"]; err != nil || conf["spark.sql.ansi.enabled"] != "true" || set {
		t.Errorf("settings %v, %v", conf, err)
	}
	before := time.Now()
	now, err := s.Now(t.Context())
	if err != nil || now.Before(before.Add(-time.Second)) || now.After(time.Now().Add(time.Second)) {
		t.Errorf("the clock of the same machine says %v at %v, %v", now, before, err)
	}
	// Spark 3.5 does not know to_avro in SQL, and not every repository has spark-avro for every version.
	if avro, err := s.HasAvro(t.Context()); err != nil || !avro && os.Getenv("DKPIPE_SPARK") == "" {
		t.Errorf("spark-avro: %v, %v", avro, err)
	}
	user, err := s.StoreUser(t.Context())
	if err != nil || user == "" {
		t.Errorf("user %q, %v", user, err)
	}
}

// TestATryLeavesOneFileAndClearingNone: the way in which the engine writes, in small.
func TestATryLeavesOneFileAndClearingNone(t *testing.T) {
	s := dialReal(t)
	dir := t.TempDir()
	files := func() (n int) {
		err := filepath.WalkDir(filepath.Join(dir, "data"), func(name string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(name) == ".parquet" {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := s.ProbeWrite(t.Context(), dir); err != nil || files() != 1 {
		t.Fatalf("%d files, %v", files(), err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "data", partColumn+"="+probePart)); err != nil || len(entries) == 0 {
		t.Errorf("there is no folder of a part: %v", err)
	}
	if err := s.ProbeRead(t.Context(), filepath.Join(dir, "data")); err != nil {
		t.Error(err)
	}
	if err := s.ProbeWrite(t.Context(), dir); err == nil {
		t.Error("a second try writes over the first")
	}
	if err := s.ProbeClear(t.Context(), dir); err != nil || files() != 0 {
		t.Errorf("%d files after clearing, %v", files(), err)
	}
	err := s.ProbeRead(t.Context(), filepath.Join(dir, "absent"))
	var said *ServerError
	if !errors.As(err, &said) {
		t.Errorf("reading what is not there: %v", err)
	}
}

func TestTasksConnectBack(t *testing.T) {
	s := dialReal(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 2)
	go func() {
		defer close(heard)
		for range 2 {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			heard <- line
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	callers, err := s.ConnectBack(t.Context(), "127.0.0.1", port, 2, "hello")
	l.Close()
	if err != nil || len(callers) != 2 || !callers[0].OK || !callers[1].OK || callers[0].Host == "" {
		t.Errorf("%+v, %v", callers, err)
	}
	for line := range heard {
		if line != "hello\n" {
			t.Errorf("heard %q", line)
		}
	}
	callers, err = s.ConnectBack(t.Context(), "127.0.0.1", port, 1, "hello")
	if err != nil || len(callers) != 1 || callers[0].OK {
		t.Errorf("to a port that is closed: %+v, %v", callers, err)
	}
	if _, err := s.ConnectBack(t.Context(), "h; rm", port, 1, "hello"); kindOf(err) != pipeline.Internal {
		t.Errorf("an address that the shell would take apart: %v", err)
	}
}

func TestARefusalOfHDFSIsTakenApart(t *testing.T) {
	const text = `Permission denied: user=spark, access=READ_EXECUTE, inode="/a b/c":ann:team:drwxr-x---+`
	want := Denial{User: "spark", Access: "READ_EXECUTE", Path: "/a b/c", Rights: "ann:team:drwxr-x---+"}
	for _, err := range []error{
		errors.New(text),
		fmt.Errorf("Job aborted: org.apache.hadoop.security.AccessControlException: %s\n\tat org.apache", text),
		&pipeline.Error{Kind: pipeline.Denied, Message: "writing shards", Err: &ServerError{Message: text + "."}},
	} {
		if d, ok := DenialOf(err); !ok || d != want {
			t.Errorf("%v: %+v, %v", err, d, ok)
		}
	}
	for _, err := range []error{nil, errors.New("Permission denied"), errors.New("No space left on device")} {
		if d, ok := DenialOf(err); ok {
			t.Errorf("%v: %+v", err, d)
		}
	}
}
