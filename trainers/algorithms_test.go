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
	if text == "" {
		return nil
	}
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

// covers checks that a table has every trainer. An ensemble is several runs of single; TrainEnsemble has tests of its own.
func covers(t *testing.T, table map[string]bool) {
	t.Helper()
	for _, name := range trainers.Names() {
		if !table[name] && name != "ensemble" {
			t.Errorf("%s is not in the table", name)
		}
	}
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

func TestAlgorithmsFindTheMinimum(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range []struct {
		name, fields string
		trainertest.Case
	}{
		{name: "single", Case: trainertest.Case{Workers: []int{1}}},
		{name: "averaging"},
		{name: "downpour", Case: trainertest.Case{Window: 2, Rate: 0.05}},
		{name: "downpour", fields: "adagrad: {gamma: 0.3}", Case: trainertest.Case{Window: 2, Rate: 0.05, Epochs: 80}},
		{name: "agn", Case: trainertest.Case{Window: 3, Rate: 0.2}},
		{name: "distance_adag", fields: "gamma: 0.01", Case: trainertest.Case{Window: 3, Rate: 0.2}},
		{name: "dynsgd", Case: trainertest.Case{Window: 3}},
		{name: "aeasgd", Case: trainertest.Case{Window: 3, Epochs: 160}},
		{name: "eamsgd", fields: "momentum: 0.5", Case: trainertest.Case{Window: 3, Rate: 0.05}},
		{name: "sync_sgd", Case: trainertest.Case{Epochs: 80, Rate: 0.3}},
		{name: "local_sgd", Case: trainertest.Case{Window: 3}},
		{name: "diloco", Case: trainertest.Case{Window: 3, Epochs: 80}},
		{name: "async_local", Case: trainertest.Case{Window: 3, Epochs: 80}},
	} {
		t.Run(strings.TrimSpace(c.name+" "+c.fields), func(t *testing.T) {
			tried[c.name] = true
			c.Algorithm = algorithm(t, c.name, c.fields)
			trainertest.Run(t, c.Case)
		})
	}
	covers(t, tried)
}
