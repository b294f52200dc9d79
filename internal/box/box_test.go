package box

import (
	"os"
	"testing"
)

func supervised(t *testing.T, o Options) Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = t.TempDir()
	o.Supervisor = []string{exe, superviseWord}
	o.Progress = func(s string) { t.Log(s) }
	return o
}

func TestUpGivesServersThatAnswerAndDownEndsThem(t *testing.T) {
	needServers(t, "spark", "hdfs")
	o := supervised(t, Options{})
	b, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", b)
	s, err := Status(o.Dir)
	if err != nil || s.State != Running {
		t.Fatal(s, err)
	}
	t.Log(Env(o.Dir))
	if err := Down(t.Context(), o.Dir); err != nil {
		t.Fatal(err)
	}
	s, err = Status(o.Dir)
	t.Log(s, err)
}
