package main

import (
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/trainers"
	"dkpipe/transformers"
)

// TestDocsAreFresh compares what README and CONTRIBUTING list with what there is.
func TestDocsAreFresh(t *testing.T) {
	readme, contributing := text(t, "README.md"), text(t, "CONTRIBUTING.md")
	for _, name := range slices.Concat(transformers.Names(), trainers.Names()) {
		if !strings.Contains(readme, "| `"+name+"`") {
			t.Errorf("README.md has no row for %s", name)
		}
	}
	for _, c := range newApp(os.Stdout, os.Stderr, os.Getenv).command().Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if !strings.Contains(readme, "dkpipe "+c.Name()) {
			t.Errorf("README.md does not show dkpipe %s", c.Name())
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(mayImport)) {
		top := strings.Split(pkg, "/formats/")[0]
		if !strings.Contains(contributing, "`"+pkg+"`") && !strings.Contains(contributing, "`"+top+"`") && !strings.Contains(contributing, "`"+filepath.Base(pkg)+"`") {
			t.Errorf("CONTRIBUTING.md does not name the package %s", pkg)
		}
	}
}

// TestDocsOfEveryPackage: every package says its one idea.
func TestDocsOfEveryPackage(t *testing.T) {
	for pkg := range mayImport {
		dir := filepath.Join("..", "..", filepath.FromSlash(pkg))
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := false
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil && len(strings.TrimSpace(f.Doc.Text())) > 40
		}
		if !documented {
			t.Errorf("package %s has no doc comment", pkg)
		}
	}
}

func text(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
