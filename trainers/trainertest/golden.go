package trainertest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
)

// Script is an algorithm's rule in numbers worked out by hand, as the JSON files in trainers/testdata/golden hold it.
type Script struct {
	Algorithm string `json:"algorithm"`
	// Fields are the trainer's own, as a job file has them; whoever makes the algorithm reads them.
	Fields    json.RawMessage `json:"fields"`
	Workers   int             `json:"workers"`
	Equation  string          `json:"equation"` // what the numbers show
	Source    string          `json:"source"`   // where the equation is published
	Tolerance float64         `json:"tolerance"`
	Rate      float32         `json:"rate"`   // of the plain descent that is the job's optimizer
	Centre    []float32       `json:"centre"` // at the start; slots start as zeros
	Steps     []Exchange
}

// Exchange is one window's end. Base and X are what the worker has, then come its local steps, if the script shows them,
// and the rest is what must become of it.
type Exchange struct {
	Worker    ps.Worker   `json:"worker"`
	Steps     int         `json:"steps"`
	Staleness uint64      `json:"staleness"`
	Base      []float32   `json:"base"`
	X         []float32   `json:"x"`
	Grads     [][]float32 `json:"grads"`     // of the local steps from X on; none: X is where they ended
	XStepped  []float32   `json:"x_stepped"` // after them
	Peers     int         `json:"peers"`     // workers at that moment; 0: not told
	Others    [][]float32 `json:"others"`    // deltas of the other members of a round: the rule gets the mean
	Delta     []float32   `json:"delta"`
	Centre    []float32   `json:"centre"`
	XAfter    []float32   `json:"x_after"`
	BaseAfter []float32   `json:"base_after"`
}

// Golden runs a script through both halves of an algorithm. Numbers must be equal, or within the script's tolerance.
func Golden(t *testing.T, a trainers.Algorithm, data []byte) {
	t.Helper()
	var s Script
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatalf("script: %v", err)
	}
	if s.Algorithm != a.Name() || s.Equation == "" || s.Source == "" || len(s.Steps) < 3 {
		t.Fatalf("script of %q for %q: it must name the algorithm, the equation and its source, and have three steps", s.Algorithm, a.Name())
	}
	rule, err := trainers.Rule(a, s.Workers, func(int) (optim.Optimizer, error) { return Descent{s.Rate}, nil })
	if err != nil {
		t.Fatal(err)
	}
	n := len(s.Centre)
	centre, slots := append([]float32(nil), s.Centre...), make([]float32, rule.Slots()*n)
	locals := map[ps.Worker]trainers.Local{}
	version := uint64(0)
	for i, e := range s.Steps {
		local := locals[e.Worker]
		if local == nil {
			local = a.Local(s.Workers, Descent{s.Rate})
			locals[e.Worker] = local
		}
		check := func(what string, got, want []float32) {
			t.Helper()
			if err := near(got, want, s.Tolerance); err != nil {
				t.Errorf("step %d: %s is %v, %s gives %v (%v)", i+1, what, got, s.Equation, want, err)
			}
		}
		x, base, delta := append([]float32(nil), e.X...), append([]float32(nil), e.Base...), make([]float32, n)
		for _, g := range e.Grads {
			local.Step(x, g)
		}
		if e.XStepped != nil {
			check("x after the local steps", x, e.XStepped)
		}
		local.Delta(delta, x, base, e.Steps)
		check("delta", delta, e.Delta)
		mean := append([]float32(nil), delta...)
		for _, other := range e.Others {
			for j, d := range other {
				mean[j] += d
			}
		}
		if k := 1 + len(e.Others); k > 1 {
			for j := range mean {
				mean[j] /= float32(k)
			}
		}
		rule.Apply(centre, slots, mean, base, ps.Commit{Worker: e.Worker, Seq: uint64(i + 1), Base: version - e.Staleness,
			Steps: e.Steps, Samples: int64(e.Steps), Staleness: e.Staleness, Scale: 1, Peers: e.Peers, From: slices.Clone(e.Base)})
		version++
		check("centre", centre, e.Centre)
		if r, ok := rule.(ps.CentreRule); ok && r.RepliesCentre() {
			check("reply", base, centre)
		}
		local.Adopt(x, base)
		check("x after the exchange", x, e.XAfter)
		check("base after the exchange", base, e.BaseAfter)
	}
}

// near compares vectors.
func near(got, want []float32, tolerance float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d elements, not %d", len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= tolerance) {
			return fmt.Errorf("element %d is off by %g", i, d)
		}
	}
	return nil
}
