package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestLatestFallsBackWithAWarning(t *testing.T) {
	setup := func(t *testing.T) *hdfsio.Mem {
		_, m := memory()
		l := acquire(t, m, Options{})
		for _, tag := range []string{"one", "two"} {
			if err := l.MoveLatest(t.Context(), publish1(t, l, tag)); err != nil {
				t.Fatal(err)
			}
		}
		publish1(t, l, "kept back by a gate")
		return m
	}
	write := func(t *testing.T, m *hdfsio.Mem, name, data string) {
		if err := errors.Join(m.Remove(t.Context(), name), hdfsio.WriteFile(t.Context(), m, name, []byte(data))); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, m *hdfsio.Mem, name string) {
		if err := m.Remove(t.Context(), root+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		spoil   func(t *testing.T, m *hdfsio.Mem)
		want    Version
		warning string
	}{
		"whole":           {func(*testing.T, *hdfsio.Mem) {}, 2, ""},
		"absent":          {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, latestName) }, 2, "not exist"},
		"empty":           {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, "") }, 2, "not the name of a version"},
		"a path":          {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, "../v000001\n") }, 2, "not the name of a version"},
		"huge":            {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, strings.Repeat("v", 5000)) }, 2, "5000 bytes"},
		"dangling":        {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, "v000009\n") }, 2, "v000009, which is not there"},
		"version removed": {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000002") }, 1, "v000002, which is not there"},
		"file removed":    {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000002/weights") }, 1, "the file is missing"},
		"file cut":        {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/v000002/weights", "tw") }, 1, "2 bytes"},
		"marker removed":  {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000002/"+markerName) }, 1, markerName},
		"marker broken":   {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/v000002/"+markerName, "{") }, 1, markerName},
	} {
		t.Run(what, func(t *testing.T) {
			m := setup(t)
			c.spoil(t, m)
			found, err := Latest(t.Context(), m, root)
			if err != nil || found.Version != c.want || (found.Warning == "") != (c.warning == "") || !strings.Contains(found.Warning, c.warning) {
				t.Fatalf("%s, %q, %v", found.Version, found.Warning, err)
			}
			if found.Path != path.Join(root, c.want.String()) {
				t.Errorf("path %s", found.Path)
			}
		})
	}
}

// A version that LATEST never named may be one that a gate refused: it is named in the hint, not served.
func TestWhatLatestNeverNamedIsNotServed(t *testing.T) {
	for what, gone := range map[string][]string{"LATEST and history gone": {latestName, historyName}, "served versions gone": {"v000001", "v000002"}} {
		t.Run(what, func(t *testing.T) {
			_, m := memory()
			l := acquire(t, m, Options{})
			for _, tag := range []string{"one", "two"} {
				if err := l.MoveLatest(t.Context(), publish1(t, l, tag)); err != nil {
					t.Fatal(err)
				}
			}
			publish1(t, l, "kept back by a gate")
			for _, name := range gone {
				if err := m.Remove(t.Context(), root+"/"+name); err != nil {
					t.Fatal(err)
				}
			}
			found, err := Latest(t.Context(), m, root)
			var e *hdfsio.Error
			if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Hint, "v000003") {
				t.Fatalf("%s, %v; want an error whose hint names v000003", found.Version, err)
			}
		})
	}
}

func TestNoVersionIsAnErrorThatSaysWhatMakesOne(t *testing.T) {
	_, m := memory()
	for _, dir := range []string{"/none", root} {
		if dir == root {
			if err := m.Mkdir(t.Context(), root+"/v000001"); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Latest(t.Context(), m, dir)
		e, ok := errors.AsType[*hdfsio.Error](err)
		if !ok || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Hint, "dkpipe train") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v", err)
		}
	}
}

func TestAStoreThatDoesNotAnswerIsNoReasonToFallBack(t *testing.T) {
	f, m := memory()
	mustRun(t, m, root, "one", Options{})
	mustRun(t, m, root, "two", Options{})
	for op, match := range map[hdfstest.Op]func(string) bool{
		hdfstest.Open: func(n string) bool { return path.Base(n) == latestName || path.Base(n) == markerName },
		hdfstest.List: nil,
	} {
		f.Add(hdfstest.Fault{Op: op, Match: match, Err: syscall.ECONNREFUSED})
		if found, err := Latest(t.Context(), f, root); hdfsio.KindOf(err) != hdfsio.KindUnreachable {
			t.Errorf("%s fails: %+v, %v", op, found, err)
		}
		f.Clear()
	}
}

func TestVerifyFindsAFlippedBit(t *testing.T) {
	_, m := memory()
	v := mustRun(t, m, root, "one", Options{})
	name := path.Join(root, v.String(), "weights")
	data, err := hdfsio.ReadFile(t.Context(), m, name, 1000)
	if err != nil {
		t.Fatal(err)
	}
	data[3] ^= 1
	if err := errors.Join(m.Remove(t.Context(), name), hdfsio.WriteFile(t.Context(), m, name, data)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), m, root, v); err != nil {
		t.Fatalf("the sizes are right: %v", err)
	}
	if _, err := Verify(t.Context(), m, root, v); hdfsio.KindOf(err) != hdfsio.KindCorrupt || !strings.Contains(err.Error(), name) {
		t.Fatalf("%v", err)
	}
}

// TestLatestMovesAlsoWhenTheStoreIsRestartedJustThen: what was not done is done again, as long as the lock is ours.
func TestLatestMovesAlsoWhenTheStoreIsRestartedJustThen(t *testing.T) {
	isLatest := func(n string) bool { return strings.HasSuffix(n, "/"+latestName) }
	for what, c := range map[string]struct {
		fault   hdfstest.Fault
		renames int
		class   error // of the error, if any
	}{
		"not done, once":         {hdfstest.Fault{Nth: 1, Err: syscall.ECONNRESET}, 2, nil},
		"done, answer lost":      {hdfstest.Fault{Nth: 1, Err: syscall.ECONNRESET, Done: true}, 1, nil},
		"not done, ever":         {hdfstest.Fault{Err: syscall.ECONNRESET}, tries, syscall.ECONNRESET},
		"denied":                 {hdfstest.Fault{Err: syscall.EACCES}, 1, fs.ErrPermission},
		"another run takes over": {hdfstest.Fault{Nth: 1, Err: syscall.ECONNRESET}, 1, ErrLost},
	} {
		t.Run(what, func(t *testing.T) {
			f, m := memory()
			l := acquire(t, f, Options{})
			v := publish1(t, l, "a")
			renames := 0
			f.Add(hdfstest.Fault{Op: hdfstest.Rename, Match: isLatest, Hook: func(ctx context.Context, _ string) {
				if renames++; errors.Is(c.class, ErrLost) {
					if err := hdfsio.WriteFile(ctx, m, path.Join(root, epochsName, epochFile(l.Epoch()+1)), nil); err != nil {
						t.Error(err)
					}
				}
			}})
			c.fault.Op, c.fault.Match = hdfstest.Rename, isLatest
			f.Add(c.fault)
			if err := l.MoveLatest(t.Context(), v); !errors.Is(err, c.class) || c.class == nil && err != nil {
				t.Fatalf("%v, want %v", err, c.class)
			}
			if renames != c.renames {
				t.Errorf("%d renames, want %d", renames, c.renames)
			}
			if now, err := readPointer(t.Context(), m, root); (err == nil && now == v) != (c.class == nil) {
				t.Errorf("LATEST is %s, %v", now, err)
			}
		})
	}
}

func TestRollbackGoesToWhatLatestNamedBefore(t *testing.T) {
	_, m := memory()
	l := acquire(t, m, Options{Owner: "alice"})
	for _, tag := range []string{"one", "two", "gate", "four"} {
		if v := publish1(t, l, tag); tag != "gate" {
			if err := l.MoveLatest(t.Context(), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []Version{2, 1} {
		if _, now, err := l.Rollback(t.Context(), 0); err != nil || now != want {
			t.Fatalf("%s, %v", now, err)
		}
		latestIs(t, m, root, want)
	}
	if _, _, err := l.Rollback(t.Context(), 0); !errors.Is(err, fs.ErrNotExist) || hdfsio.KindOf(err) != hdfsio.KindUsage {
		t.Fatalf("before the first: %v", err)
	}
	if from, now, err := l.Rollback(t.Context(), 3); err != nil || from != 1 || now != 3 {
		t.Fatalf("to the named one: %s to %s, %v", from, now, err)
	}
	if _, _, err := l.Rollback(t.Context(), 7); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("to none: %v", err)
	}
	latestIs(t, m, root, 3)
	if err := l.MoveLatest(t.Context(), 2); hdfsio.KindOf(err) != hdfsio.KindUsage {
		t.Fatalf("MoveLatest back: %v", err)
	}
	moves, err := History(t.Context(), m, root)
	var got []string
	for _, mv := range moves {
		got = append(got, fmt.Sprint(mv.Version, " ", mv.How, " ", mv.Owner))
	}
	if want := []string{"v000001 publish alice", "v000002 publish alice", "v000004 publish alice", "v000002 rollback alice", "v000001 rollback alice", "v000003 rollback alice"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestASlotIsDoneOnceAlsoAfterARollback(t *testing.T) {
	_, m := memory()
	first := mustRun(t, m, root, "monday", Options{})
	if again := mustRun(t, m, root, "monday", Options{}); again != first {
		t.Fatalf("done again by %s", again)
	}
	mustRun(t, m, root, "tuesday", Options{})
	l, err := Acquire(t.Context(), m, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, now, err := l.Rollback(t.Context(), 0); err != nil || now != first {
		t.Fatalf("%s, %v", now, err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustRun(t, m, root, "tuesday", Options{})
	latestIs(t, m, root, first)
	if slots, err := Slots(t.Context(), m, root); err != nil || !slices.Equal(slots, []string{"slot:monday", "slot:tuesday"}) {
		t.Fatalf("%q, %v", slots, err)
	}
	name := root + "/" + slotsName + "/slot%3Amonday.json"
	if err := errors.Join(m.Remove(t.Context(), name), hdfsio.WriteFile(t.Context(), m, name, []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := SlotDone(t.Context(), m, root, "slot:monday"); hdfsio.KindOf(err) != hdfsio.KindCorrupt {
		t.Fatalf("%v", err)
	}
}

func TestAPendingSlotIsFinishedNotRepeated(t *testing.T) {
	_, m := memory()
	mustRun(t, m, root, "monday", Options{})
	l := acquire(t, m, Options{})
	v := publish1(t, l, "tuesday")
	if err := l.RecordSlot(t.Context(), Slot{Slot: "tuesday", Version: v}); err != nil {
		t.Fatal(err)
	}
	if s, state, err := SlotDone(t.Context(), m, root, "tuesday"); err != nil || state != Pending || s.Version != v || s.Time.IsZero() {
		t.Fatalf("%+v, %d, %v", s, state, err)
	}
	latestIs(t, m, root, 1)
	if _, state, err := l.FinishSlot(t.Context(), "tuesday"); err != nil || state != Done {
		t.Fatalf("%d, %v", state, err)
	}
	latestIs(t, m, root, v)
	// Without its version the slot has to be run again.
	w := publish1(t, l, "wednesday")
	if err := l.RecordSlot(t.Context(), Slot{Slot: "wednesday", Version: w}); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), path.Join(root, w.String())); err != nil {
		t.Fatal(err)
	}
	if _, state, err := l.FinishSlot(t.Context(), "wednesday"); err != nil || state != Open {
		t.Fatalf("%d, %v", state, err)
	}
}

func TestRetainKeepsLatestAndSomeOnBothSidesOfIt(t *testing.T) {
	for _, c := range []struct {
		latest Version
		keep   int
		want   []Version
	}{
		{6, 0, []Version{1, 2, 3, 4, 5, 6}},
		{6, 1, []Version{6}},
		{6, 2, []Version{5, 6}},
		{6, 9, []Version{1, 2, 3, 4, 5, 6}},
		{3, 1, []Version{3, 6}},
		{3, 2, []Version{2, 3, 5, 6}},
		{0, 1, []Version{6}},
		{0, 4, []Version{3, 4, 5, 6}},
		{0, 0, []Version{1, 2, 3, 4, 5, 6}},
	} {
		_, m := memory()
		l := acquire(t, m, Options{})
		for range 6 {
			publish1(t, l, "x")
		}
		if c.latest > 0 {
			if err := l.MoveLatest(t.Context(), c.latest); err != nil {
				t.Fatal(err)
			}
		}
		removed, err := l.Retain(t.Context(), c.keep)
		if err != nil {
			t.Fatal(err)
		}
		left, err := Versions(t.Context(), m, root)
		if err != nil || !slices.Equal(left, c.want) || len(left)+len(removed) != 6 {
			t.Errorf("LATEST %s, keep %d: %v are left, %v removed, %v", c.latest, c.keep, left, removed, err)
		}
	}
}

// TestRetainRemovesNothingWhereLatestIsBroken: nobody knows then what is being served.
func TestRetainRemovesNothingWhereLatestIsBroken(t *testing.T) {
	for _, text := range []string{"v000009\n", "rubbish"} {
		_, m := memory()
		l := acquire(t, m, Options{})
		for range 3 {
			publish1(t, l, "x")
		}
		if err := hdfsio.WriteFile(t.Context(), m, path.Join(root, latestName), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if removed, err := l.Retain(t.Context(), 1); err != nil || len(removed) != 0 {
			t.Errorf("%q: %v removed, %v", text, removed, err)
		}
	}
}

// TestRollbackFromTheOnlyVersionSaysSo.
func TestRollbackFromTheOnlyVersionSaysSo(t *testing.T) {
	_, m := memory()
	l := acquire(t, m, Options{})
	if err := l.MoveLatest(t.Context(), publish1(t, l, "x")); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.Rollback(t.Context(), 0)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "v000001 is the only version") || strings.Contains(err.Error(), "file does not exist") {
		t.Errorf("%v", err)
	}
}

func TestRetainKeepsWhatIsAskedFor(t *testing.T) {
	_, m := memory()
	l := acquire(t, m, Options{})
	for range 6 {
		if err := l.MoveLatest(t.Context(), publish1(t, l, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Retain(t.Context(), 2, 2); err != nil {
		t.Fatal(err)
	}
	if left, err := Versions(t.Context(), m, root); err != nil || !slices.Equal(left, []Version{2, 5, 6}) {
		t.Errorf("%v are left, %v", left, err)
	}
}

func TestAVersionOnItsWayOutIsNeverSeenInPart(t *testing.T) {
	f, m := memory()
	for _, tag := range []string{"one", "two", "three"} {
		mustRun(t, m, root, tag, Options{})
	}
	f.Add(hdfstest.Fault{Op: hdfstest.Remove, Match: func(n string) bool { return strings.Contains(n, "v000002") }, Nth: 1, Part: 1, Err: syscall.EPIPE})
	l, err := Acquire(t.Context(), f, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := l.Retain(t.Context(), 1); !errors.Is(err, syscall.EPIPE) || len(removed) != 0 {
		t.Fatalf("%v, %v", removed, err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sound(t.Context(), m, root); err != nil {
		t.Fatal(err)
	}
	mustRun(t, m, root, "four", Options{})
	if err := clean(t.Context(), m, root); err != nil {
		t.Fatal(err)
	}
}

// TestWhatMayNotBeRemovedIsInNobodysWay: versions and garbage of another user's stay and are named, all else is removed, and
// new versions come.
func TestWhatMayNotBeRemovedIsInNobodysWay(t *testing.T) {
	f, m := memory()
	l := acquire(t, f, Options{})
	for range 4 {
		publish1(t, l, "x")
	}
	if err := l.MoveLatest(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	theirs := func(n string) bool {
		return strings.Contains(n, ".trash-v000001") || strings.Contains(n, ".trash-v000003")
	}
	f.Add(hdfstest.Fault{Op: hdfstest.Remove, Match: theirs, Err: syscall.EACCES})
	removed, err := l.Retain(t.Context(), 1)
	if !slices.Equal(removed, []Version{2}) || hdfsio.KindOf(err) != hdfsio.KindDenied || !strings.Contains(err.Error(), "v000001") || !strings.HasSuffix(err.Error(), "; and 1 more") {
		t.Errorf("removed %v, %v", removed, err)
	}
	if err := m.Mkdir(t.Context(), path.Join(root, ".stage-v000009-dead")); err != nil {
		t.Fatal(err)
	}
	gone, err := l.Collect(t.Context())
	if len(gone) != 1 || hdfsio.KindOf(err) != hdfsio.KindDenied || !strings.HasSuffix(err.Error(), "; and 1 more") {
		t.Errorf("collected %v, %v", gone, err)
	}
	if v := publish1(t, l, "y"); v != 5 {
		t.Errorf("the next version is %s", v)
	}
	f.Clear()
	if gone, err := l.Collect(t.Context()); len(gone) != 2 || err != nil {
		t.Errorf("collected %v, %v", gone, err)
	}
}

// uris is a store that names its files by URIs.
type uris struct{ hdfsio.FS }

func (u uris) URI(name string) string { return "x://store" + name }

func TestErrorsNameTheStore(t *testing.T) {
	_, m := memory()
	l := acquire(t, m, Options{})
	publish1(t, l, "x")
	at := uris{m}
	held, err := Acquire(t.Context(), at, root, Options{})
	if err == nil {
		t.Fatal(held)
	}
	_, latest := Latest(t.Context(), at, root)
	if err := m.Remove(t.Context(), root+"/v000001/manifest"); err != nil {
		t.Fatal(err)
	}
	_, broken := Inspect(t.Context(), Reading(at, root, 1), root, 1)
	for what, err := range map[string]error{"the lock": err, "LATEST": latest, "a version": broken} {
		if err == nil || !strings.Contains(err.Error(), " x://store"+root) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCollectTakesGarbageAndNothingElse(t *testing.T) {
	_, m := memory()
	v := mustRun(t, m, root, "one", Options{})
	l := acquire(t, m, Options{})
	s, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	garbage := []string{".stage-v000002-dead/train", ".trash-v000001-x", slotsName + "/.tmp-a", epochsName + "/.now-a"}
	others := []string{"notes", ".hidden", "_other", slotsName + "/keep.json", "v000009"}
	for _, name := range slices.Concat(garbage, others) {
		if err := m.Mkdir(t.Context(), path.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := l.Collect(t.Context())
	if err != nil || len(removed) != len(garbage) {
		t.Fatalf("%q, %v", removed, err)
	}
	for _, name := range append(others, v.String(), path.Base(s.Path())) {
		if _, err := m.Stat(t.Context(), path.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range garbage {
		if _, err := m.Stat(t.Context(), path.Join(root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
