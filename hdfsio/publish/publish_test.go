package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfstest"
)

func TestAVersionHoldsWhatWasWritten(t *testing.T) {
	_, m := memory()
	l := acquire(t, m, Options{Owner: "alice"})
	s, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		w, err := s.Create(t.Context(), fmt.Sprintf("train/part-%05d.parquet", i))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := w.Write(make([]byte, 1000+i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.Abort()
	}
	// What somebody else wrote below the stage is adopted; what readers skip may lie around.
	if err := hdfsio.WriteFile(t.Context(), m, path.Join(s.Path(), "train", "part-x"), []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := hdfsio.WriteFile(t.Context(), m, path.Join(s.Path(), "train", "_SUCCESS"), nil); err != nil {
		t.Fatal(err)
	}
	f, err := s.Adopt(t.Context(), "train/part-x")
	if err != nil || f.SHA256 != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" || f.Bytes != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
	if found, err := Latest(t.Context(), m, root); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before publishing: %+v, %v", found, err)
	}
	v, err := s.Publish(t.Context(), nil)
	if err != nil || v != 1 || s.Version() != 1 {
		t.Fatalf("%s, %v", v, err)
	}
	if err := s.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.MoveLatest(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	found, err := Latest(t.Context(), m, root)
	if err != nil || found.Path != root+"/v000001" || len(found.Contents.Files) != 5 || found.Contents.Owner != "alice" || found.Contents.Epoch != l.Epoch() {
		t.Fatalf("%+v, %v", found, err)
	}
	if !slices.Equal(found.Contents.Files, s.Files()) || found.Contents.Files[1].Bytes != 100*1001 {
		t.Fatalf("%+v", found.Contents.Files)
	}
	if _, err := Verify(t.Context(), m, root, v); err != nil {
		t.Fatal(err)
	}
	if data, err := hdfsio.ReadFile(t.Context(), m, root+"/"+latestName, 100); err != nil || string(data) != "v000001\n" {
		t.Fatalf("LATEST holds %q, %v", data, err)
	}
}

func TestAStageRefusesWhatIsNotAFileOfAVersion(t *testing.T) {
	_, m := memory()
	s, err := acquire(t, m, Options{}).Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", ".", "..", "../x", "/x", "a/../../x", "a//b", "a/", "a\nb", `a\b`, "a:b", markerName, "sub/" + markerName} {
		if w, err := s.Create(t.Context(), bad); err == nil {
			w.Abort()
			t.Errorf("%q was created", bad)
		}
	}
	if err := s.WriteFile(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile(t.Context(), "a", []byte("2")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("twice the same name: %v", err)
	}
}

func TestPublishRefusesAStageThatIsNotWhole(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, m *hdfsio.Mem, f *hdfstest.Faults, s *Stage){
		"no files": func(*testing.T, *hdfsio.Mem, *hdfstest.Faults, *Stage) {},
		"still being written": func(t *testing.T, _ *hdfsio.Mem, _ *hdfstest.Faults, s *Stage) {
			if _, err := s.Create(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		},
		"failed write": func(t *testing.T, _ *hdfsio.Mem, f *hdfstest.Faults, s *Stage) {
			w, err := s.Create(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			f.Space(3)
			if _, err := w.Write([]byte("12345")); hdfsio.KindOf(err) != hdfsio.KindNoSpace {
				t.Errorf("%v", err)
			}
			if err := w.Close(); err == nil {
				t.Error("Close after a failed Write gave no error")
			}
			f.Clear()
		},
		"unknown file": func(t *testing.T, m *hdfsio.Mem, _ *hdfstest.Faults, s *Stage) {
			for _, name := range []string{"a", "b"} {
				if err := hdfsio.WriteFile(t.Context(), m, path.Join(s.Path(), name), nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Adopt(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		},
		"vanished file": func(t *testing.T, m *hdfsio.Mem, _ *hdfstest.Faults, s *Stage) {
			for _, name := range []string{"a", "b"} {
				if err := s.WriteFile(t.Context(), name, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Remove(t.Context(), path.Join(s.Path(), "a")); err != nil {
				t.Fatal(err)
			}
		},
		"changed file": func(t *testing.T, m *hdfsio.Mem, _ *hdfstest.Faults, s *Stage) {
			if err := s.WriteFile(t.Context(), "a", []byte("long")); err != nil {
				t.Fatal(err)
			}
			name := path.Join(s.Path(), "a")
			if err := errors.Join(m.Remove(t.Context(), name), hdfsio.WriteFile(t.Context(), m, name, []byte("short"))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f, m := memory()
			s, err := acquire(t, f, Options{}).Stage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			spoil(t, m, f, s)
			if v, err := s.Publish(t.Context(), nil); err == nil {
				t.Fatalf("published %s", v)
			} else if !strings.Contains(err.Error(), s.Path()) {
				t.Errorf("%v does not say where", err)
			}
			if versions, err := Versions(t.Context(), m, root); err != nil || len(versions) != 0 {
				t.Fatalf("%v, %v", versions, err)
			}
		})
	}
}

func TestAFileThatFailedCanBeWrittenAnew(t *testing.T) {
	for what, arm := range map[string]func(f *hdfstest.Faults){
		"write": func(f *hdfstest.Faults) { f.Add(hdfstest.Fault{Op: hdfstest.Write, Nth: 1, Err: syscall.EIO, Part: 1}) },
		"close": func(f *hdfstest.Faults) { f.Add(hdfstest.Fault{Op: hdfstest.Close, Nth: 1, Err: syscall.EIO}) },
		"close with lost answer": func(f *hdfstest.Faults) {
			f.Add(hdfstest.Fault{Op: hdfstest.Close, Nth: 1, Err: syscall.EIO, Done: true})
		},
		"stat": func(f *hdfstest.Faults) { f.Add(hdfstest.Fault{Op: hdfstest.Stat, Nth: 1, Err: syscall.EIO}) },
	} {
		t.Run(what, func(t *testing.T) {
			f, m := memory()
			l := acquire(t, f, Options{})
			s, err := l.Stage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			arm(f)
			if err := s.WriteFile(t.Context(), "a", []byte("first")); err == nil {
				t.Fatal("the fault did nothing")
			}
			if err := s.WriteFile(t.Context(), "a", []byte("second try")); err != nil {
				t.Fatal(err)
			}
			v, err := s.Publish(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if c, err := Verify(t.Context(), m, root, v); err != nil || c.Files[0].Bytes != 10 {
				t.Fatalf("%+v, %v", c, err)
			}
		})
	}
}

// toVersion matches the rename that publishes.
func toVersion(name string) bool {
	_, err := ParseVersion(path.Base(name))
	return err == nil
}

func TestAnUnclearRenameIsSettledByLooking(t *testing.T) {
	for what, c := range map[string]struct {
		fault   hdfstest.Fault
		renames int
		kind    hdfsio.Kind // of the error, if any
	}{
		"done, answer lost":     {hdfstest.Fault{Nth: 1, Err: syscall.ECONNRESET, Done: true}, 1, ""},
		"done, told that taken": {hdfstest.Fault{Nth: 1, Err: fs.ErrExist, Done: true}, 1, ""},
		"not done, once":        {hdfstest.Fault{Nth: 1, Err: syscall.ECONNRESET}, 2, ""},
		"not done, ever":        {hdfstest.Fault{Err: syscall.ECONNRESET}, 3, hdfsio.KindUnreachable},
		"denied":                {hdfstest.Fault{Err: syscall.EACCES}, 1, hdfsio.KindDenied},
	} {
		t.Run(what, func(t *testing.T) {
			f, m := memory()
			l := acquire(t, f, Options{})
			s, err := l.Stage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.WriteFile(t.Context(), "a", []byte("x")); err != nil {
				t.Fatal(err)
			}
			renames := 0
			f.Add(hdfstest.Fault{Op: hdfstest.Rename, Match: toVersion, Hook: func(context.Context, string) { renames++ }})
			c.fault.Op, c.fault.Match = hdfstest.Rename, toVersion
			f.Add(c.fault)
			v, err := s.Publish(t.Context(), nil)
			if c.kind == "" {
				if err != nil || v != 1 {
					t.Fatalf("%s, %v", v, err)
				}
				if c, err := Verify(t.Context(), m, root, 1); err != nil || c.ID != s.id {
					t.Fatalf("%+v, %v", c, err)
				}
			} else if hdfsio.KindOf(err) != c.kind {
				t.Fatalf("%v of kind %s", err, hdfsio.KindOf(err))
			}
			if renames != c.renames {
				t.Errorf("%d renames, want %d", renames, c.renames)
			}
			if versions, err := Versions(t.Context(), m, root); err != nil || len(versions) > 1 || (len(versions) == 1) != (c.kind == "") {
				t.Fatalf("%v, %v", versions, err)
			}
		})
	}
}

func TestARenameThatNobodyCanSettleIsSaidToBeSo(t *testing.T) {
	f, _ := memory()
	l := acquire(t, f, Options{})
	s, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile(t.Context(), "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	f.Add(hdfstest.Fault{Op: hdfstest.Rename, Match: toVersion, Err: syscall.ECONNRESET, Done: true})
	f.Add(hdfstest.Fault{Op: hdfstest.Open, Match: func(n string) bool { return strings.Contains(n, "/v0") }, Err: syscall.ECONNREFUSED})
	_, err = s.Publish(t.Context(), nil)
	e, ok := errors.AsType[*hdfsio.Error](err)
	if !ok || e.Kind != hdfsio.KindUnreachable || !strings.Contains(e.Hint, "not known") {
		t.Fatalf("%v", err)
	}
}

func TestATakenNumberGivesTheNextOne(t *testing.T) {
	_, m := memory()
	l := acquire(t, m, Options{})
	s, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile(t.Context(), "weights", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []Version{1, 2} { // 2 without a marker, as somebody's copy
		name := path.Join(root, n.String())
		if err := errors.Join(m.Mkdir(t.Context(), name), hdfsio.WriteFile(t.Context(), m, path.Join(name, "theirs"), nil)); err != nil {
			t.Fatal(err)
		}
	}
	var asked []Version
	v, err := s.Publish(t.Context(), func(v Version) error {
		asked = append(asked, v)
		return s.WriteFile(t.Context(), "manifest", []byte(v.String()))
	})
	if err != nil || v != 3 || !slices.Equal(asked, []Version{1, 2, 3}) {
		t.Fatalf("%s after %v, %v", v, asked, err)
	}
	if data, err := hdfsio.ReadFile(t.Context(), m, root+"/v000003/manifest", 100); err != nil || string(data) != "v000003" {
		t.Fatalf("%q, %v", data, err)
	}
	if c, err := Verify(t.Context(), m, root, 3); err != nil || c.Version != 3 || len(c.Files) != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if infos, err := m.ReadDir(t.Context(), root+"/v000001"); err != nil || len(infos) != 1 {
		t.Fatalf("somebody else's folder holds %+v, %v", infos, err)
	}
}

// TestManyPublishersRaceForNumbers gives all racers one epoch, as if every one of them had been stopped between its
// check and its rename: the worst that a lost lock can do.
func TestManyPublishersRaceForNumbers(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (hdfsio.FS, string){
		"memory": func(*testing.T) (hdfsio.FS, string) { return &hdfsio.Mem{}, root },
		"disk":   func(t *testing.T) (hdfsio.FS, string) { return &hdfsio.Local{}, t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			fsys, root := open(t)
			const racers = 8
			var stages []*Stage
			for i := range racers {
				l := newLock(fsys, root, Options{})
				l.me.Epoch = 1
				if err := fsys.Mkdir(t.Context(), l.path(epochsName)); err != nil {
					t.Fatal(err)
				}
				if err := hdfsio.WriteFile(t.Context(), fsys, l.path(epochsName, epochFile(1)), nil); err != nil && !errors.Is(err, fs.ErrExist) {
					t.Fatal(err)
				}
				s := &Stage{lock: l, id: newID(), version: 1, files: make(map[string]*File), dirs: make(map[string]bool)}
				s.dir = l.path(fmt.Sprint(stagePrefix, "v000001-", s.id))
				if err := fsys.Mkdir(t.Context(), s.dir); err != nil {
					t.Fatal(err)
				}
				if err := s.WriteFile(t.Context(), "weights", fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
				stages = append(stages, s)
			}
			var mu sync.Mutex
			won := make(map[Version]string)
			var wg sync.WaitGroup
			for _, s := range stages {
				wg.Go(func() {
					v, err := s.Publish(t.Context(), func(v Version) error { return s.WriteFile(t.Context(), "manifest", []byte("x is "+v.String())) })
					mu.Lock()
					defer mu.Unlock()
					if err != nil || won[v] != "" {
						t.Errorf("%s, %v; %s had it", v, err, won[v])
					}
					won[v] = s.id
				})
			}
			wg.Wait()
			for v := Version(1); v <= racers; v++ {
				if c, err := Verify(t.Context(), fsys, root, v); err != nil || c.ID != won[v] {
					t.Errorf("%s: %+v, %v", v, c.ID, err)
				}
			}
			if err := sound(t.Context(), fsys, root); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestABrokenGateKeepsTheVersionAndMovesNothing(t *testing.T) {
	_, m := memory()
	mustRun(t, m, root, "good", Options{})
	l := acquire(t, m, Options{})
	bad := publish1(t, l, "bad") // and neither RecordSlot nor MoveLatest
	latestIs(t, m, root, 1)
	if _, state, err := SlotDone(t.Context(), m, root, "slot:bad"); err != nil || state != Open {
		t.Fatalf("%d, %v", state, err)
	}
	if _, err := Verify(t.Context(), m, root, bad); err != nil {
		t.Fatal(err)
	}
	if removed, err := l.Retain(t.Context(), 1); err != nil || len(removed) != 0 {
		t.Fatalf("%v, %v", removed, err)
	}
}

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
		"whole":             {func(*testing.T, *hdfsio.Mem) {}, 2, ""},
		"absent":            {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, latestName) }, 2, "not exist"},
		"empty":             {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, "") }, 2, "not the name of a version"},
		"a path":            {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, "../v000001\n") }, 2, "not the name of a version"},
		"huge":              {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, strings.Repeat("v", 5000)) }, 2, "5000 bytes"},
		"dangling":          {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/"+latestName, "v000009\n") }, 2, "v000009, which is not there"},
		"version removed":   {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000002") }, 1, "v000002, which is not there"},
		"file removed":      {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000002/weights") }, 1, "the file is missing"},
		"file cut":          {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/v000002/weights", "tw") }, 1, "2 bytes"},
		"marker removed":    {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000002/"+markerName) }, 1, markerName},
		"marker broken":     {func(t *testing.T, m *hdfsio.Mem) { write(t, m, root+"/v000002/"+markerName, "{") }, 1, markerName},
		"history gone, too": {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, latestName); remove(t, m, historyName) }, 3, "a gate may have kept it back"},
		"only v3 is left":   {func(t *testing.T, m *hdfsio.Mem) { remove(t, m, "v000001"); remove(t, m, "v000002") }, 3, "a gate may have kept it back"},
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

func TestRetainKeepsLatestAndAllAboveIt(t *testing.T) {
	for _, c := range []struct {
		latest Version
		keep   int
		want   []Version
	}{
		{6, 0, []Version{1, 2, 3, 4, 5, 6}},
		{6, 1, []Version{6}},
		{6, 2, []Version{5, 6}},
		{6, 9, []Version{1, 2, 3, 4, 5, 6}},
		{3, 1, []Version{3, 4, 5, 6}},
		{3, 2, []Version{2, 3, 4, 5, 6}},
		{0, 1, []Version{1, 2, 3, 4, 5, 6}},
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

func TestALostLockChangesNothing(t *testing.T) {
	_, m := memory()
	mustRun(t, m, root, "one", Options{})
	l := acquire(t, m, Options{})
	s, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile(t.Context(), "weights", []byte("x")); err != nil {
		t.Fatal(err)
	}
	published := publish1(t, l, "two")
	// Somebody claims the next epoch, as a taker does.
	if err := hdfsio.WriteFile(t.Context(), m, path.Join(root, epochsName, epochFile(l.Epoch()+1)), nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Mkdir(t.Context(), path.Join(root, ".stage-v000003-theirs")); err != nil {
		t.Fatal(err)
	}
	var before []string
	list := func() (names []string) {
		if err := hdfsio.Walk(t.Context(), m, root, func(name string, _ hdfsio.Info) error {
			names = append(names, name)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return names
	}
	before = list()
	for what, do := range map[string]func() error{
		"MoveLatest": func() error { return l.MoveLatest(t.Context(), published) },
		"RecordSlot": func() error { return l.RecordSlot(t.Context(), Slot{Slot: "s", Version: published}) },
		"Rollback":   func() error { _, _, err := l.Rollback(t.Context(), 1); return err },
		"Collect":    func() error { _, err := l.Collect(t.Context()); return err },
		"Stage":      func() error { _, err := l.Stage(t.Context()); return err },
		"Publish":    func() error { _, err := s.Publish(t.Context(), nil); return err },
	} {
		if err := do(); !errors.Is(err, ErrLost) || hdfsio.KindOf(err) != hdfsio.KindBusy {
			t.Errorf("%s: %v", what, err)
		}
	}
	latestIs(t, m, root, 1)
	after := list()
	if !slices.Equal(before, after) {
		t.Errorf("before: %q\nafter: %q", before, after)
	}
}
