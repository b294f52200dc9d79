package pstest

import (
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dkpipe/ps"
)

// cell is one event of the fault contract in one mode, and what must come of it beyond what every simulated run is held to.
type cell struct {
	event  string
	mode   ps.Mode
	script []Fault
	set    func(*Sim)
	want   func(t *testing.T, o Sim, out Outcome)
	all    func(t *testing.T, sum ps.Stats, returned int) // over all seeds
}

const seeds = 150

// joins checks how often each worker joined.
func joins(want ...int) func(*testing.T, Sim, Outcome) {
	return func(t *testing.T, o Sim, out Outcome) {
		t.Helper()
		if !slices.Equal(out.Joins, want) {
			t.Errorf("seed %d: workers joined %v times, want %v", o.Seed, out.Joins, want)
		}
	}
}

// everybodyAgain: all who were there joined a second time.
func everybodyAgain(t *testing.T, o Sim, out Outcome) {
	t.Helper()
	again := 0
	for _, n := range out.Joins {
		if n >= 2 {
			again++
		}
	}
	if again == 0 || slices.Contains(out.Joins, 0) {
		t.Errorf("seed %d: workers joined %v times", o.Seed, out.Joins)
	}
}

// sameBits: in rounds what happens to messages does not show.
func sameBits(t *testing.T, o Sim, out Outcome) {
	t.Helper()
	joins(1, 1, 1)(t, o, out)
	o.Script = nil
	undisturbed, err := Simulate(o)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range undisturbed.Centre {
		if math.Float32bits(v) != math.Float32bits(out.Centre[i]) || out.Version != undisturbed.Version {
			t.Fatalf("seed %d: the centre is %v at version %d, undisturbed %v at %d", o.Seed, out.Centre, out.Version, undisturbed.Centre, undisturbed.Version)
		}
	}
}

func cells() []cell {
	messages := []Fault{{0, 2, Twice}, {1, 3, Lose}, {2, 2, LoseReply}, {0, 4, Late}, {1, 5, LoseReply}}
	spread := func(o *Sim) { o.Servers = 1 + int(o.Seed)%3 }
	two := func(o *Sim) { o.Servers = 2 }
	repeated := func(t *testing.T, sum ps.Stats, _ int) {
		if sum.Duplicates < seeds/2 {
			t.Errorf("%d repeats came to the server in %d runs", sum.Duplicates, seeds)
		}
	}
	came := func(t *testing.T, _ ps.Stats, returned int) {
		if returned < seeds/4 {
			t.Errorf("the worker came back in %d of %d runs", returned, seeds)
		}
	}
	dropped := func(t *testing.T, sum ps.Stats, _ int) {
		if sum.Dropped < seeds/4 {
			t.Errorf("%d deltas were too late in %d runs", sum.Dropped, seeds)
		}
	}
	var all []cell
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		undisturbed := joins(1, 1, 1)
		if mode == ps.Rounds {
			undisturbed = sameBits
		}
		late := func(o *Sim) {
			if o.Staleness.Drop = 2; mode == ps.Rounds {
				o.Quorum, o.Staleness.Drop = 2, 1
			}
		}
		all = append(all,
			cell{event: "worker killed", mode: mode, script: []Fault{{1, 4, Kill}}, want: joins(1, 1, 1)},
			cell{event: "worker paused or slow", mode: mode, script: []Fault{{1, 4, Pause}}, want: joins(1, 2, 1)},
			cell{event: "worker paused or slow", mode: mode, script: []Fault{{1, 3, Slow}, {1, 5, Slow}}, want: undisturbed},
			cell{event: "worker paused or slow", mode: mode, script: []Fault{{1, 3, Slow}, {1, 5, Slow}}, set: late, want: joins(1, 1, 1), all: dropped},
			cell{event: "worker rejoins", mode: mode, script: []Fault{{1, 2, Return}}, all: came},
			cell{event: "commit repeated, lost or reordered", mode: mode, script: messages, want: undisturbed, all: repeated},
			cell{event: "data server lost", mode: mode, script: []Fault{{0, 3, Save}, {1, 4, Crash}}, set: spread, want: everybodyAgain},
			cell{event: "coordinator lost", mode: mode, script: []Fault{{0, 3, Save}, {1, 4, Crash}}, want: everybodyAgain},
			cell{event: "partition", mode: mode, script: []Fault{{1, 4, Cut}}, want: joins(1, 2, 1)},
			cell{event: "scale up or down", mode: mode, script: []Fault{{0, 2, Arrive}, {1, 4, Depart}}, set: func(o *Sim) { o.Extra = 1 }, want: joins(1, 1, 1, 1)},
			cell{event: "data server added or removed", mode: mode, script: []Fault{{0, 3, More}, {1, 4, Fewer}}, set: two, want: everybodyAgain},
			cell{event: "NaN", mode: mode, script: []Fault{{1, 3, Poison}}, want: func(t *testing.T, o Sim, out Outcome) {
				joins(1, 1, 1)(t, o, out)
				if out.Stats.Rejected != 1 || out.Stats.RejectedSamples == 0 {
					t.Errorf("seed %d: %+v", o.Seed, out.Stats)
				}
			}},
			cell{event: "stop", mode: mode, script: []Fault{{1, 3, Halt}}, want: joins(1, 1, 1)},
		)
	}
	return all
}

// TestScriptedFaults goes through the fault contract: each event at a moment that is known, in 150 orders of everything else,
// with the parameters at the coordinator or at data servers. Simulate holds every run to the promises of package ps.
func TestScriptedFaults(t *testing.T) {
	for _, c := range cells() {
		name := c.event + "/" + map[ps.Mode]string{ps.Async: "async", ps.Rounds: "rounds"}[c.mode]
		t.Run(name, func(t *testing.T) {
			var sum ps.Stats
			struck, returned := 0, 0
			for seed := range uint64(seeds) {
				o := Sim{Seed: seed, Mode: c.mode, Workers: 3, Shards: 5, Epochs: 3, Rows: 8, Window: 2, Params: 7, Script: c.script}
				if seed%2 > 0 && c.event != "coordinator lost" {
					o.Servers = 1 + int(seed)%3
				}
				if c.set != nil {
					c.set(&o)
				}
				out, err := Simulate(o)
				if err != nil {
					t.Fatal(err)
				}
				sum.Duplicates += out.Stats.Duplicates
				sum.Dropped += out.Stats.Dropped
				if out.Joins[1] > 1 {
					returned++
				}
				if out.Struck == len(c.script) {
					struck++
					if c.want != nil {
						c.want(t, o, out)
					}
				}
			}
			if struck < 2*seeds/3 {
				t.Errorf("all faults of the script happened in %d of %d runs", struck, seeds)
			}
			if c.all != nil {
				c.all(t, sum, returned)
			}
		})
	}
}

// TestEveryEventOfTheContractIsScripted compares the table in the package's comment with the script.
func TestEveryEventOfTheContractIsScripted(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^//\t([a-zA-Z].*):$`).FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, strings.TrimSpace(row[1]))
	}
	for _, mode := range []ps.Mode{ps.Async, ps.Rounds} {
		var scripted []string
		for _, c := range cells() {
			if c.mode == mode && !slices.Contains(scripted, c.event) {
				scripted = append(scripted, c.event)
			}
		}
		if !slices.Equal(listed, scripted) {
			t.Errorf("mode %d: the table has %q, the script %q", mode, listed, scripted)
		}
	}
}
