package pstest

import (
	"math"
	"math/rand/v2"
	"testing"

	"dkpipe/ps"
)

// 10,000 runs with random faults (800 with -short): no acknowledged commit is lost or doubled, every sample counts once, every
// run ends.
func TestRandomFaultsKeepEveryPromise(t *testing.T) {
	runs := 10_000
	if testing.Short() {
		runs = 800
	}
	rng := rand.New(rand.NewPCG(7, 7))
	var total ps.Stats
	for i := range runs {
		o := Sim{
			Seed: rng.Uint64(), Mode: ps.Mode(i % 2), Workers: 1 + rng.IntN(4), Extra: rng.IntN(2), Shards: 1 + rng.IntN(5),
			Epochs: 1 + rng.IntN(3), Rows: rng.IntN(7), Window: rng.IntN(5), Params: 1 + rng.IntN(8), Faults: rng.IntN(40),
		}
		switch {
		case i%4 == 0:
			o.Rule = Elastic{Alpha: 0.25}
		case i%3 == 0:
			policies(&o, rng)
		}
		if i%5 < 2 {
			o.Servers = 1 + rng.IntN(3)
		}
		if i%7 == 0 {
			o.StopAfter = 1 + rng.IntN(10)
		}
		out, err := Simulate(o)
		if err != nil {
			t.Fatal(err)
		}
		total.Commits += out.Stats.Commits
		total.Duplicates += out.Stats.Duplicates
		total.Rejected += out.Stats.Rejected
		total.Dropped += out.Stats.Dropped
	}
	t.Logf("%+v", total)
	if total.Duplicates == 0 || total.Rejected == 0 || total.Dropped == 0 {
		t.Errorf("the faults did not reach the core: %+v", total)
	}
}

// policies makes a run one with rules for late deltas and for who may go on.
func policies(o *Sim, rng *rand.Rand) {
	if o.Mode == ps.Rounds {
		o.Quorum = rng.IntN(o.Workers + 1)
	} else {
		o.Bound = rng.IntN(4)
	}
	o.Staleness = ps.Staleness{Power: float64(rng.IntN(3)) / 2, Drop: uint64(rng.IntN(4))}
	o.WarmUp = int64(rng.IntN(8))
	o.Sharing = rng.IntN(2) > 0
}

// Rounds: the same bits whatever the order in which messages arrive and workers get to run (bulk synchronous, mean in
// worker order).
func TestRoundsAreBitEqualInAnyOrder(t *testing.T) {
	for _, o := range []Sim{
		{Workers: 3, Shards: 3, Epochs: 3, Rows: 9, Window: 1, Params: 5},
		{Workers: 3, Shards: 5, Epochs: 2, Rows: 6, Window: 4, Params: 5},
		{Workers: 4, Shards: 2, Epochs: 3, Rows: 5, Window: 2, Params: 5},
		{Workers: 2, Shards: 5, Epochs: 3, Rows: 5, Window: 0, Params: 5},
		{Workers: 3, Shards: 5, Epochs: 2, Rows: 6, Window: 4, Params: 11},
	} {
		o.Mode = ps.Rounds
		want, err := Simulate(o)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(300) {
			o.Seed = seed + 1
			o.Servers = int(seed) % 4 // nor does it matter where the parameters are
			got, err := Simulate(o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != want.Version {
				t.Fatalf("%+v: %d rounds, before %d", o, got.Version, want.Version)
			}
			for i := range want.Centre {
				if math.Float32bits(got.Centre[i]) != math.Float32bits(want.Centre[i]) {
					t.Fatalf("%+v: centre[%d] %v, before %v", o, i, got.Centre[i], want.Centre[i])
				}
			}
		}
	}
}
