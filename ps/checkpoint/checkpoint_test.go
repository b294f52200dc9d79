package checkpoint_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"runtime"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"dkpipe/ps"
	"dkpipe/ps/checkpoint"
	"dkpipe/ps/pstest"
)

func encoded(t interface{ Fatal(...any) }, s *ps.Snapshot) []byte {
	var b bytes.Buffer
	if err := checkpoint.Encode(&b, s); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != checkpoint.Size(s) {
		t.Fatal("wrong size", b.Len(), checkpoint.Size(s))
	}
	return b.Bytes()
}

func example() *ps.Snapshot {
	return &ps.Snapshot{Generation: 3, Version: 77, Centre: []float32{1, -2, float32(math.Inf(1)), 0}, Slots: []float32{5, 6, 7, 8}, Block: 2,
		Shards: 3, Epochs: 4, Epoch: 1, Units: []ps.UnitSnapshot{{ID: 3, Done: true}, {ID: 5, Cursor: []byte("here")}},
		Stats: ps.Stats{Commits: 9, Duplicates: 8, Rejected: 7, Dropped: 6, Samples: 5, RejectedSamples: 4, DroppedSamples: 3, Steps: 2}}
}

func kind(t *testing.T, err error, want string) {
	t.Helper()
	var k interface{ ErrorKind() string }
	if !errors.As(err, &k) || k.ErrorKind() != want {
		t.Errorf("got %v, want an error of kind %s", err, want)
	}
}

// What is read is what was written, whatever the sizes and however the bytes arrive; equal snapshots are equal bytes.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &ps.Snapshot{
			Generation: rapid.Uint32().Draw(t, "generation"), Version: rapid.Uint64().Draw(t, "version"),
			Centre: rapid.SliceOfN(rapid.Float32(), 0, 50000).Draw(t, "centre"), Block: rapid.IntRange(0, 100).Draw(t, "block"),
			Shards: rapid.IntRange(1, 5).Draw(t, "shards"), Epochs: 3, Epoch: rapid.IntRange(0, 3).Draw(t, "epoch"),
			Stats: ps.Stats{Samples: rapid.Int64Min(0).Draw(t, "samples")},
		}
		s.Slots = make([]float32, len(s.Centre)*rapid.IntRange(0, 4).Draw(t, "slots"))
		for i := range s.Slots {
			s.Slots[i] = float32(i)
		}
		for id := s.Epoch * s.Shards; id < s.Epochs*s.Shards; id++ {
			switch rapid.IntRange(0, 2).Draw(t, "unit") {
			case 0:
				s.Units = append(s.Units, ps.UnitSnapshot{ID: id, Done: true})
			case 1:
				s.Units = append(s.Units, ps.UnitSnapshot{ID: id, Cursor: rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "cursor")})
			}
		}
		b := encoded(t, s)
		got, err := checkpoint.Decode(iotest.HalfReader(bytes.NewReader(b)), checkpoint.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Units, s.Units) || !bytes.Equal(encoded(t, got), b) {
			t.Fatalf("got %+v, want %+v", got, s)
		}
	})
}

// Any byte that is changed and any cut is noticed.
func TestDamageIsNoticed(t *testing.T) {
	good := encoded(t, example())
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := checkpoint.Decode(bytes.NewReader(bad), checkpoint.Limits{}); err == nil {
			t.Fatalf("byte %d was changed and nobody noticed", i)
		}
		_, err := checkpoint.Decode(bytes.NewReader(good[:i]), checkpoint.Limits{})
		kind(t, err, "corrupt")
	}
	_, err := checkpoint.Decode(bytes.NewReader(append(good, 0)), checkpoint.Limits{})
	kind(t, err, "corrupt")
	other := bytes.Replace(good, []byte("/2\n"), []byte("/3\n"), 1)
	_, err = checkpoint.Decode(bytes.NewReader(other), checkpoint.Limits{})
	kind(t, err, "unsupported")
	broken := errors.New("disk")
	if _, err := checkpoint.Decode(io.MultiReader(bytes.NewReader(good[:40]), iotest.ErrReader(broken)), checkpoint.Limits{}); !errors.Is(err, broken) {
		t.Errorf("the reader's error became %v", err)
	}
}

// Two checkpoints that are spliced together are not one, although every section is whole.
func TestSplicedSectionsAreNoticed(t *testing.T) {
	a, b := example(), example()
	b.Centre[0]++
	x, y := encoded(t, a), encoded(t, b)
	mixed := append(bytes.Clone(x[:len(x)-4*len(a.Slots)-13-32-13]), y[len(y)-4*len(b.Slots)-13-32-13:]...)
	_, err := checkpoint.Decode(bytes.NewReader(mixed), checkpoint.Limits{})
	kind(t, err, "corrupt")
}

