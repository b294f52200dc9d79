package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// The checked-in assembly is what the generator writes: a change of one without the other does not pass.
func TestAssemblyIsWhatTheGeneratorWrites(t *testing.T) {
	dir := t.TempDir()
	for _, sources := range [][]string{{"gen_tiles.go"}, {"gen_vectors.go", "gen_columns.go", "gen_pool.go"}} {
		cmd := exec.Command("go", append(append([]string{"run"}, sources...), "-out", dir)...)
		cmd.Env = append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go run %v: %v\n%s", sources, err, out)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 {
		t.Errorf("%d files were written, want 4", len(entries))
	}
	for _, e := range entries {
		fresh, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(fresh, old) {
			t.Errorf("%s is out of date; run: go generate ./trainers/kernel", e.Name())
		}
	}
}
