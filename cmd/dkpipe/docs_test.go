package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
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

// TestTestsOfTheFaultContractExist: the table in package ps/pstest names a test for every event, and there is one of that name.
func TestTestsOfTheFaultContractExist(t *testing.T) {
	exist := map[string]bool{}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				exist[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(text(t, "ps/pstest/doc.go"), "# The fault contract")
	rows := regexp.MustCompile(`(?m)^//\t[a-zA-Z].*:$`).FindAllStringIndex(table, -1)
	if len(rows) < 11 {
		t.Errorf("%d events", len(rows))
	}
	for i, row := range rows {
		end := len(table)
		if i+1 < len(rows) {
			end = rows[i+1][0]
		}
		tests := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(table[row[1]:end], -1)
		if len(tests) == 0 {
			t.Errorf("%s names no test", table[row[0]:row[1]])
		}
		for _, name := range tests {
			if !exist[name] {
				t.Errorf("%s there is no %s", table[row[0]:row[1]], name)
			}
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
