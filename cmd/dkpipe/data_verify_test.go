package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

var (
	anyHash  = regexp.MustCompile(`[0-9a-f]{12}…`)
	anyBytes = regexp.MustCompile(`\b\d+( bytes|$)`)
)

// published2 is a folder with two versions of a dataset and of a model.
func published2(t *testing.T) string {
	t.Helper()
	dir := quickstart(t)
	for range 2 {
		run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.epochs=1,gate.at_least=0")
	}
	return dir
}

func TestVerifyReadsEveryFileOfAVersion(t *testing.T) {
	dir := published2(t)
	r := data(t, dir, 0, "verify", "out/dataset", "out/model")
	if want := []string{"out/dataset/v000002", "out/model/v000002"}; !slices.Equal(r.Versions, want) || r.Bad != 0 || len(r.Warnings) > 0 {
		t.Errorf("%+v", r)
	}
	var checked []string
	for _, e := range r.Entries {
		if e.Status != "ok" || len(e.SHA256) != 64 {
			t.Errorf("%+v", e)
		}
		checked = append(checked, e.Path)
	}
	var there []string
	for name := range tree(t, dir) {
		if strings.Contains(name, "/v000002/") && path.Base(name) != versionMarker {
			there = append(there, name)
		}
	}
	slices.Sort(there)
	if slices.Sort(checked); !slices.Equal(checked, there) {
		t.Errorf("checked %q\nthere   %q", checked, there)
	}
	if r := data(t, dir, 0, "verify", "--all", "out/dataset"); len(r.Versions) != 2 {
		t.Errorf("--all: %q", r.Versions)
	}
	if r := data(t, dir, 0, "verify", "out/*/v000001"); len(r.Versions) != 2 {
		t.Errorf("a pattern: %q", r.Versions)
	}
	// A version is what it is wherever it lies, and the files that belong to nobody are named.
	data(t, dir, 0, "get", "out/model/v000001", "backup")
	files(t, dir, "backup/notes.txt", "x")
	r = data(t, dir, 0, "verify", "backup")
	if !slices.Equal(r.Versions, []string{"backup"}) || !slices.Equal(r.Warnings, []string{"backup/notes.txt belongs to no manifest; no reader takes it"}) {
		t.Errorf("%+v", r)
	}
	if out, _ := dataText(t, dir, 0, "verify", "out/model"); !strings.HasPrefix(out, "out/model/v000002 is whole\n7 files, ") {
		t.Errorf("%q", out)
	}
}

