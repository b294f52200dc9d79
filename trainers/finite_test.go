package trainers_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"dkpipe/ps"
	"dkpipe/trainers"
)

// Settings that are 0, infinite or half lost in float32 are refused: they would make NaN, or another algorithm.
func TestSettingsThatFloat32DoesNotHoldAreRefused(t *testing.T) {
	for name, texts := range map[string][]string{
		"distance_adag": {"gamma: 1e-40", "gamma: 1e-50", "gamma: 1e39"},
		"downpour":      {"adagrad: {epsilon: 1e-50}", "adagrad: {epsilon: 1e-40}", "adagrad: {gamma: 1e-50}", "adagrad: {gamma: 1e40}"},
		"diloco":        {"learning_rate: 1e-50", "learning_rate: 1e40", "momentum: 0.99999999999"},
		"async_local":   {"learning_rate: 1e-50", "momentum: 1e-40"},
		"aeasgd":        {"alpha: 1e-50", "{rho: 1e-30, learning_rate: 1e-20}", "{rho: 1e-200, learning_rate: 1e-200}"},
		"eamsgd":        {"alpha: 1e-40"},
	} {
		for _, text := range texts {
			if _, err := algorithm(t, name, text).(trainers.Checker).Check(2, 4); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v", name, text, err)
			}
		}
	}
}

// Whatever a worker commits, whoever it is: the centre of every trainer stays finite, also with the smallest and greatest
// settings that Check lets through.
func TestCentresStayFinite(t *testing.T) {
	greatest := math.Nextafter32(ps.MaxDelta, 0)
	deltas := [][]float32{{greatest, -greatest, 0, 1e-30}, {-greatest, -greatest, 0, 0}, {0, 1e-44, -1e-44, greatest}, {greatest, greatest, greatest, -1e-25}}
	covered := map[string]bool{}
	for _, c := range []struct{ name, fields string }{
		{"single", ""}, {"averaging", ""}, {"downpour", ""}, {"agn", ""}, {"distance_adag", ""}, {"dynsgd", ""}, {"aeasgd", ""}, {"eamsgd", ""},
		{"sync_sgd", ""}, {"local_sgd", ""}, {"diloco", ""}, {"async_local", ""},
		{"downpour", "adagrad: {gamma: 1.2e-38, epsilon: 1.2e-38}"}, {"downpour", "adagrad: {epsilon: 3e38}"},
		{"distance_adag", "gamma: 1.2e-38"}, {"distance_adag", "gamma: 3e38"}, {"diloco", "{momentum: 0.999, learning_rate: 1}"},
		{"aeasgd", "alpha: 1"}, {"aeasgd", "alpha: 1.2e-38"},
	} {
		covered[c.name] = true
		t.Run(fmt.Sprint(c.name, c.fields), func(t *testing.T) {
			a := algorithm(t, c.name, c.fields)
			if k, ok := a.(trainers.Checker); ok {
				if _, err := k.Check(1, 4); err != nil {
					t.Fatal(err)
				}
			}
			core, err := ps.NewCore([]float32{0, 1, greatest, -math.MaxFloat32}, a.Rule(1), ps.Options{Mode: a.Mode()})
			if err != nil {
				t.Fatal(err)
			}
			life, err := core.Join(0)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]float32, 4)
			for seq := range uint64(200) {
				ack, deferred, err := core.Commit(ps.Commit{Incarnation: life, Seq: seq + 1, Base: core.Version(), Steps: 1, Samples: 1, Delta: deltas[seq%4]}, dst)
				if err != nil || !deferred && ack.Rejected != "" {
					t.Fatalf("%+v, %v", ack, err)
				}
				if _, err := core.Centre(dst); err != nil {
					t.Fatal(err)
				}
				for i, v := range dst {
					if v-v != 0 {
						t.Fatalf("after commit %d element %d is %g", seq+1, i, v)
					}
				}
			}
		})
	}
	covers(t, covered)
}
