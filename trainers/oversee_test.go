package trainers

import "testing"

// TestAnEpochThatIsNotMeasuredSaysSo: when too many centres wait, the history tells which one was left out.
func TestAnEpochThatIsNotMeasuredSaysSo(t *testing.T) {
	cfg := Config{Epochs: 4, Algorithm: AGN{}, Workers: 1, Oversight: Oversight{Validation: &Validation{}}}
	w := newWatch(cfg, nil)
	w.overseer.room = 2 * 4 * 10
	for epoch := range 4 {
		w.EpochDone(epoch, uint64(epoch), make([]float32, 10))
	}
	for i, want := range []bool{false, false, true, false} { // the last one is always measured
		if w.history[i].Unmeasured != want {
			t.Errorf("epoch %d: unmeasured %v", i+1, !want)
		}
	}
}
