package trainers_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"dkpipe/trainers"
	"dkpipe/trainers/trainertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAlgorithmsFindTheMinimum(t *testing.T) {
	for _, c := range []trainertest.Case{
		{Algorithm: trainers.Single{}, Workers: []int{1}},
		{Algorithm: trainers.Averaging{}},
		{Algorithm: trainers.Downpour{}, Window: 2, Rate: 0.05},
		{Algorithm: trainers.AGN{}, Window: 3, Rate: 0.2},
	} {
		t.Run(c.Algorithm.Name(), func(t *testing.T) { trainertest.Run(t, c) })
	}
}

func TestRulesAgreeWithTheirPapers(t *testing.T) {
	for _, name := range trainers.Names() {
		t.Run(name, func(t *testing.T) {
			a, err := trainers.New(name, nil)
			if err != nil {
				t.Fatal(err)
			}
			script, err := os.ReadFile(filepath.Join("testdata", "rules", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			trainertest.Golden(t, a, script)
		})
	}
}
