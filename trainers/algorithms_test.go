package trainers_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"go.uber.org/goleak"

	"dkpipe/trainers"
	"dkpipe/trainers/trainertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fields decodes the fields of a trainer as a job file writes them.
func fields(text string) func(any) error {
	return func(into any) error {
		return yaml.UnmarshalWithOptions([]byte(text), into, yaml.Strict())
	}
}

// algorithm makes a trainer as a job file does.
func algorithm(t testing.TB, name, text string) trainers.Algorithm {
	t.Helper()
	a, err := trainers.New(name, fields(text))
	if err != nil {
		t.Fatalf("%s {%s}: %v", name, text, err)
	}
	return a
}

func TestRulesAgreeWithTheirPapers(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s trainertest.Script
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatal(err)
			}
			shown[s.Algorithm] = true
			trainertest.Golden(t, algorithm(t, s.Algorithm, string(s.Fields)), data)
		})
	}
	for _, name := range trainers.Names() {
		if !shown[name] {
			t.Errorf("no file shows the equation of %s", name)
		}
	}
	if slices.Contains(trainers.Names(), "") || len(shown) != len(trainers.Names()) {
		t.Errorf("files show %v, the trainers are %v", shown, trainers.Names())
	}
}
