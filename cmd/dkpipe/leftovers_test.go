package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// hidden lists the names below a folder that belong to a command which has not ended, or was killed.
func hidden(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// killed runs dkpipe until it is killed at a point.
func killed(t *testing.T, dir, point string, args ...string) {
	t.Helper()
	if p := start(t, dir, []string{crashAt + "=" + point + "#1"}, args...); p.wait(t) != -1 {
		t.Fatalf("%v: not killed\n%s", args, &p.stderr)
	}
}

// TestTheNextCommandRemovesWhatKilledOnesLeft, and nothing of commands that are running.
func TestTheNextCommandRemovesWhatKilledOnesLeft(t *testing.T) {
	dir := files(t, t.TempDir(), "d/x", "1", "to/there", "2")
	for _, c := range []struct{ at, source, target string }{{"to", "d", "to/d"}, {"to", "d/x", "to/"}, {".", "d/x", "y"}} {
		folder := filepath.Join(dir, c.at)
		killed(t, dir, "copied", "data", "put", c.source, c.target)
		if got := hidden(t, folder); len(got) != 1 {
			t.Fatalf("%+v: a killed put left %v", c, got)
		}
		running := filepath.Join(folder, ownName(tempPrefix)) // this process runs
		if err := os.WriteFile(running, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		data(t, dir, 0, "put", c.source, c.target)
		if got := hidden(t, folder); !slices.Equal(got, []string{filepath.Base(running)}) {
			t.Errorf("%+v: after the next put there is %v", c, got)
		}
		if err := os.Remove(running); err != nil {
			t.Fatal(err)
		}
	}
}

// TestATableThatAKilledImportPutAsideComesBack, with the next command that writes into the folder.
func TestATableThatAKilledImportPutAsideComesBack(t *testing.T) {
	dir := fourIDX(t, t.TempDir())
	data(t, dir, 0, "import", "--in", "raw/t10k*", "--out", "out")
	old := tree(t, filepath.Join(dir, "out"))
	killed(t, dir, "old table aside", "data", "import", "--in", "raw", "--out", "out", "--force")
	if _, err := os.Stat(filepath.Join(dir, "out")); !os.IsNotExist(err) {
		t.Fatalf("the table is not aside: %v", err)
	}
	if r := data(t, dir, 2, "import", "--in", "raw", "--out", "out"); r.Error.Message != "--out: out exists" {
		t.Errorf("%+v", r.Error)
	}
	if !maps.Equal(old, tree(t, filepath.Join(dir, "out"))) || len(hidden(t, dir)) != 0 {
		t.Errorf("the table is not back; hidden: %v", hidden(t, dir))
	}
	killed(t, dir, "table replaced", "data", "import", "--in", "raw", "--out", "out", "--force")
	if got := hidden(t, dir); len(got) != 1 {
		t.Fatalf("a killed import left %v", got)
	}
	data(t, dir, 0, "import", "--in", "raw/t10k*", "--out", "other")
	if _, got := rowsBelow(t, dir, "out"); !slices.Equal(got, mnistRows()) || len(hidden(t, dir)) != 0 {
		t.Errorf("the old table came back, or is left: %v", hidden(t, dir))
	}
}

// TestRowsOfAKilledSortAreRemoved by the next run that needs a folder for temporary files.
func TestRowsOfAKilledSortAreRemoved(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	dir := wideCSV(t)
	args := []string{"preprocess", "-f", "job.yaml"}
	killed(t, dir, "shards written", args...)
	left := func() (names []string) {
		entries, err := os.ReadDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "dkpipe-") {
				names = append(names, e.Name())
			}
		}
		return names
	}
	if got := left(); len(got) != 1 || !strings.HasPrefix(got[0], runFolderPrefix) {
		t.Fatalf("the killed run left %v", got)
	}
	run(t, dir, 0, args...)
	if got := left(); len(got) != 0 {
		t.Errorf("the next run left %v", got)
	}
	t.Setenv("TMPDIR", filepath.Join(temp, "nowhere"))
	if r := run(t, dir, 2, args...); !strings.Contains(r.Error.Message, filepath.Join(temp, "nowhere")) || !strings.Contains(r.Error.Hint, "TMPDIR") {
		t.Errorf("%+v", r.Error)
	}
}

// wideCSV makes a job whose rows do not fit the memory for sorting.
func wideCSV(t *testing.T) string {
	t.Helper()
	var csv strings.Builder
	csv.WriteString("id,label")
	const width = 100
	for k := range width {
		csv.WriteString(",p" + string(rune('0'+k/10)) + string(rune('0'+k%10)))
	}
	csv.WriteString("\n")
	line := strings.Repeat(",1", width) + "\n"
	const rows = 2 * sortBudget / (4 * width)
	for i := range rows {
		csv.WriteString(strconv.Itoa(i) + ",1" + line)
	}
	return files(t, t.TempDir(), "rows.csv", csv.String(), "job.yaml", `source: {csv: rows.csv}
transform:
  - assemble: {inputs: "p*", output: features}
columns: {x: [features], y: [label], keep: [id]}
split: {key: id, seed: 1, train: 0.8, test: 0.2}
dataset: {path: out, shards: 2}
`)
}

// TestStartingRunsKeepTheirFolders while others look for what killed runs left, in the moment between making and locking.
func TestStartingRunsKeepTheirFolders(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	a := newApp(os.Stdout, os.Stderr, os.Getenv)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				f, err := a.newRunFolder() // looks for those of others, too
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(f.dir, "mine"), nil, 0o600); err != nil {
					t.Errorf("the folder is gone: %v", err)
				}
				if err := f.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestAFolderWhoseLockIsTakenIsNotOurs: somebody is removing it.
func TestAFolderWhoseLockIsTakenIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	first, err := ownFolder(dir)
	if err != nil || first == nil {
		t.Fatalf("%v, %v", first, err)
	}
	if second, err := ownFolder(dir); err != nil || second != nil {
		t.Errorf("%v, %v", second, err)
	}
	if err := removeOrphan(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a folder in use was removed: %v", err)
	}
	first.Close()
	if err := removeOrphan(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a folder of nobody is still there: %v", err)
	}
}
