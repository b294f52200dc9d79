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
