package ps_test

import (
	"testing"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

// push commits one window and gives the ack, that of the round when there are rounds.
func push(t *testing.T, c *ps.Core, cm ps.Commit) (ps.Ack, bool) {
	t.Helper()
	cm.Delta = []float32{1}
	ack, deferred, err := c.Commit(cm, make([]float32, 1))
	if err != nil {
		t.Fatal(err)
	}
	return ack, deferred
}

// TestStepsEndARun: the ack of the commit that reaches the limit says so, in rounds to all members.
func TestStepsEndARun(t *testing.T) {
	c := newCore(t, []float32{0}, pstest.Add{}, ps.Options{Workers: 2, Shards: 2, Epochs: 1000, Steps: 10})
	a, b := join(t, c, 0), join(t, c, 1)
	if ack, _ := push(t, c, ps.Commit{Worker: 0, Incarnation: a, Seq: 1, Steps: 7}); ack.Stop {
		t.Error("the run ends too early")
	}
	if ack, _ := push(t, c, ps.Commit{Worker: 1, Incarnation: b, Seq: 1, Steps: 3}); !ack.Stop || c.Stats().Steps != 10 {
		t.Errorf("got %+v after %d steps", ack, c.Stats().Steps)
	}
	if _, turn := next(t, c, 0, a); turn != ps.Done {
		t.Errorf("there is more work: turn %d", turn)
	}

	// From a snapshot the steps before count, and a limit that was reached before ends the run at once.
	for limit, stop := range map[int64]bool{10: true, 11: false} {
		back := newCore(t, []float32{0}, pstest.Add{}, ps.Options{Workers: 1, Shards: 2, Epochs: 1000, Steps: limit, Generation: 1})
		if err := back.Restore(c.Snapshot()); err != nil {
			t.Fatal(err)
		}
		if ack, _ := push(t, back, ps.Commit{Worker: 0, Incarnation: join(t, back, 0), Seq: 1}); ack.Stop != stop {
			t.Errorf("limit %d: %+v", limit, ack)
		}
	}

	rounds := newCore(t, []float32{0}, pstest.Add{}, ps.Options{Mode: ps.Rounds, Workers: 2, Shards: 2, Epochs: 1000, Steps: 10})
	a, b = join(t, rounds, 0), join(t, rounds, 1)
	before := rounds.Snapshot()
	push(t, rounds, ps.Commit{Worker: 0, Incarnation: a, Seq: 1, Steps: 10})
	push(t, rounds, ps.Commit{Worker: 1, Incarnation: b, Seq: 1, Steps: 10})
	answers := rounds.Answers()
	if len(answers) != 2 || !answers[0].Ack.Stop || !answers[1].Ack.Stop {
		t.Errorf("got %+v", answers)
	}
	if err := rounds.Rollback(before); err != nil { // a data server was lost: it did not have its steps then
		t.Fatal(err)
	}
	if ack, _, err := rounds.Commit(ps.Commit{Worker: 0, Incarnation: join(t, rounds, 0)}, make([]float32, 1)); err != nil || ack.Stop {
		t.Errorf("the run did not go on: %+v, %v", ack, err)
	}
}