func TestVerifyNamesWhatIsNotAsPublished(t *testing.T) {
	dir := published2(t)
	const shard = "out/dataset/v000002/train/part-00001.parquet"
	const weights = "out/model/v000002/weights.safetensors"
	for _, c := range []struct {
		name    string
		args    string
		damage  func(t *testing.T)
		message string // HASH and BYTES stand for what differs from run to run
		bad     int64
	}{
		{"a bit of a shard", "out/dataset", func(t *testing.T) { flip(t, filepath.Join(dir, shard), 1000) },
			shard + " has SHA-256 HASH, _version.json says HASH", 1},
		{"a bit of the weights", "out/model", func(t *testing.T) { flip(t, filepath.Join(dir, weights), 1000) },
			weights + " has SHA-256 HASH, _version.json says HASH", 1},
		{"a bit of a manifest", "out/dataset", func(t *testing.T) { flip(t, filepath.Join(dir, "out/dataset/v000002/manifest.json"), 5) },
			"out/dataset/v000002/manifest.json has SHA-256 HASH, _version.json says HASH", 1},
		{"a cut shard", "out/dataset/v000002", func(t *testing.T) { cut(t, filepath.Join(dir, shard)) },
			shard + " has BYTES bytes, _version.json says BYTES", 1},
		{"a missing file", "out/model", func(t *testing.T) { remove(t, filepath.Join(dir, weights)) },
			weights + " is missing", 1},
		{"two files", "out", func(t *testing.T) {
			flip(t, filepath.Join(dir, shard), 1000)
			remove(t, filepath.Join(dir, weights))
		}, shard + " has SHA-256 HASH, _version.json says HASH; 2 files bad in all", 2},
		{"no marker, and a shard", "out/dataset/v000002", func(t *testing.T) {
			remove(t, filepath.Join(dir, "out/dataset/v000002/_version.json"))
			flip(t, filepath.Join(dir, shard), 1000)
		}, shard + " has SHA-256 HASH, manifest.json says HASH", 1},
		{"no marker, and the weights", "out/model/v000002", func(t *testing.T) {
			remove(t, filepath.Join(dir, "out/model/v000002/_version.json"))
			flip(t, filepath.Join(dir, weights), 1000)
		}, weights + " has SHA-256 HASH, bundle.json says HASH", 1},
		{"a marker that is no JSON", "out/model", func(t *testing.T) { cut(t, filepath.Join(dir, "out/model/v000002/_version.json")) },
			"out/model/v000002/_version.json: unexpected end of JSON input", 1},
		{"no manifest at all", "out/model", func(t *testing.T) {
			remove(t, filepath.Join(dir, "out/model/v000002/_version.json"))
			remove(t, filepath.Join(dir, "out/model/v000002/bundle.json"))
		}, "out/model/v000002 has no _version.json and no other manifest", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := tree(t, filepath.Join(dir, "out"))
			defer func() {
				for name, content := range whole {
					files(t, dir, "out/"+name, content)
				}
			}()
			c.damage(t)
			args := []string{c.args}
			if c.args == "out" {
				args = []string{"out/dataset", "out/model"}
			}
			r := data(t, dir, 3, append([]string{"verify"}, args...)...)
			message := anyHash.ReplaceAllString(r.Error.Message, "HASH")
			message = anyBytes.ReplaceAllString(message, "BYTES$1")
			if message != c.message || r.Error.Kind != "corrupt" || r.Error.Hint != damagedHint || r.Bad != c.bad {
				t.Errorf("got  %s: %s (%d bad)\n     next: %s\nwant %s", r.Error.Kind, r.Error.Message, r.Bad, r.Error.Hint, c.message)
			}
			if _, stderr := dataText(t, dir, 3, append([]string{"verify"}, args...)...); !strings.Contains(stderr, "dkpipe data verify: "+r.Error.Message+"\n") {
				t.Errorf("people see %q", stderr)
			}
		})
	}
	data(t, dir, 0, "verify", "--all", "out/dataset", "out/model") // all was put back
}

// TestManifestsThatDisagreeAreFound has a dataset whose own manifest was written anew, together with its marker.
func TestManifestsThatDisagreeAreFound(t *testing.T) {
	j, mem, _ := memJob(t)
	sums := map[string]string{"weights": strings.Repeat("0", 64)}
	write := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(mem.Mkdir(t.Context(), "/m"), hdfsio.WriteFile(t.Context(), mem, "/m/"+name, b)); err != nil {
			t.Fatal(err)
		}
	}
	write("weights", 1)
	at, err := openPlace(t.Context(), j.stores, "mem://ns/m/weights")
	if err != nil {
		t.Fatal(err)
	}
	real, err := sumFile(t.Context(), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(versionMarker, map[string]any{"format": versionFormat, "files": []any{map[string]any{"path": "weights", "bytes": 1, "sha256": real.SHA256}}})
	write("bundle.json", map[string]any{"format": "dkpipe-model/1", "files": []any{map[string]any{"name": "weights", "bytes": 1, "sha256": sums["weights"]}}})
	_, err = verifyHere(t, j, "mem://ns/m")
	if pipelineKind(err) != "corrupt" || err.Error() != fmt.Sprintf("mem://ns/m/weights has SHA-256 %.12s…, bundle.json says 000000000000…", real.SHA256) {
		t.Errorf("%v", err)
	}
}

