package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport is the whole import policy: which packages of ours a package may import. CONTRIBUTING.md shows the same
// table with the idea of each package.
//
// Test suites (pipetest, hdfstest, pstest, trainertest) are for test files; a suite may import what it tests.
var mayImport = map[string][]string{
	"pipeline":                           {"pipeline/expr"},
	"pipeline/spec":                      {},
	"pipeline/expr":                      {},
	"pipeline/local":                     {"pipeline", "pipeline/expr"},
	"pipeline/dataset":                   {"pipeline"},
	"pipeline/pipetest":                  {"pipeline", "pipeline/expr"},
	"transformers":                       {"pipeline", "pipeline/expr"},
	"hdfsio":                             {},
	"hdfsio/publish":                     {"hdfsio"},
	"hdfsio/hdfstest":                    {"hdfsio"},
	"ps":                                 {},
	"ps/pspb":                            {},
	"ps/psrpc":                           {"ps", "ps/pspb"},
	"ps/checkpoint":                      {"ps"},
	"ps/pstest":                          {"ps"},
	"trainers":                           {"pipeline", "ps", "trainers/model", "trainers/optim"},
	"trainers/trainertest":               {"pipeline", "ps", "trainers", "trainers/model", "trainers/optim"},
	"trainers/model":                     {"pipeline", "trainers/kernel", "trainers/optim", "trainers/model/graph"},
	"trainers/model/graph":               {"pipeline", "trainers/kernel", "trainers/optim"},
	"trainers/model/kerastest":           {},
	"trainers/model/modeltest":           {"pipeline", "trainers/model", "trainers/model/kerastest"},
	"trainers/model/formats/kerasjson":   {"pipeline", "trainers/model"},
	"trainers/model/formats/safetensors": {"pipeline"},
	"trainers/model/formats/hdf5":        {"pipeline"},
	"trainers/model/formats/kerasfile":   {"pipeline", "trainers/model", "trainers/model/formats/hdf5", "trainers/model/formats/kerasjson"},
	"trainers/model/formats/onnx":        {"pipeline", "pipeline/expr", "trainers/model"},
	"trainers/optim":                     {"trainers/kernel"},
	"trainers/kernel":                    {},
	"trainers/bundle":                    {"pipeline/expr", "trainers/model", "trainers/model/formats/kerasjson", "trainers/model/formats/safetensors"},
	"hdfsio/hdfs":                        {"hdfsio"},
	"sparkconn":                          {"pipeline", "pipeline/expr"},
	"sparkconn/sparktest":                {},
	"internal/box/boxtest":               {"internal/box"},
	"internal/box":                       {},
	"cmd/dkpipe":                         {"*"},
}

var suites = []string{"pipeline/pipetest", "hdfsio/hdfstest", "ps/pstest", "trainers/trainertest", "sparkconn/sparktest", "internal/box/boxtest", "trainers/model/kerastest", "trainers/model/modeltest"}

// testsMayImport are edges for tests alone: the publish protocol is tried on a real HDFS.
var testsMayImport = map[string][]string{"hdfsio/hdfs": {"hdfsio/publish"}}

// TestImportPolicy reads the import clauses itself: a test that shells out to the go tool would be answered from the
// test cache and miss a forbidden import.
func TestImportPolicy(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "tools" || d.Name() == "testdata" || d.Name() == "out") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		seen[pkg] = true
		allowed, known := mayImport[pkg]
		if !known && !strings.HasPrefix(pkg, "examples/") {
			t.Errorf("%s: package %s is not in the policy table", rel, pkg)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			dep, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "dkpipe/")
			if !ours || slices.Contains(allowed, "*") || slices.Contains(allowed, dep) {
				continue
			}
			if strings.HasSuffix(name, "_test.go") && (slices.Contains(suites, dep) || dep == pkg || slices.Contains(testsMayImport[pkg], dep) || inTestsOf(pkg, dep)) {
				continue
			}
			if strings.HasPrefix(pkg, "examples/") && dep != "cmd/dkpipe" {
				continue
			}
			t.Errorf("%s: %s may not import %s", rel, pkg, dep)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range slices.Sorted(maps.Keys(mayImport)) {
		if !seen[pkg] {
			t.Errorf("the policy names %s, which does not exist", pkg)
		}
	}
}

// inTestsOf lets an external test use what its package's own dependencies are built from: tests of the training
// engine run real models, tests of the engine's algorithms run the real server.
func inTestsOf(pkg, dep string) bool {
	for _, d := range mayImport[pkg] {
		if slices.Contains(mayImport[d], dep) {
			return true
		}
	}
	return false
}

// TestNoFileIsTooLong keeps files readable at one sitting. Generated files and tables are exempt by their name.
func TestNoFileIsTooLong(t *testing.T) {
	err := filepath.WalkDir(filepath.Join("..", ".."), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".pb.go") {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := strings.Count(string(b), "\n"); n > 600 && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s has %d lines; 600 is the limit", name, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
