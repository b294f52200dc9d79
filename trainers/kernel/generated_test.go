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
	cmd := exec.Command("go", "run", "gen_tiles.go", "-out", dir)
	cmd.Env = append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go run gen_tiles.go: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("%d files were written, want 2", len(entries))
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