// verifyHere runs verify inside the process.
func verifyHere(t *testing.T, j *job, name string) (*verifyReport, error) {
	t.Helper()
	found, err := j.versionsOf(t.Context(), name, false)
	if err != nil {
		return nil, err
	}
	var all []*promises
	for _, at := range found {
		p, err := readPromises(t.Context(), at)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	r := &verifyReport{}
	return r, j.verify(t.Context(), all, r)
}

// TestVerifyTellsAStoreThatIsAwayFromABadFile: an unreachable store says nothing about the files.
func TestVerifyTellsAStoreThatIsAwayFromABadFile(t *testing.T) {
	j, mem, faults := memJob(t)
	if err := errors.Join(mem.Mkdir(t.Context(), "/m"), hdfsio.WriteFile(t.Context(), mem, "/m/x", []byte("1")),
		hdfsio.WriteFile(t.Context(), mem, "/m/_version.json", []byte(`{"format":"dkpipe-version/1","files":[{"path":"x","bytes":1,"sha256":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}]}`))); err != nil {
		t.Fatal(err)
	}
	if r, err := verifyHere(t, j, "mem://ns/m"); err != nil || r.Files != 1 || r.Bad != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, denied := range []error{fs.ErrPermission, os.ErrDeadlineExceeded} {
		faults.Clear()
		faults.Add(hdfstest.Fault{Op: hdfstest.Read, Match: func(name string) bool { return name == "/m/x" }, Err: denied})
		if _, err := verifyHere(t, j, "mem://ns/m"); !errors.Is(err, denied) || pipelineKind(err) == "corrupt" {
			t.Errorf("%v", err)
		}
	}
}

// TestVerifyGoesOnBehindAFileThatCannotBeRead, and a file that is wrong tells more than one that may not be read.
func TestVerifyGoesOnBehindAFileThatCannotBeRead(t *testing.T) {
	j, mem, faults := memJob(t)
	one := "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
	var list []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		list = append(list, fmt.Sprintf(`{"path":%q,"bytes":1,"sha256":%q}`, name, one))
		if err := errors.Join(mem.Mkdir(t.Context(), "/m"), hdfsio.WriteFile(t.Context(), mem, "/m/"+name, []byte(map[bool]string{true: "2", false: "1"}[name == "d"]))); err != nil {
			t.Fatal(err)
		}
	}
	if err := hdfsio.WriteFile(t.Context(), mem, "/m/_version.json", []byte(`{"format":"dkpipe-version/1","files":[`+strings.Join(list, ",")+`]}`)); err != nil {
		t.Fatal(err)
	}
	faults.Add(hdfstest.Fault{Op: hdfstest.Read, Match: func(name string) bool { return name == "/m/b" }, Err: fs.ErrPermission})
	r, err := verifyHere(t, j, "mem://ns/m")
	var got []string
	for _, e := range r.Entries {
		got = append(got, e.Status)
	}
	if want := []string{"ok", "unreadable", "ok", "corrupt", "ok"}; !slices.Equal(got, want) || r.Bad != 2 || pipelineKind(err) != "corrupt" || !strings.Contains(err.Error(), "2 files bad in all") {
		t.Errorf("%q, %d bad, %v", got, r.Bad, err)
	}
	faults.Clear()
	faults.Add(hdfstest.Fault{Op: hdfstest.Read, Match: func(name string) bool { return name >= "/m/a" && name <= "/m/e" }, Err: os.ErrDeadlineExceeded})
	if r, err := verifyHere(t, j, "mem://ns/m"); !errors.Is(err, os.ErrDeadlineExceeded) || len(r.Entries) != 2 {
		t.Errorf("a store that is away: %d files were tried, %v", len(r.Entries)+1, err)
	}
}

// FuzzVersionMarker: whatever a marker says, no path of it leads out of the version, and none is taken on trust.
func FuzzVersionMarker(f *testing.F) {
	f.Add([]byte(`{"format":"dkpipe-version/1","files":[{"path":"a/b","bytes":1,"sha256":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}]}`))
	f.Add([]byte(`{"format":"dkpipe-version/1","files":[{"path":"../a","bytes":-1,"sha256":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &promises{at: place{path: "/v"}, files: map[string][]promise{}}
		err := p.marker("/v/"+versionMarker, b)
		if err == nil && len(p.files) == 0 {
			t.Error("accepted without files")
		}
		for name, all := range p.files {
			if at := path.Join("/v", name); !strings.HasPrefix(at, "/v/") {
				t.Errorf("%q leads to %s", name, at)
			}
			for _, x := range all {
				if x.Bytes < 0 || len(x.SHA256) != 64 {
					t.Errorf("%+v", x)
				}
			}
		}
	})
}

// cut takes the second half of a file away.
func cut(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err == nil {
		err = os.Truncate(name, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}
