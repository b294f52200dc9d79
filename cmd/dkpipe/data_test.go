package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

// dataResult is the JSON of the data commands.
type dataResult struct {
	Command, Status    string
	Seconds            float64
	Rows, Files, Bytes int64
	Bad                int64
	Output             string
	Parts              map[string]int64
	Columns            []importedColumn
	Versions, Removed  []string
	Warnings           []string
	Entries            []struct {
		Path, From, To, Type, Status string
		Bytes, Files                 int64
		SHA256                       string
	}
	Error *failure
}

// data runs a data command to its end with --json and checks its exit code.
func data(t *testing.T, dir string, code int, args ...string) dataResult {
	t.Helper()
	p := start(t, dir, nil, append(append([]string{"data"}, args...), "--json")...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe data %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	var r dataResult
	d := json.NewDecoder(bytes.NewReader(p.stdout.Bytes()))
	if err := d.Decode(&r); err != nil || d.More() {
		t.Fatalf("stdout is not one JSON object: %v\n%s", err, &p.stdout)
	}
	if want := map[int]string{0: "ok", 130: "interrupted"}[code]; want != r.Status && (want != "" || r.Status != "failed" || r.Error == nil) {
		t.Fatalf("status %q, error %v", r.Status, r.Error)
	}
	return r
}

// dataText runs a data command for people and gives what it says.
func dataText(t *testing.T, dir string, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	p := start(t, dir, nil, append([]string{"data"}, args...)...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe data %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	return p.stdout.String(), p.stderr.String()
}

// files writes files of a folder of the test's own: names and contents by turns.
func files(t *testing.T, dir string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		name := filepath.Join(dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree lists every file below a folder with its bytes, hidden ones too.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		out[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// memJob is a job whose stores have the scheme mem, in memory, with faults on command.
func memJob(t *testing.T) (*job, *hdfsio.Mem, *hdfstest.Faults) {
	t.Helper()
	mem := &hdfsio.Mem{}
	faults := &hdfstest.Faults{FS: mem}
	j := newApp(io.Discard, io.Discard, func(string) string { return "" }).looseJob("data test")
	j.stores = &hdfsio.Stores{Drivers: map[string]hdfsio.Driver{"mem": func(context.Context, string) (hdfsio.FS, error) { return faults, nil }}}
	return j, mem, faults
}

// memTree lists every file and empty folder of a store in memory with its bytes.
func memTree(t *testing.T, mem *hdfsio.Mem) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := hdfsio.Walk(t.Context(), mem, "/", func(name string, info hdfsio.Info) error {
		if info.Dir {
			return nil
		}
		b, err := hdfsio.ReadFile(t.Context(), mem, name, 1<<30)
		out[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBarsEnd runs what has a progress bar as on a terminal: a bar that never ends would keep the command for ever.
func TestBarsEnd(t *testing.T) {
	t.Chdir(files(t, fourIDX(t, t.TempDir()), "m/v/_version.json", `{"format":"dkpipe-version/1","files":[{"path":"x","bytes":1,"sha256":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}]}`,
		"m/v/x", "1", "empty", ""))
	for _, args := range []string{"import --in raw --out table", "import --in raw/t10k* --out table --force", "put raw raw2", "put empty empty2", "put none raw3",
		"checksum raw", "checksum empty", "verify m/v", "verify raw"} {
		a := newApp(io.Discard, io.Discard, func(string) string { return "" })
		a.tty = true
		ended := make(chan int, 1)
		go func() { ended <- a.main(t.Context(), append([]string{"data"}, strings.Fields(args)...)) }()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatalf("data %s does not end", args)
		}
	}
}

func TestLsAndDuShowWhatIsThere(t *testing.T) {
	dir := files(t, t.TempDir(), "d/a.csv", "abc", "d/b/c", "0123456789", "d/_SUCCESS", "", "d/b/.x", "y")
	var names []string
	for _, e := range data(t, dir, 0, "ls", "-R", "d").Entries {
		names = append(names, e.Path+" "+e.Type)
	}
	if want := []string{"d/_SUCCESS file", "d/a.csv file", "d/b dir", "d/b/.x file", "d/b/c file"}; !slices.Equal(names, want) {
		t.Errorf("ls -R: %q, want %q", names, want)
	}
	for args, want := range map[string][]string{
		"d":             {"d/_SUCCESS", "d/a.csv", "d/b"},
		"d/a.csv":       {"d/a.csv"},
		"-d d":          {"d"},
		"d/?.csv":       {"d/a.csv"},
		"d/*/c":         {"d/b/c"},
		"d/{b/c,a.csv}": {"d/b/c", "d/a.csv"},
		"d/[^_]*":       {"d/a.csv", "d/b/.x", "d/b/c"},
	} {
		names = nil
		for _, e := range data(t, dir, 0, append([]string{"ls"}, strings.Fields(args)...)...).Entries {
			names = append(names, e.Path)
		}
		if !slices.Equal(names, want) {
			t.Errorf("ls %s: %q, want %q", args, names, want)
		}
	}
	out, _ := dataText(t, dir, 0, "ls", "d/a.csv")
	if f := strings.Fields(out); len(f) != 6 || f[0] != "-" || f[1] != "3" || f[5] != "d/a.csv" {
		t.Errorf("ls: %q", out)
	}
	if r := data(t, dir, 0, "du", "-s", "d"); r.Bytes != 14 || r.Files != 4 || len(r.Entries) != 1 {
		t.Errorf("du -s: %+v", r)
	}
	if r := data(t, dir, 0, "du", "d"); len(r.Entries) != 3 || r.Entries[2].Bytes != 11 || r.Entries[2].Files != 2 {
		t.Errorf("du: %+v", r)
	}
	files(t, dir, "big", strings.Repeat("x", 3<<19))
	if out, _ := dataText(t, dir, 0, "du", "-h", "big"); strings.Join(strings.Fields(out), " ") != "1.5 MiB 1 big" {
		t.Errorf("du -h: %q", out)
	}
	if out, _ := dataText(t, dir, 0, "du", "-h"); !strings.Contains(out, "Usage:") {
		t.Errorf("du -h without a path is no help: %q", out)
	}
}

func TestANameWithPatternCharactersIsTakenAsItStands(t *testing.T) {
	dir := files(t, t.TempDir(), "a[1].csv", "brackets", "a1.csv", "one", "{x", "brace")
	for name, want := range map[string]string{"a[1].csv": "brackets", "a[1]*": "one", "{x": "brace"} {
		if out, _ := dataText(t, dir, 0, "cat", name); out != want {
			t.Errorf("%s: %q, want %q", name, out, want)
		}
	}
}

func TestCatWritesBytesAsTheyAre(t *testing.T) {
	all := strings.Repeat("\x00\xff\r\n", 1<<19) // more than a buffer
	dir := files(t, t.TempDir(), "a", all, "b", "b\n", "empty", "")
	if out, _ := dataText(t, dir, 0, "cat", "a", "empty", "b"); out != all+"b\n" {
		t.Errorf("%d bytes came out", len(out))
	}
	// What cannot be written is known before the first byte is.
	if out, _ := dataText(t, dir, 2, "cat", "b", "."); out != "" {
		t.Errorf("written before the error: %q", out)
	}
}

func TestChecksumIsThatOfSha256sum(t *testing.T) {
	dir := files(t, t.TempDir(), "d/a", "abc", "d/b/empty", "")
	r := data(t, dir, 0, "checksum", "d")
	if r.Files != 2 || r.Bytes != 3 || r.Entries[0].Path != "d/a" || r.Entries[0].Bytes != 3 ||
		r.Entries[0].SHA256 != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" ||
		r.Entries[1].SHA256 != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("%+v", r)
	}
	out, _ := dataText(t, dir, 0, "checksum", "d/a")
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 d/a"; strings.Join(strings.Fields(out), " ") != want {
		t.Errorf("%q", out)
	}
}

func TestRmRemovesWhatIsNamedAndNothingElse(t *testing.T) {
	dir := files(t, t.TempDir(), "d/a.csv", "1", "d/b.csv", "2", "d/c", "3", "e/f/g", "4", "h", "5")
	if r := data(t, dir, 0, "rm", "d/*.csv"); !slices.Equal(r.Removed, []string{"d/a.csv", "d/b.csv"}) {
		t.Errorf("removed %q", r.Removed)
	}
	// One wrong name, and nothing is removed.
	data(t, dir, 2, "rm", "h", "e")
	data(t, dir, 3, "rm", "h", "none")
	if got := tree(t, dir); len(got) != 3 {
		t.Errorf("left: %v", got)
	}
	data(t, dir, 0, "rm", "-f", "none", "h")
	data(t, dir, 0, "rm", "-r", "e")
	if got := tree(t, dir); len(got) != 1 || got["d/c"] != "3" {
		t.Errorf("left: %v", got)
	}
}

func TestRmNeverRemovesRoots(t *testing.T) {
	j, mem, _ := memJob(t)
	if err := hdfsio.WriteFile(t.Context(), mem, "/a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"/", "//", "/.", "/a/..", ".", "./", "..", "../..", "x/..", "file:///", "/*", "/?*/", "/{a,b}", "mem://ns", "mem://ns/", "mem:///", "mem://ns/*", "mem://ns/a/..", filepath.ToSlash(t.TempDir()) + "/../.."} {
		if _, err := j.removable(t.Context(), []string{name}, true, true); pipelineKind(err) != "usage" {
			t.Errorf("%s: %v", name, err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{here, filepath.Dir(here), filepath.Dir(here) + "/*"} {
		if _, err := j.removable(t.Context(), []string{filepath.ToSlash(name)}, true, true); pipelineKind(err) != "usage" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, err := j.removable(t.Context(), []string{"mem://ns/a"}, false, false); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestBracesResolveAsInShells(t *testing.T) {
	for pattern, want := range map[string][]string{
		"a":           {"a"},
		"a{b,c}d":     {"abd", "acd"},
		"{a,b}{c,d}":  {"ac", "ad", "bc", "bd"},
		"{a,{b,c}}x":  {"ax", "bx", "cx"},
		"a{b,}":       {"ab", "a"},
		"{open,":      {"{open,"},
		"a}b":         {"a}b"},
		"x{day=1}/*y": {"xday=1/*y"},
	} {
		if got := braces(pattern); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
}

func TestSizesForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 3 << 30: "3.0 GiB", 1<<63 - 1: "8.0 EiB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// TestDataBadInput checks message, hint and exit code of everything that users get wrong.
func TestDataBadInput(t *testing.T) {
	for _, c := range []struct {
		args    string // at spaces
		code    int
		kind    string
		message string
		hint    string
		arrange []string
	}{
		{args: "ls none", code: 3, kind: "data", message: "none: there is no such file or folder",
			hint: "plain paths start at the working directory; dkpipe data ls shows what a folder holds"},
		{args: "ls d/*.parquet", code: 3, kind: "data", message: "d/*.parquet: nothing matches", hint: "dkpipe data ls shows what a folder holds"},
		{args: "ls d/[", code: 2, kind: "usage", message: `d/[: "[" is not a pattern`, hint: "close the bracket, or put a backslash before it"},
		{args: "ls s3://bucket/x", code: 2, kind: "unsupported", message: `open s3://bucket/x: no store serves the scheme "s3"; served: file, hdfs`, hint: "name a path of one of these"},
		{args: "lss", code: 2, kind: "usage", message: `unknown command "lss" for "dkpipe data"`, hint: "did you mean dkpipe data ls?"},
		{args: "cat a", code: 2, kind: "usage", message: "cat writes the bytes of files to standard output, where --json has no place",
			hint: "leave --json out; dkpipe data checksum --json describes files"},
		{args: "rm d", code: 2, kind: "usage", message: "d is a folder", hint: "dkpipe data rm -r removes it with everything below"},
		{args: "rm -r /", code: 2, kind: "usage", message: "/ is a whole store or the working directory; it is never removed", hint: "name what should go"},
		{args: "rm -r hdfs://ns", code: 2, kind: "usage", message: "hdfs://ns/ is a whole store or the working directory; it is never removed", hint: "name what should go"},
		{args: "rm -r hdfs://ns/*", code: 2, kind: "usage", message: "hdfs://ns/* is a pattern right below the root; it is never removed", hint: "name the folders one by one"},
		{args: "put a b", code: 2, kind: "usage", message: "b exists", hint: "--force replaces it"},
		{args: "put a d e", code: 2, kind: "usage", message: "e is not a folder, and there are 2 sources", hint: "write e/ to make it"},
		{args: "put a d b", code: 2, kind: "usage", message: "b is a file, and there are 2 sources", hint: "name a folder"},
		{args: "put d b", code: 2, kind: "usage", message: "b is a file, d is a folder", hint: "choose another name"},
		{args: "put d e", arrange: []string{"e/d/x", "1"}, code: 2, kind: "usage", message: "the folder e/d exists", hint: "remove it before, or choose another name"},
		{args: "put a e --force", arrange: []string{"e/a/x", "1"}, code: 2, kind: "usage", message: "e/a is a folder, a is a file", hint: "choose another name"},
		{args: "put d/x a e/", arrange: []string{"d/x", "1", "f/x", "2"}, code: 0},
		{args: "put d/x f/x e/", arrange: []string{"d/x", "1", "f/x", "2"}, code: 2, kind: "usage", message: "d/x and f/x would both become e/x",
			hint: "copy them one after the other, under names of their own"},
		{args: "put . d", code: 2, kind: "usage", message: ". has no name of its own to go by below d", hint: "name the folder, or give the target a name that does not exist yet"},
		{args: "get none here", code: 3, kind: "data", message: "none: there is no such file or folder",
			hint: "plain paths start at the working directory; dkpipe data ls shows what a folder holds"},
		{args: "verify a", code: 2, kind: "usage", message: "a is a file, not a dataset or a model", hint: "dkpipe data checksum shows the sum of a file"},
		{args: "verify d", code: 3, kind: "data", message: "d is neither a dataset nor a model, nor a root of versions", hint: "dkpipe data checksum shows the sums of any files"},
		{args: "verify v", arrange: []string{"v/v000007/x", "1"}, code: 3, kind: "data", message: "v has no LATEST, so no version is published",
			hint: "check one version (v/v000007) or all (--all)"},
		{args: "verify v", arrange: []string{"v/LATEST", "../x\n"}, code: 3, kind: "corrupt", message: `v/LATEST holds "../x\n", not the name of a version`, hint: damagedHint},
		{args: "verify v", arrange: []string{"v/LATEST", "v000007\n"}, code: 3, kind: "corrupt", message: "v/LATEST names v000007, which is not there", hint: damagedHint},
		{args: "verify v/v000001", arrange: []string{"v/v000001/_version.json", `{"format":"dkpipe-version/1","files":[{"path":"../../a","bytes":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`},
			code: 3, kind: "corrupt", message: `v/v000001/_version.json: the entry of "../../a" is not valid`, hint: damagedHint},
		{args: "verify v/v000001", arrange: []string{"v/v000001/_version.json", `{"format":"dkpipe-version/2"}`}, code: 2, kind: "unsupported",
			message: `v/v000001/_version.json: format "dkpipe-version/2", this program reads "dkpipe-version/1"`, hint: "use the version of dkpipe that wrote it"},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir := files(t, t.TempDir(), append([]string{"a", "1", "b", "2", "d/c", "3"}, c.arrange...)...)
			before := tree(t, dir)
			r := data(t, dir, c.code, strings.Fields(c.args)...)
			if c.code == 0 {
				return
			}
			if string(r.Error.Kind) != c.kind || r.Error.Message != c.message || r.Error.Hint != c.hint {
				t.Errorf("got  %s: %s\n     next: %s\nwant %s: %s\n     next: %s", r.Error.Kind, r.Error.Message, r.Error.Hint, c.kind, c.message, c.hint)
			}
			if after := tree(t, dir); len(after) != len(before) {
				t.Errorf("left behind: %v", after)
			}
		})
	}
}

const damagedHint = "it is not what was published: check the store, go back with dkpipe model rollback, or make it again"
