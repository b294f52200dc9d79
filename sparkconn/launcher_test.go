package sparkconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dkpipe/pipeline"

	"github.com/google/uuid"
)

// script is a program for executors that notes each heartbeat in a file of its own below a folder, and a secret that it
// was given. It is long enough to be sent in pieces.
func script(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	text := "#!/bin/sh\n" + body + "\nexit\n" + strings.Repeat("# padding\n", 3*chunkBytes/10) + uuid.NewString() + "\n"
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func dialLauncher(t *testing.T) *Session {
	t.Helper()
	s, err := Dial(t.Context(), realServers(t).Spark, Options{Conf: LaunchConf()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if strings.HasPrefix(s.Version(), "3.") {
		if _, err := s.Install(t.Context(), Program{}); kindOf(err) != pipeline.Unsupported {
			t.Errorf("Install on Spark %s: %v", s.Version(), err)
		}
		t.Skip("Spark " + s.Version() + " runs no programs of a session")
	}
	return s
}

// until waits for a condition, at most a minute.
func until(t *testing.T, what string, condition func() bool) {
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

// TestLaunchedProgramsLiveAsLongAsTheirJob starts two programs, sees that padded heartbeats reach them at once, and ends
// the job in both ways: its context ends, and somebody else interrupts it.
func TestLaunchedProgramsLiveAsLongAsTheirJob(t *testing.T) {
	s := dialLauncher(t)
	dir := t.TempDir()
	body := `d=$1; cat "$2" > "$d/secret.$$"
while IFS="$(printf '\t')" read -r rank beat; do echo "$rank" >> "$d/beats.$$"; done`
	installed, err := s.Install(t.Context(), Program{Binary: script(t, body), Args: []string{dir, "{file:secret}"},
		Files: map[string][]byte{"secret": []byte("not in the statement")}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(installed.statement(2), "not in") {
		t.Error("the statement holds the secret")
	}
	for name, stop := range map[string]func(cancel func(), tag string) error{
		"context": func(cancel func(), _ string) error { cancel(); return nil },
		"interrupt": func(_ func(), tag string) error {
			ids, err := s.Interrupt(t.Context(), tag)
			if err == nil && len(ids) != 1 {
				err = fmt.Errorf("interrupted %v", ids)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, old := range glob(t, filepath.Join(dir, "*")) {
				os.Remove(old)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tag := "launch-" + uuid.NewString()
			ended := make(chan error, 1)
			go func() { ended <- installed.Launch(ctx, tag, 2) }()
			var pids []int
			until(t, "each of two programs has heard two heartbeats", func() bool {
				pids = pids[:0]
				ranks := map[string]bool{}
				for _, name := range glob(t, filepath.Join(dir, "beats.*")) {
					b, _ := os.ReadFile(name)
					if lines := strings.Fields(string(b)); len(lines) >= 2 {
						pid, _ := strconv.Atoi(strings.TrimPrefix(filepath.Ext(name), "."))
						pids, ranks[lines[0]] = append(pids, pid), true
					}
				}
				return ranks["0"] && ranks["1"]
			})
			for _, name := range glob(t, filepath.Join(dir, "secret.*")) {
				if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, []byte("not in the statement")) {
					t.Errorf("a program was given %q, %v", b, err)
				}
			}
			began := time.Now()
			if err := stop(cancel, tag); err != nil {
				t.Fatal(err)
			}
			err := <-ended
			if name == "context" && err != nil {
				t.Errorf("Launch gave %v after its context ended", err)
			}
			var e *pipeline.Error
			if name == "interrupt" && (!errors.As(err, &e) || e.Kind != pipeline.Interrupted) {
				t.Errorf("Launch gave %v after somebody interrupted the job", err)
			}
			until(t, "the programs have ended", func() bool {
				for _, pid := range pids {
					if syscall.Kill(pid, 0) == nil {
						return false
					}
				}
				return true
			})
			t.Logf("the programs were gone after %v", time.Since(began).Round(time.Millisecond))
		})
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestAProgramThatFailsSaysWhy gets the last words of a program that fails, and those about one that cannot be run and about
// one that is not what was installed.
func TestAProgramThatFailsSaysWhy(t *testing.T) {
	s := dialLauncher(t)
	installed, err := s.Install(t.Context(), Program{Binary: script(t, fmt.Sprintf("echo 'the disk is full' >&2; sleep %.0f; exit 7", Linger.Seconds()))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := installed.Launch(ctx, "launch-"+uuid.NewString(), 1); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("Launch gave %v", err)
	}
	alien := filepath.Join(t.TempDir(), "alien")
	if err := os.WriteFile(alien, []byte("\x7fELF\x00\x00\x00of another system"+uuid.NewString()), 0o755); err != nil {
		t.Fatal(err)
	}
	foreign, err := s.Install(t.Context(), Program{Binary: alien})
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Launch(ctx, "launch-"+uuid.NewString(), 1); err == nil || !strings.Contains(err.Error(), "cannot execute") {
		t.Errorf("Launch gave %v", err)
	}
	before, sum, _ := strings.Cut(installed.script, `echo "`)
	other := "0"
	if sum[0] == '0' {
		other = "1"
	}
	installed.script = before + `echo "` + other + sum[1:]
	if err := installed.Launch(ctx, "launch-"+uuid.NewString(), 1); err == nil || !strings.Contains(err.Error(), "is not the program that was installed") {
		t.Errorf("Launch gave %v for a program with another hash", err)
	}
}

// TestShellLinesTakeNoQuotes refuses what a shell would read as more than a word.
func TestShellLinesTakeNoQuotes(t *testing.T) {
	for _, bad := range []string{"a b", "$(id)", "`id`", "a;b", "", "'", "a\nb", "{file:none}", "\\", "a&b", "*"} {
		if line, err := shellLine("./x/p", "00", []string{bad}, nil); err == nil {
			t.Errorf("%q became %s", bad, line)
		}
	}
	line, err := shellLine("./x/p", "00", []string{"--connect", "[::1]:7070"}, nil)
	if err != nil || !strings.Contains(line, `exec $b "--connect" "[::1]:7070"; `) {
		t.Errorf("the line is %s, %v", line, err)
	}
}
