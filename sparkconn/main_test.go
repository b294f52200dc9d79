package sparkconn

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// servers says where the real servers of the test run are.
type servers struct {
	Spark string `json:"spark"`
	HDFS  string `json:"hdfs"`
}

// realServers reads the file that DKPIPE_BOX names. Without it the test is skipped, or fails when DKPIPE_REQUIRE asks
// for Spark.
func realServers(t testing.TB) servers {
	t.Helper()
	name := os.Getenv("DKPIPE_BOX")
	if name == "" {
		const why = "no real Spark: DKPIPE_BOX does not name a box.json (dkpipe box up makes one)"
		if strings.Contains(os.Getenv("DKPIPE_REQUIRE"), "spark") {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, "box.json")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var s servers
	if err := json.Unmarshal(data, &s); err != nil || s.Spark == "" {
		t.Fatalf("%s names no Spark server: %v", name, err)
	}
	return s
}

// dialReal gives a session of its own on the real server.
func dialReal(t testing.TB) *Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Dial(ctx, realServers(t).Spark, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
