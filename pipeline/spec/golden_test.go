package spec

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite testdata/errors")

// goldenCase is a job file with flags, and what is said about it.
type goldenCase struct {
	name, text, want string
	opt              Options
}

// goldenCases reads testdata/errors: archives whose files are NAME/job.yaml, NAME/flags (optional, one a line) and
// NAME/want, the message and, behind "hint:", the hint.
func goldenCases(t testing.TB) []goldenCase {
	t.Helper()
	files, err := filepath.Glob("testdata/errors/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var all []goldenCase
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			name, part := path.Split(f.Name)
			name = filepath.Base(file) + "/" + strings.TrimSuffix(name, "/")
			if len(all) == 0 || all[len(all)-1].name != name {
				all = append(all, goldenCase{name: name})
			}
			c := &all[len(all)-1]
			switch part {
			case "job.yaml":
				c.text = string(f.Data)
			case "flags":
				c.opt = parseFlags(t, string(f.Data))
			case "want":
				c.want = string(f.Data)
			default:
				t.Fatalf("%s: what is %s?", file, f.Name)
			}
		}
	}
	return all
}

func parseFlags(t testing.TB, text string) Options {
	t.Helper()
	opt := Options{Params: map[string]string{}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "--set":
			opt.Set = append(opt.Set, value)
		case "--param":
			name, value, _ := strings.Cut(value, "=")
			opt.Params[name] = value
		case "--slot":
			opt.Slot = value
		case "run":
			opt.Need = ForRun
		case "SPARK_REMOTE":
			opt.Env = func(string) string { return value }
		default:
			t.Fatalf("flags: what is %q?", line)
		}
	}
	return opt
}

// TestMessages holds the wording of every error as golden text.
func TestMessages(t *testing.T) {
	got := map[string]string{}
	for _, c := range goldenCases(t) {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read("job.yaml", []byte(c.text), c.opt)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			text := e.Error() + "\n"
			if hint := e.ErrorHint(); hint != "" {
				text += "hint: " + hint + "\n"
			}
			got[c.name] = text
			if text != c.want && !*update {
				t.Errorf("got\n%swant\n%s", text, c.want)
			}
		})
	}
	if *update {
		rewrite(t, got)
	}
}

func rewrite(t *testing.T, got map[string]string) {
	files, _ := filepath.Glob("testdata/errors/*.txt")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var out []txtar.File
		for i, f := range archive.Files {
			name, part := path.Split(f.Name)
			if part != "want" {
				out = append(out, f)
			}
			last := i+1 == len(archive.Files) || !strings.HasPrefix(archive.Files[i+1].Name, name)
			if last {
				out = append(out, txtar.File{Name: name + "want", Data: []byte(got[filepath.Base(file)+"/"+strings.TrimSuffix(name, "/")])})
			}
		}
		archive.Files = out
		if data := txtar.Format(archive); !bytes.Equal(data, nil) {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
