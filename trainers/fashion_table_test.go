package trainers_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of trainers in README.md from testdata/results")

// seconds is the time of the quickest of a contender's trainings at its best rate: on a busy machine, the one that was
// disturbed least.
func (c contender) seconds(all map[string]trained) float64 {
	least := math.Inf(1)
	seeds := recordedSeeds(all)
	for seed := range seeds {
		least = min(least, all[c.training(c.best(all, seeds), seed+1).key()].Seconds)
	}
	return least
}

// TestTableOfTrainersIsMeasured: the last two columns of README's table are those of the recorded results, which hold what
// is promised. make bench-trainers writes them.
func TestTableOfTrainersIsMeasured(t *testing.T) {
	accuracy := readResults(t, filepath.Join("testdata", "results", "accuracy.jsonl"))
	file := filepath.Join("..", "README.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	row := regexp.MustCompile("^\\| `([a-z_]+)`.* \\|.*\\|.*\\|.*\\|.*\\|.*\\|$")
	all, seeds := contenders(), recordedSeeds(accuracy)
	if seeds < 3 {
		t.Fatalf("testdata/results has %d seeds of every trainer, want 3 or more: make bench-accuracy", seeds)
	}
	single, _ := all[0].mean(accuracy, all[0].best(accuracy, seeds), seeds)
	for _, c := range all {
		mean, _ := c.mean(accuracy, c.best(accuracy, seeds), seeds)
		if mean < single+c.floor {
			t.Errorf("%s: %.2f %% is recorded, %.2f %% is promised", c.name, mean, single+c.floor)
		}
		want := fmt.Sprintf("| %.1f | %.1f |", mean, c.seconds(accuracy))
		found := false
		for i, line := range lines {
			m := row.FindStringSubmatch(line)
			if m == nil || m[1] != c.name {
				continue
			}
			found = true
			cells := strings.Split(line, "|")
			lines[i] = strings.TrimSuffix(strings.Join(cells[:len(cells)-3], "|"), " ") + " " + want
			if line != lines[i] && !*update {
				t.Errorf("README.md has\n%s\nand the results say\n%s\nmake bench-trainers writes it", line, lines[i])
			}
		}
		if !found {
			t.Errorf("README.md has no row with figures for %s", c.name)
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// recordedSeeds is how many seeds all contenders have at all their rates.
func recordedSeeds(all map[string]trained) (n uint64) {
	for ; n < allSeeds; n++ {
		for _, c := range contenders() {
			for _, rate := range c.rates {
				if _, ok := all[c.training(rate, n+1).key()]; !ok {
					return n
				}
			}
		}
	}
	return n
}