func TestLimits(t *testing.T) {
	b := encoded(t, example())
	for name, l := range map[string]checkpoint.Limits{"parameters": {Parameters: 3}, "units": {Units: 1}, "cursor": {Cursor: 3}} {
		if _, err := checkpoint.Decode(bytes.NewReader(b), l); err == nil {
			t.Errorf("%s: the limit does not hold", name)
		}
	}
	if _, err := checkpoint.Decode(bytes.NewReader(b), checkpoint.Limits{Parameters: 4, Slots: 1, Units: 2, Cursor: 4}); err != nil {
		t.Error(err)
	}
}

// A head that announces a gigabyte and stops there costs next to nothing.
func TestALyingLengthCostsNoMemory(t *testing.T) {
	s := example()
	s.Centre = make([]float32, 1<<22)
	s.Slots, s.Units = nil, nil
	b := encoded(t, s)[:1<<16]
	s = nil
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := checkpoint.Decode(bytes.NewReader(b), checkpoint.Limits{})
	runtime.ReadMemStats(&after)
	kind(t, err, "corrupt")
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes were allocated for %d", n, len(b))
	}
}

// An error of the writer comes out, whichever byte it meets.
func TestWriteErrors(t *testing.T) {
	s := example()
	s.Centre = make([]float32, 200_000)
	full := errors.New("disk full")
	for room := range 3 {
		if err := checkpoint.Encode(&disk{room: room, err: full}, s); !errors.Is(err, full) {
			t.Errorf("room for %d writes: %v", room, err)
		}
	}
}

type disk struct {
	room int
	err  error
}

func (d *disk) Write(b []byte) (int, error) {
	if d.room--; d.room < 0 {
		return 0, d.err
	}
	return len(b), nil
}

// After a restore: a commit that came after the checkpoint is acceptable again, the positions of one that came before do not
// move twice, and a worker of the old life has to join and pull before it goes on.
func TestRestoredServer(t *testing.T) {
	o := ps.Options{Workers: 1, Shards: 2, Epochs: 1}
	newCore := func(o ps.Options) *ps.Core {
		c, err := ps.NewCore([]float32{0, 0}, pstest.Add{}, o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := newCore(o)
	life, err := old.Join(0)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, 2)
	commit := func(c *ps.Core, cm ps.Commit) error {
		t.Helper()
		_, _, err := c.Commit(cm, dst)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := old.Next(0, life, 0)
	must(err)
	must(commit(old, ps.Commit{Incarnation: life, Seq: 1, Steps: 1, Samples: 3, Delta: []float32{1, 2}, Positions: []ps.Position{{Unit: first.ID, Done: true}}}))
	b := encoded(t, old.Snapshot())
	second, _, err := old.Next(0, life, 0)
	must(err)
	late := ps.Commit{Incarnation: life, Seq: 2, Base: 1, Steps: 1, Samples: 4, Delta: []float32{10, 20}, Positions: []ps.Position{{Unit: second.ID, Done: true}}}
	must(commit(old, late))

	s, err := checkpoint.Decode(bytes.NewReader(b), checkpoint.Limits{})
	must(err)
	o.Generation = s.Generation + 1
	c := newCore(o)
	must(c.Restore(s))
	if err := commit(c, late); !errors.Is(err, ps.ErrFenced) {
		t.Errorf("a commit of the life before: %v", err)
	}
	again, err := c.Join(0)
	must(err)
	if again>>32 != uint64(o.Generation) || again <= life {
		t.Errorf("incarnation %#x after %#x", again, life)
	}
	must(commit(c, ps.Commit{Incarnation: again}))
	if dst[0] != 1 || dst[1] != 2 {
		t.Errorf("the pull gives %v, want what was checkpointed", dst)
	}
	redo, turn, err := c.Next(0, again, 0)
	must(err)
	if turn != ps.Work || redo.ID != second.ID {
		t.Errorf("%+v, turn %d: want unit %d again and not the one that was done", redo, turn, second.ID)
	}
	late.Incarnation, late.Seq = again, 1
	must(commit(c, late))
	if !c.Complete() || c.Stats().Samples != 7 || dst[0] != 11 || dst[1] != 22 {
		t.Errorf("complete %v, %d samples, centre %v", c.Complete(), c.Stats().Samples, dst)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, example()))
	f.Add(encoded(f, &ps.Snapshot{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := checkpoint.Decode(bytes.NewReader(b), checkpoint.Limits{})
		if err != nil {
			return
		}
		if !bytes.Equal(encoded(t, s), b) {
			t.Error("what was read is written in another form")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	s := &ps.Snapshot{Centre: make([]float32, 1<<22)}
	b.SetBytes(checkpoint.Size(s))
	for b.Loop() {
		if err := checkpoint.Encode(io.Discard, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	data := encoded(b, &ps.Snapshot{Centre: make([]float32, 1<<22)})
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := checkpoint.Decode(bytes.NewReader(data), checkpoint.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
